//! Which sessions are looked at, whatever happened between two looks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{EndReason, Event, ExitStatus, RequestNumber, Timestamp, Writer};
use crate::store::{Journal, Recorder, Sqlite, Store};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

struct World {
    place: tempfile::TempDir,
    home: Home,
}

fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let home = Home::open(&place.path().join("home")).unwrap();
    World { place, home }
}

fn id(byte: u8) -> SessionId {
    SessionId::from_entropy([byte; 10])
}

fn failed(request: u64) -> Event {
    Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() }
}

fn change(home: &Home, session: &SessionId, number: u64) {
    Journal::reopen(home, session, Writer::Changes).unwrap().record(Timestamp(1), &failed(number)).unwrap();
}

/// As if what was done last was done an hour ago.
fn age(home: &Home) {
    let directory = File::open(home.sessions()).unwrap();
    directory.set_times(FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(3_600))).unwrap();
}

fn is_noted(store: &Sqlite) -> bool {
    Stand::of(&store.home).unwrap().is_noted(&store.connection).unwrap()
}

fn count(store: &Sqlite, session: &SessionId) -> usize {
    store.events(session).unwrap().len()
}

/// Tries until something is so: a program that another test is just starting holds this one's locks for a moment.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let tries = (0..5_000).map(|_| std::thread::sleep(Duration::from_millis(2)));
    assert!(is() || tries.into_iter().any(|()| is()), "{what}");
}

fn until_noted(store: &mut Sqlite) {
    until("a noted look", || {
        age(&store.home);
        store.fold_all().unwrap();
        is_noted(store)
    });
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}

impl World {
    /// A session that is at rest.
    fn at_rest(&self, session: &SessionId) {
        let mut journal = Journal::create(&self.home, session, Writer::Session).unwrap();
        let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
        journal.record(Timestamp(1), &ended).unwrap();
        drop(journal);
        let mut store = Sqlite::open(&self.home).unwrap();
        store.fold(session).unwrap();
        until("a session at rest", || store.bring_to_rest(session).unwrap());
    }

    /// The store after a look at every session that was noted.
    fn looked(&self) -> Sqlite {
        let mut store = Sqlite::open(&self.home).unwrap();
        until_noted(&mut store);
        store
    }

    /// The database's files in another place.
    fn database(&self, name: &str) -> PathBuf {
        let to = self.place.path().join(name);
        std::fs::create_dir(&to).unwrap();
        for part in ["omni.db", "omni.db-wal", "omni.db-shm"] {
            let from = self.home.path().join(part);
            if from.exists() {
                copy(&from, &to.join(part));
            }
        }
        to
    }
}

#[test]
fn what_is_at_rest_is_looked_at_once_it_was_announced_and_not_before() {
    let (world, elsewhere) = (world(), world());
    world.at_rest(&id(1));
    let mut store = world.looked();
    // Written by nobody who announces it: that it goes unseen shows that nobody looks.
    change(&elsewhere.home, &id(1), 1);
    copy(&elsewhere.home.journal(&id(1), Writer::Changes), &world.home.journal(&id(1), Writer::Changes));
    store.fold_all().unwrap();
    assert_eq!((count(&store, &id(1)), is_noted(&store)), (1, true));
    change(&world.home, &id(1), 2);
    store.fold_all().unwrap();
    assert_eq!(count(&store, &id(1)), 3);
    // Whoever died right after announcing costs a look and nothing else.
    let mut store = world.looked();
    drop(announce(&world.home).unwrap());
    assert!(!is_noted(&store));
    store.fold_all().unwrap();
    assert_eq!(count(&store, &id(1)), 3);
}

#[test]
fn a_look_while_somebody_may_write_is_not_the_last() {
    let world = world();
    world.at_rest(&id(1));
    let mut store = world.looked();
    let mut slow = Journal::reopen(&world.home, &id(1), Writer::Changes).unwrap();
    age(&world.home);
    store.fold_all().unwrap();
    assert!(!is_noted(&store));
    slow.record(Timestamp(1), &failed(1)).unwrap();
    store.fold_all().unwrap();
    assert_eq!((count(&store, &id(1)), is_noted(&store)), (2, false));
    drop(slow);
    until_noted(&mut store);
    // A change of just now could have the same time as the next one.
    change(&world.home, &id(1), 2);
    store.fold_all().unwrap();
    assert_eq!((count(&store, &id(1)), is_noted(&store)), (3, false));
}

