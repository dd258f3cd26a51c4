//! What the store on PostgreSQL keeps, finds and survives, on a real one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../../tests/postgres/server.rs"]
mod server;

pub use server::Server;

use super::super::{Account, Claim, HoldBook, Journal, Moment, Recorder, open_holds, open_store, process_start_ticks};
use super::*;
use crate::ledger::{Frontier, leaf_hash};
use crate::meter::{Admission, Wish};
use crate::model::{EndReason, Event, ExitStatus, NanoUsd, Pricing, RequestNumber, Scope, Usage, Window};
use crate::policy::SpendPolicy;
use crate::store::tests::of_three_calls;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

#[path = "parity_tests.rs"]
mod parity;

/// The time at which these tests began: holds of other machines are judged by the clock.
static NOW: LazyLock<Timestamp> = LazyLock::new(|| Timestamp(jiff::Timestamp::now().as_microsecond()));

/// Homes of several machines that share one store.
struct World {
    place: tempfile::TempDir,
    server: &'static Server,
    address: String,
}

fn world() -> Option<World> {
    let server = Server::shared()?;
    Some(World { place: tempfile::tempdir().unwrap(), server, address: server.database() })
}

fn id(byte: u8) -> SessionId {
    SessionId::from_entropy([byte; 10])
}

fn failed(request: u64) -> Event {
    Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() }
}

fn metered(model: &str, cost: i64) -> Event {
    Event::UsageMetered {
        request: RequestNumber(1),
        dialect: "anthropic-messages".to_owned(),
        vendor: "anthropic".to_owned(),
        model: model.to_owned(),
        usage: Usage { input: 1, output: 2, ..Usage::default() },
        service: String::new(),
        cost: NanoUsd(cost),
        pricing: Pricing::Exact,
        price_table: "1".to_owned(),
    }
}

/// Records a session of `frames` requests and one model call, and its end.
fn record(home: &Home, byte: u8, frames: u64) -> SessionId {
    let session = id(byte);
    let mut proxy = Journal::create(home, &session, Writer::Proxy).unwrap();
    let mut supervisor = Journal::create(home, &session, Writer::Session).unwrap();
    for request in 1..=frames {
        proxy.record(Timestamp(request.cast_signed()), &failed(request)).unwrap();
    }
    proxy.record(Timestamp(frames.cast_signed() + 1), &metered("m", 700)).unwrap();
    let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
    supervisor.record(Timestamp(frames.cast_signed() + 2), &ended).unwrap();
    session
}

impl World {
    fn home(&self, name: &str) -> Home {
        Home::open(&self.place.path().join(name)).unwrap().with_store(&self.address).unwrap()
    }

    fn store(&self, name: &str) -> Postgres {
        let home = self.home(name);
        Postgres::open(&home, home.store().unwrap()).unwrap()
    }

    fn folded(&self, name: &str) -> Postgres {
        let mut store = self.store(name);
        store.fold_all().unwrap();
        store
    }

    fn sql(&self, text: &str) -> String {
        self.server.sql(&self.address, &format!("SET search_path = omni; {text}"))
    }

    /// What is wrong, in journals and ledger.
    fn faults(&self, name: &str) -> (Vec<(Writer, u64)>, Option<u64>, usize) {
        let store = self.store(name);
        let reports = store.verify().unwrap();
        let journals = reports.iter().flat_map(|report| report.faults.iter().map(|fault| (report.writer, fault.seq)));
        let ledger = store.verify_ledger(&[]).unwrap().unwrap();
        (journals.collect(), ledger.first_bad(), ledger.faults.len())
    }
}

