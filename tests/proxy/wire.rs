//! HTTP/1 letter by letter: what two readers could read differently is refused, and closes its connection.

use crate::support::*;
use http::Response;
use omni::model::{Event, RefusalKind};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than any of these answers takes.
const PATIENCE: Duration = Duration::from_secs(10);

async fn upstream() -> Upstream {
    Upstream::start(&["http/1.1"], |head, _| Response::new(text(&format!("{} {}", head.method, head.uri)))).await
}

fn everything() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**"], ..Wanted::default() }
}

/// Everything that comes back for these bytes, until the proxy closes the connection.
async fn answer(proxy: &Proxy, bytes: &[u8]) -> String {
    let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
    // A proxy that has seen enough need not read the rest.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "not closed after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_readers_could_read_differently_is_refused_and_closed() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let cases = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 4\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4, 4\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n b\r\n",
        "X: a\r\n\tContent-Length: 4\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0000000000000000000000000000000000000000000000000000000000000004\r\n",
        "X: a\0b\r\n",
        "X\0: a\r\n",
        "X: a\rTransfer-Encoding: chunked\r\n",
        "X y: a\r\n",
        ": a\r\n",
    ];
    for case in cases {
        let bytes = format!("POST /a HTTP/1.1\r\nHost: api.example.com\r\n{case}\r\n{smuggled}");
        let answer = answer(&proxy, bytes.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{case:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{case:?}: {answer}");
    }
    assert_eq!(upstream.requests(), 0);
    let refused = of_kind(&proxy.stop(), "connection_refused");
    assert_eq!(refused.len(), cases.len(), "{refused:?}");
    let said = format!("{refused:?}");
    assert!(said.contains("both a Content-Length and a Transfer-Encoding") && said.contains("second line"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_line_that_is_none_is_refused_and_closed() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    for line in [
        "GET /a HTTP/1.1\nHost: api.example.com\n\n",
        "GET /a b HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET /a HTTP/3.0\r\nHost: api.example.com\r\n\r\n",
        "GET /a\r\nHost: api.example.com\r\n\r\n",
        "GET \0 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: api.example.com\r\nX: \x7f\r\n\r\n",
    ] {
        let answer = answer(&proxy, line.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line:?}: {answer}");
    }
    assert_eq!(upstream.requests(), 0);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_is_bounded() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let head = "GET /a HTTP/1.1\r\nHost: api.example.com\r\n";
    let long = format!("{head}X: {}\r\n\r\n", "a".repeat(1024 * 1024));
    let many = format!("{head}{}\r\n", "X: a\r\n".repeat(201));
    let path = format!("GET /{} HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n", "a".repeat(100_000));
    for (bytes, status) in [(&long, "431"), (&many, "431"), (&path, "414")] {
        let answer = answer(&proxy, bytes.as_bytes()).await;
        // What was still being written may have cost the answer, and then nothing was answered at all.
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) || answer.is_empty(), "{answer}");
    }
    assert_eq!(upstream.requests(), 0);
    let good = format!("{head}Connection: close\r\nX: {}\r\n\r\n", "a".repeat(200_000));
    let answered = answer(&proxy, good.as_bytes()).await;
    assert!(answered.starts_with("HTTP/1.1 "), "{answered}");
    assert_eq!(upstream.requests() + answered.matches("HTTP/1.1 431").count(), 1, "{answered}");
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_each_judged_and_answered_in_order() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* api.example.com/ok/**"], ..Wanted::default() });
    let one = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n{more}\r\n");
    let bytes = [
        one("/ok/1", ""),
        one("/no", ""),
        "POST /ok/2 HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\n\r\nGET /".to_owned(),
        "POST /ok/3 HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            .to_owned(),
        one("/ok/4", "Connection: close\r\n"),
    ];
    let answer = answer(&proxy, bytes.concat().as_bytes()).await;
    let places: Vec<_> = ["GET /ok/1", "omni refused GET", "POST /ok/2", "POST /ok/3", "GET /ok/4"]
        .iter()
        .map(|part| answer.find(part).unwrap_or_else(|| panic!("{part} in {answer}")))
        .collect();
    assert!(places.is_sorted(), "{answer}");
    assert_eq!(upstream.requests(), 4);
    assert_eq!(upstream.seen.lock().unwrap()[1].1, "GET /");
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flaw_in_a_later_request_leaves_the_earlier_ones_alone() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let bytes = "GET /1 HTTP/1.1\r\nHost: api.example.com\r\n\r\nGET /2 HTTP/1.1\r\nHost: api.example.com\r\n\
                 Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let answer = answer(&proxy, bytes.as_bytes()).await;
    assert!(answer.contains("GET /1") && answer.contains("HTTP/1.1 400 ") && !answer.contains("GET /2"), "{answer}");
    assert_eq!(upstream.requests(), 1);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_is_answered_as_it_can_read() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let answered = answer(&proxy, b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answered.starts_with("HTTP/1.0 200") || answered.starts_with("HTTP/1.1 200"), "{answered}");
    assert!(!answered.to_ascii_lowercase().contains("transfer-encoding"), "{answered}");
    assert!(answered.ends_with("GET /old"), "{answered}");
    let chunked = answer(&proxy, b"POST /old HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert!(chunked.contains(" 400 "), "{chunked}");
    assert_eq!(upstream.requests(), 1);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_url_in_a_connection_must_be_its_own() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* *.example.com/**"], ..Wanted::default() });
    for (url, host, status) in [
        ("https://api.example.com/a", "api.example.com", "200"),
        ("https://other.example.com/a", "other.example.com", "421"),
        ("https://other.example.com/a", "api.example.com", "421"),
        ("https://api.example.com/a", "other.example.com", "421"),
        ("http://api.example.com/a", "api.example.com", "400"),
    ] {
        let bytes = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = answer(&proxy, bytes.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{url} {host}: {answer}");
    }
    assert_eq!((upstream.requests(), upstream.last().0.uri.to_string()), (1, "/a".to_owned()));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leads_out_of_a_tunnel() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    for (method, more) in [
        ("CONNECT evil.example:443", "Host: evil.example:443\r\n"),
        ("CONNECT api.example.com:443", "Host: api.example.com:443\r\n"),
        ("TRACE /", "Host: api.example.com\r\n"),
        ("OPTIONS *", "Host: api.example.com\r\n"),
    ] {
        let answer = answer(&proxy, format!("{method} HTTP/1.1\r\n{more}Connection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{method}: {answer}");
    }
    let upgrade = "GET /a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close, Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    let answered = answer(&proxy, upgrade.as_bytes()).await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    let (head, _) = upstream.last();
    assert!(!head.headers.contains_key("upgrade") && !head.headers.contains_key("http2-settings"), "{head:?}");
    assert_eq!(upstream.requests(), 1);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_connect_in_a_tunnel_is_no_request() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let bytes = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n\
                 GET /a HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let answer = answer(&proxy, bytes.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    assert_eq!(upstream.requests(), 0);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_is_no_way_to_itself() {
    let wanted = Wanted { rules: &["* http://10.77.0.1:3128/**", "* 10.77.0.1/**"], ..Wanted::default() };
    let proxy = Proxy::start(None, wanted);
    let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let asked = "GET http://10.77.0.1:3128/ HTTP/1.1\r\nHost: 10.77.0.1:3128\r\nConnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("a private network"), "{answer}");
    let mut client = proxy.client("10.77.0.1").await;
    let (status, _) = told(client.send_request(request("GET", "10.77.0.1", "/", "")).await.unwrap()).await;
    assert_eq!(status, 403);
    assert_eq!(of_kind(&proxy.stop(), "request_failed").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_gateway_closes_what_cannot_be_read_on() {
    let proxy = Proxy::start(None, Wanted::default());
    for bytes in [
        "CONNECT api.example.com HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT user@api.example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT api.example.com:0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://api.example.com/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET http://api.example.com/ HTTP/1.1\nHost: a\n\n",
    ] {
        let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        assert!(read.is_ok() && answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer}");
    }
    let events = proxy.stop();
    let protocol = |event: &&Event| matches!(event, Event::ConnectionRefused { kind: RefusalKind::Protocol, .. });
    assert_eq!(events.iter().filter(protocol).count(), 2, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_connection_is_carried_neither_way() {
    let script = |_: &http::request::Parts, _: &bytes::Bytes| {
        Response::builder()
            .header("connection", "x-theirs, x-echo")
            .header("x-theirs", "1")
            .header("x-echo", REAL)
            .header("keep-alive", "timeout=5")
            .header("proxy-authenticate", "Basic")
            .header("alt-svc", "h3=\":443\"; ma=86400")
            .header("upgrade", "h2c")
            .header("x-kept", "1")
            .body(text("hello"))
            .unwrap()
    };
    let upstream = Upstream::start(&["http/1.1"], script).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let bytes = "GET /a HTTP/1.1\r\nHost: API.example.com.:443\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n\
                 Keep-Alive: 5\r\nProxy-Authorization: Basic abc\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\n\
                 X-Kept: 1\r\n\r\n";
    let answer = answer(&proxy, bytes.as_bytes()).await.to_ascii_lowercase();
    assert!(answer.contains("x-kept: 1"), "{answer}");
    for gone in ["x-theirs", "x-echo", "keep-alive", "proxy-authenticate", "alt-svc", "upgrade", REAL] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    let (head, _) = upstream.last();
    assert!(head.headers["host"] == "api.example.com" && head.headers["x-kept"] == "1", "{head:?}");
    for gone in ["x-mine", "keep-alive", "proxy-authorization", "proxy-connection", "te"] {
        assert!(!head.headers.contains_key(gone), "{gone}: {head:?}");
    }
    proxy.stop();
}
