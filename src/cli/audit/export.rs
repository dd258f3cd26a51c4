//! `omni audit export`: a session's record in a format that other programs read.

use crate::cli::listing::{self, Viewer};
use crate::ledger::Har;
use crate::model::SessionId;
use crate::store::{Bodies, Store};
use std::process::ExitCode;

/// How many events are in memory at once, before what they say of requests is gathered.
const PAGE_EVENTS: u32 = 1_000;

/// What it is exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// HTTP Archive 1.2: one session's requests, for the developer tools of browsers
    Har,
}

/// Print one session's record in a format that other programs read
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni audit export --format har --session last > session.har")]
pub(super) struct ExportArgs {
    /// The format
    #[arg(long)]
    format: Format,
    /// The session: any unique beginning of its id, or `last`
    #[arg(long, value_name = "ID", default_value = "last")]
    session: String,
}

/// Does what was asked.
///
/// # Errors
/// When the store cannot be opened or read, or there is no such session.
pub(super) fn run(args: &ExportArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let store = viewer.open()?;
    let session = store.find(&args.session)?;
    match args.format {
        Format::Har => har(store.as_ref(), &session, viewer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn har(store: &dyn Store, session: &SessionId, viewer: &Viewer) -> anyhow::Result<()> {
    let (mut har, mut entry) = (Har::default(), 0);
    loop {
        let page = store.log(Some(session), entry, PAGE_EVENTS)?;
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
