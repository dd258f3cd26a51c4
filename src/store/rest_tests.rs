//! What of a journal is left when it is packed, and of a database of version 1.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::ledger::{Bundled, Chain, HEADER_BYTES, PACKED_HEADER_BYTES, event_json, event_kind, open_bundle, unpack};
use crate::model::{EndReason, Event, ExitStatus, RequestNumber, SessionId, Timestamp};
use crate::store::{Home, Journal, LedgerStore, Recorder, Sqlite, Store, check_files};
use std::fs;

const FRAMES: u64 = 1_000;

struct World {
    _place: tempfile::TempDir,
    home: Home,
    session: SessionId,
}

/// A home with one session that is over and folded, and a second that is not over.
fn world() -> (World, Sqlite) {
    let place = tempfile::tempdir().unwrap();
    let home = Home::open(&place.path().join("home")).unwrap();
    let world = World { _place: place, home, session: SessionId::from_entropy([1; 10]) };
    let mut proxy = Journal::create(&world.home, &world.session, Writer::Proxy).unwrap();
    for request in 1..=FRAMES {
        proxy.record(Timestamp(request.cast_signed()), &failed(request)).unwrap();
    }
    let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
    let mut supervisor = Journal::create(&world.home, &world.session, Writer::Session).unwrap();
    supervisor.record(Timestamp(FRAMES.cast_signed() + 1), &ended).unwrap();
    let other = SessionId::from_entropy([2; 10]);
    Journal::create(&world.home, &other, Writer::Proxy).unwrap().record(Timestamp(1), &failed(1)).unwrap();
    let mut store = Sqlite::open(&world.home).unwrap();
    store.fold_all().unwrap();
    (world, store)
}

fn failed(request: u64) -> Event {
    Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() }
}

impl World {
    fn path(&self, writer: Writer) -> PathBuf {
        self.home.journal(&self.session, writer)
    }

    fn header(&self, writer: Writer) -> Header {
        Header { session: self.session.clone(), writer }
    }

    fn is_packed(&self, writer: Writer) -> bool {
        Reader::open(&self.home, self.header(writer)).unwrap().unwrap().is_packed()
    }

    /// What a check of everything finds, by the database and by files alone.
    fn faults(&self, store: &Sqlite) -> Vec<String> {
        let checks = [store.verify_all(&[]).unwrap(), check_files(&self.home, &[]).unwrap()];
        let (reports, ledgers): (Vec<_>, Vec<_>) = checks.into_iter().unzip();
        let of_journals = reports.into_iter().flatten().flat_map(|report| report.faults).map(|fault| fault.what);
        let of_ledger = ledgers.into_iter().flatten().flat_map(|report| report.faults).map(|fault| fault.what);
        of_journals.chain(of_ledger).collect()
    }
}

#[test]
fn a_journal_at_rest_is_small_and_has_the_same_frames() {
    let (world, mut store) = world();
    let written = fs::read(world.path(Writer::Proxy)).unwrap();
    let before = store.events(&world.session).unwrap();
    assert!(store.bring_to_rest(&world.session).unwrap());
    assert_eq!((world.is_packed(Writer::Proxy), world.is_packed(Writer::Session)), (true, true));
    let packed = fs::read(world.path(Writer::Proxy)).unwrap();
    assert!(packed.len() * 8 < written.len(), "{} of {}", packed.len(), written.len());
    assert_eq!(unpack(&world.header(Writer::Proxy), &packed).unwrap(), written);
    assert_eq!(world.faults(&store), [] as [String; 0]);
    assert_eq!(fs::read_dir(world.home.session(&world.session)).unwrap().count(), 2);
    // Again and again it changes nothing, and a database that is made anew knows as much.
    store.fold_all().unwrap();
    store.fold(&world.session).unwrap();
    assert!(store.bring_to_rest(&world.session).unwrap());
    assert_eq!(fs::read(world.path(Writer::Proxy)).unwrap(), packed);
    drop(store);
    let (store, _) = Sqlite::rebuild(&world.home, "old").unwrap();
    assert_eq!(store.events(&world.session).unwrap(), before);
    assert_eq!(world.faults(&store), [] as [String; 0]);
}

#[test]
fn only_what_is_quiet_over_and_folded_whole_is_brought_to_rest() {
    let (world, mut store) = world();
    // Just written to.
    store.fold_all().unwrap();
    assert!(!world.is_packed(Writer::Proxy));
    let long_ago = SystemTime::now() - QUIET_MIN;
    for session in Sqlite::directories(&world.home).unwrap() {
        for writer in WRITERS {
            if let Ok(file) = OpenOptions::new().append(true).open(world.home.journal(&session, writer)) {
                file.set_modified(long_ago).unwrap();
            }
        }
    }
    // Somebody may still write.
    let writer = File::open(world.path(Writer::Proxy)).unwrap();
    writer.lock().unwrap();
    store.fold_all().unwrap();
    assert_eq!((world.is_packed(Writer::Proxy), world.is_packed(Writer::Session)), (false, true));
    drop(writer);
    store.fold_all().unwrap();
    assert!(world.is_packed(Writer::Proxy));
    let other = Header { session: SessionId::from_entropy([2; 10]), writer: Writer::Proxy };
    assert!(!Reader::open(&world.home, other).unwrap().unwrap().is_packed(), "it never said that it is over");
    // What is applied long after is taken in all the same.
    let mut changes = Journal::reopen(&world.home, &world.session, Writer::Changes).unwrap();
    changes.record(Timestamp(9), &failed(9)).unwrap();
    store.fold_all().unwrap();
    assert_eq!(store.events(&world.session).unwrap().len() as u64, FRAMES + 2);
    assert_eq!(world.faults(&store), [] as [String; 0]);
}

