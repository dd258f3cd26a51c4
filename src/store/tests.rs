//! What the store keeps, finds and forgives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{
    EndReason, Event, ExitStatus, Host, Isolation, NanoUsd, Port, Pricing, RequestLine, RequestNumber, Scheme,
    SessionId, Tier, Timestamp, Usage, Writer,
};
use std::fs;
use std::os::unix::fs::FileExt;

/// A home of its own and one session in it.
struct World {
    _place: tempfile::TempDir,
    home: Home,
    session: SessionId,
}

fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let home = Home::open(&place.path().join("home")).unwrap();
    World { _place: place, home, session: id(1) }
}

/// The same with its records on PostgreSQL, where that is installed.
fn world_on_postgres() -> Option<World> {
    let World { _place, home, session } = world();
    let home = home.with_store(&postgres::tests::Server::shared()?.database()).unwrap();
    Some(World { _place, home, session })
}

/// What every store owes, whichever database it is in.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test] fn $name() { super::$name(super::world()); })*
        }
        mod on_postgres {
            $(#[test] fn $name() { super::world_on_postgres().into_iter().for_each(super::$name); })*
        }
    };
}

on_both! {
    two_journals_become_one_dense_sequence_in_the_order_of_time,
    a_summary_is_the_sum_of_its_events,
    folding_twice_is_folding_once,
    a_frame_that_is_half_written_waits_for_its_other_half,
    a_crash_in_the_middle_of_a_frame_loses_nothing_before_it_and_is_noted,
    a_session_runs_as_long_as_its_own_process_does,
    another_process_with_the_same_id_is_not_the_session,
    a_session_of_which_only_the_files_exist_is_starting,
    a_flipped_bit_in_a_journal_flags_its_session_alone,
    a_bit_flipped_after_the_fold_is_found_by_verify,
    a_journal_cut_at_a_border_after_the_fold_is_found_by_the_count,
    a_journal_forged_with_right_hashes_differs_from_what_was_folded,
    an_event_of_a_later_version_is_kept_and_named,
    a_prefix_finds_a_session_and_a_wrong_one_says_what_to_do,
    a_clock_that_went_back_does_not_reorder_a_journal,
    a_journal_larger_than_what_is_read_at_once_is_folded_whole,
    many_that_fold_at_once_lose_and_repeat_nothing,
    spend_is_added_up_by_whatever_is_asked_for,
}

fn id(byte: u8) -> SessionId {
    SessionId::from_entropy([byte; 10])
}

/// Usage in which every number is another, so that no column can be taken for another.
const USAGE: Usage =
    Usage { input: 1, cache_read: 2, cache_write: 3, cache_write_long: 4, output: 5, reasoning: 6, web_searches: 7 };

pub(super) fn started(session: &SessionId, pid: u32, pid_started_ticks: u64) -> Event {
    Event::SessionStarted {
        session: session.clone(),
        name: Some("try".to_owned()),
        user: "ada".to_owned(),
        team: Some("web".to_owned()),
        project: Some("shop".to_owned()),
        tags: [("ticket".to_owned(), "W-7".to_owned())].into(),
        profile: "default".to_owned(),
        argv: vec!["true".to_owned()],
        workspace: "/work".to_owned(),
        policy_hash: "00".to_owned(),
        isolation: Isolation {
            tier: Tier::Full,
            namespaces: vec!["user".to_owned()],
            landlock_abi: 4,
            seccomp: true,
            network: "anyip+tproxy".to_owned(),
            gaps: Vec::new(),
            limits: Vec::new(),
        },
        omni_version: "0.1.0".to_owned(),
        pid,
        pid_started_ticks,
    }
}

fn line() -> RequestLine {
    RequestLine {
        method: "POST".to_owned(),
        scheme: Scheme::Https,
        host: Host::parse("api.example.com").unwrap(),
        port: Port(443),
        path: "/v1/messages".to_owned(),
    }
}

fn allowed(request: u64) -> Event {
    let rule = "POST api.example.com/**".to_owned();
    Event::RequestAllowed {
        request: RequestNumber(request),
        line: line(),
        rule,
        rule_from: None,
        act: None,
        secrets: Vec::new(),
        also: Vec::new(),
    }
}

