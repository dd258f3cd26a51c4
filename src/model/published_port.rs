//! Ports of the sandbox that are published to the host.

use super::Port;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// A port of the sandbox's own loopback, and where on the host it is listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// Where on the host. The port 0 has the kernel choose one that is free.
    pub at: SocketAddr,
    /// Inside.
    pub port: Port,
}

/// Why a text names no port to publish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no port to publish: write it like 3000, 8080:3000 or 192.168.1.5:8080:3000, an address of IPv6 in brackets"
)]
pub struct PublishedPortError(String);

impl PublishedPort {
    /// Whether other machines may come to it.
    #[must_use]
    pub fn is_open_to_others(&self) -> bool {
        !self.at.ip().is_loopback()
    }
}

impl FromStr for PublishedPort {
    type Err = PublishedPortError;

    fn from_str(text: &str) -> Result<Self, PublishedPortError> {
        parse(text).ok_or_else(|| PublishedPortError(text.to_owned()))
    }
}

/// `[[ADDRESS:]HOST_PORT:]PORT`, as container programs write it.
fn parse(text: &str) -> Option<PublishedPort> {
    let (outside, inside) = match text.rsplit_once(':') {
        Some((outside, inside)) => (Some(outside), inside),
        None => (None, text),
    };
    let port = number(inside).filter(|port| *port != 0)?;
    let (address, host_port) = match outside.map(|outside| outside.rsplit_once(':').ok_or(outside)) {
        None => (Ipv4Addr::LOCALHOST.into(), port),
        Some(Err(host_port)) => (Ipv4Addr::LOCALHOST.into(), number(host_port)?),
        Some(Ok((address, host_port))) => (address_of(address)?, number(host_port)?),
    };
    Some(PublishedPort { at: SocketAddr::new(address, host_port), port: Port(port) })
}

fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn address_of(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.at, self.port)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_address_is_of_the_loopback() {
        let read = |text: &str| text.parse::<PublishedPort>().unwrap();
        let expected = [
            ("3000", "127.0.0.1:3000:3000", false),
            ("8080:3000", "127.0.0.1:8080:3000", false),
            ("0:3000", "127.0.0.1:0:3000", false),
            ("127.0.0.2:80:3000", "127.0.0.2:80:3000", false),
            ("[::1]:80:3000", "[::1]:80:3000", false),
            ("0.0.0.0:80:3000", "0.0.0.0:80:3000", true),
            ("[::]:80:3000", "[::]:80:3000", true),
            ("192.168.1.5:80:3000", "192.168.1.5:80:3000", true),
        ];
        for (text, shown, open) in expected {
            assert_eq!((read(text).to_string().as_str(), read(text).is_open_to_others()), (shown, open), "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        let wrong = [
            "",
            "0",
            "80:0",
            ":80",
            "80:",
            "+80",
            "65536",
            "a:80",
            "::1:80:80",
            "localhost:80:80",
            "1.2.3.4:80",
            "80/tcp",
        ];
        for text in wrong {
            assert!(text.parse::<PublishedPort>().is_err(), "{text}");
        }
    }
}
