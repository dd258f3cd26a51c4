//! A whole proxy on this machine, an upstream it believes in, and clients that believe in it.

#[path = "../schema/mod.rs"]
mod schema;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use omni::meter::{ModelHosts, PriceTable};
use omni::model::{Durability, Event, HostName, Placeholder, Port, Secret, SessionId};
use omni::policy::{
    Approval, Binding, Effect, HostKeys, Level, Mode, Place, Policy, RuleSource, SessionFacts, Site, WrittenRule,
};
use omni::proxy::{Authority, Gateway, Listeners, Quiet, ResolverConfig, Roots, Setup, UpstreamProxies};
use omni::store::{Memory, Recorder};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub const PLACEHOLDER: &str = "sk-placeholder-ZXepeqer0123456789ab";
pub const REAL: &str = "sk-real-9876543210";
pub const NAMES: [&str; 3] = ["api.example.com", "api.anthropic.com", "api.openai.com"];

pub type Seen = Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>;
pub type Answer = Response<Channel>;
pub type Pending = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>) -> Pending + Send + Sync>;

/// A body that a test feeds frame by frame.
pub struct Channel(mpsc::Receiver<Result<Frame<Bytes>, std::io::Error>>);

pub type Feed = mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>;

pub fn channel() -> (Feed, Channel) {
    let (feed, body) = mpsc::channel(8);
    (feed, Channel(body))
}

pub fn text(text: &str) -> Channel {
    let (feed, body) = channel();
    feed.try_send(Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))).unwrap();
    body
}

impl Body for Channel {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx)
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// An authority of its own, a certificate of it for these names, and its key.
pub fn issued(names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> (String, Certificate, KeyPair) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut leaf = CertificateParams::new(names).unwrap();
    adjust(&mut leaf);
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    (ca_pem, leaf, key)
}

/// An authority of its own, and a server's settings with a certificate of it for these names.
pub fn certified(
    names: &[&str],
    protocols: &[&str],
    adjust: impl FnOnce(&mut CertificateParams),
) -> (String, ServerConfig) {
    let (ca_pem, leaf, key) = issued(names, adjust);
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    (ca_pem, config)
}

/// A TLS upstream on 127.0.0.1 that answers by a script and remembers what it saw.
pub struct Upstream {
    pub address: SocketAddr,
    pub ca_pem: String,
    pub seen: Seen,
    pub connections: Arc<AtomicUsize>,
}

impl Upstream {
    pub async fn start(
        protocols: &[&str],
        script: impl Fn(&http::request::Parts, &Bytes) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let (seen, script) = (Seen::default(), Arc::new(script));
        let kept = seen.clone();
        let handler = move |request: Request<Incoming>| -> Pending {
            let (seen, script) = (kept.clone(), script.clone());
            Box::pin(async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let answer = script(&head, &body);
                seen.lock().unwrap().push((head, body));
                answer
            })
        };
        Self { seen, ..Self::handled(protocols, None, handler).await }
    }

    /// An upstream that gets its requests before their bodies, and takes so many at a time over HTTP/2.
    pub async fn handled(
        protocols: &[&str],
        streams_max: Option<u32>,
        handler: impl Fn(Request<Incoming>) -> Pending + Send + Sync + 'static,
    ) -> Self {
        let (ca_pem, config) = certified(&NAMES, protocols, |_| {});
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let serving =
            serve(listener, TlsAcceptor::from(Arc::new(config)), connections.clone(), streams_max, Arc::new(handler));
        tokio::spawn(serving);
        Self { address, ca_pem, seen: Seen::default(), connections }
    }

    pub fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn last(&self) -> (http::request::Parts, Bytes) {
        self.seen.lock().unwrap().last().cloned().unwrap()
    }
}

