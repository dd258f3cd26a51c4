//! What the ledger keeps, proves, finds and survives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::super::{
    Home, Journal, LedgerStore, Recorder, Sqlite, Store, StoreError, check_files, read_kept_checkpoint,
};
use super::*;
use crate::ledger::{
    ENTRY_BYTES, Entry, FRAME_OVERHEAD_BYTES, Frontier, HEADER_BYTES, Receipt, Signed, Submission, is_consistent,
    leaf_hash,
};
use crate::model::{EndReason, Event, ExitStatus, RequestNumber, SessionId, Timestamp, Writer};
use std::fs;
use std::os::unix::fs::PermissionsExt;

struct World {
    _place: tempfile::TempDir,
    home: Home,
}

fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let home = Home::open(&place.path().join("home")).unwrap();
    World { _place: place, home }
}

fn id(number: u16) -> SessionId {
    let [high, low] = number.to_be_bytes();
    SessionId::from_entropy([high, low, 3, 4, 5, 6, 7, 8, 9, 10])
}

fn failed(request: u64) -> Event {
    Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() }
}

impl World {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.ledger().join(name)
    }

    fn store(&self) -> Sqlite {
        Sqlite::open(&self.home).unwrap()
    }

    /// Records a session of `frames` requests, and its end.
    fn record(&self, number: u16, frames: u64) -> SessionId {
        let session = id(number);
        let mut proxy = Journal::create(&self.home, &session, Writer::Proxy).unwrap();
        let mut supervisor = Journal::create(&self.home, &session, Writer::Session).unwrap();
        for request in 1..=frames {
            proxy.record(Timestamp(request.cast_signed()), &failed(request)).unwrap();
        }
        let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
        supervisor.record(Timestamp(frames.cast_signed() + 1), &ended).unwrap();
        session
    }

    fn fold_all(&self) -> Sqlite {
        let mut store = self.store();
        store.fold_all().unwrap();
        store
    }

    fn entries(&self) -> Vec<[u8; ENTRY_BYTES]> {
        fs::read(self.path("entries")).unwrap().as_chunks::<ENTRY_BYTES>().0.to_vec()
    }

    fn write_entries(&self, entries: &[[u8; ENTRY_BYTES]]) {
        fs::write(self.path("entries"), entries.as_flattened()).unwrap();
    }

    /// What a check by the files alone finds wrong: the first entry, and all words.
    fn faults(&self) -> Vec<LedgerFinding> {
        check_files(&self.home, &[]).unwrap().1.unwrap().faults
    }

    /// The first bad entry, as `omni audit verify` finds it.
    fn first_bad(&self) -> Option<u64> {
        self.store().verify_ledger(&[]).unwrap().unwrap().first_bad()
    }

    fn expect_sound(&self) -> LedgerReport {
        let report = self.store().verify_ledger(&[]).unwrap().unwrap();
        assert_eq!(report.faults, []);
        report
    }
}

#[test]
fn every_folded_frame_is_entered_once() {
    let world = world();
    for number in 1..=3 {
        world.record(number, 4);
        world.fold_all();
        world.fold_all();
    }
    let report = world.expect_sound();
    assert_eq!((report.size, report.notes, report.signed), (15, vec![], None));
    let mut frontier = Frontier::default();
    world.entries().iter().for_each(|entry| frontier.push(leaf_hash(entry), |_, _, _| {}));
    assert_eq!(report.root, Some(frontier.root()));
}

#[test]
fn a_database_that_is_made_again_enters_nothing_again() {
    let world = world();
    world.record(1, 300);
    world.fold_all();
    let before = world.entries();
    world.record(2, 1);
    Sqlite::rebuild(&world.home, "old").unwrap();
    assert_eq!(world.entries()[..before.len()], before);
    assert_eq!(world.entries().len(), before.len() + 2);
    assert_eq!(world.expect_sound().size, 303);
}

#[test]
fn frames_folded_before_there_was_a_ledger_are_entered_at_the_next_fold() {
    let world = world();
    world.record(1, 5);
    let store = world.fold_all();
    store.connection.execute_batch("DROP TABLE ledger; DROP TABLE ledger_runs; DROP TABLE ledger_keys").unwrap();
    drop(store);
    fs::remove_dir_all(world.home.ledger()).unwrap();
    world.record(2, 1);
    world.fold_all();
    assert_eq!(world.expect_sound().size, 8);
}

