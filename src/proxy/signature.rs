//! AWS's Signature Version 4: reading what a client signed with a placeholder, and signing it anew.
//!
//! Format: AWS General Reference, "Create a signed AWS API request". S3 encodes paths once, every other service twice.

use aws_lc_rs::{digest, hmac};
use http::HeaderMap;
use http::header::{HOST, HeaderName};
use std::fmt::Write as _;

/// The algorithm, which begins the header.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What ends a scope.
const TERMINATOR: &str = "aws4_request";
/// The header that says what the payload's hash is, or that it is not signed.
pub(super) const CONTENT_SHA256: &str = "x-amz-content-sha256";
/// The header that says when it was signed.
const DATE: &str = "x-amz-date";
/// The header of a session's token.
pub(super) const TOKEN: &str = "x-amz-security-token";
/// What begins the hash of a payload that is signed piece by piece.
const STREAMED: &str = "STREAMING-AWS4-";
/// Most headers that a client may sign.
const SIGNED_MAX: usize = 64;

/// What a client says of its signature, in `Authorization`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    /// The id of the key.
    pub key: String,
    /// Day, region, service.
    scope: [String; 3],
    /// The names of the headers that are signed, small and in order.
    signed: Vec<String>,
    signature: String,
}

/// The parts of a request that are signed besides its headers.
pub(super) struct Signed<'a> {
    pub method: &'a str,
    /// With the port where it is not 443.
    pub host: &'a str,
    pub target: &'a str,
    /// SHA-256 of the payload in hexadecimal, where no header says it.
    pub payload: Option<&'a str>,
}

/// A key to sign with.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub id: &'a str,
    pub secret: &'a str,
    pub token: Option<&'a str>,
}

impl<'a> Key<'a> {
    /// A key as it is kept: its id, its secret, and a session's token if there is one, with colons between them.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (id, rest) = text.split_once(':')?;
        let (secret, token) = rest.split_once(':').map_or((rest, None), |(secret, token)| (secret, Some(token)));
        let plain = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain && !secret.is_empty() && token != Some("")).then_some(Self { id, secret, token })
    }
}

impl Signature {
    /// Reads `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let rest = value.trim().strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        let mut parts = credential?.split('/').map(str::to_owned);
        let key = parts.next()?;
        let scope = [parts.next()?, parts.next()?, parts.next()?];
        let ends = parts.next()? == TERMINATOR && parts.next().is_none();
        let signed: Vec<String> = signed?.split(';').map(str::to_owned).collect();
        let signature = signature?.to_owned();
        let sound = ends
            && signed.len() <= SIGNED_MAX
            && signed.is_sorted()
            && signed.iter().any(|name| name == HOST.as_str())
            && signed
                .iter()
                .all(|name| HeaderName::from_bytes(name.as_bytes()).is_ok_and(|read| read.as_str() == name));
        sound.then_some(Self { key, scope, signed, signature })
    }

    /// Whether the payload is signed piece by piece, each over the signature before.
    pub(super) fn is_streamed(headers: &HeaderMap) -> bool {
        said(headers, CONTENT_SHA256).is_some_and(|hash| hash.starts_with(STREAMED))
    }

    /// Whether the payload itself must be read for its hash.
    pub(super) fn reads_payload(headers: &HeaderMap) -> bool {
        said(headers, CONTENT_SHA256).is_none()
    }

    /// Whether this is the signature of such a request by the key's secret.
    pub(super) fn verify(&self, request: &Signed<'_>, headers: &HeaderMap, secret: &str) -> bool {
        let made = self.make(request, headers, &self.signed, secret);
        made.is_some_and(|made| {
            aws_lc_rs::constant_time::verify_slices_are_equal(made.as_bytes(), self.signature.as_bytes()).is_ok()
        })
    }

    /// `Authorization` of the same request by another key. Headers that are gone by now are not signed, and those of the
    /// key's own are.
    pub(super) fn anew(&self, request: &Signed<'_>, headers: &HeaderMap, key: Key<'_>) -> Option<String> {
        let there = |name: &&String| *name == HOST.as_str() || headers.contains_key(name.as_str());
        let mut signed: Vec<String> = self.signed.iter().filter(there).cloned().collect();
        if key.token.is_some() && !signed.iter().any(|name| name == TOKEN) {
            signed.push(TOKEN.to_owned());
            signed.sort_unstable();
        }
        let made = self.make(request, headers, &signed, key.secret)?;
        let [day, region, service] = &self.scope;
        let (id, names) = (key.id, signed.join(";"));
        Some(format!(
            "{ALGORITHM} Credential={id}/{day}/{region}/{service}/{TERMINATOR}, SignedHeaders={names}, Signature={made}"
        ))
    }

    /// The signature of a request; none where something that it needs is not there.
    fn make(&self, request: &Signed<'_>, headers: &HeaderMap, signed: &[String], secret: &str) -> Option<String> {
        let [day, region, service] = &self.scope;
        let date = said(headers, DATE)?;
        if !date.starts_with(day.as_str()) {
            return None;
        }
        let canonical = canonical(request, headers, signed, service)?;
        let scope = format!("{day}/{region}/{service}/{TERMINATOR}");
        let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
        let first = zeroize::Zeroizing::new(format!("AWS4{secret}"));
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
        for part in [day, region, service, TERMINATOR] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        Some(hex(hmac::sign(&key, text.as_bytes()).as_ref()))
    }
}

