//! omni's own store of secrets: one encrypted file in its home.
//!
//! The file is `omni secrets`, a line break, a version of two bytes, the length of a head in four, the head as JSON, and the
//! values as JSON under AES-256-GCM; all that comes before is authenticated with them. The head tells which secrets there
//! are, so that a start need not open what it does not use. The key is 32 random bytes: with the desktop's secret service, wrapped
//! by a passphrase (PBKDF2 with HMAC-SHA-256), when the kernel keeps it once it was given, or in a file of its own beside it,
//! which is where nobody guards it. A store is made by saying which; nothing is kept before.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"omni secrets\n";
/// The version of the format where the key is in a file or under a passphrase.
const VERSION_PLAIN: u16 = 1;
/// Where the desktop keeps it, which older ones do not know of: the newest that is read.
const VERSION: u16 = 2;
/// Largest file that is read: hundreds of the longest secrets.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Rounds by which a passphrase becomes a key, as OWASP recommends for PBKDF2 with HMAC-SHA-256.
const ROUNDS: u32 = 600_000;
/// Most rounds that a file may ask for, so that a foreign one cannot keep omni busy for minutes.
const ROUNDS_MAX: u32 = 10_000_000;
/// Bytes of what a store is called with the desktop.
const NAME_BYTES: usize = 16;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretStoreError {
    /// The file cannot be read or written.
    #[error("cannot use the secret store {}: {cause}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Others could read the key.
    #[error("others could read {}: make it yours alone, by `chmod 600`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// A newer omni wrote it.
    #[error("the secret store is of version {found}, and this omni reads up to {VERSION}: use the omni that wrote it")]
    Newer {
        /// Its version.
        found: u16,
    },
    /// It is no store, or not whole.
    #[error("the secret store {} is damaged: {what}; restore it from a copy, or remove it and set the secrets again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The key file is gone or another's.
    #[error("the key in {} does not open the secret store", path.display())]
    WrongKey {
        /// The key's file.
        path: PathBuf,
    },
    /// There is none yet, and nobody said who guards its key.
    #[error("there is no secret store yet: say who guards its key, by `omni secret passphrase`")]
    Unguarded,
    /// The passphrase was not given yet.
    #[error("the secret store is locked: run `omni secret unlock`")]
    Locked,
    /// The passphrase is not the one.
    #[error("this is not the passphrase of the secret store")]
    WrongPassphrase,
    /// The kernel keeps no keys for this user.
    #[error(
        "the kernel keeps no key here ({cause}), so a passphrase cannot guard the secret store: leave its key to whoever can read \
             your files, by `omni secret passphrase --none`"
    )]
    Keyring {
        /// Why.
        cause: io::Error,
    },
    /// The desktop does not give the key.
    #[error(
        "the desktop's secret service keeps the key of the secret store, and does not give it: {cause}; log in to the desktop, or \
             run omni where its message bus is, and `omni secret passphrase` there to do without it"
    )]
    Desktop {
        /// Why.
        cause: io::Error,
    },
    /// The desktop does not keep the key.
    #[error("the desktop's secret service cannot keep the key of the secret store: {cause}; nothing was changed")]
    NoDesktop {
        /// Why.
        cause: io::Error,
    },
    /// No such secret.
    #[error("there is no secret `{name}` in the store: add it by `omni secret set {name}`")]
    Missing {
        /// The name.
        name: String,
    },
    /// The system gave no random numbers.
    #[error("the system gave no random numbers")]
    Entropy,
}

/// What is known of a stored secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSecret {
    /// How a profile would declare it, as JSON.
    pub declared: serde_json::Value,
    /// When it was set, as RFC 3339.
    pub set_at: String,
    /// Whether its value is here, rather than where `declared` says.
    pub has_value: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Head {
    /// None where the key is with the desktop or in a file.
    passphrase: Option<Wrapped>,
    /// What the store is called with the desktop's secret service, where that has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    desktop: Option<String>,
    nonce: String,
    secrets: BTreeMap<String, StoredSecret>,
}

/// The key under a passphrase.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wrapped {
    salt: String,
    rounds: u32,
    nonce: String,
    key: String,
}

