//! The keys that sign checkpoints: files that only their owner can read.

use super::super::StoreError;
use super::LedgerError;
use crate::ledger::{FormatError, KeyKind, NoteSignature, VerifierKey, cosigned_text};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// What a private key's text begins with (golang.org/x/mod/sumdb/note).
const PREFIX: &str = "PRIVATE+KEY+";
/// Largest file of a key that is read.
const KEY_BYTES_MAX: u64 = 4096;
/// What everybody but the owner may do with a file.
const MODE_OTHERS: u32 = 0o077;
/// Bytes of the secret part of an Ed25519 key (RFC 8032).
const SEED_BYTES: usize = 32;

/// A key that signs.
#[derive(Debug)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifierKey,
}

/// Checks an Ed25519 signature (RFC 8032).
#[must_use]
pub fn check_signature(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

fn failed(step: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |cause| LedgerError::File { step, path: path.clone(), cause }.into()
}

impl SigningKey {
    /// Makes a key, named by what `name` makes of its public part, and keeps it in a file that is not there yet.
    ///
    /// # Errors
    /// A [`LedgerError`] when it cannot be made or kept.
    pub fn create(path: &Path, kind: KeyKind, name: impl FnOnce(&[u8; 32]) -> String) -> Result<Self, StoreError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        getrandom::fill(seed.as_mut()).map_err(|_| LedgerError::Entropy)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).map_err(|_| LedgerError::Entropy)?;
        let key = public_part(&pair);
        let format = |fault| LedgerError::Format { path: path.to_owned(), fault };
        let public = VerifierKey::new(&name(&key), kind, key).map_err(format)?;
        let made = Self { pair, public };
        let (owner, id) = (made.public.name(), made.public.to_string());
        let id = id.split('+').nth(1).unwrap_or_default();
        let secret = Zeroizing::new([&[kind.byte()], &seed[..]].concat());
        let text = Zeroizing::new(format!("{PREFIX}{owner}+{id}+{}\n", BASE64_STANDARD.encode(&secret[..])));
        // There is no moment at which half a key could be read. Whoever calls is alone with the directory.
        if path.symlink_metadata().is_ok() {
            return Err(failed("make", path)(ErrorKind::AlreadyExists.into()));
        }
        replace(path, text.as_bytes())?;
        Ok(made)
    }

    /// Reads a key; none where there is no file.
    ///
    /// # Errors
    /// [`LedgerError::KeyOpen`] for a file that others could read, [`LedgerError::Format`] for one that holds no key.
    pub fn read(path: &Path, kind: KeyKind) -> Result<Option<Self>, StoreError> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed("read", path)(cause)),
        };
        let found = file.metadata().map_err(failed("read", path))?;
        let open = |why| LedgerError::KeyOpen { path: path.to_owned(), why };
        if !found.is_file() {
            return Err(open("it is not a file").into());
        }
        if found.uid() != rustix::process::geteuid().as_raw() {
            return Err(open("it belongs to another user").into());
        }
        if found.mode() & MODE_OTHERS != 0 {
            return Err(open("run `chmod 600` on it").into());
        }
        let mut text = Zeroizing::new(String::new());
        file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(failed("read", path))?;
        let format = |fault| StoreError::from(LedgerError::Format { path: path.to_owned(), fault });
        Self::parse(text.trim_end_matches('\n'), kind).map(Some).map_err(format)
    }

    /// Reads a private key's text.
    fn parse(text: &str, kind: KeyKind) -> Result<Self, FormatError> {
        // Nothing of the text is told: it may be a key all the same.
        let wrong = |why| FormatError::Key { key: "…".to_owned(), why };
        let rest = text.strip_prefix(PREFIX).ok_or_else(|| wrong("it does not begin as a private key does"))?;
        let parts: Vec<_> = rest.splitn(3, '+').collect();
        let &[name, id, encoded] = parts.as_slice() else { return Err(wrong("it is not NAME+ID+KEY")) };
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(encoded).map_err(|_| wrong("it is not base 64"))?);
        let seed = bytes.strip_prefix(&[kind.byte()]).filter(|seed| seed.len() == SEED_BYTES);
        let seed = seed.ok_or_else(|| wrong("it is of another kind or length"))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| wrong("it is no Ed25519 key"))?;
        let public = VerifierKey::new(name, kind, public_part(&pair))?;
        let right = public.to_string().split('+').nth(1) == Some(id);
        if right { Ok(Self { pair, public }) } else { Err(wrong("its id does not follow from name and key")) }
    }

    /// The key that others check with.
    #[must_use]
    pub fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// Signs the text of a note.
    #[must_use]
    pub fn sign(&self, text: &str) -> NoteSignature {
        NoteSignature::new(&self.public, self.pair.sign(text.as_bytes()).as_ref().to_vec())
    }

    /// Signs, as a witness, that a checkpoint was consistent at a time, in seconds since 1970.
    #[must_use]
    pub fn cosign(&self, time: u64, text: &str) -> NoteSignature {
        let signature = self.pair.sign(cosigned_text(time, text).as_bytes());
        NoteSignature::cosignature(&self.public, time, signature.as_ref())
    }
}

fn public_part(pair: &Ed25519KeyPair) -> [u8; 32] {
    let mut public = [0; 32];
    for (slot, byte) in public.iter_mut().zip(pair.public_key().as_ref()) {
        *slot = *byte;
    }
    public
}

/// Replaces a file as a whole: whoever reads it sees the old one or the new one, and after a crash too.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    let mut options = OpenOptions::new();
    // What an omni that was killed left is not written into: it could be open to others.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("replace", &fresh)(error)),
        _ => {}
    }
    options.write(true).create_new(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    let written = options.open(&fresh).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(failed("write", &fresh))?;
    rename(&fresh, path)
}

/// Renames a file, for good.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::rename(from, to).map_err(failed("replace", to))?;
    let directory = to.parent().unwrap_or(Path::new("/"));
    let synced = OpenOptions::new().read(true).open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("bring to the disk", directory))
}
