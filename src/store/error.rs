//! What can go wrong with the durable places, and what to do about it.

use crate::ledger::{FrameError, Why};
use crate::model::SessionId;
use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};

/// A failed step, with what it worked on. Causes are part of the message, so that advice can follow them.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is neither `$OMNI_HOME` nor a home directory.
    #[error("no place to keep sessions: neither OMNI_HOME nor HOME is set; set OMNI_HOME to a directory of yours")]
    HomeUnknown,
    /// The store of secrets cannot be used.
    #[error(transparent)]
    Secrets(#[from] super::SecretStoreError),
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] super::LedgerError),
    /// Another process goes on with a journal.
    #[error("another omni is writing to {}; try again when it is done", path.display())]
    JournalBusy {
        /// The journal.
        path: PathBuf,
    },
    /// The file of consents cannot be used.
    #[error("the consents in {} cannot be used: {cause}; without them, people are asked", path.display())]
    Consents {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: io::Error,
    },
    /// Another process ships to a place of that name.
    #[error("another omni ships to {name} already; end it first, or give this place another name by `?name=…`")]
    ShippingBusy {
        /// The place's name.
        name: String,
    },
    /// How far a place has got cannot be read or written.
    #[error("cannot {step} {}: {cause}", path.display())]
    Shipping {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A mark is none that this version wrote.
    #[error("{} does not say how far a place has got: remove it to ship from the first entry on", path.display())]
    ShippingMark {
        /// The mark's file.
        path: PathBuf,
    },
    /// A file of prices is wrong.
    #[error("the prices in {} cannot be used: {why}", path.display())]
    Prices {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The home could not be made or looked at.
    #[error("cannot use {}: {cause}; set OMNI_HOME to a directory you can write to", path.display())]
    HomeOpen {
        /// The directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
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
    #[error("cannot create the journal {}: {cause}", path.display())]
    JournalCreate {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A fact could not become a frame.
    #[error("cannot record to {}: {cause}", path.display())]
    JournalEncode {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: FrameError,
    },
    /// A frame could not be written.
    #[error("cannot write to the journal {}: {cause}", path.display())]
    JournalWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A frame could not be brought to the disk.
    #[error("cannot bring the journal {} to the disk: {cause}", path.display())]
    JournalSync {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A journal that should go on holds something else than frames.
    #[error("the journal {} is broken at frame {seq} ({why}), so nothing can be recorded after it", path.display())]
    JournalBroken {
        /// The file.
        path: PathBuf,
        /// The number of the first bad frame.
        seq: u64,
        /// What is wrong with it.
        why: Why,
    },
    /// An earlier write failed, so that nothing may follow it.
    #[error("the journal {} takes no more records because an earlier write failed", path.display())]
    JournalPoisoned {
        /// The file.
        path: PathBuf,
    },
    /// A journal could not be read.
    #[error("cannot read the journal {}: {cause}", path.display())]
    JournalRead {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The database is not one, or is damaged.
    #[error(
        "the database {} is damaged; no session is lost, for the journals beside it are the truth: \
         `omni audit rebuild` sets the file aside and folds them again",
        path.display()
    )]
    DatabaseCorrupt {
        /// The file.
        path: PathBuf,
    },
    /// A later version of omni made the database.
    #[error(
        "the database {} has version {found}, and this omni knows only up to {known}: use the newer omni, \
         or set OMNI_HOME to another directory",
        path.display()
    )]
    DatabaseNewer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// Another process kept the database locked.
    #[error("the database {} is in use by another omni that does not finish; try again in a moment", path.display())]
    DatabaseBusy {
        /// The file.
        path: PathBuf,
    },
    /// Another failure of the database.
    #[error("cannot {step} the database {}: {cause}", path.display())]
    Database {
        /// What was tried.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: rusqlite::Error,
    },
    /// A session runs that has money held in the database.
    #[error(
        "session {session} runs and has money held in the database, which would be forgotten; wait for its end, or end it with \
         `omni stop {session}`"
    )]
    MoneyInUse {
        /// The session.
        session: SessionId,
    },
    /// The database could not be set aside.
    #[error("cannot move the database {} aside: {cause}; move it away yourself, it is made again", path.display())]
    DatabaseAside {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The address of a store cannot be used.
    #[error("the store's address cannot be used: {why}")]
    Address {
        /// What is wrong with it.
        why: String,
    },
    /// The file of passwords cannot be used.
    #[error("no password is taken from {}: {why}", path.display())]
    Passwords {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The store's server cannot be reached, or was lost.
    #[error(
        "the store at {store} cannot be reached: {cause}. What needs it does not happen; what happens meanwhile stays in this \
         machine's journals, and is taken in once the store is back"
    )]
    StoreAway {
        /// The store, without its password.
        store: String,
        /// What the server or the system says.
        cause: String,
    },
    /// The store's server refused a step.
    #[error("cannot {step} the store at {store}: {cause}")]
    StoreFailed {
        /// What was tried.
        step: &'static str,
        /// The store, without its password.
        store: String,
        /// What the server says.
        cause: String,
    },
    /// A later version of omni made the store's tables.
    #[error("the store at {store} has version {found}, and this omni knows only up to {known}: use the newer omni")]
    StoreNewer {
        /// The store, without its password.
        store: String,
        /// Its version.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// The store holds what omni never wrote.
    #[error("the store is damaged: it has {what}; `omni audit verify` tells more")]
    StoreDamaged {
        /// What was found.
        what: String,
    },
    /// Records are not taken over.
    #[error("nothing was copied: {why}")]
    CopyRefused {
        /// Why.
        why: String,
    },
    /// What only the embedded store does.
    #[error("{what} is for the embedded store alone")]
    EmbeddedOnly {
        /// What was asked for.
        what: &'static str,
    },
    /// There is no session yet.
    #[error("there is no session yet; `omni exec -- COMMAND` runs one")]
    NoSession,
    /// No session's id begins so.
    #[error("no session's id begins with `{wanted}`{}; `omni sessions` lists them", nearest.as_ref().map(|id| format!(", the nearest is `{id}`")).unwrap_or_default())]
    UnknownSession {
        /// What was asked for, made printable.
        wanted: String,
        /// An id much like it.
        nearest: Option<SessionId>,
    },
    /// Several sessions' ids begin so.
    #[error("`{wanted}` is the beginning of more than one session's id: {}", list(candidates))]
    AmbiguousSession {
        /// What was asked for.
        wanted: String,
        /// The sessions it could mean.
        candidates: Vec<SessionId>,
    },
}

