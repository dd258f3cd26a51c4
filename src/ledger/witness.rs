//! What a witness decides (c2sp.org/tlog-witness): it signs a checkpoint only if the ledger has merely grown.

use super::checkpoint::parse_number;
use super::merkle::{PROOF_HASHES_MAX, empty_root, is_consistent};
use super::note::{CheckSignature, NOTE_BYTES_MAX, Note, Signed, VerifierKey};
use super::{Checkpoint, FormatError, Hash};
use std::fmt;

/// Largest request that is read.
pub const SUBMISSION_BYTES_MAX: usize = NOTE_BYTES_MAX + 8192;

/// What a log asks a witness to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The size that the witness signed last, as the log believes.
    pub old: u64,
    /// Proof that the tree has only grown since.
    pub proof: Vec<Hash>,
    /// The new checkpoint.
    pub note: Note,
}

/// Why a witness does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// It knows no such log.
    #[error("this witness does not know the ledger")]
    Unknown,
    /// No key of the log that it knows signed.
    #[error("no key of the ledger that this witness knows signed the checkpoint")]
    Unsigned,
    /// The old size is larger than the new one.
    #[error("the checkpoint is smaller than what it is to follow")]
    Backwards,
    /// The last checkpoint that it signed was another.
    #[error("this witness signed a checkpoint of {0} entries last")]
    Stale(u64),
    /// As large as the last one, and another: the log has forked.
    #[error("this witness signed another checkpoint of {0} entries: the ledger has forked")]
    Forked(u64),
    /// The proof does not show that the log has only grown.
    #[error("the proof does not show that the ledger has only grown since")]
    Inconsistent,
}

impl WitnessRefusal {
    /// The status of HTTP that the protocol has for it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Unknown => 404,
            Self::Unsigned => 403,
            Self::Backwards => 400,
            Self::Stale(_) | Self::Forked(_) => 409,
            Self::Inconsistent => 422,
        }
    }
}

impl Submission {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`FormatError::Request`], or what is wrong with the checkpoint's note.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Request("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(FormatError::Request("it has no checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(parse_number);
        let old = old.ok_or(FormatError::Request("its first line is not the old size"))?;
        let proof: Option<Vec<_>> = lines.take(PROOF_HASHES_MAX + 1).map(Hash::from_base64).collect();
        let proof = proof.filter(|proof| proof.len() <= PROOF_HASHES_MAX);
        let proof = proof.ok_or(FormatError::Request("its proof is not made of hashes"))?;
        Ok(Self { old, proof, note: Note::parse(note.as_bytes())? })
    }

    /// Decides. `known` are the keys of logs that the witness was told of, `latest` the last checkpoint of this log that it
    /// signed. What is returned is to be kept before it is signed.
    ///
    /// # Errors
    /// A [`WitnessRefusal`].
    pub fn judge(
        &self,
        checkpoint: &Checkpoint,
        known: &[VerifierKey],
        latest: Option<&Checkpoint>,
        check: CheckSignature,
    ) -> Result<(), WitnessRefusal> {
        let mut keys = known.iter().filter(|key| key.name() == checkpoint.origin).peekable();
        if keys.peek().is_none() {
            return Err(WitnessRefusal::Unknown);
        }
        if !keys.any(|key| matches!(self.note.signed_by(key, check), Signed::Yes(_))) {
            return Err(WitnessRefusal::Unsigned);
        }
        if self.old > checkpoint.size {
            return Err(WitnessRefusal::Backwards);
        }
        let (size, root) = latest.map_or_else(|| (0, empty_root()), |latest| (latest.size, latest.root));
        if self.old != size {
            return Err(WitnessRefusal::Stale(size));
        }
        if size == checkpoint.size && root != checkpoint.root {
            return Err(WitnessRefusal::Forked(size));
        }
        if is_consistent((size, root), (checkpoint.size, checkpoint.root), &self.proof) {
            Ok(())
        } else {
            Err(WitnessRefusal::Inconsistent)
        }
    }
}

impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.note)
    }
}
