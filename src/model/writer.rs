//! Who writes a session's journals.

use serde::{Deserialize, Serialize};

/// Which of a session's processes wrote a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writer {
    /// The process that supervises the sandbox.
    Session,
    /// The process that holds the only way out.
    Proxy,
    /// Whoever takes over or forgets, after its end, what the session changed behind an overlay, and whoever does something
    /// to the installation as a whole: one at a time.
    Changes,
}

impl Writer {
    /// Every writer a session can have.
    pub const ALL: [Self; 3] = [Self::Session, Self::Proxy, Self::Changes];

    /// The name, which is also the journal's file name without its extension.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Proxy => "proxy",
            Self::Changes => "changes",
        }
    }

    /// The number that stands for it in journals and in the ledger.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Proxy => 2,
            Self::Changes => 3,
        }
    }

    /// The writer that this number stands for.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|writer| writer.code() == code)
    }

    /// The writer of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|writer| writer.as_str() == name)
    }
}
