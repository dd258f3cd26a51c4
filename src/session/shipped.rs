//! Whether records get where they are to be gathered, where a session may not start otherwise.

use super::SessionError;
use super::clock;
use crate::model::Timestamp;
use crate::store::{Home, ShippingMark, shipping_marks};
use std::time::Duration;

/// How far ahead of this clock a mark may be, in microseconds: what a clock that is set right may jump.
const AHEAD_MAX: i64 = 60_000_000;

/// Refuses to go on unless everything was shipped to every place within that time, if one is demanded.
pub(super) fn demand(within: Option<Duration>, home: &Home) -> Result<(), SessionError> {
    let Some(within) = within else { return Ok(()) };
    match gap(&shipping_marks(home)?, clock::now(), within) {
        Some(what) => Err(SessionError::NotShipped { what, within }),
        None => Ok(()),
    }
}

/// What is not as it must be.
fn gap(marks: &[(String, ShippingMark)], now: Timestamp, within: Duration) -> Option<String> {
    if marks.is_empty() {
        return Some("records are shipped nowhere".to_owned());
    }
    let most = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
    let is_fresh = |at: Timestamp| (-AHEAD_MAX..=most).contains(&now.0.saturating_sub(at.0));
    marks.iter().find_map(|(name, mark)| match mark.caught_up {
        Some(at) if is_fresh(at) => None,
        Some(at) => Some(format!("{name} had everything at {} last", at.to_rfc3339())),
        None => Some(format!("{name} never had everything")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_must_have_had_everything_lately() {
        let hour = Duration::from_secs(3600);
        let now = Timestamp(1_700_000_000_000_000);
        let mark = |seconds: Option<i64>| {
            let mut mark = ShippingMark::begin("file:/x".to_owned());
            mark.caught_up = seconds.map(|seconds| Timestamp(now.0 + seconds * 1_000_000));
            ("siem".to_owned(), mark)
        };
        assert_eq!(gap(&[mark(Some(-3600)), mark(Some(30))], now, hour), None);
        assert_eq!(gap(&[], now, hour).as_deref(), Some("records are shipped nowhere"));
        assert_eq!(gap(&[mark(None)], now, hour).as_deref(), Some("siem never had everything"));
        let late = gap(&[mark(Some(0)), mark(Some(-3601))], now, hour);
        assert_eq!(late.as_deref(), Some("siem had everything at 2023-11-14T21:13:19.000000Z last"));
        assert!(gap(&[mark(Some(3600))], now, hour).is_some(), "a mark from the future");
    }
}
