//! Whether it is this gate's turn, among those of sessions that share a place with it.
//!
//! Names alone are judged without. An act that turns out to need its turn when it is judged has done nothing yet, and is begun anew.

use super::super::turns::Turns;
use super::call::Call;
use rustix::io::Errno;
use std::io;

#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Over,
    Wanted,
    Taken,
}

impl Turn {
    pub(super) fn new(turns: Turns) -> Self {
        Self { turns, state: State::Over }
    }

    /// Waits until it comes.
    pub(super) fn take(&mut self) -> Result<(), Errno> {
        self.turns.take().map_err(errno)?;
        self.state = State::Taken;
        Ok(())
    }

    /// Fails where it is not this gate's, which has the act begun anew in it.
    pub(super) fn require(&mut self) -> Result<(), Errno> {
        if self.state == State::Taken {
            return Ok(());
        }
        self.state = State::Wanted;
        Err(Errno::AGAIN)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state == State::Wanted
    }

    /// Lets the others have theirs.
    pub(super) fn end(&mut self) -> Result<(), Errno> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Taken => self.turns.end().map_err(errno),
            State::Over | State::Wanted => Ok(()),
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
