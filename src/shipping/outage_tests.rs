//! A place that is down for a day, in the time that a test has for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::export::SplunkPlace;
use crate::model::{Event, RequestNumber, SessionId, Writer};
use crate::shipping::target::Place;
use crate::store::{Journal, Recorder, Sqlite};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

const HOUR: i64 = 3_600_000_000;
/// What is recorded in each hour.
const HOURLY: u64 = 150;
/// In which hour the shipper dies.
const DEATH: i64 = 12;
/// How long the place is down, in hours.
const OUTAGE: i64 = 24;

/// How the place answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// It hangs up at once.
    Gone,
    /// It wants to be left alone for a day.
    Busy,
    /// It takes one batch and hangs up before it says so.
    Mute,
    Well,
}

/// What a collector has: every entry as it came.
struct Collector {
    mood: Mutex<Mood>,
    came: Mutex<Vec<u64>>,
    asked: Mutex<u64>,
}

impl Collector {
    fn start() -> (Arc<Self>, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let made = Self { mood: Mutex::new(Mood::Gone), came: Mutex::default(), asked: Mutex::default() };
        let collector = Arc::new(made);
        let own = Arc::clone(&collector);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| own.serve(stream)));
        (collector, port)
    }

    fn serve(&self, mut stream: TcpStream) {
        *self.asked.lock().unwrap() += 1;
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Gone {
            return;
        }
        let body = body(&stream);
        if mood == Mood::Busy {
            let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nretry-after: 86400\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        let events = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
        let entries = events.map(|event| event.unwrap()["event"]["entry"].as_u64().unwrap());
        self.came.lock().unwrap().extend(entries);
        if mood == Mood::Mute {
            *self.mood.lock().unwrap() = Mood::Well;
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
}

/// The body of one request.
fn body(stream: &TcpStream) -> Vec<u8> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    body
}

/// A clock that goes as fast as it is waited for; sessions go on meanwhile.
struct Days<'a> {
    home: &'a Home,
    collector: &'a Collector,
    now: Mutex<i64>,
    pauses: Mutex<Vec<Duration>>,
    died: Mutex<bool>,
}

/// Why a courier's run is at an end.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Killed,
    Over,
}

impl Days<'_> {
    fn hour(&self) -> i64 {
        *self.now.lock().unwrap() / HOUR
    }

    /// A session of this hour, from its first record to its last; it does not know of any place.
    fn record(&self, hour: i64) {
        let id = SessionId::from_entropy([u8::try_from(hour + 1).unwrap(); 10]);
        let mut journal = Journal::create(self.home, &id, Writer::Proxy).unwrap();
        for number in 1..=HOURLY {
            let event = Event::RequestFailed { request: RequestNumber(number), reason: "no answer".to_owned() };
            journal.record(Timestamp(hour * HOUR), &event).unwrap();
        }
        Sqlite::open(self.home).unwrap().fold(&id).unwrap();
    }

    fn is_delivered(&self) -> bool {
        let came: BTreeSet<_> = self.collector.came.lock().unwrap().iter().copied().collect();
        came.len() as u64 == HOURLY * u64::try_from(OUTAGE).unwrap()
    }
}

impl Clock for Days<'_> {
    fn now(&self) -> Timestamp {
        Timestamp(*self.now.lock().unwrap())
    }

    fn pause(&self, span: Duration) {
        let before = self.hour();
        *self.now.lock().unwrap() += i64::try_from(span.as_micros()).unwrap();
        self.pauses.lock().unwrap().push(span);
        for hour in before + 1..=self.hour() {
            match hour {
                8 => *self.collector.mood.lock().unwrap() = Mood::Busy,
                16 => *self.collector.mood.lock().unwrap() = Mood::Gone,
                OUTAGE => *self.collector.mood.lock().unwrap() = Mood::Mute,
                _ => {}
            }
            if hour < OUTAGE {
                self.record(hour);
            }
        }
        if self.hour() >= DEATH && !std::mem::replace(&mut self.died.lock().unwrap(), true) {
            resume_unwind(Box::new(End::Killed));
        }
        if self.is_delivered() {
            resume_unwind(Box::new(End::Over));
        }
    }
}

