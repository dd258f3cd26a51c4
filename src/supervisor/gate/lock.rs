//! Whether this gate has its places to itself, among those of sessions that share one with it.
//!
//! Names alone are judged without. An act that is found to need the lock when it is judged has done nothing yet, and is begun anew.

use super::super::place_locks::PlaceLocks;
use super::call::Call;
use rustix::io::Errno;
use std::io;

#[derive(Debug)]
pub(super) struct GateLock {
    places: PlaceLocks,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Wanted,
    Held,
}

impl GateLock {
    pub(super) fn new(places: PlaceLocks) -> Self {
        Self { places, state: State::Free }
    }

    /// Waits for it.
    pub(super) fn take(&mut self) -> Result<(), Errno> {
        self.places.lock().map_err(errno)?;
        self.state = State::Held;
        Ok(())
    }

    /// Fails where it is not held, which has the act begun anew with it.
    pub(super) fn require(&mut self) -> Result<(), Errno> {
        if self.state == State::Held {
            return Ok(());
        }
        self.state = State::Wanted;
        Err(Errno::AGAIN)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state == State::Wanted
    }

    /// Lets the others have it.
    pub(super) fn release(&mut self) -> Result<(), Errno> {
        match std::mem::replace(&mut self.state, State::Free) {
            State::Held => self.places.unlock().map_err(errno),
            State::Free | State::Wanted => Ok(()),
        }
    }
}

impl Call {
    /// Whether it changes what a name leads to, or makes a directory: what others judge by.
    pub(super) fn changes_what_others_judge(self) -> bool {
        matches!(self, Self::Rename { .. } | Self::Link { .. } | Self::Symlink { .. } | Self::MakeDirectory { .. })
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
