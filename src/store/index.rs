//! What makes a log of many millions of events answer at once: an index of what each is found by. It follows from the events, is
//! made by whoever reads, or by a fold of many, and can be made again. When events were and whose they are is told by their
//! blocks, of which there is one for a hundred events.
//!
//! The index is SQLite's full-text one without contents, columns or positions, so that an event costs it little more than a
//! byte for each of its terms.

use super::blocks::{Block, Extent};
use super::query::Own;
use super::search::{Search, Turn};
use super::summary_row::signed;
use super::terms::{Terms, decided, user_term};
use super::{StoredEvent, blocks};
use crate::model::{SessionId, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;

/// `indexed` has one row with the last entry that is in the index.
const TABLES: &str = "
CREATE VIRTUAL TABLE IF NOT EXISTS index_terms USING fts5(
    terms, content='', columnsize=0, detail=none, tokenize=\"ascii tokenchars '.-_:'\"
);
CREATE TABLE IF NOT EXISTS indexed (one INTEGER PRIMARY KEY CHECK (one = 1), entry INTEGER NOT NULL) STRICT;
";
/// An index of earlier versions, which told costs to a factor of two alone.
const OLDER: &str = "DROP TABLE IF EXISTS search; DROP TABLE IF EXISTS searched; DROP TABLE IF EXISTS spans;";
/// How many events are taken in by one transaction.
const BATCH: u32 = 16_384;
/// How many are at the end of a session: some milliseconds' worth.
const SMALL_BATCH: u32 = 2_048;
/// A fold takes events in only where so many wait: a short session's end is not the time for it.
const WAITING_MIN: u64 = 256;
/// How many events back a request's verdict is looked for.
const EARLIER_MAX: u32 = 5_000;

/// Takes some of what was folded in, if much waits: for the end of a session, which has other things to do.
pub(super) fn keep_up(connection: &Connection) -> rusqlite::Result<()> {
    if waiting(connection)? < WAITING_MIN {
        return Ok(());
    }
    step(connection, SMALL_BATCH)
}

/// Takes everything in that was folded: for whoever is about to ask. False where there is nothing, and so no index.
fn catch_up(connection: &Connection) -> rusqlite::Result<bool> {
    while waiting(connection)? > 0 {
        step(connection, BATCH)?;
    }
    is_there(connection)
}

fn step(connection: &Connection, count: u32) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    if !is_there(&transaction)? {
        transaction.execute_batch(OLDER)?;
        transaction.execute_batch(TABLES)?;
    }
    let from = last_indexed(&transaction)?;
    take_in(&transaction, from, count)?;
    transaction.commit()
}

/// How many events are not in the index.
fn waiting(connection: &Connection) -> rusqlite::Result<u64> {
    let last = blocks::last_entry(connection)?;
    if last == 0 {
        return Ok(0);
    }
    let there = is_there(connection)?;
    Ok(last - if there { last_indexed(connection)?.min(last) } else { 0 })
}

fn is_there(connection: &Connection) -> rusqlite::Result<bool> {
    let text = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'indexed')";
    connection.prepare_cached(text)?.query_row([], |row| row.get(0))
}

fn last_indexed(connection: &Connection) -> rusqlite::Result<u64> {
    let row = connection.query_row("SELECT entry FROM indexed", [], |row| row.get::<_, i64>(0));
    Ok(row.optional()?.map_or(0, i64::cast_unsigned))
}

fn take_in(transaction: &Transaction<'_>, from: u64, count: u32) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached("INSERT INTO index_terms (rowid, terms) VALUES (?1, ?2)")?;
    let (mut terms, mut users) = (Terms::default(), BTreeMap::new());
    let mut last = from;
    blocks::after(transaction, from, |block| {
        let session = block.extent.session.clone();
        if !users.contains_key(&session) {
            users.insert(session.clone(), user_of(transaction, &session)?);
        }
        let user = users.get(&session).cloned().flatten();
        for event in block.open()?.events() {
            let event = event?;
            if event.entry <= from {
                continue;
            }
            last = event.entry;
            let mut found = terms.of(&event, |request| judged(transaction, &session, from, request).ok().flatten());
            found.extend(user.clone());
            insert.execute(params![signed(event.entry), found.join(" ")])?;
        }
        Ok::<_, rusqlite::Error>(last - from < u64::from(count))
    })?;
    transaction.prepare_cached("INSERT OR REPLACE INTO indexed VALUES (1, ?1)")?.execute([signed(last)])?;
    Ok(())
}

