//! `omni attach`: look at a running session's terminal, and type there.

use super::exec::exit_as;
use super::listing::Viewer;
use super::server::Route;
use crate::session::{self, Parting};
use std::process::ExitCode;

/// Look at a running session's terminal from this one, and type there. Ctrl-\ and then d leaves it running
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni exec --detach -- claude-code\n  omni attach last\n  omni attach 4f2 --read-only"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// Look, without typing; q leaves
    #[arg(long)]
    read_only: bool,
}

/// Attaches, and exits as the harness did if it ended meanwhile.
///
/// # Errors
/// When there is no such session, it does not run, or has no terminal.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let session = viewer.open()?.find(&args.session)?;
    match session::attach(viewer.home(), &session, args.read_only)? {
        Parting::Left => {
            eprintln!("omni: left session {session}, which goes on; omni attach {session}, or omni stop {session}");
            Ok(ExitCode::SUCCESS)
        }
        Parting::Ended(status) => {
            eprintln!("omni: session {session} ended; omni show {session}");
            Ok(status.map_or(ExitCode::SUCCESS, exit_as))
        }
    }
}
