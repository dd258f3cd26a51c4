//! `omni discard`: forget what a session changed behind its overlay.

use super::changes::{self, Found};
use super::listing;
use crate::session::overlay::{OverlayError, discard};
use std::process::ExitCode;

/// Forget what a session changed behind its overlay
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni discard last")]
pub struct Args {
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
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Found { home, session, status } = changes::find(&args.session)?;
    if !status.is_over() {
        return Err(OverlayError::Running(session, "discard").into());
    }
    let discarded = match discard(&home, &session) {
        Err(error @ OverlayError::Nothing(_)) => {
            eprintln!("{error}");
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
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
