//! Taking folded frames into the ledger, each exactly once.
//!
//! The ledger is appended to within the transaction that folds, before that commits. What a crash left in the ledger of a
//! fold that never was is found when the next one begins, by the ledger being longer than the database noted, and is not
//! appended again. The database only remembers where things are: it can be made again from the ledger and the journals.

use super::super::liveness::boot_id;
use super::super::summary_row::signed;
use super::super::{Home, StoreError, blocks};
use super::files::{Files, READ_ENTRIES};
use super::walk::{Journal, Run, Walk};
use super::{LedgerError, checkpoint_size};
use crate::ledger::{ENTRY_BYTES, Entry, Hash, frame_number};
use crate::model::{SessionId, Writer};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;

/// One row with what is known of the ledger, and for each run of neighbouring frames of a journal its place in it: that of
/// its first frame, counted from 0.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS ledger (
    one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL, events INTEGER NOT NULL, boot TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS ledger_runs (
    session TEXT NOT NULL, writer TEXT NOT NULL, seq INTEGER NOT NULL, place INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (session, writer, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ledger_places ON ledger_runs (place);
CREATE TABLE IF NOT EXISTS ledger_keys (number INTEGER PRIMARY KEY, place INTEGER NOT NULL, public BLOB NOT NULL) STRICT;
";
/// How many frames are taken from the database at once, and those of one block more.
const BATCH: usize = 16_384;

/// What the database knows of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Known {
    /// How many entries it had.
    pub size: u64,
    /// Up to which of the folded events all are in it.
    pub events: u64,
    /// The start of the machine in which it was appended to last.
    boot: String,
}

/// What is known of the ledger; none where nothing was noted yet.
pub(in super::super) fn known(connection: &Connection) -> rusqlite::Result<Option<Known>> {
    let there: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'ledger')",
        [],
        |row| row.get(0),
    )?;
    if !there {
        return Ok(None);
    }
    let mut statement = connection.prepare_cached("SELECT size, events, boot FROM ledger")?;
    let row = statement.query_row([], |row| {
        let (size, events): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Known { size: size.cast_unsigned(), events: events.cast_unsigned(), boot: row.get(2)? })
    });
    row.optional()
}

/// Takes everything that was folded and is not in the ledger yet into it: what is `fresh` of it need not be read back. To be
/// called within the folding transaction.
pub(in super::super) fn append_folded(
    transaction: &Connection,
    home: &Home,
    fresh: Vec<FoldedFrame>,
) -> Result<(), StoreError> {
    let path = home.database();
    let failed = |error| StoreError::database(&path, "write to", error);
    let before = known(transaction).map_err(failed)?;
    if let Some(known) = &before
        && !has_more(transaction, known.events).map_err(failed)?
    {
        return Ok(());
    }
    let mut book = Book::open(transaction, home, before)?;
    book.take_fresh(fresh)?;
    book.take_folded()?;
    book.close().map_err(failed)
}

/// A frame that was folded: its event's place among all, its journal, its number there and its hash.
pub(in super::super) struct FoldedFrame {
    pub event: u64,
    pub journal: Journal,
    pub seq: u64,
    pub hash: Hash,
}

fn has_more(connection: &Connection, after: u64) -> rusqlite::Result<bool> {
    Ok(blocks::last_entry(connection)? > after)
}

fn folded_after(connection: &Connection, after: u64) -> rusqlite::Result<Vec<FoldedFrame>> {
    let mut rows = Vec::new();
    blocks::after(connection, after, |block| {
        let block = block.open()?;
        for (kept, chain) in block.hashed()? {
            if kept.entry > after {
                let journal = (block.extent.session.clone(), kept.writer);
                rows.push(FoldedFrame { event: kept.entry, journal, seq: chain.frames(), hash: chain.head() });
            }
        }
        Ok::<_, rusqlite::Error>(rows.len() < BATCH)
    })?;
    Ok(rows)
}

/// The ledger while it is appended to, and the rows about it.
pub(super) struct Book<'a> {
    connection: &'a Connection,
    pub(super) home: &'a Home,
    pub files: Files,
    known: Known,
    /// The next frame of each journal that was asked about.
    next: HashMap<Journal, u64>,
}

impl<'a> Book<'a> {
    /// Opens the ledger for appending, and learns what the rows lack. `connection` is in a transaction that writes.
    pub fn open(connection: &'a Connection, home: &'a Home, known: Option<Known>) -> Result<Self, StoreError> {
        let path = home.database();
        let failed = |error| StoreError::database(&path, "write to", error);
        connection.execute_batch(TABLES).map_err(failed)?;
        let files = Files::lock(home)?;
        let boot = boot_id().unwrap_or_default();
        let fresh = Known { size: 0, events: 0, boot: boot.clone() };
        let mut book = Self { connection, home, files, known: known.unwrap_or(fresh), next: HashMap::new() };
        if book.known.boot != boot {
            book.recover().map_err(|error| book.explain(error))?;
            book.known.boot = boot;
        }
        if book.files.size() < book.known.size {
            return Err(LedgerError::Cut { written: book.known.size, left: book.files.size() }.into());
        }
        book.learn().map_err(|error| book.explain(error))?;
        Ok(book)
    }

