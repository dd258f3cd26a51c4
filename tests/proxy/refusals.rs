//! What is refused: nothing leaves, the client is told why, and the record says so.

use crate::support::*;
use http::Response;
use omni::model::{Event, RefusalKind, Timestamp};
use omni::store::{Recorder, StoreError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn upstream() -> Upstream {
    Upstream::start(&["h2", "http/1.1"], |_, _| Response::new(text("hello"))).await
}

fn reasons(events: &[Event]) -> Vec<String> {
    let reason = |event: &Event| match event {
        Event::RequestDenied { reason, .. } | Event::ConnectionRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    events.iter().filter_map(reason).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_request_is_answered_with_the_rule_to_add_and_goes_nowhere() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["GET other.example.com/**"], ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    let (status, body) =
        told(client.send_request(request("GET", "api.example.com", "/a?secret=1", "")).await.unwrap()).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, body["error"]["type"].as_str().unwrap()), (403, "omni_refused"));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("omni exec --allow 'GET api.example.com/a'"), "{message}");
    let mut anthropic = proxy.client("api.anthropic.com").await;
    let (_, body) =
        told(anthropic.send_request(request("POST", "api.anthropic.com", "/v1/messages", "{}")).await.unwrap()).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &"permission_error".into()));
    assert_eq!(upstream.requests(), 0);
    let events = proxy.stop();
    assert_eq!(of_kind(&events, "request_denied").len(), 2);
    assert!(!format!("{events:?}").contains("secret=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_or_host_header_for_another_name_is_explained_and_refused() {
    let upstream = upstream().await;
    let rules = ["* api.example.com/**", "* api.anthropic.com/**"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    let stream = proxy.tls("api.example.com:443", "api.anthropic.com", &["http/1.1"]).await;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (status, body) = told(client.send_request(request("GET", "api.anthropic.com", "/", "")).await.unwrap()).await;
    assert!(status == 421 && body.contains("the name of its TLS handshake"), "{status} {body}");
    let mut client = proxy.client("api.example.com").await;
    let (status, body) = told(client.send_request(request("GET", "api.anthropic.com", "/", "")).await.unwrap()).await;
    assert!(status == 421 && body.contains("its Host header"), "{status} {body}");
    assert_eq!((upstream.requests(), of_kind(&proxy.stop(), "request_denied").len()), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_cut_after_one_byte_is_still_terminated_here() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* api.example.com/**"], ..Wanted::default() });
    let outer = proxy.tunnel("api.example.com:443").await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let (mut from_client, mut to_client) = tokio::io::split(far);
        let (mut from_proxy, mut to_proxy) = outer.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_proxy, &mut to_client).await });
        let first = from_client.read_u8().await.unwrap();
        to_proxy.write_all(&[first]).await.unwrap();
        // Long enough for the first byte to travel alone.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        tokio::io::copy(&mut from_client, &mut to_proxy).await.unwrap();
    });
    let name = ServerName::try_from("api.example.com").unwrap();
    let stream = proxy.connector(&["http/1.1"]).connect(name, near).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = client.send_request(request("GET", "api.example.com", "/", "")).await.unwrap();
    assert_eq!(told(response).await, (200, "hello".to_owned()));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_neither_tls_nor_http_are_closed() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* api.example.com/**"], ..Wanted::default() });
    for bytes in
        [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x00\x01\x02", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"NICK x y z\r\n\r\n"]
    {
        let mut stream = proxy.tunnel("api.example.com:443").await;
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{rest:?}");
    }
    let events = proxy.stop();
    let protocol = |event: &Event| matches!(event, Event::ConnectionRefused { kind: RefusalKind::Protocol, .. });
    assert_eq!((events.iter().filter(|event| protocol(event)).count(), upstream.requests()), (4, 0), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_is_not_carried_to_another_host() {
    let upstream = upstream().await;
    let rules = ["* api.example.com/**", "* api.openai.com/**"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    let mut client = proxy.client("api.openai.com").await;
    let mut asked = request("GET", "api.openai.com", "/", "");
    asked.headers_mut().insert("x-api-key", PLACEHOLDER.parse().unwrap());
    let (status, body) = told(client.send_request(asked).await.unwrap()).await;
    assert!(status == 403 && body.contains("`vendor`") && !body.contains(PLACEHOLDER), "{status} {body}");
    let asked = request("GET", "api.openai.com", &format!("/?k={PLACEHOLDER}"), "");
    client.ready().await.unwrap();
    assert_eq!(told(client.send_request(asked).await.unwrap()).await.0, 403);
    assert_eq!(upstream.requests(), 0);
    let events = proxy.stop();
    assert_eq!(of_kind(&events, "request_denied").len(), 2);
    assert!(!format!("{events:?}").contains(REAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inside_address_is_never_dialled() {
    let proxy =
        Proxy::start(None, Wanted { rules: &["* 169.254.169.254/**", "* http://127.0.0.1/**"], ..Wanted::default() });
    let mut client = proxy.client("169.254.169.254").await;
    let (status, body) =
        told(client.send_request(request("GET", "169.254.169.254", "/latest", "")).await.unwrap()).await;
    assert!(status == 403 && body.contains("metadata"), "{status} {body}");
    let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("this machine"), "{answer}");
    assert_eq!(of_kind(&proxy.stop(), "request_failed").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_nobody_vouches_for_gets_nothing() {
    let (upstream, other) = (upstream().await, upstream().await);
    let wanted = Wanted { rules: &["* api.example.com/**"], trust: Some(&other.ca_pem), ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    let mut client = proxy.client("api.example.com").await;
    let (status, body) = told(client.send_request(request("GET", "api.example.com", "/", "")).await.unwrap()).await;
    assert!(status == 502 && body.contains("does not verify") && body.contains("--upstream-ca"), "{status} {body}");
    assert_eq!((upstream.requests(), of_kind(&proxy.stop(), "request_failed").len()), (0, 1));
}

struct Full;

impl Recorder for Full {
    fn record(&mut self, _: Timestamp, event: &Event) -> Result<(), StoreError> {
        if matches!(event, Event::ProxyStarted { .. }) {
            Ok(())
        } else {
            Err(StoreError::JournalPoisoned { path: "j".into() })
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_does_not_leave() {
    let upstream = upstream().await;
    let wanted = Wanted { rules: &["* api.example.com/**"], recorder: Some(Box::new(Full)), ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    let mut client = proxy.client("api.example.com").await;
    let (status, body) = told(client.send_request(request("GET", "api.example.com", "/", "")).await.unwrap()).await;
    assert!(status == 503 && body.contains("not recorded"), "{status} {body}");
    assert_eq!(upstream.requests(), 0);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_refused_upload_still_gets_its_answer() {
    let proxy = Proxy::start(None, Wanted::default());
    let mut client = proxy.client("api.example.com").await;
    let asked = request("POST", "api.example.com", "/", &"x".repeat(2_000_000));
    assert_eq!(told(client.send_request(asked).await.unwrap()).await.0, 403);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_is_a_proxy_and_nothing_else() {
    let proxy = Proxy::start(None, Wanted::default());
    for (asked, status) in [
        ("GET / HTTP/1.1\r\nHost: 10.77.0.1:3128\r\nConnection: close\r\n\r\n", "404"),
        ("GET https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n", "400"),
        ("CONNECT api.example.com HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n", "400"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    let mut tunnel = proxy.tunnel("api.example.com:443").await;
    tunnel.write_all(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    tunnel.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 405");
    drop(tunnel);
    assert_eq!(reasons(&proxy.stop()).len(), 1);
}
