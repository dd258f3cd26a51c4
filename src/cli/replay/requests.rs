//! What a session asked for and what became of it, as a fold that can stop at any time.

use crate::cli::event_line::{describe, url};
use crate::cli::listing::{money, printable};
use crate::model::{Event, NanoUsd, Pricing, RequestNumber, Timestamp};
use crate::session::Aside;
use crate::store::StoredEvent;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a verdict looks: green, red, yellow.
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[m";

/// A session's requests on their way through time.
pub(super) struct Requests {
    events: Vec<(Duration, StoredEvent)>,
    /// How many of them were told.
    told: usize,
    rows: Vec<Row>,
    /// Where a request's row is.
    places: BTreeMap<u64, usize>,
    /// Which request a question is about.
    questions: BTreeMap<u64, u64>,
}

/// One request, or one thing that happened beside them.
struct Row {
    at: Duration,
    colour: &'static str,
    /// What it is, such as `#1 allowed GET https://example.com/`.
    what: String,
    /// Which rule, what was asked, how it ended.
    notes: Vec<String>,
    cost: NanoUsd,
    inexact: u64,
}

/// How long after a recording's beginning a time is.
pub(super) fn between(started: Timestamp, at: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(at.0.saturating_sub(started.0)).unwrap_or_default())
}

impl Requests {
    /// Those of a session's events that are about what it asked for.
    pub(super) fn new(events: Vec<StoredEvent>, started: Timestamp) -> Self {
        let timed = events.into_iter().filter(is_told).map(|stored| (between(started, stored.at), stored));
        let mut events: Vec<_> = timed.collect();
        // Each process's clock was its own; of the same time, the order of folding stays.
        events.sort_by_key(|(at, _)| *at);
        Self { events, told: 0, rows: Vec::new(), places: BTreeMap::new(), questions: BTreeMap::new() }
    }

    /// When this request was judged, or somebody was asked about it.
    pub(super) fn when_judged(&self, number: u64) -> Option<Duration> {
        let of = |stored: &StoredEvent| match stored.event() {
            Some(
                Event::RequestAllowed { request, .. }
                | Event::RequestDenied { request, .. }
                | Event::ApprovalAsked { request, .. },
            ) => request == RequestNumber(number),
            _ => false,
        };
        self.events.iter().find(|(_, stored)| of(stored)).map(|(at, _)| *at)
    }

    fn row(&mut self, at: Duration, request: Option<RequestNumber>) -> &mut Row {
        let next = self.rows.len();
        let place = request.map_or(next, |request| *self.places.entry(request.0).or_insert(next));
        if place == next {
            let cost = NanoUsd(0);
            self.rows.push(Row { at, colour: "", what: String::new(), notes: Vec::new(), cost, inexact: 0 });
        }
        &mut self.rows[place]
    }

    fn note(&mut self, at: Duration, request: RequestNumber, note: String) {
        self.row(at, Some(request)).notes.push(note);
    }

    fn take_in(&mut self, at: Duration, stored: &StoredEvent) {
        let Some(event) = stored.event() else { return };
        match event {
            Event::RequestAllowed { request, line, rule, rule_from, act, secrets, .. } => {
                let row = self.row(at, Some(request));
                (row.colour, row.what) = (GREEN, format!("#{} allowed {} {}", request.0, line.method, url(&line)));
                row.notes.push(by_rule(&rule, rule_from, act));
                if !secrets.is_empty() {
                    row.notes.push(format!("with the secrets {}", secrets.join(", ")));
                }
            }
            Event::RequestDenied { request, line, rule, rule_from, act, reason, .. } => {
                let row = self.row(at, Some(request));
                (row.colour, row.what) = (RED, format!("#{} DENIED {} {}", request.0, line.method, url(&line)));
                row.notes.extend(rule.map(|rule| by_rule(&rule, rule_from, act)));
                row.notes.push(reason);
            }
            Event::RequestCompleted { request, status, request_bytes, response_bytes, duration_ms, .. } => {
                let sizes = format!("{request_bytes} B out, {response_bytes} B in");
                self.note(at, request, format!("{status}, {sizes}, {duration_ms} ms"));
            }
            Event::RequestFailed { request, reason } => {
                let row = self.row(at, Some(request));
                row.colour = RED;
                row.notes.push(format!("failed: {reason}"));
            }
            Event::UsageMetered { request, model, cost, pricing, .. } => {
                let row = self.row(at, Some(request));
                row.cost = NanoUsd(row.cost.0.saturating_add(cost.0));
                row.inexact += u64::from(pricing != Pricing::Exact);
                let note = format!("{model}, {}", money(row.cost, row.inexact));
                row.notes.retain(|before| !before.starts_with(&format!("{model}, ")));
                row.notes.push(note);
            }
            Event::ApprovalAsked { question, request, what, why, .. } => {
                self.questions.insert(question, request.0);
                let row = self.row(at, Some(request));
                (row.colour, row.what) = (YELLOW, format!("#{} ASKS {what}", request.0));
                row.notes.push(format!("question {question}: {why}"));
            }
            Event::ApprovalAnswered { question, .. } => {
                let request = self.questions.get(&question).copied().map(RequestNumber);
                self.row(at, request).notes.push(describe(stored));
            }
            _ => self.other(at, stored),
        }
    }

