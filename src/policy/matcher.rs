//! Which requests a rule is about, and how that is written: `METHOD[,METHOD…]|* HOST[:PORT][/PATH]`.

use super::condition::{Conditions, Particulars};
use super::error::{Complaint, hint_of};
use super::git_push::RefUpdate;
use super::host_pattern::HostPattern;
use super::path_glob::PathGlob;
use super::quota::Quota;
use super::rule::WrittenRule;
use crate::model::{Host, Port, RequestLine, Scheme};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

#[path = "opaque.rs"]
mod opaque;

/// The methods a rule can name: those of the IANA registry that a proxied request can carry, and PURGE.
const METHODS: [&str; 39] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// What stands for every path.
const EVERY_PATH: &str = "/**";
/// How a rule should be written, for hints.
const SHAPE: &str = "write it like `GET,POST api.example.com/v1/**`";

/// Which requests a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Matcher {
    /// The methods; empty for any.
    methods: BTreeSet<&'static str>,
    scheme: Scheme,
    host: HostPattern,
    /// The port; none for any.
    port: Option<Port>,
    path: PathGlob,
    conditions: Conditions,
}

/// A slash that a client encoded so that it is no separator, as npm does in `/@scope%2Fname`. Some servers read it as one
/// all the same.
const ENCODED_SLASH: &str = "%2F";

fn decode_slashes(path: &str) -> String {
    path.replace(ENCODED_SLASH, "/")
}

fn drop_empty_segments(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

/// Whether servers could read a path in more ways than one.
pub(super) fn has_several_readings(path: &str) -> bool {
    path.contains("//") || path.contains(ENCODED_SLASH)
}

impl Matcher {
    /// The hosts.
    pub(super) fn host(&self) -> &HostPattern {
        &self.host
    }

    /// The paths.
    pub(super) fn path(&self) -> &PathGlob {
        &self.path
    }

    /// Whether what it is about depends on which secret files were read.
    pub(super) fn asks_about_secret_files(&self) -> bool {
        self.conditions.ask_about_secret_files()
    }

    /// What of requests it asks about that no record holds, in a person's words.
    pub(super) fn unrecorded(&self) -> BTreeSet<String> {
        self.conditions.unrecorded()
    }

    /// Whether what the request says beyond its line is as the rule has it.
    pub(super) fn conditions_are_met(&self, by: &Particulars<'_>, update: Option<&RefUpdate>, strictly: bool) -> bool {
        self.conditions.are_met(by, update, strictly)
    }

    /// The same of what a record holds.
    pub(super) fn recorded_conditions_are_met(
        &self,
        by: &Particulars<'_>,
        update: Option<&RefUpdate>,
        strictly: bool,
    ) -> bool {
        self.conditions.recorded_are_met(by, update, strictly)
    }

    /// Whether a rule is about this request.
    pub(super) fn matches(&self, line: &RequestLine) -> bool {
        self.matches_but_for_path(line) && self.path.matches(&line.path)
    }

    /// Whether a rule is about this request in one of the other ways in which a server could read its path: encoded
    /// slashes as slashes, empty segments dropped, or both.
    pub(super) fn matches_another_reading(&self, line: &RequestLine) -> bool {
        if !has_several_readings(&line.path) || !self.matches_but_for_path(line) {
            return false;
        }
        let decoded = decode_slashes(&line.path);
        [drop_empty_segments(&line.path), drop_empty_segments(&decoded), decoded]
            .iter()
            .any(|path| self.path.matches(path))
    }

    /// Whether a rule is about this request with encoded slashes read as slashes.
    pub(super) fn matches_decoded(&self, line: &RequestLine) -> bool {
        !line.path.contains(ENCODED_SLASH)
            || (self.matches_but_for_path(line) && self.path.matches(&decode_slashes(&line.path)))
    }

    /// Why an `allow` rule may not be this wide, if it may not.
    pub(super) fn too_wide_to_allow(&self) -> Option<String> {
        let any_port = self.port.is_none().then(|| "`:*` allows every port there is".to_owned());
        self.host.too_wide_to_allow().or(any_port)
    }

    /// Whether a rule is about some request to this host.
    pub(super) fn concerns(&self, host: &Host) -> bool {
        self.host.matches(host)
    }

    fn matches_but_for_path(&self, line: &RequestLine) -> bool {
        (self.methods.is_empty() || self.methods.contains(line.method.as_str()))
            && self.scheme == line.scheme
            && self.port.is_none_or(|port| port == line.port)
            && self.host.matches(&line.host)
    }

    /// Understands a rule's text: which requests, and how much of them.
    pub(super) fn parse(written: &WrittenRule) -> Result<(Self, Quota), Complaint> {
        let mut words = words(&written.text).into_iter().peekable();
        if let Some((at, target)) = words.next_if(|(_, word)| opaque::scheme_of(word).is_some()) {
            return Self::parse_opaque(written, at, target, words);
        }
        let (Some((at, methods)), Some((target_at, target))) = (words.next(), words.next()) else {
            return Err(written.complaint(0, "a rule has a method and a host", SHAPE));
        };
        let (conditions, quota) = parse_conditions(written, words)?;
        let methods = parse_methods(written, at, methods)?;
        let (scheme, rest) = parse_scheme(written, target_at, target)?;
        let rest_at = target_at + count(target) - count(rest);
        let Parts { host, port, path } = split(rest);
        let pattern = HostPattern::parse(&host).map_err(|error| {
            written.complaint(rest_at, error.message, bare_address_hint(rest).unwrap_or(error.hint))
        })?;
        let port_at = rest_at + count(rest) - count(path) - port.map_or(0, count);
        let port = parse_port(written, port_at, scheme, port, rest)?;
        let path_at = rest_at + count(rest) - count(path);
        let path = if path.is_empty() { EVERY_PATH } else { path };
        let path = PathGlob::parse(path)
            .map_err(|error| written.complaint(path_at + error.offset, error.message, error.hint))?;
        Ok((Self { methods, scheme, host: pattern, port, path, conditions }, quota))
    }

    /// Whether a rule is about some request to this host and port.
    pub(super) fn concerns_place(&self, host: &Host, port: Port) -> bool {
        self.port.is_none_or(|own| own == port) && self.host.matches(host)
    }

    /// Whether every request by TLS to its hosts and ports matches.
    pub(super) fn is_about_everything(&self) -> bool {
        let everything = self.path.as_str() == EVERY_PATH && self.conditions == Conditions::default();
        self.scheme == Scheme::Https && self.methods.is_empty() && everything
    }

    /// What the requests are carried by.
    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }
}

