//! Questions to the tables.

use super::blocks::{Closed, Kept};
use super::summary_row::signed;
use super::{StoreError, blocks};
use crate::ledger::{Hash, event_of};
use crate::model::{Event, SessionId, Timestamp, Writer};
use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use std::collections::{BTreeMap, BTreeSet};

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

/// Which sessions are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Among {
    /// Every one.
    All,
    /// Those that were awake at the last look at every one.
    Awake,
}

impl Among {
    fn condition(self) -> &'static str {
        match self {
            Self::All => "TRUE",
            Self::Awake => "session IN (SELECT session FROM awake)",
        }
    }
}

/// The sessions that were awake at the last look at every one.
pub(super) fn awake(connection: &Connection) -> rusqlite::Result<BTreeSet<SessionId>> {
    connection.prepare("SELECT session FROM awake")?.query_map([], |row| id(row, 0))?.collect()
}

/// How many bytes of each journal were folded that may be added to, by session and writer.
pub(super) fn lengths(connection: &Connection, among: Among) -> rusqlite::Result<BTreeMap<(String, String), u64>> {
    let text = format!(
        "SELECT session, writer, folded_bytes FROM journals WHERE fault IS NULL \
         AND (writer = 'changes' OR session NOT IN (SELECT session FROM rested)) AND {}",
        among.condition()
    );
    let mut statement = connection.prepare(&text)?;
    let rows = statement.query_map([], |row| {
        let length: i64 = row.get(2)?;
        Ok(((row.get(0)?, row.get(1)?), length.cast_unsigned()))
    })?;
    rows.collect()
}

/// What says whether a session's journals need a look.
pub(super) struct Standing {
    /// It said that it is over.
    pub ended: bool,
    /// Its own journals had their last look.
    pub rested: bool,
}

/// How sessions stand.
pub(super) fn standings(connection: &Connection, among: Among) -> rusqlite::Result<BTreeMap<SessionId, Standing>> {
    let text = format!(
        "SELECT session, ended IS NOT NULL, session IN (SELECT session FROM rested) FROM sessions WHERE {}",
        among.condition()
    );
    let mut statement = connection.prepare(&text)?;
    let rows =
        statement.query_map([], |row| Ok((id(row, 0)?, Standing { ended: row.get(1)?, rested: row.get(2)? })))?;
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
    let mut found = Vec::new();
    let mut own = Own::of(connection, user);
    let mut take = |block: Closed<'_>| {
        if own.has(&block.extent.session)? {
            let block = block.open()?;
            for kept in block.frames() {
                let kept = kept?;
                if found.len() as u64 >= u64::from(count) {
                    return Ok(false);
                }
                if kept.entry > entry {
                    found.push(block.event(&kept)?);
                }
            }
        }
        Ok::<_, rusqlite::Error>((found.len() as u64) < u64::from(count))
    };
    match session {
        // Of one session in the order of its numbers, which is that of its entries.
        Some(session) => {
            let rest = "WHERE b.session = ?1 AND b.entry + b.count > ?2 ORDER BY b.number";
            blocks::each(connection, rest, params![session.as_str(), signed(entry)], take)?;
        }
        None => blocks::after(connection, entry, &mut take)?,
    }
    Ok(found)
}

/// Whose sessions are shown.
pub(super) struct Own<'a> {
    connection: &'a Connection,
    user: Option<&'a str>,
    /// The session that was asked about last, since blocks of one are neighbours.
    last: Option<(SessionId, bool)>,
}

impl<'a> Own<'a> {
    /// Those of one user, or everybody's.
    pub fn of(connection: &'a Connection, user: Option<&'a str>) -> Self {
        Self { connection, user, last: None }
    }

    /// Whether a session is among them.
    pub fn has(&mut self, session: &SessionId) -> rusqlite::Result<bool> {
        let Some(user) = self.user else { return Ok(true) };
        if let Some((_, has)) = self.last.as_ref().filter(|(last, _)| last == session) {
            return Ok(*has);
        }
        let text = "SELECT EXISTS (SELECT 1 FROM sessions WHERE session = ?1 AND user = ?2)";
        let mut statement = self.connection.prepare_cached(text)?;
        let has = statement.query_row([session.as_str(), user], |row| row.get(0))?;
        self.last = Some((session.clone(), has));
        Ok(has)
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
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let mut found = BTreeMap::<(Timestamp, u64), StoredEvent>::new();
    let mut own = Own::of(connection, user);
    let rest = "WHERE b.first_at < ?2 AND b.last_at >= ?1 ORDER BY b.first_at, b.entry";
    blocks::each(connection, rest, params![after.0.0, until.0], |block| {
        // Of later blocks no event can be among the earliest any more.
        let last = found.last_key_value().map(|((at, _), _)| at.0);
        if found.len() >= most && last.is_none_or(|last| block.extent.first_at > last) {
            return Ok(false);
        }
        if own.has(&block.extent.session)? {
            for event in block.open()?.events() {
                let event = event?;
                let key = (event.at, event.entry);
                if key > after && event.at < until {
                    found.insert(key, event);
                }
            }
            while found.len() > most {
                found.pop_last();
            }
        }
        Ok::<_, rusqlite::Error>(true)
    })?;
    Ok(found.into_values().collect())
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
    let mut found = None;
    blocks::of_session(connection, session, number, |block| {
        let block = block.open()?;
        let hashed = block.hashed()?;
        let Some(place) = hashed.iter().position(|(kept, _)| kept.number == number) else { return Ok(false) };
        let (Kept { writer, payload, .. }, chain) = &hashed[place];
        let before = hashed[..place].iter().rfind(|(kept, _)| kept.writer == *writer).map(|(_, before)| *before);
        let before = before.or(block.head(*writer)).map(|chain| chain.head());
        found = Some(StoredFrame { writer: *writer, seq: chain.frames(), before, payload: payload.to_vec() });
        Ok::<_, rusqlite::Error>(false)
    })?;
    Ok(found)
}

/// A session's id out of a column.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<SessionId> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