/// A fold that was killed after it appended and before it committed, at every number of entries and bytes.
#[test]
fn what_a_crash_left_in_the_ledger_is_entered_once() {
    let source = world();
    source.record(1, 6);
    source.record(2, 300);
    source.fold_all();
    let whole = fs::read(source.path("entries")).unwrap();
    for length in [0, 1, 63, 64, 65, 7 * 64, 7 * 64 + 30, 256 * 64, 256 * 64 + 64, whole.len() - 1, whole.len()] {
        let world = world();
        world.record(1, 6);
        world.record(2, 300);
        fs::create_dir(world.home.ledger()).unwrap();
        fs::write(world.path("entries"), &whole[..length]).unwrap();
        world.fold_all();
        assert_eq!(fs::read(world.path("entries")).unwrap(), whole, "{length}");
        assert_eq!(world.expect_sound().size, 308, "{length}");
    }
}

#[test]
fn hashes_that_a_crash_left_out_are_made_up_for() {
    let world = world();
    world.record(1, 600);
    world.fold_all();
    let whole = fs::read(world.path("hashes.1")).unwrap();
    assert_eq!(whole.len(), 2 * 32);
    for length in [0, 1, 32, 33] {
        fs::write(world.path("hashes.1"), &whole[..length]).unwrap();
        assert_eq!(world.faults(), []);
        world.record(100 + u16::try_from(length).unwrap(), 1);
        world.fold_all();
        assert_eq!(fs::read(world.path("hashes.1")).unwrap(), whole, "{length}");
    }
}

#[test]
fn a_loss_of_power_loses_no_frame() {
    let world = world();
    world.record(1, 300);
    let mut store = world.fold_all();
    let signed = store.checkpoint().unwrap().checkpoint;
    assert_eq!(signed.size, 302);
    world.record(2, 300);
    store.fold_all().unwrap();
    // Another start of the machine, which found half of what was not brought to the disk, and then nothing but zeros.
    let entries = world.entries();
    assert_eq!(entries.len(), 603);
    store.connection.execute("UPDATE ledger SET boot = 'before'", []).unwrap();
    drop(store);
    let mut left = entries.clone();
    left[400..].fill([0; ENTRY_BYTES]);
    world.write_entries(&left[..500]);
    world.record(3, 1);
    world.fold_all();
    assert_eq!(world.entries()[..603], entries[..]);
    assert_eq!(world.expect_sound().size, 605);
    // What was signed cannot be lost in this way.
    let store = world.store();
    store.connection.execute("UPDATE ledger SET boot = 'before'", []).unwrap();
    drop(store);
    world.write_entries(&entries[..301]);
    world.record(4, 1);
    assert!(matches!(world.fold_all().ledger_fault(), Some(LedgerError::Cut { left: 301, .. })));
}

#[test]
fn a_flipped_byte_of_an_entry_is_found_there() {
    let world = world();
    world.record(1, 4);
    world.fold_all();
    let whole = world.entries();
    for index in 0..whole.len() {
        for byte in 0..ENTRY_BYTES {
            let mut entries = whole.clone();
            entries[index][byte] ^= 0x10;
            world.write_entries(&entries);
            assert_eq!(world.first_bad(), Some(index as u64), "byte {byte}");
        }
    }
}

#[test]
fn entries_that_are_removed_repeated_or_moved_are_found_there() {
    let world = world();
    world.record(1, 400);
    world.fold_all();
    let whole = world.entries();
    let found = |entries: Vec<[u8; ENTRY_BYTES]>| {
        world.write_entries(&entries);
        world.first_bad()
    };
    for index in [0, 1, 17, 255, 256, 399] {
        let mut removed = whole.clone();
        removed.remove(index);
        assert_eq!(found(removed), Some(index as u64), "removed {index}");
        let mut repeated = whole.clone();
        repeated.insert(index + 1, whole[index]);
        assert_eq!(found(repeated), Some(index as u64 + 1), "repeated {index}");
    }
    for index in [0, 1, 17, 255, 256, 398] {
        let mut moved = whole.clone();
        moved.swap(index, index + 1);
        assert_eq!(found(moved), Some(index as u64), "moved {index}");
    }
    assert_eq!(found(whole), None);
}

