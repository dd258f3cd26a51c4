//! What an event is found by: words of a small language of our own, the same for what is indexed and what is looked for.
//!
//! `h:HOST`, `d:DOMAIN` for each domain that the host is below, `v:allowed` or `v:denied`, `s:SECRET`, `c:N` for a model call that
//! cost at least 2ᴺ billionths of a dollar and less than twice that, and `c:N.S` with the sixteenth of that in which it is; all
//! else are words of the event's text. What is told of a request later is found
//! by what is known of the request.

use super::StoredEvent;
use crate::model::{NanoUsd, SessionId};
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};

/// Most requests of which later events are still known to be meant; of more, the oldest are forgotten.
const REQUESTS_MAX: usize = 100_000;
/// Most words of one event's text.
const WORDS_MAX: usize = 48;
/// Longest word of a text; what is longer is nobody's word.
const WORD_BYTES_MAX: usize = 24;

/// What was decided of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It was let through.
    Allowed,
    /// It was refused, or the connection was.
    Denied,
}

/// What of an event it is found by.
#[derive(Deserialize)]
struct Facts {
    request: Option<u64>,
    host: Option<String>,
    target: Option<String>,
    secrets: Option<Vec<String>>,
    cost: Option<NanoUsd>,
    method: Option<String>,
    path: Option<String>,
    rule: Option<String>,
    act: Option<String>,
    reason: Option<String>,
    what: Option<String>,
    why: Option<String>,
    model: Option<String>,
    name: Option<String>,
    user: Option<String>,
}

/// Goes through events, and remembers what their requests are found by.
#[derive(Debug, Default)]
pub struct Terms {
    requests: BTreeMap<(SessionId, u64), Vec<String>>,
    /// The same in the order in which they came.
    order: VecDeque<(SessionId, u64)>,
}

impl Terms {
    /// What an event is found by. They come in the order in which they were recorded; `earlier` finds what was decided of a
    /// request before the first of them.
    pub fn of(&mut self, stored: &StoredEvent, earlier: impl FnOnce(u64) -> Option<StoredEvent>) -> Vec<String> {
        let Ok(facts) = serde_json::from_str::<Facts>(&stored.json) else { return Vec::new() };
        let mut terms = match (decided(&stored.kind), facts.request) {
            (Some(decided), request) => {
                let terms = of_request(decided, &facts);
                if let Some(request) = request {
                    self.remember((stored.session.clone(), request), terms.clone());
                }
                terms
            }
            (None, Some(request)) => self.of_earlier(stored, request, earlier),
            (None, None) => Vec::new(),
        };
        if let Some(cost) = facts.cost.filter(|_| stored.kind == "usage_metered") {
            terms.extend(cost_terms(cost));
        }
        terms.extend(facts.words(&stored.kind));
        terms
    }

    fn of_earlier(
        &mut self,
        stored: &StoredEvent,
        request: u64,
        earlier: impl FnOnce(u64) -> Option<StoredEvent>,
    ) -> Vec<String> {
        let key = (stored.session.clone(), request);
        if let Some(known) = self.requests.get(&key) {
            return known.clone();
        }
        let found = earlier(request).and_then(|judged| {
            let facts = serde_json::from_str::<Facts>(&judged.json).ok()?;
            Some(of_request(decided(&judged.kind)?, &facts))
        });
        let terms = found.unwrap_or_default();
        self.remember(key, terms.clone());
        terms
    }

    fn remember(&mut self, key: (SessionId, u64), terms: Vec<String>) {
        if self.requests.insert(key.clone(), terms).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > REQUESTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.requests.remove(&oldest);
        }
    }
}

/// What an event of this kind decides.
pub(super) fn decided(kind: &str) -> Option<Decided> {
    match kind {
        "request_allowed" => Some(Decided::Allowed),
        "request_denied" | "connection_refused" => Some(Decided::Denied),
        _ => None,
    }
}

fn of_request(decided: Decided, facts: &Facts) -> Vec<String> {
    let mut terms = vec![verdict_term(decided)];
    let host = facts.host.as_deref().or(facts.target.as_deref().map(without_port));
    if let Some(host) = host {
        let host = host.to_ascii_lowercase();
        terms.push(term("h", &host));
        let domains = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
        terms.extend(domains.filter(|domain| !domain.is_empty()).map(|domain| term("d", domain)));
    }
    terms.extend(facts.secrets.iter().flatten().map(|secret| term("s", secret)));
    terms
}

