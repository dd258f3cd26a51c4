//! `omni discard`: forget what a session changed behind its overlay.

use super::changes::{self, Found};
use super::listing::{self, Viewer};
use super::server::Route;
use crate::session::overlay::{Held, OverlayError, discard_unread};
use std::process::ExitCode;

/// Forget what a session changed behind its overlay
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni discard last")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Forgets the changes.
///
/// # Errors
/// When there is no such session, it still runs, or its changes cannot be removed.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let Found { session, status } = changes::find(&args.session, viewer)?;
    if !status.is_over() {
        return Err(OverlayError::Running(session, "discard").into());
    }
    let discarded = match Held::take(viewer.home(), &session) {
        Err(error @ OverlayError::Nothing(_)) => {
            eprintln!("{error}");
            return Ok(ExitCode::SUCCESS);
        }
        Err(error @ OverlayError::Notes { .. }) => {
            discard_unread(viewer.home(), &session, error)?;
            None
        }
        held => {
            let mut held = held?;
            let count = viewer.with_their_rights(|| held.settle())??;
            held.discard(count)?;
            count
        }
    };
    if args.json {
        let line = serde_json::json!({ "session": session.as_str(), "discarded": discarded });
        listing::emit(&listing::json_line(&line)?)?;
    } else {
        let count = discarded.map_or_else(|| "all".to_owned(), |count| count.to_string());
        listing::emit(&format!("{count} discarded; the workspace is as it was\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
