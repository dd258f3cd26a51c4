//! WebSockets: judged like requests, carried byte by byte, and read by the way where they are model calls.

use crate::support::*;
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use omni::model::{BodyEnd, Event, Pricing};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// The key of RFC 6455, section 1.3, and what accepts it.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HOST: &str = "api.example.com";

pub type Socket = TokioIo<Upgraded>;
pub type Talk = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an upstream saw: its requests' headers, and all that came over its WebSockets.
#[derive(Clone, Default)]
pub struct Witness {
    asked: Arc<Mutex<Vec<HeaderMap>>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Witness {
    pub fn asked(&self) -> Vec<HeaderMap> {
        self.asked.lock().unwrap().clone()
    }

    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }

    /// Keeps all that comes until the other side is done.
    async fn listen(&self, socket: &mut Socket) {
        let mut space = [0; 4096];
        while let Ok(count @ 1..) = socket.read(&mut space).await {
            self.heard.lock().unwrap().extend_from_slice(&space[..count]);
        }
    }
}

/// An upstream that agrees to WebSockets with these headers, and then talks.
pub async fn agreeing(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    talk: impl Fn(Socket, Witness) -> Talk + Send + Sync + 'static,
) -> (Upstream, Witness) {
    let witness = Witness::default();
    let (kept, talk) = (witness.clone(), Arc::new(talk));
    let upstream = Upstream::handled(&["h2", "http/1.1"], None, move |mut request| -> Pending {
        let (witness, talk) = (kept.clone(), talk.clone());
        Box::pin(async move {
            witness.asked.lock().unwrap().push(request.headers().clone());
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if let Ok(socket) = upgrade.await {
                    talk(TokioIo::new(socket), witness).await;
                }
            });
            let mut answer = Response::new(text(""));
            *answer.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                answer.headers_mut().append(*name, value.parse().unwrap());
            }
            answer
        })
    });
    (upstream.await, witness)
}

pub const AGREED: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-accept", ACCEPT),
    ("sec-websocket-protocol", "chat"),
];

/// An upstream that keeps what it hears.
pub async fn listener() -> (Upstream, Witness) {
    agreeing(101, AGREED, |mut socket, witness| Box::pin(async move { witness.listen(&mut socket).await })).await
}

