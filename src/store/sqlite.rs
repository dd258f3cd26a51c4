//! The embedded store: one SQLite file in the home.

use super::awake::Stand;
use super::fold::Folded;
use super::ledger::Walk;
use super::query::Among;
use super::read::is_as_long;
use super::search::scan;
use super::summary::{Status, Summary};
use super::verify::Known;
use super::{
    Home, LedgerError, LedgerFinding, Report, Search, SpendBy, SpendRow, Store, StoreError, StoredEvent, Turn, awake,
    fold, holds_rebuild, index, query, rest, schema, spend, verify,
};
use crate::ledger::Header;
use crate::model::{SessionId, Timestamp, Writer};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

/// The embedded store.
#[derive(Debug)]
pub struct Sqlite {
    pub(super) home: Home,
    pub(super) connection: Connection,
    /// What keeps frames from being taken into the ledger.
    pub(super) ledger_fault: Option<LedgerError>,
    /// Whose sessions are all that is shown of; none where everything is.
    viewer: Option<String>,
}

/// Bytes of write-ahead log that are left behind at a goodbye. Whoever opens the database next, with nobody else there,
/// reads all of it; bringing it into the database waits for the disk, some milliseconds. This is some four sessions' worth.
pub(super) const LOG_BYTES_MAX: u64 = 512 * 1024;

/// What a look at sessions found.
#[derive(Debug, Default)]
struct Looked {
    /// Those that have something new.
    news: Vec<SessionId>,
    /// Some of those that are over and quiet.
    over: Vec<SessionId>,
    /// Those that are not at rest, or had something new though they are.
    awake: Vec<SessionId>,
}

