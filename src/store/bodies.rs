//! The bodies of requests and answers that a session recorded: one append-only file, to which its journal refers by hashes.
//!
//! The file is sealed (see `private`). Before each piece's length stands the hash (32 bytes) that the journal refers to it by:
//! the SHA-256 of a salt of 32 bytes and the body, which the piece holds in that order. So the hash says nothing to whoever
//! guesses what a body was, once the key is destroyed. An end that is torn was never referred to.

use super::private::{Kind, LENGTH_BYTES, MAGIC, PrivateKey, TAG_BYTES};
use super::{Home, StoreError};
use crate::model::SessionId;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// Most bytes that one session's file takes.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes before a piece: its hash and its length.
const HEAD_BYTES: usize = 32 + LENGTH_BYTES;
/// Bytes of a salt.
const SALT_BYTES: usize = 32;

/// A session's file of bodies that is being written.
#[derive(Debug)]
pub struct BodyFile {
    file: File,
    key: PrivateKey,
    pieces: u64,
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
    /// Makes a session's file, for its owner alone. There must be none yet.
    ///
    /// # Errors
    /// [`StoreError::JournalCreate`] when it cannot be made.
    pub fn create(home: &Home, session: &SessionId) -> Result<Self, StoreError> {
        let (key, path) = (PrivateKey::create(home, session)?, home.bodies(session));
        let failed = |cause| StoreError::JournalCreate { path: path.clone(), cause };
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC).bits().cast_signed();
        let opened = OpenOptions::new().append(true).create_new(true).mode(0o600).custom_flags(flags).open(&path);
        let mut file = opened.map_err(failed)?;
        file.write_all(MAGIC).map_err(failed)?;
        Ok(Self { file, key, pieces: 0, bytes: 0 })
    }

    fn write(&mut self, body: &[u8]) -> io::Result<String> {
        let mut salted = vec![0; SALT_BYTES];
        getrandom::fill(&mut salted).map_err(|_| io::Error::from(ErrorKind::Other))?;
        salted.extend_from_slice(body);
        let hash = Sha256::digest(&salted);
        let sealed = self.key.seal(Kind::Bodies, self.pieces, salted)?;
        self.pieces += 1;
        let length = u32::try_from(sealed.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        self.file.write_all(&[&hash[..], &length.to_be_bytes(), &sealed].concat())?;
        Ok(hex(&hash))
    }
}

/// Where bodies go that are recorded.
pub trait BodyRecorder: Send {
    /// Adds a body; returns, in hexadecimal, the SHA-256 of a salt and it.
    ///
    /// # Errors
    /// Why it was not kept.
    fn append(&mut self, body: &[u8]) -> Result<String, NotKept>;
}

impl BodyRecorder for BodyFile {
    fn append(&mut self, body: &[u8]) -> Result<String, NotKept> {
        let more = (HEAD_BYTES + SALT_BYTES + body.len() + TAG_BYTES) as u64;
        if self.bytes + more > FILE_BYTES_MAX {
            return Err(NotKept::Full);
        }
        let written = self.write(body);
        // What lies in the file after a failure is unknown, and nothing behind it could be found.
        self.bytes = if written.is_ok() { self.bytes + more } else { FILE_BYTES_MAX };
        Ok(written?)
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
    file: Option<(File, PrivateKey)>,
    /// Where each piece lies, its length, and its number.
    places: BTreeMap<String, (u64, usize, u64)>,
}

impl Bodies {
    /// Finds what a session recorded; a session that recorded nothing, or whose key was destroyed, has none.
    ///
    /// # Errors
    /// [`StoreError::JournalRead`].
    pub fn open(home: &Home, session: &SessionId) -> Result<Self, StoreError> {
        let path = home.bodies(session);
        let failed = |cause| StoreError::JournalRead { path: path.clone(), cause };
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            other => Some(other.map_err(failed)?),
        };
        let file = file.zip(PrivateKey::read(home, session)?);
        let places = file.as_ref().map(|(file, _)| places(file)).transpose().map_err(failed)?.unwrap_or_default();
        Ok(Self { path, file, places })
    }

