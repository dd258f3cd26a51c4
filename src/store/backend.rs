//! What the rest of omni asks of a store, whichever database it is in.

use super::search::scan;
use super::{
    Account, Checkpointed, Claim, Exported, Holds, Home, LedgerEntry, LedgerError, LedgerKey, LedgerReport, Moment,
    Placed, Postgres, PostgresHolds, Report, Search, SpendBy, SpendRow, Sqlite, Status, StoreError, StoredEvent,
    Summary, Turn,
};
use crate::ledger::{Checkpoint, Hash, Note, Receipt, Submission};
use crate::meter::Budget;
use crate::model::{NanoUsd, RequestNumber, SessionId, Timestamp};
use crate::policy::SpendPolicy;
use std::path::Path;

/// Opens the store of a home, making it where there is none.
///
/// # Errors
/// A [`StoreError`] of the database.
pub fn open_store(home: &Home) -> Result<Box<dyn Store>, StoreError> {
    match home.store() {
        Some(address) => Ok(Box::new(Postgres::open(home, address)?)),
        None => Ok(Box::new(Sqlite::open(home)?)),
    }
}

/// Opens the book of what is held in a home's store, and enters the session, run by this process from now on.
///
/// # Errors
/// A [`StoreError`] of the database.
pub fn open_holds(home: &Home, account: Account) -> Result<Box<dyn HoldBook>, StoreError> {
    match home.store() {
        Some(address) => Ok(Box::new(PostgresHolds::open(Postgres::open(home, address)?, account)?)),
        None => Ok(Box::new(Holds::open(home, account)?)),
    }
}

/// Where folded sessions are kept and asked for.
pub trait Store: LedgerStore {
    /// Shows one user's sessions alone from here on: what is another's is as if it were not there.
    fn see_as(&mut self, user: Option<String>);

    /// The name of the machine that a session's files are on, if that is another one.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn elsewhere(&self, _: &SessionId) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Takes in what one session's journals have new. Safe while the session runs, and at the same time as others.
    ///
    /// # Errors
    /// A [`StoreError`] of the database. What is wrong with a journal is noted in its session's [`Summary::fault`].
    fn fold(&mut self, session: &SessionId) -> Result<(), StoreError>;

    /// Takes in what every session's journals have new, also of sessions that crashed.
    ///
    /// # Errors
    /// As [`Store::fold`], and when the sessions' directory cannot be read.
    fn fold_all(&mut self) -> Result<(), StoreError>;

    /// All sessions, the newest first, with what each is doing at this moment.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn sessions(&self) -> Result<Vec<(Summary, Status)>, StoreError>;

    /// One session.
    ///
    /// # Errors
    /// [`StoreError::UnknownSession`], or one of the database.
    fn session(&self, session: &SessionId) -> Result<(Summary, Status), StoreError>;

    /// The session that a person means: the unique beginning of an id, or `last` for the newest.
    ///
    /// # Errors
    /// [`StoreError::UnknownSession`] with the nearest id, [`StoreError::AmbiguousSession`] with the candidates,
    /// [`StoreError::NoSession`].
    fn find(&self, wanted: &str) -> Result<SessionId, StoreError>;

    /// Events in the order in which they were folded, of one session or of all: at most `count` after `entry`.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn log(&self, session: Option<&SessionId>, entry: u64, count: u32) -> Result<Vec<StoredEvent>, StoreError>;

    /// All events of one session, in the order of their numbers.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn events(&self, session: &SessionId) -> Result<Vec<StoredEvent>, StoreError> {
        self.log(Some(session), 0, u32::MAX)
    }

    /// Events that are meant, at most `count`, from a place in the log on: forwards, or backwards with the newest first.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn search(&self, search: &Search, turn: Turn, count: u32) -> Result<Vec<StoredEvent>, StoreError> {
        scan(|entry, count| self.log(search.session.as_ref(), entry, count), search, turn, count)
    }

    /// Events in the order of time: at most `count` after a time and an entry, and before `until`.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn log_between(
        &self,
        after: (Timestamp, u64),
        until: Timestamp,
        count: u32,
    ) -> Result<Vec<StoredEvent>, StoreError>;

    /// What model calls cost, grouped, the dearest group first.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn spend(&self, by: SpendBy, since: Option<Timestamp>) -> Result<Vec<SpendRow>, StoreError>;

    /// Reads every journal from its first byte and compares it with itself and with what was folded.
    ///
    /// # Errors
    /// A [`StoreError`] when the check could not be made; what it finds is in the reports.
    fn verify(&self) -> Result<Vec<Report>, StoreError>;
}

/// What a store offers of its ledger.
pub trait LedgerStore {
    /// What keeps frames from being taken into the ledger, if something does.
    #[must_use]
    fn ledger_fault(&self) -> Option<&LedgerError>;

    /// Signs the ledger as it is now, unless that was done. The first time, the key is made.
    ///
    /// # Errors
    /// A [`LedgerError`], above all when the key's file is not ours alone, and one of the database.
    fn checkpoint(&mut self) -> Result<Checkpointed, StoreError>;

    /// Has a new key sign from now on, and the old one sign that it hands over.
    ///
    /// # Errors
    /// As [`LedgerStore::checkpoint`].
    fn rotate_key(&mut self) -> Result<Checkpointed, StoreError>;

