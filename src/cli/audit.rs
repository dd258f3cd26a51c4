//! `omni audit`: the recorded events as they are, and whether they are still what was recorded.

mod checkpoint;
mod cosign;
mod digest;
mod export;
mod filter;
mod forget;
mod metrics;
mod page;
mod receipt;
mod report;
mod ship;
mod tiles;
mod verify;
mod witness;

use self::checkpoint::{CheckpointArgs, KeysArgs};
use self::export::ExportArgs;
use self::filter::Wanted;
use self::forget::ForgetArgs;
use self::metrics::MetricsArgs;
use self::receipt::ProveArgs;
use self::report::ReportArgs;
use self::ship::ShipArgs;
use self::tiles::TilesArgs;
use self::verify::VerifyArgs;
use self::witness::WitnessArgs;
use super::event_line::{EventLine, describe};
use super::listing::{self, Viewer};
use super::server::Route;
use crate::store::{Search, Sqlite, Store, StoredEvent, Turn};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

/// How many events are in memory at once.
const PAGE_EVENTS: u32 = 1_000;
/// How many events are printed on a terminal, unless told otherwise.
const LIMIT_USUAL: u32 = 1_000;
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
    Ship(ShipArgs),
    Metrics(MetricsArgs),
    Verify(VerifyArgs),
    Prove(ProveArgs),
    Checkpoint(CheckpointArgs),
    Keys(KeysArgs),
    Witness(WitnessArgs),
    Tiles(TilesArgs),
    Forget(ForgetArgs),
    Report(ReportArgs),
    Rebuild(RebuildArgs),
}

/// Print recorded events, of one session or of all
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit log --session last\n  omni audit log --follow --json | jq .event\n  \
    omni audit log --follow --verdict denied\n  omni audit log --since 24h --secret github --user ada\n  \
    omni audit log --text 'archive upload' --limit 20")]
struct LogArgs {
    /// Only this session: any unique beginning of its id, or `last`
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
    /// Go on with events as they are recorded
    #[arg(long)]
    follow: bool,
    /// Print the newest of them alone; 0 for all [default: 1000 on a terminal, else all]
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u32>,
    /// Print one JSON object for each event
    #[arg(long)]
    json: bool,
}

/// Set the database aside and make it again from the journals
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit rebuild")]
struct RebuildArgs {}

impl Args {
    /// The command, where it reads what is recorded and not of one session alone.
    pub(super) fn reads_all(&self) -> Option<&'static str> {
        match &self.act {
            Act::Verify(_) => Some("audit verify"),
            Act::Checkpoint(_) => Some("audit checkpoint"),
            Act::Keys(_) => Some("audit keys"),
            Act::Tiles(_) => Some("audit tiles"),
            Act::Report(_) => Some("audit report"),
            Act::Metrics(_) => Some("audit metrics"),
            _ => None,
        }
    }

    /// Does what needs nobody's records; none where it needs them.
    ///
    /// # Errors
    /// When a receipt proves nothing, or a witness cannot begin.
    pub(super) fn run_without_records(&self) -> Option<anyhow::Result<ExitCode>> {
        match &self.act {
            Act::Verify(args) => verify::by_files(args),
            Act::Witness(args) => Some(witness::run(args)),
            _ => None,
        }
    }
}

/// Does what was asked.
///
/// # Errors
/// When the store cannot be opened or read, or there is no such session.
pub(super) fn run(args: Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    match args.act {
        Act::Log(args) => log(&args, viewer),
        Act::Export(args) => export::run(&args, viewer),
        Act::Ship(args) => ship::run(&args, viewer),
        Act::Metrics(args) => metrics::run(&args, viewer),
        Act::Verify(args) => verify::run(&args, viewer),
        Act::Prove(args) => receipt::prove(&args, viewer),
        Act::Checkpoint(args) => checkpoint::checkpoint(&args, viewer),
        Act::Keys(args) => checkpoint::keys(&args, viewer),
        Act::Tiles(args) => tiles::run(&args, viewer),
        Act::Forget(args) => forget::run(&args, viewer),
        Act::Report(args) => report::run(&args, viewer),
        // Before anybody's records were opened.
        Act::Witness(_) => anyhow::bail!("a witness is no visitor of the machine's server"),
        Act::Rebuild(RebuildArgs {}) => rebuild(viewer),
    }
}

fn log(args: &LogArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let mut store = args.wanted.of_user(viewer)?;
    let session = args.session.as_deref().map(|wanted| store.find(wanted)).transpose()?;
    viewer.note_reading("audit log", session.as_ref())?;
    let search = args.wanted.search(session)?;
    // Before anything is printed: what comes later is what is followed.
    let newest = store.search(&Search::default(), Turn::Before(u64::MAX), 1)?;
    let mut entry = newest.first().map_or(0, |newest| newest.entry);
    let usual = std::io::stdout().is_terminal().then_some(LIMIT_USUAL);
    match args.limit.or(usual).filter(|limit| *limit > 0) {
        Some(limit) => print_newest(store.as_ref(), &search, Turn::Before(entry + 1), limit, args)?,
        None => entry = entry.max(print_after(store.as_ref(), &search, 0, args.json)?),
    }
    if entry == 0 && !args.follow && !args.wanted.is_of_one_user() {
        eprintln!("Nothing is recorded yet; `omni exec -- COMMAND` runs a session.");
    }
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        std::thread::sleep(FOLLOW_PAUSE);
        match &search.session {
            Some(session) => store.fold(session)?,
            None => store.fold_all()?,
        }
        entry = print_after(store.as_ref(), &search, entry, args.json)?;
    }
}

/// Prints the newest events that are meant from a place in the log backwards, the newest last.
fn print_newest(store: &dyn Store, search: &Search, turn: Turn, limit: u32, args: &LogArgs) -> anyhow::Result<()> {
    let found = store.search(search, turn, limit)?;
    let lines: Result<String, _> = found.iter().rev().map(|stored| log_line(stored, args.json)).collect();
    listing::emit(&lines?)?;
    if args.limit.is_none() && found.len() >= limit as usize {
        eprintln!("omni: these are the newest {limit}; --limit 0 prints all");
    }
    Ok(())
}

/// Prints every event that is meant after an entry, page by page; returns the last one's entry.
fn print_after(store: &dyn Store, search: &Search, mut entry: u64, json: bool) -> anyhow::Result<u64> {
    loop {
        let page = store.search(search, Turn::After(entry), PAGE_EVENTS)?;
        let Some(last) = page.last() else { return Ok(entry) };
        entry = last.entry;
        let lines: Result<String, _> = page.iter().map(|stored| log_line(stored, json)).collect();
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

fn rebuild(viewer: &Viewer) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(viewer.sees_all(), "only root can make the machine's database again");
    let home = viewer.home();
    anyhow::ensure!(
        home.store().is_none(),
        "a store on PostgreSQL is not made again from one machine's journals; `omni audit verify` says whether it is sound"
    );
    let suffix = format!("{}.old", jiff::Timestamp::now().as_millisecond());
    let (store, aside) = Sqlite::rebuild(home, &suffix)?;
    let sessions = store.sessions()?.len();
    let old = aside.map(|path| format!("; the old database is {}", path.display())).unwrap_or_default();
    eprintln!("{sessions} sessions folded into {}{old}", home.database().display());
    Ok(ExitCode::SUCCESS)
}
