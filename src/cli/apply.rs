//! `omni apply`: take over what a session changed behind its overlay.

use super::changes::{self, Found};
use super::diff::meant;
use super::listing::{self, Viewer};
use super::server::Route;
use crate::session::overlay::{
    Applied, Applying, Change, Choice, Consent, Held, Kind, Objections, OverlayError, Recovered, compare_text,
};
use serde::Serialize;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Most paths of one kind that a refusal or a question lists.
const LISTED_MAX: usize = 50;

/// Take over what a session changed behind its overlay, all of it or the chosen paths
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  omni apply last\n  omni apply last src docs/guide.md\n  \
    omni apply last --except node_modules --executables")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// Only these paths of the workspace, and what lies below them
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Leave these paths and what lies below them (repeatable)
    #[arg(long, value_name = "PATH")]
    except: Vec<PathBuf>,
    /// Take also what may be executed on the host, without asking
    #[arg(long, visible_alias = "yes")]
    executables: bool,
    /// Take also what is odd and harmless: links that lead out, named pipes, strange names
    #[arg(long)]
    allow_odd: bool,
    /// Take the session's version also where the host changed a path meanwhile, and lose the host's
    #[arg(long)]
    overwrite: bool,
    /// Print one JSON object for each path that was taken over
    #[arg(long)]
    json: bool,
}

/// A path that was taken over, as `--json` prints it.
#[derive(Serialize)]
struct AppliedLine<'a> {
    session: &'a str,
    path: String,
    change: &'static str,
}

/// Takes the changes over.
///
/// # Errors
/// Whatever speaks against it. Then nothing was changed, but for what an earlier attempt had begun.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let Found { session, status } = changes::find(&args.session, viewer)?;
    if !status.is_over() {
        return Err(OverlayError::Running(session, "apply").into());
    }
    let held = Held::take(viewer.home(), &session)?;
    let (applying, applied) = viewer.with_their_rights(|| take(args, held))??;
    applying.close(&applied)?;
    for (path, kind) in &applied.paths {
        if args.json {
            let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
            let line = AppliedLine { session: session.as_str(), path, change: kind.as_str() };
            listing::emit(&listing::json_line(&line)?)?;
        }
    }
    if !args.json {
        let left = match applied.left {
            0 => "nothing is left".to_owned(),
            left => format!("{left} left; omni diff {session}"),
        };
        listing::emit(&format!("{} applied; {left}\n", applied.paths.len()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes over what the command line says, once nothing speaks against it.
fn take(args: &Args, held: Held) -> anyhow::Result<(Applying, Applied)> {
    let mut applying = Applying::begin(held)?;
    match applying.recovered() {
        Some(Recovered::Finished) => eprintln!("An earlier attempt was cut short; it is finished now."),
        Some(Recovered::PutBack) => eprintln!("An earlier attempt was cut short; it was put back."),
        None => {}
    }
    let choice =
        Choice { paths: meant(&args.paths, applying.layer())?, except: meant(&args.except, applying.layer())? };
    let mut consent = Consent { executables: args.executables, odd: args.allow_odd, overwrite: args.overwrite };
    let objections = applying.objections(&choice, consent)?;
    if let [only_executables] = questions(&objections).as_slice()
        && io::stdin().is_terminal()
        && io::stderr().is_terminal()
    {
        consent.executables = ask(only_executables)?;
        anyhow::ensure!(consent.executables, "nothing was applied");
    } else if !objections.are_none() {
        tell(&objections, &applying)?;
        return Err(OverlayError::Refused.into());
    }
    let applied = applying.take(&choice, consent)?;
    Ok((applying, applied))
}

/// What may be executed, where nothing else speaks against it: a question rather than a refusal.
fn questions(objections: &Objections) -> Vec<&[Change]> {
    let Objections { conflicts, never, odd, executables } = objections;
    match conflicts.is_empty() && never.is_empty() && odd.is_empty() && !executables.is_empty() {
        true => vec![executables],
        false => Vec::new(),
    }
}

fn ask(executables: &[Change]) -> anyhow::Result<bool> {
    let mut err = io::stderr().lock();
    writeln!(err, "These may be executed on the host:\n{}", listed(executables))?;
    write!(err, "Apply them? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), 1024).read_line_into(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads one line of what a bounded reader gives.
trait ReadLineInto {
    fn read_line_into(self, line: &mut String) -> io::Result<usize>;
}

impl<R: BufRead> ReadLineInto for io::Take<R> {
    fn read_line_into(mut self, line: &mut String) -> io::Result<usize> {
        self.read_line(line)
    }
}

/// Everything that speaks against it, and what to do.
fn tell(objections: &Objections, applying: &Applying) -> anyhow::Result<()> {
    let Objections { conflicts, never, odd, executables } = objections;
    let sections = [
        (never, "never applied", "leave them out with `--except PATH`"),
        (
            conflicts,
            "changed on the host too",
            "leave them out with `--except PATH`, or take the session's with `--overwrite`",
        ),
        (odd, "odd", "leave them out with `--except PATH`, or take them with `--allow-odd`"),
        (
            executables,
            "may be executed on the host",
            "look at them with `omni diff`, then take them with `--executables`",
        ),
    ];
    let mut text = String::new();
    for (list, what, advice) in sections.into_iter().filter(|(list, ..)| !list.is_empty()) {
        text.push_str(&format!("{what}; {advice}:\n{}", listed(list)));
    }
    for change in conflicts.iter().take(LISTED_MAX) {
        text.push_str(&three_way(change, applying)?);
    }
    eprint!("{text}");
    Ok(())
}

fn listed(list: &[Change]) -> String {
    let mut text: String =
        list.iter().take(LISTED_MAX).map(|change| format!("  {}", changes::line(change, None))).collect();
    if list.len() > LISTED_MAX {
        text.push_str(&format!("  and {} more\n", list.len() - LISTED_MAX));
    }
    text
}

/// A conflict's two sides: when the host changed its own, and how the session's differs from it.
fn three_way(change: &Change, applying: &Applying) -> anyhow::Result<String> {
    let is_file = |facts: Option<crate::session::overlay::Facts>| facts.is_some_and(|facts| facts.kind == Kind::File);
    if !(is_file(change.before) && is_file(change.after)) {
        return Ok(String::new());
    }
    let limit = crate::session::overlay::TEXT_BYTES_MAX + 1;
    let before = applying.changes().read_before(&change.path, limit)?;
    let after = applying.changes().read_after(&change.path, limit)?;
    Ok(match compare_text(&before, &after) {
        crate::session::overlay::Comparison::Text { unified, .. } => {
            format!("\n--- {} on the host\n+++ {} in the session\n{unified}", change.path, change.path)
        }
        _ => String::new(),
    })
}
