//! What is done to a file, as the write gate judges and records it.

use serde::{Deserialize, Serialize};

/// An act on a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAct {
    /// Opening it for writing, making it where it is missing, or cutting it off.
    Write,
    /// Making a directory, a named pipe or a socket.
    Make,
    /// Removing it.
    Remove,
    /// Giving it another name.
    MoveAway,
    /// Giving it to something that had another name.
    MoveHere,
    /// Making a link, symbolic or hard, or linking it elsewhere.
    Link,
    /// Changing permissions, owners or extended attributes.
    Attributes,
}

impl FileAct {
    /// Whether what lies below the name comes or goes with it.
    #[must_use]
    pub fn moves_what_is_below(self) -> bool {
        matches!(self, Self::MoveAway | Self::MoveHere | Self::Link)
    }

    /// The word for it, as the journal has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Make => "make",
            Self::Remove => "remove",
            Self::MoveAway => "move_away",
            Self::MoveHere => "move_here",
            Self::Link => "link",
            Self::Attributes => "attributes",
        }
    }
}
