//! `HOST1:PORT1:HOST2:PORT2`: send what is meant for 1 to 2, as curl's `--connect-to` does.
//!
//! Only the dialled place changes. The name that is judged, verified and recorded stays the first.

use crate::model::{Host, Port};
use std::str::FromStr;

/// A rewriting of where a connection is dialled, which the user asked for in so many words; a place on this machine is
/// therefore allowed as a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    /// The host it applies to; `None` for every host.
    pub from_host: Option<Host>,
    /// The port it applies to; `None` for every port.
    pub from_port: Option<Port>,
    /// The host that is dialled instead: a name or an address without brackets.
    pub to_host: String,
    /// The port that is dialled instead.
    pub to_port: Port,
}

/// Why a text is not a rewriting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not HOST1:PORT1:HOST2:PORT2: write it like api.example.com:443:127.0.0.1:8443, IPv6 in brackets")]
pub struct ConnectToError(String);

impl ConnectTo {
    /// Whether it applies to this place.
    #[must_use]
    pub fn applies(&self, host: &Host, port: Port) -> bool {
        self.from_host.as_ref().is_none_or(|from| from == host) && self.from_port.is_none_or(|from| from == port)
    }
}

impl FromStr for ConnectTo {
    type Err = ConnectToError;

    fn from_str(text: &str) -> Result<Self, ConnectToError> {
        parse(text).ok_or_else(|| ConnectToError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<ConnectTo> {
    let (from_host, rest) = take_host(text)?;
    let (from_port, rest) = rest.split_once(':')?;
    let (to_host, to_port) = take_host(rest)?;
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).map(Port);
    let target = Host::parse(to_host).ok()?;
    Some(ConnectTo {
        from_host: if from_host.is_empty() { None } else { Some(Host::parse(from_host).ok()?) },
        from_port: if from_port.is_empty() { None } else { Some(port(from_port)?) },
        to_host: match target {
            Host::Name(name) => name.as_str().to_owned(),
            Host::Address(address) => address.to_string(),
        },
        to_port: port(to_port)?,
    })
}

/// Splits a host and its colon off the front.
fn take_host(text: &str) -> Option<(&str, &str)> {
    if !text.starts_with('[') {
        return text.split_once(':');
    }
    let end = text.find(']')? + 1;
    Some((&text[..end], text[end..].strip_prefix(':')?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_addresses_and_blanks() {
        let full: ConnectTo = "API.example.com:443:[::1]:8443".parse().unwrap();
        assert_eq!(
            full,
            ConnectTo {
                from_host: Some(Host::parse("api.example.com").unwrap()),
                from_port: Some(Port(443)),
                to_host: "::1".to_owned(),
                to_port: Port(8443),
            }
        );
        let any: ConnectTo = "::127.0.0.1:80".parse().unwrap();
        assert_eq!((any.from_host, any.from_port), (None, None));
    }

    #[test]
    fn refuses_what_is_not_four_parts() {
        for text in
            ["", "a:443", "a:443:b", "a:443:b:0", "a:443:b:x", "a:443::80", "a:b:c:d:e", "a:70000:b:1", "[::1:1:b:2"]
        {
            assert!(text.parse::<ConnectTo>().is_err(), "{text}");
        }
    }
}
