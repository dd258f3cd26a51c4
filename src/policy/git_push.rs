//! What a push asks for: the references it creates, updates and deletes, read from the beginning of its body
//! (gitprotocol-pack(5), "Reference Update Request and Packfile Transfer").
//!
//! Whatever git's own `receive-pack` could read in another way is refused. Whether an update only moves forward is a matter
//! of the repository's history; where the push brings the commits between, it is seen from them (`proxy::pack`).

use crate::model::hex_byte;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes of a push before its objects. A line of it has about 130, so that this is some thousands of references.
pub const UPDATES_BYTES_MAX: usize = 1 << 20;
/// Longest name of a reference.
const NAME_BYTES_MAX: usize = 1024;
/// Bytes of a line's length (gitprotocol-common(5)).
const LENGTH_BYTES: usize = 4;
/// Characters of an object's id: of SHA-1, and of SHA-256.
const ID_LENGTHS: [usize; 2] = [40, 64];

/// What becomes of one reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is made.
    Create,
    /// It is moved, forward or by force: where a request is judged, nobody knows that it is forward.
    Update,
    /// It is moved to what has its old commit among its ancestors.
    Forward,
    /// In a rule: it is moved, and nobody knows that it is forward.
    Force,
    /// It is removed.
    Delete,
}

impl Change {
    /// Every change by the word it is written as.
    pub(super) const ALL: [(&'static str, Self); 5] = [
        ("create", Self::Create),
        ("update", Self::Update),
        ("forward", Self::Forward),
        ("force", Self::Force),
        ("delete", Self::Delete),
    ];

    /// Whether a rule that names this change is about that one.
    pub(super) fn covers(self, change: Self) -> bool {
        match self {
            Self::Update => matches!(change, Self::Update | Self::Forward | Self::Force),
            Self::Force => matches!(change, Self::Update | Self::Force),
            other => other == change,
        }
    }

    /// The change that a word names.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| *name == word).map(|(_, change)| *change)
    }

    /// The word it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Forward => "forward",
            Self::Force => "force",
            Self::Delete => "delete",
        }
    }
}

/// One reference that a push changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// The reference's full name, such as `refs/heads/main`.
    pub name: String,
    /// What becomes of it.
    pub change: Change,
    /// The id it had, as the client says; zeros where it is new.
    pub old: String,
    /// The id it is to have; zeros where it is to go.
    pub new: String,
}

impl fmt::Display for RefUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.change.as_str(), self.name)
    }
}

/// What a push asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Push {
    /// The references it changes, in its order; none where the client only tries whether it is let in.
    pub updates: Vec<RefUpdate>,
    /// Whether it is signed.
    pub signed: bool,
    /// Whether the client wants to be told what became of each reference.
    pub reports: bool,
    /// Whether the client takes that in bands, with messages for a person beside it.
    pub bands: bool,
}

/// Why a push cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The body ended too early.
    #[error("it ends before its list of references does")]
    Short,
    /// The list is longer than [`UPDATES_BYTES_MAX`].
    #[error("its list of references is longer than {UPDATES_BYTES_MAX} bytes: push fewer at a time")]
    Long,
    /// It is not what git sends.
    #[error("its list of references is not as git writes it")]
    Malformed,
    /// A reference is named twice.
    #[error("it names a reference twice")]
    Twice,
}

/// Reads a push from the beginning of its body, each line once however the body comes in pieces.
#[derive(Default)]
pub struct PushReader {
    reading: Reading,
    /// Bytes of the lines that were read.
    at: usize,
}

impl PushReader {
    /// Where in the body the list ends, once it was read.
    #[must_use]
    pub fn end(&self) -> usize {
        self.at
    }

    /// Reads on, given all of the body that there is by now; none while more of it is needed.
    ///
    /// # Errors
    /// [`PushError`] for what is not as git writes it. [`PushError::Short`] is the caller's to give, at the body's end.
    pub fn read(&mut self, body: &[u8]) -> Result<Option<Push>, PushError> {
        loop {
            let rest = body.get(self.at..).unwrap_or_default();
            let (line, after) = match next_line(rest)? {
                Some(next) => next,
                None if body.len() > UPDATES_BYTES_MAX => return Err(PushError::Long),
                None => return Ok(None),
            };
            self.at = body.len() - after.len();
            if self.at > UPDATES_BYTES_MAX {
                return Err(PushError::Long);
            }
            match line {
                Some(line) => self.reading.take(line)?,
                None => return std::mem::take(&mut self.reading).finish().map(Some),
            }
        }
    }
}

/// A line, or a flush.
type Line<'a> = Option<&'a [u8]>;

/// The next line and what follows it; none while it is not whole.
fn next_line(rest: &[u8]) -> Result<Option<(Line<'_>, &[u8])>, PushError> {
    let Some((digits, _)) = rest.split_at_checked(LENGTH_BYTES) else { return Ok(None) };
    let length = hex_byte(&digits[..2]).zip(hex_byte(&digits[2..])).ok_or(PushError::Malformed)?;
    let length = usize::from(u16::from_be_bytes([length.0, length.1]));
    match length {
        0 => Ok(Some((None, &rest[LENGTH_BYTES..]))),
        // Delimiters belong to a protocol that pushes do not speak, and no line of a push is empty.
        1..=LENGTH_BYTES => Err(PushError::Malformed),
        _ => Ok(rest.split_at_checked(length).map(|(line, after)| (Some(&line[LENGTH_BYTES..]), after))),
    }
}

