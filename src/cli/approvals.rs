//! `omni approvals`, `omni approve`, `omni deny`: what sessions ask, and answering them.

use super::listing::{self, Viewer};
use super::server::Route;
use crate::model::Timestamp;
use crate::session;
use crate::store::{Approval, Approvals};
use anyhow::Context;
use serde_json::json;
use std::process::ExitCode;

/// List the questions that sessions wait for an answer to
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni approvals\n  omni approvals --json")]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// Print one JSON object for each question
    #[arg(long)]
    json: bool,
}

/// Say yes to a question of a session
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni approve last\n  omni approve last --session")]
pub struct ApproveArgs {
    #[command(flatten)]
    pub(super) route: Route,
    /// A question: its id or the beginning of it, or `last`
    #[arg(value_name = "ID")]
    question: String,
    /// Yes to this request alone, as without any flag
    #[arg(long, conflicts_with = "session")]
    once: bool,
    /// Yes to requests like it for the rest of the session
    #[arg(long)]
    session: bool,
}

/// Say no to a question of a session
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni deny last --reason 'not on a Friday'")]
pub struct DenyArgs {
    #[command(flatten)]
    pub(super) route: Route,
    /// A question: its id or the beginning of it, or `last`
    #[arg(value_name = "ID")]
    question: String,
    /// Why, which the harness is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

fn pending(viewer: &Viewer) -> anyhow::Result<Vec<Approval>> {
    Ok(Approvals::open(viewer.home())?.pending(viewer.user())?)
}

/// Lists.
///
/// # Errors
/// When the store cannot be opened or read.
pub(super) fn run(args: &Args, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let pending = pending(viewer)?;
    if pending.is_empty() {
        eprintln!("Nobody waits for an answer.");
    }
    for approval in &pending {
        listing::emit(&if args.json { listing::json_line(&as_json(approval))? } else { human(approval) })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(approval: &Approval) -> serde_json::Value {
    json!({
        "id": approval.id(), "session": approval.session.as_str(), "question": approval.question,
        "user": approval.user, "asked": approval.asked.to_rfc3339(), "expires": approval.expires.to_rfc3339(),
        "what": approval.what, "why": approval.why, "rule": approval.rule, "preview": approval.preview,
        "digest": approval.digest, "cost_usd": approval.cost.to_decimal(),
    })
}

fn human(approval: &Approval) -> String {
    let left = (approval.expires.0 - Timestamp(jiff::Timestamp::now().as_microsecond()).0).max(0) / 1_000_000;
    let Approval { user, what, why, rule, preview, digest, cost, .. } = approval;
    let mut lines = vec![
        approval.id(),
        format!("  what     {what}"),
        format!("  why      {why}"),
        format!("  of       {user}, {} spent, {left} s left to answer", listing::money(*cost, 0)),
        format!("  digest   {digest}"),
    ];
    lines.extend(rule.as_ref().map(|rule| format!("  covers   {rule} (with --session)")));
    let shown = |line: &str| format!("  | {}", line.chars().take(200).collect::<String>());
    lines.extend(preview.lines().take(12).map(shown));
    lines.iter().map(|line| format!("{}\n", listing::printable(line))).collect()
}

/// The question that a person means.
fn find(viewer: &Viewer, wanted: &str) -> anyhow::Result<Approval> {
    let mut pending = pending(viewer)?;
    if wanted == "last" {
        return pending.pop().context("nobody waits for an answer");
    }
    let exact = pending.iter().position(|approval| approval.id() == wanted);
    let begins: Vec<_> =
        (0..pending.len()).filter(|index| pending[*index].id().starts_with(wanted) && !wanted.is_empty()).collect();
    match (exact, begins.as_slice()) {
        (Some(index), _) => Ok(pending.swap_remove(index)),
        (None, [index]) => Ok(pending.swap_remove(*index)),
        (None, []) => anyhow::bail!(
            "no question `{}` waits for an answer: `omni approvals` lists those that do",
            wanted.escape_debug()
        ),
        (None, _) => anyhow::bail!("several questions begin with `{}`: write more of it", wanted.escape_debug()),
    }
}

/// Says yes.
///
/// # Errors
/// When there is no such question, or another answer was first.
pub(super) fn approve(args: &ApproveArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let word = if args.session && !args.once { "session" } else { "once" };
    answer(viewer, &args.question, (word, None))
}

/// Says no.
///
/// # Errors
/// As [`approve`].
pub(super) fn deny(args: &DenyArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    answer(viewer, &args.question, ("deny", args.reason.as_deref()))
}

fn answer(viewer: &Viewer, wanted: &str, answer: (&str, Option<&str>)) -> anyhow::Result<ExitCode> {
    let Approval { session, question, .. } = find(viewer, wanted)?;
    // A session of another's is as if it were not there.
    let session = viewer.open()?.find(session.as_str())?;
    session::answer(viewer.home(), &session, question, answer, viewer.user())?;
    Ok(ExitCode::SUCCESS)
}
