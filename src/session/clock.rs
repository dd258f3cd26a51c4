//! The clock and the dice, read here so that nothing pure has to.

use crate::model::{SessionId, Timestamp};
use std::time::{SystemTime, UNIX_EPOCH};

/// The time now.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A fresh session's name.
pub(super) fn session_id() -> Result<SessionId, getrandom::Error> {
    let mut entropy = [0; 10];
    getrandom::fill(&mut entropy)?;
    Ok(SessionId::from_entropy(entropy))
}
