//! Questions to the tables of PostgreSQL.

use super::fold::hash;
use super::link::{Fault, Link, Parameter};
use super::summary_row::{id, usage};
use crate::ledger::event_json;
use crate::model::{NanoUsd, SessionId, Timestamp, Usage, Writer};
use crate::store::query::{StoredEvent, StoredFrame};
use crate::store::summary_row::signed;
use crate::store::{Search, SpendBy, SpendRow, StoreError, Turn};
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// What an event is read from.
const COLUMNS: &str = "SELECT entry, session, number, writer, seq, at, kind, payload FROM events";
/// Keeps to one user's sessions, where one is named.
const OWN: &str = "($1::text IS NULL OR session IN (SELECT session FROM sessions WHERE user_name = $1))";
/// How many events are asked for at once: what one answer holds is in memory.
const PAGE_EVENTS: u32 = 2_000;

/// The ids of all sessions, or of one user's, the newest first.
pub(super) fn ids(link: &Link, user: Option<&str>) -> Result<Vec<SessionId>, Fault> {
    let text = "SELECT session FROM sessions WHERE $1::text IS NULL OR user_name = $1 \
                ORDER BY started DESC NULLS LAST, session";
    link.query(text, &[&user])?.iter().map(|row| id(row.try_get(0)?)).collect()
}

/// The ids of the sessions whose journals are on one machine.
pub(super) fn ids_on(link: &Link, machine: &str) -> Result<Vec<SessionId>, Fault> {
    let rows = link.query("SELECT session FROM sessions WHERE machine = $1", &[&machine])?;
    rows.iter().map(|row| id(row.try_get(0)?)).collect()
}

/// How many bytes of each journal of one machine were folded, by session and writer.
pub(super) fn lengths(link: &Link, machine: &str) -> Result<BTreeMap<(String, String), u64>, Fault> {
    let text = "SELECT session, writer, folded_bytes FROM journals JOIN sessions USING (session) \
                WHERE fault IS NULL AND machine = $1";
    let rows = link.query(text, &[&machine])?;
    let length = |row: &Row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get::<_, i64>(2)?.cast_unsigned()));
    rows.iter().map(length).collect()
}