    fn explain(&self, error: BookError) -> StoreError {
        match error {
            BookError::Store(error) => error,
            BookError::Database(error) => StoreError::database(&self.home.database(), "write to", error),
        }
    }

    /// What the last start of the machine may have lost: entries that were never brought to the disk. They are appended
    /// again, from the journals. What a checkpoint covers was brought there before it was signed, and is no such loss.
    fn recover(&mut self) -> Result<(), BookError> {
        let signed_size = checkpoint_size(self.home)?;
        let whole = self.files.size() >= signed_size;
        if !whole {
            return Ok(());
        }
        let end = self.files.first_bad(signed_size)?.unwrap_or(self.files.size());
        if end < self.files.size() || end < self.known.size {
            self.files.cut(end, signed_size)?;
            self.forget(end)?;
        }
        Ok(())
    }

    /// Forgets all that the rows say of entries from `size` on.
    fn forget(&mut self, size: u64) -> rusqlite::Result<()> {
        let size = signed(size);
        self.connection.execute("DELETE FROM ledger_runs WHERE place >= ?1", [size])?;
        self.connection.execute("DELETE FROM ledger_keys WHERE place >= ?1", [size])?;
        self.connection.execute("UPDATE ledger_runs SET count = ?1 - place WHERE place + count > ?1", [size])?;
        (self.known.size, self.known.events) = (size.cast_unsigned().min(self.known.size), 0);
        Ok(())
    }

    /// Notes the entries that are in the files and not in the rows.
    fn learn(&mut self) -> Result<(), BookError> {
        while self.known.size < self.files.size() {
            let count = READ_ENTRIES.min(self.files.size() - self.known.size);
            let mut runs = Runs::default();
            for (index, bytes) in (self.known.size..).zip(self.files.read(self.known.size, count)?) {
                match Entry::decode(&bytes) {
                    Some(Entry::Frame { session, writer, seq, .. }) => {
                        runs.add((session, writer), seq, index);
                    }
                    Some(Entry::Key { number, public }) => self.note_key(number, index, &public)?,
                    _ => {}
                }
            }
            self.note(runs)?;
            self.known.size += count;
        }
        Ok(())
    }

    /// Appends all that was folded and is not in the ledger yet.
    pub fn take_folded(&mut self) -> Result<(), StoreError> {
        loop {
            let frames = folded_after(self.connection, self.known.events);
            let frames = frames.map_err(|error| self.explain(error.into()))?;
            let Some(last) = frames.last() else { return Ok(()) };
            let upto = last.event;
            self.take(frames)?;
            self.known.events = upto;
        }
    }

    /// Appends what was folded just now, unless something that was folded before is still to come.
    fn take_fresh(&mut self, fresh: Vec<FoldedFrame>) -> Result<(), StoreError> {
        if let (Some(first), Some(last)) = (fresh.first(), fresh.last())
            && first.event == self.known.events + 1
        {
            let upto = last.event;
            self.take(fresh)?;
            self.known.events = upto;
        }
        Ok(())
    }

    /// Appends the frames that are not in the ledger yet.
    fn take(&mut self, frames: Vec<FoldedFrame>) -> Result<(), StoreError> {
        let (mut entries, mut runs) = (Vec::with_capacity(frames.len()), Runs::default());
        for frame in frames {
            let next = self.next_of(&frame.journal).map_err(|error| self.explain(error.into()))?;
            if frame.seq < next {
                continue;
            }
            let entry = encode(&frame).filter(|_| frame.seq == next);
            let Some(entry) = entry else {
                let (session, writer) = (frame.journal.0.to_string(), frame.journal.1.as_str());
                return Err(LedgerError::Gap { session, writer, seq: frame.seq }.into());
            };
            runs.add(frame.journal.clone(), frame.seq, self.files.size() + entries.len() as u64);
            self.next.insert(frame.journal, frame.seq + 1);
            entries.push(entry);
        }
        self.add(&entries, runs)
    }

    /// Appends an entry that stands for no frame; the rows learn of it as of one that a crash left.
    pub fn push(&mut self, entry: &Entry) -> Result<(), StoreError> {
        let bytes = entry.encode().ok_or_else(|| LedgerError::Missing { what: format!("{entry:?}") })?;
        self.files.append(&[bytes])?;
        self.learn().map_err(|error| self.explain(error))
    }

