//! What the fuzz targets call: the functions that read what strangers send, with what must hold of them whatever that is.
//!
//! Each takes any bytes, and panics where something does not hold. Their corpus is replayed as tests here, so that what
//! was found once is looked at by every build.

#![allow(clippy::expect_used)]

use super::dns::{Answer, Asked};
use super::facts::{self, Claim};
use super::frames::{Deflate, Frames, Piece};
use super::strict::Strict;
use super::{detect, socks};
use crate::model::{Host, Port, Scheme};
use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How many of the first bytes are looked at, one after the other.
const LOOKED_AT_MAX: usize = 128;

/// What a connection speaks is decided by its first bytes, and more of them do not change it.
pub fn detection(bytes: &[u8]) {
    let looks = (0..=bytes.len().min(LOOKED_AT_MAX)).map(|end| detect::classify(&bytes[..end]));
    let mut decided = None;
    for look in looks {
        assert!(decided.is_none() || decided == look, "{decided:?} became {look:?}");
        decided = look;
    }
}

/// Heads are read the same however they are cut; nothing is made of them that was not sent; and what is taken for a
/// request has one host and one path.
pub fn heads(bytes: &[u8]) {
    let whole = read_strictly(bytes, usize::MAX);
    for piece in [1, 7] {
        let cut = read_strictly(bytes, piece);
        assert_eq!(whole.1, cut.1, "cut into pieces of {piece}");
        // What is held back with a flaw is the head that has it; of trailers, what has come before it is given out.
        assert!(whole == cut || whole.1.is_some(), "cut into pieces of {piece}: {whole:?} and {cut:?}");
        given(bytes, &cut);
    }
    assert!(given(bytes, &whole) == bytes.len() || whole.1.is_some(), "something was kept back");
    serve(bytes);
}

/// How many of the bytes were given out; nothing else was, but for the byte that makes a parser give up.
fn given(bytes: &[u8], (out, flaw): &(Vec<u8>, Option<&'static str>)) -> usize {
    let sent = &out[..out.len() - usize::from(flaw.is_some())];
    assert!(bytes.starts_with(sent), "something else was given out: {out:?}");
    sent.len()
}

fn read_strictly(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<&'static str>) {
    let mut stream = Strict::new(Pieces::new(bytes, piece), false);
    let flaw = stream.flaw();
    let mut out = Vec::new();
    let reading = pin!(stream.read_to_end(&mut out));
    assert!(matches!(reading.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_))), "it ends");
    (out, flaw.get().copied())
}

/// Takes the bytes for a connection, as the proxy does, and judges each request of it.
fn serve(bytes: &[u8]) {
    let claim = Arc::new(claim());
    let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| {
        judge(&claim, request.into_parts().0);
        std::future::ready(Ok::<_, Infallible>(Response::new(String::new())))
    });
    let stream = TokioIo::new(Strict::new(Pieces::new(bytes, usize::MAX), false));
    let _ = run(super::serve::builder().serve_connection(stream, service));
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without descriptors").block_on(future)
}

fn claim() -> Claim {
    let host = Host::from(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST));
    let host = Host::parse("bench.example").unwrap_or(host);
    Claim { source: "the name asked of DNS", host, port: Port(443), scheme: Scheme::Https, other_sni: None }
}

/// What is judged of a request without a contradiction is what it says, in one form that judging does not change.
fn judge(claim: &Claim, head: http::request::Parts) {
    let Ok(judged) = facts::facts(claim, &head) else { return };
    let line = &judged.facts.line;
    assert_eq!((&line.host, line.port, line.scheme), (&claim.host, claim.port, claim.scheme));
    assert_eq!(facts::normalise_path(&line.path).as_ref(), Ok(&line.path), "a form of its own");
    let dots = line.path.split('/').any(|segment| matches!(segment, "." | ".."));
    assert!(line.path.starts_with('/') && !dots && line.path.is_ascii(), "{}", line.path);
    let query = judged.target.strip_prefix(line.path.as_str());
    assert!(query.is_some_and(|query| query.is_empty() || query.starts_with('?')), "{}", judged.target);
    if judged.facts.disagreement.is_some() {
        return;
    }
    let hosts = head.headers.get_all(http::header::HOST).iter().map(|value| value.to_str().unwrap_or_default());
    for named in hosts.chain(head.uri.authority().map(http::uri::Authority::as_str)) {
        assert_eq!(facts::parse_authority(named, claim.scheme), Some((claim.host.clone(), claim.port)), "{named}");
    }
}

/// A stream of HTTP/2 whose `:authority`, `Host` and path are three lines of the bytes.
pub fn authority(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (authority, host, path) = (lines.next(), lines.next(), lines.next());
    let uri =
        Uri::builder().scheme("https").authority(authority.unwrap_or_default()).path_and_query(path.unwrap_or(b"/"));
    let Ok(uri) = uri.build() else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    if let Some(host) = host.filter(|host| !host.is_empty()).and_then(|host| http::HeaderValue::from_bytes(host).ok()) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    judge(&claim(), request.into_parts().0);
}