async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: Arc<AtomicUsize>,
    streams_max: Option<u32>,
    handler: Handler,
) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        let (acceptor, handler) = (acceptor.clone(), handler.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = handler(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let mut builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            builder.http2().max_concurrent_streams(streams_max);
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

/// A running proxy and what it recorded.
pub struct Proxy {
    pub address: SocketAddr,
    pub dns: SocketAddr,
    pub memory: Memory,
    ca_pem: String,
    shutdown: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// What a test wants of its proxy.
pub struct Wanted<'a> {
    pub rules: &'a [&'a str],
    pub trust: Option<&'a str>,
    pub recorder: Option<Box<dyn Recorder>>,
    pub secret_host: &'a str,
    /// The place that its secret goes to, unless that is the header `x-api-key`.
    pub place: Option<Place>,
    /// How long the session has lasted already.
    pub age: Duration,
    pub amendments: Option<std::os::fd::OwnedFd>,
    /// Whether money is held for model calls, by whoever is at the other end of the line.
    pub funded: bool,
    /// Whoever reads the secret anew, which is then done for each request.
    pub keeper: Option<UnixStream>,
    pub denials: &'a [&'a str],
    pub limits: &'a [&'a str],
    pub upstream_proxies: UpstreamProxies,
    /// Whether nothing is sent straight to the upstream.
    pub without_rewriting: bool,
}

impl Default for Wanted<'_> {
    fn default() -> Self {
        let (trust, recorder, amendments, keeper) = (None, None, None, None);
        let (rules, denials, limits): (&[&str], &[&str], &[&str]) = (&[], &[], &[]);
        Self {
            rules,
            trust,
            recorder,
            secret_host: "api.example.com",
            place: None,
            age: Duration::ZERO,
            amendments,
            funded: false,
            keeper,
            denials,
            limits,
            upstream_proxies: UpstreamProxies::default(),
            without_rewriting: false,
        }
    }
}

impl Proxy {
    pub fn start(upstream: Option<&Upstream>, wanted: Wanted<'_>) -> Self {
        let session = SessionId::from_entropy([9; 10]);
        let effects = [(Effect::Allow, wanted.rules), (Effect::Deny, wanted.denials), (Effect::Limit, wanted.limits)];
        let place = wanted.place.clone().unwrap_or_else(|| Place::Header("x-api-key".to_owned()));
        let written = |(effect, texts): &(Effect, &[&str])| {
            texts.iter().map(|text| WrittenRule::alone(*effect, text)).collect::<Vec<_>>()
        };
        let rules: Vec<WrittenRule> = effects.iter().flat_map(written).collect();
        let source = RuleSource { level: Level::Profile, label: "test", rules: &rules, clauses: &[] };
        let authority = Authority::generate(&session, SystemTime::now() - wanted.age).unwrap();
        let ca_pem = authority.certificate_pem().to_owned();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dns = std::net::UdpSocket::bind("[::]:0").unwrap();
        nix::sys::socket::setsockopt(&dns, nix::sys::socket::sockopt::Ipv6RecvPacketInfo, &true).unwrap();
        let (address, dns_address) = (tcp.local_addr().unwrap(), dns.local_addr().unwrap());
        let memory = Memory::new();
        let (shutdown, stop) = UnixStream::pair().unwrap();
        let own = upstream.map(|upstream| upstream.ca_pem.clone());
        let trusted = wanted.trust.map(str::to_owned).or(own);
        let rewritten = upstream.filter(|_| !wanted.without_rewriting);
        let connect_to = rewritten.map(|upstream| format!("::127.0.0.1:{}", upstream.address.port()).parse().unwrap());
        let setup = Setup {
            bodies: None,
            session,
            policy: Policy::compile(&[source]).unwrap(),
            facts: SessionFacts::default(),
            host_keys: HostKeys::default(),
            upstream_proxies: wanted.upstream_proxies,
            bindings: vec![(binding(wanted.secret_host, place, wanted.keeper.is_some()), Secret::new(REAL.to_owned()))],
            authority,
            roots: Roots::from_pem(Vec::new(), trusted.as_deref().map(str::as_bytes)).unwrap(),
            connect_to: connect_to.into_iter().collect(),
            keeper: wanted.keeper,
            ssh: None,
            gateway: Gateway { v4: [10, 77, 0, 1].into(), v6: "fd77::1".parse().unwrap() },
            recorder: wanted.recorder.unwrap_or_else(|| Box::new(memory.clone())),
            sync: None,
            durability: Durability::default(),
            prices: PriceTable::embedded(),
            model_hosts: ModelHosts::default(),
            spend: wanted
                .funded
                .then(|| omni::policy::SpendPolicy::budget(omni::model::NanoUsd(1)))
                .into_iter()
                .collect(),
            watched: false,
            line: wanted.amendments,
            shutdown: stop,
            quiet: Quiet::over(Box::leak(Box::default())),
            resolver: ResolverConfig::default(),
            rest: || {},
        };
        let listeners = Listeners {
            tcp: vec![tcp],
            dns: vec![dns],
            handed: Vec::new(),
            published: None,
            ssh: None,
            secret_files: None,
        };
        let thread = std::thread::spawn(move || omni::proxy::Proxy::new(setup).unwrap().serve(listeners).unwrap());
        Self { address, dns: dns_address, memory, ca_pem, shutdown: Some(shutdown), thread: Some(thread) }
    }

