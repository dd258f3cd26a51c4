//! The bodies of requests and answers that a session recorded: one append-only file, to which its journal refers by hashes.
//!
//! Each body is its length (four bytes, big-endian), its SHA-256 (32 bytes), and the bytes. An end that is torn was never
//! referred to.

use super::{Home, StoreError};
use crate::model::SessionId;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file's name in its session's directory.
const NAME: &str = "bodies";
/// Most bytes that one session's file takes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes before a body: its length and its hash.
const HEAD_BYTES: usize = 4 + 32;

/// A session's file of bodies that is being written.
#[derive(Debug)]
pub struct BodyFile {
    file: File,
    bytes: u64,
}

/// Why a body was not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// The session's file is as large as it may be.
    #[error("the session's recorded bodies take {} MiB already", FILE_BYTES_MAX >> 20)]
    Full,
    /// The file could not be written, and takes nothing more.
    #[error("the file of bodies cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl BodyFile {
    /// Makes the file beside a session's journal, for its owner alone. There must be none yet.
    ///
    /// # Errors
    /// [`StoreError::JournalCreate`] when it cannot be made.
    pub fn beside(journal: &Path) -> Result<Self, StoreError> {
        let path = journal.with_file_name(NAME);
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC).bits().cast_signed();
        let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).custom_flags(flags).open(&path);
        Ok(Self { file: opened.map_err(|cause| StoreError::JournalCreate { path, cause })?, bytes: 0 })
    }
}

/// Where bodies go that are recorded.
pub trait BodyRecorder: Send {
    /// Adds a body; returns its SHA-256 in hexadecimal.
    ///
    /// # Errors
    /// Why it was not kept.
    fn append(&mut self, body: &[u8]) -> Result<String, NotKept>;
}

impl BodyRecorder for BodyFile {
    fn append(&mut self, body: &[u8]) -> Result<String, NotKept> {
        let length = u32::try_from(body.len()).map_err(|_| NotKept::Full)?;
        let more = (HEAD_BYTES + body.len()) as u64;
        if self.bytes + more > FILE_BYTES_MAX {
            return Err(NotKept::Full);
        }
        let hash = Sha256::digest(body);
        let written = self.file.write_all(&[&length.to_be_bytes()[..], &hash, body].concat());
        // What lies in the file after a failure is unknown, and nothing behind it could be found.
        self.bytes = if written.is_ok() { self.bytes + more } else { FILE_BYTES_MAX };
        written?;
        Ok(hex(&hash))
    }
}

impl AsFd for BodyFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The bodies of one session, to be read.
#[derive(Debug)]
pub struct Bodies {
    path: PathBuf,
    file: Option<File>,
    places: BTreeMap<String, (u64, usize)>,
}

impl Bodies {
    /// Finds what a session recorded; a session that recorded nothing has none.
    ///
    /// # Errors
    /// [`StoreError::JournalRead`].
    pub fn open(home: &Home, session: &SessionId) -> Result<Self, StoreError> {
        let path = home.session(session).join(NAME);
        let failed = |cause| StoreError::JournalRead { path: path.clone(), cause };
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            other => Some(other.map_err(failed)?),
        };
        let places = file.as_ref().map(places).transpose().map_err(failed)?.unwrap_or_default();
        Ok(Self { path, file, places })
    }

    /// The body with this SHA-256 in hexadecimal; none where there is none, or where the bytes are not those any more.
    ///
    /// # Errors
    /// [`StoreError::JournalRead`].
    pub fn read(&self, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (Some(file), Some((offset, length))) = (&self.file, self.places.get(sha256)) else { return Ok(None) };
        let mut body = vec![0; *length];
        let failed = |cause| StoreError::JournalRead { path: self.path.clone(), cause };
        file.read_exact_at(&mut body, *offset).map_err(failed)?;
        Ok((hex(&Sha256::digest(&body)) == sha256).then_some(body))
    }
}

/// Where each body lies, up to a torn end.
fn places(file: &File) -> io::Result<BTreeMap<String, (u64, usize)>> {
    let end = file.metadata()?.len().min(FILE_BYTES_MAX);
    let (mut places, mut at) = (BTreeMap::new(), 0);
    while at + HEAD_BYTES as u64 <= end {
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, at)?;
        let (length, hash) = head.split_at(4);
        let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        let body = at + HEAD_BYTES as u64;
        at = body + length as u64;
        if at <= end {
            places.insert(hex(hash), (body, length));
        }
    }
    Ok(places)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn bodies_are_found_by_their_hashes_up_to_a_torn_end() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        let session = SessionId::from_entropy([1; 10]);
        home.create_session(&session).unwrap();
        assert_eq!(Bodies::open(&home, &session).unwrap().read("00").unwrap(), None);

        let journal = home.session(&session).join("proxy.journal");
        let mut file = BodyFile::beside(&journal).unwrap();
        let (one, two) = (file.append(b"one").unwrap(), file.append(b"").unwrap());
        assert!(matches!(BodyFile::beside(&journal), Err(StoreError::JournalCreate { .. })));
        let path = journal.with_file_name(NAME);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        file.file.write_all(&[0, 0, 0, 9, 1, 2, 3]).unwrap();

        let bodies = Bodies::open(&home, &session).unwrap();
        assert_eq!(bodies.read(&one).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(bodies.read(&two).unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(bodies.places.len(), 2);

        let changed = OpenOptions::new().write(true).open(&path).unwrap();
        changed.write_all_at(b"O", HEAD_BYTES as u64).unwrap();
        assert_eq!(Bodies::open(&home, &session).unwrap().read(&one).unwrap(), None);
    }

    #[test]
    fn a_full_file_takes_nothing_more() {
        let place = tempfile::tempdir().unwrap();
        let mut file = BodyFile::beside(&place.path().join("proxy.journal")).unwrap();
        file.bytes = FILE_BYTES_MAX - HEAD_BYTES as u64 - 2;
        assert!(matches!(file.append(b"three"), Err(NotKept::Full)));
        assert!(file.append(b"22").is_ok());
        assert!(matches!(file.append(b""), Err(NotKept::Full)));
    }
}
