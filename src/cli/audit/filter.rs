//! Which events of the log are printed, where not all are: those of requests that are meant, and of what was refused before
//! there was a request.

use crate::cli::listing::Viewer;
use crate::cli::spend::parse_since;
use crate::model::{NanoUsd, SessionId, Timestamp};
use crate::store::{Store, StoredEvent};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Most requests of which later events are still known to be meant; of more, the oldest are forgotten.
const REQUESTS_MAX: usize = 100_000;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Verdict {
    /// What was let through.
    Allowed,
    /// What was refused, and connections that were.
    Denied,
}

/// What is meant.
#[derive(clap::Args)]
pub(super) struct Wanted {
    /// Only requests to this host, or to those of a pattern such as `*.example.com`
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only requests of which this was decided
    #[arg(long)]
    verdict: Option<Verdict>,
    /// Only requests that carried this secret
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Only this user's sessions
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only model calls that cost at least so many US dollars
    #[arg(long, value_name = "USD")]
    cost: Option<String>,
    /// Only events from then on: a time (RFC 3339), a date (UTC), or how long ago, such as 30m, 24h, 7d
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Only events before then
    #[arg(long, value_name = "T")]
    until: Option<String>,
}

impl Wanted {
    /// The store with the sessions that are meant.
    pub(super) fn of_user(&self, viewer: &Viewer) -> anyhow::Result<Box<dyn Store>> {
        let mut store = viewer.open()?;
        match &self.user {
            None => Ok(store),
            Some(user) if viewer.sees_all() || viewer.user() == Some(user) => {
                store.see_as(Some(user.clone()));
                Ok(store)
            }
            Some(_) => anyhow::bail!("only root can read the records of others on a shared machine"),
        }
    }
}

/// Goes through the log, and remembers which requests are meant.
pub(super) struct Filter {
    host: Option<String>,
    verdict: Option<Verdict>,
    secret: Option<String>,
    cost: Option<NanoUsd>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    requests: BTreeSet<(SessionId, u64)>,
}

/// What of an event tells whether it is meant.
#[derive(Deserialize)]
struct Facts {
    request: Option<u64>,
    host: Option<String>,
    target: Option<String>,
    secrets: Option<Vec<String>>,
    cost: Option<NanoUsd>,
}

impl Filter {
    pub(super) fn new(wanted: &Wanted) -> anyhow::Result<Self> {
        let now = Timestamp(jiff::Timestamp::now().as_microsecond());
        let time = |text: &Option<String>| text.as_deref().map(|text| parse_since(text, now)).transpose();
        // Hosts are recorded in small letters.
        let host = wanted.host.as_deref().map(str::to_ascii_lowercase);
        let cost = wanted.cost.as_deref().map(|text| text.trim_start_matches('$').parse()).transpose()?;
        let (since, until) = (time(&wanted.since)?, time(&wanted.until)?);
        let (verdict, secret) = (wanted.verdict, wanted.secret.clone());
        Ok(Self { host, verdict, secret, cost, since, until, requests: BTreeSet::new() })
    }

    /// From when on events are meant.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// Whether an event is to be printed. They come in the order in which they were recorded.
    pub(super) fn admits(&mut self, stored: &StoredEvent) -> bool {
        // What was recorded before tells which request later events are of.
        let in_time =
            self.since.is_none_or(|since| stored.at >= since) && self.until.is_none_or(|until| stored.at < until);
        in_time && self.is_meant(stored)
    }

    fn is_meant(&mut self, stored: &StoredEvent) -> bool {
        if self.host.is_none() && self.verdict.is_none() && self.secret.is_none() && self.cost.is_none() {
            return true;
        }
        let Ok(facts) = serde_json::from_str::<Facts>(&stored.json) else { return false };
        if let Some(least) = self.cost {
            let dear = stored.kind == "usage_metered" && facts.cost.is_some_and(|cost| cost >= least);
            if !dear {
                self.note(stored, &facts);
                return false;
            }
            return (self.host.is_none() && self.verdict.is_none() && self.secret.is_none())
                || self.note(stored, &facts);
        }
        self.note(stored, &facts)
    }

