//! A proxy between this one and the servers, as companies have them: which connections go through it, and how they are asked
//! for (RFC 9110, section 9.3.6).
//!
//! It is told a name and resolves it, so that whether an address is public is for it to say; an address that a request
//! names itself is checked here, and with [`UpstreamProxy::resolving_here`] every one is.

use crate::model::{Host, Port, Scheme, hex_byte};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The port of an address that names none (curl(1), `--proxy`).
const DEFAULT_PORT: Port = Port(1080);
/// Longest answer to a wish to be let through, up to its body.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long the proxy may take for it: it has to resolve and to connect.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The proxies that servers are reached through, by what is carried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamProxies {
    /// For TLS, opened or not.
    pub https: Option<UpstreamProxy>,
    /// For plain HTTP.
    pub http: Option<UpstreamProxy>,
}

/// One such proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamProxy {
    host: Host,
    port: Port,
    /// What it is to be told in `Proxy-Authorization`.
    login: Option<String>,
    exceptions: Vec<Exception>,
    resolves_here: bool,
}

/// Why a text names no proxy. It does not repeat the text, in which a password may stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be written like http://USER:PASSWORD@proxy.example.com:3128, and {0}")]
pub struct UpstreamProxyError(&'static str);

/// What does not go through a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    /// A name and what is below it, or an address; at this port, where one is written.
    Host(Host, Option<Port>),
    /// Addresses whose first bits are these.
    Block(IpAddr, u32),
}

impl UpstreamProxies {
    /// The one for a connection, if it goes through one. What is neither HTTP nor TLS never does.
    pub(super) fn of(&self, scheme: Scheme, host: &Host, port: Port) -> Option<&UpstreamProxy> {
        let proxy = match scheme {
            Scheme::Https | Scheme::Tls => &self.https,
            Scheme::Http => &self.http,
            Scheme::Tcp => &None,
        };
        proxy.as_ref().filter(|proxy| !proxy.exceptions.iter().any(|exception| exception.is_about(host, port)))
    }
}

impl UpstreamProxy {
    /// Reads its URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, UpstreamProxyError> {
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(UpstreamProxyError("only proxies of HTTP without TLS to themselves are known here")),
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let login = login.map(|login| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            let plain = [decode(user), b":".to_vec(), decode(password)].concat();
            format!("Basic {}", STANDARD.encode(plain))
        });
        let (host, port) = place_of(place).ok_or(UpstreamProxyError("it names no host and port"))?;
        Ok(Self { host, port: port.unwrap_or(DEFAULT_PORT), login, exceptions: Vec::new(), resolves_here: false })
    }

    /// The same, but not for these: names with all below them, addresses, blocks of addresses, or `*`, between commas, as
    /// `NO_PROXY` has them. What is none of these excepts nothing.
    #[must_use]
    pub fn excepting(mut self, list: &str) -> Self {
        self.exceptions.extend(list.split(',').filter_map(|text| Exception::parse(text.trim())));
        self
    }

    /// The same, told addresses that were resolved and checked here instead of names.
    #[must_use]
    pub fn resolving_here(self) -> Self {
        Self { resolves_here: true, ..self }
    }

    /// Where it is.
    pub(super) fn place(&self) -> (&Host, Port) {
        (&self.host, self.port)
    }

    /// What it is told in `Proxy-Authorization`.
    pub(super) fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Whether it is told addresses.
    pub(super) fn resolves_here(&self) -> bool {
        self.resolves_here
    }

    /// Whether a connection for this is asked for by CONNECT, and not request by request.
    pub(super) fn tunnels(&self, scheme: Scheme) -> bool {
        scheme != Scheme::Http || self.resolves_here
    }

    /// Asks it for a connection, over one to itself.
    pub(super) async fn ask(&self, mut stream: TcpStream, target: &str) -> Result<TcpStream, String> {
        let login = self.login.as_ref().map_or_else(String::new, |login| format!("Proxy-Authorization: {login}\r\n"));
        let wish = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{login}\r\n");
        let asking = async {
            stream.write_all(wish.as_bytes()).await.map_err(|error| error.to_string())?;
            head(&mut stream).await
        };
        let head = tokio::time::timeout(ANSWER_TIMEOUT, asking).await;
        let head = head.unwrap_or_else(|_| Err("it did not answer in time".to_owned()))?;
        match status(&head) {
            Some(200..=299) => Ok(stream),
            Some(407) if self.login.is_some() => Err("it does not take the user and password (407)".to_owned()),
            Some(407) => Err("it wants a user and password (407): write them into its URL".to_owned()),
            Some(status) => Err(format!("it answered {status}")),
            None => Err("what it answered is not HTTP".to_owned()),
        }
    }
}

