//! Whether anything was ever asked of the proxy, in a word that it shares with the session.
//!
//! Of a session in which nothing was, nothing is under way when it ends, and nothing is left to settle or to record. Then the
//! session says so in the same word, and the proxy, which asks it before it acts, does nothing more.

use std::sync::atomic::{AtomicU32, Ordering};

/// Not all of the start is recorded yet.
const STARTING: u32 = 0;
/// It serves, and nothing was asked of it.
const QUIET: u32 = 1;
/// Something was.
const BEGUN: u32 = 2;
/// Nothing was, and the session is over.
const OVER: u32 = 3;

/// The word, at either end.
#[derive(Clone, Copy, Debug)]
pub struct Quiet(&'static AtomicU32);

impl Quiet {
    /// Over a word that both share, zero at first.
    #[must_use]
    pub fn over(word: &'static AtomicU32) -> Self {
        Self(word)
    }

    /// The proxy has recorded its start, and serves.
    pub(super) fn serves(self) {
        // Where it fails, something was asked already.
        let _ = self.0.compare_exchange(STARTING, QUIET, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Something is asked of the proxy. Whether it may act: not where the session is over.
    #[must_use]
    pub(super) fn begin(self) -> bool {
        // Where it was begun before, nothing is written, so that the word stays in everybody's cache.
        self.0.load(Ordering::Acquire) == BEGUN
            || self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |was| (was != OVER).then_some(BEGUN)).is_ok()
    }

    /// The session is over. Whether nothing was ever asked: then nothing ever will be, and the proxy can be killed.
    #[must_use]
    pub fn end(self) -> bool {
        let ended = self.0.compare_exchange(QUIET, OVER, Ordering::AcqRel, Ordering::Acquire);
        matches!(ended, Ok(_) | Err(OVER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Quiet {
        Quiet::over(Box::leak(Box::default()))
    }

    #[test]
    fn a_session_that_asked_nothing_ends_at_once_and_nothing_begins_after() {
        let quiet = fresh();
        quiet.serves();
        assert!(quiet.end() && quiet.end());
        assert!(!quiet.begin() && !quiet.begin());
        assert!(quiet.end());
    }

    #[test]
    fn what_was_begun_is_waited_for() {
        let quiet = fresh();
        quiet.serves();
        assert!(quiet.begin() && !quiet.end() && quiet.begin());
    }

    #[test]
    fn a_start_that_is_not_recorded_yet_is_waited_for() {
        let quiet = fresh();
        assert!(!quiet.end());
        assert!(quiet.begin());
        quiet.serves();
        assert!(!quiet.end());
    }
}
