//! Patterns of hosts: a name, the sub-domains of a name, an address, a block of addresses, or any host.

use crate::model::{Host, HostName};
use std::fmt;
use std::net::IpAddr;

/// Second labels under which registries hand out names, as in `co.uk`.
const REGISTRY_LABELS: [&str; 8] = ["ac", "co", "com", "edu", "gov", "net", "ne", "org"];

/// A pattern of hosts. Names never match addresses, nor addresses names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum HostPattern {
    /// Any host at all.
    Any,
    /// This name.
    Name(HostName),
    /// Every name below this one, but not the name itself.
    Below(HostName),
    /// Every address whose leading bits are those of this one; a single address has all its bits compared.
    Block { address: IpAddr, bits: u8 },
}

/// Why a text is not a pattern of hosts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostPatternError {
    pub(super) message: String,
    pub(super) hint: String,
}

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, HostPatternError> {
    Err(HostPatternError { message: message.into(), hint: hint.into() })
}

impl HostPattern {
    /// Parses a pattern; an IPv6 address or block stands in brackets.
    pub(super) fn parse(text: &str) -> Result<Self, HostPatternError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(name) = text.strip_prefix("*.") {
            return parse_name(name, text).map(Self::Below);
        }
        if text.contains('*') {
            let hint = "`*` stands alone for any host, or as the first label, as in `*.example.com`";
            return wrong(format!("`{text}` has a `*` where a host cannot have one"), hint);
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let (host, bits) = match inner.unwrap_or(text).split_once('/') {
            Some((host, bits)) => (host, Some(bits)),
            None => (inner.unwrap_or(text), None),
        };
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(_)) if inner.is_none() => {
                wrong(format!("`{text}` could be read in two ways"), format!("write it in brackets: `[{text}]`"))
            }
            Ok(IpAddr::V4(_)) if inner.is_some() => wrong("only IPv6 addresses stand in brackets", "leave them out"),
            Ok(address) => block(address, bits),
            Err(_) => parse_name(text, text).map(Self::Name),
        }
    }

    /// The first address of the block of this length that an address is in; none where addresses have fewer bits.
    pub(super) fn first_of_block(address: IpAddr, bits: u8) -> Option<IpAddr> {
        let address = address.to_canonical();
        let width = if address.is_ipv4() { 32 } else { 128 };
        (bits <= width).then(|| masked(address, bits))
    }

    /// Whether the host matches.
    pub(super) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Name(name), Host::Name(host)) => name == host,
            (Self::Below(name), Host::Name(host)) => {
                host.as_str().strip_suffix(name.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            (Self::Block { address, bits }, Host::Address(host)) => same_leading_bits(*address, *host, *bits),
            _ => false,
        }
    }

    /// Why an `allow` rule may not have this pattern, if it may not: it would open the way to whole parts of the net.
    pub(super) fn too_wide_to_allow(&self) -> Option<String> {
        match self {
            Self::Any => Some("`*` allows every host there is".to_owned()),
            Self::Below(name) if is_registry(name) => Some(format!("`*.{name}` allows hosts of anybody at all")),
            Self::Block { bits: 0, .. } => Some(format!("`{self}` allows every address there is")),
            _ => None,
        }
    }
}

fn parse_name(name: &str, whole: &str) -> Result<HostName, HostPatternError> {
    HostName::parse(name).map_err(|error| {
        let hint = match whole {
            whole if !whole.is_ascii() => "write an international name in its `xn--` form",
            whole if whole.contains('@') => "a rule names no user",
            _ => "HOST is a name, `*.name`, an address, a block such as `10.0.0.0/8`, or `*`",
        };
        HostPatternError { message: error.to_string(), hint: hint.to_owned() }
    })
}

/// Whether names below this one belong to whoever registers them: a top-level domain, or the like of `co.uk`.
fn is_registry(name: &HostName) -> bool {
    match name.as_str().split_once('.') {
        None => true,
        Some((second, top)) => top.len() == 2 && REGISTRY_LABELS.contains(&second),
    }
}

