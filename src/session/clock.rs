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

/// When this process started, in clock ticks since boot: field 22 of `/proc/self/stat` (proc_pid_stat(5)).
pub(super) fn started_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}
