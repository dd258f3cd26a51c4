//! Reaching an upstream: find its addresses, refuse those inside, dial the very address that was checked, verify.

use super::ProxyError;
use super::address;
use super::connect_to::ConnectTo;
use super::facts::parse_authority;
use super::lanes::Lanes;
use super::leg::{Errand, Leg};
use super::resolve::{Resolver, ResolverConfig};
use super::roots::Roots;
use crate::model::{Host, LOOPBACK_NAME, Port, Scheme};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
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
    Certificate { host: String, reason: String },
    /// TLS failed otherwise.
    #[error("the TLS handshake with {host} failed: {source}")]
    Handshake { host: String, source: io::Error },
    /// The proxy's own fault.
    #[error("{0}")]
    Setup(String),
}

impl DialError {
    /// The status of the answer: refusing is the proxy's decision, the rest is the upstream's state.
    pub(super) fn status(&self) -> u16 {
        if matches!(self, Self::Refused { .. }) { 403 } else { 502 }
    }
}

/// Makes connections for the pool of one lane.
#[derive(Clone)]
pub(super) struct Dialer {
    inner: Arc<Inner>,
    lane: usize,
    /// Whether its connections are to become WebSockets, which only HTTP/1.1 begins.
    websocket: bool,
}

struct Inner {
    resolver: Resolver,
    config: ResolverConfig,
    roots: Roots,
    tls: OnceLock<TlsConnector>,
    tls_http1: OnceLock<TlsConnector>,
    connect_to: Vec<ConnectTo>,
    lanes: Arc<Lanes>,
}

impl Dialer {
    /// A dialer that opens no file.
    pub(super) fn new(config: ResolverConfig, roots: Roots, connect_to: Vec<ConnectTo>) -> Self {
        let (tls, tls_http1, lanes) = (OnceLock::new(), OnceLock::new(), Arc::default());
        let inner = Inner { resolver: config.build(), config, roots, tls, tls_http1, connect_to, lanes };
        Self { inner: Arc::new(inner), lane: 0, websocket: false }
    }

    /// Where its connections tell how many requests they take.
    pub(super) fn lanes(&self) -> Arc<Lanes> {
        self.inner.lanes.clone()
    }

    /// The same for another lane.
    pub(super) fn for_lane(&self, lane: usize) -> Self {
        Self { inner: self.inner.clone(), lane, websocket: false }
    }

    /// The same for connections that become WebSockets.
    pub(super) fn for_websockets(&self) -> Self {
        Self { inner: self.inner.clone(), lane: 0, websocket: true }
    }

    /// The name under which its connections to a place are counted. Those that become WebSockets say nothing about the
    /// others, of which HTTP/2 may carry many on one.
    pub(super) fn errand(&self, scheme: Scheme, host: &Host, port: Port) -> String {
        let origin = origin(scheme, host, port);
        if self.websocket { format!("{origin} websocket") } else { origin }
    }

    /// A connection for bytes that are not read. The host's own loopback is reached here alone, by its one name.
    pub(super) async fn open(&self, host: &Host, port: Port) -> Result<TcpStream, DialError> {
        let rewritten = self.inner.connect_to.iter().any(|rewrite| rewrite.applies(host, port));
        if !rewritten && matches!(host, Host::Name(name) if name.as_str() == LOOPBACK_NAME) {
            let loopback = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return connect_any(host, port, at_port(loopback, port)).await;
        }
        self.inner.connect(host, port).await
    }

    async fn dial(self, uri: http::Uri) -> Result<TokioIo<Leg>, DialError> {
        let scheme = if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
        let authority = uri.authority().and_then(|authority| parse_authority(authority.as_str(), scheme));
        let (host, port) = authority.ok_or_else(|| DialError::Setup(format!("`{uri}` has no host")))?;
        let stream = self.inner.connect(&host, port).await?;
        let errand = Errand { lanes: self.lanes(), host: self.errand(scheme, &host, port), lane: self.lane };
        let leg = match scheme {
            Scheme::Http | Scheme::Tcp | Scheme::Tls => Leg::plain(stream, &errand),
            Scheme::Https => Leg::tls(self.inner.handshake(&host, stream, self.websocket).await?, errand),
        };
        Ok(TokioIo::new(leg))
    }
}

impl Inner {
    async fn connect(&self, host: &Host, port: Port) -> Result<TcpStream, DialError> {
        connect_any(host, port, self.targets(host, port).await?).await
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

    async fn handshake(&self, host: &Host, stream: TcpStream, http1: bool) -> Result<TlsStream<TcpStream>, DialError> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
            Host::Address(address) => Some(ServerName::IpAddress((*address).into())),
        };
        let reason = || "its name cannot stand in a certificate".to_owned();
        let name = name.ok_or_else(|| DialError::Certificate { host: host.to_string(), reason: reason() })?;
        let connector = self.connector(http1).map_err(|error| DialError::Setup(error.to_string()))?;
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await;
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

/// The name under which connections to a place are counted.
pub(super) fn origin(scheme: Scheme, host: &Host, port: Port) -> String {
    format!("{scheme}://{host}:{port}")
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
        Some(rustls::Error::InvalidCertificate(reason)) => {
            DialError::Certificate { host: host.to_string(), reason: reason.to_string() }
        }
        _ => DialError::Handshake { host: host.to_string(), source },
    }
}

impl tower_service::Service<http::Uri> for Dialer {
    type Response = TokioIo<Leg>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Leg>, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        Box::pin(self.clone().dial(uri))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "dial_tests.rs"]
mod tests;
