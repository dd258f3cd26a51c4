//! Where in a request a secret's place is, and whether its placeholder stands there.

use super::signature::Signature;
use super::watch::percent_decoded;
use crate::policy::{PLACEHOLDER_MARK, Place};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue};
use std::ops::Range;

/// Reads the credentials of clients that leave the padding out, too.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where one placeholder stands as its binding says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Spot {
    /// In the value of so many-th header of this name, as it is.
    Header(HeaderName, usize),
    /// In the credentials of so many-th `Authorization: Basic`.
    Basic(usize),
    /// The value of a parameter of the query, so much of the target.
    Query(Range<usize>),
    /// The key of the signature in so many-th `Authorization`.
    Signature(usize),
}

/// What a place takes up of a request: two secrets in one slot would be in each other's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    Header(HeaderName),
    Query(String),
    Cookie(String),
    Body(String),
    Message(String),
    Handshake,
}

impl Slot {
    /// What a place takes up; none for a header that cannot be one.
    pub(super) fn of(place: &Place) -> Option<Self> {
        Some(match place {
            Place::Header(name) => Self::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            Place::Bearer | Place::BasicPassword(_) | Place::BasicUser | Place::Aws => Self::Header(AUTHORIZATION),
            Place::Query(name) => Self::Query(name.clone()),
            Place::Cookie(name) => Self::Cookie(name.clone()),
            Place::Json(pointer) => Self::Body(pointer.clone()),
            Place::Form(name) => Self::Body(name.clone()),
            Place::FirstMessage(pointer) => Self::Message(pointer.clone()),
            Place::ClientCertificate => Self::Handshake,
        })
    }
}

/// Where a placeholder stands in its place.
pub(super) fn spots(place: &Place, placeholder: &str, target: &str, headers: &HeaderMap) -> Vec<Spot> {
    let values = |name: HeaderName, holds: &dyn Fn(&str) -> bool| {
        let values = headers.get_all(&name).iter().enumerate();
        let held = values.filter(|(_, value)| value.to_str().is_ok_and(holds));
        held.map(|(nth, _)| Spot::Header(name.clone(), nth)).collect()
    };
    match place {
        Place::Header(name) => match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => values(name, &|value| after_word(value, |_| true) == placeholder),
            Err(_) => Vec::new(),
        },
        Place::Bearer => values(AUTHORIZATION, &|value| {
            let token = after_word(value, |word| word.eq_ignore_ascii_case("bearer"));
            value.trim() != placeholder && stands_for(token, placeholder)
        }),
        Place::BasicPassword(wanted) => basic(headers, |user, password| {
            password == placeholder && wanted.as_deref().is_none_or(|wanted| wanted == user)
        }),
        Place::BasicUser => basic(headers, |user, _| user == placeholder),
        Place::Cookie(name) => {
            let holds = |value: &str| cookies(value).any(|(found, value)| found == name && value == placeholder);
            values(COOKIE, &holds)
        }
        Place::Query(name) => parameters(target)
            .filter(|(found, value)| {
                percent_decoded(found.as_bytes()) == name.as_bytes()
                    && percent_decoded(target[value.clone()].as_bytes()) == placeholder.as_bytes()
            })
            .map(|(_, value)| Spot::Query(value))
            .collect(),
        Place::Aws => {
            let signs = |value: &HeaderValue| {
                let read = value.to_str().ok().and_then(Signature::parse);
                read.is_some_and(|signature| signature.key == placeholder)
            };
            let values = headers.get_all(AUTHORIZATION).iter().enumerate();
            values.filter(|(_, value)| signs(value)).map(|(nth, _)| Spot::Signature(nth)).collect()
        }
        Place::Json(_) | Place::Form(_) | Place::FirstMessage(_) | Place::ClientCertificate => Vec::new(),
    }
}

/// Whether a text is a placeholder, or a token that has it as its signature (RFC 7515, section 7.1), whatever it claims.
fn stands_for(text: &str, placeholder: &str) -> bool {
    let Some(before) = text.strip_suffix(placeholder) else { return false };
    let signs = || placeholder.as_bytes().starts_with(PLACEHOLDER_MARK);
    before.is_empty() || (signs() && token_begin(text.as_bytes(), before.len()) == 0)
}

