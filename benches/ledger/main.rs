//! What recording costs, and what a ledger of many millions of entries answers: `cargo bench --bench ledger -- WHAT`.
//!
//!   append                        one fact into a journal
//!   fsync [WRITERS] [SECONDS]     facts that are on the disk when they are recorded, by many at once
//!   fold EVENTS                   journals into database and ledger, beside plain rows in SQLite
//!   make HOME EVENTS              a ledger of a year, whose journals are at rest
//!   ask HOME                      how long it takes to open it, to ask it and to prove an entry; what it takes on the disk
//!   verify HOME                   how fast it is verified

mod make;

use anyhow::{Context, bail, ensure};
use make::{Numbers, RARE_HOST, RARE_SECRET};
use omni::model::{Durability, NanoUsd, SessionId, Timestamp, Writer};
use omni::store::{
    Decided, Home, Journal, LedgerReport, LedgerStore, Recorder, Search, Sqlite, Store, Turn, check_files,
};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// How many facts are timed one by one.
const APPENDED: u64 = 100_000;
/// How often each question is asked.
const ASKED: usize = 5;
/// How many events a question is to bring.
const LIMIT: u32 = 1_000;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["append"] => append(),
        ["fsync", rest @ ..] => {
            let number = |index: usize, usual: u64| rest.get(index).map_or(Ok(usual), |text| text.parse());
            fsync(number(0, 50)?, Duration::from_secs(number(1, 5)?))
        }
        ["fold", events] => fold(events.parse()?),
        ["make", home, events] => {
            let started = Instant::now();
            make::make(&open(home)?, events.parse()?)?;
            println!("made and folded in {:.1?}", started.elapsed());
            Ok(())
        }
        ["ask", home] => ask(&open(home)?),
        ["verify", home] => verify(&open(home)?),
        _ => bail!("see the head of benches/ledger/main.rs for what it measures"),
    }
}

fn open(home: &str) -> anyhow::Result<Home> {
    Ok(Home::open(&PathBuf::from(home))?)
}