#[test]
fn a_ledger_that_was_cut_short_is_found_and_not_added_to() {
    let world = world();
    world.record(1, 300);
    world.fold_all();
    let whole = world.entries();
    world.write_entries(&whole[..290]);
    let report = world.store().verify_ledger(&[]).unwrap().unwrap();
    assert_eq!(report.faults.first().and_then(|finding| finding.index), Some(290));
    let session = world.record(2, 2);
    let store = world.fold_all();
    assert!(matches!(store.ledger_fault(), Some(LedgerError::Cut { written: 301, left: 290 })), "{store:?}");
    // Nothing is lost meanwhile.
    assert_eq!(store.events(&session).unwrap().len(), 3);
    assert_eq!(world.entries().len(), 290);
    // Below 256 the kept hashes tell by themselves.
    world.write_entries(&whole[..200]);
    assert_eq!(world.faults().first().and_then(|finding| finding.index), Some(200));
    world.write_entries(&whole);
    world.record(3, 1);
    assert!(world.fold_all().ledger_fault().is_none());
    assert_eq!(world.expect_sound().size, 306);
}

#[test]
fn a_changed_frame_is_found_at_its_entry() {
    let world = world();
    let session = world.record(1, 10);
    world.fold_all();
    let path = world.home.journal(&session, Writer::Proxy);
    let bytes = fs::read(&path).unwrap();
    let frame = (bytes.len() - HEADER_BYTES) / 10;
    assert!(frame > FRAME_OVERHEAD_BYTES);
    let mut changed = bytes.clone();
    // Somewhere in the fourth frame, whose entry is the fourth.
    changed[HEADER_BYTES + 3 * frame + 20] ^= 1;
    fs::write(&path, &changed).unwrap();
    assert_eq!(world.faults().first().and_then(|finding| finding.index), Some(3));
    fs::write(&path, &bytes[..HEADER_BYTES + 7 * frame]).unwrap();
    assert_eq!(world.faults().first().and_then(|finding| finding.index), Some(7));
    fs::remove_file(&path).unwrap();
    assert_eq!(world.faults().first().and_then(|finding| finding.index), Some(0));
}

#[test]
fn a_kept_hash_that_was_changed_is_found() {
    let world = world();
    world.record(1, 600);
    world.fold_all();
    let mut hashes = fs::read(world.path("hashes.1")).unwrap();
    hashes[40] ^= 1;
    fs::write(world.path("hashes.1"), &hashes).unwrap();
    assert_eq!(world.faults().first().and_then(|finding| finding.index), Some(256));
}

#[test]
fn a_checkpoint_is_signed_once_and_grows() {
    let world = world();
    world.record(1, 2);
    let mut store = world.fold_all();
    let first = store.checkpoint().unwrap();
    assert_eq!((first.checkpoint.size, first.key.number), (4, 1));
    assert_eq!(store.checkpoint().unwrap(), first);
    let key = fs::metadata(world.path("key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(first.note.signed_by(&first.key.key, check_signature), Signed::Yes(None));
    world.record(2, 2);
    store.fold_all().unwrap();
    let signed = store.checkpoint().unwrap();
    let Submission { old, proof, note } = store.submission(4, &signed).unwrap();
    let second = signed.checkpoint;
    assert_eq!((old, second.size), (4, 7));
    let roots = (first.checkpoint.root, second.root);
    assert!(is_consistent((4, roots.0), (7, roots.1), &proof));
    assert_eq!(note.signed_by(&first.key.key, check_signature), Signed::Yes(None));
    let report = world.expect_sound();
    assert_eq!((report.signed, report.origin.as_deref()), (Some(7), Some(first.checkpoint.origin.as_str())));
    // By others' code too.
    let theirs = signed_note::Note::from_bytes(note.to_string().as_bytes()).unwrap();
    let verifier = signed_note::StandardVerifier::new(&first.key.key.to_string()).unwrap();
    theirs.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).unwrap();
}

#[test]
fn a_key_that_others_could_use_signs_nothing() {
    let world = world();
    world.record(1, 2);
    let mut store = world.fold_all();
    store.checkpoint().unwrap();
    world.record(2, 2);
    store.fold_all().unwrap();
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(world.path("key"), fs::Permissions::from_mode(mode)).unwrap();
        let refused = store.checkpoint().unwrap_err();
        assert!(matches!(&refused, StoreError::Ledger(LedgerError::KeyOpen { .. })), "{mode:o}: {refused}");
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
    }
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    store.checkpoint().unwrap();
}

