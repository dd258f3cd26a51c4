//! Bringing the proxy up from what was prepared, and down with nothing left untold.

use super::dial::Dialer;
use super::inject::Vault;
use super::keep::BodyKeeper;
use super::line::{FromProxy, Line};
use super::listen::{self, CONNECTIONS_MAX};
use super::live::{Live, Watched};
use super::names::Names;
use super::published::{PublishedPorts, Publisher};
use super::quiet::Quiet;
use super::record::Clerk;
use super::refresh::Keeper;
use super::ruling::Ruling;
use super::settle::Books;
use super::throttle::Throttle;
use super::upstream::Upstream;
use super::upstream_proxy::UpstreamProxies;
use super::{
    Authority, ConnectTo, ProxyError, ResolverConfig, Roots, SecretFiles, Shared, SshAgent, handed, line, lookup,
    secret_reads, ssh_agent,
};
use crate::meter::{ModelHosts, PriceTable};
use crate::model::{Durability, Event, Secret, SessionId, Window};
use crate::policy::{Binding, HostKeys, Policy, SessionFacts, SpendPolicy};
use crate::store::{BodyRecorder, Recorder, SyncHandle};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

/// How long requests in flight may go on after the session's end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the proxy has been up when it gives memory back. After twice as long it does so again, and so on.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How long it takes to do so again at most.
const REST_AGAIN: Duration = Duration::from_secs(60);

/// The addresses at which the sandbox finds the proxy itself: its resolver, and a plain HTTP proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

/// The sockets through which the sandbox reaches the proxy.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Accept every connection of the sandbox; an accepted socket's own address is where it was going.
    pub tcp: Vec<std::net::TcpListener>,
    /// Take every question for a name. Where answers must come from the address that was asked, these are IPv6 sockets
    /// with `IPV6_RECVPKTINFO`.
    pub dns: Vec<std::net::UdpSocket>,
    /// Accepts programs that ask for an SSH agent.
    pub ssh: Option<std::os::unix::net::UnixListener>,
    /// Give connections that were made to the gateway, one a datagram, and tell of others that were refused.
    pub handed: Vec<OwnedFd>,
    /// Says which files were opened that look like secrets, where any are watched.
    pub secret_files: Option<SecretFiles>,
    /// Take connections from the host to ports of the sandbox, where any are published.
    pub published: Option<PublishedPorts>,
}

/// Everything the proxy needs. It opens no file after this.
pub struct Setup {
    /// The session.
    pub session: SessionId,
    /// What may go.
    pub policy: Policy,
    /// What of the session conditions can ask about.
    pub facts: SessionFacts,
    /// The keys by which SSH servers are known.
    pub host_keys: HostKeys,
    /// The secrets, each with its one place.
    pub bindings: Vec<(Binding, Secret)>,
    /// Who signs for the hosts that programs ask for.
    pub authority: Authority,
    /// Whom upstreams are verified against.
    pub roots: Roots,
    /// Where to dial instead, as the user asked for.
    pub connect_to: Vec<ConnectTo>,
    /// The proxies on the way to servers.
    pub upstream_proxies: UpstreamProxies,
    /// The proxy's own addresses.
    pub gateway: Gateway,
    /// Whoever reads secrets anew: asked for one by four bytes, its place in `bindings`, it answers 1 and the value or 0 and
    /// why there is none, with a length of four bytes before the text.
    pub keeper: Option<UnixStream>,
    /// What the session may have signed by an SSH agent.
    pub ssh: Option<SshAgent>,
    /// Where facts are kept.
    pub recorder: Box<dyn Recorder>,
    /// Syncs what the recorder wrote without stopping it; without one, recording waits while the disk does.
    pub sync: Option<SyncHandle>,
    /// Which facts wait for the disk.
    pub durability: Durability,
    /// Where bodies are recorded, where that was asked for.
    pub bodies: Option<Box<dyn BodyRecorder>>,
    /// What model calls cost.
    pub prices: PriceTable,
    /// Where model calls go.
    pub model_hosts: ModelHosts,
    /// What may be spent.
    pub spend: Vec<SpendPolicy>,
    /// Whether the session is told what happens as it does.
    pub watched: bool,
    /// The line to the session, which gives rules while it runs, keeps the money, and asks people.
    pub line: Option<OwnedFd>,
    /// Readable or at its end when the proxy is to stop.
    pub shutdown: UnixStream,
    /// The word in which both say whether anything was asked.
    pub quiet: Quiet,
    /// How names are found outside.
    pub resolver: ResolverConfig,
    /// Gives memory back that is not needed at the moment.
    pub rest: fn(),
}