/// A block of addresses, with IPv4-mapped IPv6 written as the IPv4 it means.
fn block(address: IpAddr, bits: Option<&str>) -> Result<HostPattern, HostPatternError> {
    let width: u8 = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits.map(str::parse::<u8>) {
        None => width,
        Some(Ok(bits)) if bits <= width => bits,
        Some(_) => return wrong("the block's length is not a number of bits", format!("write `/0` to `/{width}`")),
    };
    let first = masked(address, bits);
    if first != address {
        let pattern = HostPattern::Block { address: first, bits };
        return wrong("the address has bits set beyond the block's length", format!("did you mean `{pattern}`?"));
    }
    match address.to_canonical() {
        canonical @ IpAddr::V4(_) if address.is_ipv6() && bits >= 96 => {
            Ok(HostPattern::Block { address: canonical, bits: bits - 96 })
        }
        _ => Ok(HostPattern::Block { address, bits }),
    }
}

/// The address with all but its leading bits cleared.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let cut = |width: u32| width.saturating_sub(u32::from(bits));
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(cut(32)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(cut(128)).unwrap_or(0)).into()),
    }
}

fn same_leading_bits(block: IpAddr, host: IpAddr, bits: u8) -> bool {
    let host = host.to_canonical();
    block.is_ipv4() == host.is_ipv4() && masked(host, bits) == block
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Block { address: IpAddr::V4(address), bits: 32 } => address.fmt(f),
            Self::Block { address: IpAddr::V6(address), bits: 128 } => write!(f, "[{address}]"),
            Self::Block { address: IpAddr::V4(address), bits } => write!(f, "{address}/{bits}"),
            Self::Block { address: IpAddr::V6(address), bits } => write!(f, "[{address}/{bits}]"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn matches(pattern: &str, host: &str) -> bool {
        HostPattern::parse(pattern).expect("a pattern").matches(&Host::parse(host).expect("a host"))
    }

    #[test]
    fn sub_domains_match_label_by_label_and_never_the_apex() {
        assert!(matches("*.example.com", "a.example.com"));
        assert!(matches("*.example.com", "a.b.example.com"));
        assert!(!matches("*.example.com", "example.com"));
        assert!(!matches("*.example.com", "badexample.com"));
        assert!(matches("Example.COM.", "example.com"));
        assert!(!matches("example.com", "example.com.evil.net"));
    }

    #[test]
    fn addresses_match_addresses_alone() {
        assert!(matches("10.0.0.0/8", "10.200.0.1"));
        assert!(!matches("10.0.0.0/8", "11.0.0.1"));
        assert!(matches("[fd00::/8]", "[fd12::1]"));
        assert!(matches("0.0.0.0/0", "1.2.3.4"));
        assert!(!matches("0.0.0.0/0", "::1"));
        assert!(!matches("0.0.0.0/0", "example.com"));
        assert!(matches("[::ffff:10.0.0.0/104]", "10.1.1.1"));
        assert!(matches("[::ffff:10.0.0.1]", "10.0.0.1"));
        assert!(matches("*", "example.com"));
        assert!(matches("*", "::1"));
    }

    #[test]
    fn refuses_what_is_no_pattern_of_hosts() {
        let bad = [
            "",
            "*.",
            "a*.com",
            "*a.com",
            "a.*.com",
            "fd00::1",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "[1.2.3.4]",
        ];
        for text in bad {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_anybody_can_register_is_too_wide_to_allow() {
        let wide = |text| HostPattern::parse(text).expect("a pattern").too_wide_to_allow().is_some();
        assert!(wide("*") && wide("*.com") && wide("*.co.uk") && wide("0.0.0.0/0") && wide("[::/0]"));
        assert!(!wide("*.example.com") && !wide("*.co.com") && !wide("com") && !wide("10.0.0.0/8"));
    }
}
