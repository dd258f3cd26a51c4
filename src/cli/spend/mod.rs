//! `omni spend`: what model calls cost.

mod focus;
mod owners;
mod pilot;

use super::listing::{self, Viewer};
use super::server::Route;
use crate::model::{NanoUsd, Timestamp, Usage};
use crate::store::{SpendBy, SpendRow, Store};
use anyhow::Context;
use clap::ValueEnum;
use owners::{Owner, Owners, regroup};
use pilot::Pilot;
use serde_json::json;
use std::process::ExitCode;

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;
/// How many events are in memory at once.
const PAGE_EVENTS: u32 = 4_000;

/// Add up what model calls cost
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni spend --by day --since 7d\n  omni spend --by team --json\n  \
    omni spend --since 2026-11-01 --format focus > november.csv\n  omni spend --pilot --since 30d")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// What to group by
    #[arg(long, value_enum, default_value = "model")]
    by: By,
    /// Only calls since then: a time (RFC 3339), a date (UTC), or how long ago, such as 30m, 24h, 7d, 2w
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Print one JSON object for each group
    #[arg(long)]
    json: bool,
    /// What to print: sums, or every call as a row of FOCUS 1.3 (CSV)
    #[arg(long, value_enum, default_value = "table", conflicts_with_all = ["json", "by"])]
    format: Format,
    /// Figures of a trial period instead: time to task, cost per task, approvals per hour
    #[arg(long, conflicts_with_all = ["by", "format"])]
    pilot: bool,
}

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Focus,
}

/// What to group by.
#[derive(Clone, Copy, ValueEnum)]
enum By {
    Session,
    Model,
    User,
    Team,
    Project,
    /// Each KEY=VALUE of `omni exec --tag`; a session with several counts in each
    Tag,
    /// The profile
    Agent,
    Day,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Model => "model",
            Self::User => "user",
            Self::Team => "team",
            Self::Project => "project",
            Self::Tag => "tag",
            Self::Agent => "agent",
            Self::Day => "day",
        }
    }

    fn rows(self, store: &dyn Store, since: Option<Timestamp>) -> anyhow::Result<Vec<SpendRow>> {
        let keys: fn(&Owner) -> Vec<String> = match self {
            Self::Session => return Ok(store.spend(SpendBy::Session, since)?),
            Self::Model => return Ok(store.spend(SpendBy::Model, since)?),
            Self::User => return Ok(store.spend(SpendBy::User, since)?),
            Self::Day => return Ok(store.spend(SpendBy::Day, since)?),
            Self::Team => |owner| owner.team.iter().cloned().collect(),
            Self::Project => |owner| owner.project.iter().cloned().collect(),
            Self::Tag => |owner| owner.tags.iter().map(|(key, value)| format!("{key}={value}")).collect(),
            Self::Agent => |owner| vec![owner.agent.clone()],
        };
        regroup(&mut Owners::new(store), store.spend(SpendBy::Session, since)?, keys)
    }
}

