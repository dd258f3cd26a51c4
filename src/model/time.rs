//! Points in time, as numbers that somebody else read off a clock.

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The same moment in RFC 3339, in UTC with microseconds.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(moment) => format!("{moment:.6}"),
            Err(_) => format!("@{}us", self.0),
        }
    }

    /// The day that it is in, in UTC, as `YYYY-MM-DD`.
    #[must_use]
    pub fn to_day(self) -> String {
        self.to_rfc3339().split('T').next().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_in_a_day() {
        assert_eq!(Timestamp(1_700_000_000_000_001).to_day(), "2023-11-14");
    }

    #[test]
    fn prints_as_rfc_3339() {
        assert_eq!(Timestamp(1_700_000_000_000_001).to_rfc3339(), "2023-11-14T22:13:20.000001Z");
    }
}