#[test]
fn one_log_of_two_machines_has_every_frame_once_and_each_sees_the_others() {
    let Some(world) = world() else { return };
    let (one, other) = (record(&world.home("one"), 1, 300), record(&world.home("other"), 2, 5));
    drop(world.folded("one"));
    let mut store = world.folded("other");
    store.fold_all().unwrap();
    assert_eq!(store.sessions().unwrap().len(), 2);
    assert_eq!(store.elsewhere(&other).unwrap(), None);
    assert_eq!(store.elsewhere(&one).unwrap(), Some(rustix::system::uname().nodename().to_string_lossy().into_owned()));
    let entries: Vec<u64> = store.log(None, 0, u32::MAX).unwrap().iter().map(|event| event.entry).collect();
    assert_eq!(entries, (1..=309).collect::<Vec<u64>>());
    for name in ["one", "other"] {
        assert_eq!(world.faults(name), (vec![], None, 0), "{name}");
    }
    let told = store.ledger_entries(299, 4).unwrap();
    let events: Vec<_> = told.iter().map(|entry| entry.event.clone().unwrap()).collect();
    assert_eq!(told.iter().map(|entry| entry.index).collect::<Vec<_>>(), [299, 300, 301, 302]);
    assert_eq!(events, store.log(None, 299, 4).unwrap());
    let places: Vec<_> = told.iter().map(|entry| Some((entry.index, entry.leaf))).collect();
    assert_eq!(store.ledger_places(&events).unwrap(), places);
    assert_eq!((store.ledger_size().unwrap(), store.ledger_entries(309, 5).unwrap()), (309, vec![]));
    // The journal of another machine is as it is there, byte for byte.
    let path = world.place.path().join("files");
    let home = world.home("other");
    assert_eq!(copy_to_files(&home, home.store().unwrap(), &path).unwrap(), 2);
    let journal = |home: &Path| fs::read(home.join("sessions").join(one.as_str()).join("proxy.journal")).unwrap();
    assert_eq!(journal(&path), journal(world.home("one").path()));
    let report = super::super::check_files(&Home::find(&path).unwrap(), &[]).unwrap().1.unwrap();
    assert_eq!((report.size, report.faults), (309, vec![]));
}

#[test]
fn what_another_machine_has_not_ended_is_told_as_its_own() {
    let Some(world) = world() else { return };
    let session = id(1);
    let mut journal = Journal::create(&world.home("one"), &session, Writer::Session).unwrap();
    journal.record(Timestamp(1), &failed(1)).unwrap();
    drop(world.folded("one"));
    assert_eq!(world.store("other").session(&session).unwrap().1, Status::Elsewhere);
    // Nor does it fold what only looks as if it were its own.
    let mut store = world.folded("other");
    store.fold(&session).unwrap();
    assert_eq!(store.session(&session).unwrap().0.fault, None);
}

#[test]
fn what_was_changed_in_the_tables_is_found_by_whoever_asks() {
    let Some(world) = world() else { return };
    record(&world.home("one"), 1, 600);
    drop(world.folded("one"));
    let changed = "payload = convert_to(replace(convert_from(payload, 'UTF8'), 'no answer', 'an answer'), 'UTF8')";
    let first = |text: &str| {
        world.sql(text);
        ["one", "other"].map(|name| world.faults(name))
    };
    for (journals, ledger, _) in first(&format!("UPDATE events SET {changed} WHERE writer = 'proxy' AND seq = 7")) {
        assert_eq!((journals.len(), journals[0]), (1, (Writer::Proxy, 7)));
        // Of a journal that is here the file counts; elsewhere the frame is the table's.
        assert!([None, Some(6)].contains(&ledger), "{ledger:?}");
    }
    world.sql("UPDATE events SET payload = convert_to(replace(convert_from(payload, 'UTF8'), 'an answer', 'no answer'), 'UTF8')");
    assert_eq!(world.faults("other"), (vec![], None, 0));
    for (journals, ledger, _) in
        first("UPDATE ledger_entries SET entry = set_byte(entry, 40, 255 - get_byte(entry, 40)) WHERE place = 300")
    {
        assert_eq!((journals, ledger), (vec![], Some(300)));
    }
    world.sql("UPDATE ledger_entries SET entry = set_byte(entry, 40, 255 - get_byte(entry, 40)) WHERE place = 300");
    for (_, ledger, _) in first("DELETE FROM ledger_entries WHERE place = 599") {
        assert_eq!(ledger, Some(599));
    }
    for (_, ledger, _) in first("DELETE FROM ledger_entries WHERE place > 400") {
        assert_eq!(ledger, Some(401));
    }
}

