//! The harness's terminal shown on the user's: output one way, keys the other.
//!
//! It knows nothing of how the harness fares, and no failure of a terminal is one of the session's: when either terminal is
//! gone, so is the other.

use super::terminal::{self, UserTerminal};
use rustix::event::{PollFd, PollFlags, poll};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of output moved at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of keys read at once.
const KEYS_BYTES: usize = 4096;
/// Keys that may wait for a harness that does not read.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// The two terminals, as far as there are any.
#[derive(Debug)]
pub(super) struct Screen {
    /// The harness's.
    master: Option<OwnedFd>,
    /// The user's, while this job is in its foreground.
    user: Option<UserTerminal>,
    /// Whether no keys will come from there any more.
    keys_end: bool,
    /// Keys on their way.
    pending: Vec<u8>,
}

impl Screen {
    /// Takes the user's terminal over, if the harness has one of its own.
    pub(super) fn open(master: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(master) = &master {
            rustix::io::ioctl_fionbio(master, true)?;
        }
        let keys_end = !io::stdin().is_terminal();
        let mut screen = Self { master, user: None, keys_end, pending: Vec::new() };
        screen.take_terminal();
        Ok(screen)
    }

    /// Whether there is a terminal whose keys go to somebody else for now: this job is in the background.
    pub(super) fn awaits_terminal(&self) -> bool {
        self.master.is_some() && self.user.is_none() && !self.keys_end
    }

    /// Takes the user's terminal as soon as this job is in its foreground. Before, that would stop the job.
    pub(super) fn take_terminal(&mut self) {
        if self.awaits_terminal()
            && let Some(mut user) = UserTerminal::find()
        {
            match user.make_raw() {
                Ok(()) => self.user = Some(user),
                // A terminal that cannot be set is as good as gone.
                Err(_) => self.keys_end = true,
            }
            self.resize();
        }
    }

    /// Whether the harness has a terminal.
    pub(super) fn is_there(&self) -> bool {
        self.master.is_some()
    }

    /// The harness's terminal, to wait for its output.
    pub(super) fn output(&self) -> Option<BorrowedFd<'_>> {
        self.master.as_ref().map(AsFd::as_fd)
    }

    /// Whether keys wait until the harness's terminal has room for them.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The user's terminal, to wait for keys; none while no more of them can be taken. A standard input that is not ours
    /// to read must not even be waited for: it is the harness's.
    pub(super) fn keys(&self) -> Option<BorrowedFd<'static>> {
        let wanted = self.master.is_some() && self.user.is_some() && self.pending.len() < PENDING_BYTES_MAX;
        wanted.then(rustix::stdio::stdin)
    }

    /// Shows what the harness wrote; whether there may be more.
    pub(super) fn show(&mut self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut chunk = vec![0; CHUNK_BYTES];
        match rustix::io::read(master, &mut chunk) {
            Err(rustix::io::Errno::INTR) => true,
            Err(rustix::io::Errno::AGAIN) => false,
            Ok(0) | Err(_) => {
                self.hang_up();
                false
            }
            Ok(count) => {
                if print(&chunk[..count]).is_err() {
                    self.hang_up();
                }
                true
            }
        }
    }

    /// Takes the keys that were typed.
    pub(super) fn read_keys(&mut self) {
        let mut chunk = [0; KEYS_BYTES];
        match rustix::io::read(rustix::stdio::stdin(), &mut chunk) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // A raw terminal has no end but that of the terminal itself.
            Ok(0) | Err(_) => self.hang_up(),
            Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
        }
    }

    /// Passes keys on, as far as there is room.
    pub(super) fn pass_keys(&mut self) {
        if let Some(master) = &self.master
            && let Ok(count) = rustix::io::write(master, &self.pending)
        {
            self.pending.drain(..count);
        }
    }

    /// Gives the harness's terminal the size of the user's.
    pub(super) fn resize(&self) {
        if let (Some(master), Some(size)) = (&self.master, terminal::size()) {
            // A size that cannot be set is no reason to end anything.
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// Gives the user's terminal back for as long as `away` takes; afterwards this job may be in the background.
    pub(super) fn leave(&mut self, away: impl FnOnce()) {
        self.user = None;
        away();
        self.take_terminal();
        self.resize();
    }

    /// Shows what is left once everything inside is dead, then gives the user's terminal back.
    pub(super) fn drain(mut self) {
        while self.show() {}
    }

    /// The user's terminal is gone, or the harness's is. To the harness this is what the end of its terminal always is: the
    /// kernel sends it SIGHUP, and it reads an end.
    fn hang_up(&mut self) {
        self.master = None;
        self.user = None;
        self.pending.clear();
    }
}

/// Writes to the user's terminal.
fn print(mut bytes: &[u8]) -> rustix::io::Result<()> {
    let screen = terminal::screen();
    while !bytes.is_empty() {
        match rustix::io::write(screen, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            // Somebody who shares the terminal made it non-blocking.
            Err(rustix::io::Errno::AGAIN) => drop(poll(&mut [PollFd::new(&screen, PollFlags::OUT)], None)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
