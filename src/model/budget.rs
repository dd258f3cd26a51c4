//! The words of budgets: whose money is counted together, and for how long.

use super::{Timestamp, Zone};
use jiff::ToSpan;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose calls count together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One session's.
    #[default]
    Session,
    /// Those of one profile, whoever runs it.
    Agent,
    /// One user's.
    User,
    /// One team's.
    Team,
    /// One project's.
    Project,
    /// Everybody's whose sessions are in one store.
    Organisation,
}

impl Scope {
    /// Every scope by the word it is written as.
    pub const ALL: [(&'static str, Self); 6] = [
        ("session", Self::Session),
        ("agent", Self::Agent),
        ("user", Self::User),
        ("team", Self::Team),
        ("project", Self::Project),
        ("organisation", Self::Organisation),
    ];

    /// The word it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, scope)| *scope == self).map_or("", |(word, _)| word)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The time in which calls count together. Days, weeks and months are those of a zone; a week begins on Monday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// As long as the session lasts: of a wider scope, this session's part alone.
    #[default]
    Session,
    /// From a person's prompt to the end of the model's turn, as it is seen on the wire: of a wider scope, this session's part
    /// alone.
    Turn,
    /// Today.
    Day,
    /// This week.
    Week,
    /// This month.
    Month,
}

impl Window {
    /// Every window by the word it is written as.
    pub const ALL: [(&'static str, Self); 5] = [
        ("session", Self::Session),
        ("turn", Self::Turn),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
    ];

    /// The word it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, window)| *window == self).map_or("", |(word, _)| word)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Window {
    /// When the one began that `now` is in, by the clocks of a zone; a session's is as old as anything, and no clock tells a
    /// turn's. Where there is no telling, it is as old as that too, so that more counts rather than less.
    #[must_use]
    pub fn start(self, now: Timestamp, zone: &Zone) -> Timestamp {
        self.first_days(now, zone).and_then(|[first, _]| midnight(first, zone)).unwrap_or(Timestamp(i64::MIN))
    }

    /// When the one is over that `now` is in, where a clock tells.
    #[must_use]
    pub fn end(self, now: Timestamp, zone: &Zone) -> Option<Timestamp> {
        self.first_days(now, zone).and_then(|[_, next]| midnight(next, zone))
    }

    /// Its first day, and that of the next.
    fn first_days(self, now: Timestamp, zone: &Zone) -> Option<[Date; 2]> {
        let moment = jiff::Timestamp::from_microsecond(now.0).ok()?;
        let day = moment.to_zoned(zone.time_zone()).date();
        let (first, long) = match self {
            Self::Session | Self::Turn => return None,
            Self::Day => (day, 1.day()),
            Self::Week => {
                let since_monday = i64::from(day.weekday().to_monday_zero_offset());
                (day.checked_sub(since_monday.days()).ok()?, 1.week())
            }
            Self::Month => (day.first_of_month(), 1.month()),
        };
        Some([first, first.checked_add(long).ok()?])
    }
}

/// When a day begins; its first hour may be missing, or there twice, where clocks are set.
fn midnight(day: Date, zone: &Zone) -> Option<Timestamp> {
    let begins = day.to_zoned(zone.time_zone()).ok()?;
    Some(Timestamp(begins.timestamp().as_microsecond()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_at_midnight_on_a_monday_or_on_the_first() {
        // Sunday, 2026-11-29, a second before midnight.
        let now = Timestamp(1_795_996_799_000_000);
        let starts = Window::ALL.map(|(_, window)| window.start(now, &Zone::UTC).to_rfc3339());
        let expected = ["2026-11-29", "2026-11-23", "2026-11-01"].map(|day| format!("{day}T00:00:00.000000Z"));
        assert_eq!(starts[2..], expected);
        let ends = Window::ALL.map(|(_, window)| window.end(now, &Zone::UTC).map(Timestamp::to_rfc3339));
        let expected = ["2026-11-30", "2026-11-30", "2026-12-01"].map(|day| Some(format!("{day}T00:00:00.000000Z")));
        assert_eq!(ends[2..], expected);
        assert_eq!(ends[..2], [None, None]);
    }
    #[test]
    fn a_zones_day_is_its_own_and_may_be_longer_or_shorter_than_another() {
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        for (zone, now, starts, ends) in [
            ("Asia/Tokyo", "2026-11-28T03:00:00Z", "2026-11-27T15:00:00Z", "2026-11-28T15:00:00Z"),
            ("America/New_York", "2026-11-28T03:00:00Z", "2026-11-27T05:00:00Z", "2026-11-28T05:00:00Z"),
            ("Asia/Kathmandu", "2026-11-28T18:14:59Z", "2026-11-27T18:15:00Z", "2026-11-28T18:15:00Z"),
            // 25 hours, 23 hours, and a day whose first hour there is not.
            ("Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
            ("Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("Africa/Cairo", "2026-04-24T12:00:00Z", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"),
        ] {
            let named = Zone::named(zone).unwrap();
            assert_eq!(Window::Day.start(at(now), &named), at(starts), "{zone} {now}");
            assert_eq!(Window::Day.end(at(now), &named), Some(at(ends)), "{zone} {now}");
        }
        // In Tokyo it is Monday, and the first, already.
        let tokyo = Zone::named("Asia/Tokyo").unwrap();
        assert_eq!(Window::Week.start(at("2026-11-29T15:30:00Z"), &tokyo), at("2026-11-29T15:00:00Z"));
        assert_eq!(Window::Month.start(at("2026-11-30T15:30:00Z"), &tokyo), at("2026-11-30T15:00:00Z"));
    }

    #[test]
    fn where_there_is_no_telling_everything_counts() {
        for window in [Window::Day, Window::Week, Window::Month] {
            assert_eq!(window.start(Timestamp(i64::MAX), &Zone::UTC), Timestamp(i64::MIN));
            assert_eq!(window.end(Timestamp(i64::MAX), &Zone::UTC), None);
        }
    }
}
