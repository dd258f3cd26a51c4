//! What is looked for in the log.

use super::terms::{self, Decided, Terms};
use super::{StoreError, StoredEvent};
use crate::model::{NanoUsd, SessionId, Timestamp};
use std::collections::VecDeque;

/// How many events are in memory at once, besides those that are found.
const PAGE_EVENTS: u32 = 1_000;
/// How far before the place that is asked for a request may have been judged.
const EARLIER_EVENTS: u64 = 20_000;

/// Which events are meant. Several conditions must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Search {
    /// Those of this session.
    pub session: Option<SessionId>,
    /// Those of requests to this host, or to those of a pattern such as `*.example.com`.
    pub host: Option<String>,
    /// Those of requests of which this was decided.
    pub decided: Option<Decided>,
    /// Those of requests that carried this secret.
    pub secret: Option<String>,
    /// Model calls that cost at least this.
    pub cost: Option<NanoUsd>,
    /// Those in whose text all of these words stand.
    pub text: Option<String>,
    /// Those from then on.
    pub since: Option<Timestamp>,
    /// Those before then.
    pub until: Option<Timestamp>,
}

/// Where to go on in the log, which has an order: that in which events were folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// With what came after this entry.
    After(u64),
    /// Backwards, with what came before this entry.
    Before(u64),
}

impl Search {
    /// What must be found: of each group one term at least.
    pub(super) fn groups(&self) -> Vec<Vec<String>> {
        let mut groups = Vec::new();
        groups.extend(self.host.iter().map(|host| vec![terms::host_term(host)]));
        groups.extend(self.decided.map(|decided| vec![terms::verdict_term(decided)]));
        groups.extend(self.secret.iter().map(|secret| vec![terms::secret_term(secret)]));
        groups.extend(self.cost.map(terms::cost_terms_from));
        groups.extend(self.text.iter().flat_map(|text| terms::words_of(text)).map(|word| vec![word]));
        groups
    }

    /// What terms alone do not tell: time, session, and whether a call cost enough.
    pub(super) fn is_exact(&self, stored: &StoredEvent) -> bool {
        let cost = |least: NanoUsd| {
            let found: Option<Cost> = serde_json::from_str(&stored.json).ok();
            found.is_some_and(|found| found.cost >= least)
        };
        self.since.is_none_or(|since| stored.at >= since)
            && self.until.is_none_or(|until| stored.at < until)
            && self.session.as_ref().is_none_or(|session| *session == stored.session)
            && self.cost.is_none_or(cost)
    }
}

#[derive(serde::Deserialize)]
struct Cost {
    cost: NanoUsd,
}

/// Goes through events in their order and tells which are meant: for what is recorded while somebody looks on.
#[derive(Debug)]
pub(super) struct Sieve {
    search: Search,
    /// What must be found, of each group one term.
    groups: Vec<Vec<String>>,
    terms: Terms,
}

impl Sieve {
    /// One for a search.
    pub(super) fn new(search: Search) -> Self {
        Self { groups: search.groups(), search, terms: Terms::default() }
    }

    /// Whether an event is meant.
    pub(super) fn admits(&mut self, stored: &StoredEvent) -> bool {
        // What is not meant is looked at all the same: it tells what later events are about.
        let found = if self.groups.is_empty() { Vec::new() } else { self.terms.of(stored, |_| None) };
        self.search.is_exact(stored) && self.groups.iter().all(|group| group.iter().any(|term| found.contains(term)))
    }
}

