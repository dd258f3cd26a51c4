//! Journals into the tables of PostgreSQL.
//!
//! As in the embedded store, each journal is read on from where the last fold stopped, in one transaction with what is
//! written. Folds of all machines take turns, so that events are numbered and entered into the one ledger in one order.
//! Journals are files of the machine that wrote them: no other folds them.

use super::ledger;
use super::link::{Fault, Link};
use super::locks;
use super::summary_row::{self, plain};
use crate::ledger::{Chain, Hash, Header, event_of};
use crate::model::{Event, Pricing, SessionId, Writer};
use crate::store::fold::{Folded, Found, kind, look, merge};
use crate::store::read::Position;
use crate::store::summary::Summary;
use crate::store::summary_row::signed;
use crate::store::{Home, LedgerError, StoreError};

/// How many bytes of payload are sent to the server at once, more or less.
const SENT_BYTES: usize = 8 << 20;
/// How many events are sent to the server at once.
const SENT_EVENTS: usize = 8_192;

/// Folds one session's journals, as [`crate::store::fold::fold`] does.
pub(super) fn fold(
    link: &Link,
    home: &Home,
    machine: &str,
    session: &SessionId,
) -> Result<Option<LedgerError>, StoreError> {
    loop {
        let (more, fault) = link.transaction("write to", |link| {
            locks::wait(link, locks::LEDGER)?;
            let known = summary_row::load(link, session)?;
            if known.as_ref().is_some_and(|known| known.machine != machine) {
                return Ok((false, None));
            }
            let mut looks = Vec::new();
            for writer in Writer::ALL {
                let before = folded(link, session, writer)?;
                looks.extend(look(home, Header { session: session.clone(), writer }, before));
            }
            let more = looks.iter().any(|look| look.more);
            looks.retain(crate::store::fold::Look::is_news);
            if !looks.is_empty() {
                let summary = known.map_or_else(|| Summary::new(session.clone()), |known| known.summary);
                let mut places = Vec::new();
                let mut queues = Vec::new();
                for look in looks {
                    places.push((look.writer, look.after));
                    queues.push(look.records);
                }
                write(link, machine, summary, &places, merge(queues))?;
            }
            Ok((more, ledger::enter(link)?))
        })?;
        if !more {
            return Ok(fault);
        }
    }
}

/// Up to where a journal was folded.
pub(super) fn folded(link: &Link, session: &SessionId, writer: Writer) -> Result<Option<Folded>, Fault> {
    let text = "SELECT frames, head_hash, folded_bytes, fault FROM journals WHERE session = $1 AND writer = $2";
    let Some(row) = link.query_opt(text, &[&session.as_str(), &writer.as_str()])? else { return Ok(None) };
    let number = |column| row.try_get::<_, i64>(column).map(i64::cast_unsigned);
    let chain = Chain::at(number(0)?, hash(row.try_get(1)?)?);
    Ok(Some(Folded { position: Position { chain, offset: number(2)? }, fault: row.try_get(3)? }))
}

/// A hash out of a column.
pub(super) fn hash(bytes: &[u8]) -> Result<Hash, Fault> {
    let damaged = |_| Fault::Store(StoreError::StoreDamaged { what: format!("a hash of {} bytes", bytes.len()) });
    bytes.try_into().map(Hash).map_err(damaged)
}

/// Writes what the journals had new: the session's row first, to which all others refer.
fn write(
    link: &Link,
    machine: &str,
    mut summary: Summary,
    places: &[(Writer, Folded)],
    records: Vec<Found>,
) -> Result<(), Fault> {
    let session = summary.session.clone();
    let mut events = Events::default();
    let mut calls = Calls::default();
    let mut parts = Vec::new();
    let last: i64 = link.query_one("SELECT coalesce(max(entry), 0) FROM events", &[])?.try_get(0)?;
    for (entry, record) in (last + 1..).zip(records) {
        summary.events += 1;
        summary.started = summary.started.or(Some(record.at));
        let event = event_of(&record.json);
        if let Some(event) = &event {
            calls.take(signed(summary.events), record.at.0, event);
            summary.apply(record.at, event);
        }
        events.take(entry, signed(summary.events), kind(event.as_ref(), &record.json), record);
        if events.is_enough() {
            parts.push(std::mem::take(&mut events));
        }
    }
    parts.push(events);
    summary_row::save(link, machine, &summary)?;
    for (writer, place) in places {
        let (chain, offset) = (place.position.chain, signed(place.position.offset));
        let text = "INSERT INTO journals (session, writer, frames, head_hash, folded_bytes, fault) \
                    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (session, writer) DO UPDATE SET \
                    frames = $3, head_hash = $4, folded_bytes = $5, fault = $6";
        let (frames, head) = (signed(chain.frames()), chain.head().0);
        let fault = place.fault.as_deref().map(plain);
        link.execute(text, &[&session.as_str(), &writer.as_str(), &frames, &&head[..], &offset, &fault])?;
    }
    for part in &parts {
        part.insert(link, session.as_str())?;
    }
    calls.insert(link, session.as_str())
}