#[test]
fn an_exchanged_or_missing_key_is_refused_and_a_signature_by_it_found() {
    let world = world();
    world.record(1, 2);
    let mut store = world.fold_all();
    store.checkpoint().unwrap();
    let other = self::world();
    other.record(1, 2);
    other.fold_all().checkpoint().unwrap();
    let own = fs::read(world.path("key")).unwrap();
    fs::copy(other.path("key"), world.path("key")).unwrap();
    assert!(matches!(store.checkpoint(), Err(StoreError::Ledger(LedgerError::KeyForeign { .. }))));
    fs::remove_file(world.path("key")).unwrap();
    assert!(matches!(store.checkpoint(), Err(StoreError::Ledger(LedgerError::KeyMissing { .. }))));
    fs::write(world.path("key"), own).unwrap();
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    world.expect_sound();
    fs::copy(other.path("checkpoint"), world.path("checkpoint")).unwrap();
    assert!(world.faults()[0].what.contains("another ledger"), "{:?}", world.faults());
    assert!(matches!(store.checkpoint(), Err(StoreError::Ledger(LedgerError::Contradiction { .. }))));
}

#[test]
fn keys_hand_over_and_each_is_an_entry() {
    let world = world();
    world.record(1, 2);
    let mut store = world.fold_all();
    let first = store.checkpoint().unwrap();
    let second = store.rotate_key().unwrap();
    assert_eq!((second.key.number, second.checkpoint.size), (2, 5));
    assert_ne!(first.key.key, second.key.key);
    assert_eq!(first.checkpoint.origin, second.checkpoint.origin);
    for key in [&first.key.key, &second.key.key] {
        assert_eq!(second.note.signed_by(key, check_signature), Signed::Yes(None));
    }
    world.record(2, 2);
    store.fold_all().unwrap();
    let third = store.checkpoint().unwrap();
    assert_eq!(third.note.signed_by(&first.key.key, check_signature), Signed::No);
    assert_eq!(third.note.signed_by(&second.key.key, check_signature), Signed::Yes(None));
    store.rotate_key().unwrap();
    let report = world.expect_sound();
    assert_eq!(report.keys.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [3, 4, 8]);
    assert_eq!(store.ledger_keys().unwrap().len(), 3);
    // A key that nobody handed over to is found.
    fs::remove_file(world.path("handover.2")).unwrap();
    assert_eq!(world.faults().first().and_then(|finding| finding.index), Some(4));
}