/// Searches without an index: goes through the log, page by page.
pub(super) fn scan(
    mut log: impl FnMut(u64, u32) -> Result<Vec<StoredEvent>, StoreError>,
    search: &Search,
    turn: Turn,
    count: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut sieve = Sieve::new(search.clone());
    let (most, mut found) = (usize::try_from(count).unwrap_or(usize::MAX), VecDeque::new());
    // Without terms, no event is about what an earlier one told.
    let earlier = if sieve.groups.is_empty() { 0 } else { EARLIER_EVENTS };
    let (first, last, mut entry) = match turn {
        Turn::After(place) => (place, u64::MAX, place.saturating_sub(earlier)),
        Turn::Before(place) => (0, place, 0),
    };
    loop {
        let page = log(entry, PAGE_EVENTS)?;
        let Some(end) = page.last().map(|stored| stored.entry) else { break };
        entry = end;
        let meant = page.into_iter().filter(|stored| sieve.admits(stored));
        found.extend(meant.filter(|stored| stored.entry > first && stored.entry < last));
        match turn {
            Turn::After(_) if found.len() >= most => break,
            Turn::After(_) => {}
            Turn::Before(_) => drop(found.drain(..found.len().saturating_sub(most))),
        }
        if entry >= last {
            break;
        }
    }
    found.truncate(most);
    Ok(match turn {
        Turn::After(_) => found.into(),
        Turn::Before(_) => found.into_iter().rev().collect(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(number: u64, event: Value) -> StoredEvent {
        StoredEvent {
            entry: number,
            session: SessionId::from_entropy([1; 10]),
            number,
            writer: "proxy".to_owned(),
            seq: number,
            at: Timestamp(number.cast_signed()),
            kind: event["event"].as_str().unwrap().to_owned(),
            json: event.to_string(),
        }
    }

    fn numbers(search: Search) -> Vec<u64> {
        let mut sieve = Sieve::new(search);
        let log = [
            event(1, json!({ "event": "proxy_started" })),
            event(
                2,
                json!({ "event": "request_allowed", "request": 1, "host": "a.example.com", "path": "/Reports/2026" }),
            ),
            event(
                3,
                json!({ "event": "request_denied", "request": 2, "host": "b.test", "reason": "no rule allows it" }),
            ),
            event(4, json!({ "event": "request_completed", "request": 1 })),
            event(5, json!({ "event": "request_allowed", "request": 3, "host": "b.test" })),
            event(6, json!({ "event": "connection_refused", "target": "a.example.com:22" })),
            event(7, json!({ "event": "request_failed", "request": 3 })),
            event(8, json!({ "event": "something_later", "request": 3 })),
            event(9, json!({ "event": "request_allowed", "request": 4, "host": "c.test", "secrets": ["GitHub"] })),
            event(10, json!({ "event": "usage_metered", "request": 4, "cost": 2_000_000_000_i64 })),
            event(11, json!({ "event": "usage_metered", "request": 3, "cost": 1_000_000_000_i64 })),
        ];
        log.iter().filter(|event| sieve.admits(event)).map(|event| event.number).collect()
    }

    fn host(pattern: &str, decided: Option<Decided>) -> Vec<u64> {
        numbers(Search { host: Some(pattern.to_owned()), decided, ..Search::default() })
    }

    #[test]
    fn what_is_told_of_a_request_later_goes_with_it() {
        assert_eq!(numbers(Search::default()), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(host("*.Example.com", None), [2, 4, 6]);
        assert_eq!(host("*.a.example.com", None), [] as [u64; 0]);
        assert_eq!(host("b.test", Some(Decided::Allowed)), [5, 7, 8, 11]);
        assert_eq!(numbers(Search { decided: Some(Decided::Denied), ..Search::default() }), [3, 6]);
        let secret = |name: &str| numbers(Search { secret: Some(name.to_owned()), ..Search::default() });
        assert_eq!((secret("GitHub"), secret("github")), (vec![9, 10], vec![]));
    }

    #[test]
    fn calls_are_found_by_what_they_cost_and_by_when_they_were() {
        let cost = |usd: i64| Search { cost: Some(NanoUsd(usd)), ..Search::default() };
        assert_eq!(numbers(cost(1_000_000_000)), [10, 11]);
        assert_eq!(numbers(cost(1_500_000_000)), [10]);
        assert_eq!(numbers(Search { host: Some("b.test".to_owned()), ..cost(1_000_000_000) }), [11]);
        let between = Search { since: Some(Timestamp(3)), until: Some(Timestamp(5)), ..Search::default() };
        assert_eq!(numbers(between), [3, 4]);
    }

    #[test]
    fn all_words_of_a_text_must_stand_there_whatever_their_case() {
        let text = |text: &str| numbers(Search { text: Some(text.to_owned()), ..Search::default() });
        assert_eq!(text("reports"), [2]);
        assert_eq!(text("example 2026"), [2]);
        assert_eq!(text("no rule: ALLOWS"), [3]);
        assert_eq!(text("reports denied"), [] as [u64; 0]);
    }
}
