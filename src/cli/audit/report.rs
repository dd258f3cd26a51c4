//! `omni audit report`: what happened in a period, for a person, a program or a browser.

use super::digest::{Digest, Named, Report};
use super::page;
use crate::cli::listing::{self, Viewer};
use crate::cli::spend::parse_since;
use crate::model::{SessionId, Timestamp};
use crate::store::Store;
use anyhow::ensure;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// How many events are in memory at once.
const PAGE_EVENTS: u32 = 4_000;
/// Whose a session is that never said so.
const NOBODY: &str = "-";

/// What it is printed as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For a terminal
    #[default]
    Text,
    /// One object
    Json,
    /// One page that needs nothing else
    Html,
}

/// Report on a period: refusals, new hosts, spend, secrets, questions, weak isolation, and what is unusual
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit report --since 7d\n  omni audit report --since 2026-01-01 --until 2026-02-01 \
    --format html > january.html"
)]
pub(super) struct ReportArgs {
    /// From then on: a time (RFC 3339), a date (UTC), or how long ago, such as 24h, 7d
    #[arg(long, value_name = "T", default_value = "7d")]
    since: String,
    /// Until then [default: now]
    #[arg(long, value_name = "T")]
    until: Option<String>,
    /// What it is printed as
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Reports.
///
/// # Errors
/// When the store cannot be read, or a time is none.
pub(super) fn run(args: &ReportArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let now = Timestamp(jiff::Timestamp::now().as_microsecond());
    let until = args.until.as_deref().map(|text| parse_since(text, now)).transpose()?.unwrap_or(now);
    let since = parse_since(&args.since, now)?;
    ensure!(since < until, "the period ends before it begins");
    let store = viewer.open()?;
    let before = Timestamp(since.0.saturating_sub(until.0 - since.0));
    let owners = store.sessions()?.into_iter().map(|(summary, _)| (summary.session, [summary.user, summary.team]));
    let owners: Owners = owners.collect();
    let report = digest(store.as_ref(), &owners, since, until)?.report(
        &digest(store.as_ref(), &owners, before, since)?,
        since,
        until,
    );
    let text = match args.format {
        Format::Text => text(&report),
        Format::Json => listing::json_line(&report)?,
        Format::Html => page::page(&report),
    };
    listing::emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The user and the team of each session.
type Owners = BTreeMap<SessionId, [Option<String>; 2]>;

fn digest(store: &dyn Store, owners: &Owners, since: Timestamp, until: Timestamp) -> anyhow::Result<Digest> {
    let (mut digest, mut after) = (Digest::default(), (since, 0));
    loop {
        let events = store.log_between(after, until, PAGE_EVENTS)?;
        let Some(last) = events.last() else { return Ok(digest) };
        after = (last.at, last.entry);
        for stored in &events {
            let [user, team] = owners
                .get(&stored.session)
                .map_or([NOBODY; 2], |owner| [&owner[0], &owner[1]].map(|name| name.as_deref().unwrap_or(NOBODY)));
            if let Some(event) = stored.event() {
                digest.take(&stored.session, (user, team), stored.at, &event);
            }
        }
    }
}

fn text(report: &Report) -> String {
    let mut text = format!("{} to {}\n\n", report.since, report.until);
    let rows = report.counts.rows().into_iter().zip(report.before.rows());
    let rows = rows.map(|((name, now), (_, before))| vec![name.to_owned(), now.to_string(), before.to_string()]);
    text.push_str(&listing::table(&["", "NOW", "BEFORE"], &["NOW", "BEFORE"], rows.collect()));
    let mut part = |title: &str, columns: &[&str], right: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            text.push_str(&format!("\n{title}\n{}", listing::table(columns, right, rows)));
        }
    };
    let named = |all: &[Named]| all.iter().map(|one| vec![one.name.clone(), one.count.to_string()]).collect::<Vec<_>>();
    part("Unusual", &["WHAT"], &[], report.unusual.iter().map(|what| vec![what.clone()]).collect());
    let refusals = report.refusals.iter().map(|one| vec![one.count.to_string(), one.what.clone(), one.why.clone()]);
    part("Refused", &["TIMES", "WHAT", "WHY"], &["TIMES"], refusals.collect());
    part("New hosts", &["HOST", "REQUESTS"], &["REQUESTS"], named(&report.new_hosts));
    part("Hosts", &["HOST", "REQUESTS"], &["REQUESTS"], named(&report.hosts));
    part("Secrets used", &["SECRET", "REQUESTS"], &["REQUESTS"], named(&report.secrets));
    let spend = report
        .spend
        .iter()
        .map(|one| vec![one.user.clone(), one.model.clone(), one.calls.to_string(), listing::money(one.cost, 0)]);
    part("Spend", &["USER", "MODEL", "CALLS", "COST"], &["CALLS", "COST"], spend.collect());
    let teams = report
        .spend_by_team
        .iter()
        .map(|one| vec![one.team.clone(), one.calls.to_string(), listing::money(one.cost, 0)]);
    part("Spend by team", &["TEAM", "CALLS", "COST"], &["CALLS", "COST"], teams.collect());
    let answers = report.answers.iter().map(|one| {
        let seconds = |ms: i64| format!("{}.{:03} s", ms / 1000, ms % 1000);
        vec![one.answer.clone(), one.count.to_string(), seconds(one.median_ms), seconds(one.longest_ms)]
    });
    part("Questions", &["ANSWER", "TIMES", "MEDIAN", "LONGEST"], &["TIMES", "MEDIAN", "LONGEST"], answers.collect());
    let weak = report.weak.iter().map(|one| vec![one.session.clone(), one.gaps.join("; ")]);
    part("Weak isolation", &["SESSION", "WHY"], &[], weak.collect());
    text
}
