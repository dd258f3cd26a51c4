//! `omni audit`: the recorded events as they are, and whether they are still what was recorded.

mod export;
mod filter;

use self::export::ExportArgs;
use self::filter::{Filter, Wanted};
use super::event_line::{EventLine, describe};
use super::listing::{self, Viewer};
use super::server::Route;
use crate::model::SessionId;
use crate::store::{Finding, Report, Sqlite, Store, StoredEvent};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// How many events are in memory at once.
const PAGE_EVENTS: u32 = 1_000;
/// How long to wait between two looks for new events.
const FOLLOW_PAUSE: Duration = Duration::from_millis(250);

/// Read and check the record of what happened
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit log --session last\n  omni audit verify")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    Log(LogArgs),
    Export(ExportArgs),
    Verify(VerifyArgs),
    Rebuild(RebuildArgs),
}

/// Print recorded events, of one session or of all
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit log --session last\n  omni audit log --follow --json | jq .event\n  \
    omni audit log --follow --verdict denied")]
struct LogArgs {
    /// Only this session: any unique beginning of its id, or `last`
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    /// Go on with events as they are recorded
    #[arg(long)]
    follow: bool,
    /// Print one JSON object for each event
    #[arg(long)]
    json: bool,
}

/// Check every journal's hash chain, and the database against it; exits with 1 when something is wrong
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit verify\n  omni audit verify --json | jq 'select(.ok | not)'")]
struct VerifyArgs {
    /// Print one JSON object for each journal
    #[arg(long)]
    json: bool,
}

/// Set the database aside and make it again from the journals
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit rebuild")]
struct RebuildArgs {}

/// Does what was asked.
///
/// # Errors
/// When the store cannot be opened or read, or there is no such session.
pub(super) fn run(args: Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    match args.act {
        Act::Log(args) => log(&args, viewer),
        Act::Export(args) => export::run(&args, viewer),
        Act::Verify(args) => verify(&args, viewer),
        Act::Rebuild(RebuildArgs {}) => rebuild(viewer),
    }
}

fn log(args: &LogArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let mut store = viewer.open()?;
    let session = args.session.as_deref().map(|wanted| store.find(wanted)).transpose()?;
    let mut filter = Filter::new(&args.wanted);
    let mut entry = print_after(&store, session.as_ref(), 0, args.json, &mut filter)?;
    if entry == 0 && !args.follow {
        eprintln!("Nothing is recorded yet; `omni exec -- COMMAND` runs a session.");
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(FOLLOW_PAUSE);
        match &session {
            Some(session) => store.fold(session)?,
            None => store.fold_all()?,
        }
        entry = print_after(&store, session.as_ref(), entry, args.json, &mut filter)?;
    }
}

/// Prints every event after an entry, page by page; returns the last one's entry.
fn print_after(
    store: &Sqlite,
    session: Option<&SessionId>,
    mut entry: u64,
    json: bool,
    filter: &mut Filter,
) -> anyhow::Result<u64> {
    loop {
        let page = store.log(session, entry, PAGE_EVENTS)?;
        let Some(last) = page.last() else { return Ok(entry) };
        entry = last.entry;
        let lines: Result<String, _> =
            page.iter().filter(|stored| filter.admits(stored)).map(|stored| log_line(stored, json)).collect();
        listing::emit(&lines?)?;
    }
}

fn log_line(stored: &StoredEvent, json: bool) -> anyhow::Result<String> {
    if json {
        return listing::json_line(&EventLine::new(stored)?);
    }
    let (at, session) = (stored.at.to_rfc3339(), stored.session.as_str());
    Ok(format!("{at}  {session}  {:>5}  {}\n", stored.number, describe(stored)))
}

/// A journal's report as `--json` prints it.
#[derive(Serialize)]
struct ReportLine<'a> {
    session: &'a str,
    writer: &'static str,
    ok: bool,
    frames: u64,
    head: String,
    faults: Vec<FindingLine<'a>>,
    notes: Vec<FindingLine<'a>>,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    seq: u64,
    what: &'a str,
}

fn finding_lines(findings: &[Finding]) -> Vec<FindingLine<'_>> {
    findings.iter().map(|finding| FindingLine { seq: finding.seq, what: &finding.what }).collect()
}

fn verify(args: &VerifyArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let reports = viewer.open()?.verify()?;
    if args.json {
        for report in &reports {
            let line = ReportLine {
                session: report.session.as_str(),
                writer: report.writer.as_str(),
                ok: report.faults.is_empty(),
                frames: report.frames,
                head: report.head.to_string(),
                faults: finding_lines(&report.faults),
                notes: finding_lines(&report.notes),
            };
            listing::emit(&listing::json_line(&line)?)?;
        }
    } else {
        listing::emit(&human(&reports))?;
    }
    let broken = reports.iter().filter(|report| !report.faults.is_empty()).count();
    if broken > 0 {
        eprintln!(
            "{broken} of {} journals are not what was recorded: copy the home before you change anything.",
            reports.len()
        );
    }
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn human(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let findings = report.faults.iter().map(|finding| ("BROKEN", finding));
        for (word, finding) in findings.chain(report.notes.iter().map(|finding| ("note", finding))) {
            let (session, writer) = (report.session.as_str(), report.writer.as_str());
            let what = listing::printable(&finding.what);
            text.push_str(&format!("{word:<6}  {session}  {writer}  frame {}: {what}\n", finding.seq));
        }
    }
    let frames: u64 = reports.iter().map(|report| report.frames).sum();
    let whole = reports.iter().filter(|report| report.faults.is_empty()).count();
    text.push_str(&format!("{whole} of {} journals whole, {frames} frames follow from one another\n", reports.len()));
    text
}

fn rebuild(viewer: &Viewer) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(viewer.sees_all(), "only root can make the machine's database again");
    let home = viewer.home();
    let suffix = format!("{}.old", jiff::Timestamp::now().as_millisecond());
    let (store, aside) = Sqlite::rebuild(home, &suffix)?;
    let sessions = store.sessions()?.len();
    let old = aside.map(|path| format!("; the old database is {}", path.display())).unwrap_or_default();
    eprintln!("{sessions} sessions folded into {}{old}", home.database().display());
    Ok(ExitCode::SUCCESS)
}