/// Whose a session is, as a term. Of a session that is folded before it said so, the events until then are found by everything
/// but their user.
fn user_of(connection: &Connection, session: &SessionId) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT user FROM sessions WHERE session = ?1")?;
    let user: Option<Option<String>> = statement.query_row([session.as_str()], |row| row.get(0)).optional()?;
    Ok(user.flatten().map(|user| user_term(&user)))
}

/// What was decided of a session's request up to an entry, not far before it. What was decided since, [`Terms`] remembers.
fn judged(
    connection: &Connection,
    session: &SessionId,
    upto: u64,
    request: u64,
) -> rusqlite::Result<Option<StoredEvent>> {
    let (mut found, mut seen) = (None, 0);
    let rest = "WHERE b.session = ?1 AND b.entry <= ?2 ORDER BY b.number DESC";
    blocks::each(connection, rest, params![session.as_str(), signed(upto)], |block| {
        for earlier in block.open()?.events().rev() {
            let earlier = earlier?;
            if earlier.entry > upto {
                continue;
            }
            seen += 1;
            let of: Option<Of> = decided(&earlier.kind).and_then(|_| serde_json::from_str(&earlier.json).ok());
            if of.is_some_and(|of| of.request == Some(request)) {
                found = Some(earlier);
                return Ok(false);
            }
        }
        Ok::<_, rusqlite::Error>(seen < EARLIER_MAX)
    })?;
    Ok(found)
}

#[derive(serde::Deserialize)]
struct Of {
    request: Option<u64>,
}

/// Events that are meant, at most `count`, from a place in the log on; none where the index cannot be completed, since the
/// disk is full or the database may only be read.
pub(super) fn search(
    connection: &Connection,
    user: Option<&str>,
    search: &Search,
    turn: Turn,
    count: u32,
) -> rusqlite::Result<Option<Vec<StoredEvent>>> {
    match catch_up(connection) {
        Ok(true) => find(connection, user, search, turn, count).map(Some),
        Ok(false) => Ok(Some(Vec::new())),
        Err(error) if cannot_write(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn cannot_write(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen))
}

fn find(
    connection: &Connection,
    user: Option<&str>,
    search: &Search,
    turn: Turn,
    count: u32,
) -> rusqlite::Result<Vec<StoredEvent>> {
    let mut groups = search.groups();
    // Within one session there is little to go through, and its user is known.
    groups.extend(user.filter(|_| search.session.is_none()).map(|user| vec![user_term(user)]));
    let expression = expression(&groups);
    let own = Own::of(connection, user);
    let mut sought = Sought { connection, own, search, count, found: Vec::new(), last: None };
    for stretch in stretches(connection, search, turn)? {
        if sought.is_enough() {
            break;
        }
        match groups.is_empty() {
            true => sought.in_blocks(stretch, turn)?,
            false => sought.by_terms(&expression, stretch, turn)?,
        }
    }
    Ok(sought.found)
}

/// The first and the last of neighbouring entries.
type Stretch = (u64, u64);

/// Where in the log events can be of the session and the time that are meant, in the order in which it is gone through: what is
/// not there need not be looked at, however many of its events have the terms.
fn stretches(connection: &Connection, search: &Search, turn: Turn) -> rusqlite::Result<Vec<Stretch>> {
    let (first, last) = match turn {
        Turn::After(entry) => (entry.saturating_add(1), u64::MAX >> 1),
        Turn::Before(entry) => (0, entry.min(u64::MAX >> 1).saturating_sub(1)),
    };
    let mut found = match (&search.session, search.since, search.until) {
        (None, None, None) => vec![(first, last)],
        (Some(session), since, until) => of_session(connection, session, (since, until))?,
        (None, since, until) => of_time(connection, (since, until))?,
    };
    for stretch in &mut found {
        *stretch = (stretch.0.max(first), stretch.1.min(last));
    }
    found.retain(|(first, last)| first <= last);
    if matches!(turn, Turn::Before(_)) {
        found.reverse();
    }
    Ok(found)
}

/// From when on, and before when.
type Between = (Option<Timestamp>, Option<Timestamp>);

fn of_session(connection: &Connection, session: &SessionId, (since, until): Between) -> rusqlite::Result<Vec<Stretch>> {
    let text = "SELECT entry, count FROM blocks WHERE session = ?1 AND last_at >= ?2 AND first_at < ?3 ORDER BY number";
    let mut statement = connection.prepare_cached(text)?;
    let (since, until) = (since.map_or(i64::MIN, |at| at.0), until.map_or(i64::MAX, |at| at.0));
    let mut rows = statement.query(params![session.as_str(), since, until])?;
    let mut found: Vec<Stretch> = Vec::new();
    while let Some(row) = rows.next()? {
        let (entry, count) = (row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned());
        match found.last_mut() {
            Some((_, last)) if *last + 1 == entry => *last += count,
            _ => found.push((entry, entry + count - 1)),
        }
    }
    Ok(found)
}

/// By the index over the blocks' times alone, which has as many rows as there are blocks.
fn of_time(connection: &Connection, (since, until): Between) -> rusqlite::Result<Vec<Stretch>> {
    let mut statement = connection.prepare_cached("SELECT entry, last_at >= ?1 AND first_at < ?2 FROM blocks")?;
    let (since, until) = (since.map_or(i64::MIN, |at| at.0), until.map_or(i64::MAX, |at| at.0));
    let rows = statement.query_map([since, until], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?)))?;
    let mut blocks: Vec<(u64, bool)> = rows.collect::<rusqlite::Result<_>>()?;
    blocks.sort_unstable();
    let mut found: Vec<Stretch> = Vec::new();
    for run in blocks.chunk_by(|one, other| one.1 == other.1) {
        match (run.first(), found.last_mut()) {
            (Some((entry, true)), _) => found.push((*entry, u64::MAX)),
            (Some((entry, false)), Some((_, last))) => *last = entry - 1,
            _ => {}
        }
    }
    Ok(found)
}

