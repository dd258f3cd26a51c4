//! Who is at the other end of a connection, as the kernel says; nothing that they say themselves counts.

use super::error::ServerError;
use crate::sys;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A user at the other end of a connection, as they were when they connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// Their other groups.
    pub groups: Vec<u32>,
    /// The login name, under which their sessions are recorded.
    pub name: String,
}

impl Peer {
    /// Finds out who connected.
    ///
    /// # Errors
    /// [`ServerError::Refused`] for somebody without an account, or whose process is confined: a process that gave rights
    /// up, or that sees other files than the server, must not get out of that by asking us.
    pub fn of(connection: BorrowedFd<'_>) -> Result<Self, ServerError> {
        let found = getsockopt(&connection, PeerCredentials).map_err(ServerError::calling("see who connected"))?;
        let groups = sys::peer_groups(connection).map_err(ServerError::calling("see who connected"))?;
        let pid =
            Pid::from_raw(found.pid()).ok_or_else(|| refused("your process is in a place that cannot be seen"))?;
        let process = sys::peer_process(connection).or_else(|_| pidfd_open(pid, PidfdFlags::empty()));
        let process = process.map_err(ServerError::calling("see which process connected"))?;
        let confined = confinement(pid);
        // Had it ended, its id could be another's by now.
        if !lives(&process) {
            return Err(refused("your process ended"));
        }
        if let Some(confinement) = confined {
            return Err(refused(confinement));
        }
        let account = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(found.uid())).ok().flatten();
        let name = account.map(|user| user.name).ok_or_else(|| refused("there is no account with your user id"))?;
        Ok(Self { uid: found.uid(), gid: found.gid(), groups, name })
    }

    /// Whether it is root, who sees everything.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

fn refused(why: &str) -> ServerError {
    ServerError::Refused(why.to_owned())
}

fn lives(process: &OwnedFd) -> bool {
    let fd = process.as_fd();
    let mut waits = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut waits, Some(&now)) == Ok(0)
}

/// What confines a process that this one is free of, if anything.
fn confinement(pid: Pid) -> Option<&'static str> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let same = |namespace: &str| {
        let [theirs, ours] =
            [process.clone(), PathBuf::from("/proc/self")].map(|place| place.join("ns").join(namespace));
        matches!((theirs.read_link(), ours.read_link()), (Ok(theirs), Ok(ours)) if theirs == ours)
    };
    if !same("user") || !same("mnt") {
        return Some("your process is in a sandbox or container, which it would get out of this way");
    }
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let free = status.lines().any(|line| line.split_ascii_whitespace().eq(["NoNewPrivs:", "0"]));
    let confined = "your process gave up gaining privileges (no_new_privs), which it would get around this way";
    (!free).then_some(confined)
}
