//! Which events of the log are printed, where not all are: those of requests that are meant, and of what was refused before
//! there was a request.

use crate::model::SessionId;
use crate::store::StoredEvent;
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
}

/// Goes through the log, and remembers which requests are meant.
pub(super) struct Filter {
    host: Option<String>,
    verdict: Option<Verdict>,
    requests: BTreeSet<(SessionId, u64)>,
}

/// What of an event tells whether it is meant.
#[derive(Deserialize)]
struct Facts {
    request: Option<u64>,
    host: Option<String>,
    target: Option<String>,
}

impl Filter {
    pub(super) fn new(wanted: &Wanted) -> Self {
        // Hosts are recorded in small letters.
        let host = wanted.host.as_deref().map(str::to_ascii_lowercase);
        Self { host, verdict: wanted.verdict, requests: BTreeSet::new() }
    }

    /// Whether an event is to be printed. They come in the order in which they were recorded.
    pub(super) fn admits(&mut self, stored: &StoredEvent) -> bool {
        if self.host.is_none() && self.verdict.is_none() {
            return true;
        }
        let Ok(facts) = serde_json::from_str::<Facts>(&stored.json) else { return false };
        let decided = match stored.kind.as_str() {
            "request_allowed" => Some(Verdict::Allowed),
            "request_denied" | "connection_refused" => Some(Verdict::Denied),
            _ => None,
        };
        let Some(decided) = decided else {
            return facts.request.is_some_and(|request| self.requests.contains(&(stored.session.clone(), request)));
        };
        let host = facts.host.as_deref().or(facts.target.as_deref().map(without_port));
        let meant = self.verdict.is_none_or(|wanted| wanted == decided) && self.is_host(host);
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
    use crate::model::Timestamp;
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

    fn admitted(host: Option<&str>, verdict: Option<Verdict>) -> Vec<u64> {
        let wanted = Wanted { host: host.map(str::to_owned), verdict };
        let mut filter = Filter::new(&wanted);
        let log = [
            event(1, json!({ "event": "proxy_started" })),
            event(2, json!({ "event": "request_allowed", "request": 1, "host": "a.example.com" })),
            event(3, json!({ "event": "request_denied", "request": 2, "host": "b.test" })),
            event(4, json!({ "event": "request_completed", "request": 1 })),
            event(5, json!({ "event": "request_allowed", "request": 3, "host": "b.test" })),
            event(6, json!({ "event": "connection_refused", "target": "a.example.com:22" })),
            event(7, json!({ "event": "request_failed", "request": 3 })),
            event(8, json!({ "event": "something_later", "request": 3 })),
        ];
        log.iter().filter(|event| filter.admits(event)).map(|event| event.number).collect()
    }

    #[test]
    fn what_is_told_of_a_request_later_goes_with_it() {
        assert_eq!(admitted(None, None), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(admitted(Some("*.Example.com"), None), [2, 4, 6]);
        assert_eq!(admitted(Some("*.a.example.com"), None), [] as [u64; 0]);
        assert_eq!(admitted(Some("b.test"), Some(Verdict::Allowed)), [5, 7, 8]);
        assert_eq!(admitted(None, Some(Verdict::Denied)), [3, 6]);
    }
}
