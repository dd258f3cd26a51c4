//! What looking for placeholders and for secrets costs: `cargo bench --bench secrets`.
//!
//! A request of 100 KiB, as text of a model call and as a picture in base64, is watched with five and with five hundred
//! placeholders; an answer of 1 MiB in pieces of 16 KiB is scrubbed of as many secrets; a store with as many is opened for one.

use anyhow::Context;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use omni::policy::Shape;
use omni::proxy::{Screen, Scrub, Scrubber, Watch};
use omni::store::{Guard, Keyring, SecretStore, StoredSecret};
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

/// How long each is measured.
const SPAN: Duration = Duration::from_millis(400);
const REQUEST_BYTES: usize = 100 * 1024;
const ANSWER_BYTES: usize = 1024 * 1024;
const PIECE_BYTES: usize = 16 * 1024;
const COUNTS: [usize; 2] = [5, 500];

fn main() -> anyhow::Result<()> {
    println!("{:<28} {:>6} {:>12} {:>12}", "", "count", "each", "GiB/s");
    for (name, kind, text) in [("text", "application/json", prose()), ("picture", "application/json", picture())] {
        for count in COUNTS {
            let held: Vec<String> =
                (0..count).map(|number| Shape::OpenAi.placeholder(&number.to_string(), &[7; 96]).0).collect();
            let watch = Watch::new(held.iter().map(String::as_str)).ok().context("every placeholder has its mark")?;
            let headers: HeaderMap = [(CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect();
            let body = &text[..REQUEST_BYTES];
            let took = per_call(|| {
                let screened = Screen::new(&headers).and_then(|mut screen| screen.next(&watch, black_box(body)));
                assert!(screened.is_ok());
            });
            tell(&format!("watch a request, {name}"), count, took, REQUEST_BYTES);
            let keys: Vec<String> = (0..count).map(secret).collect();
            let scrub = Scrub::new(keys.iter().map(String::as_bytes));
            let pieces: Vec<Bytes> = text.chunks(PIECE_BYTES).map(Bytes::copy_from_slice).collect();
            let took = per_call(|| {
                let mut scrubber = Scrubber::default();
                for piece in &pieces {
                    black_box(scrubber.next(&scrub, black_box(piece)));
                }
            });
            tell(&format!("scrub an answer, {name}"), count, took, ANSWER_BYTES);
        }
    }
    COUNTS.into_iter().try_for_each(open_a_store)
}

/// A system that keeps no keys, so that the store's is in its file.
struct NoKeyring;

impl Keyring for NoKeyring {
    fn has(&self) -> bool {
        false
    }
    fn get(&self) -> Option<zeroize::Zeroizing<Vec<u8>>> {
        None
    }
    fn keep(&self, _key: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn forget(&self) {}
    fn of_desktop(&self, _store: &str) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn keep_with_desktop(&self, _store: &str, _key: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn forget_with_desktop(&self, _store: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Reads one value of a store that holds so many.
fn open_a_store(count: usize) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let mut store = SecretStore::edit(home.path())?;
    store.guard(store.new_key(Guard::File, &NoKeyring)?, &NoKeyring)?;
    for number in 0..count {
        let declared = serde_json::json!({"name": number.to_string(), "preset": "github"});
        let known = StoredSecret { declared, set_at: "2026-01-01T00:00:00Z".to_owned(), has_value: true };
        store.set(&number.to_string(), known, Some(zeroize::Zeroizing::new(secret(number))), &NoKeyring)?;
    }
    drop(store);
    let took = per_call(|| {
        let value = SecretStore::read(home.path()).and_then(|store| store.value("0", &NoKeyring));
        assert!(black_box(value).is_ok());
    });
    tell(
        "open the store for one value",
        count,
        took,
        std::fs::metadata(home.path().join("secrets"))?.len().try_into()?,
    );
    Ok(())
}

fn tell(name: &str, count: usize, took: Duration, bytes: usize) {
    let rate = bytes as f64 / took.as_secs_f64() / f64::from(1 << 30);
    println!("{name:<28} {count:>6} {took:>12.2?} {rate:>12.2}");
}

/// The shortest mean of several rounds, which other load disturbs least.
fn per_call(mut call: impl FnMut()) -> Duration {
    let begun = Instant::now();
    let mut best = Duration::MAX;
    while begun.elapsed() < SPAN {
        let round = Instant::now();
        (0..20).for_each(|_| call());
        best = best.min(round.elapsed() / 20);
    }
    best
}

/// A key like a vendor's, the same at every run.
fn secret(number: usize) -> String {
    Shape::GitHub.placeholder(&number.to_string(), &[9; 96]).0
}

/// What a model call is made of: words, code and JSON.
fn prose() -> Vec<u8> {
    let line = "{\"role\": \"user\", \"content\": \"Please look at src/main.rs:42, where `fn parse(text: &str) -> \
                Result<Vec<Token>, Error>` returns Err(Error::Eof) too early; see RFC 9110, section 8.4.\\n\"},\\n";
    line.as_bytes().iter().copied().cycle().take(ANSWER_BYTES).collect()
}

/// Bytes of no pattern, in base64.
fn picture() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(ANSWER_BYTES)
    .collect();
    BASE64_STANDARD.encode(bytes).into_bytes()[..ANSWER_BYTES].to_vec()
}
