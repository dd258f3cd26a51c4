//! How people are asked, as far as a session's caller says.

use std::time::Duration;

/// How long a question waits for an answer, unless told otherwise.
const WITHIN: Duration = Duration::from_secs(600);

/// How people are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// How long a question waits for an answer before it is denied.
    pub within: Duration,
    /// Whether a question is told in one line with a bell alone, rather than drawn over the terminal.
    pub line: bool,
    /// Whether the desktop is not told.
    pub silent: bool,
}

impl Asking {
    /// Longest that a question can wait for an answer.
    pub const WITHIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);
}

impl Default for Asking {
    fn default() -> Self {
        Self { within: WITHIN, line: false, silent: false }
    }
}