#[test]
fn the_ledger_is_the_same_tree_and_its_receipts_and_keys_hold() {
    let Some(world) = world() else { return };
    let session = record(&world.home("one"), 1, 700);
    let mut store = world.folded("one");
    let signed = store.checkpoint().unwrap();
    let entries = world.sql("SELECT encode(entry, 'hex') FROM ledger_entries ORDER BY place");
    let mut frontier = Frontier::default();
    for line in entries.lines() {
        let bytes: Vec<u8> =
            (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect();
        frontier.push(leaf_hash(&bytes), |_, _, _| {});
    }
    assert_eq!((signed.checkpoint.size, signed.checkpoint.root), (703, frontier.root()));
    assert_eq!(store.checkpoint().unwrap(), signed);
    for number in [1, 255, 256, 702] {
        let receipt = store.receipt(&session, number).unwrap();
        assert!(receipt.show().is_ok(), "{number}");
    }
    let rotated = store.rotate_key().unwrap();
    assert_eq!((rotated.key.number, store.ledger_keys().unwrap().len()), (2, 2));
    assert_eq!(store.checkpoint().unwrap().key.number, 2);
    let report = store.verify_ledger(&[(signed.note.clone(), signed.checkpoint.clone())]).unwrap().unwrap();
    assert_eq!((report.faults, report.signed, report.keys.len()), (vec![], Some(704), 2));
    // Another machine has no key, and shows what was signed.
    let mut other = world.store("other");
    assert!(matches!(other.checkpoint(), Err(StoreError::Ledger(LedgerError::KeyMissing { .. }))));
    assert!(other.receipt(&session, 700).unwrap().show().is_ok());
    let tiles = world.place.path().join("tiles");
    assert_eq!(store.export_ledger(&tiles).unwrap().size, 704);
    assert!(tiles.join("tile/0/001").is_file() && tiles.join("tile/1/000.p/2").is_file());
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_alone() {
    let Some(world) = world() else { return };
    drop(world.store("one"));
    world.sql("INSERT INTO migrations (number) VALUES (99)");
    let home = world.home("one");
    let refusal = Postgres::open(&home, home.store().unwrap());
    assert!(matches!(refusal, Err(StoreError::StoreNewer { found: 99, known: 2, .. })), "{refusal:?}");
}

#[test]
fn many_that_make_the_tables_at_once_make_them_once() {
    let Some(world) = world() else { return };
    std::thread::scope(|scope| {
        for name in ["one", "two", "three", "four"] {
            let world = &world;
            scope.spawn(move || drop(world.store(name)));
        }
    });
    assert_eq!(world.sql("SELECT (SELECT count(*) FROM migrations), (SELECT count(*) FROM machines)"), "2|4");
}

#[test]
fn a_user_who_may_only_add_can_do_all_but_change_what_is_recorded() {
    let Some(world) = world() else { return };
    drop(world.store("one"));
    let name = world.sql("SELECT current_database()");
    let text = include_str!("../../../docs/store.md");
    let grants = text
        .split("```sql\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap()
        .replace("omni_writer", &format!("writer_{name}"));
    world.server.sql(&world.address, &grants);
    let address = world.address.replace("omni@", &format!("writer_{name}@"));
    let home = Home::open(&world.place.path().join("two")).unwrap().with_store(&address).unwrap();
    let session = record(&home, 1, 300);
    let mut store = open_store(&home).unwrap();
    store.fold_all().unwrap();
    store.checkpoint().unwrap();
    store.receipt(&session, 3).unwrap();
    store.rotate_key().unwrap();
    let mut holds = open_holds(&home, account(9)).unwrap();
    assert_eq!(holds.place(&[policy(100)], &[claim(1, 60, 10)]).unwrap()[0].0, Admission::Hold(NanoUsd(60)));
    holds.settle(&[(RequestNumber(1), NanoUsd(30))]).unwrap();
    for text in [
        "UPDATE events SET at = 0",
        "DELETE FROM ledger_entries",
        "UPDATE ledger_hashes SET level = 9",
        "TRUNCATE calls",
    ] {
        let refused = std::panic::catch_unwind(|| {
            world.server.sql(&address, &format!("SET search_path = omni; SET ROLE writer_{name}; {text}"))
        });
        assert!(refused.is_err(), "{text}");
    }
}

#[test]
fn a_zero_byte_in_a_strangers_word_stops_no_fold() {
    let Some(world) = world() else { return };
    let home = world.home("one");
    let mut journal = Journal::create(&home, &id(1), Writer::Proxy).unwrap();
    journal.record(Timestamp(1), &metered("m\0del", 5)).unwrap();
    let store = world.folded("one");
    assert_eq!(store.spend(SpendBy::Model, None).unwrap()[0].key, "m\u{fffd}del");
    assert_eq!(store.events(&id(1)).unwrap()[0].event(), Some(metered("m\0del", 5)));
    assert_eq!(world.faults("one"), (vec![], None, 0));
}

/// The server dies while folds are under way, again and again: what was acknowledged is there, and everything once.
#[test]
fn a_server_that_is_killed_in_the_middle_of_folds_loses_and_repeats_nothing() {
    let Some(mut server) = Server::start(&[]) else { return };
    let place = tempfile::tempdir().unwrap();
    let address = server.database();
    let home = Home::open(&place.path().join("home")).unwrap().with_store(&address).unwrap();
    drop(open_store(&home).unwrap());
    let mut journal = Journal::create(&home, &id(1), Writer::Proxy).unwrap();
    let mut acknowledged = 0;
    for round in 0..4 {
        let (tell, told) = std::sync::mpsc::channel();
        let folding = std::thread::spawn({
            let home = home.clone();
            move || {
                let mut store = open_store(&home).unwrap();
                let mut seen = 0;
                loop {
                    if store.fold(&id(1)).is_err() {
                        return seen;
                    }
                    seen = store.session(&id(1)).map_or(seen, |(summary, _)| summary.events);
                    if tell.send(seen).is_err() {
                        return seen;
                    }
                }
            }
        });
        for request in 0..200 {
            journal.record(Timestamp(round * 1_000 + request), &failed(request.cast_unsigned())).unwrap();
            // So that folds are under way at every number of frames.
            if request % 50 == 0 {
                told.recv().unwrap();
            }
        }
        server.kill();
        drop(told);
        acknowledged = folding.join().unwrap().max(acknowledged);
        server.restart();
        let store = open_store(&home).unwrap();
        let found = store.session(&id(1)).unwrap().0.events;
        assert!(found >= acknowledged, "{found} of {acknowledged} are there");
    }
    let mut store = open_store(&home).unwrap();
    store.fold_all().unwrap();
    let numbers: Vec<_> = store.events(&id(1)).unwrap().iter().map(|event| (event.number, event.seq)).collect();
    assert_eq!(numbers, (1..=800).map(|number| (number, number)).collect::<Vec<_>>());
    let report = store.verify_ledger(&[]).unwrap().unwrap();
    assert_eq!((report.size, report.faults), (800, vec![]));
    assert!(store.verify().unwrap().iter().all(|report| report.faults.is_empty()));
}

#[test]
fn a_server_that_is_away_says_so_and_the_connection_comes_back_by_itself() {
    let Some(mut server) = Server::start(&[]) else { return };
    let place = tempfile::tempdir().unwrap();
    let home = Home::open(&place.path().join("home")).unwrap().with_store(&server.database()).unwrap();
    record(&home, 1, 3);
    let mut store = open_store(&home).unwrap();
    let mut holds = open_holds(&home, account(9)).unwrap();
    store.fold_all().unwrap();
    server.kill();
    let message = store.sessions().unwrap_err().to_string();
    assert!(message.contains("cannot be reached") && message.contains("journals"), "{message}");
    // No record, no effect: no money is handed out.
    assert!(matches!(holds.place(&[policy(100)], &[claim(1, 60, 10)]), Err(StoreError::StoreAway { .. })));
    server.restart();
    assert_eq!(store.sessions().unwrap().len(), 1);
    assert_eq!(holds.place(&[policy(100)], &[claim(1, 60, 10)]).unwrap()[0].0, Admission::Hold(NanoUsd(60)));
    // Asked again, as after a commit whose answer was lost, it is the same money.
    assert_eq!(holds.place(&[policy(100)], &[claim(1, 60, 10)]).unwrap()[0].0, Admission::Hold(NanoUsd(60)));
    assert_eq!(holds.budgets(&[policy(100)], moment()).unwrap()[0].held, NanoUsd(60));
}

/// A way to the server that passes everything on, until it is told to take the answer to the next commit away.
struct Relay {
    place: tempfile::TempDir,
    cuts: Arc<AtomicBool>,
}

impl Relay {
    fn to(server: &Server) -> Self {
        let (place, cuts) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
        let listener = UnixListener::bind(place.path().join(".s.PGSQL.5432")).unwrap();
        let (real, cut) = (server.place().join(".s.PGSQL.5432"), Arc::clone(&cuts));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&real) else { return };
                let cut = Arc::clone(&cut);
                std::thread::spawn(move || pass_on(&client, &server, &cut));
            }
        });
        Self { place, cuts }
    }

    /// The same store by this way.
    fn address(&self, address: &str) -> String {
        let (before, _) = address.split_once("?host=").unwrap();
        format!("{before}?host={}", self.place.path().display())
    }
}

