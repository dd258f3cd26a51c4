//! `omni audit export`: the record in formats that other programs read.

use super::filter::Wanted;
use crate::cli::listing::{self, Viewer};
use crate::export::{json_line, ocsf};
use crate::ledger::Har;
use crate::model::SessionId;
use crate::shipping::Teller;
use crate::store::{Bodies, Search, Store, Turn};
use std::process::ExitCode;

/// How many events are in memory at once, before what they say of requests is gathered.
const PAGE_EVENTS: u32 = 1_000;

/// What it is exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One JSON object a line for each event, with its place in the ledger
    Jsonl,
    /// The same in the words of the Open Cybersecurity Schema Framework 1.8.0
    Ocsf,
    /// HTTP Archive 1.2: one session's requests, for the developer tools of browsers
    Har,
}

/// Print the record in formats that other programs read
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit export --format har --session last > session.har\n  omni audit export \
    --format ocsf --since 24h --verdict denied")]
pub(super) struct ExportArgs {
    /// The format
    #[arg(long)]
    format: Format,
    /// Only this session: any unique beginning of its id, or `last`, which is what is meant without it where a format holds
    /// one session alone
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    #[command(flatten)]
    wanted: Wanted,
}

/// Does what was asked.
///
/// # Errors
/// When the store cannot be opened or read, or there is no such session.
pub(super) fn run(args: &ExportArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let store = args.wanted.of_user(viewer)?;
    let session = match (&args.session, args.format) {
        (Some(wanted), _) => Some(store.find(wanted)?),
        (None, Format::Har) => Some(store.find("last")?),
        (None, _) => None,
    };
    viewer.note_reading("audit export", session.as_ref())?;
    let search = args.wanted.search(session)?;
    match (args.format, &search.session) {
        (Format::Har, Some(session)) => har(store.as_ref(), session, viewer, &search)?,
        (format, _) => lines(store.as_ref(), format, &search)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line for each event that is meant.
fn lines(store: &dyn Store, format: Format, search: &Search) -> anyhow::Result<()> {
    let (mut teller, mut entry) = (Teller::new(store)?, 0);
    loop {
        let page = store.search(search, Turn::After(entry), PAGE_EVENTS)?;
        let Some(last) = page.last() else { return Ok(()) };
        entry = last.entry;
        let records = teller.events(page)?;
        let text: String = match format {
            Format::Ocsf => records.iter().map(|record| ocsf::line(record, teller.installation())).collect(),
            Format::Jsonl | Format::Har => records.iter().map(json_line).collect(),
        };
        listing::emit(&text)?;
    }
}

fn har(store: &dyn Store, session: &SessionId, viewer: &Viewer, search: &Search) -> anyhow::Result<()> {
    let (mut har, mut entry) = (Har::default(), 0);
    loop {
        let page = store.search(search, Turn::After(entry), PAGE_EVENTS)?;
        let Some(last) = page.last() else { break };
        entry = last.entry;
        for (at, event) in page.iter().filter_map(|stored| Some((stored.at, stored.event()?))) {
            har.take(at, event);
        }
    }
    let bodies = Bodies::open(viewer.home(), session)?;
    let find = |sha256: &str| Ok(bodies.read(sha256)?);
    har.write(env!("CARGO_PKG_VERSION"), &find, &mut |text| listing::emit(&listing::harmless_json(text)))
}
