//! HTTP/2 from a client that does not keep to it, frame by frame.

use crate::support::*;
use http::{Request, Response};
use http_body_util::Full;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// What a flood may write before it fails: what sockets on both sides hold, whatever the proxy has taken of it.
const FLOOD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longer than a proxy takes to see through these.
const PATIENCE: Duration = Duration::from_secs(20);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal field without indexing and with a new name (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

fn head(authority: &str, path: &str) -> Vec<u8> {
    [field(":method", "GET"), field(":scheme", "https"), field(":authority", authority), field(":path", path)].concat()
}

async fn raw(proxy: &Proxy) -> TlsStream<TcpStream> {
    let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["h2"]).await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.unwrap();
    stream
}

/// Writes the same bytes over and over until the proxy closes; how many bytes it took.
async fn flood(stream: TlsStream<TcpStream>, mut next: impl FnMut(u32) -> Vec<u8> + Send + 'static) -> usize {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = tokio::spawn(async move { reader.read_to_end(&mut Vec::new()).await });
    let mut written = 0;
    let writing = async {
        for round in 0.. {
            let bytes = next(round);
            if reading.is_finished() || writer.write_all(&bytes).await.is_err() {
                break;
            }
            written += bytes.len();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, writing).await.expect("the proxy closes the connection");
    written
}

async fn upstream() -> Upstream {
    Upstream::start(&["h2"], |_, _| Response::new(text("hello"))).await
}

fn everything() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**"], ..Wanted::default() }
}