#[test]
fn a_place_that_is_down_for_a_day_costs_some_messages_an_hour_and_nothing_else() {
    let place = tempfile::tempdir().unwrap();
    let home = Home::open(&place.path().join("home")).unwrap();
    let (collector, port) = Collector::start();
    let clock = Days {
        home: &home,
        collector: &collector,
        now: Mutex::new(0),
        pauses: Mutex::default(),
        died: Mutex::new(false),
    };
    clock.record(0);
    let target = Target {
        name: "collector".to_owned(),
        shown: "splunk".to_owned(),
        kind: Kind::Splunk {
            place: Place { host: "127.0.0.1".to_owned(), port, tls: None },
            path: "/services/collector/event".to_owned(),
            token: TokenSource::Env("TOKEN".to_owned()),
            within: SplunkPlace { index: None, sourcetype: None },
            format: Default::default(),
        },
    };
    let told = Mutex::new(Vec::<String>::new());
    let shipment = Shipment {
        home: &home,
        targets: std::slice::from_ref(&target),
        once: false,
        read_token: &|_| Ok(Zeroizing::new("token".to_owned())),
        report: &|text| told.lock().unwrap().push(text.to_owned()),
        clock: &clock,
    };
    let run = || {
        let ended = catch_unwind(AssertUnwindSafe(|| Courier::run(&shipment, &target)));
        *ended.expect_err("a courier goes on until it is killed").downcast::<End>().expect("an end of this test's")
    };
    assert_eq!(run(), End::Killed);
    assert_eq!((clock.hour(), collector.came.lock().unwrap().len()), (DEATH, 0));
    let of_the_first = told.lock().unwrap().len();
    // Another process goes on from the mark.
    assert_eq!(run(), End::Over);

    let (came, told) = (collector.came.lock().unwrap().clone(), told.lock().unwrap().clone());
    let mut seen = BTreeSet::new();
    let firsts: Vec<_> = came.iter().copied().filter(|entry| seen.insert(*entry)).collect();
    let all = HOURLY * u64::try_from(OUTAGE).unwrap();
    assert!(firsts.into_iter().eq(0..all), "each entry, in its order");
    // What was taken without an answer came once more, and nothing else did.
    let batch = came.iter().skip(1).position(|entry| *entry == 0).expect("the batch again") as u64 + 1;
    assert_eq!(came.len() as u64, all + batch);
    assert!((1..=BATCH_ENTRIES_MAX).contains(&batch));

    let pauses = clock.pauses.lock().unwrap().clone();
    let seconds: Vec<_> = pauses.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(seconds.iter().max(), Some(&600), "no wait for a day, whoever asks for it");
    let asked = *collector.asked.lock().unwrap();
    assert!((24 * 6..24 * 60 + 100).contains(&asked), "{asked} attempts");

    let waits =
        |text: &&String| text.contains("wait in the ledger, and none is lost; it is tried again until it works");
    let waiting: Vec<u64> = told.iter().filter(waits).filter_map(|text| number_before(text, " entries wait")).collect();
    assert!((24..=24 * TOLD_MAX).contains(&waiting.len()), "{told:#?}");
    assert!(waiting.is_sorted() && waiting[0] == HOURLY && *waiting.last().unwrap() > all - 2 * HOURLY, "{waiting:?}");
    assert!(told[..of_the_first].iter().any(|text| text.contains("503")), "{told:#?}");
    let back = told.last().unwrap();
    let away = number_before(back, " s").expect(back);
    assert!(back.starts_with("collector: it works again, after ") && away >= 11 * 3_600, "{back}");
}

/// The number that stands before some words.
fn number_before(text: &str, words: &str) -> Option<u64> {
    text.split_once(words)?.0.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
