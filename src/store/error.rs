//! What can go wrong with the durable places, and what to do about it.

use crate::ledger::FrameError;
use std::io;
use std::path::{Path, PathBuf};

/// A failed step, with what it worked on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is neither `$OMNI_HOME` nor a home directory.
    #[error("no place to keep sessions: neither OMNI_HOME nor HOME is set; set OMNI_HOME to a directory of yours")]
    HomeUnknown,
    /// The home could not be made or looked at.
    #[error("cannot use {}: {source}; set OMNI_HOME to a directory you can write to", path.display())]
    HomeOpen {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The home is there, but others could read or change what is in it.
    #[error("refusing to keep sessions in {}: {fault}", path.display())]
    HomeUnsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        fault: HomeFault,
    },
    /// The disk, or the user's share of it, is full.
    #[error("no space left for {}: nothing more can be recorded; free some space, then try again", path.display())]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// A journal could not be made.
    #[error("cannot create the journal {}: {source}", path.display())]
    JournalCreate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fact could not become a frame.
    #[error("cannot record to {}", path.display())]
    JournalEncode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FrameError,
    },
    /// A frame could not be written.
    #[error("cannot write to the journal {}: {source}", path.display())]
    JournalWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A frame could not be brought to the disk.
    #[error("cannot bring the journal {} to the disk: {source}", path.display())]
    JournalSync {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier write failed, so that nothing may follow it.
    #[error("the journal {} takes no more records because an earlier write failed", path.display())]
    JournalPoisoned {
        /// The file.
        path: PathBuf,
    },
    /// A journal could not be read.
    #[error("cannot read the journal {}: {source}", path.display())]
    JournalRead {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a directory is no place for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HomeFault {
    /// It is a symbolic link.
    #[error("it is a symbolic link; set OMNI_HOME to the directory itself")]
    Symlink,
    /// It is a file or a device.
    #[error("it is not a directory; move it away or set OMNI_HOME to another place")]
    NotDirectory,
    /// Somebody else owns it.
    #[error("it belongs to user {owner} and you are user {user}; set OMNI_HOME to a directory of your own")]
    Owner {
        /// The owner's user id.
        owner: u32,
        /// Our effective user id.
        user: u32,
    },
    /// Others may write to it.
    #[error("others can write to it (mode {mode:03o}); run `chmod 700` on it")]
    Mode {
        /// Its permission bits.
        mode: u32,
    },
}

impl StoreError {
    /// The error for a failed write: a full disk is told apart, because there is something to do about it.
    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path }
            }
            _ => Self::JournalWrite { path, source },
        }
    }
}
