//! The way to servers: what a client is told of each thing that can be wrong with it, and companies' proxies on it.

use crate::support::*;
use http::Response;
use http_body_util::BodyExt;
use omni::model::Event;
use omni::proxy::{UpstreamProxies, UpstreamProxy};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const HOST: &str = "api.example.com";

/// A TLS server's side with a certificate for this name until this year, and the root that vouches for it.
fn acceptor(name: &str, until: i32) -> (TlsAcceptor, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Each root is somebody else, as roots are.
    static ROOTS: AtomicUsize = AtomicUsize::new(0);
    let named = format!("root {}", ROOTS.fetch_add(1, Ordering::Relaxed));
    ca.distinguished_name.push(DnType::CommonName, named);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let (issuer, key) = (Issuer::new(ca, ca_key), KeyPair::generate().unwrap());
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    leaf.not_after = rcgen::date_time_ymd(until, 1, 1);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![leaf.der().clone()], key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}

/// A server that does this with each connection.
async fn doing<F, D>(ca_pem: String, act: D) -> Upstream
where
    D: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream { address: listener.local_addr().unwrap(), ca_pem, ..hello().await };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream));
        }
    });
    upstream
}

async fn hello() -> Upstream {
    Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await
}

/// A server with a certificate that says this in TLS.
async fn saying(name: &str, until: i32, said: &'static [u8]) -> Upstream {
    let (acceptor, ca_pem) = acceptor(name, until);
    doing(ca_pem, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(said).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// What a client is told: the status, the word in the head and the one in the body, and the words for a person.
async fn told_of(proxy: &Proxy) -> (u16, String, String, String) {
    let mut client = proxy.client(HOST).await;
    let response = client.send_request(request("GET", HOST, "/", "")).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let cause = head.headers.get("x-omni-cause").map_or("", |value| value.to_str().unwrap()).to_owned();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let part = |name: &str| body["error"][name].as_str().unwrap_or_default().to_owned();
    (head.status.as_u16(), cause, part("code"), part("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cause_is_told_by_its_own_word() {
    let (_, another_root) = acceptor(HOST, 2120);
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refusing = Upstream { address: gone, ..hello().await };
    // Once the connection stands, so that it is the handshake that breaks.
    let resetting = doing(another_root.clone(), |mut stream| async move {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.set_zero_linger();
    });
    let plain = doing(another_root.clone(), |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let good = saying(HOST, 2120, b"").await;
    let stranger = Upstream { ca_pem: another_root.clone(), ..saying(HOST, 2120, b"").await };
    let cases = [
        ("dns", None, "does not resolve"),
        ("connection_refused", Some(refusing), "no connection to"),
        ("connection_reset", Some(resetting.await), "TLS handshake"),
        ("connection_reset", Some(good), "broke off"),
        ("tls", Some(plain.await), "TLS handshake"),
        ("protocol", Some(saying(HOST, 2120, b"not a line of HTTP\r\n\r\n").await), "broke off"),
        ("certificate_expired", Some(saying(HOST, 2020, b"").await), "does not verify"),
        ("certificate_wrong_name", Some(saying("other.example.com", 2120, b"").await), "does not verify"),
        ("certificate_unknown_root", Some(stranger), "--upstream-ca"),
    ];
    for (cause, upstream, words) in cases {
        let wanted = Wanted { rules: &["* api.example.com/**"], ..Wanted::default() };
        let proxy = Proxy::start(upstream.as_ref(), wanted);
        let (status, in_head, in_body, message) = told_of(&proxy).await;
        assert_eq!((status, in_head.as_str(), in_body.as_str()), (502, cause, cause), "{message}");
        assert!(message.contains(words), "{cause}: {message}");
        let failed = of_kind(&proxy.stop(), "request_failed");
        let [Event::RequestFailed { reason, .. }] = failed.as_slice() else { panic!("{cause}: {failed:?}") };
        assert!(message.ends_with(reason), "{message} / {reason}");
    }
}

/// A company's proxy: it lets through whoever has the password, to one server wherever they want to go.
struct Company {
    address: SocketAddr,
    /// The first line and the login of each wish.
    asked: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Company {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, server, kept.clone()));
            }
        });
        Self { address, asked }
    }

    /// The way by it, with this password.
    fn by(&self, password: &str, except: &str) -> UpstreamProxies {
        let url = format!("http://me:{password}@{}", self.address);
        let proxy = UpstreamProxy::parse(&url).unwrap().excepting(except);
        UpstreamProxies { https: Some(proxy.clone()), http: Some(proxy) }
    }

    fn asked(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn pass_on(mut stream: TcpStream, server: SocketAddr, asked: Arc<Mutex<Vec<(String, bool)>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    // me:p@ss
    let known = head.to_ascii_lowercase().contains(&"Proxy-Authorization: Basic bWU6cEBzcw==\r\n".to_ascii_lowercase());
    let line = head.lines().next().unwrap().to_owned();
    asked.lock().unwrap().push((line.clone(), known));
    let _ = match (known, line.starts_with("CONNECT ")) {
        (false, _) => stream.write_all(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n").await,
        (true, false) => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await,
        (true, true) => {
            let mut upstream = TcpStream::connect(server).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connected\r\nvia: company\r\n\r\n").await.unwrap();
            tokio::io::copy_bidirectional(&mut stream, &mut upstream).await.map(drop)
        }
    };
}

fn through<'a>(proxies: UpstreamProxies, rules: &'a [&'a str]) -> Wanted<'a> {
    Wanted { rules, upstream_proxies: proxies, without_rewriting: true, ..Wanted::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companys_proxy_is_asked_with_its_login_and_sees_names_alone() {
    let upstream = hello().await;
    let company = Company::start(upstream.address).await;
    let rules = ["* api.example.com/**", "* http://api.example.com/**"];
    let proxy = Proxy::start(Some(&upstream), through(company.by("p%40ss", ""), &rules));
    let mut client = proxy.client(HOST).await;
    let answer = told(client.send_request(request("GET", HOST, "/secret", "")).await.unwrap()).await;
    assert_eq!(answer, (200, "hello".to_owned()));
    assert_eq!(company.asked(), [("CONNECT api.example.com:443 HTTP/1.1".to_owned(), true)]);
    // Plain requests are told whole, as there is nothing to keep from it.
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let asked = "GET http://api.example.com/a?b HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("plain"), "{answer}");
    assert_eq!(company.asked(), [("GET http://api.example.com/a?b HTTP/1.1".to_owned(), true)]);
    assert_eq!(upstream.requests(), 1);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_companys_proxy_that_says_no_is_the_cause() {
    let upstream = hello().await;
    let company = Company::start(upstream.address).await;
    let proxy = Proxy::start(Some(&upstream), through(company.by("wrong", ""), &["* api.example.com/**"]));
    let (status, cause, code, message) = told_of(&proxy).await;
    assert_eq!((status, cause.as_str(), code.as_str()), (502, "upstream_proxy", "upstream_proxy"));
    assert!(message.contains("does not take the user and password (407)") && !message.contains("wrong"), "{message}");
    assert_eq!(upstream.requests(), 0);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_excepted_or_inside_is_not_asked_of_a_companys_proxy() {
    let upstream = hello().await;
    let company = Company::start(upstream.address).await;
    let rules = ["* api.example.com/**", "* 10.1.2.3/**", "* localhost/**", "* api.openai.com/**"];
    let proxy = Proxy::start(Some(&upstream), through(company.by("p%40ss", "localdomain,.example.com"), &rules));
    // Straight, where nothing resolves it.
    assert_eq!(told_of(&proxy).await.1, "dns");
    for (host, expected) in [("10.1.2.3", 403), ("localhost", 502)] {
        let mut client = proxy.client(host).await;
        let (status, body) = told(client.send_request(request("GET", host, "/", "")).await.unwrap()).await;
        assert_eq!(status, expected, "{host}: {body}");
    }
    assert_eq!(company.asked(), []);
    let mut client = proxy.client("api.openai.com").await;
    let answer = told(client.send_request(request("GET", "api.openai.com", "/", "")).await.unwrap()).await;
    assert_eq!((answer.0, company.asked().len()), (200, 1), "{}", answer.1);
    proxy.stop();
}
