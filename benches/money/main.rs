//! What holding money for a call costs, with the store on a disk and up to two hundred callers at once, and what metering a
//! long stream takes, alone and as a part of what its way through the proxy takes: `cargo bench --bench money`.
//!
//! The callers are tasks of one thread, as in a session's proxy, and the book is kept by another, which decides at once about
//! all that has come, as a session does. What lies between, a socket, is not measured here.

mod stream;

use anyhow::Context;
use omni::meter::{Admission, Dialect, Endpoint, Meter, Vendor, Wish};
use omni::model::{NanoUsd, RequestNumber, Scope, SessionId, Timestamp, Window};
use omni::policy::SpendPolicy;
use omni::store::{Account, Claim, Home, Moment, open_holds};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

const CALLERS: [u64; 4] = [1, 10, 50, 200];
/// How many calls each makes, one after the other.
const CALLS_EACH: u64 = 40;
/// Calls that the budget counts already.
const BEFORE: u64 = 10_000;
const STREAM_BYTES: usize = 100 * 1024 * 1024;

/// What a caller asks the book.
enum Word {
    Place(Claim, oneshot::Sender<Admission>),
    Settle(RequestNumber),
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn claim(request: u64) -> Claim {
    let wish = Wish { full: NanoUsd(1_000_000), least: NanoUsd(1_000), consented: false };
    let moment = Moment { at: now(), turn: RequestNumber(0) };
    Claim { request: RequestNumber(request), moment, wish, waived: BTreeSet::new(), raised: BTreeMap::new() }
}

/// Two budgets, as a session of a team may have: its own, and the month of all its user's sessions.
fn policies() -> Vec<SpendPolicy> {
    let own = SpendPolicy::budget(NanoUsd(i64::MAX / 4));
    let month = SpendPolicy { scope: Scope::User, window: Window::Month, ..own.clone() };
    vec![own, month]
}

fn account(session: u8) -> Account {
    let session = SessionId::from_entropy([session; 10]);
    Account { session, user: "ada".to_owned(), team: None, project: None, agent: "bench".to_owned() }
}

/// Keeps the book until nobody asks any more; what each transaction took for each of its calls.
fn keep(home: &Home, mut words: mpsc::UnboundedReceiver<Word>) -> anyhow::Result<()> {
    let mut book = open_holds(home, account(2))?;
    let policies = policies();
    while let Some(first) = words.blocking_recv() {
        let mut batch = vec![first];
        while let Ok(more) = words.try_recv() {
            batch.push(more);
        }
        let (mut over, mut claims, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for word in batch {
            match word {
                Word::Settle(request) => over.push((request, NanoUsd(700_000))),
                Word::Place(claim, answer) => {
                    claims.push(claim);
                    answers.push(answer);
                }
            }
        }
        // As a session does: what is over first, since it makes room, and who should be told of what is spent.
        if !over.is_empty() {
            book.settle(&over)?;
            book.budgets(&policies, Moment { at: now(), turn: RequestNumber(0) })?;
        }
        if !claims.is_empty() {
            let at = now();
            claims.iter_mut().for_each(|claim: &mut Claim| claim.moment.at = at);
            let placed = book.place(&policies, &claims)?;
            for (answer, (admission, _)) in answers.into_iter().zip(placed) {
                let _ = answer.send(admission);
            }
        }
    }
    Ok(())
}

/// Each caller's waits, one call after the other.
async fn call(words: mpsc::UnboundedSender<Word>, caller: u64) -> Vec<Duration> {
    let mut waits = Vec::new();
    for number in 0..CALLS_EACH {
        let claim = claim(caller * CALLS_EACH + number + 1);
        let request = claim.request;
        let (answers, answer) = oneshot::channel();
        let asked = Instant::now();
        if words.send(Word::Place(claim, answers)).is_err() {
            break;
        }
        match answer.await {
            Ok(Admission::Hold(_)) => waits.push(asked.elapsed()),
            _ => break,
        }
        // A model takes its time.
        tokio::time::sleep(Duration::from_millis(5 + (caller * 7 + number * 13) % 40)).await;
        let _ = words.send(Word::Settle(request));
    }
    waits
}

fn admission(callers: u64) -> anyhow::Result<()> {
    let place = tempfile::Builder::new().prefix("omni-bench").tempdir_in(env!("CARGO_MANIFEST_DIR"))?;
    let home = Home::open(&place.path().join("home"))?;
    let mut before = open_holds(&home, account(1))?;
    for request in 1..=BEFORE / 100 {
        let claims: Vec<Claim> = (0..100).map(|number| claim(request * 100 + number)).collect();
        before.place(&policies(), &claims)?;
        let over: Vec<_> = claims.iter().map(|claim| (claim.request, NanoUsd(1_000))).collect();
        before.settle(&over)?;
    }
    let (words, heard) = mpsc::unbounded_channel();
    let keeper = std::thread::spawn(move || keep(&home, heard));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let waits = runtime.block_on(async {
        let calls: Vec<_> = (0..callers).map(|caller| tokio::spawn(call(words.clone(), caller))).collect();
        drop(words);
        let mut waits = Vec::new();
        for caller in calls {
            waits.extend(caller.await.unwrap_or_default());
        }
        waits
    });
    keeper.join().ok().context("the book's thread panicked")??;
    print_waits(&format!("{callers} callers, two budgets, 10,000 calls before"), waits);
    Ok(())
}

fn print_waits(what: &str, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let part = |percent: usize| waits.get(waits.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    let (median, p95, worst) = (part(50), part(95), part(100));
    println!("{what}: {} admissions, median {median:?}, p95 {p95:?}, worst {worst:?}", waits.len());
}

/// A stream of a hundred MiB as Anthropic writes one.
fn metering() {
    let mut chunk = Vec::new();
    while chunk.len() < 16 * 1024 {
        chunk.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\
              \"text\":\"and one word after the other, as models write them\"}}\n\n",
        );
    }
    let endpoint = Endpoint { dialect: Dialect::AnthropicMessages, vendor: Vendor::Anthropic, model: None };
    let mut meter = Meter::new(endpoint);
    meter.response_head(200, "text/event-stream", None);
    let begun = Instant::now();
    let mut fed = 0;
    while fed < STREAM_BYTES {
        meter.response(&chunk);
        fed += chunk.len();
    }
    let took = begun.elapsed();
    println!("metering 100 MiB of events: {took:?}, {:.0} MiB/s", 100.0 / took.as_secs_f64());
}

fn main() -> anyhow::Result<()> {
    CALLERS.into_iter().try_for_each(admission)?;
    metering();
    stream::measure()
}
