//! Who keeps the key of the secret store: the kernel, once it was given, and the desktop.

use super::secret_service::SecretService;
use crate::store::Keyring;
use crate::sys;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zeroize::Zeroizing;

/// Where the system keeps the key of one home's store.
#[derive(Debug)]
pub struct SystemKeyring {
    /// None for a home whose path no key can be named by.
    description: Option<CString>,
}

impl SystemKeyring {
    /// The place of this home's key.
    #[must_use]
    pub fn of(home: &Path) -> Self {
        let name = [b"omni:secrets:", home.as_os_str().as_bytes()].concat();
        Self { description: CString::new(name).ok() }
    }

    /// Has the kernel forget the key, if it keeps it.
    pub fn lock(&self) {
        self.forget();
    }
}

impl Keyring for SystemKeyring {
    fn has(&self) -> bool {
        self.description.as_deref().is_some_and(sys::keeps_key)
    }

    fn get(&self) -> Option<Zeroizing<Vec<u8>>> {
        sys::kept_key(self.description.as_deref()?).ok().map(Zeroizing::new)
    }

    fn keep(&self, key: &[u8]) -> io::Result<()> {
        let description = self.description.as_deref().ok_or(io::ErrorKind::InvalidFilename)?;
        sys::keep_key(description, key)?;
        // A process that does not possess its user's keyring, as outside of a login, adds keys to it that it cannot read.
        sys::kept_key(description).map(Zeroizing::new).map(drop)
    }

    fn forget(&self) {
        if let Some(description) = &self.description {
            // There may be none.
            let _ = sys::forget_key(description);
        }
    }

    fn of_desktop(&self, store: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        SecretService::reach()?.get(store)
    }

    fn keep_with_desktop(&self, store: &str, key: &[u8]) -> io::Result<()> {
        SecretService::reach()?.keep(store, key)
    }

    fn forget_with_desktop(&self, store: &str) -> io::Result<()> {
        SecretService::reach()?.forget(store)
    }
}