/// What a killed session's journal tells of three calls: the first ended, the second was under way, and the third had not left.
pub(super) fn of_three_calls() -> [Event; 3] {
    let settled =
        Event::HoldSettled { request: RequestNumber(1), held: NanoUsd(100), charged: NanoUsd(7), estimated: false };
    [allowed(1), settled, allowed(2)]
}

fn denied(request: u64) -> Event {
    Event::RequestDenied {
        request: RequestNumber(request),
        line: line(),
        rule: None,
        rule_from: None,
        act: None,
        reason: "no rule".to_owned(),
        also: Vec::new(),
    }
}

fn metered(request: u64, model: &str, cost: i64) -> Event {
    Event::UsageMetered {
        request: RequestNumber(request),
        dialect: "anthropic-messages".to_owned(),
        vendor: "anthropic".to_owned(),
        model: model.to_owned(),
        usage: USAGE,
        service: String::new(),
        cost: NanoUsd(cost),
        pricing: Pricing::Exact,
        price_table: "1".to_owned(),
    }
}

fn ended() -> Event {
    Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(3) }
}

impl World {
    fn open(&self) -> Box<dyn Store> {
        open_store(&self.home).unwrap()
    }

    fn journal(&self, writer: Writer, records: &[(i64, Event)]) -> Journal {
        let mut journal = Journal::create(&self.home, &self.session, writer).unwrap();
        for (at, event) in records {
            journal.record(Timestamp(*at), event).unwrap();
        }
        journal
    }

    /// A whole session: started, two requests, one model call, ended.
    fn whole(&self) -> Box<dyn Store> {
        let pid = std::process::id();
        let ticks = process_start_ticks(pid).unwrap();
        self.journal(Writer::Session, &[(10, started(&self.session, pid, ticks)), (50, ended())]);
        self.journal(Writer::Proxy, &[(20, allowed(1)), (30, denied(2)), (40, metered(1, "m", 1_500))]);
        let mut store = self.open();
        store.fold(&self.session).unwrap();
        store
    }

    fn kinds(&self, store: &dyn Store) -> Vec<(u64, String)> {
        store.events(&self.session).unwrap().into_iter().map(|event| (event.number, event.kind)).collect()
    }

    fn path(&self, writer: Writer) -> std::path::PathBuf {
        self.home.journal(&self.session, writer)
    }

    /// What is wrong, as (writer, frame).
    fn faults(&self, store: &dyn Store) -> Vec<(Writer, u64)> {
        let reports = store.verify().unwrap();
        reports.iter().flat_map(|report| report.faults.iter().map(|fault| (report.writer, fault.seq))).collect()
    }

    fn notes(&self, store: &dyn Store) -> Vec<(Writer, u64)> {
        let reports = store.verify().unwrap();
        reports.iter().flat_map(|report| report.notes.iter().map(|note| (report.writer, note.seq))).collect()
    }
}

fn numbered(kinds: &[&str]) -> Vec<(u64, String)> {
    (1..).zip(kinds.iter().map(|kind| (*kind).to_owned())).collect()
}

const WHOLE: [&str; 5] = ["session_started", "request_allowed", "request_denied", "usage_metered", "session_ended"];

fn two_journals_become_one_dense_sequence_in_the_order_of_time(world: World) {
    let store = world.whole();
    assert_eq!(world.kinds(store.as_ref()), numbered(&WHOLE));
    assert_eq!(world.faults(store.as_ref()), []);
    assert_eq!(world.notes(store.as_ref()), []);
}

fn a_summary_is_the_sum_of_its_events(world: World) {
    let (summary, status) = world.whole().session(&world.session).unwrap();
    let pid = std::process::id();
    let wanted = Summary {
        session: world.session.clone(),
        name: Some("try".to_owned()),
        user: Some("ada".to_owned()),
        team: Some("web".to_owned()),
        project: Some("shop".to_owned()),
        profile: Some("default".to_owned()),
        argv: vec!["true".to_owned()],
        workspace: Some("/work".to_owned()),
        policy_hash: Some("00".to_owned()),
        process: Some((pid, process_start_ticks(pid).unwrap())),
        started: Some(Timestamp(10)),
        ended: Some(Timestamp(50)),
        end_reason: Some(EndReason::Finished),
        exit: Some(ExitStatus::Code(3)),
        events: 5,
        requests: Counts { allowed: 1, denied: 1, refused: 0, failed: 0 },
        calls: 1,
        inexact: 0,
        cost: NanoUsd(1_500),
        usage: USAGE,
        fault: None,
    };
    assert_eq!((summary, status), (wanted, Status::Finished));
}

