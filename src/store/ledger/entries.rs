//! Entries of the ledger together with the events that they stand for.

use super::super::{Home, StoreError, StoredEvent, blocks};
use super::files::Files;
use super::table::{known, place_of};
use crate::ledger::{ENTRY_BYTES, Entry, Hash, leaf_hash};
use crate::model::{SessionId, Writer};
use rusqlite::Connection;
use std::collections::VecDeque;

/// Most bytes of events that are held at once, if it is more than one.
const BYTES_MAX: usize = 8 << 20;

/// An entry, where it stands, and its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Its index, from 0.
    pub index: u64,
    /// The hash of its leaf.
    pub leaf: Hash,
    /// What it stands for; none where no version wrote it.
    pub entry: Option<Entry>,
    /// The event of a frame; none where the entry stands for no frame, or the frame is gone.
    pub event: Option<StoredEvent>,
}

/// How many entries there are whose events the database has as well; a fold that is under way has written more.
pub(in super::super) fn size(connection: &Connection, home: &Home) -> Result<u64, StoreError> {
    let path = home.database();
    let known = known(connection).map_err(|error| StoreError::database(&path, "read", error))?;
    let written = Files::open(home)?.map_or(0, |files| files.size());
    Ok(known.map_or(0, |known| known.size).min(written))
}

/// At most `count` entries from an index on, in their order.
pub(in super::super) fn entries(
    connection: &Connection,
    home: &Home,
    from: u64,
    count: u64,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let size = size(connection, home)?;
    let Some(files) = Files::open(home)? else { return Ok(Vec::new()) };
    let count = count.min(size.saturating_sub(from));
    if count == 0 {
        return Ok(Vec::new());
    }
    let bytes = files.read(from, count)?;
    let mut found: Vec<_> = (from..).zip(&bytes).map(|(index, bytes)| told(index, bytes)).collect();
    let path = home.database();
    let told = add_events(connection, &mut found).map_err(|error| StoreError::database(&path, "read", error))?;
    found.truncate(told);
    Ok(found)
}

fn told(index: u64, bytes: &[u8; ENTRY_BYTES]) -> LedgerEntry {
    LedgerEntry { index, leaf: leaf_hash(bytes), entry: Entry::decode(bytes), event: None }
}

/// Looks the events up, run by run of neighbouring frames of one journal; for how many entries that was done, since there may be
/// more in them than is held at once.
fn add_events(connection: &Connection, found: &mut [LedgerEntry]) -> rusqlite::Result<usize> {
    let (mut at, mut bytes) = (0, 0);
    while let Some(first) = found.get(at) {
        let Some(Entry::Frame { session, writer, seq, .. }) = first.entry.clone() else {
            at += 1;
            continue;
        };
        let follows = |(place, entry): (u64, &LedgerEntry)| match &entry.entry {
            Some(Entry::Frame { session: other, writer: by, seq: number, .. }) => {
                *other == session && *by == writer && *number == seq + place
            }
            _ => false,
        };
        let length = (0..).zip(&found[at..]).take_while(|(place, entry)| follows((*place, entry))).count();
        let run = &mut found[at..at + length];
        let mut events = events_of(connection, &session, writer, (seq, length as u64), &mut bytes)?;
        let last = events.back().map(|event| event.seq);
        for (number, entry) in (seq..).zip(run) {
            if events.front().is_some_and(|event| event.seq == number) {
                entry.event = events.pop_front();
            }
        }
        at += match last {
            Some(last) if bytes >= BYTES_MAX => return Ok(at + usize::try_from(last + 1 - seq).unwrap_or(length)),
            _ => length,
        };
    }
    Ok(found.len())
}

/// The events of a run of frames, as long as they do not come to too much. A frame's event has at least the frame's number, so
/// that what is before needs no look.
fn events_of(
    connection: &Connection,
    session: &SessionId,
    writer: Writer,
    (seq, count): (u64, u64),
    bytes: &mut usize,
) -> rusqlite::Result<VecDeque<StoredEvent>> {
    let end = seq.saturating_add(count);
    let mut events = VecDeque::new();
    blocks::of_session(connection, session, seq, |block| {
        let block = block.open()?;
        for kept in block.frames() {
            let kept = kept?;
            if kept.writer != writer {
                continue;
            }
            let event = block.event(&kept)?;
            if event.seq < seq {
                continue;
            }
            if event.seq >= end {
                return Ok(false);
            }
            *bytes = bytes.saturating_add(event.json.len());
            events.push_back(event);
            if *bytes >= BYTES_MAX {
                return Ok(false);
            }
        }
        Ok::<_, rusqlite::Error>((events.len() as u64) < count)
    })?;
    Ok(events)
}

/// Where each of these events is in the ledger, and its leaf's hash; none of those that are not entered.
pub(in super::super) fn places(
    connection: &Connection,
    home: &Home,
    events: &[StoredEvent],
) -> Result<Vec<Option<(u64, Hash)>>, StoreError> {
    let Some(files) = Files::open(home)? else { return Ok(vec![None; events.len()]) };
    let path = home.database();
    let mut found = Vec::with_capacity(events.len());
    for event in events {
        let place = place_of(connection, &event.session, &event.writer, event.seq);
        let place = place.map_err(|error| StoreError::database(&path, "read", error))?;
        found.push(match place.filter(|place| *place < files.size()) {
            Some(place) => Some((place, leaf_hash(&files.read(place, 1)?[0]))),
            None => None,
        });
    }
    Ok(found)
}
