//! The end of a session: what omni itself exits with, and what it says about it.

use super::relay::Ended;
use crate::model::{EndReason, ExitStatus, SessionId};
use crate::store::Summary;

/// Exit code when omni failed before the harness started.
pub(super) const EXIT_OMNI_FAILED: i32 = 125;
/// Exit code when the program could not be executed.
pub(super) const EXIT_NOT_EXECUTABLE: i32 = 126;
/// Exit code when the program was not found.
pub(super) const EXIT_NOT_FOUND: i32 = 127;
/// Exit code when the session's time was up.
pub(super) const EXIT_TIMEOUT: i32 = 121;

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

/// What omni exits with for an end, and what it says.
pub(super) fn conclude(ended: &Ended, program: &str) -> (ExitStatus, Option<String>) {
    if let Some((number, text)) = &ended.not_started {
        let code = if *number == libc::ENOENT { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE };
        let mut message = format!("{program} could not be executed inside the sandbox: {text}");
        if *number == libc::ENOENT {
            // The program itself was found before the start.
            message.push_str("; what its first line names, or its loader, is not there");
        }
        return (ExitStatus::Code(code), Some(message));
    }
    match (ended.reason, ended.status) {
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
pub(super) fn summarise(summary: &Summary) -> String {
    let requests = summary.requests;
    let refused = requests.denied + requests.refused;
    let doubt = if summary.inexact > 0 { " (not exact)" } else { "" };
    format!("{} requests allowed, {refused} refused, {}{doubt}", requests.allowed, summary.cost)
}
