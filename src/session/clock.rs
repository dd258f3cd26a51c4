//! The clock and the dice, read here so that nothing pure has to.

use crate::model::{SessionId, Timestamp};
use rustix::event::Timespec;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A time to wait, as the kernel takes it; none where it is longer than the kernel can count, which is for ever.
pub(super) fn timespec(wait: Duration) -> Option<Timespec> {
    Timespec::try_from(wait).ok()
}

/// A fresh session's name.
pub(super) fn session_id() -> Result<SessionId, getrandom::Error> {
    let mut entropy = [0; 10];
    getrandom::fill(&mut entropy)?;
    Ok(SessionId::from_entropy(entropy))
}