/// The request as it is signed.
fn canonical(request: &Signed<'_>, headers: &HeaderMap, signed: &[String], service: &str) -> Option<String> {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let mut text = format!("{}\n{}\n{}\n", request.method, canonical_path(path, service), canonical_query(query));
    for name in signed {
        let value = match name.as_str() {
            "host" => request.host.to_owned(),
            name => canonical_value(headers, name)?,
        };
        // A string takes everything.
        let _ = writeln!(text, "{name}:{value}");
    }
    let payload = said(headers, CONTENT_SHA256).or(request.payload)?;
    let _ = write!(text, "\n{}\n{payload}", signed.join(";"));
    Some(text)
}

/// Of S3 the path as it is; of other services without empty and dotted parts, and encoded over what it is encoded.
fn canonical_path(path: &str, service: &str) -> String {
    let path = if path.is_empty() { "/" } else { path };
    if matches!(service, "s3" | "s3-object-lambda" | "s3-outposts" | "s3express") {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    let parts: Vec<String> = parts.into_iter().map(super::spot::percent_encoded).collect();
    format!("/{}{end}", parts.join("/"))
}

/// The parameters in order, each encoded as the format has it.
fn canonical_query(query: &str) -> String {
    let encoded = |text: &str| {
        let plain = super::watch::percent_decoded(text.as_bytes());
        plain.iter().fold(String::new(), |mut out, byte| {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                out.push(char::from(*byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            out
        })
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// A header's values as they are signed: without space around them, and single space within.
fn canonical_value(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).iter();
    let read = values.map(|value| Some(value.to_str().ok()?.split_ascii_whitespace().collect::<Vec<_>>().join(" ")));
    let values = read.collect::<Option<Vec<String>>>()?;
    (!values.is_empty()).then(|| values.join(","))
}

fn said<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// SHA-256 in hexadecimal.
pub(super) fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().fold(HeaderMap::new(), |mut headers, (name, value)| {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            headers
        })
    }

    fn suite(names: &str, signature: &str) -> Signature {
        let credential = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";
        let text = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}");
        Signature::parse(&text).unwrap()
    }

    /// AWS's published test suite, `aws-sig-v4-test-suite`, but for its paths that no client sends: unencoded ones.
    #[test]
    fn the_published_vectors_are_met() {
        let date = ("x-amz-date", "20150830T123600Z");
        let form = ("content-type", "application/x-www-form-urlencoded");
        let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let (of_path, of_query) = (format!("/{unreserved}"), format!("/?{unreserved}={unreserved}"));
        for (method, target, pairs, body, signature) in [
            ("GET", "/", vec![date], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("POST", "/", vec![date], "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
            (
                "GET",
                "/?Param2=value2&Param1=value1",
                vec![date],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "GET",
                of_path.as_str(),
                vec![date],
                "",
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
            (
                "GET",
                of_query.as_str(),
                vec![date],
                "",
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ),
            (
                "GET",
                "/?%E1%88%B4=bar",
                vec![date],
                "",
                "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ),
            ("GET", "/./", vec![date], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            ("GET", "/example/..", vec![date], "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "GET",
                "/",
                vec![("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1"), date],
                "",
                "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            ),
            (
                "GET",
                "/",
                vec![("my-header1", " value1"), ("my-header2", "  \"a   b   c\"  "), date],
                "",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ),
            (
                "POST",
                "/",
                vec![form, date],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            let mut names: Vec<&str> = pairs.iter().map(|(name, _)| *name).chain(["host"]).collect();
            names.sort_unstable();
            names.dedup();
            let payload = hash(body.as_bytes());
            let request = Signed { method, host: "example.amazonaws.com", target, payload: Some(&payload) };
            let read = suite(&names.join(";"), signature);
            assert!(read.verify(&request, &headers(&pairs), SECRET), "{method} {target} {pairs:?}");
            assert!(!read.verify(&request, &headers(&pairs), "another"), "{method} {target}");
        }
    }

    /// Amazon S3 API Reference, "Signature Calculations for the Authorization Header", GET Object.
    #[test]
    fn the_documented_example_of_s3_is_met() {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let credential = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        let names = "host;range;x-amz-content-sha256;x-amz-date";
        let text = format!("AWS4-HMAC-SHA256 Credential={credential},SignedHeaders={names},Signature={signature}");
        let headers = headers(&[("range", "bytes=0-9"), (CONTENT_SHA256, EMPTY), ("x-amz-date", "20130524T000000Z")]);
        let host = "examplebucket.s3.amazonaws.com";
        let request = Signed { method: "GET", host, target: "/test.txt", payload: None };
        let read = Signature::parse(&text).unwrap();
        assert!(read.verify(&request, &headers, secret));
        let anew = read.anew(&request, &headers, Key { id: "AKIDOTHER", secret, token: None }).unwrap();
        assert_eq!(anew, text.replace("AKIAIOSFODNN7EXAMPLE", "AKIDOTHER").replace(",S", ", S"));
    }

    #[test]
    fn a_request_is_signed_anew_with_a_sessions_token_and_without_headers_that_are_gone() {
        let date = ("x-amz-date", "20150830T123600Z");
        let request = Signed { method: "GET", host: "example.amazonaws.com", target: "/", payload: Some(EMPTY) };
        let read = suite("accept-encoding;host;x-amz-date", "0");
        let key = Key::parse("AKIDREAL:secret/+=:token+/=:").unwrap();
        let outside = headers(&[date, (TOKEN, key.token.unwrap())]);
        let anew = read.anew(&request, &outside, key).unwrap();
        assert!(
            anew.contains("Credential=AKIDREAL/") && anew.contains("=host;x-amz-date;x-amz-security-token,"),
            "{anew}"
        );
        assert!(Signature::parse(&anew).unwrap().verify(&request, &outside, "secret/+="));
    }

    #[test]
    fn what_is_no_such_signature_is_not_read() {
        let good = "AWS4-HMAC-SHA256 Credential=A/1/r/s/aws4_request, SignedHeaders=host;x-a, Signature=00";
        assert!(Signature::parse(good).is_some());
        for (from, to) in [
            ("AWS4-HMAC", "AWS4-ECDSA"),
            ("/aws4_request", ""),
            ("aws4_request", "aws4_request/more"),
            ("host;x-a", "x-a"),
            ("host;x-a", "x-a;host"),
            ("host;x-a", "Host;host"),
            (", Signature=00", ""),
            ("Signature=00", "Signature=00, Signature=01"),
            ("Signature=00", "Signature=00, Other=01"),
        ] {
            assert!(Signature::parse(&good.replace(from, to)).is_none(), "{from} {to}");
        }
        for bad in ["", "A", "A:", ":s", "A-B:s", "A:s:"] {
            assert!(Key::parse(bad).is_none(), "{bad}");
        }
    }
}
