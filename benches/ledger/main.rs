//! What recording costs, and what a ledger of many millions of entries answers: `cargo bench --bench ledger -- WHAT`.
//!
//!   append                        one fact into a journal
//!   fsync [WRITERS] [SECONDS]     facts that are on the disk when they are recorded, by many at once
//!   make HOME EVENTS              a ledger of a year: how fast its journals are folded and brought to rest
//!   plain HOME                    the same events as plain rows in SQLite, beside it: how fast, how large, how fast one is found
//!   ask HOME                      how long it takes to open it, to ask it and to prove an entry; what it takes on the disk
//!   verify HOME                   how fast it is verified

mod make;

use anyhow::{Context, bail, ensure};
use make::{Numbers, RARE_HOST, RARE_SECRET};
use omni::model::{Durability, NanoUsd, SessionId, Timestamp, Writer};
use omni::store::{
    Decided, Home, Journal, LedgerReport, LedgerStore, Recorder, Search, Sqlite, Store, Turn, check_files,
};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant, SystemTime};

/// How many facts are timed one by one.
const APPENDED: u64 = 100_000;
/// How often each question is asked.
const ASKED: usize = 5;
/// How many events a question is to bring.
const LIMIT: u32 = 1_000;
/// How many events are in memory at once on their way into plain rows.
const PLAIN_PAGE: u32 = 100_000;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["append"] => append(),
        ["fsync", rest @ ..] => {
            let number = |index: usize, usual: u64| rest.get(index).map_or(Ok(usual), |text| text.parse());
            fsync(number(0, 50)?, Duration::from_secs(number(1, 5)?))
        }
        ["make", home, events] => make::make(&open(home)?, events.parse()?),
        ["plain", home] => plain(&open(home)?),
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

/// The peer: the same texts as rows of a plain table with one index, 2,000 in each transaction, and a word looked for in them.
fn plain(home: &Home) -> anyhow::Result<()> {
    let place = place()?;
    let path = place.join("plain.db");
    let mut rows = rusqlite::Connection::open(&path)?;
    rows.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    rows.execute_batch(
        "CREATE TABLE log (id INTEGER PRIMARY KEY, at INTEGER, text TEXT); CREATE INDEX at ON log (at)",
    )?;
    let store = Sqlite::open(home)?;
    let (mut took, mut entry, mut requests) = (Duration::ZERO, 0, 0_u64);
    loop {
        let page = store.log(None, entry, PLAIN_PAGE)?;
        let Some(last) = page.last() else { break };
        entry = last.entry;
        requests +=
            page.iter().filter(|event| matches!(&*event.kind, "request_allowed" | "request_denied")).count() as u64;
        let started = Instant::now();
        for part in page.chunks(2_000) {
            let transaction = rows.transaction()?;
            for event in part {
                let mut insert = transaction.prepare_cached("INSERT INTO log (at, text) VALUES (?1, ?2)")?;
                insert.execute((event.at.0, &event.json))?;
            }
            transaction.commit()?;
        }
        took += started.elapsed();
    }
    println!("plain rows in SQLite: {entry} in {took:.2?}, {:.0}/s", entry as f64 / took.as_secs_f64());
    rows.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    println!("bytes for each request: plain rows {}", size_of(&path) / requests.max(1));
    let started = Instant::now();
    let text = "SELECT count(*) FROM log WHERE text LIKE ?1";
    let found: i64 = rows.query_row(text, [format!("%{RARE_HOST}%")], |row| row.get(0))?;
    println!("a rare host among plain rows: {found} events, first {:.2?}", started.elapsed());
    Ok(std::fs::remove_dir_all(place)?)
}

fn size_of(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size_of(&entry.path())).sum()
}

/// Opens it as every verb does: as after a session began, when every session is looked at, and as it is otherwise.
fn opening(home: &Home) -> anyhow::Result<()> {
    let (mut whole, mut noted) = (Vec::new(), Vec::new());
    let open = || -> anyhow::Result<Duration> {
        let started = Instant::now();
        Sqlite::open(home)?.fold_all()?;
        Ok(started.elapsed())
    };
    for _ in 0..ASKED {
        let sessions = File::open(home.sessions())?;
        sessions.set_modified(SystemTime::now() - Duration::from_secs(60))?;
        whole.push(open()?);
        noted.push(open()?);
    }
    println!("open: median {:.2?}", quantiles(noted).0);
    println!("open, with a look at every session: median {:.2?}", quantiles(whole).0);
    Ok(())
}

fn ask(home: &Home) -> anyhow::Result<()> {
    opening(home)?;
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
