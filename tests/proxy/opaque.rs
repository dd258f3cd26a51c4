//! Connections that are not read: `tcp` rules, TLS that is passed through, the host's own ports, and SOCKS5.

use crate::support::*;
use http::Response;
use omni::model::{BodyEnd, Event, RefusalKind};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// A server that speaks first, repeats one line, and counts who came.
struct Greeter {
    port: u16,
    visits: Arc<AtomicUsize>,
    upstream: Upstream,
}

const GREETING: &[u8] = b"220 speak\r\n";

impl Greeter {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        let counted = visits.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    stream.write_all(GREETING).await.unwrap();
                    // Answers only once the client has said its last, so that half-closed connections are tried too.
                    let mut said = Vec::new();
                    let _ = stream.read_to_end(&mut said).await;
                    let _ = stream.write_all(&said).await;
                });
            }
        });
        let upstream = Upstream { address, ..https().await };
        Self { port: address.port(), visits, upstream }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

async fn https() -> Upstream {
    Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await
}

/// Waits for the greeting before it says anything, says it, and gives what comes back.
async fn talk(mut stream: TcpStream, say: &[u8]) -> Vec<u8> {
    let mut greeting = vec![0; GREETING.len()];
    if stream.read_exact(&mut greeting).await.is_err() {
        return Vec::new();
    }
    assert_eq!(greeting, GREETING);
    stream.write_all(say).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    heard
}

/// What of a connection is in the record: where it went, by which rule, bytes up and down, and its end.
fn told_of(events: &[Event]) -> Vec<(String, String, u64, u64, BodyEnd)> {
    let allowed = events.iter().filter_map(|event| match event {
        Event::RequestAllowed { request, line, rule, secrets, .. } => {
            assert!(secrets.is_empty() && line.method == "CONNECT" && line.scheme.is_opaque());
            Some((*request, format!("{}://{}:{}", line.scheme, line.host, line.port), rule.clone()))
        }
        _ => None,
    });
    let ended = |number| {
        events.iter().find_map(move |event| match event {
            Event::RequestCompleted { request, request_bytes, response_bytes, end, .. } if *request == number => {
                Some((*request_bytes, *response_bytes, *end))
            }
            _ => None,
        })
    };
    let whole = |(number, place, rule)| ended(number).map(|(up, down, end)| (place, rule, up, down, end));
    allowed.filter_map(whole).collect()
}

fn refused(events: &[Event]) -> Vec<(RefusalKind, String)> {
    let refused = |event: &Event| match event {
        Event::ConnectionRefused { kind, reason, .. } => Some((*kind, reason.clone())),
        _ => None,
    };
    events.iter().filter_map(refused).collect()
}