type Values = BTreeMap<String, Zeroizing<String>>;
type Key = Zeroizing<Vec<u8>>;

/// Who guards the key of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard<'a> {
    /// A passphrase; the kernel keeps the key for a while.
    Passphrase(&'a str),
    /// The desktop's secret service.
    Desktop,
    /// Nobody: it is in a file for its owner alone.
    File,
}

/// A new key for a store, which somebody guards already, with what it is to seal.
pub struct GuardedKey {
    key: Key,
    passphrase: Option<Wrapped>,
    desktop: Option<String>,
    values: Values,
}

impl GuardedKey {
    fn is_in_a_file(&self) -> bool {
        self.passphrase.is_none() && self.desktop.is_none()
    }
}

/// Where the system keeps a key: the kernel for a while, the desktop for good.
pub trait Keyring {
    /// Whether the kernel keeps a key, without having it.
    fn has(&self) -> bool;
    /// The key, if it is kept.
    fn get(&self) -> Option<Zeroizing<Vec<u8>>>;
    /// Keeps a key, and makes sure that it can be had again.
    ///
    /// # Errors
    /// What the kernel says.
    fn keep(&self, key: &[u8]) -> io::Result<()>;
    /// Forgets it.
    fn forget(&self);
    /// The key that the desktop keeps of a store.
    ///
    /// # Errors
    /// Why it does not give it.
    fn of_desktop(&self, store: &str) -> io::Result<Zeroizing<Vec<u8>>>;
    /// Has the desktop keep the key of a store, and makes sure that it does.
    ///
    /// # Errors
    /// Why it does not.
    fn keep_with_desktop(&self, store: &str, key: &[u8]) -> io::Result<()>;
    /// Has the desktop forget it.
    ///
    /// # Errors
    /// Why it does not.
    fn forget_with_desktop(&self, store: &str) -> io::Result<()>;
}

/// The store of one home, locked while this is held for writing.
#[derive(Debug)]
pub struct SecretStore {
    file: PathBuf,
    key_file: PathBuf,
    head: Head,
    sealed: Vec<u8>,
    authenticated: Vec<u8>,
    _lock: Option<File>,
}

impl SecretStore {
    /// Reads what is there, without a value; an empty one where there is none.
    ///
    /// # Errors
    /// A [`SecretStoreError`] for a file that cannot be read, is damaged or newer.
    pub fn read(home: &Path) -> Result<Self, SecretStoreError> {
        Self::load(home, None)
    }

    /// As [`SecretStore::read`], and nobody else writes it meanwhile.
    ///
    /// # Errors
    /// As [`SecretStore::read`], or where it cannot be locked.
    pub fn edit(home: &Path) -> Result<Self, SecretStoreError> {
        let path = home.join("secrets.lock");
        let failed = |cause| SecretStoreError::File { path: path.clone(), cause };
        let lock = File::options().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Self::load(home, Some(lock))
    }

