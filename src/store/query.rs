//! Questions to the tables.

use super::StoreError;
use super::summary_row::signed;
use crate::ledger::{Hash, event_json, event_of};
use crate::model::{Event, SessionId, Timestamp, Writer};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// How alike two ids must be for one to be suggested for the other, from 0 to 1.
const NEAREST_MIN: f64 = 0.7;

/// One event as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place among all events of this store, from 1, in the order in which they were folded.
    pub entry: u64,
    /// The session.
    pub session: SessionId,
    /// Its number within the session, from 1 without gaps.
    pub number: u64,
    /// The process that recorded it, as a journal's name.
    pub writer: String,
    /// Its place in that process's journal, from 1.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The event's name, known to this version or not.
    pub kind: String,
    /// The event's JSON, exactly as it was recorded.
    pub json: String,
}

impl StoredEvent {
    /// The event; none when a later version recorded it.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        event_of(&self.json)
    }
}

/// The ids of all sessions, or of one user's, the newest first.
pub(super) fn ids(connection: &Connection, user: Option<&str>) -> rusqlite::Result<Vec<SessionId>> {
    let text = "SELECT session FROM sessions WHERE ?1 IS NULL OR user = ?1 ORDER BY started DESC, session";
    let mut statement = connection.prepare(text)?;
    let rows = statement.query_map([user], |row| id(row, 0))?;
    rows.collect()
}

/// How many bytes of each journal were folded, by session and writer.
pub(super) fn lengths(connection: &Connection) -> rusqlite::Result<BTreeMap<(String, String), u64>> {
    let text = "SELECT session, writer, folded_bytes FROM journals WHERE fault IS NULL";
    let mut statement = connection.prepare(text)?;
    let rows = statement.query_map([], |row| {
        let length: i64 = row.get(2)?;
        Ok(((row.get(0)?, row.get(1)?), length.cast_unsigned()))
    })?;
    rows.collect()
}

/// The session that a person means, out of all, the newest first.
pub(super) fn find(all: Vec<SessionId>, wanted: &str) -> Result<SessionId, StoreError> {
    let lower = wanted.to_ascii_lowercase();
    // What is recorded of the installation as a whole is no session, and meant only where it is named whole.
    let meant = |id: &SessionId| !id.is_of_installation() || id.as_str() == lower;
    let all: Vec<_> = all.into_iter().filter(meant).collect();
    if wanted == "last" {
        return all.into_iter().next().ok_or(StoreError::NoSession);
    }
    let begins = |id: &&SessionId| !lower.is_empty() && id.as_str().starts_with(&lower);
    let candidates: Vec<_> = all.iter().filter(begins).cloned().collect();
    let wanted: String = wanted.escape_debug().collect();
    match candidates.as_slice() {
        [one] => Ok(one.clone()),
        [] if all.is_empty() => Err(StoreError::NoSession),
        [] => Err(StoreError::UnknownSession { wanted, nearest: nearest(&all, &lower) }),
        _ => Err(StoreError::AmbiguousSession { wanted, candidates }),
    }
}

/// The id whose beginning is most like what was asked for.
fn nearest(all: &[SessionId], wanted: &str) -> Option<SessionId> {
    let beginning = |id: &SessionId| id.as_str().chars().take(wanted.chars().count()).collect::<String>();
    let likeness = |id: &SessionId| strsim::normalized_damerau_levenshtein(&beginning(id), wanted);
    let rated = all.iter().map(|id| (likeness(id), id)).filter(|(likeness, _)| *likeness >= NEAREST_MIN);
    rated.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, id)| id.clone())
}

/// At most `count` events after `entry`, of one session or of all, and of one user's sessions or of everybody's.
pub(super) fn log(
    connection: &Connection,
    session: Option<&SessionId>,
    user: Option<&str>,
    entry: u64,
    count: u32,
) -> rusqlite::Result<Vec<StoredEvent>> {
    const COLUMNS: &str = "SELECT entry, session, number, writer, seq, at, kind, payload FROM events";
    const OWN: &str = "(?1 IS NULL OR session IN (SELECT session FROM sessions WHERE user = ?1))";
    let entry = signed(entry);
    match session {
        Some(session) => {
            let text = format!("{COLUMNS} WHERE {OWN} AND session = ?2 AND entry > ?3 ORDER BY number LIMIT ?4");
            let mut statement = connection.prepare_cached(&text)?;
            statement.query_map(params![user, session.as_str(), entry, count], stored)?.collect()
        }
        None => {
            let mut statement =
                connection.prepare_cached(&format!("{COLUMNS} WHERE {OWN} AND entry > ?2 ORDER BY entry LIMIT ?3"))?;
            statement.query_map(params![user, entry, count], stored)?.collect()
        }
    }
}

/// Events of all sessions, or of one user's, in the order of time: after a time and an entry, and before a time.
pub(super) fn log_between(
    connection: &Connection,
    user: Option<&str>,
    after: (Timestamp, u64),
    until: Timestamp,
    count: u32,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let text = "SELECT entry, session, number, writer, seq, at, kind, payload FROM events \
                WHERE (?1 IS NULL OR session IN (SELECT session FROM sessions WHERE user = ?1)) \
                AND (at, entry) > (?2, ?3) AND at < ?4 ORDER BY at, entry LIMIT ?5";
    let mut statement = connection.prepare_cached(text)?;
    statement.query_map(params![user, after.0.0, signed(after.1), until.0, count], stored)?.collect()
}

/// A frame as it stands in its journal.
pub(super) struct StoredFrame {
    /// The journal.
    pub writer: Writer,
    /// Its number there.
    pub seq: u64,
    /// The hash of the frame before it; none for the first.
    pub before: Option<Hash>,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// The frame that became a session's event of this number; none when there is none.
pub(super) fn stored_frame(
    connection: &Connection,
    session: &SessionId,
    number: u64,
) -> rusqlite::Result<Option<StoredFrame>> {
    let text = "SELECT writer, seq, payload FROM events WHERE session = ?1 AND number = ?2";
    let mut statement = connection.prepare_cached(text)?;
    let found = statement.query_row(params![session.as_str(), signed(number)], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?.cast_unsigned(), row.get(2)?))
    });
    let Some((name, seq, payload)) = found.optional()? else { return Ok(None) };
    let Some(writer) = Writer::ALL.into_iter().find(|writer| writer.as_str() == name) else { return Ok(None) };
    // Events of one journal keep its order.
    let text =
        "SELECT hash FROM events WHERE session = ?1 AND number < ?2 AND writer = ?3 ORDER BY number DESC LIMIT 1";
    let mut statement = connection.prepare_cached(text)?;
    let before = statement.query_row(params![session.as_str(), signed(number), name], |row| row.get(0).map(Hash));
    Ok(Some(StoredFrame { writer, seq, before: before.optional()?, payload }))
}

/// The event in a row of the columns `entry, session, number, writer, seq, at, kind, payload`.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let payload: Vec<u8> = row.get(7)?;
    let json = event_json(&payload).map(str::to_owned);
    Ok(StoredEvent {
        entry: number(0)?,
        session: id(row, 1)?,
        number: number(2)?,
        writer: row.get(3)?,
        seq: number(4)?,
        at: Timestamp(row.get(5)?),
        kind: row.get(6)?,
        json: json.ok_or_else(|| rusqlite::Error::InvalidColumnType(7, "payload".to_owned(), Type::Blob))?,
    })
}

/// A session's id out of a column.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionId> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
