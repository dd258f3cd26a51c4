//! What locks the harness in where there are no namespaces: Landlock for files, signals and sockets with a list of what may be
//! read, and a filter that refuses, or has process 1 answer, what Landlock does not know.

use super::allow;
use super::filter::{self, Cmp, always, condition, rule};
use crate::supervisor::network::GATEWAY_V4;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, Scope,
};
use seccompiler::{BpfProgram, SeccompCondition, SeccompRule};
use std::io;
use std::path::{Path, PathBuf};

/// The Landlock version that this takes, `LANDLOCK_COMPLETE`: with less, a place outside could be truncated, and any process
/// of the user killed.
const LANDLOCK: ABI = ABI::V6;

/// Calls that process 1 answers: connecting, which here means being handed a connection to the proxy, and changing the
/// permissions of what a path names, on which Landlock has no say.
pub(in crate::supervisor) const NOTIFIED: &[i64] =
    &[libc::SYS_connect, libc::SYS_chmod, libc::SYS_fchmodat, libc::SYS_fchmodat2];

/// What a namespace would have kept apart: shared memory and queues by number, owners and attributes by path, listening.
const REFUSED: &[i64] = &[
    libc::SYS_listen,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// Calls whose argument at this position names another process, unless it is 0.
const OF_ANOTHER_PROCESS: [(i64, u8); 7] = [
    (libc::SYS_prlimit64, 0),
    (libc::SYS_sched_setaffinity, 0),
    (libc::SYS_sched_setattr, 0),
    (libc::SYS_sched_setparam, 0),
    (libc::SYS_sched_setscheduler, 0),
    (libc::SYS_setpriority, 1),
    (libc::SYS_ioprio_set, 1),
];

/// Calls that connect by the way when this flag is set, and where it stands (tcp(7), TCP Fast Open).
const SENDING: [(i64, u8); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];

/// The filter.
pub(super) fn program() -> io::Result<BpfProgram> {
    let mut refused = filter::harness_rules()?;
    refused.extend(always(REFUSED));
    refused.extend(always(&[libc::SYS_unshare]));
    for (call, argument) in OF_ANOTHER_PROCESS {
        refused.insert(call, vec![rule(argument, Cmp::NotEqual, 0)?]);
    }
    // PRIO_USER is every process of the user, also where who is 0.
    for call in [libc::SYS_setpriority, libc::SYS_ioprio_set] {
        let of_user = if call == libc::SYS_setpriority { libc::PRIO_USER.into() } else { IOPRIO_WHO_USER };
        refused.entry(call).or_default().push(rule(0, Cmp::Equal, of_user)?);
    }
    let fast = u64::from(libc::MSG_FASTOPEN.cast_unsigned());
    for (call, argument) in SENDING {
        refused.insert(call, vec![rule(argument, Cmp::AllOf(fast), fast)?]);
    }
    refused.insert(libc::SYS_socket, sockets()?);
    refused.insert(libc::SYS_socketpair, pairs()?);
    for call in NOTIFIED {
        refused.remove(call);
    }
    filter::program(refused, NOTIFIED)
}

/// ioprio_set(2).
const IOPRIO_WHO_USER: u64 = 3;

/// TCP and the kernel's routes are all that there is: no Unix socket, whose paths lead to every daemon of the machine, no
/// datagram, no other protocol over IP.
fn sockets() -> io::Result<Vec<SeccompRule>> {
    let family = |how, family: i32| condition(0, &how, family.cast_unsigned().into());
    let mut unknown = Vec::new();
    for known in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK] {
        unknown.push(family(Cmp::NotEqual, known)?);
    }
    let mut rules = vec![all_of(unknown)?];
    for internet in [libc::AF_INET, libc::AF_INET6] {
        // SOCK_STREAM is 1; every other type of these families has one of the other bits.
        for bit in [2u64, 4, 8] {
            rules.push(all_of(vec![family(Cmp::Equal, internet)?, condition(1, &Cmp::AllOf(bit), bit)?])?);
        }
        let protocol = |number: i32| condition(2, &Cmp::NotEqual, number.cast_unsigned().into());
        rules.push(all_of(vec![family(Cmp::Equal, internet)?, protocol(0)?, protocol(libc::IPPROTO_TCP)?])?);
    }
    let routes = condition(2, &Cmp::NotEqual, libc::NETLINK_ROUTE as u64)?;
    rules.push(all_of(vec![family(Cmp::Equal, libc::AF_NETLINK)?, routes])?);
    Ok(rules)
}

/// Pairs of Unix sockets that are connected to each other and stay so; a datagram can be sent from one to anybody.
fn pairs() -> io::Result<Vec<SeccompRule>> {
    // SOCK_RAW, which has this bit too, is another name for a datagram (unix(7)).
    let datagram = libc::SOCK_DGRAM as u64;
    Ok(vec![rule(0, Cmp::NotEqual, libc::AF_UNIX as u64)?, rule(1, Cmp::AllOf(datagram), datagram)?])
}

fn all_of(conditions: Vec<SeccompCondition>) -> io::Result<SeccompRule> {
    SeccompRule::new(conditions).map_err(io::Error::other)
}

/// Rules by which nothing is read, written or executed but below these places; no TCP socket is bound or connected by
/// itself; no signal and no abstract socket reaches out.
pub(super) fn file_rules(read: &[PathBuf], devices: &[&Path], write: &[PathBuf]) -> io::Result<RulesetCreated> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    for path in read {
        let all = AccessFs::from_read(LANDLOCK);
        rules = allow(rules, path, if path.is_dir() { all } else { all & AccessFs::from_file(LANDLOCK) })?;
    }
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    for path in devices {
        rules = allow(rules, path, device)?;
    }
    for path in write {
        let all = AccessFs::from_all(LANDLOCK);
        rules = allow(rules, path, if path.is_dir() { all } else { AccessFs::from_file(LANDLOCK) })?;
    }
    Ok(rules)
}

/// Whether this is where programs are told that the proxy is.
pub(in crate::supervisor) fn is_gateway(address: std::net::IpAddr) -> bool {
    address.to_canonical() == std::net::IpAddr::V4(GATEWAY_V4)
}
