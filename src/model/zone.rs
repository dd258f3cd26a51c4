//! Whose midnight it is: the time zone that days, weeks and months are told by.

use jiff::tz::TimeZone;
use std::fmt;

/// A time zone of the IANA database, <https://www.iana.org/time-zones>, as the program brings it along: what a policy means does
/// not depend on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// The one of this name, such as `Europe/Berlin`, however it is capitalised.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    pub(super) fn time_zone(&self) -> TimeZone {
        self.0.clone()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_known_by_its_name() {
        let named = |name| Zone::named(name).map(|zone| zone.to_string());
        assert_eq!(named("europe/berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(named("UTC").as_deref(), Some("UTC"));
        assert_eq!(Zone::UTC.to_string(), "UTC");
        for unknown in ["Europe/Nowhere", "", "../etc/localtime", "/etc/localtime", "CEST"] {
            assert_eq!(named(unknown), None, "{unknown}");
        }
    }
}