/// A proxy that is ready but for its way in.
pub struct Proxy {
    runtime: Runtime,
    shared: Arc<Shared>,
    session: SessionId,
    shutdown: UnixStream,
    /// The line to the session, and what is to be said on it.
    line: (Option<OwnedFd>, mpsc::Receiver<FromProxy>, Option<Live>),
    rest: fn(),
    end: watch::Sender<bool>,
    ssh: Option<SshAgent>,
}

impl Proxy {
    /// Makes everything that takes time, so that nothing waits for it once there are listeners.
    ///
    /// # Errors
    /// A [`ProxyError`] when it cannot start.
    pub fn new(setup: Setup) -> Result<Self, ProxyError> {
        let Setup { session, shutdown, recorder, sync, prices, line: socket, rest, bodies, ssh, .. } = setup;
        let (line, queue) = Line::new();
        let (recorder, heard) = match setup.watched {
            true => Watched::over(recorder),
            false => (recorder, None),
        };
        let clerk = Clerk::settled(recorder, sync, setup.durability);
        let (clerk, settle) = clerk.map_err(|source| ProxyError::Start { step: "the sync thread", source })?;
        let runtime = runtime(settle).map_err(|source| ProxyError::Start { step: "the runtime", source })?;
        let vault = Vault::new(setup.bindings)?;
        let keeper = bodies.map(|file| Arc::new(BodyKeeper::new(file, vault.scrubs_of_records())));
        let books = Arc::new(Books {
            governed: !setup.spend.is_empty(),
            clamps: setup.spend.iter().any(|policy| policy.clamp),
            turns: setup.spend.iter().any(|policy| policy.window == Window::Turn).then(Mutex::default),
            keeper,
            model_hosts: setup.model_hosts,
            ..Books::ungoverned(Arc::new(clerk), prices, line)
        });
        let (end, ending) = watch::channel(false);
        let shared = runtime.block_on(async {
            let keeper = setup.keeper.map(Keeper::new).transpose();
            let keeper = keeper.map_err(|source| ProxyError::Start { step: "the way to secrets", source })?;
            let dialer = Dialer::new(setup.resolver, setup.roots, setup.connect_to, setup.upstream_proxies);
            let dialer = dialer.with_certificates(vault.client_certificates());
            Ok::<_, ProxyError>(Shared {
                policy: Ruling::new(setup.policy).of(setup.facts, books.tab.clone()),
                host_keys: setup.host_keys,
                vault: vault.with_keeper(keeper),
                authority: setup.authority,
                upstream: Upstream::new(dialer),
                books,
                names: Mutex::new(Names::default()),
                gateway: setup.gateway,
                throttle: Throttle::new(),
                rests: super::remainder::room(),
                quiet: setup.quiet,
                ending,
            })
        })?;
        Ok(Self { runtime, shared: Arc::new(shared), session, shutdown, line: (socket, queue, heard), rest, end, ssh })
    }

    /// Serves until [`Setup::shutdown`] says so, then gives requests in flight two seconds to end. When it returns, every
    /// request is settled and every record on the disk.
    ///
    /// # Errors
    /// A [`ProxyError`] when it cannot begin. What goes wrong later is answered and recorded.
    pub fn serve(self, listeners: Listeners) -> Result<(), ProxyError> {
        let Self { runtime, shared, session, shutdown, line: (socket, queue, heard), rest, end, ssh } = self;
        let books = shared.books.clone();
        let served = runtime.block_on(async {
            match socket {
                Some(socket) => {
                    let opened = line::open(socket);
                    let opened = opened.map_err(|source| ProxyError::Start { step: "the line to the session", source });
                    // It ends with the runtime.
                    tokio::spawn(line::serve(shared.clone(), opened?, queue, heard));
                }
                // Whatever is asked is denied.
                None => drop(queue),
            }
            tokio::spawn(lie_down(rest));
            run(shared, session, (listeners, ssh), shutdown, end).await
        });
        // Dropping the runtime drops every request still open, and each settles itself in being dropped.
        drop(runtime);
        drop(books);
        served
    }
}

