//! How long to wait before the next attempt.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest, so that a place that is back is noticed within it.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest that a place may ask for.
const ASKED_MAX: Duration = Duration::from_secs(600);

/// Doubles from attempt to attempt.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The wait after one more failure; at least what the place asked for.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.attempts.min(10));
        self.attempts = self.attempts.saturating_add(1);
        doubled.min(LONGEST).max(asked.unwrap_or_default().min(ASKED_MAX))
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_as_long_as_asked() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..8).map(|_| backoff.next(None).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next(Some(Duration::from_secs(90))).as_secs(), 90);
        assert_eq!(backoff.next(Some(Duration::from_secs(86_400))).as_secs(), 600);
    }
}
