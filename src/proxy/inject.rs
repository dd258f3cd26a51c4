//! Putting secrets in their places. The only caller of `Secret::expose`.
//!
//! A placeholder is worth something at one scheme, host, port and header alone. Anywhere else it is a sign that
//! something tries to send a secret where it does not belong, and the request is refused.

use super::ProxyError;
use super::disguise::{Needle, position};
use crate::model::{Host, RequestLine, Scheme, Secret};
use crate::policy::{Binding, Place};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

/// Shortest secret that is looked for in answers: a shorter one would be found by chance.
const REDACTED_BYTES_MIN: usize = 8;
/// What stands in an answer's header instead of a value that has a secret in disguise.
const REDACTED: &str = "[redacted by omni]";

/// The session's secrets, each bound to its one place.
pub(super) struct Vault {
    entries: Vec<Entry>,
}

struct Entry {
    binding: Binding,
    header: HeaderName,
    secret: Secret,
    placeholder_needle: Needle,
    /// None for a secret that is too short to be known when it is met.
    secret_needle: Option<Needle>,
}

/// Which secrets go into which headers of one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan(Vec<usize>);

/// A placeholder stands where its secret must not go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// The secret's name.
    pub secret: String,
    /// Where the placeholder was found.
    pub found: String,
    /// Where it belongs.
    pub belongs: String,
}

impl Vault {
    /// Takes the session's secrets over.
    ///
    /// # Errors
    /// A [`ProxyError`] for a value or a header's name that cannot stand in a request.
    pub(super) fn new(bindings: Vec<(Binding, Secret)>) -> Result<Self, ProxyError> {
        let entries = bindings.into_iter().map(|(binding, secret)| Entry::new(binding, secret));
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// The secrets' names.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.binding.secret.clone()).collect()
    }

    /// Finds out which secrets a request is to get, or that it must not go.
    pub(super) fn plan(&self, line: &RequestLine, target: &str, headers: &HeaderMap) -> Result<Plan, Misplaced> {
        let mut plan = Plan::default();
        for (index, entry) in self.entries.iter().enumerate() {
            let mut wanted = false;
            for (name, value) in headers {
                let plain = entry.occurs_in(value.as_bytes());
                if !plain && !entry.hides_in(value.as_bytes()) {
                    continue;
                }
                if !plain || !entry.belongs_to(line) || !entry.fits(name, value) {
                    return Err(entry.misplaced(format!("the header `{name}` of a request to {}", line.host)));
                }
                wanted = true;
            }
            if entry.occurs_in(target.as_bytes()) || entry.hides_in(target.as_bytes()) {
                return Err(entry.misplaced(format!("the URL of a request to {}", line.host)));
            }
            if wanted {
                plan.0.push(index);
            }
        }
        Ok(plan)
    }

    /// Takes the session's secrets out of an answer's headers: a secret becomes its placeholder again, and a value with
    /// one in disguise goes as a whole.
    pub(super) fn redact(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            self.entries.iter().for_each(|entry| entry.redact(value));
        }
    }

    /// The names of the secrets of a plan.
    pub(super) fn planned(&self, plan: &Plan) -> Vec<String> {
        plan.0.iter().filter_map(|index| self.entries.get(*index)).map(|entry| entry.binding.secret.clone()).collect()
    }

    /// Swaps placeholders for secrets, as planned for these very headers.
    pub(super) fn apply(&self, plan: &Plan, headers: &mut HeaderMap) {
        for entry in plan.0.iter().filter_map(|index| self.entries.get(*index)) {
            if let http::header::Entry::Occupied(mut values) = headers.entry(&entry.header) {
                values.iter_mut().for_each(|value| entry.swap(value));
            }
        }
    }
}

impl Entry {
    fn new(binding: Binding, secret: Secret) -> Result<Self, ProxyError> {
        let name = || binding.secret.clone();
        let header = match &binding.place {
            Place::Bearer => AUTHORIZATION,
            Place::Header(header) => HeaderName::from_bytes(header.as_bytes())
                .map_err(|_| ProxyError::Header { name: name(), header: header.clone() })?,
        };
        if HeaderValue::from_str(secret.expose()).is_err() {
            return Err(ProxyError::SecretValue { name: name() });
        }
        let placeholder_needle = Needle::new(binding.placeholder.as_str().as_bytes());
        let known = secret.expose().len() >= REDACTED_BYTES_MIN;
        let secret_needle = known.then(|| Needle::new(secret.expose().as_bytes()));
        Ok(Self { binding, header, secret, placeholder_needle, secret_needle })
    }