    fn load(home: &Path, lock: Option<File>) -> Result<Self, SecretStoreError> {
        let (file, key_file) = (home.join("secrets"), home.join("secrets.key"));
        let mut store =
            Self { file, key_file, head: Head::default(), sealed: Vec::new(), authenticated: Vec::new(), _lock: lock };
        let Some(bytes) = store.bytes()? else { return Ok(store) };
        let damaged = |what| SecretStoreError::Damaged { path: store.file.clone(), what };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it is no secret store"))?;
        let (version, rest) = rest.split_first_chunk().ok_or_else(|| damaged("it ends early"))?;
        let found = u16::from_be_bytes(*version);
        if found > VERSION {
            return Err(SecretStoreError::Newer { found });
        }
        let (length, rest) = rest.split_first_chunk().ok_or_else(|| damaged("it ends early"))?;
        let length = u32::from_be_bytes(*length) as usize;
        let head = rest.get(..length).ok_or_else(|| damaged("it ends early"))?;
        store.head = serde_json::from_slice(head).map_err(|_| damaged("its head cannot be read"))?;
        store.sealed = rest[length..].to_vec();
        store.authenticated = bytes[..bytes.len() - store.sealed.len()].to_vec();
        Ok(store)
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, SecretStoreError> {
        match fs::metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(self.failed(cause)),
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(SecretStoreError::Damaged { path: self.file.clone(), what: "it is too large" });
            }
            Ok(_) => {}
        }
        fs::read(&self.file).map(Some).map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: io::Error) -> SecretStoreError {
        SecretStoreError::File { path: self.file.clone(), cause }
    }

    /// The secrets that are there, by name.
    #[must_use]
    pub fn secrets(&self) -> &BTreeMap<String, StoredSecret> {
        &self.head.secrets
    }

    /// Whether there is none yet, so that nobody guards its key.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.sealed.is_empty()
    }

    /// Whether a passphrase guards it.
    #[must_use]
    pub fn has_passphrase(&self) -> bool {
        self.head.passphrase.is_some()
    }

    /// Whether its passphrase has to be given before a value can be had.
    #[must_use]
    pub fn is_locked(&self, keyring: &dyn Keyring) -> bool {
        self.has_passphrase() && !keyring.has()
    }

    /// Whether its key is in a file, for whoever can read its owner's files.
    #[must_use]
    pub fn is_unprotected(&self) -> bool {
        !self.is_new() && !self.has_passphrase() && self.head.desktop.is_none()
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// A [`SecretStoreError`] where it has none, or the store cannot be opened.
    pub fn value(&self, name: &str, keyring: &dyn Keyring) -> Result<Zeroizing<String>, SecretStoreError> {
        let missing = || SecretStoreError::Missing { name: name.to_owned() };
        if !self.head.secrets.get(name).is_some_and(|secret| secret.has_value) {
            return Err(missing());
        }
        let mut values = self.open(&self.key(keyring)?)?;
        values.remove(name).ok_or_else(missing)
    }

    /// Adds a secret, over one of its name, or changes what is known of it; `value` where its value is to be here.
    ///
    /// # Errors
    /// A [`SecretStoreError`] where the store cannot be opened or written.
    pub fn set(
        &mut self,
        name: &str,
        known: StoredSecret,
        value: Option<Zeroizing<String>>,
        keyring: &dyn Keyring,
    ) -> Result<(), SecretStoreError> {
        let key = self.key(keyring)?;
        let mut values = self.open(&key)?;
        values.remove(name);
        values.extend(value.map(|value| (name.to_owned(), value)));
        self.head.secrets.insert(name.to_owned(), known);
        self.write(&key, &values)
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// [`SecretStoreError::Missing`] where there is none, and as [`SecretStore::set`].
    pub fn remove(&mut self, name: &str, keyring: &dyn Keyring) -> Result<(), SecretStoreError> {
        if !self.head.secrets.contains_key(name) {
            return Err(SecretStoreError::Missing { name: name.to_owned() });
        }
        let key = self.key(keyring)?;
        let mut values = self.open(&key)?;
        self.head.secrets.remove(name);
        values.remove(name);
        self.write(&key, &values)
    }

    /// Makes it a new key, and has that guarded: who knew the old one, from a copy of its file, knows nothing of what is written
    /// from then on. Nothing is, before [`SecretStore::guard`].
    ///
    /// # Errors
    /// [`SecretStoreError::Keyring`] or [`SecretStoreError::NoDesktop`] where it cannot be guarded so, and as [`SecretStore::set`].
    pub fn new_key(&self, by: Guard<'_>, keyring: &dyn Keyring) -> Result<GuardedKey, SecretStoreError> {
        let values = if self.is_new() { Values::new() } else { self.open(&self.key(keyring)?)? };
        let mut made = GuardedKey { key: random(KEY_BYTES)?, passphrase: None, desktop: None, values };
        match by {
            Guard::Passphrase(passphrase) => {
                made.passphrase = Some(wrap(&made.key, passphrase)?);
                // A kernel that keeps no keys could never open it again for a session.
                keyring.keep(&made.key).map_err(|cause| SecretStoreError::Keyring { cause })?;
            }
            Guard::Desktop => {
                // A name that no other store has.
                let name = random(NAME_BYTES)?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                let kept = keyring.keep_with_desktop(&name, &made.key);
                kept.map_err(|cause| SecretStoreError::NoDesktop { cause })?;
                made.desktop = Some(name);
            }
            // Between the writing of the one file and of the other, another key would open nothing.
            Guard::File if self.is_unprotected() => made.key = self.key(keyring)?,
            Guard::File => {}
        }
        Ok(made)
    }

    /// Has a new key seal it from now on.
    ///
    /// # Errors
    /// [`SecretStoreError::File`] where it cannot be written.
    pub fn guard(&mut self, by: GuardedKey, keyring: &dyn Keyring) -> Result<(), SecretStoreError> {
        let in_a_file = by.is_in_a_file();
        if in_a_file {
            self.write_key(&by.key)?;
        }
        let had_passphrase = std::mem::replace(&mut self.head.passphrase, by.passphrase).is_some();
        let had_desktop = std::mem::replace(&mut self.head.desktop, by.desktop);
        self.write(&by.key, &by.values)?;
        if !in_a_file {
            let _ = fs::remove_file(&self.key_file);
        }
        if had_passphrase && !self.has_passphrase() {
            keyring.forget();
        }
        // What the desktop goes on keeping opens nothing any more.
        let _ = had_desktop.map(|store| keyring.forget_with_desktop(&store));
        Ok(())
    }

    /// Takes the passphrase, and has the kernel keep the key.
    ///
    /// # Errors
    /// [`SecretStoreError::WrongPassphrase`], or [`SecretStoreError::Keyring`] where the kernel keeps no key.
    pub fn unlock(&self, passphrase: &str, keyring: &dyn Keyring) -> Result<(), SecretStoreError> {
        let Some(wrapped) = &self.head.passphrase else { return Ok(()) };
        let key = unwrap(wrapped, passphrase).ok_or(SecretStoreError::WrongPassphrase)?;
        self.open(&key)?;
        keyring.keep(&key).map_err(|cause| SecretStoreError::Keyring { cause })
    }

    fn key(&self, keyring: &dyn Keyring) -> Result<Key, SecretStoreError> {
        if self.is_new() {
            return Err(SecretStoreError::Unguarded);
        }
        if self.head.passphrase.is_some() {
            return keyring.get().ok_or(SecretStoreError::Locked);
        }
        if let Some(store) = &self.head.desktop {
            return keyring.of_desktop(store).map_err(|cause| SecretStoreError::Desktop { cause });
        }
        let failed = |cause| SecretStoreError::File { path: self.key_file.clone(), cause };
        let mut file = File::open(&self.key_file).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(SecretStoreError::Open { path: self.key_file.clone() });
        }
        let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
        file.read_exact(&mut key).map_err(failed)?;
        Ok(key)
    }

    fn open(&self, key: &[u8]) -> Result<Values, SecretStoreError> {
        if self.sealed.is_empty() {
            return Ok(Values::new());
        }
        let opened = open(key, &self.head.nonce, &self.authenticated, &self.sealed);
        let wrong = || match (&self.head.passphrase, &self.head.desktop) {
            (Some(_), _) => SecretStoreError::Locked,
            (None, Some(_)) => {
                SecretStoreError::Desktop { cause: io::Error::other("what it keeps does not open the store") }
            }
            (None, None) => SecretStoreError::WrongKey { path: self.key_file.clone() },
        };
        let damaged = |_| SecretStoreError::Damaged { path: self.file.clone(), what: "its values cannot be read" };
        serde_json::from_slice(&opened.ok_or_else(wrong)?).map_err(damaged)
    }

    fn write(&mut self, key: &[u8], values: &Values) -> Result<(), SecretStoreError> {
        let nonce = random(NONCE_LEN)?;
        self.head.nonce = BASE64_STANDARD.encode(&nonce);
        let encoded = |cause: serde_json::Error| self.failed(cause.into());
        let head = serde_json::to_vec(&self.head).map_err(encoded)?;
        let plain = Zeroizing::new(serde_json::to_vec(values).map_err(encoded)?);
        let length = u32::try_from(head.len()).map_err(|error| self.failed(io::Error::other(error)))?;
        let version = if self.head.desktop.is_some() { VERSION } else { VERSION_PLAIN };
        self.authenticated = [MAGIC, &version.to_be_bytes(), &length.to_be_bytes(), &head].concat();
        self.sealed = seal(key, &nonce, &self.authenticated, &plain).ok_or(SecretStoreError::Entropy)?;
        let whole = [&self.authenticated[..], &self.sealed].concat();
        replace(&self.file, &whole).map_err(|cause| self.failed(cause))
    }

    fn write_key(&self, key: &[u8]) -> Result<(), SecretStoreError> {
        replace(&self.key_file, key).map_err(|cause| SecretStoreError::File { path: self.key_file.clone(), cause })
    }
}

