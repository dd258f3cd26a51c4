//! One entry of the ledger with all that is told of it outside.

use crate::ledger::{Hash, event_of};
use crate::model::{Event, SessionId, Timestamp};

/// Where entries come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The machine's name.
    pub host: String,
    /// The ledger's name; none where it has no key yet.
    pub ledger: Option<String>,
    /// The version of omni that encodes.
    pub omni_version: String,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its index in the ledger, from 0, which `omni audit prove --entry` takes; none where it is not entered.
    pub entry: Option<u64>,
    /// The hash of its leaf in the ledger's tree, which a receipt proves.
    pub leaf: Option<Hash>,
    /// What it stands for.
    pub recorded: Recorded,
}

/// What an entry stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// A frame of a journal.
    Frame(Frame),
    /// A key that signs the ledger from there on.
    Key {
        /// Which one, from 1.
        number: u64,
        /// The public key.
        public: [u8; 32],
    },
    /// Of a later version.
    Other {
        /// The kind.
        kind: u8,
    },
}

/// A frame of a journal: one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The session.
    pub session: SessionId,
    /// On whose behalf the session runs, where that is known.
    pub user: Option<String>,
    /// The event's number within the session, from 1.
    pub number: u64,
    /// The journal.
    pub writer: String,
    /// Its number there, from 1.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The event's name.
    pub kind: String,
    /// The event, exactly as it was recorded.
    pub json: String,
}

impl Record {
    /// The event's name; entries that stand for no frame have one that no event has.
    #[must_use]
    pub fn kind(&self) -> &str {
        match &self.recorded {
            Recorded::Frame(frame) => &frame.kind,
            Recorded::Key { .. } => "ledger_key",
            Recorded::Other { .. } => "ledger_entry",
        }
    }

    /// Whether it tells of something that was refused, broke or ran out.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        const WARNINGS: [&str; 12] = [
            "budget_reached",
            "changes_rolled_back",
            "connection_refused",
            "file_refusals_untold",
            "file_refused",
            "limit_reached",
            "output_filtered",
            "recording_stopped",
            "request_denied",
            "request_failed",
            "secret_missing",
            "ssh_refused",
        ];
        WARNINGS.contains(&self.kind())
    }

    /// When it was recorded, where that is known.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.frame().map(|frame| frame.at)
    }

    /// The frame, where it stands for one.
    #[must_use]
    pub fn frame(&self) -> Option<&Frame> {
        match &self.recorded {
            Recorded::Frame(frame) => Some(frame),
            Recorded::Key { .. } | Recorded::Other { .. } => None,
        }
    }

    /// The event; none of an entry that stands for none, or of a later version's.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        event_of(&self.frame()?.json)
    }

    /// The hash of its leaf, in hexadecimal.
    #[must_use]
    pub fn leaf_hex(&self) -> Option<String> {
        self.leaf.map(|leaf| leaf.to_string())
    }

    /// What names it among all of this installation, also where it is not in the ledger.
    #[must_use]
    pub fn uid(&self) -> String {
        match (self.entry, &self.recorded) {
            (Some(entry), _) => entry.to_string(),
            (None, Recorded::Frame(frame)) => format!("{}#{}", frame.session, frame.number),
            (None, Recorded::Key { number, .. }) => format!("key {number}"),
            (None, Recorded::Other { kind }) => format!("kind {kind}"),
        }
    }
}
