//! Bodies that are recorded, where a person asked for it: decompressed, cut at a size, with every secret and placeholder taken
//! out before a byte is written. What passes is not changed by it.

use super::decode::{Coding, Decoder};
use super::scrub::{Scrub, Scrubber};
use crate::model::{BodySide, Event, RequestNumber};
use crate::store::BodyRecorder;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use zeroize::Zeroizing;

/// Most bytes that are kept of one body.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// So much of a body beyond them is read, that a secret at the cut is known: longer than any text that is looked for.
const BEYOND_BYTES: usize = 4 * 1024;
/// Most bytes of all bodies that are under way.
const AT_ONCE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why something of a body is missing.
const LONGER: &str = "it is longer than 1 MiB";
const MANY: &str = "too many bodies were under way at once";
const UNKNOWN_CODING: &str = "it is compressed in a way that is not known here";
const BROKEN: &str = "it is not compressed as it says";
const SILENT: &str = "it is compressed and does not say so";

/// Keeps bodies.
pub(super) struct BodyKeeper {
    file: Mutex<Box<dyn BodyRecorder>>,
    /// Finds secrets, as they are by then.
    secrets: Arc<RwLock<Arc<Scrub>>>,
    placeholders: Scrub,
    at_once: AtomicUsize,
}

/// A body on its way that is being kept.
pub(super) struct Draft {
    keeper: Arc<BodyKeeper>,
    kind: Option<String>,
    decoder: Option<Decoder>,
    /// What came so far, secrets included.
    bytes: Zeroizing<Vec<u8>>,
    missing: Option<&'static str>,
}

impl BodyKeeper {
    pub(super) fn new(file: Box<dyn BodyRecorder>, (secrets, placeholders): (Arc<RwLock<Arc<Scrub>>>, Scrub)) -> Self {
        Self { file: Mutex::new(file), secrets, placeholders, at_once: AtomicUsize::new(0) }
    }

    /// Begins with a body whose head is this.
    pub(super) fn begin(self: &Arc<Self>, headers: &HeaderMap) -> Draft {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        let values = headers.get_all(CONTENT_ENCODING).iter().map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let named = values.flat_map(|value| value.split(',')).map(str::trim);
        let codings: Vec<&str> =
            named.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")).collect();
        let (decoder, missing) = match codings.as_slice() {
            [] => (None, None),
            [name] => match Coding::named(name) {
                Some(coding) => (Some(Decoder::new(coding)), None),
                None => (None, Some(UNKNOWN_CODING)),
            },
            _ => (None, Some(UNKNOWN_CODING)),
        };
        Draft { keeper: self.clone(), kind, decoder, bytes: Zeroizing::default(), missing }
    }

    fn write(&self, body: &[u8]) -> Result<String, String> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.append(body).map_err(|why| why.to_string())
    }
}

