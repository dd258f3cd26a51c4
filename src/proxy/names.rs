//! The table of synthetic addresses: what our resolver hands out, and which name each address stands for.
//!
//! An address is a claim about a name and is never dialled. Entries are never reused within a session, so an address
//! that a program kept can never come to mean another name.

use crate::model::HostName;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many names one session can ask for.
pub(super) const NAMES_MAX: usize = 65_536;
/// First address of 198.18.0.0/15, reserved for benchmarks (RFC 2544), so that no real host has it.
const V4_BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Bits of the IPv4 range's prefix.
const V4_PREFIX: u32 = 15;
/// First address of fd77:0:0:1::/64, locally assigned.
const V6_BASE: u128 = 0xfd77_0000_0000_0001_0000_0000_0000_0000;
/// Bits of the IPv6 range's prefix.
const V6_PREFIX: u32 = 64;

/// The two addresses that stand for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Synthetic {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
    /// Whether the name was asked for the first time.
    pub fresh: bool,
}

/// What an address is, to this table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It stands for this name.
    Name(HostName),
    /// It lies in a synthetic range but was never handed out.
    Unknown,
    /// It is an address like any other.
    Literal,
}

/// Names by address and addresses by name, bounded by [`NAMES_MAX`].
#[derive(Default)]
pub(super) struct Names {
    by_name: HashMap<HostName, u32>,
    by_index: Vec<HostName>,
}

impl Names {
    /// The addresses of a name, new ones if it has none yet; `None` when the table is full.
    pub(super) fn assign(&mut self, name: &HostName) -> Option<Synthetic> {
        if let Some(index) = self.by_name.get(name) {
            return Some(synthetic(*index, false));
        }
        if self.by_index.len() >= NAMES_MAX {
            return None;
        }
        let index = u32::try_from(self.by_index.len()).ok()?;
        self.by_index.push(name.clone());
        self.by_name.insert(name.clone(), index);
        Some(synthetic(index, true))
    }

    /// What an address stands for.
    pub(super) fn meaning(&self, address: IpAddr) -> Meaning {
        let offset = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let distance = u32::from(v4) ^ V4_BASE;
                if distance >> (32 - V4_PREFIX) != 0 {
                    return Meaning::Literal;
                }
                usize::try_from(distance).ok()
            }
            IpAddr::V6(v6) => {
                let distance = u128::from(v6) ^ V6_BASE;
                if distance >> (128 - V6_PREFIX) != 0 {
                    return Meaning::Literal;
                }
                usize::try_from(distance).ok()
            }
        };
        let name = offset.and_then(|offset| offset.checked_sub(1)).and_then(|index| self.by_index.get(index));
        name.map_or(Meaning::Unknown, |name| Meaning::Name(name.clone()))
    }
}

/// The addresses of the `index`-th name; the ranges' first address stays unused.
fn synthetic(index: u32, fresh: bool) -> Synthetic {
    let offset = index + 1;
    Synthetic { v4: Ipv4Addr::from(V4_BASE + offset), v6: Ipv6Addr::from(V6_BASE + u128::from(offset)), fresh }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> HostName {
        HostName::parse(text).unwrap()
    }

    #[test]
    fn an_address_leads_back_to_its_name() {
        let mut names = Names::default();
        let first = names.assign(&name("a.example")).unwrap();
        let second = names.assign(&name("b.example")).unwrap();
        let again = names.assign(&name("A.example.")).unwrap();
        assert_eq!(
            first,
            Synthetic { v4: Ipv4Addr::new(198, 18, 0, 1), v6: "fd77:0:0:1::1".parse().unwrap(), fresh: true }
        );
        assert_eq!(again, Synthetic { fresh: false, ..first });
        assert_eq!(names.meaning(second.v4.into()), Meaning::Name(name("b.example")));
        assert_eq!(names.meaning(second.v6.into()), Meaning::Name(name("b.example")));
        assert_eq!(names.meaning(second.v4.to_ipv6_mapped().into()), Meaning::Name(name("b.example")));
    }

    #[test]
    fn an_address_nobody_was_given_is_unknown_and_a_real_one_is_literal() {
        let names = Names::default();
        for text in ["198.18.0.0", "198.18.0.1", "198.19.255.255", "fd77:0:0:1::", "fd77:0:0:1:ffff:ffff:ffff:ffff"] {
            assert_eq!(names.meaning(text.parse().unwrap()), Meaning::Unknown, "{text}");
        }
        for text in ["198.17.255.255", "198.20.0.0", "1.1.1.1", "fd77::1", "fd77:0:0:2::1"] {
            assert_eq!(names.meaning(text.parse().unwrap()), Meaning::Literal, "{text}");
        }
    }

    #[test]
    fn a_full_table_gives_no_more_names_and_keeps_the_old() {
        let mut names = Names::default();
        for index in 0..NAMES_MAX {
            assert!(names.assign(&name(&format!("n{index}.example"))).is_some());
        }
        assert_eq!(names.assign(&name("one-more.example")), None);
        let last = names.assign(&name(&format!("n{}.example", NAMES_MAX - 1))).unwrap();
        assert_eq!(names.meaning(last.v4.into()), Meaning::Name(name(&format!("n{}.example", NAMES_MAX - 1))));
    }
}