/// Where the token begins whose signature stands here: here, where it is none.
pub(super) fn token_begin(bytes: &[u8], at: usize) -> usize {
    let Some(claimed) = bytes[..at].strip_suffix(b".") else { return at };
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let begin = claimed.iter().rposition(|byte| !is_part(byte)).map_or(0, |before| before + 1);
    let parts: Vec<_> = claimed[begin..].split(|byte| *byte == b'.').collect();
    if parts.len() == 2 && parts.iter().all(|part| !part.is_empty()) { begin } else { at }
}

/// A value without the one word before it, where there is one and it is of this kind.
fn after_word(value: &str, of_kind: impl Fn(&str) -> bool) -> &str {
    let value = value.trim();
    value.split_once(' ').filter(|(word, _)| of_kind(word)).map_or(value, |(_, rest)| rest.trim())
}

fn basic(headers: &HeaderMap, holds: impl Fn(&str, &str) -> bool) -> Vec<Spot> {
    let values = headers.get_all(AUTHORIZATION).iter().enumerate();
    let held = values.filter(|(_, value)| {
        let credentials = credentials(value);
        credentials
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .is_some_and(|(user, password)| holds(user, password))
    });
    held.map(|(nth, _)| Spot::Basic(nth)).collect()
}

/// The user and password of `Authorization: Basic` (RFC 7617), with the colon between them.
pub(super) fn credentials(value: &HeaderValue) -> Option<String> {
    let (scheme, coded) = value.to_str().ok()?.trim().split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| LENIENT.decode(coded.trim()))?;
    String::from_utf8(decoded.ok()?).ok()
}

/// The same as a header's value.
pub(super) fn basic_value(credentials: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(credentials))).ok()
}

/// The cookies of a header's value.
pub(super) fn cookies(value: &str) -> impl Iterator<Item = (&str, &str)> {
    value.split(';').filter_map(|pair| pair.trim().split_once('=')).map(|(name, value)| (name, value.trim_matches('"')))
}

/// The parameters of a target's query: each name, and where in the target its value is.
pub(super) fn parameters(target: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    let at = target.find('?').map_or(target.len(), |at| at + 1);
    fields(target, at)
}

/// The fields of a form that begins here: each name, and where its value is.
pub(super) fn fields(target: &str, mut at: usize) -> impl Iterator<Item = (&str, Range<usize>)> {
    target[at..].split('&').filter_map(move |pair| {
        let start = at;
        at += pair.len() + 1;
        let (name, value) = pair.split_once('=')?;
        let from = start + name.len() + 1;
        Some((name, from..from + value.len()))
    })
}

/// A text as the value of a parameter: everything but what is never special is percent-encoded (RFC 3986, section 2.3).
pub(super) fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // A string takes everything.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The request's cookies with this one set.
pub(super) fn with_cookie(headers: &HeaderMap, name: &str, value: &str) -> String {
    let written = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let others = written.flat_map(cookies).filter(|(other, _)| *other != name);
    let mut pairs: Vec<String> = others.map(|(name, value)| format!("{name}={value}")).collect();
    pairs.push(format!("{name}={value}"));
    pairs.join("; ")
}

