//! Names of things that are not words: session ids.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`, so that an id can be read out loud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters in a session id; 16 of 5 bits carry the 80 random bits.
const LENGTH: usize = 16;

/// The name of one session: 80 random bits as 16 characters of Crockford's base 32.
///
/// Random rather than ordered by time, so that a few leading characters already tell two sessions apart.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId([u8; LENGTH]);

/// Why a text is not a session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a session id is {LENGTH} characters of 0-9 and a-z without i, l, o, u")]
pub struct IdError;

impl SessionId {
    /// Builds an id from 80 bits of entropy that the caller drew.
    #[must_use]
    pub fn from_entropy(entropy: [u8; 10]) -> Self {
        let mut bits = entropy.iter().fold(0u128, |all, byte| (all << 8) | u128::from(*byte));
        let mut text = [0u8; LENGTH];
        for slot in text.iter_mut().rev() {
            *slot = ALPHABET[(bits & 31) as usize];
            bits >>= 5;
        }
        Self(text)
    }

    /// An id under which is recorded what happens to an installation as a whole. The caller drew the entropy, so that several
    /// installations can share one store.
    #[must_use]
    pub fn of_installation(entropy: u32) -> Self {
        let [a, b, c, d] = entropy.to_be_bytes();
        Self::from_entropy([0, 0, 0, 0, 0, 0, a, b, c, d])
    }

    /// Whether it is one of those, and no session's: of 2⁴⁵ sessions, one is drawn an id that begins so.
    #[must_use]
    pub fn is_of_installation(&self) -> bool {
        self.0.starts_with(b"000000000")
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Of the alphabet's characters alone, whichever way it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TryFrom<String> for SessionId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl std::str::FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| IdError)?;
        if bytes.iter().all(|byte| ALPHABET.contains(byte)) { Ok(Self(bytes)) } else { Err(IdError) }
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SessionId").field(&self.as_str()).finish()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_own_text() {
        let id = SessionId::from_entropy([0xff; 10]);
        assert_eq!(id.as_str(), "zzzzzzzzzzzzzzzz");
        assert_eq!(id.as_str().parse::<SessionId>(), Ok(id));
    }

    #[test]
    fn a_path_is_not_an_id() {
        assert_eq!("../../etc/passwd".parse::<SessionId>(), Err(IdError));
        assert_eq!("".parse::<SessionId>(), Err(IdError));
    }
}
