//! The formats of what happened: journals of frames chained by hashes, and the ledger, one hash tree over all of them.
//!
//! Pure. A journal is one [`Header`] and then frames; [`Chain`] makes frames, [`decode`] and [`resume`] read them back and
//! say how the file ends ([`Tail`]). `docs/journal.md` shows how to verify a file by hand.
//!
//! Invariant: a frame's hash covers the payload's bytes as they are stored and, through the hash before it, everything
//! back to the header. Nothing is parsed and written again in order to verify.
//!
//! # Every byte
//!
//! The header, 32 bytes:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | `OMNIJRNL` |
//! | 8 | 2 | format version, big-endian: 1 |
//! | 10 | 1 | writer: 1 session, 2 proxy, 3 changes |
//! | 11 | 5 | zero |
//! | 16 | 16 | the session's id, ASCII |
//!
//! The chain begins with SHA-256(`"omni journal header v1\0"` ‖ header). Then each frame:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the payload, big-endian, 1 to 16 MiB |
//! | 4 | 4 | the same with every bit inverted, so that damage to a length is not taken for a torn end |
//! | 8 | length | payload: JSON `{"seq":…,"at":…,"event":{…}}` |
//! | 8 + length | 32 | SHA-256(`"omni journal frame v1\0"` ‖ the hash before ‖ payload) |
//!
//! A journal at rest has the same frames in compressed bundles, under version 2 of the header ([`Packer`]).
//!
//! # What it shows and what it cannot
//!
//! A flipped bit, a removed, repeated, inserted or moved frame is found at its sequence number. A file that was cut off at
//! the border of two frames, with nothing written after the cut, is a valid shorter journal: a hash chain alone cannot show
//! that. Two other things do: `session_ended` is the last frame of the session's journal, so a closed session without it
//! shows; and the store keeps count and last hash of what it has folded. Whoever can rewrite both the journals and the store
//! can rewrite history; only a copy of a hash kept elsewhere helps against that.

mod bundle;
mod chain;
mod checkpoint;
mod decode;
mod entry;
mod format_error;
mod har;
mod header;
mod merkle;
mod note;
mod packed;
mod quorum;
mod receipt;
mod record;
mod witness;

pub use bundle::{Bundle, Bundled, open_bundle};
pub use chain::{Chain, FRAME_OVERHEAD_BYTES, FrameError, Hash, PAYLOAD_BYTES_MAX, frame_hash};
pub use checkpoint::Checkpoint;
pub use decode::{Decoded, Frame, Tail, Why, decode, resume};
pub use entry::{ENTRY_BYTES, Entry, HASH_PLACE, origin};
pub use format_error::FormatError;
pub use har::{FindBody, Har};
pub use header::{HEADER_BYTES, Header, HeaderFault};
pub use merkle::{
    Frontier, PROOF_HASHES_MAX, Subtrees, consistency, empty_root, inclusion, is_consistent, leaf_hash, node_hash,
    root, root_from_inclusion,
};
pub use note::{CheckSignature, KeyKind, NOTE_BYTES_MAX, Note, NoteSignature, Signed, VerifierKey, cosigned_text};
pub use packed::{
    BLOCK_OVERHEAD_BYTES, PACKED_HEADER_BYTES, Packer, Unpacked, block_length, packed_header, read_packed_header,
    unpack,
};
pub use quorum::{POLICY_BYTES_MAX, Party, QuorumFault, WitnessPolicy};
pub use receipt::{Evidence, RECEIPT_BYTES_MAX, Receipt, Shown};
pub use record::{Recorded, event_json, event_kind, event_of, frame_number, recorded};
pub use witness::{SUBMISSION_BYTES_MAX, Submission, WitnessRefusal};

#[cfg(test)]
mod merkle_tests;
#[cfg(test)]
mod quorum_tests;
#[cfg(test)]
mod tests;
