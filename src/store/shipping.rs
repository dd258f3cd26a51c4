//! How far each place that records are shipped to has got: a mark for each, in `$OMNI_HOME/shipping/`.
//!
//! A mark is replaced as a whole and brought to the disk before whoever moved it goes on, so that after any crash it says at
//! most what was delivered. It says which entry was delivered last, by its leaf's hash, so that another ledger in the place of
//! this one is noticed and not gone on with.

use super::{Home, StoreError};
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The version of the file.
const VERSION: u32 = 1;
/// Longest mark that is read, in bytes.
const MARK_BYTES_MAX: u64 = 64 << 10;
/// Most marks that are looked at.
const MARKS_MAX: usize = 256;
/// How a mark's file ends.
const SUFFIX: &str = "mark";

/// How far one place has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingMark {
    version: u32,
    /// Where to, without anything secret.
    pub to: String,
    /// The index of the first entry that was not delivered.
    pub next: u64,
    /// The hash of the leaf before it, in hexadecimal; none where nothing was delivered.
    pub leaf: Option<String>,
    /// From which entry on what is under way began, where later entries are joined with earlier ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_from: Option<u64>,
    /// When nothing was left to deliver, last.
    pub caught_up: Option<Timestamp>,
}

impl ShippingMark {
    /// The mark of a place that has got nothing yet.
    #[must_use]
    pub fn begin(to: String) -> Self {
        Self { version: VERSION, to, next: 0, leaf: None, open_from: None, caught_up: None }
    }
}

/// The mark of one place, which this process alone moves.
#[derive(Debug)]
pub struct MarkFile {
    path: PathBuf,
    /// Held for as long as this is.
    _lock: File,
}

impl MarkFile {
    /// Takes hold of a place's mark. `name` is a file's name.
    ///
    /// # Errors
    /// [`StoreError::ShippingBusy`] when another process ships there, and when the directory cannot be written to.
    pub fn take(home: &Home, name: &str) -> Result<Self, StoreError> {
        let directory = home.shipping();
        let failed = |path: &Path| StoreError::shipping("write", path);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(&directory)(error)),
            _ => {}
        }
        let path = directory.join(format!("{name}.lock"));
        let lock = options().write(true).create(true).open(&path).map_err(failed(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: directory.join(format!("{name}.{SUFFIX}")), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::ShippingBusy { name: name.to_owned() }),
            Err(fs::TryLockError::Error(cause)) => Err(failed(&path)(cause)),
        }
    }

    /// The mark's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mark; none where nothing was shipped there yet.
    ///
    /// # Errors
    /// [`StoreError::Shipping`] when it cannot be read, and [`StoreError::ShippingMark`] when it is none.
    pub fn read(&self) -> Result<Option<ShippingMark>, StoreError> {
        read(&self.path)
    }

    /// Puts a mark in the old one's place, and on the disk.
    ///
    /// # Errors
    /// [`StoreError::Shipping`] when it cannot be written.
    pub fn write(&self, mark: &ShippingMark) -> Result<(), StoreError> {
        let failed = StoreError::shipping("write", &self.path);
        replace(&self.path, mark).map_err(failed)
    }
}

fn replace(path: &Path, mark: &ShippingMark) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = options().write(true).create(true).truncate(true).open(&next)?;
    file.write_all(&serde_json::to_vec(mark)?)?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    options.mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

fn read(path: &Path) -> Result<Option<ShippingMark>, StoreError> {
    let failed = |cause| StoreError::shipping("read", path)(cause);
    let file = match options().read(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(MARK_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let mark = serde_json::from_slice::<ShippingMark>(&bytes).ok().filter(|mark| mark.version == VERSION);
    mark.map(Some).ok_or_else(|| StoreError::ShippingMark { path: path.to_owned() })
}

/// Every place's mark, by its name.
///
/// # Errors
/// When one cannot be read.
pub fn shipping_marks(home: &Home) -> Result<Vec<(String, ShippingMark)>, StoreError> {
    let directory = home.shipping();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(StoreError::shipping("read", &directory))?,
    };
    let mut marks = Vec::new();
    for entry in entries.take(MARKS_MAX) {
        let path = entry.map_err(StoreError::shipping("read", &directory))?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
        if path.extension().is_some_and(|extension| extension == SUFFIX)
            && let Some(mark) = read(&path)?
        {
            marks.push((name.to_owned(), mark));
        }
    }
    marks.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(marks)
}
