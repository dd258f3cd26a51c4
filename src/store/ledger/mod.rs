//! The ledger of an installation: one hash tree over the frames of all journals, in `$OMNI_HOME/ledger/`.
//!
//! `entries` holds 64 bytes for each frame that was ever folded, in the order in which they were; `hashes.N` what is kept of
//! the tree above them; `checkpoint` the ledger's size and root as they were signed last; `key` the key that signs;
//! `handover.N` the checkpoint by which the key before handed over to key N. docs/ledger-format.md tells every byte.
//!
//! Appending is cheap and happens with each fold. Signing waits for the disk, so it happens when somebody asks: what is
//! signed was brought to the disk before, and can never be un-happened by a loss of power.

mod check;
mod entered;
mod entries;
mod error;
mod files;
mod key;
mod sign;
mod table;
mod tiles;
mod walk;
mod witness;

#[cfg(test)]
mod tests;

pub use check::{LedgerFinding, LedgerReport};
pub use entries::LedgerEntry;
pub use error::LedgerError;
pub use key::{SigningKey, check_signature};
pub use sign::{Checkpointed, LedgerKey};
pub use tiles::Exported;
pub use witness::{Witness, WitnessError};

pub(super) use check::{Check, read_kept};
pub(super) use entered::Entered;
pub(super) use entries::{entries, places, size};
pub(super) use files::{Files, mark_moved, moved_to, note_files};
pub(super) use sign::{
    CHECKPOINT, OpenBook, announce, checkpoint, keep_cosigned, keep_signatures, keys, receipt, receipt_of_entry,
    rotate, sign, submission, submission_of, succeed,
};
pub(super) use table::{FoldedFrame, append_folded, first_unlike, known};
pub(super) use tiles::export;
pub(super) use walk::Walk;

use super::{Home, StoreError};
use crate::ledger::{Checkpoint, NOTE_BYTES_MAX, Note, POLICY_BYTES_MAX, WitnessPolicy};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The checkpoint in a file, signed by whomever; none where there is no file.
pub(super) fn read_checkpoint(path: &Path) -> Result<Option<(Note, Checkpoint)>, StoreError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|cause| LedgerError::File { step: "read", path: path.to_owned(), cause })?,
    };
    let mut bytes = Vec::new();
    let read = file.take(NOTE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|cause| LedgerError::File { step: "read", path: path.to_owned(), cause })?;
    let format = |fault| LedgerError::Format { path: path.to_owned(), fault };
    let note = Note::parse(&bytes).map_err(format)?;
    let checkpoint = Checkpoint::parse(&note.text).map_err(format)?;
    Ok(Some((note, checkpoint)))
}

/// A policy of witnesses, out of its file.
pub(super) fn read_policy(path: &Path) -> Result<WitnessPolicy, StoreError> {
    let failed = |cause| LedgerError::File { step: "read", path: path.to_owned(), cause };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(POLICY_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    let format = |fault| LedgerError::Format { path: path.to_owned(), fault };
    Ok(WitnessPolicy::parse(&text).map_err(format)?)
}

/// How many entries were signed, and so brought to the disk, for certain.
fn checkpoint_size(home: &Home) -> Result<u64, StoreError> {
    let found = read_checkpoint(&home.ledger().join("checkpoint"))?;
    Ok(found.map_or(0, |(_, checkpoint)| checkpoint.size))
}
