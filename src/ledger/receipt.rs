//! A receipt: what shows, without the ledger, that a frame is in it (c2sp.org/tlog-proof).

use super::checkpoint::parse_number;
use super::merkle::{PROOF_HASHES_MAX, leaf_hash, root_from_inclusion};
use super::{Checkpoint, ENTRY_BYTES, Entry, FormatError, Hash, Note, PAYLOAD_BYTES_MAX, frame_hash, frame_number};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fmt;

/// What a receipt begins with.
const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// Largest receipt that is read: the largest frame in base 64, and room for the rest.
pub const RECEIPT_BYTES_MAX: usize = 2 * PAYLOAD_BYTES_MAX;

/// A proof that an entry is in a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the entry stands for.
    pub evidence: Evidence,
    /// The entry's place in the ledger, from 0.
    pub index: u64,
    /// The hashes from the entry's sibling up.
    pub proof: Vec<Hash>,
    /// The checkpoint that covers it, with its signatures.
    pub checkpoint: Note,
}

/// An entry, and the frame that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The entry's bytes.
    pub entry: [u8; ENTRY_BYTES],
    /// The hash of the frame before, or of the journal's header.
    pub before: Hash,
    /// The frame's payload.
    pub payload: Vec<u8>,
}

/// What a receipt shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The entry.
    pub entry: Entry,
    /// The checkpoint, whose signatures are still to be checked.
    pub checkpoint: Checkpoint,
}

impl Evidence {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (entry, rest) = bytes.split_first_chunk::<ENTRY_BYTES>()?;
        let (before, payload) = rest.split_first_chunk::<32>()?;
        Some(Self { entry: *entry, before: Hash(*before), payload: payload.to_vec() })
    }
}

impl Receipt {
    /// Reads a receipt.
    ///
    /// # Errors
    /// [`FormatError::Receipt`], or what is wrong with its checkpoint.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Receipt("it is not UTF-8"))?;
        let missing = || FormatError::Receipt("a line is missing");
        let (head, checkpoint) = text.split_once("\n\n").ok_or_else(missing)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(MAGIC) {
            return Err(FormatError::Receipt("it does not begin as one does"));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra ")).ok_or_else(missing)?;
        let extra = BASE64_STANDARD.decode(extra).map_err(|_| FormatError::Receipt("its frame is not base 64"))?;
        let evidence = Evidence::parse(&extra).ok_or(FormatError::Receipt("its frame is too short"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or_else(missing)?;
        let index = parse_number(index).ok_or(FormatError::Receipt("its index is not a plain number"))?;
        let proof: Option<Vec<_>> = lines.take(PROOF_HASHES_MAX + 1).map(Hash::from_base64).collect();
        let proof = proof.filter(|proof| proof.len() <= PROOF_HASHES_MAX);
        let proof = proof.ok_or(FormatError::Receipt("its proof is not made of hashes"))?;
        Ok(Self { evidence, index, proof, checkpoint: Note::parse(checkpoint.as_bytes())? })
    }

    /// Follows the hashes from the frame's bytes to the checkpoint's root.
    ///
    /// # Errors
    /// [`FormatError::Unproven`] with the first step that does not follow, or what is wrong with the checkpoint's text.
    pub fn show(&self) -> Result<Shown, FormatError> {
        let Evidence { entry: bytes, before, payload } = &self.evidence;
        let entry = Entry::decode(bytes).ok_or(FormatError::Unproven("its entry is none that omni writes"))?;
        if let Entry::Frame { hash, seq, .. } = &entry {
            if frame_hash(before, payload) != *hash {
                return Err(FormatError::Unproven("its frame is not the one that its entry stands for"));
            }
            if frame_number(payload) != Some(*seq) {
                return Err(FormatError::Unproven("its frame has another number than its entry"));
            }
        }
        let checkpoint = Checkpoint::parse(&self.checkpoint.text)?;
        let root = root_from_inclusion(leaf_hash(bytes), self.index, checkpoint.size, &self.proof);
        if root == Some(checkpoint.root) {
            Ok(Shown { entry, checkpoint })
        } else {
            Err(FormatError::Unproven("its proof does not lead to the checkpoint's root"))
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { entry, before, payload } = &self.evidence;
        let extra = [&entry[..], &before.0, payload].concat();
        writeln!(f, "{MAGIC}\nextra {}\nindex {}", BASE64_STANDARD.encode(extra), self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}
