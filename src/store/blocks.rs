//! Events as the embedded store keeps them: in blocks of neighbours of one session, each a row with one compressed bundle.
//!
//! A row for each event would take three times the event's compressed bytes, and an index three times more. A block says which
//! events it has, from when, and with which hash each journal went into it; whatever else is asked is in the events.

use super::fold::Found;
use super::query::{StoredEvent, id};
use super::summary_row::signed;
use crate::ledger::{Bundle, Bundled, Chain, Hash, event_kind, open_bundle, recorded};
use crate::model::{SessionId, Timestamp, Writer};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use std::collections::BTreeMap;

/// The blocks, by their first event's place among all events and within its session. `heads` has for each journal of which
/// events are in it the writer's number, and the count and the hash of the frames before them.
pub(super) const TABLES: &str = "
CREATE TABLE blocks (
    entry INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions(session), number INTEGER NOT NULL,
    count INTEGER NOT NULL, first_at INTEGER NOT NULL, last_at INTEGER NOT NULL, heads BLOB NOT NULL,
    events BLOB NOT NULL, UNIQUE (session, number)
) STRICT;
CREATE INDEX blocks_at ON blocks (first_at, last_at);
";
/// What a block is read from.
const SELECT: &str =
    "SELECT b.entry, b.session, b.number, b.count, b.first_at, b.last_at, b.heads, b.events FROM blocks b";
/// Bytes of each of the heads: the writer's number, how many frames, the last one's hash.
const HEAD_BYTES: usize = 1 + 8 + 32;

/// Which events a block has, before it is opened.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    /// The place of the first among all events.
    pub entry: u64,
    pub session: SessionId,
    /// The number of the first within the session.
    pub number: u64,
    pub count: u64,
    /// When the earliest and the latest were recorded.
    pub first_at: i64,
    pub last_at: i64,
}

impl Extent {
    /// That of a row of [`SELECT`].
    pub fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok(Self {
            entry: number(0)?,
            session: id(row, 1)?,
            number: number(2)?,
            count: number(3)?,
            first_at: row.get(4)?,
            last_at: row.get(5)?,
        })
    }

    pub fn has(&self, entry: u64) -> bool {
        (self.entry..self.entry + self.count).contains(&entry)
    }
}

/// A block that was found and is not opened yet: it may be none that is meant.
pub(super) struct Closed<'a> {
    pub extent: Extent,
    row: &'a Row<'a>,
}

impl<'a> Closed<'a> {
    /// That of a row of [`SELECT`].
    pub fn of(row: &'a Row<'a>) -> rusqlite::Result<Self> {
        Ok(Self { extent: Extent::of(row)?, row })
    }

    /// Opens it.
    pub fn open(self) -> rusqlite::Result<Block> {
        let bytes = |column| self.row.get_ref(column)?.as_blob().map_err(|_| damaged());
        let opened = open_bundle(bytes(7)?).ok_or_else(damaged)?;
        Ok(Block { heads: read_heads(bytes(6)?), extent: self.extent, opened })
    }
}

/// A block that was opened.
#[derive(Debug)]
pub(super) struct Block {
    pub extent: Extent,
    heads: BTreeMap<u8, Chain>,
    opened: Vec<u8>,
}

/// A frame as it is in a block.
pub(super) struct Kept<'a> {
    /// Its event's place among all events.
    pub entry: u64,
    /// Its event's number within the session.
    pub number: u64,
    pub writer: Writer,
    pub payload: &'a [u8],
}