/// Killed between any two steps of a change of keys.
#[test]
fn a_change_of_keys_that_was_killed_is_finished_or_undone() {
    let world = world();
    world.record(1, 2);
    let mut store = world.fold_all();
    store.checkpoint().unwrap();
    let old = fs::read(world.path("key")).unwrap();
    // Made, and not announced: undone.
    fs::copy(world.path("key"), world.path("key.next")).unwrap();
    assert_eq!(store.checkpoint().unwrap().key.number, 1);
    assert!(!world.path("key.next").exists());
    // Announced, and not handed over to: finished.
    store.rotate_key().unwrap();
    fs::rename(world.path("key"), world.path("key.next")).unwrap();
    fs::write(world.path("key"), &old).unwrap();
    fs::set_permissions(world.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(world.path("handover.2")).unwrap();
    assert_eq!(store.checkpoint().unwrap().key.number, 2);
    assert_ne!(fs::read(world.path("key")).unwrap(), old);
    world.expect_sound();
}

#[test]
fn a_kept_checkpoint_shows_a_cut_a_fork_and_another_ledger() {
    let world = world();
    world.record(1, 2);
    let mut store = world.fold_all();
    store.checkpoint().unwrap();
    let kept = world.home.path().join("kept");
    fs::copy(world.path("checkpoint"), &kept).unwrap();
    let kept = [read_kept_checkpoint(&kept).unwrap()];
    let copy = tempfile::tempdir().unwrap();
    world.record(2, 2);
    store.fold_all().unwrap();
    store.checkpoint().unwrap();
    drop(store);
    let judged = |home: &Home, kept: &[_]| check_files(home, kept).unwrap().1.unwrap().faults;
    assert_eq!(judged(&world.home, &kept), []);
    let newer = [read_kept_checkpoint(&world.path("checkpoint")).unwrap()];
    // An old copy in the place of the whole home: the same ledger, as it was.
    let old = Home::open(&copy.path().join("old")).unwrap();
    let status =
        std::process::Command::new("cp").arg("-a").arg(world.home.path()).arg(copy.path().join("now")).status();
    assert!(status.unwrap().success());
    let now = Home::open(&copy.path().join("now")).unwrap();
    drop(old);
    fs::write(now.ledger().join("entries"), world.entries()[..4].as_flattened()).unwrap();
    fs::remove_dir_all(now.session(&id(2))).unwrap();
    fs::write(now.ledger().join("checkpoint"), kept[0].0.to_string()).unwrap();
    assert_eq!(judged(&now, &[]), [], "an old copy is sound by itself");
    let found = judged(&now, &newer);
    assert_eq!(found.first().and_then(|finding| finding.index), Some(4));
    assert!(found[0].what.contains("old copy"), "{found:?}");
    // The old copy goes on by itself, with the same key: a fork.
    fs::remove_file(now.database()).unwrap();
    let mut forked = Sqlite::open(&now).unwrap();
    let other = Journal::create(&now, &id(9), Writer::Proxy);
    let mut other = other.unwrap();
    (1..=5u64).for_each(|request| other.record(Timestamp(request.cast_signed()), &failed(request)).unwrap());
    forked.fold_all().unwrap();
    forked.checkpoint().unwrap();
    assert_eq!(judged(&now, &kept), []);
    assert!(judged(&now, &newer)[0].what.contains("rewritten"));
    // Another ledger altogether.
    let stranger = self::world();
    stranger.record(1, 2);
    stranger.fold_all().checkpoint().unwrap();
    assert!(judged(&stranger.home, &newer)[0].what.contains("another ledger"));
}

#[test]
fn a_receipt_proves_its_frame_and_nothing_else() {
    let world = world();
    let sessions = [world.record(1, 300), world.record(2, 3)];
    let mut store = world.fold_all();
    let key = store.checkpoint().unwrap().key.key;
    for (session, numbers) in sessions.iter().zip([vec![1, 2, 255, 256, 257, 300, 301], vec![1, 4]]) {
        for number in numbers {
            let receipt = store.receipt(session, number).unwrap();
            let text = receipt.to_string();
            let read = Receipt::parse(text.as_bytes()).unwrap();
            assert_eq!((&read, read.to_string()), (&receipt, text));
            let shown = read.show().unwrap();
            assert_eq!(read.checkpoint.signed_by(&key, check_signature), Signed::Yes(None));
            assert!(matches!(&shown.entry, Entry::Frame { session: of, .. } if of == session));
            let stored = store.events(session).unwrap();
            let event = &stored[usize::try_from(number).unwrap() - 1];
            assert_eq!(crate::ledger::event_json(&read.evidence.payload), Some(event.json.as_str()));
            let mut other = read.clone();
            other.evidence.payload[30] ^= 1;
            assert!(other.show().is_err());
            let other = Receipt { index: read.index ^ 1, ..read };
            assert!(other.show().is_err());
        }
    }
    let missing = store.receipt(&sessions[0], 302);
    assert!(matches!(missing, Err(StoreError::Ledger(LedgerError::Missing { .. }))), "{missing:?}");
}

#[test]
fn others_read_the_exported_tiles() {
    use tlog_tiles::{HashReader, Tile, TileHashReader, TileReader, prove_record, record_hash, tree_hash};

    struct Directory(std::path::PathBuf);

    impl TileReader for Directory {
        fn height(&self) -> u8 {
            8
        }

        fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
            // Their paths begin with the height, ours do not (c2sp.org/tlog-tiles has one height).
            let read = |tile: &Tile| fs::read(self.0.join(tile.path().replacen("tile/8/", "tile/", 1)));
            tiles.iter().map(|tile| read(tile).map_err(|_| tlog_tiles::Error::InvalidTile)).collect()
        }

        fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
    }

    let world = world();
    world.record(1, 700);
    let mut store = world.fold_all();
    let to = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let exported = store.export_ledger(to.path()).unwrap();
        let signed = store.checkpoint().unwrap().checkpoint;
        assert_eq!(exported.size, signed.size);
        let directory = Directory(to.path().to_owned());
        let reader = TileHashReader::new(signed.size, tlog_tiles::Hash(signed.root.0), &directory);
        assert_eq!(tree_hash(signed.size, &reader).unwrap().0, signed.root.0);
        let entries = world.entries();
        for index in [0, 255, 256, signed.size - 1] {
            prove_record(signed.size, index, &reader).unwrap();
            let leaf = reader.read_hashes(&[tlog_tiles::stored_hash_index(0, index)]).unwrap()[0];
            assert_eq!(leaf, record_hash(&entries[usize::try_from(index).unwrap()]), "{round} {index}");
        }
        let bundle = fs::read(to.path().join("tile/entries/000")).unwrap();
        assert_eq!((bundle.len(), &bundle[..2], &bundle[2..66]), (256 * 66, &[0, 64][..], &entries[0][..]));
        world.record(2 + round, 400);
        store.fold_all().unwrap();
        assert_eq!(store.export_ledger(to.path()).unwrap().size, signed.size + 401);
    }
}