#[test]
fn a_journal_with_an_unfinished_frame_stays_as_it_was_written() {
    let (world, mut store) = world();
    let torn = [fs::read(world.path(Writer::Proxy)).unwrap(), vec![0, 0, 0, 9]].concat();
    fs::write(world.path(Writer::Proxy), &torn).unwrap();
    assert!(store.bring_to_rest(&world.session).unwrap());
    assert_eq!(fs::read(world.path(Writer::Proxy)).unwrap(), torn);
    assert_eq!(world.faults(&store), [] as [String; 0]);
}

#[test]
fn whatever_is_changed_in_a_journal_at_rest_is_found_at_its_block() {
    let (world, mut store) = world();
    store.bring_to_rest(&world.session).unwrap();
    let whole = fs::read(world.path(Writer::Proxy)).unwrap();
    for place in (0..HEADER_BYTES).chain((PACKED_HEADER_BYTES..whole.len()).step_by(97)).chain([whole.len() - 1]) {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        fs::write(world.path(Writer::Proxy), &flipped).unwrap();
        assert!(!world.faults(&store).is_empty(), "{place}");
        assert_eq!(store.events(&world.session).unwrap().len() as u64, FRAMES + 1);
    }
    for left in [0, PACKED_HEADER_BYTES, whole.len() / 2, whole.len() - 1] {
        fs::write(world.path(Writer::Proxy), &whole[..left]).unwrap();
        assert!(!world.faults(&store).is_empty(), "{left}");
    }
    fs::write(world.path(Writer::Proxy), &whole).unwrap();
    assert_eq!(world.faults(&store), [] as [String; 0]);
}

#[test]
fn a_full_disk_leaves_the_journal_as_it_is() {
    let (world, mut store) = world();
    let written = fs::read(world.path(Writer::Session)).unwrap();
    // What cannot be opened to be written stands for what cannot be written.
    fs::create_dir(world.path(Writer::Session).with_extension("packing")).unwrap();
    assert!(store.bring_to_rest(&world.session).is_err());
    store.fold_all().unwrap();
    assert_eq!(fs::read(world.path(Writer::Session)).unwrap(), written);
    assert_eq!(world.faults(&store), [] as [String; 0]);
}

/// Puts the tables back as version 1 had them.
fn make_old(home: &Home) {
    let raw = rusqlite::Connection::open(home.database()).unwrap();
    raw.execute_batch(
        "CREATE TABLE events (
            entry INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions(session), number INTEGER NOT NULL,
            writer TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL, payload BLOB NOT NULL,
            hash BLOB NOT NULL, UNIQUE (session, number)
        ) STRICT; CREATE INDEX events_at ON events (at); DROP TABLE rested;
        ALTER TABLE sessions DROP COLUMN team; ALTER TABLE sessions DROP COLUMN project; PRAGMA user_version = 1;",
    )
    .unwrap();
    let mut blocks = raw.prepare("SELECT entry, session, number, events FROM blocks ORDER BY entry").unwrap();
    let mut rows = blocks.query([]).unwrap();
    let mut chains = std::collections::BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let (entry, session, number): (i64, String, i64) =
            (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let opened = open_bundle(&row.get::<_, Vec<u8>>(3).unwrap()).unwrap();
        for (slot, record) in (0..).zip(Bundled::of(&opened)) {
            let (writer, payload) = record.unwrap();
            let header = Header { session: session.parse().unwrap(), writer };
            let chain = chains.entry((session.clone(), writer.code())).or_insert_with(|| Chain::begin(&header));
            chain.follow(payload);
            let text = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8)";
            let seq = chain.frames().cast_signed();
            let kind = event_json(payload).and_then(event_kind).unwrap();
            let row = (entry + slot, &session, number + slot, writer.as_str(), seq, kind, payload, chain.head().0);
            raw.execute(text, row).unwrap();
        }
    }
    drop(rows);
    drop(blocks);
    raw.execute_batch("DROP TABLE blocks").unwrap();
}

#[test]
fn a_database_of_version_1_is_brought_to_this_one_with_every_number_and_hash() {
    let (world, mut store) = world();
    let started = |store: &Sqlite| (store.events(&world.session).unwrap(), store.sessions().unwrap());
    let before = started(&store);
    let receipt = store.receipt(&world.session, 500).unwrap();
    drop(store);
    make_old(&world.home);
    let mut store = Sqlite::open(&world.home).unwrap();
    assert_eq!(started(&store), before);
    assert_eq!(world.faults(&store), [] as [String; 0]);
    assert_eq!(store.receipt(&world.session, 500).unwrap(), receipt);
    // And it goes on.
    let other = SessionId::from_entropy([3; 10]);
    Journal::create(&world.home, &other, Writer::Proxy).unwrap().record(Timestamp(1), &failed(1)).unwrap();
    store.fold_all().unwrap();
    assert_eq!(store.log(None, FRAMES + 2, 9).unwrap().len(), 1);
    assert_eq!(world.faults(&store), [] as [String; 0]);
}
