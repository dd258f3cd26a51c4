//! `omni approvals`, `omni approve`, `omni deny`: what sessions ask, and answering them.

use super::listing::{self, Viewer};
use super::server::Route;
use crate::model::Timestamp;
use crate::session;
use crate::store::{Approval, Approvals, Longest, StandingConsent, read_consents, take_consent_back};
use anyhow::Context;
use serde_json::json;
use std::process::ExitCode;

/// List the questions that sessions wait for an answer to
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni approvals\n  omni approvals --json\n  omni approvals consents\n  omni approvals \
    revoke nzejr9kmpgz15e8g-1"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// Print one JSON object for each question
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// List the consents that were given with `omni approve --always`
    #[command(after_help = "Example:\n  omni approvals consents --json")]
    Consents {
        /// Print one JSON object for each consent
        #[arg(long)]
        json: bool,
    },
    /// Take a consent back: people are asked again, in sessions that run as well
    #[command(after_help = "Example:\n  omni approvals revoke nzejr9kmpgz15e8g-1")]
    Revoke {
        /// A consent's id, or the beginning of it
        #[arg(value_name = "ID")]
        consent: String,
    },
}

/// Say yes to a question of a session
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni approve last\n  omni approve last --session\n  omni approve last --always")]
pub struct ApproveArgs {
    #[command(flatten)]
    pub(super) route: Route,
    /// A question: its id or the beginning of it, or `last`
    #[arg(value_name = "ID")]
    question: String,
    /// Yes to this request alone, as without any flag
    #[arg(long, conflicts_with_all = ["session", "always"])]
    once: bool,
    /// Yes to requests like it for the rest of the session
    #[arg(long, conflicts_with = "always")]
    session: bool,
    /// Yes to requests like it from now on, in later sessions of the same profile and workspace, too
    #[arg(long)]
    always: bool,
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
    match &args.verb {
        Some(Verb::Consents { json }) => return list_consents(*json || args.json, viewer),
        Some(Verb::Revoke { consent }) => return revoke(consent, viewer),
        None => {}
    }
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
        "yes": words(approval.longest).collect::<Vec<_>>(),
    })
}

/// Each time that a yes can count for, the shortest first.
fn words(longest: Longest) -> impl Iterator<Item = &'static str> {
    Longest::ALL.into_iter().filter(move |shorter| *shorter <= longest).map(Longest::word)
}

fn human(approval: &Approval) -> String {
    let left = (approval.expires.0 - Timestamp(jiff::Timestamp::now().as_microsecond()).0).max(0) / 1_000_000;
    let Approval { user, what, why, rule, preview, digest, cost, longest, .. } = approval;
    let mut lines = vec![
        approval.id(),
        format!("  what     {what}"),
        format!("  why      {why}"),
        format!("  of       {user}, {} spent, {left} s left to answer", listing::money(*cost, 0)),
        format!("  digest   {digest}"),
    ];
    let flags: Vec<_> = words(*longest).map(|word| format!("--{word}")).collect();
    lines.push(format!("  yes      omni approve {} {}", approval.id(), flags.join(" | ")));
    if *longest > Longest::Once {
        let covered = rule.iter().flat_map(|rules| rules.lines());
        lines.extend(covered.map(|rule| format!("  covers   {rule} (with {})", flags[1..].join(" or "))));
    }
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
    let word = match (args.session, args.always) {
        (_, true) => "always",
        (true, _) => "session",
        _ => "once",
    };
    let approval = answer(viewer, &args.question, (word, None))?;
    if args.always {
        let id = approval.id();
        eprintln!("consented from now on, as {id}; `omni approvals revoke {id}` takes it back:");
        for rule in approval.rule.iter().flat_map(|rules| rules.lines()) {
            eprintln!("  {}", listing::printable(rule));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says no.
///
/// # Errors
/// As [`approve`].
pub(super) fn deny(args: &DenyArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    answer(viewer, &args.question, ("deny", args.reason.as_deref()))?;
    Ok(ExitCode::SUCCESS)
}

fn answer(viewer: &Viewer, wanted: &str, answer: (&str, Option<&str>)) -> anyhow::Result<Approval> {
    let approval = find(viewer, wanted)?;
    // A session of another's is as if it were not there.
    let session = viewer.open()?.find(approval.session.as_str())?;
    session::answer(viewer.home(), &session, approval.question, answer, viewer.user())?;
    Ok(approval)
}

/// The consents that this viewer may see.
fn consents(viewer: &Viewer) -> anyhow::Result<Vec<StandingConsent>> {
    let mut consents = read_consents(viewer.home())?;
    consents.retain(|consent| viewer.user().is_none_or(|user| user == consent.user));
    Ok(consents)
}

fn list_consents(json: bool, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let consents = consents(viewer)?;
    if consents.is_empty() {
        eprintln!("No consent counts.");
    }
    for consent in &consents {
        listing::emit(&if json { listing::json_line(&consent_json(consent))? } else { consent_text(consent) })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn consent_json(consent: &StandingConsent) -> serde_json::Value {
    let StandingConsent { id, user, profile, workspace, covers, asked_by, by, session, at } = consent;
    json!({
        "id": id, "user": user, "profile": profile, "workspace": workspace, "covers": covers, "asked_by": asked_by,
        "by": by, "session": session.as_str(), "at": at.to_rfc3339(),
    })
}

fn consent_text(consent: &StandingConsent) -> String {
    let StandingConsent { id, profile, workspace, covers, asked_by, by, at, .. } = consent;
    let mut lines = vec![id.clone()];
    lines.extend(covers.iter().map(|rule| format!("  covers   {rule}")));
    lines.extend(asked_by.iter().map(|rule| format!("  answers  {rule}")));
    lines.push(format!("  for      the profile {profile} in {workspace}"));
    lines.push(format!("  given    {} by {by}", listing::second(*at)));
    lines.iter().map(|line| format!("{}\n", listing::printable(line))).collect()
}

fn revoke(wanted: &str, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let consents = consents(viewer)?;
    let named: Vec<_> =
        consents.iter().filter(|consent| consent.id.starts_with(wanted) && !wanted.is_empty()).collect();
    let exact = named.iter().find(|consent| consent.id == wanted).copied();
    let consent = match (exact, named.as_slice()) {
        (Some(consent), _) => consent,
        (None, [consent]) => *consent,
        (None, []) => anyhow::bail!(
            "there is no consent `{}`: `omni approvals consents` lists those that count",
            wanted.escape_debug()
        ),
        (None, _) => anyhow::bail!("several consents begin with `{}`: write more of it", wanted.escape_debug()),
    };
    let by = viewer.user().map_or_else(session::user_name, str::to_owned);
    take_consent_back(viewer.home(), &consent.id, &by, Timestamp(jiff::Timestamp::now().as_microsecond()))?;
    Ok(ExitCode::SUCCESS)
}