/// What is looked for, and was found so far.
struct Sought<'a> {
    connection: &'a Connection,
    own: Own<'a>,
    search: &'a Search,
    count: u32,
    found: Vec<StoredEvent>,
    /// The block that was looked at last.
    last: Option<Looked>,
}

/// A block, whether some of its events can be meant, and what is in it once that was asked.
struct Looked {
    extent: Extent,
    may_have: bool,
    block: Option<Block>,
}

impl Sought<'_> {
    fn is_enough(&self) -> bool {
        self.found.len() as u64 >= u64::from(self.count)
    }

    /// Whether some of a block's events can be meant. The terms are for speed; this is what holds.
    fn may_have(&mut self, extent: &Extent) -> rusqlite::Result<bool> {
        let Search { session, since, until, .. } = self.search;
        if session.as_ref().is_some_and(|session| *session != extent.session)
            || since.is_some_and(|since| extent.last_at < since.0)
            || until.is_some_and(|until| extent.first_at >= until.0)
        {
            return Ok(false);
        }
        self.own.has(&extent.session)
    }

    /// Whether a call cost enough. Terms tell it to a sixteenth, and a table of all calls spares opening those of half a host.
    fn may_cost(&self, extent: &Extent, entry: u64) -> rusqlite::Result<bool> {
        let Some(least) = self.search.cost else { return Ok(true) };
        let text = "SELECT cost_nano >= ?3 FROM calls WHERE session = ?1 AND number = ?2";
        let number = extent.number + (entry - extent.entry);
        let mut statement = self.connection.prepare_cached(text)?;
        let row = statement.query_row(params![extent.session.as_str(), signed(number), least.0], |row| row.get(0));
        Ok(row.optional()?.unwrap_or(true))
    }

    fn take(&mut self, event: StoredEvent) {
        if !self.is_enough() && self.search.is_exact(&event) {
            self.found.push(event);
        }
    }

    /// Goes through the blocks one after another.
    fn in_blocks(&mut self, (first, last): Stretch, turn: Turn) -> rusqlite::Result<()> {
        let backwards = matches!(turn, Turn::Before(_));
        let rest = format!(
            "WHERE b.entry <= ?2 AND b.entry >= coalesce((SELECT max(entry) FROM blocks WHERE entry <= ?1), 0) \
             ORDER BY b.entry {}",
            if backwards { "DESC" } else { "ASC" }
        );
        blocks::each(self.connection, &rest, [signed(first), signed(last)], |block| {
            if self.may_have(&block.extent)? {
                let block = block.open()?;
                let mut frames: Vec<_> = block.frames().collect::<rusqlite::Result<_>>()?;
                if backwards {
                    frames.reverse();
                }
                for kept in frames.iter().filter(|kept| (first..=last).contains(&kept.entry)) {
                    if self.is_enough() {
                        break;
                    }
                    self.take(block.event(kept)?);
                }
            }
            Ok::<_, rusqlite::Error>(!self.is_enough())
        })
    }

    /// Looks up what the index names.
    fn by_terms(&mut self, expression: &str, (first, last): Stretch, turn: Turn) -> rusqlite::Result<()> {
        let order = if matches!(turn, Turn::After(_)) { "ASC" } else { "DESC" };
        let text = format!(
            "SELECT rowid FROM index_terms WHERE index_terms MATCH ?1 AND rowid >= ?2 AND rowid <= ?3 ORDER BY rowid {order}"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut rows = statement.query(params![expression, signed(first), signed(last)])?;
        while let Some(row) = rows.next()?
            && !self.is_enough()
        {
            let entry = row.get::<_, i64>(0)?.cast_unsigned();
            if let Some(event) = self.look_up(entry)? {
                self.take(event);
            }
        }
        Ok(())
    }

    /// The event at a place, if it can be meant. Of its block it alone is read.
    fn look_up(&mut self, entry: u64) -> rusqlite::Result<Option<StoredEvent>> {
        let known = self.last.take().filter(|looked| looked.extent.has(entry));
        let looked = match known {
            Some(looked) => looked,
            None => match blocks::extent_of(self.connection, entry)? {
                Some(extent) => Looked { may_have: self.may_have(&extent)?, extent, block: None },
                None => return Ok(None),
            },
        };
        let Looked { extent, may_have, mut block } = looked;
        let mut found = None;
        if may_have && self.may_cost(&extent, entry)? {
            let opened = block.take().map_or_else(|| blocks::open(self.connection, &extent), Ok)?;
            found = opened.find(entry)?;
            block = Some(opened);
        }
        self.last = Some(Looked { extent, may_have, block });
        Ok(found)
    }
}