impl Facts {
    /// The words of the event's text, each once.
    fn words(&self, kind: &str) -> Vec<String> {
        let texts = [
            &self.host,
            &self.target,
            &self.method,
            &self.path,
            &self.rule,
            &self.act,
            &self.reason,
            &self.what,
            &self.why,
            &self.model,
            &self.name,
            &self.user,
        ];
        let texts = std::iter::once(kind).chain(texts.into_iter().flatten().map(String::as_str));
        let mut words = Vec::new();
        for word in texts.flat_map(words_of) {
            if words.len() < WORDS_MAX && !words.contains(&word) {
                words.push(word);
            }
        }
        words
    }
}

/// The words of a text, in small letters.
pub fn words_of(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|character: char| !character.is_alphanumeric());
    words.filter(|word| !word.is_empty() && word.len() <= WORD_BYTES_MAX).map(str::to_lowercase)
}

/// The host of a connection's target.
fn without_port(target: &str) -> &str {
    match target.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => target,
    }
}

/// A name as one term: what an index might split or fold is written by its number.
fn term(kind: &str, name: &str) -> String {
    let mut term = format!("{kind}:");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' => term.push(char::from(byte)),
            other => term.push_str(&format!("_{other:02x}")),
        }
    }
    term
}

/// What requests to a host are found by, or to those of a pattern such as `*.example.com`.
pub(super) fn host_term(pattern: &str) -> String {
    let pattern = pattern.to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        Some(domain) => term("d", domain),
        None => term("h", &pattern),
    }
}

pub(super) fn verdict_term(decided: Decided) -> String {
    match decided {
        Decided::Allowed => "v:allowed".to_owned(),
        Decided::Denied => "v:denied".to_owned(),
    }
}

pub(super) fn secret_term(name: &str) -> String {
    term("s", name)
}

pub(super) fn user_term(name: &str) -> String {
    term("u", name)
}

fn cost_terms(cost: NanoUsd) -> [String; 2] {
    let (magnitude, sixteenth) = magnitude(cost);
    [format!("c:{magnitude}"), format!("c:{magnitude}.{sixteenth}")]
}

/// Of these a call has one that cost so much or more; few have one that cost less.
pub(super) fn cost_terms_from(least: NanoUsd) -> Vec<String> {
    let (magnitude, sixteenth) = magnitude(least);
    let near = (sixteenth..SIXTEENTHS).map(|part| format!("c:{magnitude}.{part}"));
    near.chain((magnitude + 1..=MAGNITUDE_MAX).map(|far| format!("c:{far}"))).collect()
}

/// The largest N such that a cost is at least 2ᴺ billionths of a dollar, and by how many sixteenths of that it is more.
fn magnitude(cost: NanoUsd) -> (u32, u64) {
    let nano = cost.0.max(1).cast_unsigned();
    let magnitude = nano.ilog2();
    // In base two, the four digits that follow the first.
    let digits = if magnitude < 4 { nano << (4 - magnitude) } else { nano >> (magnitude - 4) };
    (magnitude, digits % SIXTEENTHS)
}

/// Into how many parts the costs of one magnitude are divided.
const SIXTEENTHS: u64 = 16;
/// The largest magnitude that there is.
const MAGNITUDE_MAX: u32 = 62;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cost_so_much_is_found_and_little_else() {
        let edges =
            (0..62).flat_map(|magnitude| (0..16).map(move |part| (1_i64 << magnitude) + ((part << magnitude) >> 4)));
        let costs: Vec<_> =
            edges.flat_map(|edge| [edge - 1, edge, edge + 1]).chain([0, i64::MAX]).map(NanoUsd).collect();
        for least in &costs {
            let wanted = cost_terms_from(*least);
            for cost in &costs {
                let found = cost_terms(*cost).iter().any(|term| wanted.contains(term));
                assert!(found || cost < least, "{cost:?} from {least:?}");
                // A sixteenth more than it cost.
                assert!(
                    !found || i128::from(cost.0.max(1)) * 17 >= i128::from(least.0) * 16,
                    "{cost:?} from {least:?}"
                );
            }
        }
    }
}
