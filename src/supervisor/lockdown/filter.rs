//! The system call filters (seccomp(2)), as data.
//!
//! A harness's are lists of what is refused, on top of namespaces, capabilities and Landlock; sockets are the other way
//! round: only the named families exist.

use super::bpf;
use super::search::{Answer, tree};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

pub(super) type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// What no harness needs and every kernel exploit starts from.
const REFUSED: &[i64] = &[
    // Mounts, by the old calls and the new.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Files by handle, which know no root directory.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // Other namespaces, and descriptors of other processes.
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Kernel features with a history.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_fanotify_init,
    libc::SYS_lookup_dcookie,
    libc::SYS_vmsplice,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The machine itself.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_nfsservctl,
];

/// What must look as if the kernel did not have it, so that callers fall back: io_uring goes around filters on sockets,
/// and clone3 and openat2 hide their flags from them.
const ABSENT: &[i64] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_clone3,
    libc::SYS_openat2,
];

/// `personality(2)` values that change nothing that matters: what `uname -m`, `setarch -R` and debuggers ask for.
const HARMLESS_PERSONALITIES: [u64; 3] = [0, 0xffff_ffff, libc::ADDR_NO_RANDOMIZE as u64];

/// The newest system call that these lists were made in the knowledge of: `mseal(2)`, Linux 6.10. What a kernel adds
/// later is unknown to them, and so are the numbers of the x32 ABI, which begin far above.
pub(super) const NEWEST_KNOWN: u32 = 462;

/// The harness's filter.
pub(super) fn harness() -> io::Result<BpfProgram> {
    program(harness_rules()?, &[])
}

/// What a sandbox within the sandbox is made with: namespaces, and mounts by the calls that all of them use.
const NESTING: [i64; 5] =
    [libc::SYS_unshare, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot];

/// The filter of a harness that may make sandboxes of its own.
pub(super) fn nesting_harness() -> io::Result<BpfProgram> {
    let mut refused = harness_rules()?;
    for call in NESTING.iter().chain(&[libc::SYS_clone]) {
        refused.remove(call);
    }
    program(refused, &[])
}

/// What every harness is refused.
pub(super) fn harness_rules() -> io::Result<Rules> {
    let mut refused = always(REFUSED);
    refused.insert(libc::SYS_socket, sockets(true)?);
    refused.insert(libc::SYS_socketpair, vec![rule(0, Cmp::NotEqual, libc::AF_UNIX as u64)?]);
    refused.insert(libc::SYS_clone, vec![new_namespaces()?]);
    refused.insert(libc::SYS_ioctl, terminal_injection()?);
    refused.insert(libc::SYS_personality, vec![personalities()?]);
    refused.extend(set_user_id()?);
    Ok(refused)
}

pub(super) fn always(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

pub(super) enum Cmp {
    Equal,
    NotEqual,
    AllOf(u64),
    NoneOf(u64),
}

pub(super) fn condition(argument: u8, how: &Cmp, value: u64) -> io::Result<SeccompCondition> {
    let operator = match how {
        Cmp::Equal => SeccompCmpOp::Eq,
        Cmp::NotEqual => SeccompCmpOp::Ne,
        Cmp::AllOf(mask) | Cmp::NoneOf(mask) => SeccompCmpOp::MaskedEq(*mask),
    };
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).map_err(io::Error::other)
}

pub(super) fn rule(argument: u8, how: Cmp, value: u64) -> io::Result<SeccompRule> {
    SeccompRule::new(vec![condition(argument, &how, value)?]).map_err(io::Error::other)
}

/// Refuses every family that is not named, netlink but for routes (which `getaddrinfo` reads), and what is unusual in those
/// of the internet.
pub(super) fn sockets(local: bool) -> io::Result<Vec<SeccompRule>> {
    let mut families = vec![libc::AF_INET, libc::AF_INET6];
    if local {
        families.extend([libc::AF_UNIX, libc::AF_NETLINK]);
    }
    let unknown: Result<Vec<_>, _> =
        families.iter().map(|family| condition(0, &Cmp::NotEqual, family.cast_unsigned().into())).collect();
    let mut rules = vec![SeccompRule::new(unknown?).map_err(io::Error::other)?];
    for family in [libc::AF_INET, libc::AF_INET6] {
        rules.extend(internet(family)?);
    }
    let netlink = [
        condition(0, &Cmp::Equal, libc::AF_NETLINK as u64)?,
        condition(2, &Cmp::NotEqual, libc::NETLINK_ROUTE as u64)?,
    ];
    rules.push(SeccompRule::new(netlink.to_vec()).map_err(io::Error::other)?);
    Ok(rules)
}

/// The bits of `socket(2)`'s second argument that are the type, without SOCK_CLOEXEC and SOCK_NONBLOCK.
const SOCKET_TYPE_MASK: u64 = 0xf;

/// The protocols that sockets of the internet may have: what the type stands for, TCP, UDP, and several paths of TCP
/// (IPPROTO_MPTCP). Any other name makes a kernel load the module that has it (SCTP, DCCP, SMC), or is ICMP.
const INTERNET_PROTOCOLS: [i32; 4] = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_MPTCP];