    /// The body that the journal refers to by this hash; none where there is none, or where the bytes are not those any more.
    ///
    /// # Errors
    /// [`StoreError::JournalRead`].
    pub fn read(&self, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (Some((file, key)), Some((offset, length, number))) = (&self.file, self.places.get(sha256)) else {
            return Ok(None);
        };
        let mut sealed = vec![0; *length];
        let failed = |cause| StoreError::JournalRead { path: self.path.clone(), cause };
        file.read_exact_at(&mut sealed, *offset).map_err(failed)?;
        let salted = key.open(Kind::Bodies, *number, sealed).filter(|salted| hex(&Sha256::digest(salted)) == sha256);
        Ok(salted.map(|mut salted| salted.split_off(SALT_BYTES.min(salted.len()))))
    }
}

/// Where each body lies, up to a torn end.
fn places(file: &File) -> io::Result<BTreeMap<String, (u64, usize, u64)>> {
    let end = file.metadata()?.len().min(FILE_BYTES_MAX + MAGIC.len() as u64);
    let (mut places, mut at) = (BTreeMap::new(), MAGIC.len() as u64);
    let mut magic = [0; MAGIC.len()];
    if end < at || file.read_exact_at(&mut magic, 0).map(|()| &magic != MAGIC)? {
        return Ok(places);
    }
    while at + HEAD_BYTES as u64 <= end {
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, at)?;
        let (hash, length) = head.split_at(HEAD_BYTES - LENGTH_BYTES);
        let length = length.iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
        let body = at + HEAD_BYTES as u64;
        at = body + length as u64;
        if at <= end {
            places.insert(hex(hash), (body, length, places.len() as u64));
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
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn bodies_are_found_by_their_hashes_up_to_a_torn_end() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        let session = SessionId::from_entropy([1; 10]);
        home.create_session(&session).unwrap();
        assert_eq!(Bodies::open(&home, &session).unwrap().read("00").unwrap(), None);

        let mut file = BodyFile::create(&home, &session).unwrap();
        let (one, two) = (file.append(b"one").unwrap(), file.append(b"").unwrap());
        assert!(matches!(BodyFile::create(&home, &session), Err(StoreError::JournalCreate { .. })));
        let path = home.bodies(&session);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = file.append(b"one").unwrap();
        assert_ne!(one, again, "the same body has another hash each time");
        let written = fs::read(&path).unwrap();
        assert!(!written.windows(3).any(|window| window == b"one"));
        let torn = [&[7; 32][..], &[0, 0, 0, 9, 1, 2, 3]].concat();
        file.file.write_all(&torn).unwrap();

        let bodies = Bodies::open(&home, &session).unwrap();
        assert_eq!(bodies.read(&one).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(bodies.read(&two).unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(bodies.read(&again).unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(bodies.places.len(), 3);

        let first = MAGIC.len() + HEAD_BYTES;
        let changed = OpenOptions::new().write(true).open(&path).unwrap();
        changed.write_all_at(&[!written[first]], first as u64).unwrap();
        let bodies = Bodies::open(&home, &session).unwrap();
        assert_eq!(bodies.read(&one).unwrap(), None);
        assert_eq!(bodies.read(&two).unwrap().as_deref(), Some(&b""[..]));
        fs::remove_file(home.private_key(&session)).unwrap();
        assert_eq!(Bodies::open(&home, &session).unwrap().read(&two).unwrap(), None);
    }

    #[test]
    fn a_full_file_takes_nothing_more() {
        let place = tempfile::tempdir().unwrap();
        let (home, session) = (Home::open(&place.path().join("home")).unwrap(), SessionId::from_entropy([1; 10]));
        home.create_session(&session).unwrap();
        let mut file = BodyFile::create(&home, &session).unwrap();
        file.bytes = FILE_BYTES_MAX - (HEAD_BYTES + SALT_BYTES + TAG_BYTES) as u64 - 2;
        assert!(matches!(file.append(b"three"), Err(NotKept::Full)));
        assert!(file.append(b"22").is_ok());
        assert!(matches!(file.append(b""), Err(NotKept::Full)));
    }
}
