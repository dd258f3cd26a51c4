//! The other machine: a witness, which signs a ledger's checkpoint only if the ledger has merely grown since the last one
//! that it signed (c2sp.org/tlog-witness).

use super::super::{Home, StoreError};
use super::files::options;
use super::key::{SigningKey, check_signature, replace};
use super::{LedgerError, read_checkpoint};
use crate::ledger::{Checkpoint, FormatError, KeyKind, NoteSignature, Submission, VerifierKey, WitnessRefusal};
use sha2::{Digest, Sha256};
use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

/// Bytes of a hash that tell files of ledgers apart.
const NAME_BYTES: usize = 16;
/// Bytes of the hash of a witness's key in the name that it is given where nobody gives one.
const KEY_NAME_BYTES: usize = 8;

/// Why a witness did not sign.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// What it was sent makes no sense.
    #[error(transparent)]
    Malformed(#[from] FormatError),
    /// The ledger did not merely grow, or is none of those that it knows.
    #[error(transparent)]
    Refused(#[from] WitnessRefusal),
    /// It cannot keep what it would sign.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A witness, with what it signed last of each ledger.
#[derive(Debug)]
pub struct Witness {
    directory: PathBuf,
    key: SigningKey,
    logs: Vec<VerifierKey>,
    /// Held for as long as it is there: two with the same memory could sign two histories.
    _lock: File,
}

fn hex(bytes: impl IntoIterator<Item = u8>, count: usize) -> String {
    bytes.into_iter().take(count).map(|byte| format!("{byte:02x}")).collect()
}

impl Witness {
    /// Opens the witness of this home, making its key the first time, under this name. `logs` are the keys of the ledgers
    /// that it signs for.
    ///
    /// # Errors
    /// [`LedgerError::Busy`] while another runs, and whatever keeps the key from being read or made.
    pub fn open(home: &Home, name: Option<&str>, logs: Vec<VerifierKey>) -> Result<Self, StoreError> {
        let directory = home.witness();
        let failed = |step, path: &PathBuf| {
            let path = path.clone();
            move |cause| StoreError::from(LedgerError::File { step, path: path.clone(), cause })
        };
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make", &directory)(error)),
            _ => {}
        }
        let path = directory.join("lock");
        let lock = options().write(true).create(true).truncate(false).open(&path).map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::Busy { path }.into()),
            Err(TryLockError::Error(cause)) => return Err(failed("lock", &path)(cause)),
        }
        let path = directory.join("key");
        let key = match SigningKey::read(&path, KeyKind::Cosignature)? {
            Some(key) => key,
            None => SigningKey::create(&path, KeyKind::Cosignature, |public| match name {
                Some(name) => name.to_owned(),
                None => format!("omni-witness/{}", hex(Sha256::digest(public), KEY_NAME_BYTES)),
            })?,
        };
        Ok(Self { directory, key, logs, _lock: lock })
    }

    /// What others check its signatures with.
    #[must_use]
    pub fn public(&self) -> &VerifierKey {
        self.key.public()
    }

    /// Judges what a ledger sent (the body of `add-checkpoint`), keeps it, and signs that it was consistent at this time, in
    /// seconds since 1970.
    ///
    /// # Errors
    /// A [`WitnessError`]; then nothing was signed.
    pub fn add(&self, body: &[u8], now: u64) -> Result<NoteSignature, WitnessError> {
        let submission = Submission::parse(body)?;
        let checkpoint = Checkpoint::parse(&submission.note.text)?;
        let path = self.path(&checkpoint.origin);
        let latest = read_checkpoint(&path)?.map(|(_, latest)| latest);
        submission.judge(&checkpoint, &self.logs, latest.as_ref(), check_signature)?;
        // Kept before it is signed, so that no crash lets it sign another history.
        if latest.as_ref() != Some(&checkpoint) {
            replace(&path, submission.note.to_string().as_bytes())?;
        }
        Ok(self.key.cosign(now, &submission.note.text))
    }

    /// Where it keeps what it signed last of a ledger.
    fn path(&self, origin: &str) -> PathBuf {
        self.directory.join(format!("latest.{}", hex(Sha256::digest(origin), NAME_BYTES)))
    }
}