    /// Ends the session and gives everything that was recorded.
    pub fn stop(mut self) -> Vec<Event> {
        drop(self.shutdown.take());
        self.thread.take().unwrap().join().unwrap();
        let events = self.memory.events();
        for event in &events {
            assert_eq!(schema::faults_of(&serde_json::to_value(event).unwrap()), [] as [String; 0]);
        }
        events
    }

    /// The certificate of the session's authority.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub async fn tunnel(&self, target: &str) -> TcpStream {
        let (head, stream) = self.ask_for_tunnel(target).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }

    /// What CONNECT is answered with where it is not let through.
    pub async fn refused_tunnel(&self, target: &str) -> String {
        let (mut said, mut stream) = self.ask_for_tunnel(target).await;
        assert!(!said.starts_with("HTTP/1.1 200"), "{target}: {said}");
        stream.read_to_string(&mut said).await.unwrap();
        said
    }

    async fn ask_for_tunnel(&self, target: &str) -> (String, TcpStream) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let hello = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), stream)
    }

    pub fn connector(&self, protocols: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    pub async fn tls(&self, target: &str, sni: &str, protocols: &[&str]) -> TlsStream<TcpStream> {
        let stream = self.tunnel(target).await;
        let name = ServerName::try_from(sni.to_owned()).unwrap();
        self.connector(protocols).connect(name, stream).await.unwrap()
    }

    pub async fn client<B>(&self, host: &str) -> http1::SendRequest<B>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let stream = self.tls(&format!("{host}:443"), host, &["http/1.1"]).await;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    pub async fn client_h2<B>(&self, host: &str) -> http2::SendRequest<B>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let stream = self.tls(&format!("{host}:443"), host, &["h2"]).await;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn binding(host: &str, place: Place, refreshed: bool) -> Binding {
    Binding {
        secret: "vendor".to_owned(),
        sites: vec![Site { host: HostName::parse(host).unwrap(), port: Port(443), path: "/".to_owned(), place }],
        mode: Mode::Placeholder,
        refresh: refreshed.then_some(Duration::ZERO),
        placeholder: Placeholder(PLACEHOLDER.to_owned()),
        login: None,
        approval: Approval::Never,
        exchange: None,
    }
}

/// A request over HTTP/1 to a host.
pub fn request(method: &str, host: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", host);
    builder.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()
}

/// The status and the whole body.
pub async fn told(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// Waits for what comes true soon.
pub async fn soon(what: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_true() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not in ten seconds: {what}");
}

/// Events of one kind.
pub fn of_kind(events: &[Event], kind: &str) -> Vec<Event> {
    events.iter().filter(|event| event.kind() == kind).cloned().collect()
}