impl fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Without what it is told in private.
impl fmt::Debug for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamProxy({self})")
    }
}

impl Exception {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everything);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            return bits.parse().ok().filter(|bits| *bits <= most).map(|bits| Self::Block(address, bits));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Host(address.into(), None));
        }
        let name = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
        place_of(name).map(|(host, port)| Self::Host(host, port))
    }

    fn is_about(&self, host: &Host, port: Port) -> bool {
        match (self, host) {
            (Self::Everything, _) => true,
            (Self::Host(Host::Name(own), at), Host::Name(name)) => {
                let below = name.as_str().strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.'));
                (own == name || below) && at.is_none_or(|at| at == port)
            }
            (Self::Host(own, at), host) => own == host && at.is_none_or(|at| at == port),
            (Self::Block(IpAddr::V4(own), bits), Host::Address(IpAddr::V4(address))) => {
                (own.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (Self::Block(IpAddr::V6(own), bits), Host::Address(IpAddr::V6(address))) => {
                (own.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            (Self::Block(..), _) => false,
        }
    }
}

/// `HOST` or `HOST:PORT`.
fn place_of(text: &str) -> Option<(Host, Option<Port>)> {
    let bracketed = text.starts_with('[');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bracketed || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        Some(port) => Some(Port(port.parse().ok().filter(|port| *port != 0)?)),
        None => None,
    };
    Some((Host::parse(host).ok()?, port))
}

/// Undoes the percent signs of a URL; what is not one stays.
fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let value = after.get(..2).filter(|_| *byte == b'%').and_then(hex_byte);
        decoded.push(value.unwrap_or(*byte));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    decoded
}

/// The head of an answer, and nothing that comes after it.
async fn head(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return Err("its answer does not end".to_owned());
        }
        head.push(stream.read_u8().await.map_err(|_| "it hung up".to_owned())?);
    }
    Ok(head)
}

fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        Host::parse(text).unwrap()
    }

    #[test]
    fn a_url_has_a_place_and_perhaps_a_login() {
        let read = |url| UpstreamProxy::parse(url).unwrap();
        let full = read("http://me:p%40ss%3A@proxy.example.com:3128/");
        assert_eq!(full.place(), (&host("proxy.example.com"), Port(3128)));
        assert_eq!(full.login(), Some("Basic bWU6cEBzczo="));
        assert_eq!(format!("{full:?} {full}"), "UpstreamProxy(proxy.example.com:3128) proxy.example.com:3128");
        assert_eq!(read("proxy").place(), (&host("proxy"), Port(1080)));
        assert_eq!(read("http://[::1]:3128").place(), (&host("[::1]"), Port(3128)));
        for wrong in ["", "http://", "https://proxy:443", "socks5h://proxy:1080", "http://proxy:0", "http://proxy:x"] {
            assert!(UpstreamProxy::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_excepted_goes_straight() {
        let list = "corp.example, .below.example,*.star.example,ported.example:8443,10.0.0.0/8,fd00::/8,192.0.2.7,::1";
        let https = Some(UpstreamProxy::parse("http://proxy:3128").unwrap().excepting(list));
        let proxies = UpstreamProxies { https, http: None };
        let straight = |text: &str, port| proxies.of(Scheme::Https, &host(text), Port(port)).is_none();
        for text in ["corp.example", "a.corp.example", "below.example", "a.below.example", "x.star.example"] {
            assert!(straight(text, 443), "{text}");
        }
        for text in ["10.1.2.3", "[fd12::1]", "192.0.2.7", "[::1]"] {
            assert!(straight(text, 443), "{text}");
        }
        assert!(straight("ported.example", 8443) && !straight("ported.example", 443));
        for text in ["example", "notcorp.example", "corp.example.com", "11.1.2.3", "192.0.2.8", "[fe80::1]"] {
            assert!(!straight(text, 443), "{text}");
        }
        assert!(proxies.of(Scheme::Tls, &host("a.example"), Port(443)).is_some());
        assert!(proxies.of(Scheme::Tcp, &host("a.example"), Port(22)).is_none());
        assert!(proxies.of(Scheme::Http, &host("a.example"), Port(80)).is_none());
        let all = UpstreamProxy::parse("http://proxy:3128").unwrap().excepting("*");
        let all = UpstreamProxies { https: Some(all), http: None };
        assert!(all.of(Scheme::Https, &host("a.example"), Port(443)).is_none());
    }
}
