//! Names of places on the network, in one canonical form.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest host name that DNS can carry (RFC 1035, section 2.3.4), without the final dot.
const NAME_BYTES_MAX: usize = 253;
/// Longest label of a host name (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A canonical DNS host name: lower case, no final dot, letters, digits, `-` and `_` only (RFC 1123, RFC 2181).
///
/// A name whose last label is all digits, or looks like hexadecimal, is refused: some resolvers read it as an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Where a request goes: a name, or an address that was written as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Host {
    /// A DNS name.
    Name(HostName),
    /// An address literal; IPv4-mapped IPv6 is written as the IPv4 address it means.
    Address(IpAddr),
}

/// A TCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port(pub u16);

/// The two schemes requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP in TLS.
    Https,
    /// Bytes that nobody reads.
    Tcp,
    /// TLS that is not opened.
    Tls,
}

/// The name that the host's own loopback has in a sandbox, for the ports that rules name.
pub const LOOPBACK_NAME: &str = "host.omni.internal";

/// Why a text is not a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing was written.
    #[error("the host is empty")]
    Empty,
    /// Longer than DNS can carry.
    #[error("the host is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// A label is empty, too long, or begins or ends with a hyphen.
    #[error("`{0}` has a label that is empty, longer than {LABEL_BYTES_MAX} bytes, or begins or ends with `-`")]
    Label(String),
    /// A character that a host name cannot have.
    #[error("`{name}` holds {character:?}, which no host name has")]
    Character {
        /// The whole text.
        name: String,
        /// The first offending character.
        character: char,
    },
    /// An unusual spelling of an address, such as `0x7f.1` or `2130706433`.
    #[error("`{0}` is an unusual spelling of an address: write it as four decimal numbers")]
    Numeric(String),
}

impl HostName {
    /// Whether it is a name within another's domain, and not that name itself.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.strip_suffix(other.0.as_str()).is_some_and(|rest| rest.ends_with('.'))
    }

    /// Parses and canonicalises a name; one final dot is dropped.
    ///
    /// # Errors
    /// A [`HostError`] for anything that is not a plain DNS name; an address is an error too.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(HostError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(HostError::TooLong);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if let Some(character) = name.chars().find(|c| !plain(*c)) {
            return Err(HostError::Character { name: text.to_owned(), character });
        }
        let name = name.to_ascii_lowercase();
        let wrong = |label: &str| {
            label.is_empty() || label.len() > LABEL_BYTES_MAX || label.starts_with('-') || label.ends_with('-')
        };
        if name.split('.').any(wrong) {
            return Err(HostError::Label(text.to_owned()));
        }
        if name.rsplit('.').next().is_some_and(looks_numeric) {
            return Err(HostError::Numeric(text.to_owned()));
        }
        Ok(Self(name))
    }

    /// The canonical text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a resolver could read a name that ends in this label as an IPv4 address (WHATWG URL, "ends in a number").
fn looks_numeric(label: &str) -> bool {
    let hex = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    hex || label.bytes().all(|byte| byte.is_ascii_digit())
}

impl Host {
    /// Parses a host as it stands in a URL or a `Host` header: a name, an IPv4 address, or an IPv6 address in brackets.
    /// A bare IPv6 address is taken too.
    ///
    /// # Errors
    /// A [`HostError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bracketed.unwrap_or(text).parse::<Ipv6Addr>() {
            return Ok(Self::from(IpAddr::V6(address)));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::from(IpAddr::V4(address)));
        }
        HostName::parse(text).map(Self::Name)
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

impl From<HostName> for Host {
    fn from(name: HostName) -> Self {
        Self::Name(name)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    /// As it stands in a URL: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Scheme {
    /// The scheme's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Whether what is carried is not read.
    #[must_use]
    pub fn is_opaque(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }

    /// The port that a URL without one means; 0 where a port must be written.
    #[must_use]
    pub fn default_port(self) -> Port {
        match self {
            Self::Http => Port(80),
            Self::Https | Self::Tls => Port(443),
            Self::Tcp => Port(0),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for HostName {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl TryFrom<String> for Host {
    type Error = HostError;
    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_spelling() {
        for text in ["API.Example.com", "api.example.com.", "api.example.COM"] {
            assert_eq!(Host::parse(text).map(|host| host.to_string()), Ok("api.example.com".to_owned()));
        }
        for text in ["::ffff:127.0.0.1", "[::ffff:7f00:1]", "127.0.0.1"] {
            assert_eq!(Host::parse(text).map(|host| host.to_string()), Ok("127.0.0.1".to_owned()));
        }
    }

    #[test]
    fn refuses_what_two_parsers_could_read_differently() {
        let bad = [
            "",
            ".",
            "a..b",
            "-a.com",
            "a b.com",
            "a\0.com",
            "a%00.com",
            "user@host",
            "host\\x",
            "0x7f.1",
            "127.1",
            "2130706433",
            "017700000001",
            "0x7f000001",
            "münchen.de",
            "a.com\r\n",
            "[example.com]",
            "1.2.3.4.",
            "1.2.3.4.5",
        ];
        for text in bad {
            assert!(Host::parse(text).is_err(), "{text:?}");
        }
    }
}
