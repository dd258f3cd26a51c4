//! A database of version 1 had a row for each event: brings those into blocks, with every number and hash.

use super::blocks::Filler;
use super::query::id;
use crate::ledger::{Chain, Hash, Header, event_json, event_of};
use crate::model::{Event, SessionId, Timestamp, Writer};
use rusqlite::{Connection, Row, params};
use std::collections::BTreeMap;

/// Columns that version 2 added, and the table that says which sessions need no look any more.
const ADDED: &str = "
ALTER TABLE sessions ADD COLUMN team TEXT;
ALTER TABLE sessions ADD COLUMN project TEXT;
CREATE TABLE rested (session TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
";

/// A row of version 1.
struct Old {
    entry: u64,
    session: SessionId,
    number: u64,
    writer: Option<Writer>,
    seq: u64,
    at: i64,
    kind: String,
    payload: Vec<u8>,
    hash: Hash,
}

impl Old {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
        let writer: String = row.get(3)?;
        Ok(Self {
            entry: number(0)?,
            session: id(row, 1)?,
            number: number(2)?,
            writer: Writer::from_name(&writer),
            seq: number(4)?,
            at: row.get(5)?,
            kind: row.get(6)?,
            payload: row.get(7)?,
            hash: Hash(row.get(8)?),
        })
    }
}

/// Takes all rows over and removes their table.
pub(super) fn from_rows(transaction: &Connection) -> rusqlite::Result<()> {
    transaction.execute_batch(ADDED)?;
    let mut chains = BTreeMap::<SessionId, BTreeMap<u8, Chain>>::new();
    {
        let text = "SELECT entry, session, number, writer, seq, at, kind, payload, hash FROM events ORDER BY entry";
        let mut statement = transaction.prepare(text)?;
        let mut rows = statement.query([])?;
        let mut run: Vec<Old> = Vec::new();
        while let Some(row) = rows.next()? {
            let old = Old::of(row)?;
            let follows = |last: &Old| {
                last.session == old.session && last.entry + 1 == old.entry && last.number + 1 == old.number
            };
            if !run.last().is_some_and(follows) || run.len() >= RUN_MAX {
                take(transaction, &mut chains, &std::mem::take(&mut run))?;
            }
            run.push(old);
        }
        take(transaction, &mut chains, &run)?;
    }
    transaction.execute_batch("DROP TABLE events")
}

/// How many rows are in memory at once.
const RUN_MAX: usize = 4_096;

/// Takes neighbours over.
fn take(
    transaction: &Connection,
    chains: &mut BTreeMap<SessionId, BTreeMap<u8, Chain>>,
    run: &[Old],
) -> rusqlite::Result<()> {
    let Some(first) = run.first() else { return Ok(()) };
    let session = &first.session;
    let fresh = || begun(session);
    let chains = chains.entry(session.clone()).or_insert_with(fresh);
    let mut filler = Filler::new(transaction, session.as_str(), chains.clone());
    for old in run {
        // A journal that no version writes was never folded.
        let Some(writer) = old.writer else { continue };
        let chain = Chain::at(old.seq, old.hash);
        filler.push((old.entry, old.number), writer, Timestamp(old.at), &old.payload, chain)?;
        chains.insert(writer.code(), chain);
        if old.kind == "session_started"
            && let Some(Event::SessionStarted { team, project, .. }) = event_json(&old.payload).and_then(event_of)
        {
            let text = "UPDATE sessions SET team = ?2, project = ?3 WHERE session = ?1";
            transaction.execute(text, params![session.as_str(), team, project])?;
        }
    }
    filler.close()
}

/// Where each journal of a session begins.
pub(super) fn begun(session: &SessionId) -> BTreeMap<u8, Chain> {
    let start = |writer: Writer| (writer.code(), Chain::begin(&Header { session: session.clone(), writer }));
    Writer::ALL.map(start).into()
}