/// Puts a file in the place of another, at once and for good.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn random(count: usize) -> Result<Key, SecretStoreError> {
    let mut bytes = Zeroizing::new(vec![0; count]);
    getrandom::fill(&mut bytes).map_err(|_| SecretStoreError::Entropy)?;
    Ok(bytes)
}

fn cipher(key: &[u8]) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new)
}

fn seal(key: &[u8], nonce: &[u8], authenticated: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    // Room for the tag at once: a text that grew would leave a copy of itself behind.
    let mut sealed = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(plain);
    cipher(key)?.seal_in_place_append_tag(nonce, Aad::from(authenticated), &mut sealed).ok()?;
    Some(sealed)
}

fn open(key: &[u8], nonce: &str, authenticated: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let nonce = Nonce::try_assume_unique_for_key(&BASE64_STANDARD.decode(nonce).ok()?).ok()?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let length = cipher(key)?.open_in_place(nonce, Aad::from(authenticated), &mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

fn derived(passphrase: &str, salt: &[u8], rounds: NonZeroU32) -> Key {
    let mut key = Zeroizing::new(vec![0; KEY_BYTES]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase.as_bytes(), &mut key);
    key
}

fn wrap(key: &[u8], passphrase: &str) -> Result<Wrapped, SecretStoreError> {
    let (salt, nonce) = (random(SALT_BYTES)?, random(NONCE_LEN)?);
    let rounds = NonZeroU32::new(ROUNDS).ok_or(SecretStoreError::Entropy)?;
    let sealed = seal(&derived(passphrase, &salt, rounds), &nonce, MAGIC, key).ok_or(SecretStoreError::Entropy)?;
    let text = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    Ok(Wrapped { salt: text(&salt), rounds: ROUNDS, nonce: text(&nonce), key: text(&sealed) })
}

fn unwrap(wrapped: &Wrapped, passphrase: &str) -> Option<Key> {
    let rounds = NonZeroU32::new(wrapped.rounds).filter(|rounds| rounds.get() <= ROUNDS_MAX)?;
    let wrapping = derived(passphrase, &BASE64_STANDARD.decode(&wrapped.salt).ok()?, rounds);
    open(&wrapping, &wrapped.nonce, MAGIC, &BASE64_STANDARD.decode(&wrapped.key).ok()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// A system whose kernel keeps one key, and a desktop, where there is one, any of them.
    #[derive(Default)]
    struct Kept(RefCell<Option<Vec<u8>>>, RefCell<Option<BTreeMap<String, Vec<u8>>>>);

    impl Keyring for Kept {
        fn has(&self) -> bool {
            self.0.borrow().is_some()
        }
        fn get(&self) -> Option<Zeroizing<Vec<u8>>> {
            self.0.borrow().clone().map(Zeroizing::new)
        }
        fn keep(&self, key: &[u8]) -> io::Result<()> {
            *self.0.borrow_mut() = Some(key.to_vec());
            Ok(())
        }
        fn forget(&self) {
            *self.0.borrow_mut() = None;
        }
        fn of_desktop(&self, store: &str) -> io::Result<Zeroizing<Vec<u8>>> {
            let kept = self.1.borrow();
            let key = kept.as_ref().and_then(|kept| kept.get(store));
            key.cloned().map(Zeroizing::new).ok_or_else(|| io::Error::other("nothing is kept"))
        }
        fn keep_with_desktop(&self, store: &str, key: &[u8]) -> io::Result<()> {
            let mut kept = self.1.borrow_mut();
            let kept = kept.as_mut().ok_or_else(|| io::Error::other("there is no desktop"))?;
            kept.insert(store.to_owned(), key.to_vec());
            Ok(())
        }
        fn forget_with_desktop(&self, store: &str) -> io::Result<()> {
            self.1.borrow_mut().as_mut().map(|kept| kept.remove(store));
            Ok(())
        }
    }

    fn known() -> StoredSecret {
        let declared = serde_json::json!({"name": "a", "preset": "github"});
        StoredSecret { declared, set_at: "2026-01-01T00:00:00Z".to_owned(), has_value: true }
    }

    fn text(value: &str) -> Option<Zeroizing<String>> {
        Some(Zeroizing::new(value.to_owned()))
    }

    fn guard(home: &Path, by: Guard<'_>, keyring: &Kept) -> Result<(), SecretStoreError> {
        let mut store = SecretStore::edit(home)?;
        let key = store.new_key(by, keyring)?;
        store.guard(key, keyring)
    }

    /// A home with the secret `a`, whose key nobody guards, and the keyring.
    fn filled() -> (tempfile::TempDir, Kept) {
        let (home, keyring) = (tempfile::tempdir().unwrap(), Kept::default());
        guard(home.path(), Guard::File, &keyring).unwrap();
        SecretStore::edit(home.path()).unwrap().set("a", known(), text("the value"), &keyring).unwrap();
        (home, keyring)
    }

    #[test]
    fn what_was_set_is_there_and_nowhere_as_it_is() {
        let (home, keyring) = filled();
        let store = SecretStore::read(home.path()).unwrap();
        assert_eq!(store.secrets().get("a"), Some(&known()));
        assert_eq!(*store.value("a", &keyring).unwrap(), "the value");
        for entry in fs::read_dir(home.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o077, 0, "{entry:?}");
            assert!(!fs::read(entry.path()).unwrap().windows(9).any(|window| window == b"the value"), "{entry:?}");
        }
        assert!(matches!(store.value("b", &keyring), Err(SecretStoreError::Missing { .. })));
        let mut store = SecretStore::edit(home.path()).unwrap();
        store.set("b", known(), text("another"), &keyring).unwrap();
        store.remove("a", &keyring).unwrap();
        let store = SecretStore::read(home.path()).unwrap();
        assert_eq!(store.secrets().keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(*store.value("b", &keyring).unwrap(), "another");
    }

    #[test]
    fn nothing_is_kept_before_somebody_guards_the_key() {
        let (home, keyring) = (tempfile::tempdir().unwrap(), Kept::default());
        let mut store = SecretStore::edit(home.path()).unwrap();
        assert!(store.is_new() && !store.is_unprotected());
        let set = store.set("a", known(), text("the value"), &keyring);
        assert!(matches!(set, Err(SecretStoreError::Unguarded)), "{set:?}");
        // What could not be guarded leaves nothing behind, and nothing is there before it is said that it be.
        assert!(matches!(store.new_key(Guard::Desktop, &keyring), Err(SecretStoreError::NoDesktop { .. })));
        drop(store.new_key(Guard::File, &keyring).unwrap());
        let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["secrets.lock"]);
        store.guard(store.new_key(Guard::Passphrase("correct horse"), &keyring).unwrap(), &keyring).unwrap();
        store.set("a", known(), text("the value"), &keyring).unwrap();
        assert!(!store.is_new() && !store.is_unprotected() && !store.is_locked(&keyring));
        keyring.forget();
        assert!(store.is_locked(&keyring));
    }

    #[test]
    fn a_passphrase_opens_it_and_no_other_does() {
        let (home, keyring) = filled();
        guard(home.path(), Guard::Passphrase("correct horse"), &keyring).unwrap();
        assert!(!home.path().join("secrets.key").exists());
        keyring.forget();
        let store = SecretStore::read(home.path()).unwrap();
        assert!(matches!(store.value("a", &keyring), Err(SecretStoreError::Locked)));
        assert!(matches!(store.unlock("wrong horse", &keyring), Err(SecretStoreError::WrongPassphrase)));
        store.unlock("correct horse", &keyring).unwrap();
        assert_eq!(*store.value("a", &keyring).unwrap(), "the value");
        // Another passphrase, and then none.
        guard(home.path(), Guard::Passphrase("another horse"), &keyring).unwrap();
        let store = SecretStore::read(home.path()).unwrap();
        assert!(matches!(store.unlock("correct horse", &keyring), Err(SecretStoreError::WrongPassphrase)));
        assert_eq!(*store.value("a", &keyring).unwrap(), "the value");
        for _ in 0..2 {
            guard(home.path(), Guard::File, &keyring).unwrap();
            let store = SecretStore::read(home.path()).unwrap();
            assert!(store.is_unprotected());
            assert_eq!(*store.value("a", &keyring).unwrap(), "the value");
        }
    }

    #[test]
    fn a_desktop_keeps_the_key_where_there_is_one_and_gives_it_up_again() {
        let (home, keyring) = (tempfile::tempdir().unwrap(), Kept::default());
        *keyring.1.borrow_mut() = Some(BTreeMap::new());
        let kept = || keyring.1.borrow().as_ref().map_or(0, BTreeMap::len);
        let guard = |by| guard(home.path(), by, &keyring);
        guard(Guard::Desktop).unwrap();
        SecretStore::edit(home.path()).unwrap().set("a", known(), text("the value"), &keyring).unwrap();
        let value = || SecretStore::read(home.path()).and_then(|store| store.value("a", &keyring));
        let has_file = || home.path().join("secrets.key").exists();
        assert_eq!((value().unwrap().as_str(), has_file(), kept()), ("the value", false, 1));
        assert_eq!(fs::read(home.path().join("secrets")).unwrap()[MAGIC.len()..][..2], VERSION.to_be_bytes());
        for (by, file, keys) in [(Guard::File, true, 0), (Guard::Desktop, false, 1), (Guard::Desktop, false, 1)] {
            guard(by).unwrap();
            assert_eq!((value().unwrap().as_str(), has_file(), kept()), ("the value", file, keys), "{by:?}");
        }
        let desktop = keyring.1.take();
        assert!(matches!(value(), Err(SecretStoreError::Desktop { .. })));
        *keyring.1.borrow_mut() = desktop;
        guard(Guard::Passphrase("correct horse")).unwrap();
        assert_eq!((value().unwrap().as_str(), kept()), ("the value", 0));
        assert_eq!(fs::read(home.path().join("secrets")).unwrap()[MAGIC.len()..][..2], VERSION_PLAIN.to_be_bytes());
        *keyring.1.borrow_mut() = None;
        assert!(matches!(guard(Guard::Desktop), Err(SecretStoreError::NoDesktop { .. })));
        assert_eq!(value().unwrap().as_str(), "the value");
    }

    #[test]
    fn what_was_changed_is_refused() {
        let (home, keyring) = filled();
        let file = home.path().join("secrets");
        let good = fs::read(&file).unwrap();
        for at in [good.len() - 1, good.len() / 2] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).unwrap();
            let opened = SecretStore::read(home.path()).and_then(|store| store.value("a", &keyring).map(drop));
            assert!(opened.is_err(), "{at}");
        }
        let mut newer = good.clone();
        newer[MAGIC.len() + 1] = 9;
        fs::write(&file, newer).unwrap();
        assert!(matches!(SecretStore::read(home.path()), Err(SecretStoreError::Newer { found: 9 })));
        fs::write(&file, &good[..20]).unwrap();
        assert!(matches!(SecretStore::read(home.path()), Err(SecretStoreError::Damaged { .. })));
        fs::write(&file, &good).unwrap();
        fs::write(home.path().join("secrets.key"), [7; KEY_BYTES]).unwrap();
        let store = SecretStore::read(home.path()).unwrap();
        assert!(matches!(store.value("a", &keyring), Err(SecretStoreError::WrongKey { .. })));
    }
}
