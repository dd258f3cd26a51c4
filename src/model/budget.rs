//! The words of budgets: whose money is counted together, and for how long.

use super::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;

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

/// The time in which calls count together. Days, weeks and months are those of UTC; a week begins on Monday.
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
    /// When the one began that `now` is in; a session's is as old as anything, and no clock tells a turn's.
    #[must_use]
    pub fn start(self, now: Timestamp) -> Timestamp {
        let day = now.0.div_euclid(DAY);
        match self {
            Self::Session | Self::Turn => Timestamp(i64::MIN),
            Self::Day => Timestamp(day.saturating_mul(DAY)),
            // The first day of all was a Thursday.
            Self::Week => Timestamp((day - (day + 3).rem_euclid(7)).saturating_mul(DAY)),
            Self::Month => {
                let of_month = now.to_day().rsplit('-').next().and_then(|day| day.parse::<i64>().ok());
                Timestamp((day - of_month.unwrap_or(1) + 1).saturating_mul(DAY))
            }
        }
    }

    /// When the one is over that `now` is in, where a clock tells.
    #[must_use]
    pub fn end(self, now: Timestamp) -> Option<Timestamp> {
        let days = match self {
            Self::Session | Self::Turn => return None,
            Self::Day => 1,
            Self::Week => 7,
            // Some day of the next month, whatever month it is.
            Self::Month => return Some(self.start(Timestamp(self.start(now).0.saturating_add(32 * DAY)))),
        };
        Some(Timestamp(self.start(now).0.saturating_add(days * DAY)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_at_midnight_on_a_monday_or_on_the_first() {
        // Sunday, 2026-11-29, a second before midnight.
        let now = Timestamp(1_795_996_799_000_000);
        let starts = Window::ALL.map(|(_, window)| window.start(now).to_rfc3339());
        let expected = ["2026-11-29", "2026-11-23", "2026-11-01"].map(|day| format!("{day}T00:00:00.000000Z"));
        assert_eq!(starts[2..], expected);
        let ends = Window::ALL.map(|(_, window)| window.end(now).map(Timestamp::to_rfc3339));
        let expected = ["2026-11-30", "2026-11-30", "2026-12-01"].map(|day| Some(format!("{day}T00:00:00.000000Z")));
        assert_eq!(ends[2..], expected);
        assert_eq!(ends[..2], [None, None]);
    }
}
