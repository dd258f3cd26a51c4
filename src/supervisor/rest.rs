//! A process that has nothing to do for a moment gives back the memory that only its start, or its last work, needed.

use crate::sys;
use std::time::Duration;

/// How long a process has nothing to do before it rests.
const AFTER: Duration = Duration::from_secs(1);

/// Whether a process that waits for events has rested since the last one.
#[derive(Debug, Default)]
pub struct Rest {
    taken: bool,
}

impl Rest {
    /// How long to wait for an event at most before [`Self::pass`] is to be called; none if it need not be.
    #[must_use]
    pub fn due(&self) -> Option<Duration> {
        (!self.taken).then_some(AFTER)
    }

    /// Hears how a wait ended: with an event, or with none for the whole of [`Self::due`].
    pub fn pass(&mut self, event: bool) {
        if !event && !self.taken {
            lie_down();
        }
        self.taken = !event;
    }
}

/// Gives memory back now.
pub fn lie_down() {
    sys::return_free_memory();
    sys::let_go_of_code();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_once_between_two_events() {
        let mut rest = Rest::default();
        assert_eq!(rest.due(), Some(AFTER));
        rest.pass(true);
        assert_eq!(rest.due(), Some(AFTER));
        rest.pass(false);
        assert_eq!(rest.due(), None);
        rest.pass(true);
        assert_eq!(rest.due(), Some(AFTER));
    }
}
