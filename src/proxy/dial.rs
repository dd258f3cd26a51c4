//! Reaching an upstream: find its addresses, refuse those inside, dial the very address that was checked, verify.

use super::ProxyError;
use super::address;
use super::ahead::Ahead;
use super::cause::Cause;
use super::client_certificate::{self, ClientCertificates, Useless};
use super::connect_to::ConnectTo;
use super::lanes::{Lanes, Slot};
use super::leg::{Errand, Leg};
use super::resolve::{Resolver, ResolverConfig};
use super::roots::Roots;
use super::upstream_proxy::{UpstreamProxies, UpstreamProxy};
use crate::model::{Host, LOOPBACK_NAME, Port, Scheme};
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one address may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may be silent before the peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How many of a name's addresses are tried.
const ADDRESSES_MAX: usize = 8;

/// Why an upstream could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The name has no address.
    #[error("the name {host} does not resolve: {reason}")]
    Name { host: String, reason: String },
    /// All its addresses are inside.
    #[error(
        "{host} has the address {address}, which is {what}: omni reaches public addresses only. If you mean it, \
             say so with --connect-to {host}:{port}:{address}:{port}"
    )]
    Refused { host: String, port: Port, address: IpAddr, what: &'static str },
    /// Nothing answered.
    #[error("no connection to {host}:{port}: {source}")]
    Connect { host: String, port: Port, source: io::Error },
    /// The certificate is not good.
    #[error(
        "the certificate of {host} does not verify: {reason}. If a company's own authority signed it, give that \
             with --upstream-ca FILE"
    )]
    Certificate { host: String, reason: String, cause: Cause },
    /// TLS failed otherwise.
    #[error("the TLS handshake with {host} failed: {source}")]
    Handshake { host: String, source: io::Error },
    /// The client's certificate is of no use.
    #[error("the secret `{secret}` cannot be presented to {host} as the client's certificate: {reason}")]
    ClientCertificate { secret: String, host: String, reason: String },
    /// The proxy on the way does not let it through.
    #[error("the proxy {proxy} gave no connection to {host}:{port}: {reason}")]
    UpstreamProxy { proxy: String, host: String, port: Port, reason: String },
    /// The proxy's own fault.
    #[error("{0}")]
    Setup(String),
}

impl DialError {
    /// The status of the answer: refusing is the proxy's decision, the rest is the upstream's state.
    pub(super) fn status(&self) -> u16 {
        if matches!(self, Self::Refused { .. }) { 403 } else { 502 }
    }

    /// The same as a word.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Name { .. } => Cause::Dns,
            Self::Refused { .. } => Cause::NotPublic,
            Self::Connect { source, .. } => Cause::of(source),
            Self::Certificate { cause, .. } => *cause,
            Self::ClientCertificate { .. } => Cause::ClientCertificateExpired,
            Self::Handshake { source, .. } => match Cause::of(source) {
                // A server of another protocol says something, and it is no TLS.
                Cause::Protocol => Cause::Tls,
                cause => cause,
            },
            Self::UpstreamProxy { .. } => Cause::UpstreamProxy,
            Self::Setup(_) => Cause::Protocol,
        }
    }
}

/// Makes connections.
pub(super) struct Dialer {
    inner: Inner,
}

/// What a connection is made to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    pub scheme: Scheme,
    pub host: &'a Host,
    pub port: Port,
    /// Whether its connections are to become WebSockets, which only HTTP/1.1 begins.
    pub websocket: bool,
    /// Whether a proxy is at the other end, which is asked for whole URLs.
    pub proxied: bool,
}

impl Origin<'_> {
    /// The name under which connections to it are kept and counted. Those that become WebSockets say nothing about the
    /// others, of which HTTP/2 may carry many on one.
    pub(super) fn name(&self) -> String {
        let Self { scheme, host, port, websocket, .. } = self;
        format!("{scheme}://{host}:{port}{}", if *websocket { " websocket" } else { "" })
    }
}

struct Inner {
    resolver: Resolver,
    config: ResolverConfig,
    roots: Roots,
    tls: OnceLock<TlsConnector>,
    tls_http1: OnceLock<TlsConnector>,
    connect_to: Vec<ConnectTo>,
    proxies: UpstreamProxies,
    certificates: ClientCertificates,
    lanes: Arc<Lanes>,
}