impl Block {
    /// Its frames, in the order of their numbers.
    pub fn frames(&self) -> impl Iterator<Item = rusqlite::Result<Kept<'_>>> {
        let Extent { entry, number, .. } = self.extent;
        (0..).zip(Bundled::of(&self.opened)).map(move |(slot, record)| {
            let (writer, payload) = record.ok_or_else(damaged)?;
            Ok(Kept { entry: entry + slot, number: number + slot, writer, payload })
        })
    }

    /// Where a journal went into the block, if it did.
    pub fn head(&self, writer: Writer) -> Option<Chain> {
        self.heads.get(&writer.code()).copied()
    }

    /// Its frames with the number in their journal and the hash that each has if no byte of the block was changed.
    pub fn hashed(&self) -> rusqlite::Result<Vec<(Kept<'_>, Chain)>> {
        let mut heads = self.heads.clone();
        let mut found = Vec::new();
        for kept in self.frames() {
            let kept = kept?;
            let chain = heads.get_mut(&kept.writer.code()).ok_or_else(damaged)?;
            chain.follow(kept.payload);
            found.push((kept, *chain));
        }
        Ok(found)
    }

    /// The event of one of its frames.
    pub fn event(&self, kept: &Kept<'_>) -> rusqlite::Result<StoredEvent> {
        let record = recorded(kept.payload).ok_or_else(damaged)?;
        Ok(StoredEvent {
            entry: kept.entry,
            session: self.extent.session.clone(),
            number: kept.number,
            writer: kept.writer.as_str().to_owned(),
            seq: record.seq,
            at: record.at,
            kind: event_kind(record.event).unwrap_or_else(|| "unknown".to_owned()),
            json: record.event.to_owned(),
        })
    }

    /// All its events, each read when it is its turn.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = rusqlite::Result<StoredEvent>> {
        let frames: Vec<_> = self.frames().collect();
        frames.into_iter().map(|kept| self.event(&kept?))
    }

    /// The event at this place among all; none where it is in another block.
    pub fn find(&self, entry: u64) -> rusqlite::Result<Option<StoredEvent>> {
        let slot = entry.checked_sub(self.extent.entry).and_then(|slot| usize::try_from(slot).ok());
        let kept = slot.and_then(|slot| self.frames().nth(slot)).transpose()?;
        kept.map(|kept| self.event(&kept)).transpose()
    }
}

/// What stands for a block that no version wrote.
fn damaged() -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(7, "events".to_owned(), Type::Blob)
}

fn read_heads(bytes: &[u8]) -> BTreeMap<u8, Chain> {
    let head = |bytes: &[u8; HEAD_BYTES]| {
        let [code, rest @ ..] = *bytes;
        let (frames, hash) = rest.split_first_chunk::<8>()?;
        Some((code, Chain::at(u64::from_be_bytes(*frames), Hash(hash.try_into().ok()?))))
    };
    bytes.as_chunks::<HEAD_BYTES>().0.iter().filter_map(head).collect()
}

/// Events of one session on their way into blocks, in the order of their numbers.
pub(super) struct Filler<'a> {
    connection: &'a Connection,
    session: &'a str,
    /// The hash after each journal's last frame so far.
    chains: BTreeMap<u8, Chain>,
    bundle: Bundle,
    heads: BTreeMap<u8, Chain>,
    /// The first event's entry and number.
    first: (u64, u64),
    at: (i64, i64),
}

impl<'a> Filler<'a> {
    /// `chains` says where each journal is, by its writer's number.
    pub fn new(connection: &'a Connection, session: &'a str, chains: BTreeMap<u8, Chain>) -> Self {
        let (bundle, heads) = (Bundle::default(), BTreeMap::new());
        Self { connection, session, chains, bundle, heads, first: (0, 0), at: (0, 0) }
    }

    /// Takes the next event in; `chain` is its journal's place after it.
    pub fn push(
        &mut self,
        (entry, number): (u64, u64),
        writer: Writer,
        at: Timestamp,
        payload: &[u8],
        chain: Chain,
    ) -> rusqlite::Result<()> {
        if self.bundle.is_empty() {
            (self.first, self.at) = ((entry, number), (at.0, at.0));
        }
        let code = writer.code();
        if !self.heads.contains_key(&code)
            && let Some(before) = self.chains.get(&code)
        {
            self.heads.insert(code, *before);
        }
        self.chains.insert(code, chain);
        self.at = (self.at.0.min(at.0), self.at.1.max(at.0));
        self.bundle.push(writer, payload);
        if self.bundle.is_full() { self.close() } else { Ok(()) }
    }