fn count(text: &str) -> usize {
    text.chars().count()
}

/// The words of a text, each with how many characters stand before it.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut at = 0;
    let mut words = Vec::new();
    for word in text.split(char::is_whitespace) {
        if !word.is_empty() {
            words.push((at, word));
        }
        at += count(word) + 1;
    }
    words
}

fn parse_conditions<'a>(
    written: &WrittenRule,
    words: impl Iterator<Item = (usize, &'a str)>,
) -> Result<(Conditions, Quota), Complaint> {
    let (mut conditions, mut quota) = (Conditions::default(), Quota::default());
    for (at, word) in words {
        let Some((key, value)) = word.split_once('=') else {
            return Err(written.complaint(at, format!("`{word}` is left over behind the rule"), SHAPE));
        };
        let is_condition =
            conditions.add(key, value).map_err(|error| written.complaint(at, error.message, error.hint))?;
        if !is_condition {
            quota.add(key, value).map_err(|error| written.complaint(at, error.message, error.hint))?;
        }
    }
    Ok((conditions, quota))
}

fn parse_methods(written: &WrittenRule, at: usize, text: &str) -> Result<BTreeSet<&'static str>, Complaint> {
    let mut methods = BTreeSet::new();
    if text == "*" {
        return Ok(methods);
    }
    let mut offset = at;
    for name in text.split(',') {
        let Some(known) = METHODS.iter().find(|known| **known == name) else {
            let hint = if name == "*" { "`*` stands alone".to_owned() } else { method_hint(name) };
            return Err(written.complaint(offset, format!("`{name}` is not a method"), hint));
        };
        methods.insert(*known);
        offset += count(name) + 1;
    }
    Ok(methods)
}

