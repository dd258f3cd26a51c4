//! What makes a log of many millions of events answer at once: an index of what each is found by, and of when each session's
//! events were. Both follow from the events, are made by whoever reads, or by a fold of many, and can be made again.
//!
//! The index is SQLite's full-text one without contents, columns or positions, so that an event costs it little more than a
//! byte for each of its terms.

use super::blocks::{Block, Extent};
use super::query::is_of;
use super::search::{Search, Turn};
use super::summary_row::signed;
use super::terms::{Terms, decided, user_term};
use super::{StoredEvent, blocks};
use crate::model::SessionId;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::BTreeMap;

/// `searched` has one row with the last entry that is in the index; `spans` has for each session where in the log and when
/// its events are.
const TABLES: &str = "
CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(
    terms, content='', columnsize=0, detail=none, tokenize=\"ascii tokenchars '.-_:'\"
);
CREATE TABLE IF NOT EXISTS spans (
    session TEXT PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS searched (one INTEGER PRIMARY KEY CHECK (one = 1), entry INTEGER NOT NULL) STRICT;
";
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
    transaction.execute_batch(TABLES)?;
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
    let text = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'searched')";
    connection.prepare_cached(text)?.query_row([], |row| row.get(0))
}

fn last_indexed(connection: &Connection) -> rusqlite::Result<u64> {
    let row = connection.query_row("SELECT entry FROM searched", [], |row| row.get::<_, i64>(0));
    Ok(row.optional()?.map_or(0, i64::cast_unsigned))
}

/// Where a session's events are.
#[derive(Clone, Copy)]
struct Span {
    first: i64,
    last: i64,
    first_at: i64,
    last_at: i64,
}

fn take_in(transaction: &Transaction<'_>, from: u64, count: u32) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached("INSERT INTO search (rowid, terms) VALUES (?1, ?2)")?;
    let (mut terms, mut users, mut spans) = (Terms::default(), BTreeMap::new(), BTreeMap::<SessionId, Span>::new());
    let mut last = from;
    blocks::after(transaction, from, |block| {
        let session = block.extent.session.clone();
        if !users.contains_key(&session) {
            users.insert(session.clone(), user_of(transaction, &session)?);
        }
        let user = users.get(&session).cloned().flatten();
        for event in block.events() {
            let event = event?;
            if event.entry <= from {
                continue;
            }
            last = event.entry;
            let mut found = terms.of(&event, |request| judged(transaction, &event, request).ok().flatten());
            found.extend(user.clone());
            let (entry, at) = (signed(event.entry), event.at.0);
            insert.execute(params![entry, found.join(" ")])?;
            let span = Span { first: entry, last: entry, first_at: at, last_at: at };
            let span = spans.entry(event.session).or_insert(span);
            (span.last, span.first_at, span.last_at) = (entry, span.first_at.min(at), span.last_at.max(at));
        }
        Ok::<_, rusqlite::Error>(last - from < u64::from(count))
    })?;
    save_spans(transaction, &spans)?;
    transaction.prepare_cached("INSERT OR REPLACE INTO searched VALUES (1, ?1)")?.execute([signed(last)])?;
    Ok(())
}

fn save_spans(transaction: &Transaction<'_>, spans: &BTreeMap<SessionId, Span>) -> rusqlite::Result<()> {
    let mut save = transaction.prepare_cached(
        "INSERT INTO spans VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (session) DO UPDATE SET last = ?3, \
         first_at = min(first_at, ?4), last_at = max(last_at, ?5)",
    )?;
    for (session, span) in spans {
        save.execute(params![session.as_str(), span.first, span.last, span.first_at, span.last_at])?;
    }
    Ok(())
}

/// Whose a session is, as a term. Of a session that is folded before it said so, the events until then are found by everything
/// but their user.
fn user_of(connection: &Connection, session: &SessionId) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT user FROM sessions WHERE session = ?1")?;
    let user: Option<Option<String>> = statement.query_row([session.as_str()], |row| row.get(0)).optional()?;
    Ok(user.flatten().map(|user| user_term(&user)))
}

