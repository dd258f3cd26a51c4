//! A secret and its stand-in.

use serde::{Deserialize, Serialize};
use std::fmt;
use zeroize::Zeroizing;

/// A value that must not leave the proxy process except inside an approved request.
///
/// It cannot be copied, printed or serialised, and is wiped when dropped. `tests/architecture.rs` allows one caller of
/// [`Secret::expose`].
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a value over. The caller's own copy, if any, is the caller's to wipe.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Bytes of the value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every character can stand in a header's value (RFC 9110, section 5.5).
    #[must_use]
    pub fn is_printable(&self) -> bool {
        self.0.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    }

    /// The value. Only the proxy's injection may ask.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the harness holds instead of a secret: worthless, of the vendor's own shape, unique to the session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Placeholder(pub String);

impl Placeholder {
    /// The stand-in's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