fn method_hint(name: &str) -> String {
    match hint_of(name, &METHODS) {
        hint if hint.starts_with("did") => hint,
        _ => SHAPE.to_owned(),
    }
}

fn parse_scheme<'a>(written: &WrittenRule, at: usize, target: &'a str) -> Result<(Scheme, &'a str), Complaint> {
    match target.split_once("://") {
        None => Ok((Scheme::Https, target)),
        Some(("https", rest)) => Ok((Scheme::Https, rest)),
        Some(("http", rest)) => Ok((Scheme::Http, rest)),
        Some(("ws" | "wss", _)) => {
            let hint = "a WebSocket begins as a GET over http or https: write that";
            Err(written.complaint(at, "rules are about HTTP requests", hint))
        }
        Some((scheme, _)) if scheme.contains('/') => Ok((Scheme::Https, target)),
        Some((scheme, _)) => {
            Err(written.complaint(at, format!("`{scheme}://` is not a scheme of requests"), "write `http://`, or none"))
        }
    }
}

/// The three parts of a rule's target.
struct Parts<'a> {
    host: String,
    port: Option<&'a str>,
    path: &'a str,
}

/// Splits a target. The slash of a block of addresses belongs to its host.
fn split(target: &str) -> Parts<'_> {
    let end = match target.strip_prefix('[') {
        Some(_) => target.find(']').map_or(target.len(), |at| at + 1),
        None => target.find(['/', ':']).unwrap_or(target.len()),
    };
    let (host, rest) = target.split_at(end);
    let (host, rest) = with_block(host, rest);
    match rest.strip_prefix(':') {
        Some(rest) => {
            let (port, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            Parts { host, port: Some(port), path }
        }
        None => Parts { host, port: None, path: rest },
    }
}

/// Moves the length of a block from behind its address to the address.
fn with_block<'a>(host: &str, rest: &'a str) -> (String, &'a str) {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_address = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv4Addr>().is_ok(),
    };
    let digits = rest.strip_prefix('/').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    if !is_address || digits == 0 {
        return (host.to_owned(), rest);
    }
    let (bits, after) = rest.split_at(1 + digits);
    match (inner, after.as_bytes().first()) {
        (_, Some(byte)) if !matches!(byte, b':' | b'/') => (host.to_owned(), rest),
        (Some(inner), _) => (format!("[{inner}{bits}]"), after),
        (None, _) => (format!("{host}{bits}"), after),
    }
}

fn parse_port(
    written: &WrittenRule,
    at: usize,
    scheme: Scheme,
    port: Option<&str>,
    target: &str,
) -> Result<Option<Port>, Complaint> {
    let text = match port {
        None => return Ok(Some(scheme.default_port())),
        Some("*") => return Ok(None),
        Some(text) => text,
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if port > 0 && digits => Ok(Some(Port(port))),
        _ => {
            let hint = || "a port is a number from 1 to 65535, or `*`".to_owned();
            let hint = bare_address_hint(target).unwrap_or_else(hint);
            Err(written.complaint(at, format!("`{text}` is not a port"), hint))
        }
    }
}

/// What to do about an IPv6 address that was written as it is, whose first part looks like a host and the next like its
/// port.
fn bare_address_hint(target: &str) -> Option<String> {
    let authority = target.split('/').next().unwrap_or(target);
    let address = authority.parse::<Ipv6Addr>().ok()?;
    Some(format!("an IPv6 address stands in brackets: `[{address}]`"))
}

/// Whether a rule can name this method.
pub(super) fn is_method(name: &str) -> bool {
    METHODS.contains(&name)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.scheme.is_opaque() {
            return self.write_opaque(f);
        }
        match self.methods.is_empty() {
            true => f.write_str("*")?,
            false => f.write_str(&self.methods.iter().copied().collect::<Vec<_>>().join(","))?,
        }
        let scheme = if self.scheme == Scheme::Http { "http://" } else { "" };
        write!(f, " {scheme}{}", self.host)?;
        match self.port {
            None => f.write_str(":*")?,
            Some(port) if port != self.scheme.default_port() => write!(f, ":{port}")?,
            Some(_) => {}
        }
        write!(f, "{}{}", self.path.as_str(), self.conditions)
    }
}
