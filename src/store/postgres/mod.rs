//! The store on PostgreSQL, shared by the machines of a team: the same tables and the same ledger as the embedded store's.
//!
//! Journals stay files of the machine that wrote them, and are folded from there. What is private of a session (bodies,
//! recordings, their keys) and questions that wait for an answer stay there too.

mod address;
mod copy;
mod entries;
mod fold;
mod holds;
mod ledger;
mod link;
mod locks;
mod machine;
mod passfile;
mod query;
mod rebuilt;
mod schema;
mod summary_row;
#[cfg(test)]
pub(super) mod tests;
mod tls;
mod verify;

pub use address::StoreAddress;
pub use copy::{Copied, copy_store, copy_to_files};
pub(super) use holds::PostgresHolds;

use self::link::Link;
use self::summary_row::Known;
use super::ledger::{announce, keep_signatures, sign, submission_of, succeed};
use super::read::is_as_long;
use super::search::scan;
use super::summary::Status;
use super::{
    Checkpointed, Exported, Home, LedgerEntry, LedgerError, LedgerKey, LedgerReport, LedgerStore, Report, Search,
    SpendBy, SpendRow, Sqlite, Store, StoreError, StoredEvent, Summary, Turn,
};
use crate::ledger::{Checkpoint, Hash, Note, Receipt, Submission};
use crate::model::{SessionId, Timestamp, Writer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The store on PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    home: Home,
    link: Link,
    /// What this home's journals go by.
    machine: String,
    ledger_fault: Option<LedgerError>,
    viewer: Option<String>,
}

impl Postgres {
    /// Opens the store at this address for a home's journals, making the tables where there are none.
    ///
    /// # Errors
    /// [`StoreError::StoreAway`], [`StoreError::StoreNewer`] and others of the server.
    pub fn open(home: &Home, address: &StoreAddress) -> Result<Self, StoreError> {
        let link = Link::open(address)?;
        schema::migrate(&link)?;
        let machine = machine::enter(&link, home)?;
        Ok(Self { home: home.clone(), link, machine, ledger_fault: None, viewer: None })
    }

    fn shows(&self, known: &Known) -> bool {
        self.viewer.is_none() || self.viewer == known.summary.user
    }

    fn with_status(&self, known: Known) -> (Summary, Status) {
        let status = match known.summary.end_reason {
            None if known.machine != self.machine => Status::Elsewhere,
            _ => known.summary.status(&self.home),
        };
        (known.summary, status)
    }

    fn is_folded(&self, session: &SessionId, lengths: &BTreeMap<(String, String), u64>) -> bool {
        Writer::ALL.iter().all(|writer| {
            let folded = lengths.get(&(session.to_string(), writer.as_str().to_owned())).copied();
            is_as_long(&self.home, session, *writer, folded)
        })
    }

    /// The ledger's directory, where the key is.
    fn make_ledger_directory(&self) -> Result<(), StoreError> {
        let path = self.home.ledger();
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(LedgerError::File { step: "make", path, cause }.into())
            }
            _ => Ok(()),
        }
    }
}

impl Store for Postgres {
    fn see_as(&mut self, user: Option<String>) {
        self.viewer = user;
    }

    fn elsewhere(&self, session: &SessionId) -> Result<Option<String>, StoreError> {
        self.link.again("read", |link| machine::elsewhere(link, session, &self.machine))
    }

    fn fold(&mut self, session: &SessionId) -> Result<(), StoreError> {
        let fault = fold::fold(&self.link, &self.home, &self.machine, session)?;
        self.ledger_fault = fault.or(self.ledger_fault.take());
        Ok(())
    }

    fn fold_all(&mut self) -> Result<(), StoreError> {
        let lengths = self.link.again("read", |link| query::lengths(link, &self.machine))?;
        let mut sessions = Sqlite::directories(&self.home)?;
        sessions.extend(self.link.again("read", |link| query::ids_on(link, &self.machine))?);
        for session in sessions {
            if !self.is_folded(&session, &lengths) {
                self.fold(&session)?;
            }
        }
        Ok(())
    }

    fn sessions(&self) -> Result<Vec<(Summary, Status)>, StoreError> {
        let all = self.link.again("read", |link| summary_row::load_all(link, self.viewer.as_deref()))?;
        let shown = all.into_iter().filter(|known| !known.summary.session.is_of_installation());
        Ok(shown.map(|known| self.with_status(known)).collect())
    }

    fn session(&self, session: &SessionId) -> Result<(Summary, Status), StoreError> {
        let found = self.link.again("read", |link| summary_row::load(link, session))?;
        let unknown = || StoreError::UnknownSession { wanted: session.to_string(), nearest: None };
        found.filter(|found| self.shows(found)).map(|known| self.with_status(known)).ok_or_else(unknown)
    }

