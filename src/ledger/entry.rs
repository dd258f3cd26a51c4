//! One entry of the ledger: 64 bytes that stand for a frame, or for a change of the ledger itself.

use super::Hash;
use crate::model::{SessionId, Writer};
use sha2::{Digest, Sha256};

/// Bytes of an entry, so that the place of each in a file follows from its index.
pub const ENTRY_BYTES: usize = 64;

/// What the first byte says.
const FRAME: u8 = 1;
const KEY: u8 = 2;
/// Where each part begins.
const NUMBER: usize = 8;
const SESSION: usize = 16;
const HASH: usize = 32;
/// Where the frame's hash begins: all before it says which frame it is.
pub const HASH_PLACE: usize = HASH;

/// Keeps the hash that names a ledger apart from every other hash.
const ORIGIN_DOMAIN: &[u8] = b"omni ledger origin v1\0";
/// Bytes of that hash in the name.
const ORIGIN_BYTES: usize = 16;

/// The name of the ledger whose first key is this one. It cannot be kept while that key is exchanged.
#[must_use]
pub fn origin(first_key: &[u8; 32]) -> String {
    let hash = Sha256::new().chain_update(ORIGIN_DOMAIN).chain_update(first_key).finalize();
    let digits: String = hash.iter().take(ORIGIN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("omni/{digits}")
}

/// What an entry stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A frame of a journal, by its hash, which covers the frame's bytes and all frames before it.
    Frame {
        /// The session.
        session: SessionId,
        /// Which of its journals.
        writer: Writer,
        /// The frame's number there, from 1.
        seq: u64,
        /// The frame's hash.
        hash: Hash,
    },
    /// From here on this Ed25519 key signs.
    Key {
        /// Which one, counted from 1.
        number: u64,
        /// The public key (RFC 8032).
        public: [u8; 32],
    },
    /// Of a later version, which knows more kinds.
    Other {
        /// The kind.
        kind: u8,
    },
}

impl Entry {
    /// The entry's bytes; none for one of a later version.
    #[must_use]
    pub fn encode(&self) -> Option<[u8; ENTRY_BYTES]> {
        let mut bytes = [0; ENTRY_BYTES];
        match self {
            Self::Frame { session, writer, seq, hash } => {
                (bytes[0], bytes[1]) = (FRAME, writer.code());
                bytes[NUMBER..SESSION].copy_from_slice(&seq.to_be_bytes());
                // A session's id is always as long as this space.
                for (slot, byte) in bytes[SESSION..HASH].iter_mut().zip(session.as_str().bytes()) {
                    *slot = byte;
                }
                bytes[HASH..].copy_from_slice(&hash.0);
            }
            Self::Key { number, public } => {
                bytes[0] = KEY;
                bytes[NUMBER..SESSION].copy_from_slice(&number.to_be_bytes());
                bytes[HASH..].copy_from_slice(public);
            }
            Self::Other { .. } => return None,
        }
        Some(bytes)
    }

    /// The entry in these bytes; none when no version wrote them.
    #[must_use]
    pub fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let number = u64::from_be_bytes(bytes[NUMBER..SESSION].try_into().ok()?);
        let tail: [u8; 32] = bytes[HASH..].try_into().ok()?;
        let entry = match bytes[0] {
            0 => return None,
            FRAME => {
                let session = std::str::from_utf8(&bytes[SESSION..HASH]).ok()?.parse().ok()?;
                Self::Frame { session, writer: Writer::from_code(bytes[1])?, seq: number, hash: Hash(tail) }
            }
            KEY => Self::Key { number, public: tail },
            kind => return Some(Self::Other { kind }),
        };
        // What is written but meaningless could differ without anybody noticing.
        (entry.encode()? == *bytes).then_some(entry)
    }

    /// Whether the entry in these bytes is that of the frame right after the one whose entry is `before`, which some version
    /// wrote. It spares decoding what mostly follows.
    #[must_use]
    pub fn follows(before: &[u8; ENTRY_BYTES], bytes: &[u8; ENTRY_BYTES]) -> bool {
        let number = |entry: &[u8; ENTRY_BYTES]| entry[NUMBER..SESSION].try_into().map(u64::from_be_bytes).ok();
        before[0] == FRAME
            && before[..NUMBER] == bytes[..NUMBER]
            && before[SESSION..HASH] == bytes[SESSION..HASH]
            && number(before).and_then(|number| number.checked_add(1)) == number(bytes)
    }
}