fn folding_twice_is_folding_once(world: World) {
    let mut store = world.whole();
    let before = (store.sessions().unwrap(), store.events(&world.session).unwrap());
    store.fold(&world.session).unwrap();
    store.fold_all().unwrap();
    assert_eq!((store.sessions().unwrap(), store.events(&world.session).unwrap()), before);
}

#[test]
fn folding_while_the_session_runs_gives_the_same_as_folding_at_its_end() {
    let world = world();
    let mut store = Sqlite::open(&world.home).unwrap();
    let mut proxy = world.journal(Writer::Proxy, &[]);
    store.fold_all().unwrap();
    for at in 1..20 {
        proxy.record(Timestamp(at), &metered(1, "m", 1)).unwrap();
        store.fold(&world.session).unwrap();
    }
    let numbers: Vec<_> = store.events(&world.session).unwrap().iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..20).collect::<Vec<u64>>());
    let live = store.session(&world.session).unwrap().0;
    let (again, aside) = Sqlite::rebuild(&world.home, "old").unwrap();
    assert_eq!(again.session(&world.session).unwrap().0, live);
    assert!(aside.unwrap().exists());
}

fn a_frame_that_is_half_written_waits_for_its_other_half(world: World) {
    world.journal(Writer::Proxy, &[(1, allowed(1)), (2, denied(2))]);
    let path = world.path(Writer::Proxy);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let mut store = world.open();
    store.fold_all().unwrap();
    assert_eq!(world.kinds(store.as_ref()), numbered(&["request_allowed"]));
    assert_eq!(store.session(&world.session).unwrap().0.fault, None);
    fs::write(&path, bytes).unwrap();
    store.fold_all().unwrap();
    assert_eq!(world.kinds(store.as_ref()), numbered(&["request_allowed", "request_denied"]));
}

fn a_crash_in_the_middle_of_a_frame_loses_nothing_before_it_and_is_noted(world: World) {
    world.journal(Writer::Session, &[(1, started(&world.session, u32::MAX, 1)), (2, ended())]);
    world.journal(Writer::Proxy, &[(1, allowed(1)), (2, denied(2))]);
    let path = world.path(Writer::Proxy);
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let mut store = world.open();
    store.fold_all().unwrap();
    assert_eq!(store.session(&world.session).unwrap().0.requests.allowed, 1);
    assert_eq!(world.faults(store.as_ref()), []);
    assert_eq!(world.notes(store.as_ref()), [(Writer::Proxy, 2)]);
}

fn a_session_runs_as_long_as_its_own_process_does(world: World) {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let ticks = process_start_ticks(child.id()).unwrap();
    world.journal(Writer::Session, &[(1, started(&world.session, child.id(), ticks))]);
    let mut store = world.open();
    store.fold_all().unwrap();
    let status = |store: &dyn Store| store.session(&world.session).unwrap().1;
    assert_eq!(status(store.as_ref()), Status::Running);
    assert_eq!(world.notes(store.as_ref()), []);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status(store.as_ref()), Status::Interrupted);
    assert_eq!(world.notes(store.as_ref()), [(Writer::Session, 1)]);
}

fn another_process_with_the_same_id_is_not_the_session(world: World) {
    let pid = std::process::id();
    let other = process_start_ticks(pid).unwrap() - 1;
    world.journal(Writer::Session, &[(1, started(&world.session, pid, other))]);
    let mut store = world.open();
    store.fold_all().unwrap();
    assert_eq!(store.session(&world.session).unwrap().1, Status::Interrupted);
}

fn a_session_of_which_only_the_files_exist_is_starting(world: World) {
    world.journal(Writer::Session, &[]);
    let mut store = world.open();
    store.fold_all().unwrap();
    assert_eq!(store.session(&world.session).unwrap().1, Status::Starting);
}