/// Any answer to any question can be read as an answer to that question.
pub fn dns(bytes: &[u8]) {
    let Some(asked) = Asked::parse(bytes) else { return };
    let _ = asked.wanted();
    for answer in [Answer::Address(Ipv4Addr::LOCALHOST.into()), Answer::Empty, Answer::NoSuchName, Answer::Failed] {
        let Some(reply) = asked.reply(answer) else { continue };
        assert_eq!(reply[..2], bytes[..2], "the number of another question");
        assert!(Asked::parse(&reply).is_none(), "an answer is no question");
        assert!(hickory_proto::op::Message::from_vec(&reply).is_ok(), "an answer that nobody can read");
    }
}

/// What a SOCKS client is told, and where it is taken to go, does not depend on how its bytes are cut.
pub fn socks(bytes: &[u8]) {
    let welcome = |piece| {
        let mut stream = Pieces::new(bytes, piece);
        (run(socks::welcome(&mut stream)), stream.said())
    };
    let (outcome, said) = welcome(usize::MAX);
    assert_eq!((&outcome, &said), (&welcome(1).0, &welcome(1).1));
    if let Ok(place) = outcome {
        assert_ne!(place.port, Port(0));
        assert_eq!(said, [5, 0], "leave to speak, before the place is judged");
    }
}

/// What is read of a WebSocket's messages does not depend on how its bytes are cut. The first byte says how they are
/// compressed.
pub fn frames(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let deflate = [Deflate::Off, Deflate::Each, Deflate::Takeover][usize::from(first % 3)];
    let whole = overheard(deflate, bytes, usize::MAX);
    for piece in [1, 7] {
        let cut = overheard(deflate, bytes, piece);
        assert_eq!(whole.1, cut.1, "cut into pieces of {piece}");
        let unreadable = whole.1.1;
        assert!(unreadable || whole.0 == cut.0, "cut into pieces of {piece}: {whole:?} and {cut:?}");
    }
}

/// The text of messages, each with its end, and whether they were closed and could not be read.
fn overheard(deflate: Deflate, bytes: &[u8], piece: usize) -> (Vec<u8>, (bool, bool)) {
    const END: u8 = 0xff;
    let mut frames = Frames::new(deflate);
    let mut text = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut keep = |piece: Piece<'_>| match piece {
            Piece::Text(bytes) => text.extend_from_slice(bytes),
            Piece::Binary(_) => {}
            Piece::End => text.push(END),
        };
        frames.feed(piece, Some(&mut keep));
    }
    (text, (frames.is_closed(), frames.is_unreadable()))
}

/// A stream that gives bytes out in pieces and ends, and keeps what is written to it.
struct Pieces<'a> {
    left: &'a [u8],
    piece: usize,
    said: Arc<Mutex<Vec<u8>>>,
}

impl<'a> Pieces<'a> {
    fn new(left: &'a [u8], piece: usize) -> Self {
        Self { left, piece, said: Arc::default() }
    }

    fn said(&self) -> Vec<u8> {
        self.said.lock().map(|said| said.clone()).unwrap_or_default()
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (piece, rest) = self.left.split_at(self.left.len().min(self.piece).min(out.remaining()));
        out.put_slice(piece);
        self.left = rest;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Ok(mut said) = self.said.lock() {
            said.extend_from_slice(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fuzzing as policy;

    fn replay(target: &str, fuzz: fn(&[u8])) {
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut replayed = 0;
        for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            println!("{}", entry.path().display());
            fuzz(&bytes);
            replayed += 1;
        }
        assert!(replayed > 0, "{} holds nothing", place.display());
    }

    #[test]
    fn what_was_found_about_detection_holds() {
        replay("detection", detection);
    }

    #[test]
    fn what_was_found_about_heads_holds() {
        replay("heads", heads);
    }

    #[test]
    fn what_was_found_about_authorities_holds() {
        replay("authority", authority);
    }

    #[test]
    fn what_was_found_about_dns_holds() {
        replay("dns", dns);
    }

    #[test]
    fn what_was_found_about_socks_holds() {
        replay("socks", socks);
    }

    #[test]
    fn what_was_found_about_frames_holds() {
        replay("frames", frames);
    }

    #[test]
    fn what_was_found_about_rules_holds() {
        replay("rules", |bytes| policy::rules(&String::from_utf8_lossy(bytes)));
    }

    #[test]
    fn what_was_found_about_policy_files_holds() {
        replay("policy_file", |bytes| policy::policy_file(&String::from_utf8_lossy(bytes)));
    }
}
