//! One rule: which requests it is about, and what it says of them.
//!
//! `METHOD[,METHOD…]|* HOST[:PORT][/PATH]`; HTTPS unless written `http://…`, the scheme's own port unless one is
//! written, and every path unless one is written.

use super::error::{Complaint, hint_of};
use super::host_pattern::HostPattern;
use super::path_glob::PathGlob;
use crate::model::{Port, RequestLine, Scheme};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

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

/// How a rule should be written, for hints.
const SHAPE: &str = "write it like `GET,POST api.example.com/v1/**`";

/// What a rule says of the requests it matches, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// They may go.
    Allow,
    /// A person must say.
    Ask,
    /// They may not go.
    Deny,
}

impl Effect {
    /// The word it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a rule comes from, from the widest to the narrowest. It never changes a verdict, only who is named for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The organisation.
    Organisation,
    /// The project.
    Project,
    /// The profile of the harness.
    Profile,
    /// The command line of one session.
    Session,
}

impl Level {
    /// The level's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Project => "project",
            Self::Profile => "profile",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule as a person wrote it, not yet understood, with the place of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRule {
    /// What it says of the requests it matches.
    pub effect: Effect,
    /// The rule's text, without the effect.
    pub text: String,
    /// The line, from 1.
    pub line: usize,
    /// The column of the text's first character, from 1.
    pub column: usize,
}

impl WrittenRule {
    /// A rule that stands in no file, such as one of the command line.
    #[must_use]
    pub fn alone(effect: Effect, text: &str) -> Self {
        Self { effect, text: text.to_owned(), line: 1, column: 1 }
    }

    fn complaint(&self, offset: usize, message: impl Into<String>, hint: impl Into<String>) -> Complaint {
        let (message, hint) = (message.into(), Some(hint.into()));
        Complaint { line: self.line, column: self.column + offset, message, hint }
    }
}

/// A rule that was understood. Its text form is its effect and the canonical form of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    effect: Effect,
    level: Level,
    label: String,
    written: String,
    matcher: Matcher,
}

/// Which requests a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Matcher {
    /// The methods; empty for any.
    methods: BTreeSet<&'static str>,
    scheme: Scheme,
    host: HostPattern,
    port: Port,
    path: PathGlob,
}

impl Rule {
    /// What it says.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Who says it.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The file it comes from, or where else.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its text as written, without the effect.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.written
    }

    /// Whether it is about this request.
    #[must_use]
    pub fn matches(&self, line: &RequestLine) -> bool {
        self.matcher.matches(line)
    }

    /// Understands a written rule.
    pub(super) fn parse(level: Level, label: &str, written: &WrittenRule) -> Result<Self, Complaint> {
        let matcher = Matcher::parse(written)?;
        if written.effect == Effect::Allow
            && let Some(message) = matcher.host.too_wide_to_allow()
        {
            return Err(written.complaint(0, message, "name the hosts that are needed, or use `ask`"));
        }
        let text = written.text.trim().to_owned();
        Ok(Self { effect: written.effect, level, label: label.to_owned(), written: text, matcher })
    }

    /// What rules are ordered by: the strictest first, then the widest level, then the text.
    pub(super) fn rank(&self) -> impl Ord + '_ {
        (std::cmp::Reverse(self.effect), &self.matcher, self.level, &self.label, &self.written)
    }

    /// Whether two rules say the same of the same requests.
    pub(super) fn means(&self, other: &Self) -> bool {
        self.effect == other.effect && self.matcher == other.matcher
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.effect, self.matcher)
    }
}

impl Matcher {
    pub(super) fn matches(&self, line: &RequestLine) -> bool {
        (self.methods.is_empty() || self.methods.contains(line.method.as_str()))
            && self.scheme == line.scheme
            && self.port == line.port
            && self.host.matches(&line.host)
            && self.path.matches(&line.path)
    }

    pub(super) fn parse(written: &WrittenRule) -> Result<Self, Complaint> {
        let mut words = words(&written.text).into_iter();
        let (Some((at, methods)), Some((target_at, target))) = (words.next(), words.next()) else {
            return Err(written.complaint(0, "a rule has a method and a host", SHAPE));
        };
        if let Some((at, word)) = words.next() {
            return Err(written.complaint(at, format!("`{word}` is left over behind the rule"), SHAPE));
        }
        let methods = parse_methods(written, at, methods)?;
        let (scheme, rest) = parse_scheme(written, target_at, target)?;
        let rest_at = target_at + count(target) - count(rest);
        let Parts { host, port, path } = split(rest);
        let pattern =
            HostPattern::parse(&host).map_err(|error| written.complaint(rest_at, error.message, error.hint))?;
        let port_at = rest_at + count(rest) - count(path) - port.map_or(0, count);
        let port = parse_port(written, port_at, scheme, port, rest)?;
        let path_at = rest_at + count(rest) - count(path);
        let path = if path.is_empty() { "/**" } else { path };
        let path = PathGlob::parse(path)
            .map_err(|error| written.complaint(path_at + error.offset, error.message, error.hint))?;
        Ok(Self { methods, scheme, host: pattern, port, path })
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
) -> Result<Port, Complaint> {
    let Some(text) = port else {
        return Ok(scheme.default_port());
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if port > 0 && digits => Ok(Port(port)),
        _ => {
            let authority = target.split('/').next().unwrap_or(target);
            let hint = match authority.parse::<Ipv6Addr>() {
                Ok(address) => format!("an IPv6 address stands in brackets: `[{address}]`"),
                Err(_) => "a port is a number from 1 to 65535".to_owned(),
            };
            Err(written.complaint(at, format!("`{text}` is not a port"), hint))
        }
    }
}

/// Whether a rule can name this method.
pub(super) fn is_method(name: &str) -> bool {
    METHODS.contains(&name)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.methods.is_empty() {
            true => f.write_str("*")?,
            false => f.write_str(&self.methods.iter().copied().collect::<Vec<_>>().join(","))?,
        }
        let scheme = if self.scheme == Scheme::Http { "http://" } else { "" };
        write!(f, " {scheme}{}", self.host)?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(self.path.as_str())
    }
}
