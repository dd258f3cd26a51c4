//! Where probes happen: a process of its own, in namespaces of its own, that tells what it saw and is ended.

use super::super::network::{LISTENER_V4, LISTENER_V6};
use super::super::spawn::{Listeners, die_with_parent, write_id_maps};
use super::super::wire::{self, Order};
use super::super::{Identity, apply};
use super::{deeds, unexpected};
use crate::sys::{self, Forked, Namespaces, clone_into_namespaces, fork_without_handle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long one probe may take: a kernel may have to load a module first.
const PROBE_SECONDS_MAX: i64 = 10;

/// Where a probe happens.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// In a plain child.
    Here,
    /// In a user namespace.
    User,
    /// In all namespaces, with no id mapped.
    Unmapped,
    /// In all namespaces, as the harness's user.
    Sandbox(&'a Identity),
}

/// Why a probe failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    pub error: String,
    pub errno: Option<i32>,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error(), error: error.to_string() }
    }
}

/// The process that tries something. Dropping it ends it.
struct Child {
    pid: Pid,
    wire: OwnedFd,
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, only to reap.
        // Nobody else reaps it, so its id is nobody else's.
        let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
    }
}

type Told = Result<String, Fault>;

/// Does something in a child.
pub(super) fn run(place: Place<'_>, deed: impl FnOnce() -> io::Result<String>) -> Told {
    let (told, _, _) = experiment(place, || Ok((deed()?, Listeners::default())))?;
    told
}

/// Makes listeners inside, connects to two addresses inside, and accepts both connections here.
pub(super) fn listeners(place: Place<'_>) -> Told {
    // The child stays until this returns: with its network the listeners would go.
    let (told, descriptors, _child) = experiment(place, deeds::listen_and_connect)?;
    told?;
    accept_all(descriptors).map_err(Fault::from)
}

fn accept_all(descriptors: Vec<OwnedFd>) -> io::Result<String> {
    let mut seen = Vec::new();
    for (listener, wanted) in descriptors.into_iter().zip(deeds::DESTINATIONS) {
        let listener = TcpListener::from(listener);
        wait(listener.as_fd())?;
        let arrived = listener.accept()?.0.local_addr()?;
        let own = [LISTENER_V4.into(), LISTENER_V6.into()].contains(&arrived.ip());
        if own || arrived != wanted {
            return Err(unexpected(format!("a connection to {wanted} arrived as one to {arrived}")));
        }
        seen.push(arrived.to_string());
    }
    match seen.len() == deeds::DESTINATIONS.len() {
        true => Ok(format!("accepted connections to {}", seen.join(" and "))),
        false => Err(unexpected("the listeners were not handed out")),
    }
}

/// Runs `deed` in a child and waits for its word. The child lives until the last value is dropped.
fn experiment(
    place: Place<'_>,
    deed: impl FnOnce() -> io::Result<(String, Listeners)>,
) -> Result<(Told, Vec<OwnedFd>, Child), Fault> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).map_err(io::Error::from)?;
    let (namespaces, identity) = match place {
        Place::Here => (Namespaces::NONE, None),
        Place::User => (Namespaces::USER, None),
        Place::Unmapped => (Namespaces::ALL, None),
        Place::Sandbox(identity) => (Namespaces::ALL, Some(identity)),
    };
    // Containers let nobody call clone3(2), and a plain child can be had without.
    let forked = match place {
        Place::Here => fork_without_handle()?,
        _ => match clone_into_namespaces(namespaces)? {
            Forked::Child => None,
            Forked::Parent { pid, .. } => Some(pid),
        },
    };
    match forked {
        None => {
            drop(ours);
            live(identity, &theirs, deed);
            std::process::exit(0);
        }
        Some(pid) => {
            drop(theirs);
            let child = Child { pid, wire: ours };
            let (told, descriptors) = talk(pid, identity, child.wire.as_fd())?;
            Ok((told, descriptors, child))
        }
    }
}

fn talk(pid: Pid, identity: Option<&Identity>, wire: BorrowedFd<'_>) -> io::Result<(Told, Vec<OwnedFd>)> {
    if let Some(identity) = identity {
        write_id_maps(pid, identity)?;
    }
    wire::send(wire, &Order::Mapped, &[])?;
    wait(wire)?;
    wire::receive(wire)?.ok_or_else(|| unexpected("the process that tried it died"))
}

/// The life of the child.
fn live(identity: Option<&Identity>, wire: &OwnedFd, deed: impl FnOnce() -> io::Result<(String, Listeners)>) {
    let (told, listeners) = match prepare(identity, wire).and_then(|()| deed()) {
        Ok((detail, listeners)) => (Ok(detail), listeners),
        Err(error) => (Err(Fault::from(error)), Listeners::default()),
    };
    let descriptors: Vec<_> = listeners.tcp.iter().map(AsFd::as_fd).collect();
    // Nobody is left to tell when this fails; else the other side ends this process when it has seen enough.
    let _ = wire::send(wire.as_fd(), &told, &descriptors);
    let _ = wire::receive::<Order>(wire.as_fd());
}

fn prepare(identity: Option<&Identity>, wire: &OwnedFd) -> io::Result<()> {
    die_with_parent()?;
    sys::close_inherited_except(&[wire.as_fd()])?;
    wire::receive::<Order>(wire.as_fd())?;
    if let Some(identity) = identity {
        apply::become_user(identity)?;
        die_with_parent()?;
    }
    Ok(())
}

/// Waits until there is something to read.
fn wait(what: BorrowedFd<'_>) -> io::Result<()> {
    let limit = Timespec { tv_sec: PROBE_SECONDS_MAX, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&what, PollFlags::IN)], Some(&limit))? {
        0 => Err(unexpected(format!("nothing happened for {PROBE_SECONDS_MAX} s"))),
        _ => Ok(()),
    }
}