impl Dialer {
    /// A dialer that opens no file.
    pub(super) fn new(
        config: ResolverConfig,
        roots: Roots,
        connect_to: Vec<ConnectTo>,
        proxies: UpstreamProxies,
    ) -> Self {
        let (resolver, tls, tls_http1) = (config.build(), OnceLock::new(), OnceLock::new());
        let (certificates, lanes) = Default::default();
        Self { inner: Inner { resolver, config, roots, tls, tls_http1, connect_to, proxies, certificates, lanes } }
    }

    /// The same, which presents these certificates where they belong.
    pub(super) fn with_certificates(self, certificates: ClientCertificates) -> Self {
        Self { inner: Inner { certificates, ..self.inner } }
    }

    /// Where its connections tell how many requests they take.
    pub(super) fn lanes(&self) -> &Arc<Lanes> {
        &self.inner.lanes
    }

    /// A connection for bytes that are not read. The host's own loopback is reached here alone, by its one name.
    pub(super) async fn open(&self, scheme: Scheme, host: &Host, port: Port) -> Result<TcpStream, DialError> {
        if !self.inner.is_rewritten(host, port) && matches!(host, Host::Name(name) if name.as_str() == LOOPBACK_NAME) {
            let loopback = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return connect_any(host, port, at_port(loopback, port)).await;
        }
        self.inner.connect(scheme, host, port).await
    }

    /// What a proxy on the way is to be told with each request, where requests are what it is asked.
    pub(super) fn login(&self, scheme: Scheme, host: &Host, port: Port) -> Option<&str> {
        self.inner.proxy(scheme, host, port).filter(|proxy| !proxy.tunnels(scheme))?.login()
    }

    /// Whether a proxy on the way answers in the server's stead.
    pub(super) fn is_asked_for_requests(&self, scheme: Scheme, host: &Host, port: Port) -> bool {
        self.inner.proxy(scheme, host, port).is_some_and(|proxy| !proxy.tunnels(scheme))
    }

    /// A connection for requests, in the lane that a request has taken.
    pub(super) async fn dial(&self, origin: &Origin<'_>, slot: &Slot) -> Result<Leg, DialError> {
        let Origin { scheme, host, port, websocket, .. } = *origin;
        let stream = self.inner.connect(scheme, host, port).await?;
        let errand = Errand { lanes: self.lanes().clone(), host: slot.host().clone(), lane: slot.lane() };
        Ok(match scheme {
            Scheme::Http | Scheme::Tcp | Scheme::Tls => Leg::plain(stream, &errand),
            Scheme::Https => Leg::tls(self.inner.handshake((host, port), stream, websocket).await?, errand),
        })
    }
}

impl Inner {
    fn is_rewritten(&self, host: &Host, port: Port) -> bool {
        self.connect_to.iter().any(|rewrite| rewrite.applies(host, port))
    }

    /// The proxy on the way, where there is one: what the user sends elsewhere goes there straight.
    fn proxy(&self, scheme: Scheme, host: &Host, port: Port) -> Option<&UpstreamProxy> {
        self.proxies.of(scheme, host, port).filter(|_| !self.is_rewritten(host, port))
    }

    async fn connect(&self, scheme: Scheme, host: &Host, port: Port) -> Result<TcpStream, DialError> {
        match self.proxy(scheme, host, port) {
            Some(proxy) => self.connect_through(proxy, scheme, host, port).await,
            None => connect_any(host, port, self.targets(host, port).await?).await,
        }
    }

    /// A connection by way of a proxy. It resolves names, unless it is told addresses; what is an address already, or means
    /// this machine whoever resolves it, is checked here as always.
    async fn connect_through(
        &self,
        proxy: &UpstreamProxy,
        scheme: Scheme,
        host: &Host,
        port: Port,
    ) -> Result<TcpStream, DialError> {
        let checked = match host {
            Host::Name(name) => proxy.resolves_here() || is_local(name.as_str()),
            Host::Address(_) => true,
        };
        let failed = |reason: String| {
            let (proxy, host) = (proxy.to_string(), host.to_string());
            DialError::UpstreamProxy { proxy, host, port, reason }
        };
        let target = match checked {
            true => self.targets(host, port).await?.first().map(ToString::to_string),
            false => Some(format!("{host}:{port}")),
        };
        let target = target.ok_or_else(|| failed("there is no address to tell it".to_owned()))?;
        let (at, at_its_port) = proxy.place();
        // Whoever named it meant it, wherever it is.
        let addresses = self.resolve(at).await.map_err(|error| failed(error.to_string()))?;
        let stream = connect_any(at, at_its_port, at_port(addresses, at_its_port)).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        if proxy.tunnels(scheme) { proxy.ask(stream, &target).await.map_err(failed) } else { Ok(stream) }
    }

