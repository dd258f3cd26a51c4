//! What a session's record keeps apart, since it may be personal: bodies and the terminal. Each session has a key of its own,
//! in `$OMNI_HOME/keys/`; once that is gone, what it sealed is noise, and whatever the journal says of it still holds.
//!
//! A sealed file is `OMNISEAL`, and then pieces: the length of a piece (four bytes, big-endian) and the piece, sealed by
//! AES-256-GCM. The nonce is the file's kind and the piece's number, so that a piece opens in its own place alone.

use super::{Home, StoreError};
use crate::model::SessionId;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a sealed file begins with.
pub(super) const MAGIC: &[u8; 8] = b"OMNISEAL";
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes before a piece: its length.
pub(super) const LENGTH_BYTES: usize = 4;
/// What sealing adds to a piece.
pub(super) const TAG_BYTES: usize = 16;
/// Largest piece of a terminal's recording that is read: far more than one event of one.
const PIECE_BYTES_MAX: usize = 16 << 20;

/// Which of a session's files. One key seals each piece of each file under another nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bodies = 1,
    Terminal = 2,
}

/// A session's key.
#[derive(Debug)]
pub(super) struct PrivateKey(LessSafeKey);

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

impl PrivateKey {
    /// The session's key, which is made where there is none yet.
    pub fn create(home: &Home, session: &SessionId) -> Result<Self, StoreError> {
        let path = home.private_key(session);
        let failed = |cause| StoreError::JournalCreate { path: path.clone(), cause };
        match DirBuilder::new().mode(0o700).create(home.keys()) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(key.as_mut()).map_err(|_| failed(ErrorKind::Other.into()))?;
        match options().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(key.as_ref()).and_then(|()| file.sync_all()).map_err(failed)?;
                Self::of(key.as_ref()).ok_or_else(|| failed(ErrorKind::InvalidData.into()))
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Self::read(home, session)?.ok_or_else(|| failed(ErrorKind::InvalidData.into()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// The session's key; none where there is none, or none any more.
    pub fn read(home: &Home, session: &SessionId) -> Result<Option<Self>, StoreError> {
        let path = home.private_key(session);
        let failed = |cause| StoreError::JournalRead { path: path.clone(), cause };
        let file = match options().read(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        let mut key = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut key).map_err(failed)?;
        Ok(Self::of(&key))
    }

    fn of(key: &[u8]) -> Option<Self> {
        UnboundKey::new(&AES_256_GCM, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    fn nonce(kind: Kind, number: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[3] = kind as u8;
        nonce[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a piece, which nothing else of the session was sealed as.
    pub fn seal(&self, kind: Kind, number: u64, mut plain: Vec<u8>) -> io::Result<Vec<u8>> {
        let sealed = self.0.seal_in_place_append_tag(Self::nonce(kind, number), Aad::empty(), &mut plain);
        sealed.map(|()| plain).map_err(|_| ErrorKind::InvalidInput.into())
    }

    /// Opens a piece; none where its bytes are not those that were sealed there.
    pub fn open(&self, kind: Kind, number: u64, mut sealed: Vec<u8>) -> Option<Vec<u8>> {
        let length = self.0.open_in_place(Self::nonce(kind, number), Aad::empty(), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

/// A recording of a session's terminal that is being written, sealed.
#[derive(Debug)]
pub struct SealedFile {
    file: File,
    key: PrivateKey,
    pieces: u64,
}

impl SealedFile {
    /// Makes the file of a session's terminal, which is not there yet.
    ///
    /// # Errors
    /// [`StoreError::JournalCreate`].
    pub fn create_recording(home: &Home, session: &SessionId) -> Result<Self, StoreError> {
        let (key, path) = (PrivateKey::create(home, session)?, home.recording(session));
        let failed = |cause| StoreError::JournalCreate { path: path.clone(), cause };
        let mut file = options().append(true).create_new(true).open(&path).map_err(failed)?;
        file.write_all(MAGIC).map_err(failed)?;
        Ok(Self { file, key, pieces: 0 })
    }

    /// As if the disk were full from here on.
    #[cfg(test)]
    pub fn fill_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").unwrap_or_else(|error| panic!("{error}"));
    }

    /// Adds a piece, by one write.
    ///
    /// # Errors
    /// Why it could not be.
    pub fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        let sealed = self.key.seal(Kind::Terminal, self.pieces, piece.to_vec())?;
        // A nonce is used once, whether the piece gets to the file or not.
        self.pieces += 1;
        let length = u32::try_from(sealed.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        self.file.write_all(&[&length.to_be_bytes()[..], &sealed].concat())
    }
}

/// A recording that is read, piece by piece.
#[derive(Debug)]
pub struct SealedReader {
    file: io::BufReader<File>,
    key: PrivateKey,
    pieces: u64,
    piece: io::Cursor<Vec<u8>>,
}

/// What there is of a recording.
#[derive(Debug)]
pub enum Sealed {
    /// It can be read.
    There(Box<SealedReader>),
    /// There is none.
    Missing,
    /// There was one, and its key was destroyed.
    Forgotten,
}

impl SealedReader {
    /// Opens the recording of a session's terminal.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open_recording(home: &Home, session: &SessionId) -> io::Result<Sealed> {
        let path = home.recording(session);
        let mut file = match options().read(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let forgotten = home.forgotten(session).exists();
                return Ok(if forgotten { Sealed::Forgotten } else { Sealed::Missing });
            }
            other => other?,
        };
        let key = PrivateKey::read(home, session).map_err(io::Error::other)?;
        let Some(key) = key else { return Ok(Sealed::Forgotten) };
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is not sealed as omni seals recordings"));
        }
        let file = io::BufReader::new(file);
        Ok(Sealed::There(Box::new(Self { file, key, pieces: 0, piece: io::Cursor::default() })))
    }

    /// Goes on to the next piece; says whether there is one. A torn one is none.
    fn turn(&mut self) -> io::Result<bool> {
        let mut length = [0; LENGTH_BYTES];
        let mut sealed = Vec::new();
        let read = self.file.read_exact(&mut length).and_then(|()| {
            let length = u32::from_be_bytes(length) as usize;
            if length > PIECE_BYTES_MAX {
                return Err(io::Error::new(ErrorKind::InvalidData, "a piece of it is too large"));
            }
            sealed.resize(length, 0);
            self.file.read_exact(&mut sealed)
        });
        match read {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        let piece = self.key.open(Kind::Terminal, self.pieces, sealed);
        let changed = || io::Error::new(ErrorKind::InvalidData, format!("piece {} was changed", self.pieces + 1));
        self.piece = io::Cursor::new(piece.ok_or_else(changed)?);
        self.pieces += 1;
        Ok(true)
    }
}

impl Read for SealedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(buffer)? {
                0 if !buffer.is_empty() && self.turn()? => {}
                count => return Ok(count),
            }
        }
    }
}

/// What there is of a session's private parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrivateParts {
    /// Bytes of recorded bodies.
    pub bodies: u64,
    /// Bytes of the terminal's recording.
    pub recording: u64,
    /// Whether their key is there.
    pub key: bool,
}

impl PrivateParts {
    /// What a session has.
    #[must_use]
    pub fn of(home: &Home, session: &SessionId) -> Self {
        let bytes = |path: PathBuf| path.symlink_metadata().map_or(0, |found| found.len());
        let key = home.private_key(session).symlink_metadata().is_ok();
        Self { bodies: bytes(home.bodies(session)), recording: bytes(home.recording(session)), key }
    }

    /// Whether there is nothing, nor a key for it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Destroys a session's key and what it sealed. Killed in between, it is done again from the beginning.
///
/// # Errors
/// [`StoreError::JournalWrite`] with what could not be removed; the key goes first.
pub fn destroy_private_parts(home: &Home, session: &SessionId) -> Result<(), StoreError> {
    let key = home.private_key(session);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| StoreError::JournalWrite { path: path.clone(), cause }
    };
    match options().write(true).open(&key) {
        // Where the file system writes in place, no copy of it stays on the disk.
        Ok(mut file) => file.write_all(&[0; KEY_BYTES]).and_then(|()| file.sync_all()).map_err(failed(&key))?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&key)(error)),
    }
    // So that it can be told from a session that never had any.
    options().write(true).create(true).truncate(true).open(home.forgotten(session)).map_err(failed(&key))?;
    for path in [key.clone(), home.bodies(session), home.recording(session)] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&path)(error)),
            _ => {}
        }
    }
    match File::open(home.keys()).and_then(|directory| directory.sync_all()) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&key)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Home, SessionId) {
        let place = tempfile::tempdir().unwrap();
        let (home, session) = (Home::open(&place.path().join("home")).unwrap(), SessionId::from_entropy([1; 10]));
        home.create_session(&session).unwrap();
        (place, home, session)
    }

    fn read(home: &Home, session: &SessionId) -> io::Result<String> {
        let Sealed::There(mut reader) = SealedReader::open_recording(home, session)? else {
            return Err(ErrorKind::NotFound.into());
        };
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn a_recording_is_noise_without_its_key() {
        let (_place, home, session) = place();
        assert!(matches!(SealedReader::open_recording(&home, &session).unwrap(), Sealed::Missing));
        let mut file = SealedFile::create_recording(&home, &session).unwrap();
        for piece in ["one\n", "", "two\n"] {
            file.put(piece.as_bytes()).unwrap();
        }
        assert_eq!(read(&home, &session).unwrap(), "one\ntwo\n");
        let bytes = std::fs::read(home.recording(&session)).unwrap();
        assert!(!bytes.windows(3).any(|window| window == b"one" || window == b"two"));
        // A torn end is none, a changed byte is told.
        std::fs::write(home.recording(&session), &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(read(&home, &session).unwrap(), "one\n");
        let mut changed = bytes.clone();
        changed[MAGIC.len() + LENGTH_BYTES] ^= 1;
        std::fs::write(home.recording(&session), changed).unwrap();
        assert!(read(&home, &session).unwrap_err().to_string().contains("piece 1 was changed"));
        // Pieces in another order are changed too.
        let piece = LENGTH_BYTES + 4 + TAG_BYTES;
        let (first, rest) = bytes[MAGIC.len()..].split_at(piece);
        let moved = [MAGIC, &rest[LENGTH_BYTES + TAG_BYTES..], first].concat();
        std::fs::write(home.recording(&session), moved).unwrap();
        assert!(read(&home, &session).is_err());
        std::fs::write(home.recording(&session), bytes).unwrap();
        std::fs::remove_file(home.private_key(&session)).unwrap();
        assert!(matches!(SealedReader::open_recording(&home, &session).unwrap(), Sealed::Forgotten));
    }

    #[test]
    fn what_was_destroyed_is_gone_and_is_known_to_have_been() {
        let (_place, home, session) = place();
        SealedFile::create_recording(&home, &session).unwrap().put(b"one").unwrap();
        let found = PrivateParts::of(&home, &session);
        assert_eq!((found.bodies, found.recording), (0, 8 + 4 + 3 + 16));
        for _ in 0..2 {
            destroy_private_parts(&home, &session).unwrap();
            assert!(PrivateParts::of(&home, &session).is_empty());
            assert!(!home.private_key(&session).exists());
            assert!(matches!(SealedReader::open_recording(&home, &session).unwrap(), Sealed::Forgotten));
        }
    }
}
