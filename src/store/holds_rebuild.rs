//! The book of what is held, made anew from the journals, and who must not be running meanwhile.

use super::read::{Position, Reader};
use super::sqlite::Sqlite;
use super::{Home, StoreError, blocks, holds, process_start_ticks, query, schema};
use crate::ledger::{Header, event_of};
use crate::model::{Event, RequestNumber, SessionId, Timestamp, Writer};
use memchr::memmem;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};

/// Whoever has money held in a database that is set aside would hold it nowhere: what they may spend could be given again.
/// As long as what comes back is there, no session can begin to hold any in the database.
///
/// # Errors
/// [`StoreError::MoneyInUse`] where such a session runs. Where the database cannot be read, any session may be one.
pub(super) fn refuse_while_held(home: &Home) -> Result<Option<Connection>, StoreError> {
    if !home.database().exists() {
        return Ok(None);
    }
    let opened = schema::open(home).ok().and_then(|connection| {
        connection.execute_batch("BEGIN IMMEDIATE").ok()?;
        Some((accounts(&connection).ok()?, connection))
    });
    let (running, guard) = match opened {
        Some((accounts, connection)) => {
            let running = accounts.into_iter().find(|(_, process)| lives(*process)).map(|(session, _)| session);
            (running, Some(connection))
        }
        None => (running_by_journals(home)?, None),
    };
    running.map_or(Ok(guard), |session| Err(StoreError::MoneyInUse { session }))
}

type Process = (u32, u64);

fn lives((pid, ticks): Process) -> bool {
    process_start_ticks(pid) == Some(ticks)
}

/// The sessions of the book.
fn accounts(connection: &Connection) -> rusqlite::Result<Vec<(SessionId, Process)>> {
    let text = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'accounts'";
    if connection.query_row(text, [], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT session, pid, pid_started_ticks FROM accounts")?;
    let rows = statement
        .query_map([], |row| Ok((query::id(row, 0)?, (row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned()))))?;
    rows.collect()
}

/// A session that runs, by what its own journal tells of its process.
fn running_by_journals(home: &Home) -> Result<Option<SessionId>, StoreError> {
    let lives = |session: &SessionId| process(home, session).is_some_and(lives);
    Ok(Sqlite::directories(home)?.into_iter().find(lives))
}

fn process(home: &Home, session: &SessionId) -> Option<Process> {
    let header = Header { session: session.clone(), writer: Writer::Session };
    let mut position = Position::start(&header);
    let mut reader = Reader::open(home, header).ok()??;
    let mut found = None;
    loop {
        let piece = reader.next(position).ok()?;
        for frame in &piece.decoded.frames {
            match event_of(frame.event) {
                Some(
                    Event::SessionStarted { pid, pid_started_ticks, .. }
                    | Event::SessionDetached { pid, pid_started_ticks },
                ) => found = Some((pid, pid_started_ticks)),
                Some(Event::SessionEnded { .. }) => return None,
                _ => {}
            }
        }
        position = Position { chain: piece.decoded.chain, offset: piece.decoded.end };
        if !piece.more {
            return found;
        }
    }
}

/// Enters every session again that had money held, and settles by what its journal tells. None of them runs.
pub(super) fn restore(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    holds::make_tables(&transaction)?;
    // Where the one is lost, the other still tells of it.
    let holds = [b"\"hold_placed\"".as_slice(), b"\"hold_settled\""].map(memmem::Finder::new);
    let tells = |payload: &[u8]| holds.iter().any(|kind| kind.find(payload).is_some());
    let mut sessions = BTreeSet::new();
    blocks::after(&transaction, 0, |block| {
        let block = block.open()?;
        if block.frames().any(|kept| kept.is_ok_and(|kept| tells(kept.payload))) {
            sessions.insert(block.extent.session);
        }
        Ok::<_, rusqlite::Error>(true)
    })?;
    for session in sessions {
        enter(&transaction, &session)?;
        holds::settle_told(&transaction, &session, true)?;
    }
    transaction.commit()
}

/// Writes a session's account, and all that it ever held as if it were held.
fn enter(connection: &Connection, session: &SessionId) -> rusqlite::Result<()> {
    let mut placed = BTreeMap::<RequestNumber, (Timestamp, i64)>::new();
    for stored in query::log(connection, Some(session), None, 0, u32::MAX)? {
        match stored.event() {
            Some(Event::SessionStarted { user, team, project, profile, pid, pid_started_ticks, .. }) => {
                let ticks = pid_started_ticks.cast_signed();
                connection.execute(
                    "INSERT OR IGNORE INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![session.as_str(), user, team, project, profile, pid, ticks],
                )?;
            }
            Some(Event::HoldPlaced { request, amount, .. }) => drop(placed.insert(request, (stored.at, amount.0))),
            Some(Event::HoldSettled { request, held, .. }) => {
                placed.entry(request).or_insert((stored.at, held.0));
            }
            _ => {}
        }
    }
    let text = "INSERT OR IGNORE INTO accounts VALUES (?1, '', NULL, NULL, '', 0, 0)";
    connection.execute(text, [session.as_str()])?;
    for (request, (at, amount)) in placed {
        connection.execute(
            "INSERT OR IGNORE INTO charges VALUES (?1, ?2, ?3, ?4, 'held')",
            params![session.as_str(), request.0.cast_signed(), at.0, amount],
        )?;
    }
    Ok(())
}
