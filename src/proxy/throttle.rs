//! How many refusals are written down in a while; the rest are counted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Refusals of connections and names that are recorded in one window.
const RECORDS_MAX: u32 = 100;
/// The window.
const WINDOW: Duration = Duration::from_secs(10);

/// Admits [`RECORDS_MAX`] records in each [`WINDOW`].
pub(super) struct Throttle(Mutex<State>);

struct State {
    since: Instant,
    admitted: u32,
    unsaid: u64,
}

impl Throttle {
    /// A fresh one.
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { since: Instant::now(), admitted: 0, unsaid: 0 }))
    }

    /// Whether one more may be recorded; then how many were left out since the last that was.
    pub(super) fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(state.since) >= WINDOW {
            (state.since, state.admitted) = (now, 0);
        }
        if state.admitted >= RECORDS_MAX {
            state.unsaid += 1;
            return None;
        }
        state.admitted += 1;
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_instead_of_written() {
        let throttle = Throttle::new();
        let now = Instant::now();
        for _ in 0..RECORDS_MAX {
            assert_eq!(throttle.admit_at(now), Some(0));
        }
        assert_eq!((throttle.admit_at(now), throttle.admit_at(now)), (None, None));
        assert_eq!(throttle.admit_at(now + WINDOW), Some(2));
        assert_eq!(throttle.admit_at(now + WINDOW), Some(0));
    }
}