/// Terms as the index is asked for them. Nothing in them can end a quotation.
fn expression(groups: &[Vec<String>]) -> String {
    let any = |group: &Vec<String>| {
        let terms: Vec<_> = group.iter().map(|term| format!("\"{}\"", term.replace('"', ""))).collect();
        format!("({})", terms.join(" OR "))
    };
    groups.iter().map(any).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::search::scan;
    use super::super::{Decided, Home, Journal, Recorder, Sqlite, Store};
    use super::*;
    use crate::model::{
        EndReason, Event, ExitStatus, Host, NanoUsd, Port, Pricing, RequestLine, RequestNumber, Scheme, Timestamp,
        Usage, Writer,
    };

    const HOSTS: [&str; 4] = ["a.example.com", "b.example.com", "c.test", "::1"];

    fn line(host: &str, path: &str) -> RequestLine {
        let host = Host::parse(host).unwrap();
        RequestLine { method: "GET".to_owned(), scheme: Scheme::Https, host, port: Port(443), path: path.to_owned() }
    }

    /// Some request's beginning.
    fn judged(number: u64) -> Event {
        let request = RequestNumber(number);
        let line = line(HOSTS[usize::try_from(number).unwrap() % 4], &format!("/v1/part-{}/Files", number % 5));
        if number.is_multiple_of(7) {
            let reason = "no rule allows it".to_owned();
            return Event::RequestDenied {
                request,
                line,
                rule: None,
                rule_from: None,
                act: None,
                reason,
                also: Vec::new(),
            };
        }
        let secrets = if number.is_multiple_of(3) { vec!["GitHub".to_owned()] } else { Vec::new() };
        let rule = "* *.example.com/**".to_owned();
        Event::RequestAllowed { request, line, rule, rule_from: None, act: None, secrets, also: Vec::new() }
    }

    /// What is told of it later.
    fn metered(number: u64) -> Event {
        Event::UsageMetered {
            request: RequestNumber(number),
            dialect: "anthropic-messages".to_owned(),
            vendor: "anthropic".to_owned(),
            model: "claude-x".to_owned(),
            usage: Usage::default(),
            service: String::new(),
            cost: NanoUsd(i64::try_from(number).unwrap() * 1_000),
            pricing: Pricing::Exact,
            price_table: "2026-01-01".to_owned(),
        }
    }

    fn searches() -> Vec<Search> {
        let session = Some(SessionId::from_entropy([2; 10]));
        let any = Search::default;
        let host = |host: &str| Some(host.to_owned());
        vec![
            any(),
            Search { session: session.clone(), ..any() },
            Search { host: host("a.example.com"), ..any() },
            Search { host: host("*.Example.com"), decided: Some(Decided::Allowed), ..any() },
            Search { host: host("[::1]"), ..any() },
            Search { host: host("::1"), ..any() },
            Search { host: host("nowhere"), ..any() },
            Search { decided: Some(Decided::Denied), session, ..any() },
            Search { secret: host("GitHub"), ..any() },
            Search { secret: host("github"), ..any() },
            Search { cost: Some(NanoUsd(33_000)), ..any() },
            Search { cost: Some(NanoUsd(33_001)), host: host("c.test"), ..any() },
            Search { text: host("PART 3 files"), ..any() },
            Search { text: host("no such thing"), ..any() },
            Search { since: Some(Timestamp(2_030)), until: Some(Timestamp(3_020)), ..any() },
            Search { until: Some(Timestamp(1_000)), ..any() },
            Search { since: Some(Timestamp(9_000_000)), ..any() },
        ]
    }

    fn entries(found: &[StoredEvent]) -> Vec<u64> {
        found.iter().map(|event| event.entry).collect()
    }

    /// The index finds what going through everything finds, and whatever way round.
    fn expect_agreement(store: &mut Sqlite) {
        for search in searches() {
            let scanned = |store: &Sqlite, turn, count| {
                let log = |entry, count| store.log(search.session.as_ref(), entry, count);
                entries(&scan(log, &search, turn, count).unwrap())
            };
            let mut wanted = scanned(store, Turn::After(0), u32::MAX);
            assert_eq!(entries(&store.search(&search, Turn::After(0), u32::MAX).unwrap()), wanted, "{search:?}");
            for turn in [Turn::After(17), Turn::Before(40)] {
                let found = entries(&store.search(&search, turn, 5).unwrap());
                assert_eq!(found, scanned(store, turn, 5), "{search:?} {turn:?}");
            }
            wanted.reverse();
            assert_eq!(entries(&store.search(&search, Turn::Before(u64::MAX), u32::MAX).unwrap()), wanted);
        }
    }

    #[test]
    fn the_index_finds_what_going_through_everything_finds() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        let mut store = Sqlite::open(&home).unwrap();
        expect_agreement(&mut store);
        let mut open = Vec::new();
        for number in 1..=3_u8 {
            let mut journal = Journal::create(&home, &SessionId::from_entropy([number; 10]), Writer::Proxy).unwrap();
            for request in 1..=40 {
                let at = i64::from(number) * 1_000 + i64::try_from(request).unwrap();
                journal.record(Timestamp(at), &super::tests::judged(request)).unwrap();
                if request.is_multiple_of(2) {
                    journal.record(Timestamp(at), &metered(request)).unwrap();
                }
            }
            open.push(journal);
            store.fold_all().unwrap();
            expect_agreement(&mut store);
        }
        // What comes later of requests that are in the index long since.
        for journal in &mut open {
            for request in (1..=40).step_by(2) {
                journal.record(Timestamp(7_000), &metered(request)).unwrap();
            }
        }
        let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
        open[0].record(Timestamp(7_001), &ended).unwrap();
        store.fold_all().unwrap();
        expect_agreement(&mut store);
        // Where the index is lost, it is made again.
        store.connection.execute_batch("DROP TABLE index_terms; DROP TABLE indexed").unwrap();
        expect_agreement(&mut Sqlite::open(&home).unwrap());
        let older = "DROP TABLE index_terms; DROP TABLE indexed; CREATE VIRTUAL TABLE search USING fts5(terms, content=''); \
                     CREATE TABLE searched (one INTEGER PRIMARY KEY, entry INTEGER); INSERT INTO searched VALUES (1, 9999);";
        store.connection.execute_batch(older).unwrap();
        expect_agreement(&mut Sqlite::open(&home).unwrap());
        let text = "SELECT count(*) FROM sqlite_schema WHERE name IN ('search', 'searched')";
        assert_eq!(store.connection.query_row(text, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    }

    #[test]
    fn a_full_database_answers_all_the_same() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        let mut journal = Journal::create(&home, &SessionId::from_entropy([1; 10]), Writer::Proxy).unwrap();
        (1..=100).for_each(|request| journal.record(Timestamp(1), &super::tests::judged(request)).unwrap());
        let mut store = Sqlite::open(&home).unwrap();
        store.fold_all().unwrap();
        store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
        let search = Search { decided: Some(Decided::Denied), ..Search::default() };
        let found = store.search(&search, Turn::After(0), 100).unwrap();
        assert_eq!(found.len(), 100 / 7);
    }
}