    /// Whether an event is of a request that is meant, which is remembered.
    fn note(&mut self, stored: &StoredEvent, facts: &Facts) -> bool {
        let decided = match stored.kind.as_str() {
            "request_allowed" => Some(Verdict::Allowed),
            "request_denied" | "connection_refused" => Some(Verdict::Denied),
            _ => None,
        };
        let Some(decided) = decided else {
            return facts.request.is_some_and(|request| self.requests.contains(&(stored.session.clone(), request)));
        };
        let host = facts.host.as_deref().or(facts.target.as_deref().map(without_port));
        let carries = |secret: &String| facts.secrets.as_ref().is_some_and(|secrets| secrets.contains(secret));
        let meant = self.verdict.is_none_or(|wanted| wanted == decided)
            && self.secret.as_ref().is_none_or(carries)
            && self.is_host(host);
        if let Some(request) = facts.request.filter(|_| meant) {
            self.requests.insert((stored.session.clone(), request));
            if self.requests.len() > REQUESTS_MAX {
                self.requests.pop_first();
            }
        }
        meant
    }

    fn is_host(&self, host: Option<&str>) -> bool {
        let Some(wanted) = self.host.as_deref() else { return true };
        match (host, wanted.strip_prefix('*')) {
            (None, _) => false,
            (Some(host), Some(end)) if end.starts_with('.') => host.len() > end.len() && host.ends_with(end),
            (Some(host), _) => host == wanted,
        }
    }
}

/// The host of a connection's target.
fn without_port(target: &str) -> &str {
    match target.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => target,
    }
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
            at: Timestamp(0),
            kind: event["event"].as_str().unwrap().to_owned(),
            json: event.to_string(),
        }
    }

    fn wanted() -> Wanted {
        Wanted { host: None, verdict: None, secret: None, user: None, cost: None, since: None, until: None }
    }

    fn admitted(host: Option<&str>, verdict: Option<Verdict>) -> Vec<u64> {
        numbers(&Wanted { host: host.map(str::to_owned), verdict, ..wanted() })
    }

    fn numbers(wanted: &Wanted) -> Vec<u64> {
        let mut filter = Filter::new(wanted).unwrap();
        let log = [
            event(1, json!({ "event": "proxy_started" })),
            event(2, json!({ "event": "request_allowed", "request": 1, "host": "a.example.com" })),
            event(3, json!({ "event": "request_denied", "request": 2, "host": "b.test" })),
            event(4, json!({ "event": "request_completed", "request": 1 })),
            event(5, json!({ "event": "request_allowed", "request": 3, "host": "b.test" })),
            event(6, json!({ "event": "connection_refused", "target": "a.example.com:22" })),
            event(7, json!({ "event": "request_failed", "request": 3 })),
            event(8, json!({ "event": "something_later", "request": 3 })),
            event(9, json!({ "event": "request_allowed", "request": 4, "host": "c.test", "secrets": ["github"] })),
            event(10, json!({ "event": "usage_metered", "request": 4, "cost": 2_000_000_000_i64 })),
            event(11, json!({ "event": "usage_metered", "request": 3, "cost": 1_000_000_000_i64 })),
        ];
        log.iter().filter(|event| filter.admits(event)).map(|event| event.number).collect()
    }

    #[test]
    fn what_is_told_of_a_request_later_goes_with_it() {
        assert_eq!(admitted(None, None), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(admitted(Some("*.Example.com"), None), [2, 4, 6]);
        assert_eq!(admitted(Some("*.a.example.com"), None), [] as [u64; 0]);
        assert_eq!(admitted(Some("b.test"), Some(Verdict::Allowed)), [5, 7, 8, 11]);
        assert_eq!(admitted(None, Some(Verdict::Denied)), [3, 6]);
        assert_eq!(numbers(&Wanted { secret: Some("github".to_owned()), ..wanted() }), [9, 10]);
    }

    #[test]
    fn calls_are_found_by_what_they_cost_and_by_when_they_were() {
        let cost = |usd: &str| Wanted { cost: Some(usd.to_owned()), ..wanted() };
        assert_eq!(numbers(&cost("1")), [10, 11]);
        assert_eq!(numbers(&cost("$1.5")), [10]);
        assert_eq!(numbers(&Wanted { host: Some("b.test".to_owned()), ..cost("1") }), [11]);
        assert_eq!(numbers(&Wanted { since: Some("1971-01-01".to_owned()), ..wanted() }), [] as [u64; 0]);
        assert_eq!(numbers(&Wanted { until: Some("1971-01-01".to_owned()), ..wanted() }).len(), 11);
        assert!(Filter::new(&Wanted { until: Some("soon".to_owned()), ..wanted() }).is_err());
    }
}
