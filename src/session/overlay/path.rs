//! Paths below the workspace, as bytes, and how they are shown.

use crate::model::is_hostile;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A path relative to the workspace: names that are neither empty nor `.` nor `..`, between single slashes. The workspace
/// itself is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(Vec<u8>);

/// Why a text is not a path below the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a path below the workspace")]
pub struct PathError;

impl RelPath {
    /// The path of these bytes.
    ///
    /// # Errors
    /// [`PathError`] where a name is empty, `.` or `..`, or holds a NUL.
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        let fits = bytes.is_empty() || bytes.split(|byte| *byte == b'/').all(plain);
        if fits { Ok(Self(bytes.to_vec())) } else { Err(PathError) }
    }

    /// The path that a person means: below the workspace, or absolute and in it.
    ///
    /// # Errors
    /// [`PathError`] for one that climbs or lies elsewhere.
    pub fn meant(written: &Path, workspace: &Path) -> Result<Self, PathError> {
        let relative =
            if written.is_absolute() { written.strip_prefix(workspace).map_err(|_| PathError)? } else { written };
        let mut path = Self::default();
        for part in relative.components() {
            match part {
                std::path::Component::CurDir => {}
                std::path::Component::Normal(name) => path = path.join(name.as_bytes()),
                _ => return Err(PathError),
            }
        }
        Ok(path)
    }

    /// The path of an entry of this directory.
    #[must_use]
    pub fn join(&self, name: &[u8]) -> Self {
        let mut bytes = self.0.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }

    /// The names in it, from the workspace down.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// The directory that holds it, and its name there; none for the workspace itself.
    #[must_use]
    pub fn split(&self) -> Option<(Self, &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => Some((Self(self.0[..slash].to_vec()), &self.0[slash + 1..])),
            None => Some((Self::default(), &self.0)),
        }
    }

    /// Whether it is this path or lies below it.
    #[must_use]
    pub fn is_within(&self, above: &Self) -> bool {
        match self.0.strip_prefix(above.0.as_slice()) {
            Some(rest) => above.0.is_empty() || rest.is_empty() || rest[0] == b'/',
            None => false,
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path for the operating system.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// The last name; empty for the workspace itself.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &self.0[slash + 1..],
            None => &self.0,
        }
    }
}

/// Bytes as a person may see them: as they are, or in double quotes with escapes where they hold what could steer a
/// terminal, deceive a reader, or be taken for something else.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    let strange = |character: char| is_hostile(character) || matches!(character, '"' | '\\');
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(strange) && !text.starts_with(' ') && !text.ends_with(' ') => text.to_owned(),
        _ => quoted(bytes),
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_hostile(character) || matches!(character, '"' | '\\') {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('"');
    text
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str(".") } else { f.write_str(&shown(&self.0)) }
    }
}

/// For files that omni keeps: each byte is the character of the same number, so that any path survives.
impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.0.iter().map(|byte| char::from(*byte)).collect()
    }
}

impl TryFrom<String> for RelPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        let bytes: Result<Vec<u8>, _> = text.chars().map(|character| u8::try_from(u32::from(character))).collect();
        Self::parse(&bytes.map_err(|_| PathError)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_workspace() {
        for bad in [&b"/a"[..], b"a//b", b"../a", b"a/..", b".", b"a/./b", b"a\0"] {
            assert_eq!(RelPath::parse(bad), Err(PathError), "{bad:?}");
        }
        let meant = |text: &str| RelPath::meant(Path::new(text), Path::new("/w"));
        assert_eq!(meant("/w/a/b").unwrap(), RelPath::parse(b"a/b").unwrap());
        assert_eq!(meant("./a/").unwrap(), RelPath::parse(b"a").unwrap());
        assert_eq!(meant(".").unwrap(), RelPath::default());
        for elsewhere in ["/x/a", "../a", "a/../../b", "/wa"] {
            assert_eq!(meant(elsewhere), Err(PathError), "{elsewhere}");
        }
    }

    #[test]
    fn a_path_knows_its_parts() {
        let path = RelPath::parse(b"a/b/c").unwrap();
        assert_eq!(path.split().unwrap(), (RelPath::parse(b"a/b").unwrap(), &b"c"[..]));
        assert_eq!(
            (path.name(), RelPath::default().name(), RelPath::parse(b"x").unwrap().name()),
            (&b"c"[..], &b""[..], &b"x"[..])
        );
        assert_eq!(path.names().collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert!(path.is_within(&RelPath::parse(b"a/b").unwrap()) && path.is_within(&RelPath::default()));
        assert!(
            !path.is_within(&RelPath::parse(b"a/b/c/d").unwrap())
                && !RelPath::parse(b"ab").unwrap().is_within(&RelPath::parse(b"a").unwrap())
        );
    }

    #[test]
    fn any_path_survives_being_written_down() {
        let path = RelPath::parse(&(1..=255).filter(|byte| *byte != b'/').collect::<Vec<_>>()).unwrap();
        let text = serde_json::to_string(&path).unwrap();
        assert_eq!(serde_json::from_str::<RelPath>(&text).unwrap(), path);
        assert!(
            serde_json::from_str::<RelPath>("\"../x\"").is_err()
                && serde_json::from_str::<RelPath>("\"\u{100}\"").is_err()
        );
    }

    #[test]
    fn a_name_cannot_steer_the_terminal_or_pretend_to_be_another() {
        assert_eq!(shown("plain münchen.txt".as_bytes()), "plain münchen.txt");
        assert_eq!(shown(b"a\x1b[2J\n\"\\\xff"), "\"a\\u{1b}[2J\\n\\\"\\\\\\xff\"");
        assert_eq!(shown("a\u{202e}b ".as_bytes()), "\"a\\u{202e}b \"");
    }
}
