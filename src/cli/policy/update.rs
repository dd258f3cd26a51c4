//! `omni policy update`: a policy file that changed, for a session that runs.

use crate::cli::listing::Viewer;
use crate::cli::profile;
use crate::session;
use anyhow::Context;
use std::path::PathBuf;

/// Which session, and which file.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// A policy file that the session was started with, or the workspace's own
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Hands a file over.
///
/// # Errors
/// When it cannot be read or is not sound, or the session does not take it.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<String> {
    let text = profile::read(&args.file)?;
    let (file, path) = (args.file.display(), args.file.canonicalize());
    let path = path.with_context(|| format!("cannot find `{file}`"))?;
    let session = viewer.open()?.find(&args.session)?;
    let file = file.to_string();
    session::change_policy(viewer.home(), &session, (&file, &path.display().to_string(), &text))?;
    Ok(format!("session {session} is held to {file} as it is now, from its next request on\n"))
}
