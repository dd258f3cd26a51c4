//! Journals into tables.
//!
//! Each journal is read on from where the last fold stopped, in one transaction with what is written, so that folding
//! twice is folding once, and two processes that fold at the same time take turns.

use super::ledger::{self, FoldedFrame};
use super::read::{Position, Reader};
use super::summary::Summary;
use super::summary_row::signed;
use super::upgrade::begun;
use super::{Home, LedgerError, StoreError, blocks};
use crate::ledger::{Chain, Hash, Header, Tail, event_kind, event_of};
use crate::model::{Event, Pricing, SessionId, Timestamp, Writer};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::Path;

/// A verified record on its way from a journal into the tables.
pub(super) struct Found {
    pub writer: Writer,
    pub seq: u64,
    pub at: Timestamp,
    pub payload: Vec<u8>,
    pub json: String,
    pub hash: Hash,
}

/// What the store knows of one journal.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    /// Up to where it was folded.
    pub position: Position,
    /// What was wrong with it then.
    pub fault: Option<String>,
}

/// What one look at a journal brought.
pub(super) struct Look {
    pub writer: Writer,
    pub before: Option<Folded>,
    pub after: Folded,
    pub records: Vec<Found>,
    pub more: bool,
}

/// Folds one session's journals; what is wrong with a journal is noted beside it and is no error. Returns what keeps frames
/// from being taken into the ledger: they are in journals and tables all the same, and are taken in once that is mended.
pub(super) fn fold(
    connection: &mut Connection,
    home: &Home,
    session: &SessionId,
) -> Result<Option<LedgerError>, StoreError> {
    let path = home.database();
    let failed = |error| StoreError::database(&path, "write to", error);
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut looks = Vec::new();
        for writer in Writer::ALL {
            let before = folded(&transaction, session, writer).map_err(failed)?;
            looks.extend(look(home, Header { session: session.clone(), writer }, before));
        }
        let more = looks.iter().any(|look| look.more);
        let fresh = store(&transaction, session, looks).map_err(failed)?;
        let fault = enter(&transaction, home, fresh)?;
        transaction.commit().map_err(failed)?;
        if !more {
            return Ok(fault);
        }
    }
}

/// Takes what was folded into the ledger. A ledger that is not what it was stops that alone.
fn enter(
    transaction: &Transaction<'_>,
    home: &Home,
    fresh: Vec<FoldedFrame>,
) -> Result<Option<LedgerError>, StoreError> {
    match ledger::append_folded(transaction, home, fresh) {
        Ok(()) => Ok(None),
        Err(StoreError::Ledger(
            fault @ (LedgerError::Cut { .. } | LedgerError::Gap { .. } | LedgerError::Moved { .. }),
        )) => Ok(Some(fault)),
        Err(other) => Err(other),
    }
}

/// Up to where a journal was folded.
pub(super) fn folded(connection: &Connection, session: &SessionId, writer: Writer) -> rusqlite::Result<Option<Folded>> {
    let text = "SELECT frames, head_hash, folded_bytes, fault FROM journals WHERE session = ?1 AND writer = ?2";
    let mut statement = connection.prepare_cached(text)?;
    let row = statement.query_row(params![session.as_str(), writer.as_str()], |row| {
        let chain = Chain::at(row.get::<_, i64>(0)?.cast_unsigned(), Hash(row.get(1)?));
        let offset = row.get::<_, i64>(2)?.cast_unsigned();
        Ok(Folded { position: Position { chain, offset }, fault: row.get(3)? })
    });
    row.optional()
}

/// Reads what a journal has new; none when there is neither a file nor a memory of one.
pub(super) fn look(home: &Home, header: Header, before: Option<Folded>) -> Option<Look> {
    let writer = header.writer;
    let from = before.as_ref().map_or_else(|| Position::start(&header), |folded| folded.position);
    let mut look =
        Look { writer, after: Folded { position: from, fault: None }, before, records: Vec::new(), more: false };
    let path = home.journal(&header.session, writer);
    match Reader::open(home, header) {
        Ok(Some(mut reader)) => look.read(&mut reader, from),
        Ok(None) if look.before.is_none() => return None,
        Ok(None) => look.after.fault = Some(format!("the journal is missing: {}", short(&path))),
        Err(error) => look.after.fault = Some(error.to_string()),
    }
    Some(look)
}