fn a_flipped_bit_in_a_journal_flags_its_session_alone(mut world: World) {
    let mut store = world.whole();
    world.session = id(2);
    world.journal(Writer::Proxy, &[(1, allowed(1)), (2, denied(2)), (3, allowed(3))]);
    flip(&world.path(Writer::Proxy), 20, -1);
    store.fold_all().unwrap();
    let faults: Vec<_> = store.sessions().unwrap().into_iter().map(|(summary, _)| summary.fault.is_some()).collect();
    assert_eq!(faults, [false, true]);
    assert_eq!(world.kinds(store.as_ref()), numbered(&["request_allowed", "request_denied"]));
    assert_eq!(world.faults(store.as_ref()), [(Writer::Proxy, 3)]);
}

/// Flips a bit this far from the start, or from the end for `side` -1.
fn flip(path: &std::path::Path, distance: u64, side: i8) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let offset = if side < 0 { length - distance } else { distance };
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

fn a_bit_flipped_after_the_fold_is_found_by_verify(world: World) {
    let store = world.whole();
    flip(&world.path(Writer::Proxy), 45, 1);
    assert_eq!(world.faults(store.as_ref()), [(Writer::Proxy, 1)]);
    flip(&world.path(Writer::Session), 3, 1);
    assert_eq!(world.faults(store.as_ref()), [(Writer::Session, 0), (Writer::Proxy, 1)]);
}

fn a_journal_cut_at_a_border_after_the_fold_is_found_by_the_count(world: World) {
    let mut store = world.whole();
    let path = world.path(Writer::Proxy);
    let bytes = fs::read(&path).unwrap();
    let first = u32::from_be_bytes(bytes[32..36].try_into().unwrap()) as usize;
    fs::write(&path, &bytes[..32 + first + 40]).unwrap();
    assert_eq!(world.faults(store.as_ref()), [(Writer::Proxy, 2)]);
    store.fold_all().unwrap();
    assert!(store.session(&world.session).unwrap().0.fault.unwrap().contains("shorter"));
    assert_eq!(world.kinds(store.as_ref()), numbered(&WHOLE));
    fs::remove_file(&path).unwrap();
    assert_eq!(world.faults(store.as_ref()), [(Writer::Proxy, 0)]);
    fs::write(&path, bytes).unwrap();
    store.fold_all().unwrap();
    assert_eq!(store.session(&world.session).unwrap().0.fault, None);
}

fn a_journal_forged_with_right_hashes_differs_from_what_was_folded(world: World) {
    let store = world.whole();
    fs::remove_file(world.path(Writer::Proxy)).unwrap();
    world.journal(Writer::Proxy, &[(20, allowed(1)), (30, allowed(2)), (40, metered(1, "m", 1))]);
    assert_eq!(world.faults(store.as_ref()), [(Writer::Proxy, 2)]);
}

#[test]
fn a_row_changed_in_the_database_is_found() {
    let world = world();
    let store = world.whole();
    let raw = rusqlite::Connection::open(world.home.database()).unwrap();
    let rewrite = |change: &dyn Fn(Writer, String) -> Option<String>| {
        let closed: Vec<u8> = raw.query_row("SELECT events FROM blocks", [], |row| row.get(0)).unwrap();
        let opened = crate::ledger::open_bundle(&closed).unwrap();
        let mut bundle = crate::ledger::Bundle::default();
        for (writer, payload) in crate::ledger::Bundled::of(&opened).map(Option::unwrap) {
            let changed = change(writer, String::from_utf8(payload.to_vec()).unwrap());
            changed.into_iter().for_each(|changed| bundle.push(writer, changed.as_bytes()));
        }
        raw.execute(
            "UPDATE blocks SET count = ?1, events = ?2",
            (i64::try_from(bundle.len()).unwrap(), bundle.close()),
        )
        .unwrap();
    };
    rewrite(&|_, payload| Some(payload.replace("no rule", "by rule")));
    assert_eq!(world.faults(store.as_ref()), [(Writer::Proxy, 2), (Writer::Proxy, 4)]);
    rewrite(&|writer, payload| Some(payload).filter(|_| writer == Writer::Session));
    assert_eq!(world.faults(store.as_ref()), [(Writer::Proxy, 1)]);
    raw.execute("UPDATE blocks SET events = x'00'", []).unwrap();
    assert_eq!(world.faults(store.as_ref()), [(Writer::Session, 1), (Writer::Proxy, 1)]);
    raw.execute("DELETE FROM blocks", []).unwrap();
    assert_eq!(world.faults(store.as_ref()), [(Writer::Session, 1), (Writer::Proxy, 1)]);
}