/// Where in the list the reading is.
#[derive(Default)]
struct Reading {
    push: Push,
    certificate: Certificate,
}

#[derive(Default, PartialEq)]
enum Certificate {
    #[default]
    None,
    Head,
    Commands,
    Signature,
    Ended,
}

impl Reading {
    fn take(&mut self, line: &[u8]) -> Result<(), PushError> {
        match self.certificate {
            Certificate::None => self.plain(line),
            Certificate::Ended => Err(PushError::Malformed),
            _ => self.signed(line),
        }
    }

    /// A line outside of a certificate.
    fn plain(&mut self, line: &[u8]) -> Result<(), PushError> {
        let mut parts = line.splitn(2, |byte| *byte == 0);
        let (text, capabilities) = (chomp(parts.next().unwrap_or_default()), parts.next());
        if let Some(capabilities) = capabilities {
            self.capabilities(capabilities)?;
        }
        if let Some(id) = text.strip_prefix(b"shallow ") {
            return if is_id(id) { Ok(()) } else { Err(PushError::Malformed) };
        }
        if text == b"push-cert" {
            // Git refuses both kinds in one push.
            if !self.push.updates.is_empty() {
                return Err(PushError::Malformed);
            }
            (self.push.signed, self.certificate) = (true, Certificate::Head);
            return Ok(());
        }
        self.command(text)
    }

    fn capabilities(&mut self, text: &[u8]) -> Result<(), PushError> {
        let text = std::str::from_utf8(text).map_err(|_| PushError::Malformed)?;
        for word in text.split_ascii_whitespace() {
            self.push.reports |= matches!(word, "report-status" | "report-status-v2");
            self.push.bands |= word == "side-band-64k";
        }
        Ok(())
    }

    /// A line of a certificate: headers, an empty line, commands, a signature.
    fn signed(&mut self, line: &[u8]) -> Result<(), PushError> {
        if line == b"push-cert-end\n" {
            let whole = self.certificate == Certificate::Signature;
            self.certificate = Certificate::Ended;
            return if whole { Ok(()) } else { Err(PushError::Malformed) };
        }
        // Git puts these lines together before it splits them again, so each must be one.
        let Some((b'\n', text)) = line.split_last() else { return Err(PushError::Malformed) };
        if text.iter().any(|byte| matches!(byte, b'\n' | 0)) {
            return Err(PushError::Malformed);
        }
        match self.certificate {
            Certificate::Head if text.is_empty() => self.certificate = Certificate::Commands,
            Certificate::Commands if text.starts_with(b"-----BEGIN ") => self.certificate = Certificate::Signature,
            Certificate::Commands => return self.command(text),
            _ => {}
        }
        Ok(())
    }

    fn command(&mut self, text: &[u8]) -> Result<(), PushError> {
        let mut words = text.splitn(3, |byte| *byte == b' ');
        let (Some(old), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Err(PushError::Malformed);
        };
        if !is_id(old) || !is_id(new) || old.len() != new.len() || !is_name(name) {
            return Err(PushError::Malformed);
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| PushError::Malformed);
        let is_zero = |id: &[u8]| id.iter().all(|digit| *digit == b'0');
        let change = match (is_zero(old), is_zero(new)) {
            (true, true) => return Err(PushError::Malformed),
            (true, false) => Change::Create,
            (false, true) => Change::Delete,
            (false, false) => Change::Update,
        };
        self.push.updates.push(RefUpdate { name: text(name)?, change, old: text(old)?, new: text(new)? });
        Ok(())
    }

    fn finish(mut self) -> Result<Push, PushError> {
        if !matches!(self.certificate, Certificate::None | Certificate::Ended) {
            return Err(PushError::Malformed);
        }
        let mut names: Vec<&str> = self.push.updates.iter().map(|update| update.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(PushError::Twice);
        }
        self.push.updates.shrink_to_fit();
        Ok(self.push)
    }
}

fn chomp(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

fn is_id(id: &[u8]) -> bool {
    ID_LENGTHS.contains(&id.len()) && id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether git would take it for the name of a reference (git-check-ref-format(1)), but for what only matters to a file
/// system.
fn is_name(name: &[u8]) -> bool {
    let odd = |byte: &u8| *byte <= 0x20 || *byte == 0x7f || b"~^:?*[\\".contains(byte);
    let Ok(text) = std::str::from_utf8(name) else { return false };
    (text.starts_with("refs/") || text == "HEAD")
        && name.len() <= NAME_BYTES_MAX
        && !name.iter().any(odd)
        && !text.contains("..")
        && !text.contains("@{")
        && !text.ends_with(['/', '.'])
        && !text.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"))
}

#[cfg(test)]
#[path = "git_push_tests.rs"]
mod tests;
