//! `omni sessions`: what ran, what runs, what it cost.

use super::listing::{self, Viewer};
use super::server::Route;
use crate::model::{ExitStatus, Usage};
use crate::session::overlay::is_waiting;
use crate::store::{Status, Summary};
use serde::Serialize;
use std::process::ExitCode;

/// List sessions, the newest first
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni sessions\n  omni sessions --json | jq -r 'select(.denied > 0).session'")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// Print one JSON object for each session
    #[arg(long)]
    json: bool,
}

/// What begins every JSON object about a session.
#[derive(Serialize)]
pub(super) struct SessionHead<'a> {
    session: &'a str,
    name: Option<&'a str>,
    user: Option<&'a str>,
    profile: Option<&'a str>,
    status: &'static str,
    exit: Option<ExitStatus>,
    started: Option<String>,
    ended: Option<String>,
    argv: &'a [String],
    workspace: Option<&'a str>,
    policy_hash: Option<&'a str>,
}

impl<'a> SessionHead<'a> {
    pub(super) fn new(summary: &'a Summary, status: Status) -> Self {
        Self {
            session: summary.session.as_str(),
            name: summary.name.as_deref(),
            user: summary.user.as_deref(),
            profile: summary.profile.as_deref(),
            status: status.as_str(),
            exit: summary.exit,
            started: summary.started.map(|at| at.to_rfc3339()),
            ended: summary.ended.map(|at| at.to_rfc3339()),
            argv: &summary.argv,
            workspace: summary.workspace.as_deref(),
            policy_hash: summary.policy_hash.as_deref(),
        }
    }
}

/// A session as `--json` prints it.
#[derive(Serialize)]
pub(super) struct SessionLine<'a> {
    #[serde(flatten)]
    head: SessionHead<'a>,
    allowed: u64,
    denied: u64,
    refused: u64,
    failed: u64,
    model_calls: u64,
    model_calls_inexact: u64,
    cost_usd: String,
    usage: Usage,
    fault: Option<&'a str>,
    /// Whether an overlay keeps what it changed.
    changes_wait: bool,
}

impl<'a> SessionLine<'a> {
    pub(super) fn new(summary: &'a Summary, status: Status, changes_wait: bool) -> Self {
        Self {
            changes_wait,
            head: SessionHead::new(summary, status),
            allowed: summary.requests.allowed,
            denied: summary.requests.denied,
            refused: summary.requests.refused,
            failed: summary.requests.failed,
            model_calls: summary.calls,
            model_calls_inexact: summary.inexact,
            cost_usd: summary.cost.to_decimal(),
            usage: summary.usage,
            fault: summary.fault.as_deref(),
        }
    }
}

/// Lists the sessions.
///
/// # Errors
/// When the store cannot be opened or read.
pub(super) fn run(args: Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let sessions = viewer.open()?.sessions()?;
    let waits = |summary: &Summary| is_waiting(viewer.home(), &summary.session);
    if sessions.is_empty() {
        eprintln!("There is no session yet; `omni exec -- COMMAND` runs one.");
    } else if args.json {
        for (summary, status) in &sessions {
            listing::emit(&listing::json_line(&SessionLine::new(summary, *status, waits(summary)))?)?;
        }
    } else {
        listing::emit(&human(&sessions, waits))?;
    }
    for (summary, _) in &sessions {
        if let Some(fault) = &summary.fault {
            let fault = listing::printable(fault).into_owned();
            eprintln!("warning: session {}: {fault}; `omni audit verify` says more", summary.session);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn human(sessions: &[(Summary, Status)], waits: impl Fn(&Summary) -> bool) -> String {
    let columns = ["SESSION", "STARTED (UTC)", "PROFILE", "STATUS", "ALLOWED", "DENIED", "COST", "NAME"];
    let row = |(summary, status): &(Summary, Status)| {
        vec![
            summary.session.to_string(),
            summary.started.map(listing::second).unwrap_or_default(),
            summary.profile.clone().unwrap_or_default(),
            format!("{}{}", ending(*status, summary), if waits(summary) { ", changes wait" } else { "" }),
            summary.requests.allowed.to_string(),
            summary.requests.denied.saturating_add(summary.requests.refused).to_string(),
            listing::money(summary.cost, summary.inexact),
            summary.name.clone().unwrap_or_default(),
        ]
    };
    listing::table(&columns, &["ALLOWED", "DENIED", "COST"], sessions.iter().map(row).collect())
}

/// The status, with how omni exited where that says more, and a mark where a journal is damaged.
pub(super) fn ending(status: Status, summary: &Summary) -> String {
    let name = status.as_str().replace('_', " ");
    let exit = match summary.exit {
        Some(ExitStatus::Code(0)) | None => String::new(),
        Some(ExitStatus::Code(code)) => format!(", exit {code}"),
        Some(ExitStatus::Signal(signal)) => format!(", signal {signal}"),
    };
    let mark = if summary.fault.is_some() { " (damaged)" } else { "" };
    format!("{name}{exit}{mark}")
}
