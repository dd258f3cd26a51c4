//! The harness's own terminal: the master goes out to the session, the slave becomes what the harness sees.

use super::plan::TerminalStreams;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// A new pseudo-terminal of the sandbox's own devpts (pty(7)).
#[derive(Debug)]
pub(super) struct Terminal {
    /// The side that the session reads and writes.
    pub master: OwnedFd,
    /// The side that the harness gets.
    pub slave: OwnedFd,
    /// Where the harness gets it.
    pub streams: TerminalStreams,
}

impl Terminal {
    /// Opens one, of this size. Must run after the new root is entered.
    pub(super) fn open(streams: TerminalStreams, size: Option<Winsize>) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        // In a sandbox without a devpts of its own that of the machine serves, whose node in there is often nobody's.
        let own = rustix::fs::open("/dev/pts/ptmx", flags, rustix::fs::Mode::empty());
        let master = match own {
            Err(rustix::io::Errno::ACCESS) => rustix::fs::open("/dev/ptmx", flags, rustix::fs::Mode::empty())?,
            other => other?,
        };
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        if let Some(size) = size {
            tcsetwinsize(&master, size)?;
        }
        Ok(Self { master, slave, streams })
    }

    /// Where the harness's side is in the file system, if it is.
    pub(super) fn device(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/self/fd/{}", self.slave.as_raw_fd())).ok()
    }
}