/// Events on their way into the table, a column at a time.
#[derive(Default)]
struct Events {
    entry: Vec<i64>,
    number: Vec<i64>,
    writer: Vec<&'static str>,
    seq: Vec<i64>,
    at: Vec<i64>,
    kind: Vec<String>,
    payload: Vec<Vec<u8>>,
    hash: Vec<Vec<u8>>,
    bytes: usize,
}

impl Events {
    fn take(&mut self, entry: i64, number: i64, kind: String, record: Found) {
        self.entry.push(entry);
        self.number.push(number);
        self.writer.push(record.writer.as_str());
        self.seq.push(signed(record.seq));
        self.at.push(record.at.0);
        self.kind.push(plain(&kind));
        self.bytes += record.payload.len();
        self.payload.push(record.payload);
        self.hash.push(record.hash.0.to_vec());
    }

    fn is_enough(&self) -> bool {
        self.bytes >= SENT_BYTES || self.entry.len() >= SENT_EVENTS
    }

    fn insert(&self, link: &Link, session: &str) -> Result<(), Fault> {
        if self.entry.is_empty() {
            return Ok(());
        }
        let text = "INSERT INTO events (entry, session, number, writer, seq, at, kind, payload, hash) \
                    SELECT entry, $1, number, writer, seq, at, kind, payload, hash FROM unnest($2::bigint[], $3::bigint[], \
                    $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::bytea[], $9::bytea[]) \
                    AS given (entry, number, writer, seq, at, kind, payload, hash)";
        let Self { entry, number, writer, seq, at, kind, payload, hash, .. } = self;
        link.execute(text, &[&session, entry, number, writer, seq, at, kind, payload, hash]).map(drop)
    }
}

/// Model calls on their way into the table.
#[derive(Default)]
struct Calls {
    number: Vec<i64>,
    at: Vec<i64>,
    model: Vec<String>,
    exact: Vec<bool>,
    cost: Vec<i64>,
    tokens: [Vec<i64>; 7],
}

impl Calls {
    fn take(&mut self, number: i64, at: i64, event: &Event) {
        let Event::UsageMetered { model, usage, cost, pricing, .. } = event else { return };
        self.number.push(number);
        self.at.push(at);
        self.model.push(plain(model));
        self.exact.push(*pricing == Pricing::Exact);
        self.cost.push(cost.0);
        let counts = [
            usage.input,
            usage.cache_read,
            usage.cache_write,
            usage.cache_write_long,
            usage.output,
            usage.reasoning,
            usage.web_searches,
        ];
        for (column, count) in self.tokens.iter_mut().zip(counts) {
            column.push(signed(count));
        }
    }

    fn insert(&self, link: &Link, session: &str) -> Result<(), Fault> {
        if self.number.is_empty() {
            return Ok(());
        }
        let text = "INSERT INTO calls (session, number, at, model, exact, cost_nano, input, cache_read, cache_write, \
                    cache_write_long, output, reasoning, web_searches) \
                    SELECT $1, given.* FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::boolean[], $6::bigint[], \
                    $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[]) \
                    AS given";
        let Self { number, at, model, exact, cost, tokens } = self;
        let [input, read, write, long, output, reasoning, searches] = tokens;
        let row: [super::link::Parameter<'_>; 13] =
            [&session, number, at, model, exact, cost, input, read, write, long, output, reasoning, searches];
        link.execute(text, &row).map(drop)
    }
}
