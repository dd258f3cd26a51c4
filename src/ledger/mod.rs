//! The journal's format: frames chained by hashes, written once and never changed.
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
//! # What it shows and what it cannot
//!
//! A flipped bit, a removed, repeated, inserted or moved frame is found at its sequence number. A file that was cut off at
//! the border of two frames, with nothing written after the cut, is a valid shorter journal: a hash chain alone cannot show
//! that. Two other things do: `session_ended` is the last frame of the session's journal, so a closed session without it
//! shows; and the store keeps count and last hash of what it has folded. Whoever can rewrite both the journals and the store
//! can rewrite history; only a copy of a hash kept elsewhere helps against that.

mod chain;
mod decode;
mod har;
mod header;
mod record;

pub use chain::{Chain, FRAME_OVERHEAD_BYTES, FrameError, Hash, PAYLOAD_BYTES_MAX};
pub use decode::{Decoded, Frame, Tail, Why, decode, resume};
pub use har::{FindBody, Har};
pub use header::{HEADER_BYTES, Header, HeaderFault};
pub use record::{event_json, event_kind, event_of};

#[cfg(test)]
mod tests;