/// Sets a parameter of a target's query, over every one of that name.
pub(super) fn set_parameter(target: &mut String, name: &str, value: &str) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_other = |pair: &&str| {
        let found = pair.split_once('=').map_or(*pair, |(name, _)| name);
        !pair.is_empty() && percent_decoded(found.as_bytes()) != name.as_bytes()
    };
    let own = format!("{name}={}", percent_encoded(value));
    let pairs: Vec<&str> = query.split('&').filter(is_other).chain([own.as_str()]).collect();
    *target = format!("{path}?{}", pairs.join("&"));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PLACEHOLDER: &str = "sk-placeholder";

    fn found(place: Place, target: &str, header: Option<(&'static str, &str)>) -> Vec<Spot> {
        let headers = header.map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        spots(&place, PLACEHOLDER, target, &headers.into_iter().collect())
    }

    #[test]
    fn each_place_holds_the_whole_placeholder_or_it_does_not() {
        let authorization = |value: &'static str| Some(("authorization", value));
        let key = |value| found(Place::Header("x-api-key".to_owned()), "/", Some(("x-api-key", value)));
        let header = |name| vec![Spot::Header(HeaderName::from_static(name), 0)];
        assert_eq!(key("sk-placeholder"), header("x-api-key"));
        assert_eq!(key("token sk-placeholder"), header("x-api-key"));
        assert!(key("sk-placeholder-more").is_empty() && key("a b sk-placeholder").is_empty());
        assert_eq!(found(Place::Bearer, "/", authorization("bearer  sk-placeholder")), header("authorization"));
        assert!(found(Place::Bearer, "/", authorization("sk-placeholder")).is_empty());
        assert!(found(Place::Bearer, "/", authorization("Basic sk-placeholder")).is_empty());
        let cookie = |value| found(Place::Cookie("sid".to_owned()), "/", Some(("cookie", value)));
        assert_eq!(cookie("a=b; sid=sk-placeholder; c=d"), header("cookie"));
        assert_eq!(cookie("sid=\"sk-placeholder\""), header("cookie"));
        assert!(cookie("other=sk-placeholder").is_empty());
    }

    #[test]
    fn a_signature_stands_for_the_whole_token_whatever_it_claims() {
        let signature = "ZXepeqer0123456789abcdef";
        let bearer = |value: &str| {
            let headers = [(AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            !spots(&Place::Bearer, signature, "/", &headers).is_empty()
        };
        assert!(bearer(&format!("Bearer eyJh.eyJl-_.{signature}")) && bearer(&format!("Bearer {signature}")));
        for other in ["a.", "a.b.c.", "a..", ".b.", "a b.c.", "a.b/c."] {
            assert!(!bearer(&format!("Bearer {other}{signature}")), "{other}");
        }
        assert!(!bearer(&format!("Bearer a.b.{signature}x")));
        assert!(found(Place::Bearer, "/", Some(("authorization", "Bearer a.b.sk-placeholder"))).is_empty());
        assert_eq!(token_begin(b"Bearer a.b.SIGNATURE", 11), 7);
        assert_eq!((token_begin(b"Bearer SIGNATURE", 7), token_begin(b".SIGNATURE", 1)), (7, 1));
    }

    #[test]
    fn basic_credentials_are_read_with_and_without_padding() {
        for (place, text, expected) in [
            (Place::BasicPassword(None), "me:sk-placeholder", true),
            (Place::BasicPassword(Some("me".to_owned())), "me:sk-placeholder", true),
            (Place::BasicPassword(Some("you".to_owned())), "me:sk-placeholder", false),
            (Place::BasicPassword(None), "sk-placeholder:", false),
            (Place::BasicUser, "sk-placeholder:", true),
            (Place::BasicUser, "sk-placeholder", false),
        ] {
            let coded = BASE64_STANDARD.encode(text);
            for coded in [coded.as_str(), coded.trim_end_matches('=')] {
                let found = found(place.clone(), "/", Some(("authorization", &format!("basic {coded}"))));
                assert_eq!(found, if expected { vec![Spot::Basic(0)] } else { vec![] }, "{text}");
            }
        }
    }

    #[test]
    fn a_parameter_is_found_where_its_value_is() {
        let target = "/a?key=1&key=sk%2Dplaceholder&k%65y=sk-placeholder#";
        let query = |name: &str| found(Place::Query(name.to_owned()), target.trim_end_matches('#'), None);
        let texts: Vec<_> = query("key")
            .into_iter()
            .map(|spot| match spot {
                Spot::Query(range) => target[range].to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts, ["sk%2Dplaceholder", "sk-placeholder"]);
        assert!(query("other").is_empty() && parameters("/a").next().is_none());
        assert_eq!(percent_encoded("a/b+c~"), "a%2Fb%2Bc~");
    }
}
