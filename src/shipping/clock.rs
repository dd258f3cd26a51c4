//! Time, as couriers have it.

use crate::model::Timestamp;
use std::time::Duration;

/// Tells the time and lets it pass.
pub trait Clock: Sync {
    /// What time it is.
    fn now(&self) -> Timestamp;

    /// Returns once so much time has passed.
    fn pause(&self, span: Duration);
}

/// The machine's.
#[derive(Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_microsecond())
    }

    fn pause(&self, span: Duration) {
        std::thread::sleep(span);
    }
}

/// How long ago something was; nothing where the clock was set back since.
pub(super) fn elapsed(clock: &dyn Clock, since: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(clock.now().0.saturating_sub(since.0)).unwrap_or_default())
}