impl Drop for Sqlite {
    /// Brings the write-ahead log into the database when it has grown. It cannot be left to SQLite's own threshold: that
    /// starts a new log only within one connection's life, and ours are short.
    fn drop(&mut self) {
        let mut log = self.home.database().into_os_string();
        log.push("-wal");
        if std::fs::metadata(log).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
            // Whoever is busy with it, or cannot do it for want of space, leaves it to the next: nothing is lost in a log.
            let _ = self.connection.busy_timeout(std::time::Duration::ZERO);
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

impl Sqlite {
    /// Opens the home's database, making it when it is missing.
    ///
    /// # Errors
    /// [`StoreError::DatabaseCorrupt`], [`StoreError::DatabaseNewer`], [`StoreError::DiskFull`] or another of the
    /// database.
    pub fn open(home: &Home) -> Result<Self, StoreError> {
        Ok(Self { home: home.clone(), connection: schema::open(home)?, ledger_fault: None, viewer: None })
    }

    /// Whether a session may be shown.
    fn shows(&self, summary: &Summary) -> bool {
        self.viewer.is_none() || self.viewer == summary.user
    }

    /// The ids of the sessions that may be shown, the newest first.
    fn ids(&self) -> Result<Vec<SessionId>, StoreError> {
        query::ids(&self.connection, self.viewer.as_deref()).map_err(self.failed("read"))
    }

    /// Sets the database aside under a name that ends in `suffix` and folds all journals into a new one. Returns the
    /// old file's new name, if there was one.
    ///
    /// # Errors
    /// [`StoreError::MoneyInUse`] while a session runs that has money held in it, [`StoreError::DatabaseAside`], and whatever
    /// folding meets.
    pub fn rebuild(home: &Home, suffix: &str) -> Result<(Self, Option<PathBuf>), StoreError> {
        let unused = holds_rebuild::refuse_while_held(home)?;
        let aside = home.path().join(format!("omni.db.{suffix}"));
        let mut moved = None;
        for part in ["", "-wal", "-shm"] {
            let [from, to] = [home.database(), aside.clone()].map(|path| {
                let mut name = path.into_os_string();
                name.push(part);
                PathBuf::from(name)
            });
            match std::fs::rename(&from, &to) {
                Ok(()) if part.is_empty() => moved = Some(to),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(StoreError::DatabaseAside { path: from, cause }),
            }
        }
        drop(unused);
        let mut store = Self::open(home)?;
        store.fold_all()?;
        holds_rebuild::restore(&mut store.connection).map_err(store.failed("hold money in"))?;
        Ok((store, moved))
    }

    /// The sessions that have a directory. Anything else that lies there is none of ours.
    pub(super) fn directories(home: &Home) -> Result<BTreeSet<SessionId>, StoreError> {
        let path = home.sessions();
        let failed = |cause| StoreError::JournalRead { path: path.clone(), cause };
        let entries = match std::fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            other => other.map_err(failed)?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let names = names.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        Ok(names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Whether the journals' files that can be added to are as long as when they were folded.
    fn is_folded(&self, session: &SessionId, rested: bool, lengths: &BTreeMap<(String, String), u64>) -> bool {
        let open = |writer: &&Writer| !rested || !rest::WRITERS.contains(writer);
        Writer::ALL.iter().filter(open).all(|writer| {
            let folded = lengths.get(&(session.to_string(), writer.as_str().to_owned())).copied();
            is_as_long(&self.home, session, *writer, folded)
        })
    }

    /// Whether nobody has written to a session's own journals for long.
    fn is_quiet(&self, session: &SessionId) -> bool {
        let mut found = rest::WRITERS.iter().map(|writer| std::fs::metadata(self.home.journal(session, *writer)));
        found.all(|found| found.map_or(true, |found| rest::is_quiet(&found)))
    }

    /// Looks for what sessions have new.
    fn look(&self, among: Among) -> Result<Looked, StoreError> {
        let lengths = query::lengths(&self.connection, among).map_err(self.failed("read"))?;
        let standings = query::standings(&self.connection, among).map_err(self.failed("read"))?;
        let mut sessions = match among {
            Among::All => Self::directories(&self.home)?,
            Among::Awake => query::awake(&self.connection).map_err(self.failed("read"))?,
        };
        sessions.extend(standings.keys().cloned());
        let mut looked = Looked::default();
        for session in sessions {
            let standing = standings.get(&session);
            let rested = standing.is_some_and(|standing| standing.rested);
            let folded = self.is_folded(&session, rested, &lengths);
            if !folded {
                looked.news.push(session.clone());
            } else if looked.over.len() < rest::SESSIONS_MAX
                && standing.is_some_and(|standing| standing.ended && !standing.rested)
                && self.is_quiet(&session)
            {
                looked.over.push(session.clone());
            }
            if !(rested && folded) {
                looked.awake.push(session);
            }
        }
        Ok(looked)
    }

    /// Takes in what was found, and brings to rest what is over: what came to rest.
    fn take_in(&mut self, looked: &Looked) -> Result<Vec<SessionId>, StoreError> {
        for session in &looked.news {
            self.fold(session)?;
        }
        // What cannot be packed now, for want of space or of the right to write, is another time: it is whole as it is.
        let rests = |session: &&SessionId| self.bring_to_rest(session).unwrap_or(false);
        Ok(looked.over.iter().filter(rests).cloned().collect())
    }

    /// Packs the journals of a session that is over and was folded, and remembers that they need no look any more. Whether
    /// that is so now: what somebody may still write to, or is damaged, stays as it is.
    ///
    /// # Errors
    /// A [`StoreError`] of the files or the database; the journals are whole all the same.
    pub fn bring_to_rest(&mut self, session: &SessionId) -> Result<bool, StoreError> {
        if session.is_of_installation() {
            return Ok(false);
        }
        for writer in rest::WRITERS {
            match fold::folded(&self.connection, session, writer).map_err(self.failed("read"))? {
                Some(Folded { position, fault: None }) => {
                    let header = Header { session: session.clone(), writer };
                    if !rest::bring_to_rest(&self.home, &header, &position)? {
                        return Ok(false);
                    }
                }
                Some(_) => return Ok(false),
                None if self.home.journal(session, writer).exists() => return Ok(false),
                None => {}
            }
        }
        let text = "INSERT OR IGNORE INTO rested VALUES (?1)";
        self.connection.execute(text, [session.as_str()]).map_err(self.failed("write to"))?;
        Ok(true)
    }

    /// Checks all journals that may be shown, and with the entries of a ledger.
    pub(super) fn check_journals(&self, walk: Option<&Walk>) -> Result<(Vec<Report>, Vec<LedgerFinding>), StoreError> {
        let mut sessions: BTreeSet<_> = self.ids()?.into_iter().collect();
        // A directory of which nothing was folded is nobody's yet.
        if self.viewer.is_none() {
            sessions.extend(Self::directories(&self.home)?);
        }
        sessions.extend(walk.into_iter().flat_map(Walk::sessions).cloned());
        // A connection is one thread's alone.
        let home = &self.home;
        let failed = |error| StoreError::database(&home.database(), "read", error);
        let known = |own: &Connection, session: &SessionId| Known::of(own, home, session).map_err(failed);
        verify::journals(home, &sessions, walk, || schema::open(home), known)
    }

    pub(super) fn failed(&self, step: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.home.database();
        move |error| StoreError::database(&path, step, error)
    }

    fn with_status(&self, summary: Summary) -> (Summary, Status) {
        let status = summary.status(&self.home);
        (summary, status)
    }
}

impl Store for Sqlite {
    fn see_as(&mut self, user: Option<String>) {
        self.viewer = user;
    }

    fn fold(&mut self, session: &SessionId) -> Result<(), StoreError> {
        let fault = fold::fold(&mut self.connection, &self.home, session)?;
        self.ledger_fault = fault.or(self.ledger_fault.take());
        // What cannot be indexed now is when somebody asks.
        let _ = index::keep_up(&self.connection);
        Ok(())
    }

    fn fold_all(&mut self) -> Result<(), StoreError> {
        let noted = |stand: &Stand| stand.is_noted(&self.connection).unwrap_or(false);
        if let Some(stand) = Stand::of(&self.home).filter(noted) {
            let looked = self.look(Among::Awake)?;
            for session in self.take_in(&looked)? {
                // What cannot be noted now is looked at once more.
                let _ = stand.note_rest(&self.connection, &session);
            }
            return Ok(());
        }
        let calm = awake::calm(&self.home);
        let stand = calm.as_ref().and_then(|_| Stand::of(&self.home));
        let looked = self.look(Among::All)?;
        drop(calm);
        let rested = self.take_in(&looked)?;
        if let Some(stand) = stand {
            let awake: Vec<_> = looked.awake.into_iter().filter(|session| !rested.contains(session)).collect();
            // What cannot be noted now has the next look see every session again.
            let _ = stand.note(&mut self.connection, &awake);
        }
        Ok(())
    }

    fn sessions(&self) -> Result<Vec<(Summary, Status)>, StoreError> {
        let all = Summary::load_all(&self.connection).map_err(self.failed("read"))?;
        let shown = all.into_iter().filter(|summary| !summary.session.is_of_installation() && self.shows(summary));
        Ok(shown.map(|summary| self.with_status(summary)).collect())
    }

    fn session(&self, session: &SessionId) -> Result<(Summary, Status), StoreError> {
        let found = Summary::load(&self.connection, session).map_err(self.failed("read"))?;
        let unknown = || StoreError::UnknownSession { wanted: session.to_string(), nearest: None };
        found.filter(|found| self.shows(found)).map(|summary| self.with_status(summary)).ok_or_else(unknown)
    }

    fn find(&self, wanted: &str) -> Result<SessionId, StoreError> {
        query::find(self.ids()?, wanted)
    }

    fn log(&self, session: Option<&SessionId>, entry: u64, count: u32) -> Result<Vec<StoredEvent>, StoreError> {
        query::log(&self.connection, session, self.viewer.as_deref(), entry, count).map_err(self.failed("read"))
    }

    fn search(&self, search: &Search, turn: Turn, count: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let found = index::search(&self.connection, self.viewer.as_deref(), search, turn, count);
        let found = found.map_err(self.failed("read"))?;
        found.map_or_else(
            || scan(|entry, count| self.log(search.session.as_ref(), entry, count), search, turn, count),
            Ok,
        )
    }

    fn log_between(
        &self,
        after: (Timestamp, u64),
        until: Timestamp,
        count: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        query::log_between(&self.connection, self.viewer.as_deref(), after, until, count).map_err(self.failed("read"))
    }

    fn spend(&self, by: SpendBy, since: Option<Timestamp>) -> Result<Vec<SpendRow>, StoreError> {
        spend::spend(&self.connection, by, since, self.viewer.as_deref()).map_err(self.failed("read"))
    }

    fn verify(&self) -> Result<Vec<Report>, StoreError> {
        Ok(self.check_journals(None)?.0)
    }
}
