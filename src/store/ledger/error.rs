//! What can go wrong with the ledger, and what to do about it.

use crate::ledger::FormatError;
use std::io;
use std::path::PathBuf;

/// A failed step of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file could not be opened, read, written or brought to the disk.
    #[error("cannot {step} {}: {cause}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another process keeps it locked.
    #[error("the ledger {} is in use by another omni that does not finish; try again in a moment", path.display())]
    Busy {
        /// The file with the entries.
        path: PathBuf,
    },
    /// It goes on elsewhere.
    #[error(
        "the ledger in {} goes on at {to}, so nothing is added to it here: name that store by `--store`, by OMNI_STORE or in \
         the home's file `store`",
        directory.display()
    )]
    Moved {
        /// The ledger's directory.
        directory: PathBuf,
        /// The store, without its password.
        to: String,
    },
    /// It is shorter than it was.
    #[error(
        "the ledger has {left} entries and had {written}: its end was cut off, or an old copy was put in its place. Nothing \
         is added to it until the file is back; the journals keep what happens meanwhile. `omni audit verify` tells more"
    )]
    Cut {
        /// How many entries it had.
        written: u64,
        /// How many are left.
        left: u64,
    },
    /// A frame that was to be added does not follow what is there.
    #[error(
        "the ledger lacks frames of the {writer} journal of session {session} before frame {seq}: nothing is added to it; \
         `omni audit verify` tells more"
    )]
    Gap {
        /// The session.
        session: String,
        /// The journal.
        writer: &'static str,
        /// The frame that should be added.
        seq: u64,
    },
    /// The signing key's file can be read by others, or is not ours.
    #[error("others could use the key {}, so nothing is signed with it: {why}", path.display())]
    KeyOpen {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The signing key is not the ledger's.
    #[error("the key {} is not the one that the ledger names: it was exchanged; put the right one back", path.display())]
    KeyForeign {
        /// The file.
        path: PathBuf,
    },
    /// The signing key is gone.
    #[error("the ledger's key {} is missing, so nothing can be signed; put it back from a copy", path.display())]
    KeyMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file holds something else than it should.
    #[error("{}: {fault}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: FormatError,
    },
    /// What would be signed contradicts what was signed.
    #[error(
        "the ledger's last checkpoint, of {size} entries, does not describe its beginning: it was rewritten, so nothing is \
         signed; `omni audit verify` tells more"
    )]
    Contradiction {
        /// The size of the checkpoint.
        size: u64,
    },
    /// No such entry.
    #[error("{what} is not in the ledger")]
    Missing {
        /// What was asked for.
        what: String,
    },
    /// The system gave no random numbers.
    #[error("the system gave no random numbers for a key")]
    Entropy,
}