/// Passes words of the client and answers of the server on, in turns of the protocol's: a query, and all that answers it.
fn pass_on(client: &UnixStream, server: &UnixStream, cut: &AtomicBool) {
    let (answers, words) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let (lost, knows) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (losing, known) = (Arc::clone(&lost), Arc::clone(&knows));
    let back = std::thread::spawn(move || {
        let (mut answers, mut words, mut piece) = (answers, words, [0; 65_536]);
        while let Ok(count @ 1..) = answers.read(&mut piece) {
            if losing.load(Ordering::SeqCst) {
                // It is committed: the server says so, and nobody hears it.
                known.store(piece[..count].windows(7).any(|word| word == b"COMMIT\0"), Ordering::SeqCst);
                break;
            }
            if words.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = (answers.shutdown(Shutdown::Both), words.shutdown(Shutdown::Both));
    });
    let (mut client, mut server, mut piece) = (client, server, [0; 65_536]);
    while let Ok(count @ 1..) = client.read(&mut piece) {
        if piece[..count].windows(7).any(|word| word == b"COMMIT\0") && cut.swap(false, Ordering::SeqCst) {
            lost.store(true, Ordering::SeqCst);
        }
        if server.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
    back.join().unwrap();
    assert!(!lost.load(Ordering::SeqCst) || knows.load(Ordering::SeqCst), "the server did not commit");
}

#[test]
fn what_was_committed_without_an_answer_is_entered_once() {
    let Some(world) = world() else { return };
    let relay = Relay::to(world.server);
    let home = Home::open(&world.place.path().join("one")).unwrap().with_store(&relay.address(&world.address)).unwrap();
    record(&home, 1, 300);
    let mut store = open_store(&home).unwrap();
    relay.cuts.store(true, Ordering::SeqCst);
    store.fold_all().unwrap();
    assert!(!relay.cuts.load(Ordering::SeqCst));
    assert_eq!(world.sql("SELECT count(*), max(entry), (SELECT size FROM ledger) FROM events"), "302|302|302");
    assert_eq!(world.faults("one"), (vec![], None, 0));
    let mut holds = open_holds(&home, account(9)).unwrap();
    relay.cuts.store(true, Ordering::SeqCst);
    assert_eq!(holds.place(&[policy(100)], &[claim(1, 60, 10)]).unwrap()[0].0, Admission::Hold(NanoUsd(60)));
    assert!(!relay.cuts.load(Ordering::SeqCst));
    assert_eq!(world.sql("SELECT count(*), sum(nano) FROM charges"), "1|60");
    relay.cuts.store(true, Ordering::SeqCst);
    let signed = store.checkpoint();
    assert!(signed.is_ok_and(|signed| signed.checkpoint.size == 303));
    assert_eq!(store.verify_ledger(&[]).unwrap().unwrap().faults, []);
}

fn account(session: u8) -> Account {
    Account { session: id(session), user: "ada".to_owned(), team: None, project: None, agent: "trial".to_owned() }
}

fn policy(hard: i64) -> SpendPolicy {
    SpendPolicy { scope: Scope::User, window: Window::Day, ..SpendPolicy::budget(NanoUsd(hard)) }
}

fn claim(request: u64, full: i64, least: i64) -> Claim {
    let wish = Wish { full: NanoUsd(full), least: NanoUsd(least), consented: false };
    let (waived, raised) = (BTreeSet::new(), BTreeMap::new());
    Claim { request: RequestNumber(request), moment: moment(), wish, waived, raised }
}

fn moment() -> Moment {
    Moment { at: *NOW, turn: RequestNumber(0) }
}

fn stands(holds: &mut dyn HoldBook, policy: &SpendPolicy) -> (i64, i64) {
    let budgets = holds.budgets(std::slice::from_ref(policy), moment()).unwrap();
    (budgets[0].spent.0, budgets[0].held.0)
}

#[test]
fn two_machines_share_one_budget_and_settling_twice_is_settling_once() {
    let Some(world) = world() else { return };
    let policy = policy(100);
    let mut one = open_holds(&world.home("one"), account(1)).unwrap();
    let mut other = open_holds(&world.home("other"), account(2)).unwrap();
    let place = |holds: &mut dyn HoldBook, request, full| {
        holds.place(std::slice::from_ref(&policy), &[claim(request, full, 10)]).unwrap()[0].0
    };
    assert_eq!(place(one.as_mut(), 1, 60), Admission::Hold(NanoUsd(60)));
    assert_eq!(place(other.as_mut(), 1, 60), Admission::Wait(0));
    one.settle(&[(RequestNumber(1), NanoUsd(30))]).unwrap();
    one.settle(&[(RequestNumber(1), NanoUsd(99))]).unwrap();
    assert_eq!(place(other.as_mut(), 1, 60), Admission::Hold(NanoUsd(60)));
    assert_eq!(stands(one.as_mut(), &policy), (30, 60));
    other.settle(&[(RequestNumber(1), NanoUsd(65))]).unwrap();
    assert_eq!(place(one.as_mut(), 2, 60), Admission::Refuse(0));
}

/// Policies of different scopes, each of which decides by sums that the others only add to.
#[test]
fn many_machines_never_hold_more_than_there_is_in_any_scope() {
    let Some(world) = world() else { return };
    let scopes = [Scope::User, Scope::Team, Scope::Organisation];
    let policies: Vec<_> = scopes
        .into_iter()
        .map(|scope| SpendPolicy { scope, window: Window::Day, ..SpendPolicy::budget(NanoUsd(1_000)) })
        .collect();
    let work = |machine: u8| {
        let team = Some("x".to_owned());
        let mut holds = open_holds(&world.home(&format!("m{machine}")), Account { team, ..account(machine) }).unwrap();
        for request in 1..=20 {
            let (admission, _) = holds.place(&policies, &[claim(request, 90, 30)]).unwrap().remove(0);
            for budget in holds.budgets(&policies, moment()).unwrap() {
                let sum = budget.spent.0 + budget.held.0;
                assert!(sum <= 1_000, "{sum} spent and held");
            }
            if let Admission::Hold(amount) = admission {
                holds.settle(&[(RequestNumber(request), NanoUsd(amount.0 / 2))]).unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=6).map(|machine| scope.spawn(move || work(machine))).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    let mut holds = open_holds(&world.home("m7"), account(7)).unwrap();
    let (spent, held) = stands(holds.as_mut(), &policies[2]);
    assert!(held == 0 && spent > 0 && spent <= 1_000, "{spent} spent and {held} held");
}

/// What a session leaves that was killed: holds in the store, and a journal that tells how far each call came.
#[test]
fn what_a_killed_session_held_is_settled_by_its_own_machine_alone() {
    let Some(world) = world() else { return };
    let policy = policy(1_000);
    let home = world.home("one");
    let mut holds = open_holds(&home, account(1)).unwrap();
    for request in 1..=3 {
        holds.place(std::slice::from_ref(&policy), &[claim(request, 100, 10)]).unwrap();
    }
    drop(holds);
    world.sql("UPDATE accounts SET pid_started_ticks = 1");
    let mut journal = Journal::create(&home, &id(1), Writer::Proxy).unwrap();
    for event in of_three_calls() {
        journal.record(*NOW, &event).unwrap();
    }
    drop(journal);
    // Another machine cannot know whether the process lives.
    let mut stranger = open_holds(&world.home("other"), account(2)).unwrap();
    assert_eq!(stands(stranger.as_mut(), &policy), (0, 300));
    let mut living = open_holds(&home, account(3)).unwrap();
    assert_eq!(stands(living.as_mut(), &policy), (107, 0));
    assert_eq!(stands(stranger.as_mut(), &policy), (107, 0));
}

#[test]
fn what_another_machine_held_for_a_day_is_charged_whole() {
    let Some(world) = world() else { return };
    let mut dead = open_holds(&world.home("one"), account(1)).unwrap();
    dead.place(&[policy(1_000)], &[claim(1, 100, 10)]).unwrap();
    world.sql("UPDATE charges SET at = 1");
    drop(open_holds(&world.home("one"), account(3)).unwrap());
    assert_eq!(world.sql("SELECT state FROM charges"), "held");
    drop(open_holds(&world.home("other"), account(2)).unwrap());
    assert_eq!(world.sql("SELECT state, nano FROM charges"), "lost|100");
    // Whoever held it knows better, if it lives after all.
    dead.settle(&[(RequestNumber(1), NanoUsd(40))]).unwrap();
    assert_eq!(world.sql("SELECT state, nano FROM charges"), "settled|40");
}

#[test]
fn a_copy_keeps_every_hash_and_number() {
    let Some(world) = world() else { return };
    let home = Home::open(&world.place.path().join("one")).unwrap();
    let session = record(&home, 1, 700);
    record(&home, 2, 3);
    let mut before = open_store(&home).unwrap();
    before.fold_all().unwrap();
    let signed = before.checkpoint().unwrap();
    before.rotate_key().unwrap();
    let mut holds = open_holds(&home, account(9)).unwrap();
    holds.place(&[policy(100)], &[claim(1, 60, 10)]).unwrap();
    holds.settle(&[(RequestNumber(1), NanoUsd(30))]).unwrap();
    drop(holds);
    let address = StoreAddress::parse(&world.address, "omni").unwrap();
    let copied = copy_store(&home, &address).unwrap();
    assert_eq!(
        (copied.sessions, copied.events, copied.calls, copied.cost_nano, copied.entries),
        (2, 707, 2, 1_400, 709)
    );
    // Once more, as after a copy that was killed when all was there.
    assert_eq!(copy_store(&home, &address).unwrap(), copied);
    let mut after = world.store("one");
    assert_eq!(after.sessions().unwrap(), before.sessions().unwrap());
    assert_eq!(after.log(None, 0, u32::MAX).unwrap(), before.log(None, 0, u32::MAX).unwrap());
    assert_eq!(after.spend(SpendBy::Model, None).unwrap(), before.spend(SpendBy::Model, None).unwrap());
    assert_eq!(after.ledger_keys().unwrap(), before.ledger_keys().unwrap());
    assert_eq!(after.signed_checkpoint().unwrap(), before.signed_checkpoint().unwrap());
    let mut holds = open_holds(&world.home("one"), account(8)).unwrap();
    assert_eq!(stands(holds.as_mut(), &policy(100)), (30, 0));
    let kept = [(signed.note, signed.checkpoint)];
    let report = after.verify_ledger(&kept).unwrap().unwrap();
    assert_eq!((report.faults, report.root), (vec![], Some(copied.root)));
    assert_eq!(world.faults("one"), (vec![], None, 0));
    // The log goes on there, by the same key, and here no more.
    record(&home, 3, 1);
    after.fold_all().unwrap();
    assert_eq!(after.checkpoint().unwrap().checkpoint.size, 712);
    assert!(after.receipt(&session, 5).unwrap().show().is_ok());
    before.fold_all().unwrap();
    assert!(matches!(before.ledger_fault(), Some(LedgerError::Moved { .. })));
    assert!(matches!(before.checkpoint(), Err(StoreError::Ledger(LedgerError::Moved { .. }))));
    // Nothing is added to what is not empty.
    let refusal = copy_store(&home, &address);
    assert!(matches!(refusal, Err(StoreError::CopyRefused { .. })), "{refusal:?}");
}

#[test]
fn a_copy_of_a_home_whose_session_runs_is_refused() {
    let Some(world) = world() else { return };
    let home = Home::open(&world.place.path().join("one")).unwrap();
    let pid = std::process::id();
    let detached = Event::SessionDetached { pid, pid_started_ticks: process_start_ticks(pid).unwrap() };
    Journal::create(&home, &id(1), Writer::Session).unwrap().record(Timestamp(1), &detached).unwrap();
    let refusal = copy_store(&home, &StoreAddress::parse(&world.address, "omni").unwrap()).unwrap_err().to_string();
    assert!(refusal.contains("is running"), "{refusal}");
}

#[test]
fn a_connection_over_a_network_is_by_tls_with_the_servers_name_and_a_password() {
    let Some(mut server) = Server::start(&[]) else { return };
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut of_authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    of_authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = of_authority.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(of_authority, &authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let roots = write("root.pem", root.pem());
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let others = write("other.pem", stranger.cert.pem());
    server.sql("postgres", "ALTER ROLE omni PASSWORD 's3cret'");
    let port = server.protect(&certificate.pem(), &key.serialize_pem());
    let database = server.database();
    let name = database.split('/').nth(3).unwrap().split('?').next().unwrap().to_owned();
    let home = Home::open(&files.path().join("home")).unwrap();
    let open = |address: String| open_store(&home.clone().with_store(&address).unwrap()).map(drop);
    let at = |host: &str, word: &str, roots: &str| {
        format!("postgres://omni:{word}@{host}:{port}/{name}?sslmode=verify-full&sslrootcert={roots}")
    };
    open(at("localhost", "s3cret", &roots)).unwrap();
    let refused = |address: String| open(address).unwrap_err().to_string();
    assert!(refused(at("localhost", "wrong", &roots)).contains("password authentication failed"));
    for message in [refused(at("localhost", "s3cret", &others)), refused(at("127.0.0.1", "s3cret", &roots))] {
        assert!(message.contains("certificate"), "{message}");
    }
}