#[test]
fn a_full_disk_stops_the_fold_and_loses_nothing() {
    let world = world();
    world.record(1, 3);
    world.fold_all();
    let before = world.entries();
    let session = world.record(2, 3);
    // A directory in the place of the file: it can neither be written nor opened.
    fs::rename(world.path("entries"), world.path("away")).unwrap();
    fs::create_dir(world.path("entries")).unwrap();
    let mut store = world.store();
    assert!(matches!(store.fold_all(), Err(StoreError::Ledger(LedgerError::File { .. }))));
    assert_eq!(store.events(&session).unwrap(), []);
    fs::remove_dir(world.path("entries")).unwrap();
    fs::rename(world.path("away"), world.path("entries")).unwrap();
    store.fold_all().unwrap();
    assert_eq!(world.entries()[..4], before[..]);
    assert_eq!((store.events(&session).unwrap().len(), world.expect_sound().size), (4, 8));
}

#[test]
fn entries_come_with_their_events_in_pieces_that_fit_into_memory() {
    let world = world();
    let (small, large) = (world.record(1, 3), id(2));
    let mut proxy = Journal::create(&world.home, &large, Writer::Proxy).unwrap();
    for request in 1..=3 {
        let event = Event::RequestFailed { request: RequestNumber(request), reason: "x".repeat(5 << 20) };
        proxy.record(Timestamp(9), &event).unwrap();
    }
    let mut store = world.store();
    store.fold_all().unwrap();
    store.checkpoint().unwrap();
    assert_eq!(store.ledger_size().unwrap(), 8);
    let (mut next, mut pieces, mut all) = (0, Vec::new(), Vec::new());
    while next < 8 {
        let piece = store.ledger_entries(next, 100).unwrap();
        next += piece.len() as u64;
        pieces.push(piece.len());
        all.extend(piece);
    }
    assert_eq!(pieces, [6, 2], "four small ones, two large ones; one large one and the key");
    assert!((0..).zip(&all).all(|(index, entry)| entry.index == index));
    let bytes = fs::read(world.path("entries")).unwrap();
    assert!(bytes.as_chunks::<ENTRY_BYTES>().0.iter().zip(&all).all(|(entry, told)| told.leaf == leaf_hash(entry)));
    let sessions: Vec<_> = all.iter().filter_map(|entry| Some(entry.event.as_ref()?.session.clone())).collect();
    assert_eq!(sessions, [vec![small; 4], vec![large; 3]].concat());
    let events: Vec<_> = all.into_iter().filter_map(|entry| entry.event).collect();
    let places = store.ledger_places(&events).unwrap();
    assert_eq!(places.iter().map(|place| place.unwrap().0).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
}