    /// Whether the placeholder stands there percent-encoded or in base64, such as that of `user:placeholder`.
    fn hides_in(&self, bytes: &[u8]) -> bool {
        self.placeholder_needle.hides_in(bytes)
    }

    fn redact(&self, value: &mut HeaderValue) {
        let Some(needle) = &self.secret_needle else { return };
        let real = self.secret.expose().as_bytes();
        if needle.hides_in(value.as_bytes()) {
            *value = HeaderValue::from_static(REDACTED);
            return;
        }
        let (mut rest, mut clean) = (value.as_bytes(), Vec::new());
        while let Some(at) = position(rest, real) {
            clean.extend_from_slice(&rest[..at]);
            clean.extend_from_slice(self.binding.placeholder.as_str().as_bytes());
            rest = &rest[at + real.len()..];
        }
        if !clean.is_empty() {
            clean.extend_from_slice(rest);
            *value = HeaderValue::from_bytes(&clean).unwrap_or(HeaderValue::from_static(REDACTED));
        }
    }

    fn occurs_in(&self, bytes: &[u8]) -> bool {
        position(bytes, self.binding.placeholder.as_str().as_bytes()).is_some()
    }

    fn belongs_to(&self, line: &RequestLine) -> bool {
        let host = matches!(&line.host, Host::Name(name) if *name == self.binding.host);
        line.scheme == Scheme::Https && host && line.port == self.binding.port
    }

    /// Whether the placeholder stands in this header as the binding says.
    fn fits(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let bearer = || {
            let text = value.to_str().unwrap_or_default();
            text.split_once(' ').is_some_and(|(scheme, token)| {
                scheme.eq_ignore_ascii_case("bearer") && token.trim() == self.binding.placeholder.as_str()
            })
        };
        *name == self.header && (self.binding.place != Place::Bearer || bearer())
    }

    fn swap(&self, value: &mut HeaderValue) {
        let (bytes, placeholder) = (value.as_bytes(), self.binding.placeholder.as_str().as_bytes());
        let Some(at) = position(bytes, placeholder) else { return };
        let real = self.secret.expose().as_bytes();
        let swapped = [&bytes[..at], real, &bytes[at + placeholder.len()..]].concat();
        // The value was checked when the vault was filled; were it refused here, the placeholder would go out, which
        // is worth nothing.
        if let Ok(mut swapped) = HeaderValue::from_bytes(&swapped) {
            swapped.set_sensitive(true);
            *value = swapped;
        }
    }

    fn misplaced(&self, found: String) -> Misplaced {
        let Binding { secret, host, port, .. } = &self.binding;
        let belongs = format!("the header `{}` of requests to https://{host}:{port}", self.header);
        Misplaced { secret: secret.clone(), found, belongs }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{HostName, Placeholder, Port};

    fn vault(place: Place) -> Vault {
        let binding = Binding {
            secret: "vendor".to_owned(),
            host: HostName::parse("api.example.com").unwrap(),
            port: Port(443),
            place,
            placeholder: Placeholder("sk-placeholder-1".to_owned()),
        };
        Vault::new(vec![(binding, Secret::new("sk-real-1".to_owned()))]).unwrap()
    }

    fn line(scheme: Scheme, host: &str, port: u16) -> RequestLine {
        let host = Host::parse(host).unwrap();
        RequestLine { method: "POST".to_owned(), scheme, host, port: Port(port), path: "/v1".to_owned() }
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
    }

    fn good_line() -> RequestLine {
        line(Scheme::Https, "api.example.com", 443)
    }

    #[test]
    fn the_secret_goes_to_its_own_place() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let mut headers = headers("x-api-key", "sk-placeholder-1");
        let plan = vault.plan(&good_line(), "/v1", &headers).unwrap();
        assert_eq!(vault.planned(&plan), ["vendor"]);
        vault.apply(&plan, &mut headers);
        assert_eq!(headers["x-api-key"], "sk-real-1");
        assert!(headers["x-api-key"].is_sensitive());
    }

    #[test]
    fn a_bearer_token_is_swapped_whole() {
        let vault = vault(Place::Bearer);
        let mut good = headers("authorization", "bearer sk-placeholder-1");
        let plan = vault.plan(&good_line(), "/v1", &good).unwrap();
        vault.apply(&plan, &mut good);
        assert_eq!(good["authorization"], "bearer sk-real-1");
        assert!(vault.plan(&good_line(), "/v1", &headers("authorization", "Basic sk-placeholder-1")).is_err());
    }