    /// The keys that ever signed, in their order.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn ledger_keys(&self) -> Result<Vec<LedgerKey>, StoreError>;

    /// How many entries the ledger has whose events the database has as well.
    ///
    /// # Errors
    /// When its file or the database cannot be read.
    fn ledger_size(&self) -> Result<u64, StoreError>;

    /// At most `count` of those entries from an index on, with their events, whosever sessions they are of. There are fewer
    /// where the events would come to more than is held at once.
    ///
    /// # Errors
    /// As [`LedgerStore::ledger_size`].
    fn ledger_entries(&self, from: u64, count: u64) -> Result<Vec<LedgerEntry>, StoreError>;

    /// The index of each of these events in the ledger, and the hash of its leaf; none of those that are not entered.
    ///
    /// # Errors
    /// As [`LedgerStore::ledger_size`].
    fn ledger_places(&self, events: &[StoredEvent]) -> Result<Vec<Option<(u64, Hash)>>, StoreError>;

    /// What shows to anybody that an event of a session is in the ledger.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] when it is not, and as [`LedgerStore::checkpoint`].
    fn receipt(&mut self, session: &SessionId, number: u64) -> Result<Receipt, StoreError>;

    /// What shows to anybody that an entry is in the ledger.
    ///
    /// # Errors
    /// As [`LedgerStore::receipt`].
    fn receipt_of_entry(&mut self, index: u64) -> Result<Receipt, StoreError>;

    /// The last checkpoint, with everybody's signatures; none where nothing was signed yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn signed_checkpoint(&self) -> Result<Option<(Note, Checkpoint)>, StoreError>;

    /// What a witness is to be sent that signed the ledger at `old` entries.
    ///
    /// # Errors
    /// [`LedgerError::Cut`] when the ledger has fewer by now, and when it cannot be read.
    fn submission(&self, old: u64, signed: &Checkpointed) -> Result<Submission, StoreError>;

    /// Keeps what witnesses signed, unless a newer checkpoint took its place.
    ///
    /// # Errors
    /// As [`LedgerStore::checkpoint`].
    fn keep_cosigned(&mut self, note: &Note) -> Result<(), StoreError>;

    /// Writes the ledger as C2SP's static files to a directory.
    ///
    /// # Errors
    /// As [`LedgerStore::checkpoint`], and when the directory cannot be written to.
    fn export_ledger(&mut self, to: &Path) -> Result<Exported, StoreError>;

    /// What [`Store::verify`] does, and checks the ledger with itself, with the journals, with what was signed and with checkpoints
    /// that were kept elsewhere; no report of it where nothing was ever folded.
    ///
    /// # Errors
    /// A [`StoreError`] when the check could not be made; what it finds is in the reports.
    fn verify_all(&self, kept: &[(Note, Checkpoint)]) -> Result<(Vec<Report>, Option<LedgerReport>), StoreError>;

    /// What [`LedgerStore::verify_all`] finds of the ledger.
    ///
    /// # Errors
    /// As [`LedgerStore::verify_all`].
    fn verify_ledger(&self, kept: &[(Note, Checkpoint)]) -> Result<Option<LedgerReport>, StoreError> {
        Ok(self.verify_all(kept)?.1)
    }
}

/// The book of what is held, as one session writes in it.
pub trait HoldBook {
    /// Sets money aside for calls that ask at one time, each if every policy has room for it after those before it; the
    /// budgets as they stood go with each answer, in the policies' order. All of it is one transaction.
    ///
    /// # Errors
    /// A [`StoreError`] of the database; then nothing is set aside.
    fn place(&mut self, policies: &[SpendPolicy], claims: &[Claim]) -> Result<Vec<Placed>, StoreError>;

    /// Settles calls of this session at what they came to. Only the first time counts.
    ///
    /// # Errors
    /// A [`StoreError`] of the database; then the money stays held until the journal is read.
    fn settle(&mut self, calls: &[(RequestNumber, NanoUsd)]) -> Result<(), StoreError>;

    /// What is spent and held by the policies' budgets.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn budgets(&mut self, policies: &[SpendPolicy], moment: Moment) -> Result<Vec<Budget>, StoreError>;

    /// Notes that a part of a budget is spent; whether nobody had, in any session that counts in it, for as long as its
    /// window lasts.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn reached(&mut self, policy: &SpendPolicy, percent: u32, moment: Moment) -> Result<bool, StoreError>;

    /// Settles what this session left open, now that its proxy writes no more.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    fn close(self: Box<Self>) -> Result<(), StoreError>;
}

impl HoldBook for Holds {
    fn place(&mut self, policies: &[SpendPolicy], claims: &[Claim]) -> Result<Vec<Placed>, StoreError> {
        Self::place(self, policies, claims)
    }

    fn settle(&mut self, calls: &[(RequestNumber, NanoUsd)]) -> Result<(), StoreError> {
        Self::settle(self, calls)
    }

    fn budgets(&mut self, policies: &[SpendPolicy], moment: Moment) -> Result<Vec<Budget>, StoreError> {
        Self::budgets(self, policies, moment)
    }

    fn reached(&mut self, policy: &SpendPolicy, percent: u32, moment: Moment) -> Result<bool, StoreError> {
        Self::reached(self, policy, percent, moment)
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        Self::close(*self)
    }
}