/// One thread: a request passes from socket to socket without changing hands. `settle` is called before it waits.
fn runtime(settle: impl Fn() + Send + Sync + 'static) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().on_thread_park(settle).enable_all().build()
}

async fn run(
    shared: Arc<Shared>,
    session: SessionId,
    (listeners, ssh): (Listeners, Option<SshAgent>),
    shutdown: UnixStream,
    end: watch::Sender<bool>,
) -> Result<(), ProxyError> {
    let start = |step: &'static str| move |source: io::Error| ProxyError::Start { step, source };
    shutdown.set_nonblocking(true).map_err(start("the shutdown socket"))?;
    let shutdown = tokio::net::UnixStream::from_std(shutdown).map_err(start("the shutdown socket"))?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
    let notices = listeners.secret_files.map(|files| secret_reads::begin(&shared, files)).transpose();
    let notices = notices.map_err(start("the watch of secret files"))?;
    let (mut doors, mut lanes) = (JoinSet::new(), JoinSet::new());
    let started = Event::ProxyStarted {
        session,
        ca_fingerprint: shared.authority.fingerprint(),
        price_table: shared.books.prices.version().to_owned(),
        secrets: shared.vault.names(),
    };
    shared.books.clerk.record(started).await.map_err(|_| ProxyError::NotRecorded)?;
    // What is handed over tells of refusals too, of which nothing is known here until they are read; and so does the kernel of
    // files.
    if listeners.handed.is_empty() && notices.is_none() {
        shared.quiet.serves();
    }
    if let Some(notices) = notices {
        doors.spawn(secret_reads::serve(shared.clone(), notices));
    }
    for listener in listeners.tcp {
        listener.set_nonblocking(true).map_err(start("a listener"))?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(start("a listener"))?;
        doors.spawn(listen::accept(shared.clone(), listener, room.clone()));
    }
    for socket in listeners.dns {
        socket.set_nonblocking(true).map_err(start("the resolver's socket"))?;
        let socket = tokio::net::UdpSocket::from_std(socket).map_err(start("the resolver's socket"))?;
        doors.spawn(lookup::serve_udp(shared.clone(), socket));
    }
    if let Some(ports) = listeners.published {
        let (publisher, opened) = Publisher::open(shared.clone(), ports).map_err(start("a published port"))?;
        for (place, (listener, port)) in (0..).zip(opened) {
            doors.spawn(publisher.clone().accept(listener, place, port));
        }
    }
    if let Some((listener, setup)) = listeners.ssh.zip(ssh) {
        let (listener, post) = ssh_agent::open(listener, setup).map_err(start("the SSH agent"))?;
        doors.spawn(ssh_agent::serve(shared.clone(), listener, post));
    }
    for lane in listeners.handed {
        lanes.spawn(handed::take(shared.clone(), handed::Lane::open(lane).map_err(start("the lane"))?, room.clone()));
    }
    // An error is an end too: whoever holds the other side is gone.
    let _ = shutdown.readable().await;
    doors.shutdown().await;
    shared.books.ending.store(true, Ordering::Relaxed);
    let _ = end.send(true);
    // All permits back means all connections done. Those that are not done in time are cut off.
    let drained = async {
        while lanes.join_next().await.is_some() {}
        let _ = room.acquire_many(CONNECTIONS_MAX).await;
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
    secret_reads::attend(&shared).await;
    Ok(())
}

/// Gives memory back: what only the start needed, and later what requests since then did. What is in use comes back by itself,
/// for some microseconds.
async fn lie_down(lie_down: fn()) {
    let mut pause = REST_AFTER;
    loop {
        tokio::time::sleep(pause).await;
        lie_down();
        pause = (pause * 2).min(REST_AGAIN);
    }
}