/// Refuses what in a family of the internet is neither a stream nor datagrams, of the usual protocols.
fn internet(family: i32) -> io::Result<Vec<SeccompRule>> {
    let of_family = || condition(0, &Cmp::Equal, family.cast_unsigned().into());
    let raw = vec![of_family()?, condition(1, &Cmp::AllOf(SOCKET_TYPE_MASK), libc::SOCK_RAW as u64)?];
    let mut unusual = vec![of_family()?];
    for protocol in INTERNET_PROTOCOLS {
        unusual.push(condition(2, &Cmp::NotEqual, protocol.cast_unsigned().into())?);
    }
    let mut refused = vec![raw, unusual];
    // SOCK_STREAM is 1, SOCK_DGRAM 2: every type that is neither they nor SOCK_RAW has one of these bits.
    for bit in [4, 8] {
        refused.push(vec![of_family()?, condition(1, &Cmp::AllOf(bit), bit)?]);
    }
    refused.into_iter().map(|conditions| SeccompRule::new(conditions).map_err(io::Error::other)).collect()
}

/// A `clone(2)` that asks for a user namespace; without one, every other needs a capability that is gone.
pub(super) fn new_namespaces() -> io::Result<SeccompRule> {
    let flag = libc::CLONE_NEWUSER as u64;
    rule(0, Cmp::AllOf(flag), flag)
}

/// `TIOCSTI` types into a terminal, `TIOCLINUX` into a console (ioctl_tty(2)).
pub(super) fn terminal_injection() -> io::Result<Vec<SeccompRule>> {
    Ok(vec![rule(1, Cmp::Equal, libc::TIOCSTI)?, rule(1, Cmp::Equal, libc::TIOCLINUX)?])
}

/// Making a file that runs as its owner: what the harness leaves in the workspace belongs to the user, who may be root,
/// and on the host that bit counts.
fn set_user_id() -> io::Result<Rules> {
    let bit = |argument| condition(argument, &Cmp::AllOf(libc::S_ISUID.into()), libc::S_ISUID.into());
    let mut rules = Rules::new();
    for (call, mode) in [
        (libc::SYS_chmod, 1),
        (libc::SYS_fchmod, 1),
        (libc::SYS_fchmodat, 2),
        (libc::SYS_fchmodat2, 2),
        (libc::SYS_creat, 1),
        (libc::SYS_mknod, 1),
        (libc::SYS_mknodat, 2),
    ] {
        rules.insert(call, vec![SeccompRule::new(vec![bit(mode)?]).map_err(io::Error::other)?]);
    }
    // Only where a file is made does the mode mean anything; else it may be whatever was in the register.
    for (call, flags) in [(libc::SYS_open, 1), (libc::SYS_openat, 2)] {
        let mut either = Vec::new();
        for makes in [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY] {
            let makes = u64::from(makes.cast_unsigned());
            let conditions = vec![condition(flags, &Cmp::AllOf(makes), makes)?, bit(flags + 1)?];
            either.push(SeccompRule::new(conditions).map_err(io::Error::other)?);
        }
        rules.insert(call, either);
    }
    Ok(rules)
}

fn personalities() -> io::Result<SeccompRule> {
    let others: Result<Vec<_>, _> =
        HARMLESS_PERSONALITIES.iter().map(|value| condition(0, &Cmp::NotEqual, *value)).collect();
    SeccompRule::new(others?).map_err(io::Error::other)
}

/// Puts together: calls after [`NEWEST_KNOWN`] and [`ABSENT`] fail as unknown, `refused` as not permitted, another
/// architecture's calls, which have other numbers, kill, `notified` are answered by whoever holds the listener, the rest is
/// allowed.
pub(super) fn program(refused: Rules, notified: &[i64]) -> io::Result<BpfProgram> {
    let number = |call: &i64| u32::try_from(*call).map_err(io::Error::other);
    let mut answers = BTreeMap::new();
    for (call, rules) in &refused {
        let answer = if rules.is_empty() { Answer::Fail(libc::EPERM) } else { Answer::Look };
        answers.insert(number(call)?, answer);
    }
    for (calls, answer) in [(notified, Answer::Ask), (ABSENT, Answer::Fail(libc::ENOSYS))] {
        for call in calls {
            answers.insert(number(call)?, answer);
        }
    }
    let mut program = vec![
        bpf::load(bpf::ARCHITECTURE),
        bpf::equal(AUDIT_ARCHITECTURE, 1, 0),
        bpf::answer(libc::SECCOMP_RET_KILL_PROCESS),
        bpf::load(bpf::NUMBER),
    ];
    program.extend(tree(&answers, NEWEST_KNOWN)?);
    let looked_at: Rules = refused.into_iter().filter(|(_, rules)| !rules.is_empty()).collect();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let permitted = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(looked_at, SeccompAction::Allow, permitted, arch).map_err(io::Error::other)?;
    program.extend(BpfProgram::try_from(filter).map_err(io::Error::other)?);
    Ok(program)
}

/// What stands for this architecture in `struct seccomp_data` (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCHITECTURE: u32 = 0xc000_00b7;