/// Events of a session or of all at a time, at most `count` from a place on: what is asked for by no term, and of one user's sessions or
/// of everybody's. Page by page, since what one answer holds is in memory.
pub(super) fn search(
    link: &Link,
    user: Option<&str>,
    search: &Search,
    turn: Turn,
    count: u32,
) -> Result<Vec<StoredEvent>, Fault> {
    let (mut first, mut last, order) = match turn {
        Turn::After(entry) => (signed(entry).saturating_add(1), i64::MAX, "ASC"),
        Turn::Before(entry) => (0, signed(entry).saturating_sub(1), "DESC"),
    };
    let session = search.session.as_ref().map(SessionId::as_str);
    let (since, until) = (search.since.map(|at| at.0), search.until.map(|at| at.0));
    // Only what is asked for, so that the server can choose the index that is for it.
    let asked: [(bool, &str, Parameter<'_>); 4] = [
        (user.is_some(), "session IN (SELECT session FROM sessions WHERE user_name = $)", &user),
        (session.is_some(), "session = $", &session),
        (since.is_some(), "at >= $", &since),
        (until.is_some(), "at < $", &until),
    ];
    let asked: Vec<_> = asked.into_iter().filter(|(is, ..)| *is).collect();
    let number = |(place, (_, text, _)): (usize, &(bool, &str, _))| {
        format!(" AND {}", text.replace('$', &format!("${}", place + 4)))
    };
    let conditions: String = asked.iter().enumerate().map(number).collect();
    let text = format!("{COLUMNS} WHERE entry >= $1 AND entry <= $2{conditions} ORDER BY entry {order} LIMIT $3");
    let mut found: Vec<StoredEvent> = Vec::new();
    loop {
        let page = i64::from(PAGE_EVENTS.min(count - u32::try_from(found.len()).unwrap_or(count)));
        let mut parameters: Vec<Parameter<'_>> = vec![&first, &last, &page];
        parameters.extend(asked.iter().map(|(.., value)| *value));
        let rows = link.query(&text, &parameters)?;
        for row in &rows {
            found.push(stored(row)?);
        }
        let Some(end) = found.last().map(|event| signed(event.entry)) else { return Ok(found) };
        if rows.len() as u64 != page.unsigned_abs() || found.len() as u64 >= u64::from(count) {
            return Ok(found);
        }
        match turn {
            Turn::After(_) => first = end + 1,
            Turn::Before(_) => last = end - 1,
        }
    }
}

/// Events of all sessions, or of one user's, in the order of time: after a time and an entry, and before a time.
pub(super) fn log_between(
    link: &Link,
    user: Option<&str>,
    after: (Timestamp, u64),
    until: Timestamp,
    count: u32,
) -> Result<Vec<StoredEvent>, Fault> {
    let text = format!("{COLUMNS} WHERE {OWN} AND (at, entry) > ($2, $3) AND at < $4 ORDER BY at, entry LIMIT $5");
    let rows = link.query(&text, &[&user, &after.0.0, &signed(after.1), &until.0, &i64::from(count)])?;
    rows.iter().map(stored).collect()
}

/// The frame that became a session's event of this number; none when there is none.
pub(super) fn stored_frame(link: &Link, session: &SessionId, number: u64) -> Result<Option<StoredFrame>, Fault> {
    let text = "SELECT writer, seq, payload FROM events WHERE session = $1 AND number = $2";
    let Some(row) = link.query_opt(text, &[&session.as_str(), &signed(number)])? else { return Ok(None) };
    let (name, seq): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    let Some(writer) = Writer::from_name(&name) else { return Ok(None) };
    let text = "SELECT hash FROM events WHERE session = $1 AND writer = $2 AND seq = $3";
    let before = link.query_opt(text, &[&session.as_str(), &name, &(seq - 1)])?;
    let before = before.map(|row| hash(row.try_get(0)?)).transpose()?;
    Ok(Some(StoredFrame { writer, seq: seq.cast_unsigned(), before, payload: row.try_get(2)? }))
}

/// The event in a row of the columns `entry, session, number, writer, seq, at, kind, payload`.
pub(super) fn stored(row: &Row) -> Result<StoredEvent, Fault> {
    let number = |column: usize| row.try_get::<_, i64>(column).map(i64::cast_unsigned);
    let json = event_json(row.try_get(7)?).map(str::to_owned);
    let damaged = || Fault::Store(StoreError::StoreDamaged { what: "an event that is no record".to_owned() });
    Ok(StoredEvent {
        entry: number(0)?,
        session: id(row.try_get(1)?)?,
        number: number(2)?,
        writer: row.try_get(3)?,
        seq: number(4)?,
        at: Timestamp(row.try_get(5)?),
        kind: row.try_get(6)?,
        json: json.ok_or_else(damaged)?,
    })
}

/// Adds up the calls since a time, the dearest group first. The sums are made here, where one that is too large stops at the
/// largest, and are read page by page.
pub(super) fn spend(
    link: &Link,
    by: SpendBy,
    since: Option<Timestamp>,
    user: Option<&str>,
) -> Result<Vec<SpendRow>, Fault> {
    let text = "SELECT calls.*, coalesce(sessions.user_name, '') AS user_name FROM calls JOIN sessions USING (session) \
                WHERE at >= $1 AND ($2::text IS NULL OR sessions.user_name = $2) AND (session, number) > ($3, $4) \
                ORDER BY session, number LIMIT $5";
    let since = since.map_or(i64::MIN, |at| at.0);
    let (mut session, mut number) = (String::new(), 0_i64);
    let mut groups = BTreeMap::<String, SpendRow>::new();
    loop {
        let rows = link.query(text, &[&since, &user, &session, &number, &i64::from(PAGE_EVENTS)])?;
        for row in &rows {
            let key = match by {
                SpendBy::Session => row.try_get("session")?,
                SpendBy::Model => row.try_get("model")?,
                SpendBy::User => row.try_get("user_name")?,
                SpendBy::Day => Timestamp(row.try_get("at")?).to_rfc3339().chars().take_while(|c| *c != 'T').collect(),
            };
            let empty = |key| SpendRow { key, calls: 0, inexact: 0, usage: Usage::default(), cost: NanoUsd::ZERO };
            let group = groups.entry(key).or_insert_with_key(|key: &String| empty(key.clone()));
            group.calls += 1;
            group.inexact += u64::from(!row.try_get::<_, bool>("exact")?);
            group.usage = group.usage.plus(usage(row)?);
            group.cost = group.cost.plus(NanoUsd(row.try_get("cost_nano")?));
        }
        let Some(last) = rows.last().filter(|_| rows.len() as u64 == u64::from(PAGE_EVENTS)) else { break };
        (session, number) = (last.try_get("session")?, last.try_get("number")?);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    match by {
        SpendBy::Day => {}
        _ => groups.sort_by_key(|group| std::cmp::Reverse(group.cost)),
    }
    Ok(groups)
}