    #[test]
    fn anywhere_else_the_request_is_refused() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let good = headers("x-api-key", "sk-placeholder-1");
        for elsewhere in [
            line(Scheme::Http, "api.example.com", 443),
            line(Scheme::Https, "api.example.com", 8443),
            line(Scheme::Https, "evil.example", 443),
            line(Scheme::Https, "192.0.2.1", 443),
        ] {
            let refused = vault.plan(&elsewhere, "/v1", &good).unwrap_err();
            assert_eq!(refused.secret, "vendor");
            assert!(!refused.found.contains("sk-"), "{refused:?}");
        }
        assert!(vault.plan(&good_line(), "/v1", &headers("x-other", "a sk-placeholder-1 b")).is_err());
        assert!(vault.plan(&good_line(), "/v1?key=sk-placeholder-1", &HeaderMap::new()).is_err());
        assert!(vault.plan(&good_line(), "/v1?key=sk%2dplaceholder%2D1", &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_disguise_is_seen_through() {
        use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let refused = |target: &str, headers: &HeaderMap| vault.plan(&good_line(), target, headers).is_err();
        for user in ["", "u", "us", "user", "x-access-token"] {
            let basic = BASE64_STANDARD.encode(format!("{user}:sk-placeholder-1"));
            assert!(refused("/", &headers("authorization", &format!("Basic {basic}"))), "{user}");
            // In its own place too: a secret is swapped for its placeholder as it is, and for nothing else.
            assert!(refused("/", &headers("x-api-key", &basic)), "{user}");
            let safe = BASE64_URL_SAFE_NO_PAD.encode(format!("{user}:sk-placeholder-1?"));
            assert!(refused(&format!("/{safe}/x"), &HeaderMap::new()), "{user}");
        }
        assert!(refused("/", &headers("x-other", "sk%2Dplaceholder%2d1")));
        assert!(refused("/?k=sk%252Dplaceholder-1", &HeaderMap::new()));
        assert!(!refused("/?k=sk-placeholder", &headers("authorization", "Basic c2stcGxhY2Vob2xkZXI=")));
    }

    #[test]
    fn an_answer_that_echoes_the_secret_is_redacted() {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let redacted = |text: &str| {
            let mut answer = headers("x-echo", text);
            vault.redact(&mut answer);
            answer["x-echo"].to_str().unwrap().to_owned()
        };
        assert_eq!(redacted("a=sk-real-1, b=sk-real-1"), "a=sk-placeholder-1, b=sk-placeholder-1");
        assert_eq!(redacted(&format!("Basic {}", BASE64_STANDARD.encode("me:sk-real-1"))), REDACTED);
        assert_eq!(redacted("/?k=sk%2dreal%2d1"), REDACTED);
        assert_eq!(redacted("nothing of it: sk-real"), "nothing of it: sk-real");
    }

    #[test]
    fn a_secret_too_short_to_be_known_is_not_looked_for() {
        let binding = vault(Place::Bearer).entries.remove(0).binding;
        for (length, found) in [(REDACTED_BYTES_MIN - 1, false), (REDACTED_BYTES_MIN, true)] {
            let secret = "s".repeat(length);
            let vault = Vault::new(vec![(binding.clone(), Secret::new(secret.clone()))]).unwrap();
            let mut answer = headers("x-echo", &secret);
            vault.redact(&mut answer);
            assert_eq!(answer["x-echo"] != secret, found, "{length}");
        }
    }

    #[test]
    fn a_request_without_a_placeholder_gets_nothing() {
        let vault = vault(Place::Header("x-api-key".to_owned()));
        let mut own = headers("x-api-key", "sk-mine");
        let plan = vault.plan(&good_line(), "/v1?a=%zz%", &own).unwrap();
        vault.apply(&plan, &mut own);
        assert_eq!((plan, &own["x-api-key"]), (Plan::default(), &HeaderValue::from_static("sk-mine")));
    }

    #[test]
    fn a_value_that_would_break_a_header_is_refused_at_the_start() {
        let mut entry = vault(Place::Bearer).entries.remove(0).binding;
        entry.secret = "broken".to_owned();
        let refused = Vault::new(vec![(entry, Secret::new("a\r\nx: y".to_owned()))]);
        assert!(matches!(refused, Err(ProxyError::SecretValue { name }) if name == "broken"));
    }
}