    /// What is told in the words of the log, with its request where it is of one.
    fn other(&mut self, at: Duration, stored: &StoredEvent) {
        let words = describe(stored);
        match stored.event() {
            Some(Event::PushRead { request, .. } | Event::ModelReplaced { request, .. }) => {
                self.note(at, request, words);
            }
            event => {
                let row = self.row(at, None);
                row.what = words;
                if let Some(Event::ConnectionRefused { .. } | Event::SshRefused { .. }) = event {
                    row.colour = RED;
                }
            }
        }
    }
}

/// Whether an event is told beside a recording.
fn is_told(stored: &StoredEvent) -> bool {
    matches!(
        stored.kind.as_str(),
        "request_allowed"
            | "request_denied"
            | "request_completed"
            | "request_failed"
            | "connection_refused"
            | "push_read"
            | "usage_metered"
            | "approval_asked"
            | "approval_answered"
            | "model_replaced"
            | "budget_reached"
            | "rule_added"
            | "ssh_signed"
            | "ssh_refused"
    )
}

fn by_rule(rule: &str, from: Option<String>, act: Option<String>) -> String {
    let from = from.map_or_else(String::new, |from| format!(" ({from})"));
    let act = act.map_or_else(String::new, |act| format!(", {act}"));
    format!("rule `{rule}`{from}{act}")
}

impl Aside for Requests {
    fn next(&self) -> Option<Duration> {
        self.events.get(self.told).map(|(at, _)| *at)
    }

    fn advance(&mut self) -> String {
        let Some((at, stored)) = self.events.get(self.told).cloned() else { return String::new() };
        self.told += 1;
        self.take_in(at, &stored);
        describe(&stored)
    }

    fn lines(&self, most: usize) -> Vec<String> {
        let rows = self.rows[self.rows.len().saturating_sub(most)..].iter();
        let lines: Vec<_> = rows.flat_map(Row::lines).collect();
        lines[lines.len().saturating_sub(most)..].to_vec()
    }
}

impl Row {
    fn lines(&self) -> Vec<String> {
        let (seconds, tenths) = (self.at.as_secs(), self.at.subsec_millis() / 100);
        let time = format!("{}:{:02}.{tenths}", seconds / 60, seconds % 60);
        let first = format!("{DIM}{time}{PLAIN} {}{}{PLAIN}", self.colour, printable(&self.what));
        let notes = self.notes.iter().map(|note| format!("  {DIM}{}{PLAIN}", printable(note)));
        std::iter::once(first).chain(notes).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::SessionId;
    use serde_json::{Value, json};

    fn stored(number: u64, at: i64, event: &Value) -> StoredEvent {
        StoredEvent {
            entry: number,
            session: SessionId::from_entropy([1; 10]),
            number,
            writer: "proxy".to_owned(),
            seq: number,
            at: Timestamp(at),
            kind: event["event"].as_str().unwrap().to_owned(),
            json: event.to_string(),
        }
    }

    fn log() -> Vec<StoredEvent> {
        let place = json!({ "method": "GET", "scheme": "https", "host": "a.example", "port": 443, "path": "/x" });
        let with = |more: Value| {
            let mut event = place.clone();
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            event
        };
        let asked = json!({ "event": "approval_asked", "question": 1, "request": 1, "what": "GET https://a.example/x",
            "why": "a rule asks", "digest": "00", "expires": 9 });
        vec![
            stored(1, 1_000_000, &json!({ "event": "name_resolved", "name": "a.example", "address": "fd00::1" })),
            stored(2, 1_100_000, &asked),
            stored(
                3,
                1_300_000,
                &json!({ "event": "approval_answered", "question": 1, "answer": "once", "by": "ada" }),
            ),
            stored(
                4,
                1_400_000,
                &with(json!({ "event": "request_allowed", "request": 1, "rule": "ask a.example", "secrets": ["k"] })),
            ),
            stored(
                5,
                1_500_000,
                &with(json!({ "event": "request_denied", "request": 2, "rule": null, "reason": "no\u{1b}[2J rule" })),
            ),
            stored(
                6,
                2_000_000,
                &json!({ "event": "request_completed", "request": 1, "status": 200, "request_bytes": 5,
                "response_bytes": 7, "duration_ms": 600, "end": "complete" }),
            ),
        ]
    }

    #[test]
    fn a_request_is_one_row_whatever_is_told_of_it_later() {
        let mut requests = Requests::new(log(), Timestamp(1_000_000));
        assert_eq!(requests.next(), Some(Duration::from_millis(100)));
        assert_eq!(requests.when_judged(2), Some(Duration::from_millis(500)));
        assert_eq!(requests.when_judged(3), None);
        assert_eq!(requests.advance(), "question 1: may #1 GET https://a.example/x? a rule asks");
        let shown = |requests: &Requests| {
            let lines = requests.lines(100).join("\n");
            [GREEN, RED, YELLOW, DIM, PLAIN].iter().fold(lines, |text, colour| text.replace(colour, ""))
        };
        assert_eq!(shown(&requests), "0:00.1 #1 ASKS GET https://a.example/x\n  question 1: a rule asks");
        while requests.next().is_some() {
            requests.advance();
        }
        let wanted = "0:00.1 #1 allowed GET https://a.example/x\n  question 1: a rule asks\n  question 1: once by ada\n  \
            rule `ask a.example`\n  with the secrets k\n  200, 5 B out, 7 B in, 600 ms\n\
            0:00.5 #2 DENIED GET https://a.example/x\n  no\\u{1b}[2J rule";
        assert_eq!(shown(&requests), wanted);
        assert_eq!(requests.lines(1).len(), 1);
    }
}
