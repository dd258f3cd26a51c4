//! Making frames: each hash covers the payload and the hash before it.

use super::Header;
use super::record::Record;
use crate::model::{Event, Timestamp};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use std::fmt;

/// Largest payload of a frame. The largest fact is a command line, which the kernel bounds to about 2 MiB.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// What a frame adds to its payload: the length twice, and the hash.
pub const FRAME_OVERHEAD_BYTES: usize = LENGTH_BYTES + HASH_BYTES;

/// The length and its inverse.
pub(super) const LENGTH_BYTES: usize = 8;
/// A SHA-256.
pub(super) const HASH_BYTES: usize = 32;
/// Keeps a frame's hash apart from every other hash.
const DOMAIN: &[u8] = b"omni journal frame v1\0";

/// A SHA-256 of the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// The hash as texts of C2SP write it: base 64 (RFC 4648, §4).
    #[must_use]
    pub fn to_base64(self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// The hash that a text of C2SP writes.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a fact cannot become a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It has no JSON form.
    #[error("the event `{kind}` cannot be written as JSON")]
    Encode {
        /// The event's name.
        kind: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// It is larger than a frame may be.
    #[error("the event `{kind}` is {bytes} bytes, and a frame holds at most {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// The event's name.
        kind: &'static str,
        /// Its size as JSON.
        bytes: usize,
    },
}

/// A place in a journal: how many frames lie before it, and the last hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    frames: u64,
    head: Hash,
}

impl Chain {
    /// The place right after the header.
    #[must_use]
    pub fn begin(header: &Header) -> Self {
        Self { frames: 0, head: header.genesis() }
    }

    /// A place that somebody kept.
    #[must_use]
    pub fn at(frames: u64, head: Hash) -> Self {
        Self { frames, head }
    }

    /// How many frames lie before it.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The hash of the frame before it, or of the header.
    #[must_use]
    pub fn head(&self) -> Hash {
        self.head
    }

    /// Writes the next frame to the end of `out` and moves on. After an error, `out` is as before.
    ///
    /// # Errors
    /// A [`FrameError`] when the fact does not fit a frame.
    pub fn append(&mut self, at: Timestamp, event: &Event, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let start = out.len();
        let result = self.append_at(start, at, event, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn append_at(&mut self, start: usize, at: Timestamp, event: &Event, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let kind = event.kind();
        let body = start + LENGTH_BYTES;
        out.resize(body, 0);
        let record = Record { seq: self.frames + 1, at, event };
        serde_json::to_writer(&mut *out, &record).map_err(|source| FrameError::Encode { kind, source })?;
        let bytes = out.len() - body;
        let length = u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_BYTES_MAX);
        let length = length.ok_or(FrameError::TooLarge { kind, bytes })?;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        out[start + 4..body].copy_from_slice(&(!length).to_be_bytes());
        self.follow(&out[body..]);
        out.extend_from_slice(&self.head.0);
        Ok(())
    }

    /// Moves past one payload, so that the head is the hash its frame should have.
    pub fn follow(&mut self, payload: &[u8]) {
        self.head = frame_hash(&self.head, payload);
        self.frames += 1;
    }
}

/// The hash of a frame with this payload, after the frame or header with that hash.
#[must_use]
pub fn frame_hash(before: &Hash, payload: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update(DOMAIN).chain_update(before.0).chain_update(payload).finalize().into())
}
