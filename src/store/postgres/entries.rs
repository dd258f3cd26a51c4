//! Entries of the ledger together with the events that they stand for.

use super::ledger::{Tree, damaged};
use super::link::{Fault, Link};
use super::query::stored;
use crate::ledger::{ENTRY_BYTES, Entry, Hash, leaf_hash};
use crate::store::summary_row::signed;
use crate::store::{LedgerEntry, StoredEvent};

/// At most `count` entries from an index on, in their order.
pub(super) fn entries(link: &Link, from: u64, count: u64) -> Result<Vec<LedgerEntry>, Fault> {
    let count = count.min(Tree::open(link)?.size.saturating_sub(from));
    let text = "SELECT v.entry, v.session, v.number, v.writer, v.seq, v.at, v.kind, v.payload, e.place, e.entry \
                FROM ledger_entries e LEFT JOIN LATERAL (SELECT * FROM ledger_runs WHERE place <= e.place \
                ORDER BY place DESC LIMIT 1) r ON e.place < r.place + r.count \
                LEFT JOIN events v ON v.session = r.session AND v.writer = r.writer AND v.seq = r.seq + e.place - r.place \
                WHERE e.place >= $1 AND e.place < $2 ORDER BY e.place";
    let mut found = Vec::new();
    for row in link.query(text, &[&signed(from), &signed(from + count)])? {
        let (index, bytes) = (row.try_get::<_, i64>(8)?.cast_unsigned(), entry_bytes(row.try_get(9)?)?);
        let entry = Entry::decode(&bytes);
        let event = match row.try_get::<_, Option<i64>>(0)? {
            Some(_) => Some(stored(&row)?).filter(|event| stands_for(entry.as_ref(), event)),
            None => None,
        };
        found.push(LedgerEntry { index, leaf: leaf_hash(&bytes), entry, event });
    }
    Ok(found)
}

fn entry_bytes(bytes: &[u8]) -> Result<[u8; ENTRY_BYTES], Fault> {
    bytes.try_into().map_err(|_| damaged("an entry of the ledger"))
}

fn stands_for(entry: Option<&Entry>, event: &StoredEvent) -> bool {
    match entry {
        Some(Entry::Frame { session, writer, seq, .. }) => {
            *session == event.session && writer.as_str() == event.writer && *seq == event.seq
        }
        _ => false,
    }
}

/// Where each of these events is in the ledger, and its leaf's hash; none of those that are not entered.
pub(super) fn places(link: &Link, events: &[StoredEvent]) -> Result<Vec<Option<(u64, Hash)>>, Fault> {
    let sessions: Vec<&str> = events.iter().map(|event| event.session.as_str()).collect();
    let writers: Vec<&str> = events.iter().map(|event| event.writer.as_str()).collect();
    let seqs: Vec<i64> = events.iter().map(|event| signed(event.seq)).collect();
    let text = "SELECT e.place, e.entry FROM unnest($1::text[], $2::text[], $3::bigint[]) \
                WITH ORDINALITY AS wanted (session, writer, seq, nth) \
                LEFT JOIN LATERAL (SELECT r.place + wanted.seq - r.seq AS place FROM ledger_runs r \
                WHERE r.session = wanted.session AND r.writer = wanted.writer AND r.seq <= wanted.seq \
                AND r.seq + r.count > wanted.seq ORDER BY r.seq DESC LIMIT 1) AS run ON true \
                LEFT JOIN ledger_entries e ON e.place = run.place ORDER BY nth";
    let mut found = Vec::with_capacity(events.len());
    for row in link.query(text, &[&sessions, &writers, &seqs])? {
        found.push(match (row.try_get::<_, Option<i64>>(0)?, row.try_get::<_, Option<&[u8]>>(1)?) {
            (Some(place), Some(bytes)) => Some((place.cast_unsigned(), leaf_hash(&entry_bytes(bytes)?))),
            _ => None,
        });
    }
    Ok(found)
}