    /// The key that signs now, and its number.
    pub fn current_key(&self) -> Result<Option<(u64, [u8; 32])>, StoreError> {
        let text = "SELECT number, public FROM ledger_keys ORDER BY number DESC LIMIT 1";
        let row = self.connection.query_row(text, [], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)));
        row.optional().map_err(|error| self.explain(error.into()))
    }

    /// The key that signed first, after which the ledger is named.
    pub fn first_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        let row = self.connection.query_row("SELECT public FROM ledger_keys WHERE number = 1", [], |row| row.get(0));
        row.optional().map_err(|error| self.explain(error.into()))
    }

    fn note_key(&self, number: u64, place: u64, public: &[u8; 32]) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached("INSERT OR REPLACE INTO ledger_keys VALUES (?1, ?2, ?3)")?;
        statement.execute(params![signed(number), signed(place), public]).map(drop)
    }

    fn add(&mut self, entries: &[[u8; ENTRY_BYTES]], runs: Runs) -> Result<(), StoreError> {
        self.files.append(entries)?;
        self.known.size = self.files.size();
        self.note(runs).map_err(|error| self.explain(error.into()))
    }

    /// The number of the first frame of a journal that is not in the ledger.
    fn next_of(&mut self, journal: &Journal) -> rusqlite::Result<u64> {
        if let Some(next) = self.next.get(journal) {
            return Ok(*next);
        }
        let text = "SELECT seq + count FROM ledger_runs WHERE session = ?1 AND writer = ?2 ORDER BY seq DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(text)?;
        let found: Option<i64> =
            statement.query_row([journal.0.as_str(), journal.1.as_str()], |row| row.get(0)).optional()?;
        let next = found.map_or(1, i64::cast_unsigned);
        self.next.insert(journal.clone(), next);
        Ok(next)
    }

    fn note(&mut self, runs: Runs) -> rusqlite::Result<()> {
        let text = "INSERT OR REPLACE INTO ledger_runs VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = self.connection.prepare_cached(text)?;
        for ((session, writer), seq, place, count) in runs.0 {
            let (seq, place, count) = (signed(seq), signed(place), signed(count));
            statement.execute(params![session.as_str(), writer.as_str(), seq, place, count])?;
        }
        Ok(())
    }

    /// Writes down how far the ledger is.
    pub fn close(&self) -> rusqlite::Result<()> {
        let Known { size, events, boot } = &self.known;
        let mut statement = self.connection.prepare_cached("INSERT OR REPLACE INTO ledger VALUES (1, ?1, ?2, ?3)")?;
        statement.execute(params![signed(*size), signed(*events), boot]).map(drop)
    }
}

/// Why the book could not go on.
#[derive(Debug)]
enum BookError {
    Store(StoreError),
    Database(rusqlite::Error),
}

impl From<StoreError> for BookError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<rusqlite::Error> for BookError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Neighbouring frames of one journal at neighbouring places: journal, first frame, first place, how many.
#[derive(Default)]
struct Runs(Vec<(Journal, u64, u64, u64)>);

impl Runs {
    fn add(&mut self, journal: Journal, seq: u64, place: u64) {
        match self.0.last_mut() {
            Some((last, first, start, count))
                if *last == journal && *first + *count == seq && *start + *count == place =>
            {
                *count += 1;
            }
            _ => self.0.push((journal, seq, place, 1)),
        }
    }
}

fn encode(frame: &FoldedFrame) -> Option<[u8; ENTRY_BYTES]> {
    let (session, writer) = frame.journal.clone();
    Entry::Frame { session, writer, seq: frame.seq, hash: frame.hash }.encode()
}

/// Where a frame is in the ledger; none when it is not.
pub(super) fn place_of(
    connection: &Connection,
    session: &SessionId,
    writer: &str,
    seq: u64,
) -> rusqlite::Result<Option<u64>> {
    let text = "SELECT place + ?3 - seq FROM ledger_runs WHERE session = ?1 AND writer = ?2 AND seq <= ?3 \
                AND seq + count > ?3 ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(text)?;
    let found: Option<i64> =
        statement.query_row(params![session.as_str(), writer, signed(seq)], |row| row.get(0)).optional()?;
    Ok(found.map(i64::cast_unsigned))
}

/// The first entry that is not the one whose place the database noted.
pub(in super::super) fn first_unlike(connection: &Connection, walk: &Walk) -> rusqlite::Result<Option<u64>> {
    let text = "SELECT session, writer, seq, place, count FROM ledger_runs ORDER BY place";
    let mut statement = connection.prepare(text)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let named = |column| row.get::<_, String>(column);
        let run = Run { seq: number(2)?, place: number(3)?, count: number(4)? };
        // What no version writes was entered nowhere.
        let journal = named(0)?.parse().ok().zip(Writer::from_name(&named(1)?));
        let unlike = journal.map_or(Some(run.place), |journal| walk.unlike(&journal, run));
        if unlike.is_some() {
            return Ok(unlike);
        }
    }
    Ok(None)
}

/// The number within its session of a journal's frame.
pub(super) fn number_of(
    connection: &Connection,
    session: &SessionId,
    writer: Writer,
    seq: u64,
) -> rusqlite::Result<Option<u64>> {
    let mut found = None;
    // An event has at least its frame's number.
    blocks::of_session(connection, session, seq, |block| {
        for kept in block.open()?.frames() {
            let kept = kept?;
            if kept.writer == writer && frame_number(kept.payload) == Some(seq) {
                found = Some(kept.number);
            }
        }
        Ok::<_, rusqlite::Error>(found.is_none())
    })?;
    Ok(found)
}