    fn find(&self, wanted: &str) -> Result<SessionId, StoreError> {
        let ids = self.link.again("read", |link| query::ids(link, self.viewer.as_deref()))?;
        super::query::find(ids, wanted)
    }

    fn log(&self, session: Option<&SessionId>, entry: u64, count: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let search = Search { session: session.cloned(), ..Search::default() };
        self.link.again("read", |link| query::search(link, self.viewer.as_deref(), &search, Turn::After(entry), count))
    }

    fn search(&self, search: &Search, turn: Turn, count: u32) -> Result<Vec<StoredEvent>, StoreError> {
        match search.groups().is_empty() {
            true => self.link.again("read", |link| query::search(link, self.viewer.as_deref(), search, turn, count)),
            false => scan(|entry, count| self.log(search.session.as_ref(), entry, count), search, turn, count),
        }
    }

    fn log_between(
        &self,
        after: (Timestamp, u64),
        until: Timestamp,
        count: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.link.again("read", |link| query::log_between(link, self.viewer.as_deref(), after, until, count))
    }

    fn spend(&self, by: SpendBy, since: Option<Timestamp>) -> Result<Vec<SpendRow>, StoreError> {
        self.link.moment(|link| query::spend(link, by, since, self.viewer.as_deref()))
    }

    fn verify(&self) -> Result<Vec<Report>, StoreError> {
        let ids = self.link.again("read", |link| query::ids(link, self.viewer.as_deref()))?;
        let mut sessions: BTreeSet<_> = ids.into_iter().collect();
        if self.viewer.is_none() {
            sessions.extend(Sqlite::directories(&self.home)?);
        }
        let mut reports = Vec::new();
        for session in sessions {
            reports.extend(verify::session(&self.link, &self.home, &self.machine, &session)?);
        }
        Ok(reports)
    }
}

impl LedgerStore for Postgres {
    fn ledger_fault(&self) -> Option<&LedgerError> {
        self.ledger_fault.as_ref()
    }

    fn checkpoint(&mut self) -> Result<Checkpointed, StoreError> {
        self.make_ledger_directory()?;
        ledger::with_ledger(&self.link, |ledger| sign(ledger, &self.home))
    }

    fn rotate_key(&mut self) -> Result<Checkpointed, StoreError> {
        self.make_ledger_directory()?;
        let signed = ledger::with_ledger(&self.link, |ledger| announce(ledger, &self.home))?;
        succeed(&self.home).map(|()| signed)
    }

    fn ledger_keys(&self) -> Result<Vec<LedgerKey>, StoreError> {
        self.link.again("read", ledger::keys)
    }

    fn ledger_size(&self) -> Result<u64, StoreError> {
        self.link.again("read", |link| Ok(ledger::Tree::open(link)?.size))
    }

    fn ledger_entries(&self, from: u64, count: u64) -> Result<Vec<LedgerEntry>, StoreError> {
        self.link.again("read", |link| entries::entries(link, from, count))
    }

    fn ledger_places(&self, events: &[StoredEvent]) -> Result<Vec<Option<(u64, Hash)>>, StoreError> {
        self.link.again("read", |link| entries::places(link, events))
    }

    fn receipt(&mut self, session: &SessionId, number: u64) -> Result<Receipt, StoreError> {
        self.make_ledger_directory()?;
        ledger::receipt(&self.link, &self.home, session, number)
    }

    fn receipt_of_entry(&mut self, index: u64) -> Result<Receipt, StoreError> {
        self.make_ledger_directory()?;
        ledger::receipt_of_entry(&self.link, &self.home, index)
    }

    fn signed_checkpoint(&self) -> Result<Option<(Note, Checkpoint)>, StoreError> {
        self.link.again("read", |link| ledger::note(link, super::ledger::CHECKPOINT))
    }

    fn submission(&self, old: u64, signed: &Checkpointed) -> Result<Submission, StoreError> {
        self.link.moment(|link| Ok(submission_of(&mut ledger::Tree::open(link)?, old, signed)?))
    }

    fn keep_cosigned(&mut self, note: &Note) -> Result<(), StoreError> {
        ledger::with_ledger(&self.link, |ledger| keep_signatures(ledger, note))
    }

    fn export_ledger(&mut self, to: &Path) -> Result<Exported, StoreError> {
        let signed = self.checkpoint()?;
        let rebuilt = rebuilt::Scratch::of_ledger(&self.link, &self.home)?;
        super::ledger::export(rebuilt.home(), &signed, to)
    }

    fn verify_all(&self, kept: &[(Note, Checkpoint)]) -> Result<(Vec<Report>, Option<LedgerReport>), StoreError> {
        Ok((self.verify()?, verify::ledger(&self.link, &self.home, &self.machine, kept)?))
    }
}