/// A directory beside the build, and so on a disk rather than in memory.
fn place() -> anyhow::Result<PathBuf> {
    let directory =
        std::env::current_exe()?.parent().context("a directory")?.join(format!("ledger-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    Ok(directory)
}

fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn append() -> anyhow::Result<()> {
    let place = place()?;
    let home = Home::open(&place)?;
    let mut journal = Journal::create(&home, &SessionId::from_entropy([1; 10]), Writer::Proxy)?;
    let mut numbers = Numbers::new(1);
    let mut times = Vec::new();
    for request in 1..=APPENDED {
        for event in make::request_events(&mut numbers, request, request)? {
            let started = Instant::now();
            journal.record(Timestamp(request.cast_signed()), &event)?;
            times.push(started.elapsed());
        }
    }
    let (median, p99) = quantiles(times);
    println!("append: median {median:.2?}, p99 {p99:.2?}");
    Ok(std::fs::remove_dir_all(place)?)
}

fn fsync(writers: u64, span: Duration) -> anyhow::Result<()> {
    let place = place()?;
    let home = Home::open(&place)?;
    let barrier = Barrier::new(usize::try_from(writers)?);
    let write = |number: u64| -> anyhow::Result<Vec<Duration>> {
        let session = SessionId::from_entropy([u8::try_from(number % 256)?; 10]);
        let mut journal = Journal::create(&home, &session, Writer::Proxy)?.held_to(Durability::Fsync)?;
        let (mut numbers, mut times) = (Numbers::new(number), Vec::new());
        barrier.wait();
        let started = Instant::now();
        while started.elapsed() < span {
            for event in make::request_events(&mut numbers, 1, 1)? {
                let begun = Instant::now();
                journal.record(Timestamp(1), &event)?;
                times.push(begun.elapsed());
            }
        }
        Ok(times)
    };
    let write = &write;
    let all = std::thread::scope(|scope| -> anyhow::Result<Vec<Vec<Duration>>> {
        let threads: Vec<_> = (0..writers).map(|number| scope.spawn(move || write(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a writer panicked"))).collect()
    })?;
    let times: Vec<Duration> = all.into_iter().flatten().collect();
    let rate = times.len() as f64 / span.as_secs_f64();
    let (median, p99) = quantiles(times);
    println!("fsync, {writers} writers: {rate:.0}/s, median {median:.2?}, p99 {p99:.2?}");
    Ok(std::fs::remove_dir_all(place)?)
}

fn fold(events: u64) -> anyhow::Result<()> {
    let place = place()?;
    let home = Home::open(&place.join("home"))?;
    let sessions = events.div_ceil(2_000);
    for number in 0..sessions {
        make::record(&home, number, 1_767_225_600_000_000 + number * 1_000_000_000, events / sessions)?;
    }
    let started = Instant::now();
    let mut store = Sqlite::open(&home)?;
    store.fold_all()?;
    let took = started.elapsed();
    let folded = store.log(None, 0, u32::MAX)?;
    println!(
        "fold, log and index: {} events in {took:.2?}, {:.0}/s",
        folded.len(),
        folded.len() as f64 / took.as_secs_f64()
    );
    plain_rows(&place.join("plain.db"), &folded.iter().map(|event| event.json.as_str()).collect::<Vec<_>>())?;
    Ok(std::fs::remove_dir_all(place)?)
}

/// The peer: the same texts as rows of a plain table, with one index, 2,000 in each transaction.
fn plain_rows(path: &Path, texts: &[&str]) -> anyhow::Result<()> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(
        "CREATE TABLE log (id INTEGER PRIMARY KEY, at INTEGER, text TEXT); CREATE INDEX at ON log (at)",
    )?;
    let started = Instant::now();
    for (number, part) in (0_i64..).zip(texts.chunks(2_000)) {
        let transaction = connection.transaction()?;
        for text in part {
            transaction.prepare_cached("INSERT INTO log (at, text) VALUES (?1, ?2)")?.execute((number, text))?;
        }
        transaction.commit()?;
    }
    let took = started.elapsed();
    println!("plain rows in SQLite: {} in {took:.2?}, {:.0}/s", texts.len(), texts.len() as f64 / took.as_secs_f64());
    Ok(())
}

fn size_of(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size_of(&entry.path())).sum()
}

fn ask(home: &Home) -> anyhow::Result<()> {
    let mut opened = Vec::new();
    for _ in 0..ASKED {
        let started = Instant::now();
        let mut store = Sqlite::open(home)?;
        store.fold_all()?;
        opened.push(started.elapsed());
    }
    println!("open: median {:.2?}", quantiles(opened).0);
    let mut store = Sqlite::open(home)?;
    let newest = store.search(&Search::default(), Turn::Before(u64::MAX), 1)?;
    let newest = newest.first().context("an event")?.clone();
    let middle = Timestamp(1_767_225_600_000_000 + 180 * 86_400 * 1_000_000);
    let day = Timestamp(middle.0 + 86_400 * 1_000_000);
    let any = Search::default;
    let searches = [
        ("the newest", any()),
        ("a day", Search { since: Some(middle), until: Some(day), ..any() }),
        ("the last half", Search { since: Some(middle), ..any() }),
        ("before the last half", Search { until: Some(middle), ..any() }),
        ("a session", Search { session: Some(newest.session.clone()), ..any() }),
        ("a host", Search { host: Some("host-3.svc-3.example.com".to_owned()), ..any() }),
        ("a rare host", Search { host: Some(RARE_HOST.to_owned()), ..any() }),
        ("a domain", Search { host: Some("*.example.com".to_owned()), ..any() }),
        ("no such host", Search { host: Some("nowhere.example".to_owned()), ..any() }),
        ("denied", Search { decided: Some(Decided::Denied), ..any() }),
        (
            "a host, denied",
            Search { host: Some("host-499.svc-2.example.com".to_owned()), decided: Some(Decided::Denied), ..any() },
        ),
        ("a rare secret", Search { secret: Some(RARE_SECRET.to_owned()), ..any() }),
        ("cost over $0.10", Search { cost: Some(NanoUsd(100_000_000)), ..any() }),
        ("cost over $5", Search { cost: Some(NanoUsd(5_000_000_000)), ..any() }),
        ("cost just below the most", Search { cost: Some(NanoUsd(199_900_000)), ..any() }),
        (
            "refusals that were let through",
            Search { text: Some("denied".to_owned()), decided: Some(Decided::Allowed), ..any() },
        ),
        ("two words", Search { text: Some("ledger archive".to_owned()), ..any() }),
        (
            "a host on a day",
            Search {
                host: Some("host-3.svc-3.example.com".to_owned()),
                since: Some(middle),
                until: Some(day),
                ..any()
            },
        ),
    ];
    for (name, search) in searches {
        let (mut times, mut found) = (Vec::new(), 0);
        for _ in 0..ASKED {
            let started = Instant::now();
            found = store.search(&search, Turn::Before(u64::MAX), LIMIT)?.len();
            times.push(started.elapsed());
        }
        let first = times[0];
        println!("{name}: {found} events, first {first:.2?}, median {:.2?}", quantiles(times).0);
    }
    of_a_user(home)?;
    let mut proofs = Vec::new();
    let entries = size_of(&home.ledger().join("entries")) / 64;
    store.checkpoint()?;
    for number in 0..20 {
        let started = Instant::now();
        store.receipt_of_entry(entries / 20 * number)?;
        proofs.push(started.elapsed());
    }
    println!("proof: median {:.2?}", quantiles(proofs).0);
    sizes(home, entries)
}

fn of_a_user(home: &Home) -> anyhow::Result<()> {
    let mut store = Sqlite::open(home)?;
    store.see_as(Some("user7".to_owned()));
    let started = Instant::now();
    let found = store.search(&Search::default(), Turn::Before(u64::MAX), LIMIT)?.len();
    println!("a user: {found} events, first {:.2?}", started.elapsed());
    Ok(())
}

fn sizes(home: &Home, entries: u64) -> anyhow::Result<()> {
    let connection = rusqlite::Connection::open(home.database())?;
    let requests: i64 = connection.query_row("SELECT sum(allowed + denied) FROM sessions", [], |row| row.get(0))?;
    let per = |bytes: u64| bytes as f64 / requests as f64;
    let (journals, database, ledger) = (size_of(&home.sessions()), size_of(&home.database()), size_of(&home.ledger()));
    println!(
        "{entries} entries, {requests} requests; bytes for each request: journals {:.0}, database {:.0}, ledger {:.0}",
        per(journals),
        per(database),
        per(ledger)
    );
    Ok(())
}

/// What `omni audit verify` does, and what it does with `--files`.
fn verify(home: &Home) -> anyhow::Result<()> {
    let store = Sqlite::open(home)?;
    verified("verify", || store.verify_all(&[])?.1.context("a ledger"))?;
    verified("verify by files", || check_files(home, &[])?.1.context("a ledger"))
}

fn verified(name: &str, check: impl Fn() -> anyhow::Result<LedgerReport>) -> anyhow::Result<()> {
    let started = Instant::now();
    let report = check()?;
    let took = started.elapsed();
    ensure!(report.faults.is_empty(), "{:?}", report.faults);
    println!("{name}: {} entries in {took:.2?}, {:.0}/s", report.size, report.size as f64 / took.as_secs_f64());
    Ok(())
}
