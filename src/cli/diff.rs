//! `omni diff`: what a session changed behind its overlay.

use super::changes::{self, ChangeLine, Found};
use super::listing::{self, Viewer};
use super::server::Route;
use crate::session::overlay::{Change, Changes, Comparison, Layer, OverlayError, RelPath, scan};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show what a session changed behind its overlay, and what of it to mind
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  omni diff last\n  omni diff last --stat\n  omni diff 4f2 src/main.rs\n  \
    omni diff last --json | jq -r 'select(.executes).path'")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// Only these paths of the workspace, and what lies below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only which paths, not what changed in them
    #[arg(long)]
    stat: bool,
    /// List git's own files too, such as objects and references
    #[arg(long)]
    all: bool,
    /// Print one JSON object for each change
    #[arg(long)]
    json: bool,
}

/// Shows the changes.
///
/// # Errors
/// When there is no such session, it keeps no changes, or they cannot be looked at.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let found = changes::find(&args.session, viewer)?;
    let layer = match Layer::find(viewer.home(), &found.session) {
        Err(error @ OverlayError::Nothing(_)) => {
            eprintln!("{error}");
            return Ok(ExitCode::SUCCESS);
        }
        other => other?,
    };
    viewer.with_their_rights(|| show(args, found, &layer))?
}

/// Shows what a layer holds.
fn show(args: &Args, Found { session, status }: Found, layer: &Layer) -> anyhow::Result<ExitCode> {
    let running = !status.is_over();
    if running {
        eprintln!("The session is still running: this is how it looks at the moment.");
    }
    let paths = meant(&args.paths, layer)?;
    let found = scan(layer, running)?;
    let chosen = |change: &&Change| paths.is_empty() || paths.iter().any(|path| change.path.is_within(path));
    let mut kept = BTreeMap::<RelPath, usize>::new();
    for change in found.list.iter().filter(chosen) {
        if let Some(repository) = bookkeeping(change).filter(|_| !args.json && !args.all && paths.is_empty()) {
            *kept.entry(repository).or_default() += 1;
            continue;
        }
        let contents = compared(&found, change, running)?;
        if args.json {
            let line = ChangeLine::new(&session, change, contents.as_ref(), !args.stat);
            listing::emit(&listing::json_line(&line)?)?;
            continue;
        }
        let mut text = changes::line(change, contents.as_ref());
        if let (Some(Comparison::Text { unified, .. }), false) = (&contents, args.stat) {
            text.push_str(unified);
            text.push('\n');
        }
        listing::emit(&text)?;
    }
    for (repository, count) in kept {
        listing::emit(&format!("git      {repository}/  {count} of git's own files; --all lists them\n"))?;
    }
    if !args.json {
        listing::emit(&changes::totals(found.list.iter().filter(chosen)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The contents; of a session that runs, what vanishes while it is looked at has none.
fn compared(found: &Changes, change: &Change, running: bool) -> anyhow::Result<Option<Comparison>> {
    match changes::contents(found, change) {
        Err(OverlayError::Look { .. }) if running => Ok(None),
        other => Ok(other?),
    }
}

/// The repository whose own bookkeeping a change is: objects, references, its index. What git would execute is none, and
/// nothing that is odd.
fn bookkeeping(change: &Change) -> Option<RelPath> {
    if change.mark.is_some() || change.conflict.is_some() || !change.oddities.is_empty() {
        return None;
    }
    let mut above = RelPath::default();
    let names: Vec<_> = change.path.names().collect();
    for (index, name) in names.iter().enumerate() {
        above = above.join(name);
        if *name == b".git" && index + 1 < names.len() {
            return Some(above);
        }
    }
    None
}

/// The paths that a person means.
pub(super) fn meant(written: &[PathBuf], layer: &Layer) -> Result<Vec<RelPath>, OverlayError> {
    let workspace = layer.workspace();
    let meant =
        |path: &PathBuf| RelPath::meant(path, &workspace).map_err(|_| OverlayError::Elsewhere(listing_name(path)));
    written.iter().map(meant).collect()
}

fn listing_name(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    crate::session::overlay::shown(path.as_os_str().as_bytes())
}