/// Asks the gateway for a place by SOCKS5, and gives its reply's code with the stream.
async fn socks(proxy: &Proxy, command: u8, name: &str, port: u16) -> (u8, TcpStream) {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(&[5, 1, 0]).await.unwrap();
    let mut method = [0; 2];
    stream.read_exact(&mut method).await.unwrap();
    assert_eq!(method, [5, 0]);
    let length = u8::try_from(name.len()).unwrap();
    let wish = [&[5, command, 0, 3, length][..], name.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&wish).await.unwrap();
    let mut reply = [0; 10];
    stream.read_exact(&mut reply).await.unwrap();
    (reply[1], stream)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_is_reached_by_a_tcp_rule_and_counted() {
    let greeter = Greeter::start().await;
    let rules = ["tcp://db.example.com:5432"];
    let proxy = Proxy::start(Some(&greeter.upstream), Wanted { rules: &rules, ..Wanted::default() });
    let said = format!("select {PLACEHOLDER}");
    let heard = talk(proxy.tunnel("db.example.com:5432").await, said.as_bytes()).await;
    // Nothing is swapped in what is not read.
    assert_eq!(String::from_utf8(heard).unwrap(), said);
    let (code, stream) = socks(&proxy, 1, "DB.example.com.", 5432).await;
    assert_eq!((code, talk(stream, b"abc").await), (0, b"abc".to_vec()));
    assert_eq!(greeter.visits(), 2);
    soon("both are settled", || of_kind(&proxy.memory.events(), "request_completed").len() == 2).await;
    let one = |bytes: usize| {
        let (up, down) = (bytes as u64, (bytes + GREETING.len()) as u64);
        ("tcp://db.example.com:5432".to_owned(), rules[0].to_owned(), up, down, BodyEnd::Complete)
    };
    assert_eq!(told_of(&proxy.stop()), [one(said.len()), one(3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_rule_is_of_its_host_and_port_alone() {
    let greeter = Greeter::start().await;
    let rules = ["tcp://db.example.com:5432"];
    let denials = ["tcp://*.example.org:*"];
    let wanted = Wanted { rules: &rules, denials: &denials, ..Wanted::default() };
    let proxy = Proxy::start(Some(&greeter.upstream), wanted);
    for target in ["db.example.com:5433", "other.example.com:5432", "a.db.example.com:5432", "a.example.org:5432"] {
        let said = proxy.refused_tunnel(target).await;
        assert!(said.starts_with("HTTP/1.1 403") && said.contains(&format!("no connection to {target}")), "{said}");
    }
    assert_eq!(greeter.visits(), 0);
    assert_eq!(talk(proxy.tunnel("db.example.com:5432").await, b"abc").await, b"abc");
    let events = proxy.stop();
    let by_rule = of_kind(&events, "request_denied");
    let by_none = refused(&events);
    assert_eq!((by_none.len(), by_rule.len(), greeter.visits()), (3, 1, 1), "{events:?}");
    assert!(by_none.iter().all(|(kind, why)| *kind == RefusalKind::Protocol && why.contains("--allow 'tcp://")));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_judged_where_another_rule_is_about_the_place() {
    let upstream = https().await;
    let rules = ["tcp://api.example.com:443", "tcp://api.openai.com:8443", "GET api.openai.com:8443/open"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    for (target, host, path, expected) in [
        ("api.example.com:443", "api.example.com", "/", 403),
        ("api.openai.com:8443", "api.openai.com:8443", "/shut", 403),
        ("api.openai.com:8443", "api.openai.com:8443", "/open", 200),
    ] {
        let stream = proxy.tls(target, host.split(':').next().unwrap(), &["http/1.1"]).await;
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (status, _) = told(client.send_request(request("GET", host, path, "")).await.unwrap()).await;
        assert_eq!(status, expected, "{host}{path}");
    }
    assert_eq!(upstream.requests(), 1);
    proxy.stop();
}

/// A client that trusts the real upstream and nothing else.
async fn pinned(proxy: &Proxy, upstream: &Upstream, target: &str, sni: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(upstream.ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.enable_sni = !sni.is_empty();
    let name = ServerName::try_from(if sni.is_empty() { "api.example.com" } else { sni }.to_owned()).unwrap();
    let stream = proxy.tunnel(target).await;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (status, body) = told(client.send_request(request("GET", sni, "/", "")).await.unwrap()).await;
    assert_eq!(status, 200);
    Ok(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pins_the_real_certificate_works_by_passthrough_alone() {
    let upstream = https().await;
    for (rule, works) in [("tls://api.example.com", true), ("* api.example.com/**", false)] {
        let proxy = Proxy::start(Some(&upstream), Wanted { rules: &[rule], ..Wanted::default() });
        let outcome = pinned(&proxy, &upstream, "api.example.com:443", "api.example.com").await;
        assert_eq!(outcome.as_deref().ok(), works.then_some("hello"), "{rule}");
        let events = proxy.stop();
        assert_eq!(told_of(&events).len(), usize::from(works), "{events:?}");
        if let [(place, _, up, down, _)] = told_of(&events).as_slice() {
            assert!(place == "tls://api.example.com:443" && *up > 100 && *down > 500, "{place} {up} {down}");
        }
    }
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_for_another_name_or_none_is_not_passed_through() {
    let upstream = https().await;
    let rules = ["tls://api.example.com", "tls://api.anthropic.com"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    for sni in ["api.anthropic.com", "api.openai.com", ""] {
        assert!(pinned(&proxy, &upstream, "api.example.com:443", sni).await.is_err(), "{sni}");
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 0);
    assert_eq!(pinned(&proxy, &upstream, "api.example.com:443", "api.example.com").await.unwrap(), "hello");
    let events = proxy.stop();
    let tls = refused(&events).into_iter().filter(|(kind, _)| *kind == RefusalKind::Tls).count();
    assert_eq!(tls, 3, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_refuses_requests_keeps_tls_from_being_passed_through() {
    let upstream = https().await;
    let (rules, denials) = (["tls://api.example.com"], ["POST api.example.com/**"]);
    let wanted = Wanted { rules: &rules, denials: &denials, ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    assert!(pinned(&proxy, &upstream, "api.example.com:443", "api.example.com").await.is_err());
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 0);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_hosts_own_ports_the_one_that_a_rule_names_is_reached() {
    let (listed, unlisted) = (Greeter::start().await, Greeter::start().await);
    let rule = format!("tcp://host.omni.internal:{}", listed.port);
    let proxy = Proxy::start(None, Wanted { rules: &[&rule], ..Wanted::default() });
    let target = |host: &str, port: u16| format!("{host}:{port}");
    assert_eq!(talk(proxy.tunnel(&target("host.omni.internal", listed.port)).await, b"abc").await, b"abc");
    for target in [
        target("host.omni.internal", unlisted.port),
        target("127.0.0.1", listed.port),
        target("127.0.0.1", unlisted.port),
        target("localhost", listed.port),
    ] {
        let said = proxy.refused_tunnel(&target).await;
        assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    }
    assert_eq!((listed.visits(), unlisted.visits()), (1, 0));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcp_rule_for_a_name_of_this_machine_dials_nothing() {
    let greeter = Greeter::start().await;
    let rules = [format!("tcp://localhost:{}", greeter.port), format!("tcp://127.0.0.1:{}", greeter.port)];
    let rules = [rules[0].as_str(), rules[1].as_str()];
    let proxy = Proxy::start(None, Wanted { rules: &rules, ..Wanted::default() });
    for (host, status, why) in [("localhost", 502, "does not resolve"), ("127.0.0.1", 403, "public addresses only")] {
        let said = proxy.refused_tunnel(&format!("{host}:{}", greeter.port)).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")) && said.contains(why), "{said}");
    }
    assert_eq!(greeter.visits(), 0);
    assert_eq!(of_kind(&proxy.stop(), "request_failed").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn socks_carries_what_is_judged_and_nothing_but_connect() {
    let upstream = https().await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["GET api.example.com/open"], ..Wanted::default() });
    for (path, expected) in [("/open", 200), ("/shut", 403)] {
        let (code, stream) = socks(&proxy, 1, "api.example.com", 443).await;
        assert_eq!(code, 0);
        let name = ServerName::try_from("api.example.com").unwrap();
        let stream = proxy.connector(&["http/1.1"]).connect(name, stream).await.unwrap();
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (status, _) = told(client.send_request(request("GET", "api.example.com", path, "")).await.unwrap()).await;
        assert_eq!(status, expected, "{path}");
    }
    for command in [2, 3] {
        assert_eq!(socks(&proxy, command, "api.example.com", 443).await.0, 7);
    }
    assert_eq!(socks(&proxy, 1, "no host", 443).await.0, 8);
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"\x04\x01\x01\xbb\0\0\0\x01me\0api.example.com\0").await.unwrap();
    let mut reply = [0; 8];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[..2], [0, 91]);
    let events = proxy.stop();
    let reasons: Vec<_> = refused(&events).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons[3].contains("SOCKS4") && reasons[..2].iter().all(|reason| reason.contains("only CONNECT")));
    assert_eq!(upstream.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socks_client_is_told_the_verdict_where_host_and_port_decide_it() {
    let (greeter, gone) = (Greeter::start().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let nobody = gone.local_addr().unwrap().port();
    drop(gone);
    let (own, shut) =
        (format!("tcp://host.omni.internal:{}", greeter.port), format!("tcp://host.omni.internal:{nobody}"));
    let rules = [own.as_str(), shut.as_str(), "tcp://127.0.0.1:2222"];
    let denials = ["tcp://*.example.org:*"];
    let proxy = Proxy::start(None, Wanted { rules: &rules, denials: &denials, ..Wanted::default() });
    let ask = async |host: &str, port| socks(&proxy, 1, host, port).await.0;
    assert_eq!(ask("host.omni.internal", nobody).await, 4, "there is nobody");
    assert_eq!(ask("127.0.0.1", 2222).await, 2, "an address inside");
    assert_eq!(ask("a.example.org", 22).await, 2, "a rule refuses it");
    assert_eq!(ask("a.example.com", 22).await, 2, "no rule allows it");
    let (code, stream) = socks(&proxy, 1, "host.omni.internal", greeter.port).await;
    assert_eq!((code, talk(stream, b"abc").await), (0, b"abc".to_vec()));
    let events = proxy.stop();
    let count = |kind| of_kind(&events, kind).len();
    assert_eq!(
        (count("request_failed"), count("request_denied"), count("connection_refused")),
        (2, 1, 1),
        "{events:?}"
    );
    assert_eq!(count("request_completed"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_everything_holds_for_what_is_not_read_and_looks_at_nothing() {
    let greeter = Greeter::start().await;
    let rules = ["tcp://db.example.com:5432", "tcp://other.example.com:5432"];
    let limits = ["* *:* rate=2/d", "* other.example.com:5432 download=5"];
    let proxy = Proxy::start(Some(&greeter.upstream), Wanted { rules: &rules, limits: &limits, ..Wanted::default() });
    // The server speaks first, which it could not if the client's bytes were waited for.
    assert_eq!(talk(proxy.tunnel("db.example.com:5432").await, b"abc").await, b"abc");
    assert_eq!(talk(proxy.tunnel("other.example.com:5432").await, b"abc").await, b"");
    let said = proxy.refused_tunnel("db.example.com:5432").await;
    assert!(said.starts_with("HTTP/1.1 403") && said.contains("lets no more connections through"), "{said}");
    assert_eq!(greeter.visits(), 2);
    let ends: Vec<_> = told_of(&proxy.stop()).into_iter().map(|(_, _, _, _, end)| end).collect();
    assert_eq!(ends, [BodyEnd::Complete, BodyEnd::QuotaReached]);
}
