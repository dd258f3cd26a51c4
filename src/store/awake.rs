//! Which sessions may have anything new: those that are not at rest, and those at rest whose changes somebody writes to.
//!
//! Whoever goes on with a journal of changes announces it first, in the one place that tells as well that a session came, went or came
//! back: the time of the directory that has them all. They hold its lock, shared, for as long as they write. A look at every
//! session that has the lock alone therefore sees all that was announced, and notes the directory's time with the
//! sessions that are awake. While the directory has that time, no other session needs a look (docs/decisions/0058).

use super::Home;
use super::liveness::boot_id;
use crate::model::SessionId;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// How old the directory's time must be to be noted: a file system's clock may give two changes one time.
const AGE_MIN: Duration = Duration::from_secs(2);

/// How the directory stood at the last look at every session, and which were awake.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS looked (one INTEGER PRIMARY KEY CHECK (one = 1), stand TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS awake (session TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// Held by whoever may write to the changes of a session at rest.
#[derive(Debug)]
pub(super) struct Announced {
    _held: File,
}

/// Announces that a journal of changes will be written to, until what is returned is dropped.
///
/// # Errors
/// When it cannot be announced. What would be written then might not be seen.
pub(super) fn announce(home: &Home) -> io::Result<Announced> {
    let directory = File::open(home.sessions())?;
    // Where there are no locks, nobody ever has it alone, and nothing is noted.
    let _ = directory.lock_shared();
    let before = directory.metadata()?.modified()?;
    let later = SystemTime::now().max(before + Duration::from_nanos(1));
    directory.set_times(FileTimes::new().set_modified(later))?;
    Ok(Announced { _held: directory })
}

/// The directory's lock, if nobody writes what they announced; whoever announces waits until it is dropped.
pub(super) fn calm(home: &Home) -> Option<File> {
    let directory = File::open(home.sessions()).ok()?;
    directory.try_lock().ok().map(|()| directory)
}

/// How the directory of all sessions stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stand {
    text: String,
    aged: bool,
}

impl Stand {
    /// How it stands now; none where that cannot be told.
    pub fn of(home: &Home) -> Option<Self> {
        let found = std::fs::symlink_metadata(home.sessions()).ok()?;
        let aged = found.modified().ok()?.elapsed().is_ok_and(|age| age >= AGE_MIN);
        // Of a copy, another file; after a crash of the machine, a time that may not have been brought to the disk.
        let boot = boot_id()?;
        let (file, changed) = ((found.dev(), found.ino()), (found.ctime(), found.ctime_nsec()));
        Some(Self { text: format!("{file:?} {:?} {changed:?} {boot}", (found.mtime(), found.mtime_nsec())), aged })
    }

    /// Whether it stood so at the last look at every session.
    pub fn is_noted(&self, connection: &Connection) -> rusqlite::Result<bool> {
        let text = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'looked')";
        if !connection.query_row(text, [], |row| row.get(0))? {
            return Ok(false);
        }
        let noted: Option<String> =
            connection.query_row("SELECT stand FROM looked", [], |row| row.get(0)).optional()?;
        Ok(noted.as_ref() == Some(&self.text))
    }

    /// Notes it, with the sessions that are awake, if a later change of the directory is sure to show.
    pub fn note(&self, connection: &mut Connection, awake: &[SessionId]) -> rusqlite::Result<()> {
        if !self.aged {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(TABLES)?;
        transaction.execute("DELETE FROM awake", [])?;
        for session in awake {
            transaction.prepare_cached("INSERT INTO awake VALUES (?1)")?.execute([session.as_str()])?;
        }
        transaction.execute("INSERT OR REPLACE INTO looked VALUES (1, ?1)", [&self.text])?;
        transaction.commit()
    }

    /// Notes that a session came to rest, unless somebody noted another look meanwhile.
    pub fn note_rest(&self, connection: &Connection, session: &SessionId) -> rusqlite::Result<()> {
        let text = "DELETE FROM awake WHERE session = ?1 AND ?2 = (SELECT stand FROM looked)";
        connection.execute(text, [session.as_str(), &self.text]).map(drop)
    }
}

#[cfg(test)]
#[path = "awake_tests.rs"]
mod tests;