/// Less than this left counts as a full disk: SQLite's shared memory needs as much.
const FREE_BYTES_MIN: u64 = 32 << 10;

/// Whether the file system that holds this file has no space left.
fn is_full(path: &Path) -> bool {
    let found = path.parent().and_then(|directory| rustix::fs::statvfs(directory).ok());
    found.is_some_and(|found| found.f_bavail.saturating_mul(found.f_frsize) < FREE_BYTES_MIN)
}

/// How many candidates a message names.
const CANDIDATES_MAX: usize = 8;

fn list(candidates: &[SessionId]) -> String {
    let named: Vec<_> = candidates.iter().take(CANDIDATES_MAX).map(SessionId::as_str).collect();
    let rest = if candidates.len() > CANDIDATES_MAX { ", …" } else { "" };
    format!("{}{rest}", named.join(", "))
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
    pub(super) fn write(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path }
            }
            _ => Self::JournalWrite { path, cause },
        }
    }

    /// The error for a failed step with a mark.
    pub(super) fn shipping(step: &'static str, path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |cause| match Self::write(&path, cause) {
            Self::JournalWrite { path, cause } => Self::Shipping { step, path, cause },
            full => full,
        }
    }

    /// The error for a failed step of the database; what a person can do something about is told apart.
    pub(super) fn database(path: &Path, step: &'static str, cause: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match cause.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::TypeMismatch) => {
                Self::DatabaseCorrupt { path }
            }
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            // Its shared memory has no room to grow, and SQLite does not say why.
            Some(ErrorCode::SystemIoFailure) if is_full(&path) => Self::DiskFull { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::DatabaseBusy { path },
            _ => match cause {
                // The schema's version is ours, so a value that does not fit was put there by nobody of us.
                rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => {
                    Self::DatabaseCorrupt { path }
                }
                cause => Self::Database { step, path, cause },
            },
        }
    }
}
