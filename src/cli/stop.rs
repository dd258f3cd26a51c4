//! `omni stop`: end a running session.

use super::listing::Viewer;
use super::server::Route;
use crate::policy::parse_duration;
use crate::session;
use std::process::ExitCode;
use std::time::Duration;

/// End a running session: its harness is asked to (SIGTERM), and ended after a while
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni stop last --grace 30s")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// How long the harness gets to end by itself
    #[arg(long, value_name = "DUR", default_value = "10s", value_parser = duration)]
    grace: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Stops it, and returns when it has ended.
///
/// # Errors
/// When there is no such session, or it does not run.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let session = viewer.open()?.find(&args.session)?;
    session::stop(viewer.home(), &session, args.grace)?;
    Ok(ExitCode::SUCCESS)
}
