//! `omni audit tiles`: the ledger as static files, for any web server and for tools of others.

use crate::cli::listing::Viewer;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write the ledger, signed, as static files in the C2SP layout, which any web server can serve to tools of others
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit tiles /srv/www/ledger\n\nLater calls write what is new (c2sp.org/tlog-tiles). The \
    tiles hold hashes and sessions' ids, no events."
)]
pub(super) struct TilesArgs {
    /// The directory, which is made where it is missing
    #[arg(value_name = "DIR")]
    to: PathBuf,
}

/// Writes them.
///
/// # Errors
/// When the ledger cannot be signed, or the directory not written to.
pub(super) fn run(args: &TilesArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    viewer.reads_files()?;
    let done = viewer.open()?.export_ledger(&args.to)?;
    eprintln!("omni: {} entries in {}, {} files written", done.size, args.to.display(), done.written);
    Ok(ExitCode::SUCCESS)
}
