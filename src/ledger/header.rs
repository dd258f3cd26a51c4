//! The first bytes of a journal, which bind it to one session and one writer.

use super::Hash;
use crate::model::{SessionId, Writer};
use sha2::{Digest, Sha256};

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 32;

/// What every journal begins with.
const MAGIC: &[u8; 8] = b"OMNIJRNL";
/// The format that is written to.
const VERSION: u16 = 1;
/// That of a journal at rest.
const VERSION_PACKED: u16 = 2;
/// Keeps the header's hash apart from every other hash.
const DOMAIN: &[u8] = b"omni journal header v1\0";
/// Where the session's id begins.
const ID_OFFSET: usize = 16;

/// Whose journal it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The session whose facts follow.
    pub session: SessionId,
    /// The process that writes them.
    pub writer: Writer,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The file does not begin as a journal does.
    #[error("the file does not begin as a journal does")]
    Magic,
    /// Another version of the format.
    #[error("the journal's format is version {0}, and this omni reads up to {VERSION_PACKED}")]
    Version(u16),
    /// The header names another session or writer than the file's place says.
    #[error("the header names another session or writer than the file's place does")]
    Foreign,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
        bytes[10] = self.writer.code();
        // A session id is always as long as the space that is left.
        for (slot, byte) in bytes[ID_OFFSET..].iter_mut().zip(self.session.as_str().bytes()) {
            *slot = byte;
        }
        bytes
    }

    /// The first bytes of the journal at rest. Hashes begin with those of the journal as it was written.
    #[must_use]
    pub fn encode_packed(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = self.encode();
        bytes[8..10].copy_from_slice(&VERSION_PACKED.to_be_bytes());
        bytes
    }

    /// Whether a file's first bytes are those of a journal at rest, whosever it is.
    #[must_use]
    pub fn is_packed(bytes: &[u8; HEADER_BYTES]) -> bool {
        bytes.starts_with(MAGIC) && bytes[8..10] == VERSION_PACKED.to_be_bytes()
    }

    /// Compares a file's first bytes with the header that its place in the home calls for.
    ///
    /// # Errors
    /// A [`HeaderFault`] for the first difference.
    pub fn check(&self, bytes: &[u8; HEADER_BYTES]) -> Result<(), HeaderFault> {
        if &bytes[..8] != MAGIC {
            return Err(HeaderFault::Magic);
        }
        let version = u16::from_be_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        if bytes == &self.encode() { Ok(()) } else { Err(HeaderFault::Foreign) }
    }

    /// The hash that the first frame chains to.
    #[must_use]
    pub fn genesis(&self) -> Hash {
        Hash(Sha256::new().chain_update(DOMAIN).chain_update(self.encode()).finalize().into())
    }
}
