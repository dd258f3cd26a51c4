//! The end of a session: what omni itself exits with, and what it says about it.

use super::relay::Ended;
use crate::model::{EndReason, ExitStatus, LimitKind, ReachedLimit, SessionId};
use crate::store::Summary;

/// Exit code when omni failed before the harness started.
pub(super) const EXIT_OMNI_FAILED: i32 = 125;
/// Exit code when the program could not be executed.
pub(super) const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Exit code when the program was not found.
pub(super) const EXIT_NOT_FOUND: i32 = 127;
/// Exit code when the session's time was up.
pub(super) const EXIT_TIMEOUT: i32 = 121;

/// Exit code when the session used up its memory or its room on the disk.
pub(super) const EXIT_LIMIT: i32 = 123;

/// How a session ended, for the command line to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The session.
    pub session: SessionId,
    /// Why it ended.
    pub reason: EndReason,
    /// What omni exits with: a code, or a signal to re-raise.
    pub exit: ExitStatus,
    /// What happened, in a line.
    pub summary: String,
    /// What a person should be told, if anything went wrong.
    pub message: Option<String>,
}

/// Puts an end down to the limit that caused it: where the kernel ends the whole session at once, nobody is left inside to
/// say so, and where it ends one process, the harness may die of that.
pub(super) fn blame(ended: Ended, reached: &[ReachedLimit]) -> Ended {
    match reached.iter().any(|reached| reached.held.limit == LimitKind::Memory) {
        true => Ended { reason: EndReason::MemoryLimit, ..ended },
        false => ended,
    }
}

/// What omni exits with for an end, and what it says.
pub(super) fn conclude(ended: &Ended, reached: &[ReachedLimit], program: &str) -> (ExitStatus, Option<String>) {
    if let Some((number, text)) = &ended.not_started {
        let code = if *number == libc::ENOENT { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE };
        let mut message = format!("{program} could not be executed inside the sandbox: {text}");
        if *number == libc::ENOENT {
            // The program itself was found before the start.
            message.push_str("; what its first line names, or its loader, is not there");
        }
        return (ExitStatus::Code(code), Some(message));
    }
    let of = |limit| reached.iter().find(|reached| reached.held.limit == limit).map(ToString::to_string);
    match (ended.reason, ended.status) {
        (EndReason::MemoryLimit, _) => {
            let message =
                of(LimitKind::Memory).unwrap_or_else(|| "memory: all used up; the session was ended".to_owned());
            (ExitStatus::Code(EXIT_LIMIT), Some(message))
        }
        (EndReason::DiskLimit, _) => {
            (ExitStatus::Code(EXIT_LIMIT), of(LimitKind::Disk).or_else(|| of(LimitKind::DiskFree)))
        }
        (EndReason::Timeout, _) => (ExitStatus::Code(EXIT_TIMEOUT), Some("the session's time was up".to_owned())),
        (_, Some(status)) => (status, None),
        (EndReason::Stopped, None) => (ExitStatus::Signal(libc::SIGTERM), Some("the session was stopped".to_owned())),
        (EndReason::ProxyLost, None) => {
            let message = "the proxy died, so the sandbox was ended; nothing it recorded is lost".to_owned();
            (ExitStatus::Code(EXIT_OMNI_FAILED), Some(message))
        }
        (_, None) => (ExitStatus::Code(EXIT_OMNI_FAILED), Some("the sandbox ended without a word".to_owned())),
    }
}

/// A session in a line.
pub(super) fn summarise(summary: &Summary, reached: &[ReachedLimit]) -> String {
    let requests = summary.requests;
    let refused = requests.denied + requests.refused;
    let doubt = if summary.inexact > 0 { " (not exact)" } else { "" };
    let borne = reached.iter().filter(|reached| matches!(reached.held.limit, LimitKind::Pids | LimitKind::Cpus));
    let limits: String = borne.map(|reached| format!("; {reached}")).collect();
    format!("{} requests allowed, {refused} refused, {}{doubt}{limits}", requests.allowed, summary.cost)
}
