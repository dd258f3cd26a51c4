//! Signed notes, the C2SP format of checkpoints (c2sp.org/signed-note), and keys as texts.
//!
//! Only texts: whoever calls brings the signature's arithmetic.

use super::FormatError;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};
use std::fmt;

/// Largest note that is read: far more than sixteen signatures of any kind.
pub const NOTE_BYTES_MAX: usize = 128 << 10;
/// Most signatures of a note that are looked at.
const SIGNATURES_MAX: usize = 64;
/// What a line with a signature begins with.
const DASH: &str = "\u{2014} ";
/// Bytes of an Ed25519 key and signature (RFC 8032), and of a key's id.
const PUBLIC_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
const ID_BYTES: usize = 4;
/// Bytes of a cosignature's time.
const TIME_BYTES: usize = 8;

/// Checks an Ed25519 signature: public key, message, signature.
pub type CheckSignature = fn(&[u8; 32], &[u8], &[u8]) -> bool;

/// What a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// The text of a note: what a log does.
    Note,
    /// That a checkpoint was consistent with all before it, and when (c2sp.org/tlog-cosignature): what a witness does.
    Cosignature,
}

impl KeyKind {
    /// The byte that C2SP assigned.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Note => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A public key with its owner's name: `NAME+ID+KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    public: [u8; PUBLIC_BYTES],
}

impl VerifierKey {
    /// A key.
    ///
    /// # Errors
    /// [`FormatError::KeyName`] for a name that cannot stand in a note.
    pub fn new(name: &str, kind: KeyKind, public: [u8; PUBLIC_BYTES]) -> Result<Self, FormatError> {
        if is_name(name) {
            Ok(Self { name: name.to_owned(), kind, public })
        } else {
            Err(FormatError::KeyName(name.escape_debug().to_string()))
        }
    }

    /// Reads a key's text.
    ///
    /// # Errors
    /// [`FormatError::Key`].
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let failed = |why| FormatError::Key { key: text.escape_debug().to_string(), why };
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(failed("it is not NAME+ID+KEY"));
        };
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| failed("its last part is not base 64"))?;
        let (kind, public) = match bytes.split_first() {
            Some((1, public)) => (KeyKind::Note, public),
            Some((4, public)) => (KeyKind::Cosignature, public),
            _ => return Err(failed("it is of a kind that this omni does not know")),
        };
        let public = public.try_into().map_err(|_| failed("it is not as long as an Ed25519 key"))?;
        let key = Self::new(name, kind, public)?;
        let right = id == hex(&key.id());
        if right { Ok(key) } else { Err(failed("its id does not follow from name and key")) }
    }

    /// Whose key it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    #[must_use]
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The key itself.
    #[must_use]
    pub fn public(&self) -> &[u8; PUBLIC_BYTES] {
        &self.public
    }

    /// What signatures call it by.
    #[must_use]
    pub fn id(&self) -> [u8; ID_BYTES] {
        let name = Sha256::new().chain_update(&self.name).chain_update(b"\n");
        let hash = name.chain_update([self.kind.byte()]).chain_update(self.public).finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.kind.byte()], &self.public[..]].concat();
        write!(f, "{}+{}+{}", self.name, hex(&self.id()), BASE64_STANDARD.encode(key))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// One line under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: [u8; ID_BYTES],
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// What a key made.
    #[must_use]
    pub fn new(key: &VerifierKey, bytes: Vec<u8>) -> Self {
        Self { name: key.name.clone(), id: key.id(), bytes }
    }

    /// What a witness made of [`cosigned_text`] at this time.
    #[must_use]
    pub fn cosignature(key: &VerifierKey, time: u64, signature: &[u8]) -> Self {
        Self::new(key, [&time.to_be_bytes(), signature].concat())
    }

    /// Who signed, by their own account.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// [`FormatError::Note`].
    pub fn parse(line: &str) -> Result<Self, FormatError> {
        let rest = line.strip_prefix(DASH).ok_or(FormatError::Note("a signature does not begin with a dash"))?;
        let (name, encoded) = rest.split_once(' ').ok_or(FormatError::Note("a signature has no name"))?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| FormatError::Note("a signature is not base 64"))?;
        let (id, bytes) = bytes.split_first_chunk().ok_or(FormatError::Note("a signature is too short"))?;
        if !is_name(name) || bytes.is_empty() {
            return Err(FormatError::Note("a signature has no name or nothing signed"));
        }
        Ok(Self { name: name.to_owned(), id: *id, bytes: bytes.to_vec() })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.bytes].concat();
        writeln!(f, "{DASH}{} {}", self.name, BASE64_STANDARD.encode(bytes))
    }
}

/// What a key says of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// It signed it; a witness says when, in seconds since 1970.
    Yes(Option<u64>),
    /// It did not sign it.
    No,
    /// There is a signature in its name that is not its own.
    Forged,
}

/// A text and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The text, with the end of its last line.
    pub text: String,
    /// The signatures.
    pub signatures: Vec<NoteSignature>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// [`FormatError::Note`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(FormatError::Note("it is too large"));
        }
        let all = std::str::from_utf8(bytes).map_err(|_| FormatError::Note("it is not UTF-8"))?;
        if all.chars().any(|c| c < ' ' && c != '\n') {
            return Err(FormatError::Note("it has control characters"));
        }
        let (text, signatures) = all.rsplit_once("\n\n").ok_or(FormatError::Note("it has no signatures"))?;
        let lines = signatures.strip_suffix('\n').ok_or(FormatError::Note("its last line does not end"))?;
        let signatures: Vec<_> =
            lines.split('\n').take(SIGNATURES_MAX + 1).map(NoteSignature::parse).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(FormatError::Note("it has too many signatures"));
        }
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// What a key says of it.
    #[must_use]
    pub fn signed_by(&self, key: &VerifierKey, check: CheckSignature) -> Signed {
        let own = |line: &&NoteSignature| line.name == key.name && line.id == key.id();
        let mut said = Signed::No;
        for line in self.signatures.iter().filter(own) {
            let time = match key.kind {
                KeyKind::Note => check(&key.public, self.text.as_bytes(), &line.bytes).then_some(None),
                KeyKind::Cosignature => cosigned_at(&line.bytes, &self.text, key, check).map(Some),
            };
            match time {
                Some(time) if said == Signed::No => said = Signed::Yes(time),
                Some(_) => {}
                None => return Signed::Forged,
            }
        }
        said
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| write!(f, "{signature}"))
    }
}

/// What a witness signs of a note at a time, in seconds since 1970.
#[must_use]
pub fn cosigned_text(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// When a witness cosigned; none when it did not.
fn cosigned_at(bytes: &[u8], text: &str, key: &VerifierKey, check: CheckSignature) -> Option<u64> {
    let (time, signature) = bytes.split_first_chunk::<TIME_BYTES>()?;
    let time = u64::from_be_bytes(*time);
    let fits = signature.len() == SIGNATURE_BYTES && i64::try_from(time).is_ok();
    (fits && check(&key.public, cosigned_text(time, text).as_bytes(), signature)).then_some(time)
}
