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
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

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
        Self(text.iter().map(|byte| char::from(*byte)).collect())
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
        self.0.starts_with("000000000")
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SessionId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        let fits = text.len() == LENGTH && text.bytes().all(|byte| ALPHABET.contains(&byte));
        if fits { Ok(Self(text)) } else { Err(IdError) }
    }
}

impl std::str::FromStr for SessionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::try_from(text.to_owned())
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> Self {
        id.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