fn rules() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**", "* api.openai.com/**"], ..Wanted::default() }
}

/// A handshake with these headers beside the host.
pub fn handshake(host: &str, path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")
}

pub fn usual() -> String {
    format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n")
}

/// Asks for a WebSocket and gives the answer's head and the stream behind it.
pub async fn open(proxy: &Proxy, host: &str, asked: &str) -> (String, TlsStream<TcpStream>) {
    let mut stream = proxy.tls(&format!("{host}:443"), host, &["http/1.1"]).await;
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), stream)
}

pub async fn opened(proxy: &Proxy, host: &str, path: &str) -> TlsStream<TcpStream> {
    let (head, stream) = open(proxy, host, &handshake(host, path, &usual())).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// The status, bytes up and down, and end of what was allowed and over.
pub fn completed(events: &[Event]) -> Vec<(u16, u64, u64, BodyEnd)> {
    let all = events.iter().filter_map(|event| match event {
        Event::RequestCompleted { status, request_bytes, response_bytes, end, .. } => {
            Some((*status, *request_bytes, *response_bytes, *end))
        }
        _ => None,
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_sides_say_passes_byte_by_byte() {
    // Nothing of it is a frame that could be read: it passes all the same, for the looking changes nothing.
    let down: Vec<u8> = (0..300_000u32).map(|number| (number * 7 % 251) as u8).collect();
    let up: Vec<u8> = (0..200_000u32).map(|number| (number * 11 % 253) as u8).collect();
    let said = down.clone();
    let (upstream, witness) = agreeing(101, AGREED, move |mut socket, witness| {
        let said = said.clone();
        Box::pin(async move {
            socket.write_all(&said).await.unwrap();
            witness.listen(&mut socket).await;
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let (head, mut stream) = open(&proxy, HOST, &handshake(HOST, "/socket?x=1", &usual())).await;
    assert!(
        head.contains("sec-websocket-protocol: chat") && head.contains(&format!("sec-websocket-accept: {ACCEPT}")),
        "{head}"
    );
    let mut heard = vec![0; down.len()];
    stream.read_exact(&mut heard).await.unwrap();
    assert!(heard == down, "what the upstream said");
    stream.write_all(&up).await.unwrap();
    stream.shutdown().await.unwrap();
    soon("the upstream heard everything", || witness.heard().len() == up.len()).await;
    assert!(witness.heard() == up, "what the client said");
    let asked = &witness.asked()[0];
    for (name, value) in
        [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", KEY), ("host", HOST)]
    {
        assert_eq!(asked[name], value, "{name}");
    }
    soon("it is settled", || !completed(&proxy.memory.events()).is_empty()).await;
    let events = proxy.stop();
    let kinds: Vec<_> = events.iter().map(Event::kind).filter(|kind| kind.starts_with("request")).collect();
    assert_eq!(kinds, ["request_allowed", "request_completed"]);
    let [(101, request_bytes, response_bytes, _)] = completed(&events)[..] else { panic!("{events:?}") };
    assert_eq!((request_bytes, response_bytes), (up.len() as u64, down.len() as u64));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_may_speak_at_once() {
    let (upstream, _witness) = agreeing(101, AGREED, |mut socket, witness| {
        Box::pin(async move {
            socket.write_all(b"\x81\x02hi").await.unwrap();
            witness.listen(&mut socket).await;
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let mut stream = opened(&proxy, HOST, "/socket").await;
    let mut first = [0; 4];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"\x81\x02hi");
    proxy.stop();
}

/// A client waits for the answer (RFC 6455, section 4.1). What comes before is the socket's where the upstream agrees, and a
/// request that is judged where it does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_before_it_is_answered_is_no_request_unjudged() {
    let (agreeing, witness) = listener().await;
    let declining = Upstream::start(&["http/1.1"], |_, _| Response::new(text("declined"))).await;
    for upstream in [&agreeing, &declining] {
        let proxy =
            Proxy::start(Some(upstream), Wanted { rules: &["GET api.example.com/socket"], ..Wanted::default() });
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
        let mut stream = proxy.tls(&format!("{HOST}:443"), HOST, &["http/1.1"]).await;
        stream.write_all((handshake(HOST, "/socket", &usual()) + smuggled).as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answers = Vec::new();
        let _ = stream.read_to_end(&mut answers).await;
        proxy.stop();
    }
    assert_eq!((witness.asked().len(), declining.requests()), (1, 1), "the upstreams were asked for /socket alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_with_the_handshake() {
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let asked = handshake(HOST, "/socket", &format!("{}X-Api-Key: {PLACEHOLDER}\r\n", usual()));
    let (head, _stream) = open(&proxy, HOST, &asked).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(witness.asked()[0]["x-api-key"], REAL);
    let misplaced = handshake(HOST, "/socket", &format!("{}X-Other: {PLACEHOLDER}\r\n", usual()));
    let (head, _stream) = open(&proxy, HOST, &misplaced).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(witness.asked().len(), 1, "the upstream saw nothing of it");
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_in_a_message_ends_the_websocket_before_it_is_whole() {
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let said = format!("{{\"key\": \"{PLACEHOLDER}\"}}");
    for first in [0x81, 0x82] {
        for size in [1, 1024] {
            let mut stream = opened(&proxy, HOST, "/socket").await;
            let mut message = frame(&said, Some([1, 2, 3, 4]));
            message[0] = first;
            for piece in message.chunks(size) {
                // It may have ended by now.
                let _ = stream.write_all(piece).await;
            }
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
    let whole = frame(&said, Some([1, 2, 3, 4]));
    let heard = witness.heard();
    assert!(!heard.windows(whole.len() - 4).any(|window| window == &whole[4..]), "it came through");
    let events = proxy.stop();
    let told = |event: &&Event| matches!(event, Event::RequestFailed { reason, .. } if reason.contains("`vendor`"));
    assert_eq!(events.iter().filter(told).count(), 4, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_no_rule_allows_is_refused() {
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["GET api.example.com/allowed"], ..Wanted::default() });
    let (head, _stream) = open(&proxy, HOST, &handshake(HOST, "/socket", &usual())).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(witness.asked().len(), 0);
    opened(&proxy, HOST, "/allowed").await;
    assert_eq!(witness.asked().len(), 1);
    assert_eq!(of_kind(&proxy.stop(), "request_denied").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_is_none_is_refused() {
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let usual = usual();
    let good = handshake(HOST, "/socket", &usual);
    for (name, asked) in [
        ("no key", good.replace(&format!("Sec-WebSocket-Key: {KEY}\r\n"), "")),
        ("a short key", good.replace(KEY, "YWJj")),
        ("two keys", handshake(HOST, "/socket", &format!("{usual}Sec-WebSocket-Key: {KEY}\r\n"))),
        ("another version", good.replace("Version: 13", "Version: 8")),
        ("no version", good.replace("Sec-WebSocket-Version: 13\r\n", "")),
        ("a Connection that does not name it", good.replace("Connection: Upgrade", "Connection: keep-alive")),
        ("something beside it", handshake(HOST, "/socket", &format!("{usual}Upgrade: h2c\r\n"))),
        ("a POST", good.replace("GET ", "POST ").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n")),
        ("a body", handshake(HOST, "/socket", &format!("{usual}Content-Length: 2\r\n")) + "hi"),
        ("a chunked body", handshake(HOST, "/socket", &format!("{usual}Transfer-Encoding: chunked\r\n")) + "0\r\n\r\n"),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0")),
    ] {
        let (head, _stream) = open(&proxy, HOST, &asked).await;
        assert!(head.contains(" 400 "), "{name}: {head}");
    }
    assert_eq!(witness.asked().len(), 0, "the upstream saw none of them");
    opened(&proxy, HOST, "/socket").await;
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_agrees_to_something_else_gets_nothing_through() {
    let cases: [(&str, &'static [(&'static str, &'static str)]); 6] = [
        ("no accept", &[("connection", "Upgrade"), ("upgrade", "websocket")]),
        (
            "another accept",
            &[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-accept", "AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ],
        ),
        ("another protocol", &[("connection", "Upgrade"), ("upgrade", "h2c"), ("sec-websocket-accept", ACCEPT)]),
        (
            "two protocols",
            &[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("upgrade", "h2c"),
                ("sec-websocket-accept", ACCEPT),
            ],
        ),
        ("no connection", &[("upgrade", "websocket"), ("sec-websocket-accept", ACCEPT)]),
        (
            "two accepts",
            &[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-accept", ACCEPT),
                ("sec-websocket-accept", ACCEPT),
            ],
        ),
    ];
    for (name, headers) in cases {
        let (upstream, witness) = agreeing(101, headers, |mut socket, witness| {
            Box::pin(async move {
                let _ = socket.write_all(b"told").await;
                witness.listen(&mut socket).await;
            })
        })
        .await;
        let proxy = Proxy::start(Some(&upstream), rules());
        let (head, mut stream) = open(&proxy, HOST, &handshake(HOST, "/socket", &usual())).await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{name}: {head}");
        // It is HTTP still, and this is none.
        let _ = stream.write_all(b"\x81\x02hi\r\n\r\n").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("told"), "{name}");
        assert_eq!(witness.heard(), b"", "{name}");
        assert_eq!(of_kind(&proxy.stop(), "request_failed").len(), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_switches_unasked_gets_nothing_through() {
    let (upstream, _witness) = agreeing(101, AGREED, |mut socket, _| {
        Box::pin(async move {
            let _ = socket.write_all(b"told").await;
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let mut client = proxy.client(HOST).await;
    let (status, body) = told(client.send_request(request("GET", HOST, "/", "")).await.unwrap()).await;
    assert_eq!(status, 502, "{body}");
    assert!(!body.contains("told"));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_declines_is_heard() {
    let (upstream, witness) = agreeing(403, &[("x-why", "no")], |_, _| Box::pin(async {})).await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let (head, _stream) = open(&proxy, HOST, &handshake(HOST, "/socket", &usual())).await;
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("x-why: no"), "{head}");
    assert_eq!(witness.asked().len(), 1);
    assert_eq!(completed(&proxy.stop()).first().map(|done| done.0), Some(403));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_offers_no_websockets_and_is_told_so() {
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let mut stream = proxy.tls(&format!("{HOST}:443"), HOST, &["h2"]).await;
    // The connection preface, and an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.unwrap();
    // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441, section 3).
    assert!(settings.chunks(6).all(|setting| setting[..2] != [0, 8]), "{settings:?}");
    assert_eq!(witness.asked().len(), 0);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_caps_what_a_websocket_carries() {
    let (upstream, witness) = listener().await;
    let proxy =
        Proxy::start(Some(&upstream), Wanted { rules: &["GET api.example.com/** upload=10"], ..Wanted::default() });
    let mut stream = opened(&proxy, HOST, "/socket").await;
    stream.write_all(b"0123456789").await.unwrap();
    soon("the upstream heard as much as may pass", || witness.heard() == b"0123456789").await;
    stream.write_all(b"more").await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    soon("it is settled", || !completed(&proxy.memory.events()).is_empty()).await;
    assert_eq!(completed(&proxy.stop()), [(101, 10, 0, BodyEnd::QuotaReached)]);
    assert_eq!(witness.heard(), b"0123456789");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tls_it_is_judged_and_carried_too() {
    let proxy = Proxy::start(None, Wanted { rules: &["GET http://api.example.com/**"], ..Wanted::default() });
    let mut stream = proxy.tunnel(&format!("{HOST}:80")).await;
    stream.write_all(handshake(HOST, "/socket", &usual()).as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    // There is no upstream here; a rule that allows it is all that is asked for.
    assert_eq!(&head, b"HTTP/1.1 502");
    let mut stream = proxy.tunnel("other.example.com:80").await;
    stream.write_all(handshake("other.example.com", "/socket", &usual()).as_bytes()).await.unwrap();
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 403");
    assert_eq!(of_kind(&proxy.stop(), "request_allowed").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_end_is_the_websockets_end() {
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let mut stream = opened(&proxy, HOST, "/socket").await;
    stream.write_all(b"\x81\x02hi").await.unwrap();
    soon("the upstream heard it", || witness.heard() == b"\x81\x02hi").await;
    let events = proxy.stop();
    assert_eq!(completed(&events), [(101, 4, 0, BodyEnd::SessionEnded)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_it_ended_is_recorded() {
    let (upstream, _witness) = agreeing(101, AGREED, |mut socket, _| {
        Box::pin(async move {
            let mut first = [0; 4];
            socket.read_exact(&mut first).await.unwrap();
            // What is dropped is closed; after a closing frame that is how it should be.
            if &first == b"\x88\x82\0\0" {
                socket.write_all(b"\x88\x02\x03\xe8").await.unwrap();
                let _ = socket.shutdown().await;
            }
        })
    })
    .await;
    for (said, end) in
        [(&b"\x88\x82\0\0\0\0\x03\xe8"[..], BodyEnd::Complete), (b"\x81\x82\0\0", BodyEnd::UpstreamBroke)]
    {
        let proxy = Proxy::start(Some(&upstream), rules());
        let mut stream = opened(&proxy, HOST, "/socket").await;
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        drop(stream);
        soon("it is settled", || !completed(&proxy.memory.events()).is_empty()).await;
        assert_eq!(completed(&proxy.stop())[0].3, end);
    }
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let mut stream = opened(&proxy, HOST, "/socket").await;
    stream.write_all(b"\x81\x02hi").await.unwrap();
    soon("the upstream heard it", || witness.heard().len() == 4).await;
    drop(stream);
    soon("it is settled", || !completed(&proxy.memory.events()).is_empty()).await;
    assert_eq!(completed(&proxy.stop()), [(101, 4, 0, BodyEnd::ClientGone)]);
}

/// A text frame of a server, or, with a mask, of a client.
pub fn frame(text: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![0x81, masked | 126];
    bytes.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend(mask.iter().flatten());
    bytes.extend(text.bytes().zip(mask.unwrap_or_default().iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The usage that was recorded: model, tokens in and out, and how it was priced.
pub fn usages(events: &[Event]) -> Vec<(String, u64, u64, Pricing)> {
    let all = events.iter().filter_map(|event| match event {
        Event::UsageMetered { model, usage, pricing, .. } => Some((model.clone(), usage.input, usage.output, *pricing)),
        _ => None,
    });
    all.collect()
}

pub fn response(id: u32, kind: &str, input: u64, output: u64) -> String {
    let usage = if kind == "created" {
        "null".to_owned()
    } else {
        format!("{{\"input_tokens\":{input},\"output_tokens\":{output}}}")
    };
    format!(
        "{{\"type\":\"response.{kind}\",\"response\":{{\"id\":\"resp_{id}\",\"model\":\"gpt-5.5\",\"usage\":{usage}}}}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn each_response_on_a_websocket_is_metered_also_where_they_take_turns() {
    let said: Vec<u8> = [
        response(1, "created", 0, 0),
        response(2, "created", 0, 0),
        response(2, "completed", 20, 2),
        response(1, "incomplete", 10, 1),
        response(3, "created", 0, 0),
    ]
    .iter()
    .flat_map(|text| frame(text, None))
    .collect();
    let (upstream, witness) = agreeing(101, AGREED, move |mut socket, witness| {
        let said = said.clone();
        Box::pin(async move {
            for part in said.chunks(17) {
                socket.write_all(part).await.unwrap();
                socket.flush().await.unwrap();
            }
            witness.listen(&mut socket).await;
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), rules());
    let mut stream = opened(&proxy, "api.openai.com", "/v1/responses").await;
    let asked = frame("{\"type\":\"response.create\",\"model\":\"gpt-5.5\",\"input\":\"hi\"}", Some([7, 8, 9, 10]));
    stream.write_all(&asked).await.unwrap();
    soon("the upstream heard it", || witness.heard() == asked).await;
    soon("two are metered", || usages(&proxy.memory.events()).len() == 2).await;
    drop(stream);
    soon("it is settled", || !completed(&proxy.memory.events()).is_empty()).await;
    let events = proxy.stop();
    let expected = [(20, 2, Pricing::Exact), (10, 1, Pricing::Exact), (0, 0, Pricing::Incomplete)];
    assert_eq!(
        usages(&events),
        expected.map(|(input, output, pricing)| ("gpt-5.5".to_owned(), input, output, pricing))
    );
}
