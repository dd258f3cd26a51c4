//! `omni audit forget`: destroying what sessions recorded of bodies and of their terminals, and keeping it for no longer than a
//! rule says.

use crate::cli::listing::Viewer;
use crate::cli::spend::parse_since;
use crate::model::{Event, SessionId, Timestamp, Writer};
use crate::session::user_name;
use crate::store::{Journal, PrivateParts, Recorder, Status, Store, Summary, destroy_private_parts};
use anyhow::{Context, bail, ensure};
use std::process::ExitCode;

/// Destroy what sessions recorded of bodies and of their terminals; what their journals say stays, and stays proven
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit forget 4f2\n  omni audit forget --older-than 30d\n  omni audit forget --keep-bytes \
    1000000000"
)]
pub(super) struct ForgetArgs {
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "SESSION", required_unless_present_any = ["older_than", "keep_bytes"])]
    session: Option<String>,
    /// Of every session that ended before: a time (RFC 3339), a date (UTC), or how long ago, such as 30d
    #[arg(long, value_name = "T", conflicts_with = "session")]
    older_than: Option<String>,
    /// Of the sessions that ended first, until no more than this is left of all
    #[arg(long, value_name = "BYTES", conflicts_with = "session")]
    keep_bytes: Option<u64>,
}

/// A session with private parts that is over.
struct Candidate {
    session: SessionId,
    ended: Timestamp,
    parts: PrivateParts,
}

/// Does what was asked.
///
/// # Errors
/// When a session is not over, or something of it cannot be destroyed.
pub(super) fn run(args: &ForgetArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    ensure!(viewer.sees_all(), "only root can have anything forgotten that the machine's server recorded");
    let mut store = viewer.open()?;
    let chosen = match &args.session {
        Some(wanted) => {
            let session = store.find(wanted)?;
            let (summary, status) = store.session(&session)?;
            if let Some(machine) = store.elsewhere(&session)? {
                bail!("what is private of session {session} is on {machine}: forget it there");
            }
            ensure!(status.is_over(), "session {session} is still going on: forget it once it is over");
            vec![(candidate(summary, viewer), "asked".to_owned())]
        }
        None => by_rule(args, store.as_ref(), viewer)?,
    };
    let (mut sessions, mut bytes) = (0, 0);
    for (Candidate { session, parts, .. }, reason) in chosen {
        // No effect, no record.
        if parts.is_empty() {
            eprintln!("omni: nothing private is left of session {session}, if it had any");
            continue;
        }
        forget(store.as_mut(), viewer, &session, parts, reason).with_context(|| format!("session {session}"))?;
        (sessions, bytes) = (sessions + 1, bytes + parts.bodies + parts.recording);
    }
    eprintln!("omni: {bytes} bytes of {sessions} sessions forgotten");
    Ok(ExitCode::SUCCESS)
}

fn candidate(summary: Summary, viewer: &Viewer) -> Candidate {
    let parts = PrivateParts::of(viewer.home(), &summary.session);
    let ended = summary.ended.or(summary.started).unwrap_or_default();
    Candidate { session: summary.session, ended, parts }
}

/// What the rules of retention say must go, the oldest first, each with the rule.
fn by_rule(args: &ForgetArgs, store: &dyn Store, viewer: &Viewer) -> anyhow::Result<Vec<(Candidate, String)>> {
    let now = Timestamp(jiff::Timestamp::now().as_microsecond());
    let before = args.older_than.as_deref().map(|text| parse_since(text, now)).transpose()?;
    let over = |(summary, status): (Summary, Status)| status.is_over().then(|| candidate(summary, viewer));
    let mut all: Vec<_> = store.sessions()?.into_iter().filter_map(over).collect();
    all.retain(|candidate| !candidate.parts.is_empty());
    all.sort_by_key(|candidate| candidate.ended);
    let mut left: u64 = all.iter().map(|candidate| candidate.parts.bodies + candidate.parts.recording).sum();
    let mut chosen = Vec::new();
    for candidate in all {
        let bytes = candidate.parts.bodies + candidate.parts.recording;
        let reason = match (&args.older_than, args.keep_bytes) {
            (Some(text), _) if before.is_some_and(|before| candidate.ended < before) => format!("older than {text}"),
            (_, Some(most)) if left > most => format!("beyond {most} bytes"),
            _ => continue,
        };
        left -= bytes;
        chosen.push((candidate, reason));
    }
    Ok(chosen)
}

/// Records that a session's private parts go, and destroys them.
fn forget(
    store: &mut dyn Store,
    viewer: &Viewer,
    session: &SessionId,
    parts: PrivateParts,
    reason: String,
) -> anyhow::Result<()> {
    let PrivateParts { bodies, recording, .. } = parts;
    let now = Timestamp(jiff::Timestamp::now().as_microsecond());
    let mut journal = Journal::reopen(viewer.home(), session, Writer::Changes)?;
    journal.record(now, &Event::PrivatePartsForgotten { user: user_name(), reason, bodies, recording })?;
    journal.sync()?;
    destroy_private_parts(viewer.home(), session)?;
    drop(journal);
    Ok(store.fold(session)?)
}
