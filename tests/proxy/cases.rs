//! Cases of `docs/proxy-cases.md` that nothing else is about: names in odd places, requests that ask to be taken for
//! another, and answers before the answer.

use crate::stub;
use crate::support::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use omni::model::{Event, RefusalKind};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Everything that comes back for these bytes, until the proxy closes the connection.
async fn said(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn gateway(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address).await.unwrap()
}

/// An upstream without TLS that says what it was asked for.
async fn echo() -> Upstream {
    stub::plain(|_, mut stream| {
        Box::pin(async move {
            let head = stub::head(&mut stream).await;
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{head}", head.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        })
    })
    .await
}

fn visits(upstream: &Upstream) -> usize {
    upstream.connections.load(std::sync::atomic::Ordering::SeqCst)
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_in_a_tunnel_is_judged_by_where_the_tunnel_goes() {
    let upstream = echo().await;
    let wanted = Wanted { rules: &["GET http://*.example.com/**"], ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    for (host, status) in [("api.example.com", "200"), ("other.example.com", "421"), ("evil.test", "421")] {
        let mut tunnel = proxy.tunnel("api.example.com:80").await;
        let asked = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = said(&mut tunnel, asked.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
    assert_eq!(visits(&upstream), 1);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_url_with_another_host_beside_it_goes_nowhere() {
    let upstream = echo().await;
    let wanted = Wanted { rules: &["GET http://*.example.com/**"], ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    for (host, status) in
        [("api.example.com", "200"), ("API.Example.COM.:80", "200"), ("other.example.com", "421"), ("a:b:c", "400")]
    {
        let asked = format!("GET http://api.example.com/a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = said(&mut gateway(&proxy).await, asked.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
        // What goes upstream is written anew from what was judged.
        assert!(status != "200" || answer.to_lowercase().contains("\r\nhost: api.example.com\r\n"), "{answer}");
    }
    assert_eq!(visits(&upstream), 2);
    proxy.stop();
}

/// A client of TLS that trusts the session's authority, adjusted.
fn connector(proxy: &Proxy, adjust: impl FnOnce(&mut rustls::ClientConfig)) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(proxy.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    adjust(&mut config);
    TlsConnector::from(Arc::new(config))
}

async fn through(proxy: &Proxy, connector: TlsConnector, target: &str, name: &str) -> String {
    let stream = proxy.tunnel(target).await;
    let mut stream = connector.connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await.unwrap();
    let asked = format!("GET /a HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    said(&mut stream, asked.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_a_name_is_judged_by_where_it_goes() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let names = ["api.example.com", "8.8.8.8"];
    let upstream = stub::tls(
        &names,
        |_| {},
        move |_, mut stream| {
            Box::pin(async move {
                stub::head(&mut stream).await;
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            })
        },
    )
    .await;
    let wanted = Wanted { rules: &["GET api.example.com/**", "GET 8.8.8.8/**"], ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    // A name is never in the handshake with an address; its certificate bears the address, or this would not verify.
    for (target, name, status) in [
        ("8.8.8.8:443", "8.8.8.8", "200"),
        ("8.8.4.4:443", "8.8.4.4", "403"),
        ("api.example.com:443", "api.example.com", "200"),
        ("other.example.com:443", "other.example.com", "403"),
    ] {
        let nameless = connector(&proxy, |config| config.enable_sni = false);
        let answer = through(&proxy, nameless, target, name).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{target}: {answer}");
    }
    assert_eq!(visits(&upstream), 2);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_in_many_records_is_still_terminated_here() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let wanted = Wanted { rules: &["GET api.example.com/**"], ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    let crumbling = || connector(&proxy, |config| config.max_fragment_size = Some(32));
    let answer = through(&proxy, crumbling(), "api.example.com:443", "api.example.com").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = through(&proxy, crumbling(), "other.example.com:443", "other.example.com").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(upstream.requests(), 1);
    proxy.stop();
}

/// Hosts that one reader could take for `api.example.com` and another for something else.
const HOSTILE: [&str; 17] = [
    "api.example.com\0.evil.test",
    "api.example.com%00.evil.test",
    "api.example.com%2eevil.test",
    "api.example.com@evil.test",
    "evil.test@api.example.com",
    "evil.test#api.example.com",
    "evil.test?api.example.com",
    "evil.test\\api.example.com",
    "evil.test\\.api.example.com",
    "api.example.com evil.test",
    "api.example.com\tevil.test",
    "api.example.com,evil.test",
    "api.example.com;evil.test",
    "api..example.com",
    ".api.example.com",
    "[api.example.com]",
    "ápi.example.com\u{ff0e}evil.test",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_host_that_reads_in_two_ways_gets_in_at_any_entrance() {
    let upstream = echo().await;
    let rules = [
        "* http://*.example.com/**",
        "* http://*.evil.test/**",
        "* http://evil.test/**",
        "* http://api.example.com/**",
    ];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    for host in
        HOSTILE.into_iter().map(str::to_owned).chain(["a".repeat(64) + ".example.com", "a.".repeat(130) + "com"])
    {
        let by_url = format!("GET http://{host}/a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let by_header = format!("GET http://api.example.com/a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let by_connect = format!("CONNECT {host}:80 HTTP/1.1\r\nHost: {host}:80\r\n\r\n");
        for asked in [by_url, by_header, by_connect] {
            let answer = said(&mut gateway(&proxy).await, asked.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 4"), "{asked:?}: {answer}");
        }
        let Ok(length) = u8::try_from(host.len()) else { continue };
        let asked = [&[5, 1, 0, 5, 1, 0, 3, length][..], host.as_bytes(), &80_u16.to_be_bytes()].concat();
        let mut stream = gateway(&proxy).await;
        stream.write_all(&asked).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer.get(..4), Some(&[5, 0, 5, 8][..]), "{host:?}");
    }
    assert_eq!(visits(&upstream), 0);
    let good = "GET http://api.example.com/a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    assert!(said(&mut gateway(&proxy).await, good.as_bytes()).await.starts_with("HTTP/1.1 200"));
    assert_eq!(visits(&upstream), 1);
    let refused = of_kind(&proxy.stop(), "connection_refused");
    let by_socks = |event: &&Event| matches!(event, Event::ConnectionRefused { kind: RefusalKind::Protocol, .. });
    assert!(refused.iter().filter(by_socks).count() > 0, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_in_a_header_is_judged_as_the_method_too() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let rules = ["GET,POST api.example.com/**", "PUT api.example.com/a"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
    for (path, name, value, status) in [
        ("/a", "x-http-method-override", "PUT", 200),
        ("/b", "x-http-method-override", "PUT", 403),
        ("/a", "x-http-method", "delete", 403),
        ("/a", "x-method-override", "DELETE", 403),
        ("/a", "x-method-override", "PUT, DELETE", 403),
        ("/a", "x-original-url", "/b", 400),
        ("/a", "x-rewrite-url", "/b", 400),
    ] {
        let mut asked = request("POST", "api.example.com", path, "");
        asked.headers_mut().insert(name, value.parse().unwrap());
        client.ready().await.unwrap();
        let (told, body) = told(client.send_request(asked).await.unwrap()).await;
        assert_eq!(told, status, "{path} {name} {value}: {body}");
    }
    assert_eq!((upstream.requests(), upstream.last().0.method.as_str()), (1, "POST"));
    assert_eq!(of_kind(&proxy.stop(), "request_denied").len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_go_no_further_is_answered_here() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* api.example.com/**"], ..Wanted::default() });
    let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
    for (method, forwards, status) in [("OPTIONS", "0", 400), ("OPTIONS", "5", 200), ("GET", "5", 200)] {
        let mut asked = request(method, "api.example.com", "/a", "");
        asked.headers_mut().insert("max-forwards", forwards.parse().unwrap());
        client.ready().await.unwrap();
        assert_eq!(told(client.send_request(asked).await.unwrap()).await.0, status, "{method} {forwards}");
    }
    assert_eq!((upstream.requests(), upstream.last().0.headers["max-forwards"].to_str().unwrap()), (2, "4"));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hides_behind_the_length_of_a_chunk_does_not_travel() {
    let (heard, hearing) = std::sync::mpsc::channel();
    let upstream = stub::tls(
        &NAMES,
        |_| {},
        move |_, mut stream| {
            let heard = heard.clone();
            Box::pin(async move {
                let head = stub::head(&mut stream).await;
                let mut body = Vec::new();
                while !body.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut body).await.is_ok_and(|count| count > 0) {}
                heard.send((head, String::from_utf8(body).unwrap())).unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
            })
        },
    )
    .await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* api.example.com/**"], ..Wanted::default() });
    let post = |chunks: &str| {
        format!(
            "POST /a HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunks}"
        )
    };
    let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
    let answer = said(&mut stream, post("5;a=\"b\";c\r\nhello\r\n0;d\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (head, body) = hearing.recv().unwrap();
    assert!(head.starts_with("POST /a ") && !body.contains(';') && body.contains("hello"), "{head}{body}");
    for chunks in [
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
        let answer = said(&mut stream, post(chunks).as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{chunks:?}: {answer}");
    }
    proxy.stop();
    // Whatever of these reached the upstream never came to an end there.
    assert!(hearing.try_iter().all(|(_, body)| !body.ends_with("0\r\n\r\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_before_the_answer_do_not_take_its_place() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    let upstream = stub::saying(format!("{interim}HTTP/1.1 100 Continue\r\n\r\n{interim}{answer}")).await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* api.example.com/**"], ..Wanted::default() });
    let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
    let asked = request("GET", "api.example.com", "/a", "");
    assert_eq!(told(client.send_request(asked).await.unwrap()).await, (200, "hello".to_owned()));
    let mut client = proxy.client_h2::<Full<Bytes>>("api.example.com").await;
    let asked = Request::get("https://api.example.com/a").body(Full::default()).unwrap();
    let answered = client.send_request(asked).await.unwrap();
    assert_eq!(answered.status(), 200);
    assert_eq!(answered.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(of_kind(&proxy.stop(), "request_completed").len(), 2);
}
