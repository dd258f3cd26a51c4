//! From what a client wrote to what is judged: one canonical host, port, method and path. Pure functions.
//!
//! Whatever two readers could read differently is refused here, so that the rule that was checked and the upstream that
//! answers can never mean different things.

use crate::model::{Host, Port, RequestLine, Scheme};
use crate::policy::{Act, Disagreement, RequestFacts};
use http::header::{HOST, MAX_FORWARDS};
use http::{HeaderMap, Method, Uri, request};

/// Longest path that is taken.
const PATH_BYTES_MAX: usize = 16 * 1024;

/// Where a connection says it is going. A claim until every other name agrees with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Where the host comes from, for a person, such as `the name asked of DNS`.
    pub source: &'static str,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Port,
    /// Plain or in TLS.
    pub scheme: Scheme,
    /// The name of the TLS handshake, if there was one and it contradicts the host.
    pub other_sni: Option<String>,
}

/// A request that can be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    /// What is judged.
    pub facts: RequestFacts,
    /// The path and query that go upstream: the very path that is judged.
    pub target: String,
    /// What the request does, where its shape tells.
    pub act: Option<Act>,
}

/// A request that cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The status of the answer.
    pub status: u16,
    /// Why, for a person.
    pub reason: String,
    /// What can be said about the request, for the record.
    pub line: RequestLine,
}

/// Builds the facts of one request.
pub(super) fn facts(claim: &Claim, head: &request::Parts) -> Result<Judged, Malformed> {
    let malformed = |status: u16, reason: &str| Malformed {
        status,
        reason: reason.to_owned(),
        line: line(claim, &head.method, head.uri.path()),
    };
    check_method(&head.method).map_err(|(status, reason)| malformed(status, reason))?;
    check_framing(&head.headers).map_err(|reason| malformed(400, reason))?;
    check_overrides(&head.method, &head.headers).map_err(|reason| malformed(400, reason))?;
    if head.uri.path().len() > PATH_BYTES_MAX {
        return Err(malformed(414, "its path is too long"));
    }
    let path = normalise_path(head.uri.path()).map_err(|reason| malformed(400, reason))?;
    if head.uri.scheme_str().is_some_and(|scheme| scheme != claim.scheme.as_str()) {
        return Err(malformed(400, "its URL has another scheme than its connection"));
    }
    let disagreement = disagreement(claim, head).map_err(|reason| malformed(400, reason))?;
    let target = match head.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.clone(),
    };
    let line = line(claim, &head.method, &path);
    let act = Act::of(&line, head.uri.query(), &head.headers);
    Ok(Judged { facts: RequestFacts { line, disagreement }, target, act })
}

fn line(claim: &Claim, method: &Method, path: &str) -> RequestLine {
    RequestLine {
        method: method.as_str().to_owned(),
        scheme: claim.scheme,
        host: claim.host.clone(),
        port: claim.port,
        path: path.to_owned(),
    }
}

/// Methods are compared letter by letter everywhere, so only capitals are taken.
fn check_method(method: &Method) -> Result<(), (u16, &'static str)> {
    if *method == Method::TRACE || *method == Method::CONNECT {
        return Err((405, "this method is not carried"));
    }
    if method.as_str().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err((400, "its method is not written in capitals"));
    }
    Ok(())
}

/// A body whose end two readers could see in different places is a second request in hiding.
fn check_framing(headers: &HeaderMap) -> Result<(), &'static str> {
    let lengths = headers.get_all(http::header::CONTENT_LENGTH).iter().count();
    if lengths > 0 && headers.contains_key(http::header::TRANSFER_ENCODING) {
        return Err("it has both a Content-Length and a Transfer-Encoding");
    }
    if lengths > 1 {
        return Err("it has more than one Content-Length");
    }
    Ok(())
}

/// Headers by which some servers take another path than the one that was judged.
const PATH_OVERRIDES: [&str; 2] = ["x-original-url", "x-rewrite-url"];

fn check_overrides(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    if PATH_OVERRIDES.iter().any(|name| headers.contains_key(*name)) {
        return Err("it has a header that names another path for some servers (X-Original-URL or X-Rewrite-URL)");
    }
    let is_last = |value: &http::HeaderValue| value.to_str().is_ok_and(|value| value.trim() == "0");
    if *method == Method::OPTIONS && headers.get_all(MAX_FORWARDS).iter().any(is_last) {
        return Err("its Max-Forwards lets it go no further than here");
    }
    Ok(())
}