async fn others_still_work(proxy: &Proxy) {
    let mut client = proxy.client_h2("api.example.com").await;
    let asked = Request::get("https://api.example.com/").body(Full::<bytes::Bytes>::default()).unwrap();
    assert_eq!(told(client.send_request(asked).await.unwrap()).await, (200, "hello".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_are_cut_off() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut stream = raw(&proxy).await;
    stream.write_all(&frame(HEADERS, END_STREAM, 1, &head("api.example.com", "/"))).await.unwrap();
    let more = field("x-more", &"a".repeat(100));
    let written = flood(stream, move |_| frame(CONTINUATION, 0, 1, &more)).await;
    assert!(written < FLOOD_BYTES_MAX, "{written} bytes of headers were taken");
    let empty = raw(&proxy).await;
    let mut first = Some(frame(HEADERS, END_STREAM, 1, b""));
    let written = flood(empty, move |_| first.take().unwrap_or_else(|| frame(CONTINUATION, 0, 1, b""))).await;
    assert!(written < FLOOD_BYTES_MAX, "{written} bytes of empty headers were taken");
    assert_eq!(upstream.requests(), 0);
    others_still_work(&proxy).await;
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_only_opened_to_be_reset_end_the_connection() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let written = flood(raw(&proxy).await, |round| {
        let opened: Vec<u8> = (0..100)
            .flat_map(|one| {
                let stream = (round * 100 + one) * 2 + 1;
                let open = frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("api.example.com", "/"));
                [open, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
            })
            .collect();
        opened
    })
    .await;
    assert!(written < FLOOD_BYTES_MAX, "{written} bytes of requests were taken");
    assert!(upstream.requests() < 100, "{} requests went out", upstream.requests());
    others_still_work(&proxy).await;
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_protocol_end_the_connection() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let opened = |more: &[u8]| [head("api.example.com", "/"), more.to_vec()].concat();
    let cases = [
        frame(DATA, 0, 1, b"x"),
        frame(HEADERS, END_HEADERS, 0, &head("api.example.com", "/")),
        frame(HEADERS, END_HEADERS, 2, &head("api.example.com", "/")),
        frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(PING, 0, 0, b"short"),
        frame(SETTINGS, 0, 1, b""),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff\xff\xff\xff\xff\xff"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for case in cases {
        let mut stream = raw(&proxy).await;
        stream.write_all(&case).await.unwrap();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "still open after {case:?}");
    }
    // What is wrong with one request alone ends that request alone, before it is judged.
    for more in [field("connection", "close"), field("Upper", "x"), field("x", "a\r\nb: c"), field(":path", "/b")] {
        let mut stream = raw(&proxy).await;
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &opened(&more))).await.unwrap();
        let ping = frame(PING, 0, 0, b"12345678");
        stream.write_all(&ping).await.unwrap();
        let mut seen = Vec::new();
        let answered = async {
            while !seen.windows(8).any(|bytes| bytes == b"12345678") {
                if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.unwrap();
        assert!(!String::from_utf8_lossy(&seen).contains("hello"), "{more:?}");
    }
    assert_eq!(upstream.requests(), 0);
    others_still_work(&proxy).await;
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_for_another_host_is_refused_and_its_neighbours_are_not() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* *.example.com/**"], ..Wanted::default() });
    let mut client = proxy.client_h2("api.example.com").await;
    for (authority, status) in [
        ("api.example.com", 200),
        ("other.example.com", 421),
        ("api.example.com:443", 200),
        ("api.example.com:8443", 421),
        ("API.example.com.", 200),
        ("user@api.example.com", 400),
    ] {
        let asked = Request::get(format!("https://{authority}/")).body(Full::<bytes::Bytes>::default()).unwrap();
        assert_eq!(told(client.send_request(asked).await.unwrap()).await.0, status, "{authority}");
    }
    assert_eq!(upstream.requests(), 3);
    let mut asked = Request::get("https://api.example.com/").body(Full::<bytes::Bytes>::default()).unwrap();
    asked.headers_mut().insert("host", "other.example.com".parse().unwrap());
    assert_eq!(told(client.send_request(asked).await.unwrap()).await.0, 421);
    proxy.stop();
}

/// What came on each stream by the end of the last one: the kind of every frame, and its payload.
async fn frames_until(stream: &mut TlsStream<TcpStream>, last: u32) -> Vec<(u32, u8, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        frames.push((id, head[3], payload));
        if id == last && matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0 {
            return frames;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extended_connect_is_refused_and_its_neighbours_live() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let connect = |more: &[(&str, &str)]| {
        let authority = field(":authority", "api.example.com:443");
        let more: Vec<u8> = more.iter().flat_map(|(name, value)| field(name, value)).collect();
        [field(":method", "CONNECT"), authority, more].concat()
    };
    let extended: &[(&str, &str)] =
        &[(":protocol", "websocket"), (":scheme", "https"), (":path", "/a"), ("sec-websocket-version", "13")];
    for head_of_tunnel in [
        connect(&[]),
        connect(extended),
        connect(&[(":protocol", "connect-udp"), (":scheme", "https"), (":path", "/a")]),
    ] {
        let mut stream = raw(&proxy).await;
        stream.write_all(&frame(HEADERS, END_HEADERS, 1, &head_of_tunnel)).await.unwrap();
        stream.write_all(&frame(DATA, 0, 1, b"GET /inside HTTP/1.1\r\n\r\n")).await.unwrap();
        let neighbour = frame(HEADERS, END_STREAM | END_HEADERS, 3, &head("api.example.com", "/beside"));
        stream.write_all(&neighbour).await.unwrap();
        let frames = tokio::time::timeout(PATIENCE, frames_until(&mut stream, 3)).await.unwrap();
        let beside: Vec<u8> =
            frames.iter().filter(|each| each.0 == 3 && each.1 == DATA).flat_map(|each| each.2.clone()).collect();
        assert_eq!(String::from_utf8_lossy(&beside), "hello");
        // The index of `:status: 200` in the static table (RFC 7541, appendix A).
        let agreed = |each: &(u32, u8, Vec<u8>)| each.0 == 1 && each.1 == HEADERS && each.2.first() == Some(&0x88);
        assert!(!frames.iter().any(agreed), "{frames:?}");
        // And it is not offered: SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441, section 3).
        let settings = frames.iter().filter(|each| each.1 == SETTINGS).flat_map(|each| each.2.chunks_exact(6));
        assert!(settings.clone().all(|entry| entry[..2] != [0, 8]), "{frames:?}");
    }
    assert_eq!(upstream.requests(), 3);
    assert!(upstream.seen.lock().unwrap().iter().all(|(head, _)| head.uri.path() == "/beside"));
    proxy.stop();
}