impl Draft {
    /// Takes the next piece as it passes.
    pub(super) fn take(&mut self, piece: &[u8]) {
        if self.missing.is_some() {
            return;
        }
        let Some(mut decoder) = self.decoder.take() else { return self.add(piece) };
        match decoder.next(piece, &mut |bytes| self.add(bytes)) {
            Ok(()) => self.decoder = Some(decoder),
            Err(_) => self.missing = self.missing.or(Some(BROKEN)),
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let room = (BODY_BYTES_MAX + BEYOND_BYTES).saturating_sub(self.bytes.len());
        let taken = &bytes[..bytes.len().min(room)];
        if self.missing.is_none() && taken.len() < bytes.len() {
            self.missing = Some(LONGER);
        }
        let before = self.keeper.at_once.fetch_add(taken.len(), Ordering::Relaxed);
        if before + taken.len() > AT_ONCE_BYTES_MAX {
            self.keeper.at_once.fetch_sub(taken.len(), Ordering::Relaxed);
            self.missing = Some(MANY);
            return;
        }
        if self.bytes.capacity() - self.bytes.len() < taken.len() {
            // A vector that grows by itself leaves what it held behind.
            let mut larger = Zeroizing::new(Vec::with_capacity((self.bytes.len() + taken.len()).next_power_of_two()));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(taken);
    }

    /// Writes what there is; the fact of it, unless there was nothing.
    pub(super) fn finish(mut self, request: RequestNumber, side: BodySide) -> Option<Event> {
        if Coding::of_magic(&self.bytes).is_some() {
            // Nobody looks inside, where a secret may be.
            self.clear();
            self.missing = Some(SILENT);
        }
        let secrets = self.keeper.secrets.read().unwrap_or_else(PoisonError::into_inner).clone();
        let whole = self.missing.is_none();
        let body = scrubbed(&secrets, Bytes::copy_from_slice(&self.bytes), whole);
        let mut body = scrubbed(&self.keeper.placeholders, body.into(), whole);
        if body.len() > BODY_BYTES_MAX {
            body.truncate(BODY_BYTES_MAX);
            self.missing = self.missing.or(Some(LONGER));
        }
        if body.is_empty() && self.missing.is_none() {
            return None;
        }
        let mut missing = self.missing.map(str::to_owned);
        let sha256 = match self.keeper.write(&body) {
            Ok(sha256) => Some(sha256),
            Err(why) => {
                missing = Some(why);
                None
            }
        };
        let bytes = if sha256.is_some() { body.len() as u64 } else { 0 };
        let content_type = self.kind.take();
        Some(Event::BodyRecorded { request, side, content_type, sha256, bytes, missing })
    }

    fn clear(&mut self) {
        self.keeper.at_once.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.bytes = Zeroizing::default();
    }
}

fn scrubbed(scrub: &Scrub, body: Bytes, whole: bool) -> Vec<u8> {
    let mut scrubber = Scrubber::default();
    let mut scrubbed = scrubber.next(scrub, &body).to_vec();
    // Of a body that was cut, what may be the beginning of a secret is one.
    if whole {
        scrubbed.extend_from_slice(&scrubber.end());
    }
    scrubbed
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::SessionId;
    use crate::store::{Bodies, BodyFile, Home, Journal};

    const SECRET: &str = "sk-real-0123456789abcdef";
    const PLACEHOLDER: &str = "sk-mark-0123456789abcdef";

    struct World {
        _place: tempfile::TempDir,
        home: Home,
        session: SessionId,
        keeper: Arc<BodyKeeper>,
    }

    fn world() -> World {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        let session = SessionId::from_entropy([1; 10]);
        drop(Journal::create(&home, &session, crate::model::Writer::Proxy).unwrap());
        let file = BodyFile::create(&home, &session).unwrap();
        let secrets = Arc::new(RwLock::new(Arc::new(Scrub::new([SECRET.as_bytes()].into_iter()))));
        let scrubs = (secrets, Scrub::new([PLACEHOLDER.as_bytes()].into_iter()));
        let keeper = Arc::new(BodyKeeper::new(Box::new(file), scrubs));
        World { _place: place, home, session, keeper }
    }

    impl World {
        fn kept(&self, encoding: &str, pieces: &[&[u8]]) -> (Option<Vec<u8>>, Option<String>) {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_str(encoding).unwrap());
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            let mut draft = self.keeper.begin(&headers);
            pieces.iter().for_each(|piece| draft.take(piece));
            let finished = draft.finish(RequestNumber(1), BodySide::Response);
            assert_eq!(self.keeper.at_once.load(Ordering::Relaxed), 0);
            let Some(Event::BodyRecorded { sha256, bytes, missing, content_type, .. }) = finished else {
                return (None, None);
            };
            assert_eq!(content_type.as_deref(), Some("text/plain"));
            let body = Bodies::open(&self.home, &self.session).unwrap().read(&sha256.unwrap()).unwrap().unwrap();
            assert_eq!(body.len() as u64, bytes);
            (Some(body), missing)
        }
    }

    #[test]
    fn a_secret_is_taken_out_however_it_is_cut_into_pieces() {
        let (world, stars) = (world(), "*".repeat(SECRET.len()));
        let text = format!("a {SECRET} b {PLACEHOLDER}");
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        let expected = (Some(format!("a {stars} b {stars}").into_bytes()), None);
        assert_eq!(world.kept("identity", &[text.as_bytes()]), expected);
        assert_eq!(world.kept("", &pieces), expected);
        assert_eq!(world.kept("", &[]), (None, None));
    }

    #[test]
    fn a_long_body_is_cut_and_a_secret_at_the_cut_is_not_told() {
        let world = world();
        for at in [BODY_BYTES_MAX - 10, BODY_BYTES_MAX + BEYOND_BYTES - 10] {
            let text = [&vec![b'x'; at][..], SECRET.as_bytes(), &[b'y'; BEYOND_BYTES]].concat();
            let (body, missing) = world.kept("", &[&text]);
            let body = body.unwrap();
            assert_eq!((body.len(), missing.as_deref()), (BODY_BYTES_MAX, Some(LONGER)), "{at}");
            assert!(body.iter().all(|byte| b"x*".contains(byte)), "{at}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_written() {
        let world = world();
        let nothing = |why: &str| (Some(Vec::new()), Some(why.to_owned()));
        assert_eq!(world.kept("compress", &[SECRET.as_bytes()]), nothing(UNKNOWN_CODING));
        assert_eq!(world.kept("gzip, br", &[SECRET.as_bytes()]), nothing(UNKNOWN_CODING));
        assert_eq!(world.kept("gzip", &[b"this is no gzip"]), nothing(BROKEN));
        assert_eq!(world.kept("", &[b"\x1f\x8b\x08", SECRET.as_bytes()]), nothing(SILENT));
    }
}