/// Compares every name of the request with the claim; the first contradiction is a fact.
fn disagreement(claim: &Claim, head: &request::Parts) -> Result<Option<Disagreement>, &'static str> {
    let claimed = || format!("{} ({}:{})", claim.source, claim.host, claim.port);
    if let Some(sni) = &claim.other_sni {
        return Ok(Some(Disagreement { first: claimed(), second: format!("the name of its TLS handshake ({sni})") }));
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let header = hosts.next().map(|value| value.to_str().map_err(|_| "its Host header is not plain text"));
    if hosts.next().is_some() {
        return Err("it has more than one Host header");
    }
    let header = header.transpose()?;
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    if header.is_none() && authority.is_none() && head.version == http::Version::HTTP_11 {
        return Err("it has no Host header");
    }
    for (what, text) in [("its Host header", header), ("the authority of its URL", authority)] {
        let Some(text) = text.filter(|text| !is_claimed(claim, text)) else { continue };
        let named =
            parse_authority(text, claim.scheme).ok_or("its Host header or authority is not a host and a port")?;
        if named != (claim.host.clone(), claim.port) {
            return Ok(Some(Disagreement { first: claimed(), second: format!("{what} ({text})") }));
        }
    }
    Ok(None)
}

/// Whether this is the claimed host in its one form, as most clients write it.
fn is_claimed(claim: &Claim, text: &str) -> bool {
    let Host::Name(name) = &claim.host else { return false };
    claim.port == claim.scheme.default_port() && name.as_str() == text
}

/// Reads `host[:port]` without user information; a port that is missing is the scheme's.
pub(super) fn parse_authority(text: &str, scheme: Scheme) -> Option<(Host, Port)> {
    let after_host = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(after_host);
    let port = match rest.strip_prefix(':') {
        None if rest.is_empty() => scheme.default_port(),
        Some("") => scheme.default_port(),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Port(digits.parse().ok()?),
        _ => return None,
    };
    // An IPv6 address must stand in brackets here, or its last group could be a port.
    Some((Host::parse(host).ok()?, port))
}

/// Reads the target of a CONNECT, which always has a port.
pub(super) fn connect_target(uri: &Uri) -> Option<(Host, Port)> {
    let authority = uri.authority()?.as_str();
    let port = authority.rsplit(':').next()?;
    if port.is_empty() || port.contains(']') || !authority.contains(':') {
        return None;
    }
    parse_authority(authority, Scheme::Https).filter(|(_, port)| port.0 != 0)
}

/// The one form of a path: unreserved characters plain, everything else in capitals of hexadecimal, no dot segments.
///
/// An encoded slash, backslash, NUL or control character is refused, as is a percent sign that starts nothing: servers
/// differ in what they make of them. Empty segments stay, because for some servers they matter.
pub(super) fn normalise_path(path: &str) -> Result<String, &'static str> {
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    if is_normal(path) { Ok(path.to_owned()) } else { rewrite_path(path) }
}

fn rewrite_path(path: &str) -> Result<String, &'static str> {
    let decoded = decode_unreserved(path.as_bytes())?;
    let Some(rest) = decoded.strip_prefix('/') else {
        return Err("its path does not begin with `/`");
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut open = false;
    for segment in rest.split('/') {
        open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." if kept.pop().is_none() => return Err("its path climbs above the root"),
            ".." => {}
            _ if segment.split("%2F").any(|part| matches!(part, "." | "..")) => {
                return Err("its path has a `.` or `..` beside an encoded `/`, which servers read in different ways");
            }
            _ => kept.push(segment),
        }
    }
    let end = if open && !kept.is_empty() { "/" } else { "" };
    Ok(format!("/{}{end}", kept.join("/")))
}

/// Whether a path is in its one form already: nothing encoded or to be encoded, and no segment that begins with a dot.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    bytes.first() == Some(&b'/')
        && bytes.iter().all(|byte| is_plain(*byte))
        && !bytes.windows(2).any(|pair| matches!(pair, b"/."))
}

fn decode_unreserved(path: &[u8]) -> Result<String, &'static str> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        let (byte, encoded) = if byte == b'%' {
            (hex_pair(rest.next(), rest.next()).ok_or("its path has a `%` that is not an encoded character")?, true)
        } else {
            (byte, false)
        };
        match byte {
            b'/' if encoded => out.push_str("%2F"),
            b'\\' => return Err("its path has a `\\`, which servers read in different ways"),
            0..=0x1f | 0x7f => return Err("its path has a control character"),
            _ if is_unreserved(byte) => out.push(char::from(byte)),
            _ if !encoded && is_path_char(byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(out)
}

fn hex_pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What may stand in a path as it is (RFC 3986, section 3.3), beside the unreserved characters.
fn is_path_char(byte: u8) -> bool {
    b"/!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