    /// The addresses to dial, each of them checked. A user's own rewriting may lead anywhere.
    async fn targets(&self, host: &Host, port: Port) -> Result<Vec<SocketAddr>, DialError> {
        if let Some(rewrite) = self.connect_to.iter().find(|rewrite| rewrite.applies(host, port)) {
            let to = Host::parse(&rewrite.to_host).map_err(|error| DialError::Setup(error.to_string()))?;
            return Ok(at_port(self.resolve(&to).await?, rewrite.to_port));
        }
        let found = self.resolve(host).await?;
        let first = found.first().copied();
        let public: Vec<IpAddr> = found.into_iter().filter(|address| self.refuses(*address).is_none()).collect();
        if public.is_empty()
            && let Some(address) = first
        {
            let what = self.refuses(address).unwrap_or("not public");
            return Err(DialError::Refused { host: host.to_string(), port, address, what });
        }
        Ok(at_port(public, port))
    }

    fn refuses(&self, address: IpAddr) -> Option<&'static str> {
        address::refused(address).or_else(|| self.config.is_own(address).then_some("this machine"))
    }

    async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, DialError> {
        let failed = |reason: String| DialError::Name { host: host.to_string(), reason };
        let mut found = self.resolver.addresses(host).await.map_err(|error| failed(error.to_string()))?;
        if found.is_empty() {
            return Err(failed("it has no address".to_owned()));
        }
        // IPv4 first: where IPv6 leads nowhere, each address costs a whole timeout.
        found.sort_by_key(IpAddr::is_ipv6);
        Ok(found)
    }

    async fn handshake(
        &self,
        (host, port): (&Host, Port),
        stream: TcpStream,
        http1: bool,
    ) -> Result<TlsStream<Ahead<TcpStream>>, DialError> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
            Host::Address(address) => Some(ServerName::IpAddress((*address).into())),
        };
        let reason = || "its name cannot stand in a certificate".to_owned();
        let name = name.ok_or_else(|| DialError::Certificate {
            host: host.to_string(),
            reason: reason(),
            cause: Cause::CertificateOfAnotherName,
        })?;
        let connector = match self.certificates.connector((host, port), http1, &self.roots) {
            Some(connector) => connector.map_err(|Useless { secret, reason }| DialError::ClientCertificate {
                secret,
                host: host.to_string(),
                reason,
            })?,
            None => self.connector(http1).map_err(|error| DialError::Setup(error.to_string()))?,
        };
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, Ahead::new(stream))).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        shaken.map_err(|error| handshake_error(host, error))
    }

    fn connector(&self, http1: bool) -> Result<TlsConnector, ProxyError> {
        let cell = if http1 { &self.tls_http1 } else { &self.tls };
        if let Some(connector) = cell.get() {
            return Ok(connector.clone());
        }
        let mut config = self.roots.client_config()?;
        if http1 {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(cell.get_or_init(|| TlsConnector::from(Arc::new(config))).clone())
    }
}

/// Whether a name means the machine itself, whoever is asked for it (RFC 6761, section 6.3).
fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// A connection to the first of these that answers.
async fn connect_any(host: &Host, port: Port, targets: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for target in targets.into_iter().take(ADDRESSES_MAX) {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => {
                tune(&stream);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(DialError::Connect { host: host.to_string(), port, source: last })
}

/// Small writes go at once, and a peer that vanished while an answer was awaited is noticed in the end. A socket that
/// refuses either still works.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = rustix::net::sockopt::set_socket_keepalive(stream, true);
    let _ = rustix::net::sockopt::set_tcp_keepidle(stream, KEEPALIVE);
    let _ = rustix::net::sockopt::set_tcp_keepintvl(stream, KEEPALIVE);
}

fn at_port(addresses: Vec<IpAddr>, port: Port) -> Vec<SocketAddr> {
    addresses.into_iter().map(|address| SocketAddr::new(address, port.0)).collect()
}

fn handshake_error(host: &Host, source: io::Error) -> DialError {
    let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(error @ rustls::Error::InvalidCertificate(reason)) => {
            DialError::Certificate { host: host.to_string(), reason: reason.to_string(), cause: Cause::of_tls(error) }
        }
        _ => DialError::Handshake { host: host.to_string(), source: client_certificate::explained(source) },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "dial_tests.rs"]
mod tests;
