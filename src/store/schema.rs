//! The database's tables, opening it, and bringing it to this version.

use super::{Home, StoreError, blocks, upgrade};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The version that this program writes, kept in `PRAGMA user_version`.
const VERSION: i64 = 2;
/// How long to wait for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to sleep between attempts where SQLite itself does not wait.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// The events themselves are in [`blocks::TABLES`]. `rested` names the sessions to whose journals nothing can be added any more
/// but to that of changes.
const TABLES: &str = "
CREATE TABLE sessions (
    session TEXT PRIMARY KEY, name TEXT, user TEXT, profile TEXT, argv TEXT, workspace TEXT, policy_hash TEXT,
    pid INTEGER, pid_started_ticks INTEGER, started INTEGER, ended INTEGER, end_reason TEXT, exit TEXT,
    events INTEGER NOT NULL, allowed INTEGER NOT NULL, denied INTEGER NOT NULL, refused INTEGER NOT NULL,
    failed INTEGER NOT NULL, calls INTEGER NOT NULL, inexact INTEGER NOT NULL, cost_nano INTEGER NOT NULL,
    input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
    cache_write_long INTEGER NOT NULL, output INTEGER NOT NULL, reasoning INTEGER NOT NULL,
    web_searches INTEGER NOT NULL, team TEXT, project TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE journals (
    session TEXT NOT NULL REFERENCES sessions(session), writer TEXT NOT NULL, frames INTEGER NOT NULL,
    head_hash BLOB NOT NULL, folded_bytes INTEGER NOT NULL, fault TEXT, PRIMARY KEY (session, writer)
) STRICT, WITHOUT ROWID;
CREATE TABLE calls (
    session TEXT NOT NULL REFERENCES sessions(session), number INTEGER NOT NULL, at INTEGER NOT NULL,
    model TEXT NOT NULL, exact INTEGER NOT NULL, cost_nano INTEGER NOT NULL, input INTEGER NOT NULL,
    cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, cache_write_long INTEGER NOT NULL,
    output INTEGER NOT NULL, reasoning INTEGER NOT NULL, web_searches INTEGER NOT NULL,
    PRIMARY KEY (session, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX calls_at ON calls (at);
CREATE TABLE rested (session TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// Opens the home's database, making it when it is missing.
pub(super) fn open(home: &Home) -> Result<Connection, StoreError> {
    let path = home.database();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| StoreError::database(&path, "open", error);
    let mut connection = Connection::open_with_flags(&path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // The write-ahead log is brought into the database when it has grown (see `Sqlite`'s drop), not at every goodbye.
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    match version(&connection).map_err(failed)? {
        0 => create(&mut connection, &path).map_err(failed)?,
        1 => renew(&mut connection).map_err(failed)?,
        VERSION => {}
        found => return Err(StoreError::DatabaseNewer { path, found, known: VERSION }),
    }
    connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;").map_err(failed)?;
    Ok(connection)
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Makes the tables. Nothing is synced yet: an empty database that a power loss damages can be folded again.
fn create(connection: &mut Connection, path: &Path) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    // Its other files take this file's mode over. The directory is ours alone already.
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    let deadline = Instant::now() + BUSY_TIMEOUT;
    // Two processes can make the same new database; while changing the mode SQLite does not wait by itself.
    loop {
        let changed = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
        match changed {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < deadline => {
                std::thread::sleep(BUSY_PAUSE);
            }
            other => break other.map(drop)?,
        }
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version(&transaction)? == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(blocks::TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

/// Brings a database of the version before to this one, whole or not at all.
fn renew(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version(&transaction)? == 1 {
        transaction.execute_batch(blocks::TABLES)?;
        upgrade::from_rows(&transaction)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}