/// What was decided of a request that an event is about, not far before it.
fn judged(connection: &Connection, event: &StoredEvent, request: u64) -> rusqlite::Result<Option<StoredEvent>> {
    let (mut found, mut seen) = (None, 0);
    let rest = "WHERE b.session = ?1 AND b.number < ?2 ORDER BY b.number DESC";
    blocks::each(connection, rest, params![event.session.as_str(), signed(event.number)], |block| {
        for earlier in block.events().rev() {
            let earlier = earlier?;
            if earlier.number >= event.number {
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
    let Some((first, last)) = range(connection, search)? else { return Ok(Vec::new()) };
    let (first, last) = match turn {
        Turn::After(entry) => (first.max(signed(entry).saturating_add(1)), last),
        Turn::Before(entry) => (first, last.min(signed(entry).saturating_sub(1))),
    };
    let mut groups = search.groups();
    // Within one session there is little to go through, and its user is known.
    groups.extend(user.filter(|_| search.session.is_none()).map(|user| vec![user_term(user)]));
    let mut sought = Sought { connection, user, search, count, found: Vec::new(), last: None };
    match groups.is_empty() {
        true => sought.in_blocks(first, last, turn)?,
        false => sought.by_terms(&expression(&groups), first, last, turn)?,
    }
    Ok(sought.found)
}

/// What is looked for, and was found so far.
struct Sought<'a> {
    connection: &'a Connection,
    user: Option<&'a str>,
    search: &'a Search,
    count: u32,
    found: Vec<StoredEvent>,
    /// The block that was looked at last; its events, unless none of them can be meant.
    last: Option<(Extent, Option<Vec<StoredEvent>>)>,
}

impl Sought<'_> {
    fn is_enough(&self) -> bool {
        self.found.len() as u64 >= u64::from(self.count)
    }

    /// Whether some of a block's events can be meant. The terms are for speed; this is what holds.
    fn may_have(&self, extent: &Extent) -> rusqlite::Result<bool> {
        let Search { session, since, until, .. } = self.search;
        if session.as_ref().is_some_and(|session| *session != extent.session)
            || since.is_some_and(|since| extent.last_at < since.0)
            || until.is_some_and(|until| extent.first_at >= until.0)
        {
            return Ok(false);
        }
        self.user.map_or(Ok(true), |user| is_of(self.connection, &extent.session, user))
    }

    fn take(&mut self, event: StoredEvent) {
        let Search { since, until, .. } = self.search;
        let in_time = since.is_none_or(|since| event.at >= since) && until.is_none_or(|until| event.at < until);
        if in_time && !self.is_enough() && self.search.is_exact(&event) {
            self.found.push(event);
        }
    }

    /// Goes through the blocks one after another.
    fn in_blocks(&mut self, first: i64, last: i64, turn: Turn) -> rusqlite::Result<()> {
        let order = if matches!(turn, Turn::After(_)) { "ASC" } else { "DESC" };
        // By an index of the session, where one is meant.
        let (session, order_by) = match &self.search.session {
            Some(_) => ("b.session = ?3", "b.number"),
            None => ("?3 IS NULL", "b.entry"),
        };
        let text = format!(
            "{} WHERE b.entry <= ?2 AND b.entry >= coalesce((SELECT max(entry) FROM blocks WHERE entry <= ?1), 0) \
             AND {session} ORDER BY {order_by} {order}",
            blocks::SELECT
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        let session = self.search.session.as_ref().map(SessionId::as_str);
        let mut rows = statement.query(params![first, last, session])?;
        while let Some(row) = rows.next()?
            && !self.is_enough()
        {
            if !self.may_have(&Extent::of(row)?)? {
                continue;
            }
            let events = Block::of(row)?.events();
            let events: Box<dyn Iterator<Item = _>> =
                if order == "ASC" { Box::new(events) } else { Box::new(events.rev()) };
            for event in events {
                let event = event?;
                if (first..=last).contains(&signed(event.entry)) {
                    self.take(event);
                }
            }
        }
        Ok(())
    }

    /// Looks up what the index names.
    fn by_terms(&mut self, expression: &str, first: i64, last: i64, turn: Turn) -> rusqlite::Result<()> {
        let order = if matches!(turn, Turn::After(_)) { "ASC" } else { "DESC" };
        let text = format!(
            "SELECT rowid FROM search WHERE search MATCH ?1 AND rowid >= ?2 AND rowid <= ?3 ORDER BY rowid {order}"
        );
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut rows = statement.query(params![expression, first, last])?;
        while let Some(row) = rows.next()?
            && !self.is_enough()
        {
            let entry = row.get::<_, i64>(0)?.cast_unsigned();
            if !self.last.as_ref().is_some_and(|(extent, _)| extent.has(entry)) {
                self.look_up(entry)?;
            }
            let events =
                self.last.as_ref().filter(|(extent, _)| extent.has(entry)).and_then(|(_, events)| events.as_ref());
            if let Some(event) = events.and_then(|events| events.iter().find(|event| event.entry == entry)) {
                self.take(event.clone());
            }
        }
        Ok(())
    }

    fn look_up(&mut self, entry: u64) -> rusqlite::Result<()> {
        let text = format!("{} WHERE b.entry <= ?1 ORDER BY b.entry DESC LIMIT 1", blocks::SELECT);
        let mut statement = self.connection.prepare_cached(&text)?;
        let mut rows = statement.query([signed(entry)])?;
        if let Some(row) = rows.next()? {
            let extent = Extent::of(row)?;
            let meant = extent.has(entry) && self.may_have(&extent)?;
            let events = if meant { Some(Block::of(row)?.events().collect::<rusqlite::Result<_>>()?) } else { None };
            self.last = Some((extent, events));
        }
        Ok(())
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

/// The first and the last entry that can be meant; none where no session was at the time.
fn range(connection: &Connection, search: &Search) -> rusqlite::Result<Option<(i64, i64)>> {
    if search.since.is_none() && search.until.is_none() && search.session.is_none() {
        return Ok(Some((0, i64::MAX)));
    }
    let text = "SELECT min(first), max(last) FROM spans WHERE last_at >= ?1 AND first_at < ?2 \
                AND (?3 IS NULL OR session = ?3)";
    let mut statement = connection.prepare_cached(text)?;
    let since = search.since.map_or(i64::MIN, |since| since.0);
    let until = search.until.map_or(i64::MAX, |until| until.0);
    let session = search.session.as_ref().map(SessionId::as_str);
    statement.query_row(params![since, until, session], |row| {
        Ok(row.get::<_, Option<i64>>(0)?.zip(row.get::<_, Option<i64>>(1)?))
    })
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
        store.connection.execute_batch("DROP TABLE search; DROP TABLE spans; DROP TABLE searched").unwrap();
        expect_agreement(&mut Sqlite::open(&home).unwrap());
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