#[test]
fn a_session_that_begins_or_goes_on_between_two_looks_is_seen() {
    let world = world();
    world.at_rest(&id(1));
    // Made and left without a journal, as by a session that is about to begin, or was killed there.
    world.home.create_session(&id(2)).unwrap();
    let mut store = world.looked();
    let mut session = Journal::create(&world.home, &id(2), Writer::Session).unwrap();
    session.record(Timestamp(1), &failed(1)).unwrap();
    assert!(is_noted(&store));
    store.fold_all().unwrap();
    assert_eq!(count(&store, &id(2)), 1);
    let mut proxy = Journal::create(&world.home, &id(2), Writer::Proxy).unwrap();
    proxy.record(Timestamp(2), &failed(2)).unwrap();
    session.record(Timestamp(3), &failed(3)).unwrap();
    assert!(is_noted(&store));
    store.fold_all().unwrap();
    assert_eq!(count(&store, &id(2)), 3);
    Journal::create(&world.home, &id(3), Writer::Session).unwrap().record(Timestamp(1), &failed(1)).unwrap();
    store.fold_all().unwrap();
    assert_eq!(count(&store, &id(3)), 1);
}

#[test]
fn what_was_over_comes_to_rest_and_is_not_looked_at_any_more() {
    let world = world();
    let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
    Journal::create(&world.home, &id(1), Writer::Session).unwrap().record(Timestamp(1), &ended).unwrap();
    let mut store = world.looked();
    let awake = |store: &Sqlite| crate::store::query::awake(&store.connection).unwrap();
    assert!(awake(&store).contains(&id(1)));
    let journal = File::options().append(true).open(world.home.journal(&id(1), Writer::Session)).unwrap();
    journal.set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
    drop(journal);
    until("a session at rest", || {
        store.fold_all().unwrap();
        awake(&store).is_empty()
    });
    assert!(is_noted(&store));
}

#[test]
fn copies_and_an_older_database_have_every_session_looked_at() {
    let world = world();
    world.at_rest(&id(1));
    drop(world.looked());
    let older = world.database("older");
    // A copy of the whole directory, in which somebody put a journal.
    let copied = world.place.path().join("copied");
    copy(world.home.path(), &copied);
    let copied = Home::open(&copied).unwrap();
    change(&world.home, &id(1), 1);
    copy(&world.home.journal(&id(1), Writer::Changes), &copied.journal(&id(1), Writer::Changes));
    let mut store = Sqlite::open(&copied).unwrap();
    assert!(!is_noted(&store));
    store.fold_all().unwrap();
    assert_eq!(count(&store, &id(1)), 2);
    // The database as it was before a change that a newer one has noted.
    drop(world.looked());
    for part in ["omni.db", "omni.db-wal", "omni.db-shm"] {
        let _ = std::fs::remove_file(world.home.path().join(part));
        if older.join(part).exists() {
            copy(&older.join(part), &world.home.path().join(part));
        }
    }
    let mut store = Sqlite::open(&world.home).unwrap();
    assert_eq!(count(&store, &id(1)), 1);
    store.fold_all().unwrap();
    assert_eq!(count(&store, &id(1)), 2);
    // Another start of the machine, before which the directory's time may have been lost.
    let store = world.looked();
    store.connection.execute("UPDATE looked SET stand = replace(stand, ?1, 'another')", [boot_id().unwrap()]).unwrap();
    assert!(!is_noted(&store));
}

#[test]
fn a_directory_that_was_taken_away_and_brought_back_is_looked_at() {
    let world = world();
    world.at_rest(&id(1));
    Journal::create(&world.home, &id(2), Writer::Session).unwrap().record(Timestamp(1), &failed(1)).unwrap();
    let mut store = world.looked();
    let fault = |store: &Sqlite| store.session(&id(2)).unwrap().0.fault;
    let away = world.place.path().join("away");
    std::fs::rename(world.home.session(&id(2)), &away).unwrap();
    store.fold_all().unwrap();
    assert!(fault(&store).unwrap().contains("missing"));
    let mut store = world.looked();
    std::fs::rename(&away, world.home.session(&id(2))).unwrap();
    store.fold_all().unwrap();
    assert_eq!((fault(&store), count(&store, &id(2))), (None, 1));
}

#[test]
fn whoever_writes_and_whoever_looks_at_once_miss_nothing() {
    const ROUNDS: u64 = 40;
    let world = world();
    let sessions: Vec<_> = (1..=3).map(id).collect();
    sessions.iter().for_each(|session| world.at_rest(session));
    let done = AtomicBool::new(false);
    let home = &world.home;
    std::thread::scope(|scope| {
        let looks = || {
            let mut store = Sqlite::open(home).unwrap();
            while !done.load(Ordering::Relaxed) {
                store.fold_all().unwrap();
                // So that some of the looks are noted.
                age(home);
            }
        };
        (0..2).for_each(|_| drop(scope.spawn(looks)));
        let write = |session| move || (1..=ROUNDS).for_each(|number| change(home, session, number));
        let writers: Vec<_> = sessions.iter().map(|session| scope.spawn(write(session))).collect();
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
    });
    let mut store = Sqlite::open(home).unwrap();
    store.fold_all().unwrap();
    for session in &sessions {
        assert_eq!(count(&store, session) as u64, 1 + ROUNDS);
    }
    assert!(store.verify().unwrap().iter().all(|report| report.faults.is_empty()));
}
