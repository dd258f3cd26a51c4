//! What metering adds to the processor time of the proxy that passes a stream on: the same bytes through the same proxy, from
//! a host that is a model provider's and from one that is none, by turns.

use anyhow::{Context, ensure};
use omni::meter::{ModelHosts, PriceTable};
use omni::model::{Durability, SessionId};
use omni::policy::{Effect, HostKeys, Level, Policy, RuleSource, SessionFacts, WrittenRule};
use omni::proxy::{Authority, Gateway, Listeners, Proxy, Quiet, ResolverConfig, Roots, Setup, UpstreamProxies};
use omni::store::Memory;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

/// How much of a stream is passed on in one turn.
const STREAM_BYTES: usize = 100 * 1024 * 1024;
/// How many turns each host has.
const TURNS: usize = 5;
/// A provider's host, and one that is none.
const HOSTS: [&str; 2] = ["api.anthropic.com", "plain.example.com"];
const EVENT: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\
                     \"text\":\"and one word after the other, as models write them\"}}\n\n";

/// Prints the figures, for streams that come an event at a time and as fast as they can.
pub fn measure() -> anyhow::Result<()> {
    for (what, events) in [("an event in each record", 1), ("16 KiB in each record", 16 * 1024 / EVENT.len())] {
        let piece = EVENT.repeat(events);
        let (metered, plain, first) = compare(piece.as_bytes())?;
        let added = (metered.as_secs_f64() / plain.as_secs_f64() - 1.0) * 100.0;
        println!(
            "100 MiB of events, {what}: the proxy takes {plain:?} of processor time, {metered:?} with metering, {added:+.1} %; \
             first byte after {:?} and {:?}",
            first[1], first[0]
        );
    }
    Ok(())
}

/// The median processor time of the proxy for a stream that is metered, and for one that is not; and when the first byte came.
fn compare(piece: &[u8]) -> anyhow::Result<(Duration, Duration, [Duration; 2])> {
    let (server, ca) = serve(piece)?;
    let proxy = Running::start(server, &ca)?;
    let mut spent = [Vec::new(), Vec::new()];
    let mut firsts = [Vec::new(), Vec::new()];
    for turn in 0..=TURNS {
        for (index, host) in HOSTS.iter().enumerate() {
            let before = proxy.processor_time()?;
            let first = proxy.fetch(host)?;
            let took = proxy.processor_time()?.saturating_sub(before);
            // The first turn opens connections and files.
            if turn > 0 {
                spent[index].push(took);
                firsts[index].push(first);
            }
        }
    }
    let median = |all: &mut Vec<Duration>| {
        all.sort_unstable();
        all[all.len() / 2]
    };
    let first = [median(&mut firsts[0]), median(&mut firsts[1])];
    Ok((median(&mut spent[0]), median(&mut spent[1]), first))
}

/// A server of such streams for both hosts.
fn serve(piece: &[u8]) -> anyhow::Result<(SocketAddr, String)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(HOSTS.map(str::to_owned).to_vec())?.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)?;
    let (config, piece) = (Arc::new(config), Arc::<[u8]>::from(piece));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, piece) = (config.clone(), piece.clone());
            // A client that leaves is no failure.
            std::thread::spawn(move || drop(answer(stream, config, &piece)));
        }
    });
    Ok((address, ca_pem))
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, piece: &[u8]) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    loop {
        read_head(&mut stream)?;
        let pieces = STREAM_BYTES.div_ceil(piece.len());
        let length = pieces * piece.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {length}\r\n\r\n")?;
        for _ in 0..pieces {
            stream.write_all(piece)?;
        }
        stream.flush()?;
    }
}

/// Reads up to a head's end; nothing follows one here.
fn read_head(stream: &mut impl Read) -> anyhow::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte)? == 1, "the connection ended");
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head)?)
}

/// A proxy that runs in a thread of its own.
struct Running {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    thread: u32,
    _shutdown: UnixStream,
}

impl Running {
    fn start(upstream: SocketAddr, ca: &str) -> anyhow::Result<Self> {
        let session = SessionId::from_entropy([9; 10]);
        let rules = HOSTS.map(|host| WrittenRule::alone(Effect::Allow, &format!("POST {host}/**")));
        let policy =
            Policy::compile(&[RuleSource { level: Level::Profile, label: "bench", rules: &rules, clauses: &[] }])?;
        let authority = Authority::generate(&session, SystemTime::now())?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())?)?;
        let client = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (tcp, dns) = (TcpListener::bind("127.0.0.1:0")?, UdpSocket::bind("[::]:0")?);
        nix::sys::socket::setsockopt(&dns, nix::sys::socket::sockopt::Ipv6RecvPacketInfo, &true)?;
        let address = tcp.local_addr()?;
        let (shutdown, stop) = UnixStream::pair()?;
        let setup = Setup {
            bodies: None,
            session,
            policy,
            facts: SessionFacts::default(),
            host_keys: HostKeys::default(),
            upstream_proxies: UpstreamProxies::default(),
            bindings: Vec::new(),
            authority,
            roots: Roots::from_pem(Vec::new(), Some(ca.as_bytes()))?,
            connect_to: vec![format!("::127.0.0.1:{}", upstream.port()).parse()?],
            keeper: None,
            ssh: None,
            gateway: Gateway { v4: [10, 77, 0, 1].into(), v6: "fd77::1".parse()? },
            recorder: Box::new(Memory::new()),
            sync: None,
            durability: Durability::default(),
            prices: PriceTable::embedded(),
            model_hosts: ModelHosts::default(),
            spend: Vec::new(),
            watched: false,
            line: None,
            shutdown: stop,
            resolver: ResolverConfig::default(),
            rest: || {},
            quiet: Quiet::over(Box::leak(Box::default())),
        };
        let (tcp, dns) = (vec![tcp], vec![dns]);
        let listeners = Listeners { tcp, dns, handed: Vec::new(), published: None, ssh: None, secret_files: None };
        let (tells, told) = channel();
        std::thread::spawn(move || {
            let _ = tells.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned());
            Proxy::new(setup).and_then(|proxy| proxy.serve(listeners))
        });
        let thread = told.recv().context("the proxy's thread ended")?;
        Ok(Self { address, client: Arc::new(client), thread, _shutdown: shutdown })
    }

    /// How long the proxy's thread has run on a processor (proc_schedstat: the first number, in nanoseconds).
    fn processor_time(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.thread))?;
        let spent = text.split_whitespace().next().context("schedstat is empty")?;
        Ok(Duration::from_nanos(spent.parse()?))
    }

    /// Reads a whole stream from a host, and says when its first byte came.
    fn fetch(&self, host: &str) -> anyhow::Result<Duration> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        write!(stream, "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n")?;
        let head = read_head(&mut stream)?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        let name = ServerName::try_from(host.to_owned())?;
        let mut stream = StreamOwned::new(ClientConnection::new(self.client.clone(), name)?, stream);
        let asked = Instant::now();
        write!(stream, "POST /v1/messages HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n")?;
        let head = read_head(&mut stream)?;
        let first = asked.elapsed();
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        let (mut left, mut space) = (length.parse::<usize>()?, vec![0; 64 * 1024]);
        while left > 0 {
            let count = stream.read(&mut space)?;
            ensure!(count > 0, "the stream broke off");
            left -= count.min(left);
        }
        Ok(first)
    }
}