impl Look {
    /// Takes one piece of the journal in.
    fn read(&mut self, reader: &mut Reader, from: Position) {
        let length = match reader.length() {
            Ok(length) => length,
            Err(error) => return self.after.fault = Some(error.to_string()),
        };
        if length < from.offset {
            let frames = from.chain.frames();
            self.after.fault = Some(format!("the journal is shorter than when its {frames} frames were folded"));
            return;
        }
        if length == from.offset && from.offset > 0 {
            return;
        }
        let piece = match reader.next(from) {
            Ok(piece) => piece,
            Err(error) => return self.after.fault = Some(error.to_string()),
        };
        let decoded = piece.decoded;
        self.records.extend(decoded.frames.iter().map(|frame| Found {
            writer: self.writer,
            seq: frame.seq,
            at: frame.at,
            payload: frame.payload.to_vec(),
            json: frame.event.to_owned(),
            hash: frame.hash,
        }));
        self.after.position = Position { chain: decoded.chain, offset: decoded.end };
        self.more = piece.more;
        if let Tail::Broken { seq, why, .. } = decoded.tail {
            self.after.fault = Some(format!("broken at frame {seq}: {why}"));
        }
    }

    /// Whether the tables must change.
    pub fn is_news(&self) -> bool {
        match &self.before {
            Some(before) => !self.records.is_empty() || before.fault != self.after.fault,
            None => true,
        }
    }
}

/// The end of a path that tells journals apart.
fn short(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Writes what the looks found, and tells of its frames.
fn store(transaction: &Transaction<'_>, session: &SessionId, looks: Vec<Look>) -> rusqlite::Result<Vec<FoldedFrame>> {
    let looks: Vec<_> = looks.into_iter().filter(Look::is_news).collect();
    if looks.is_empty() {
        return Ok(Vec::new());
    }
    // A reference to a session is checked at the commit's border, and its row is written once, with the final sums.
    transaction.execute_batch("PRAGMA defer_foreign_keys = ON")?;
    let mut summary = Summary::load(transaction, session)?.unwrap_or_else(|| Summary::new(session.clone()));
    let mut queues = Vec::new();
    let mut chains = begun(session);
    for look in looks {
        if let Some(before) = &look.before {
            chains.insert(look.writer.code(), before.position.chain);
        }
        save_place(transaction, session, look.writer, &look.after)?;
        queues.push(look.records);
    }
    let records = merge(queues);
    let first = blocks::append(transaction, session, summary.events + 1, chains, &records)?;
    for record in &records {
        take(transaction, &mut summary, record)?;
    }
    summary.save(transaction)?;
    let frames = (first..).zip(records).map(|(event, record)| {
        let journal = (session.clone(), record.writer);
        FoldedFrame { event, journal, seq: record.seq, hash: record.hash }
    });
    Ok(frames.collect())
}

fn save_place(connection: &Connection, session: &SessionId, writer: Writer, place: &Folded) -> rusqlite::Result<()> {
    let (chain, offset) = (place.position.chain, signed(place.position.offset));
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO journals VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let (frames, head) = (signed(chain.frames()), chain.head().0);
    statement.execute(params![session.as_str(), writer.as_str(), frames, head, offset, place.fault]).map(drop)
}

/// One queue in the order of time, in which each journal keeps its own order even where its clock went back.
pub(super) fn merge(queues: Vec<Vec<Found>>) -> Vec<Found> {
    let mut queues: Vec<_> = queues.into_iter().map(|queue| queue.into_iter().peekable()).collect();
    std::iter::from_fn(|| {
        let times = queues.iter_mut().map(|queue| queue.peek().map(|record| record.at));
        let earliest = times.enumerate().filter_map(|(index, at)| at.map(|at| (at, index))).min()?.1;
        queues[earliest].next()
    })
    .collect()
}

/// Counts one record as the session's next event.
fn take(connection: &Connection, summary: &mut Summary, record: &Found) -> rusqlite::Result<()> {
    summary.events += 1;
    summary.started = summary.started.or(Some(record.at));
    let Some(event) = event_of(&record.json) else { return Ok(()) };
    insert_call(connection, summary.session.as_str(), signed(summary.events), record.at, &event)?;
    summary.apply(record.at, &event);
    Ok(())
}

/// What an event is kept under. A fact of a later version keeps its own name and is counted nowhere.
pub(super) fn kind(event: Option<&Event>, json: &str) -> String {
    match event {
        Some(event) => event.kind().to_owned(),
        None => event_kind(json).unwrap_or_else(|| "unknown".to_owned()),
    }
}

/// Writes a model call's row; other events have none.
fn insert_call(
    connection: &Connection,
    session: &str,
    number: i64,
    at: Timestamp,
    event: &Event,
) -> rusqlite::Result<()> {
    let Event::UsageMetered { model, usage, cost, pricing, .. } = event else { return Ok(()) };
    let text = "INSERT INTO calls VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
    let exact = *pricing == Pricing::Exact;
    let (input, output, reasoning) = (signed(usage.input), signed(usage.output), signed(usage.reasoning));
    let (read, write, long) = (signed(usage.cache_read), signed(usage.cache_write), signed(usage.cache_write_long));
    let searches = signed(usage.web_searches);
    connection.prepare_cached(text)?.execute(params![
        session, number, at.0, model, exact, cost.0, input, read, write, long, output, reasoning, searches
    ])?;
    Ok(())
}