fn an_event_of_a_later_version_is_kept_and_named(world: World) {
    world.journal(Writer::Proxy, &[]);
    let header = crate::ledger::Header { session: world.session.clone(), writer: Writer::Proxy };
    let mut chain = crate::ledger::Chain::begin(&header);
    let payload = br#"{"seq":1,"at":7,"event":{"event":"budget_raised","by":"ada"}}"#;
    chain.follow(payload);
    let length = u32::try_from(payload.len()).unwrap();
    let parts = [&length.to_be_bytes()[..], &(!length).to_be_bytes(), payload, &chain.head().0];
    let mut bytes = fs::read(world.path(Writer::Proxy)).unwrap();
    bytes.extend(parts.concat());
    fs::write(world.path(Writer::Proxy), bytes).unwrap();
    let mut store = world.open();
    store.fold_all().unwrap();
    assert_eq!(world.kinds(store.as_ref()), numbered(&["budget_raised"]));
    let event = &store.events(&world.session).unwrap()[0];
    assert_eq!((event.event(), event.json.as_str()), (None, r#"{"event":"budget_raised","by":"ada"}"#));
}

#[test]
fn a_corrupt_database_says_where_it_is_and_how_to_rebuild_it() {
    let world = world();
    drop(world.whole());
    for part in ["-wal", "-shm"] {
        let mut name = world.home.database().into_os_string();
        name.push(part);
        let _ = fs::remove_file(name);
    }
    fs::write(world.home.database(), "this is no database, and long enough to be looked at. ".repeat(100)).unwrap();
    let message = Sqlite::open(&world.home).unwrap_err().to_string();
    assert!(message.contains(&world.home.database().display().to_string()), "{message}");
    assert!(message.contains("omni audit rebuild"), "{message}");
    let (store, _) = Sqlite::rebuild(&world.home, "old").unwrap();
    assert_eq!(world.kinds(&store), numbered(&WHOLE));
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let world = world();
    drop(world.whole());
    let raw = rusqlite::Connection::open(world.home.database()).unwrap();
    raw.execute_batch("PRAGMA user_version = 99").unwrap();
    let refusal = Sqlite::open(&world.home);
    assert!(matches!(refusal, Err(StoreError::DatabaseNewer { found: 99, known: 2, .. })), "{refusal:?}");
}

fn a_prefix_finds_a_session_and_a_wrong_one_says_what_to_do(mut world: World) {
    let nobody = world.open();
    assert!(matches!(nobody.find("last"), Err(StoreError::NoSession)));
    for (at, byte) in [(1, 0x11), (3, 0x12), (2, 0xf0)] {
        world.session = id(byte);
        world.journal(Writer::Session, &[(at, started(&world.session, 1, 1))]);
    }
    let mut store = nobody;
    store.fold_all().unwrap();
    assert_eq!(store.find("last").unwrap(), id(0x12));
    let (first, whole) = (id(0xf0).as_str()[..1].to_owned(), id(0x11).to_string());
    assert_eq!(store.find(&first).unwrap(), id(0xf0));
    assert_eq!(store.find(&first.to_uppercase()).unwrap(), id(0xf0));
    assert_eq!(store.find(&whole).unwrap(), id(0x11));
    match store.find("2") {
        Err(StoreError::AmbiguousSession { candidates, .. }) => assert_eq!(candidates, [id(0x12), id(0x11)]),
        other => panic!("{other:?}"),
    }
    let mistyped = format!("{}0", &whole[..7]);
    match store.find(&mistyped) {
        Err(StoreError::UnknownSession { nearest, .. }) => assert_eq!(nearest, Some(id(0x11))),
        other => panic!("{other:?}"),
    }
    let hostile = store.find("\u{1b}[2J").unwrap_err().to_string();
    assert!(!hostile.contains('\u{1b}') && hostile.contains("omni sessions"), "{hostile}");
}

fn spend_is_added_up_by_whatever_is_asked_for(mut world: World) {
    const DAY: i64 = 86_400_000_000;
    let mut store = world.open();
    for (byte, day) in [(1, 0), (2, 1)] {
        world.session = id(byte);
        world.journal(Writer::Session, &[(day * DAY, started(&world.session, 1, 1))]);
        let calls = [(day * DAY + 1, metered(1, "small", 10)), (day * DAY + 2, metered(2, "large", 100 * (day + 1)))];
        world.journal(Writer::Proxy, &calls);
    }
    store.fold_all().unwrap();
    let spend = |by, since| {
        let rows = store.spend(by, since).unwrap().into_iter();
        rows.map(|row| (row.key, row.calls, row.cost.0, row.usage.output)).collect::<Vec<_>>()
    };
    let row = |key: &str, calls, cost| (key.to_owned(), calls, cost, 5 * calls);
    assert_eq!(spend(SpendBy::Model, None), [row("large", 2, 300), row("small", 2, 20)]);
    assert_eq!(spend(SpendBy::Day, None), [row("1970-01-01", 2, 110), row("1970-01-02", 2, 210)]);
    assert_eq!(spend(SpendBy::User, None), [row("ada", 4, 320)]);
    assert_eq!(spend(SpendBy::Session, Some(Timestamp(DAY))), [row(id(2).as_str(), 2, 210)]);
}

fn many_that_fold_at_once_lose_and_repeat_nothing(world: World) {
    let calls: Vec<_> = (1..=200).map(|n| (n, metered(1, "m", 1))).collect();
    let (first, rest) = calls.split_at(100);
    let mut proxy = world.journal(Writer::Proxy, first);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..5 {
                    world.open().fold_all().unwrap();
                }
            });
        }
        for (at, event) in rest {
            proxy.record(Timestamp(*at), event).unwrap();
        }
    });
    let mut store = world.open();
    store.fold_all().unwrap();
    let numbers: Vec<_> = store.events(&world.session).unwrap().iter().map(|event| (event.number, event.seq)).collect();
    assert_eq!(numbers, (1..=200).map(|n| (n, n)).collect::<Vec<_>>());
    assert_eq!(store.session(&world.session).unwrap().0.cost, NanoUsd(200));
    assert_eq!(world.faults(store.as_ref()), []);
}

