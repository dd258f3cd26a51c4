//! Rules about connections that are not read: `tcp://HOST:PORT`, and `tls://HOST[:PORT]` for TLS that is not opened.

use super::{Complaint, HostPattern, Matcher, Parts, PathGlob, Quota, WrittenRule};
use super::{count, parse_conditions, parse_port, split};
use crate::model::{Host, LOOPBACK_NAME, Scheme};
use std::collections::BTreeSet;
use std::fmt;

/// How such a rule should be written, for hints.
const SHAPE: &str = "write it like `tcp: db.example.com:5432`";

/// The scheme of a target of this kind.
pub(super) fn scheme_of(word: &str) -> Option<Scheme> {
    match word.split_once("://") {
        Some(("tcp", _)) => Some(Scheme::Tcp),
        Some(("tls", _)) => Some(Scheme::Tls),
        _ => None,
    }
}

impl Matcher {
    /// Understands what follows the scheme. Such a rule has no method, no path and no condition: there is nothing to read
    /// them from.
    pub(super) fn parse_opaque<'a>(
        written: &WrittenRule,
        at: usize,
        target: &'a str,
        words: impl Iterator<Item = (usize, &'a str)>,
    ) -> Result<(Self, Quota), Complaint> {
        let (scheme, (_, rest)) = scheme_of(target)
            .zip(target.split_once("://"))
            .ok_or_else(|| written.complaint(at, "a rule has a host", SHAPE))?;
        let rest_at = at + count(target) - count(rest);
        let Parts { host, port, path } = split(rest);
        if !path.is_empty() {
            let path_at = rest_at + count(rest) - count(path);
            return Err(written.complaint(path_at, "a connection that is not read has no path", SHAPE));
        }
        if scheme == Scheme::Tcp && port.is_none() {
            return Err(written.complaint(rest_at, "a `tcp` rule names its port", SHAPE));
        }
        let (conditions, quota) = parse_conditions(written, words)?;
        if conditions != super::Conditions::default() {
            let message = "a connection that is not read has no header, query or reference to judge";
            return Err(written.complaint(0, message, SHAPE));
        }
        let pattern =
            HostPattern::parse(&host).map_err(|error| written.complaint(rest_at, error.message, error.hint))?;
        let port_at = rest_at + count(rest) - port.map_or(0, count);
        let port = parse_port(written, port_at, scheme, port, rest)?;
        let everything = PathGlob::parse("/**").map_err(|error| written.complaint(at, error.message, error.hint))?;
        let matcher = Self { methods: BTreeSet::new(), scheme, host: pattern, port, path: everything, conditions };
        Ok((matcher, quota))
    }

    /// Whether it is about the host's own loopback without naming it, which would open that by accident.
    pub(in crate::policy) fn covers_loopback_unnamed(&self) -> bool {
        let loopback = Host::parse(LOOPBACK_NAME);
        self.scheme == Scheme::Tcp
            && !matches!(self.host, HostPattern::Name(_))
            && loopback.is_ok_and(|host| self.host.matches(&host))
    }

    pub(super) fn write_opaque(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            None => f.write_str(":*")?,
            Some(port) if port != self.scheme.default_port() => write!(f, ":{port}")?,
            Some(_) => {}
        }
        write!(f, "{}", self.conditions)
    }
}