/// Adds up and prints.
///
/// # Errors
/// When the store cannot be opened or read, or `--since` is no time.
pub(super) fn run(args: Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let now = Timestamp(jiff::Timestamp::now().as_microsecond());
    let since = args.since.as_deref().map(|text| parse_since(text, now)).transpose()?;
    let store = viewer.open()?;
    if args.pilot {
        return pilot(store.as_ref(), since, now, args.json);
    }
    if args.format == Format::Focus {
        focus::export(store.as_ref(), since, now, &mut |line| listing::emit(line))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (name, rows) = (args.by.name(), args.by.rows(store.as_ref(), since)?);
    if rows.is_empty() {
        eprintln!("No model call was metered{}.", if since.is_some() { " since then" } else { " yet" });
    } else if args.json {
        for row in &rows {
            let line = json!({
                name: row.key, "calls": row.calls, "inexact": row.inexact, "usage": row.usage,
                "cost_usd": row.cost.to_decimal(),
            });
            listing::emit(&listing::json_line(&line)?)?;
        }
    } else {
        // What has several tags stands in several rows.
        let total = if matches!(args.by, By::Tag) { By::Session.rows(store.as_ref(), since)? } else { rows.clone() };
        listing::emit(&human(name, &rows, &total))?;
        if rows.iter().any(|row| row.inexact > 0) {
            eprintln!("~ some calls have no exact cost: `omni show ID` says which and why.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the figures of a trial period.
fn pilot(store: &dyn Store, since: Option<Timestamp>, now: Timestamp, json: bool) -> anyhow::Result<ExitCode> {
    let (mut pilot, mut after) = (Pilot::default(), (since.unwrap_or(Timestamp(i64::MIN)), 0));
    loop {
        let events = store.log_between(after, Timestamp(now.0.saturating_add(1)), PAGE_EVENTS)?;
        let Some(last) = events.last() else { break };
        after = (last.at, last.entry);
        let known = events.iter().filter_map(|stored| Some((stored, stored.event()?)));
        known.for_each(|(stored, event)| pilot.take(&stored.session, stored.at, &event));
    }
    let figures = pilot.figures(now);
    listing::emit(&if json { listing::json_line(&figures)? } else { pilot::human(&figures) })?;
    Ok(ExitCode::SUCCESS)
}

fn human(name: &str, rows: &[SpendRow], all: &[SpendRow]) -> String {
    let header = name.to_uppercase();
    let columns = [header.as_str(), "CALLS", "INPUT", "CACHE READ", "CACHE WRITTEN", "OUTPUT", "COST"];
    let cells = |key: &str, calls: u64, usage: Usage, cost: String| {
        let written = usage.cache_write.saturating_add(usage.cache_write_long);
        let counts = [calls, usage.input, usage.cache_read, written, usage.output].map(|count| count.to_string());
        [key.to_owned()].into_iter().chain(counts).chain([cost]).collect::<Vec<_>>()
    };
    let row = |row: &SpendRow| cells(&row.key, row.calls, row.usage, listing::money(row.cost, row.inexact));
    let mut lines: Vec<_> = rows.iter().map(row).collect();
    let (calls, inexact) = all.iter().fold((0, 0), |sum, row| (sum.0 + row.calls, sum.1 + row.inexact));
    let usage = all.iter().fold(Usage::default(), |sum, row| sum.plus(row.usage));
    let cost: NanoUsd = all.iter().map(|row| row.cost).sum();
    lines.push(cells("total", calls, usage, listing::money(cost, inexact)));
    listing::table(&columns, &columns[1..], lines)
}

/// A point in time as a person writes it.
pub(super) fn parse_since(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let wrong =
        || format!("`{}` is no time: write 2026-01-31, 2026-01-31T12:00:00Z, or 30m, 24h, 7d", text.escape_debug());
    if let Some(ago) = parse_ago(text) {
        return Ok(Timestamp(now.0.saturating_sub(ago)));
    }
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(moment.as_microsecond()));
    }
    let date: jiff::civil::Date = text.parse().ok().with_context(wrong)?;
    let midnight = jiff::tz::Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).with_context(wrong)?;
    Ok(Timestamp(midnight.as_microsecond()))
}

/// How long ago, in microseconds: a number and one letter.
fn parse_ago(text: &str) -> Option<i64> {
    let (split, unit) = text.char_indices().next_back()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let count: u32 = text[..split].parse().ok()?;
    i64::from(count).checked_mul(seconds)?.checked_mul(SECOND)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_can_be_written_in_three_ways() {
        let now = Timestamp(1_700_000_000 * SECOND);
        let parsed = |text| parse_since(text, now).map(|at| at.0 / SECOND).ok();
        assert_eq!(parsed("7d"), Some(1_700_000_000 - 7 * 86_400));
        assert_eq!(parsed("24h"), Some(1_700_000_000 - 86_400));
        assert_eq!(parsed("2023-11-14"), Some(1_699_920_000));
        assert_eq!(parsed("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(parsed("2023-11-14T22:13:20+01:00"), Some(1_700_000_000 - 3_600));
        for text in ["", "d", "-1d", "yesterday", "7 d", "7ü", "2023-13-01"] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