#[test]
fn the_write_ahead_log_stays_small_however_many_sessions_come_and_go() {
    let mut world = world();
    let log = world.home.path().join("omni.db-wal");
    let mut largest = 0;
    for byte in 1..=60 {
        world.session = id(byte);
        drop(world.whole());
        largest = largest.max(fs::metadata(&log).map_or(0, |found| found.len()));
    }
    // What one session adds on top is a fraction of that.
    assert!(largest < 2 * sqlite::LOG_BYTES_MAX, "{largest} bytes");
    assert_eq!(Sqlite::open(&world.home).unwrap().sessions().unwrap().len(), 60);
}

fn a_clock_that_went_back_does_not_reorder_a_journal(world: World) {
    world.journal(Writer::Proxy, &[(30, allowed(1)), (10, denied(2))]);
    world.journal(Writer::Session, &[(20, ended())]);
    let mut store = world.open();
    store.fold_all().unwrap();
    assert_eq!(world.kinds(store.as_ref()), numbered(&["session_ended", "request_allowed", "request_denied"]));
}

fn a_journal_larger_than_what_is_read_at_once_is_folded_whole(world: World) {
    let reason = "x".repeat(crate::ledger::PAYLOAD_BYTES_MAX - 1_000);
    let large = |n| Event::RequestFailed { request: RequestNumber(n), reason: reason.clone() };
    world.journal(Writer::Proxy, &[(1, large(1)), (2, large(2)), (3, large(3)), (4, large(4)), (5, large(5))]);
    world.journal(Writer::Session, &[(6, ended())]);
    let mut store = world.open();
    store.fold_all().unwrap();
    let summary = store.session(&world.session).unwrap().0;
    assert_eq!((summary.events, summary.requests.failed, summary.fault), (6, 5, None));
    assert_eq!(world.faults(store.as_ref()), []);
}