    /// Writes the block of what is left.
    pub fn close(&mut self) -> rusqlite::Result<()> {
        if self.bundle.is_empty() {
            return Ok(());
        }
        let mut heads = Vec::new();
        for (code, chain) in std::mem::take(&mut self.heads) {
            heads.push(code);
            heads.extend(chain.frames().to_be_bytes());
            heads.extend(chain.head().0);
        }
        let (entry, number) = (signed(self.first.0), signed(self.first.1));
        let (count, events) = (signed(self.bundle.len() as u64), self.bundle.close());
        let text = "INSERT INTO blocks VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let row = params![entry, self.session, number, count, self.at.0, self.at.1, heads, events];
        self.connection.prepare_cached(text)?.execute(row).map(drop)
    }
}

/// Writes new events of a session, the first of which has this number, after all others; the place of the first.
pub(super) fn append(
    connection: &Connection,
    session: &SessionId,
    number: u64,
    chains: BTreeMap<u8, Chain>,
    records: &[Found],
) -> rusqlite::Result<u64> {
    let entry = last_entry(connection)? + 1;
    let mut filler = Filler::new(connection, session.as_str(), chains);
    for (slot, record) in (0..).zip(records) {
        let chain = Chain::at(record.seq, record.hash);
        filler.push((entry + slot, number + slot), record.writer, record.at, &record.payload, chain)?;
    }
    filler.close()?;
    Ok(entry)
}

/// The place of the last of all events; 0 where there is none.
pub(super) fn last_entry(connection: &Connection) -> rusqlite::Result<u64> {
    let text = "SELECT entry + count - 1 FROM blocks ORDER BY entry DESC LIMIT 1";
    let last = connection.prepare_cached(text)?.query_row([], |row| row.get::<_, i64>(0)).optional()?;
    Ok(last.map_or(0, i64::cast_unsigned))
}

/// The block that the event at a place among all is in, unopened; none where there is no such event.
pub(super) fn extent_of(connection: &Connection, entry: u64) -> rusqlite::Result<Option<Extent>> {
    let text = "SELECT entry, session, number, count, first_at, last_at FROM blocks WHERE entry <= ?1 \
                ORDER BY entry DESC LIMIT 1";
    let found = connection.prepare_cached(text)?.query_row([signed(entry)], Extent::of).optional()?;
    Ok(found.filter(|extent| extent.has(entry)))
}

/// Opens the block that begins at a place.
pub(super) fn open(connection: &Connection, extent: &Extent) -> rusqlite::Result<Block> {
    let text = format!("{SELECT} WHERE b.entry = ?1");
    connection.prepare_cached(&text)?.query_row([signed(extent.entry)], |row| Closed::of(row)?.open())
}

/// Finds blocks one after another for as long as the caller goes on.
pub(super) fn each<E: From<rusqlite::Error>>(
    connection: &Connection,
    rest: &str,
    values: impl Params,
    mut take: impl FnMut(Closed<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} {rest}"))?;
    let mut rows = statement.query(values)?;
    while let Some(row) = rows.next()? {
        if !take(Closed::of(row)?)? {
            break;
        }
    }
    Ok(())
}

/// Finds the blocks from the one on that has the event after this one.
pub(super) fn after<E: From<rusqlite::Error>>(
    connection: &Connection,
    entry: u64,
    take: impl FnMut(Closed<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let rest = "WHERE b.entry >= coalesce((SELECT max(entry) FROM blocks WHERE entry <= ?1), 0) ORDER BY b.entry";
    each(connection, rest, [signed(entry).saturating_add(1)], take)
}

/// Finds a session's blocks from the one on that has the event of this number.
pub(super) fn of_session<E: From<rusqlite::Error>>(
    connection: &Connection,
    session: &SessionId,
    number: u64,
    take: impl FnMut(Closed<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let rest = "WHERE b.session = ?1 AND b.number >= coalesce((SELECT max(number) FROM blocks \
                WHERE session = ?1 AND number <= ?2), 0) ORDER BY b.number";
    each(connection, rest, params![session.as_str(), signed(number)], take)
}
