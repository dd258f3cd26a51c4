//! `ExportTraceServiceRequest` (opentelemetry/proto/collector/trace/v1), by the semantic conventions for generative AI
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/>): a span for each session and, below it, one for each model call.

use super::super::protobuf::Message;
use super::super::{Installation, Record};
use super::{attribute, nanoseconds, request, span_id, trace_id};
use crate::model::{EndReason, Event, NanoUsd, RequestLine, SessionId, Timestamp, Usage};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Kinds of spans.
const INTERNAL: u64 = 1;
const CLIENT: u64 = 3;
/// The status of what went wrong.
const ERROR: u64 = 2;
/// Most requests of which it is remembered that they began; of more, the oldest are forgotten, and so have no span.
const OPEN_MAX: usize = 10_000;
/// Most sessions of which that is remembered.
const SESSIONS_MAX: usize = 10_000;

/// What is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    trace: [u8; 16],
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: String,
    kind: u64,
    start: Timestamp,
    end: Timestamp,
    attributes: Vec<(&'static str, Value)>,
    /// Why it went wrong.
    error: Option<String>,
}

/// A request, as far as it was told of.
#[derive(Debug)]
struct Call {
    /// The entry that it began with.
    entry: u64,
    start: Timestamp,
    line: RequestLine,
    /// When it was over, and with what status.
    over: Option<(Timestamp, u16)>,
}

#[derive(Debug)]
struct Begun {
    entry: u64,
    at: Timestamp,
    user: String,
    profile: String,
}

/// Joins the events of sessions and requests. What it says of a span depends on that span's events alone, so that a span that is
/// told twice is the same one.
#[derive(Debug, Default)]
pub struct SpanBook {
    sessions: BTreeMap<SessionId, Begun>,
    calls: BTreeMap<(SessionId, u64), Call>,
}

impl SpanBook {
    /// From which entry on it would have to be filled anew to know what it knows now; none where it knows of nothing.
    #[must_use]
    pub fn open_from(&self) -> Option<u64> {
        let sessions = self.sessions.values().map(|begun| begun.entry);
        sessions.chain(self.calls.values().map(|call| call.entry)).min()
    }

    /// Takes the next entry; the span that is whole with it. Entries come in the ledger's order.
    pub fn take(&mut self, record: &Record) -> Option<Span> {
        let (entry, frame, event) = (record.entry?, record.frame()?, record.event()?);
        let (session, at) = (&frame.session, frame.at);
        match event {
            Event::SessionStarted { user, profile, .. } => {
                forget_oldest(&mut self.sessions, SESSIONS_MAX, |begun| begun.entry);
                self.sessions.insert(session.clone(), Begun { entry, at, user, profile });
                None
            }
            Event::SessionEnded { reason, .. } => self.session(session, at, reason),
            Event::RequestAllowed { request, line, .. } => {
                forget_oldest(&mut self.calls, OPEN_MAX, |call| call.entry);
                let call = Call { entry, start: at, line, over: None };
                self.calls.insert((session.clone(), request.0), call);
                None
            }
            Event::RequestCompleted { request, status, .. } => {
                if let Some(call) = self.calls.get_mut(&(session.clone(), request.0)) {
                    call.over = Some((at, status));
                }
                None
            }
            Event::UsageMetered { request, dialect, model, usage, cost, .. } => {
                let metered = Metered { request: request.0, number: frame.number, at, dialect, model, usage, cost };
                self.call(session, &metered)
            }
            _ => None,
        }
    }

    /// A model call: a request that is over, or one turn of a connection that goes on.
    fn call(&mut self, session: &SessionId, metered: &Metered) -> Option<Span> {
        let key = (session.clone(), metered.request);
        let call = self.calls.get_mut(&key)?;
        let span = call_span(session, call, metered);
        if call.over.is_some() {
            self.calls.remove(&key);
        } else {
            call.start = metered.at;
        }
        Some(span)
    }

    fn session(&mut self, session: &SessionId, end: Timestamp, reason: EndReason) -> Option<Span> {
        let of_session = (session.clone(), 0)..=(session.clone(), u64::MAX);
        let left: Vec<_> = self.calls.range(of_session).map(|(key, _)| key.clone()).collect();
        left.iter().for_each(|key| drop(self.calls.remove(key)));
        let Begun { at, user, profile, .. } = self.sessions.remove(session)?;
        let word = serde_json::to_value(reason).unwrap_or_default();
        let error = (reason != EndReason::Finished).then(|| word.as_str().unwrap_or_default().to_owned());
        let mut attributes = vec![
            ("gen_ai.operation.name", json!("invoke_agent")),
            ("gen_ai.agent.name", json!(profile)),
            ("gen_ai.conversation.id", json!(session)),
            ("session.id", json!(session)),
            ("user.name", json!(user)),
        ];
        attributes.extend(error.clone().map(|error| ("error.type", json!(error))));
        Some(Span {
            trace: trace_id(session.as_str()),
            id: span_id(session.as_str(), None),
            parent: None,
            name: format!("invoke_agent {profile}"),
            kind: INTERNAL,
            start: at,
            end,
            attributes,
            error,
        })
    }
}

fn forget_oldest<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, most: usize, entry: impl Fn(&V) -> u64) {
    if map.len() >= most
        && let Some(oldest) = map.iter().min_by_key(|(_, value)| entry(value)).map(|(key, _)| key.clone())
    {
        map.remove(&oldest);
    }
}

struct Metered {
    request: u64,
    number: u64,
    at: Timestamp,
    dialect: String,
    model: String,
    usage: Usage,
    cost: NanoUsd,
}

fn call_span(session: &SessionId, call: &Call, metered: &Metered) -> Span {
    let Metered { request, number, at, dialect, model, usage, cost } = metered;
    let (end, status) = call.over.map_or((*at, None), |(end, status)| (end, Some(status)));
    // Turns have no name of their own but their number.
    let id = match call.over {
        Some(_) => span_id(session.as_str(), Some(*request)),
        None => span_id(&format!("{session}/{number}"), Some(*request)),
    };
    let failed = status.filter(|status| *status >= 400);
    let cache_written = usage.cache_write.saturating_add(usage.cache_write_long);
    let mut attributes = vec![
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!(provider(dialect))),
        ("gen_ai.request.model", json!(model)),
        ("gen_ai.response.model", json!(model)),
        ("gen_ai.conversation.id", json!(session)),
        // What came from a cache is among them, as the conventions want it.
        ("gen_ai.usage.input_tokens", json!(usage.prompt())),
        ("gen_ai.usage.output_tokens", json!(usage.output)),
        ("gen_ai.usage.cache_read.input_tokens", json!(usage.cache_read)),
        ("gen_ai.usage.cache_creation.input_tokens", json!(cache_written)),
        ("server.address", json!(call.line.host.to_string())),
        ("server.port", json!(call.line.port.0)),
        ("omni.cost_usd", json!(cost.to_decimal())),
        ("omni.request", json!(request)),
    ];
    attributes.extend(status.map(|status| ("http.response.status_code", json!(status))));
    attributes.extend(failed.map(|status| ("error.type", json!(status.to_string()))));
    Span {
        trace: trace_id(session.as_str()),
        id,
        parent: Some(span_id(session.as_str(), None)),
        name: format!("chat {model}"),
        kind: CLIENT,
        start: call.start,
        end,
        attributes,
        error: failed.map(|status| format!("HTTP {status}")),
    }
}

/// The conventions' name of whoever answers in a dialect.
fn provider(dialect: &str) -> &str {
    match dialect {
        "anthropic-messages" => "anthropic",
        "openai-responses" | "openai-chat" => "openai",
        "google-generate" => "gcp.gen_ai",
        "bedrock-converse" => "aws.bedrock",
        other => other,
    }
}

/// A request with these spans.
#[must_use]
pub fn spans(spans: &[Span], from: &Installation) -> Vec<u8> {
    request(spans.iter().map(encode), from)
}

fn encode(span: &Span) -> Message {
    let mut message = Message::default();
    message.bytes(1, &span.trace);
    message.bytes(2, &span.id);
    if let Some(parent) = &span.parent {
        message.bytes(4, parent);
    }
    message.text(5, &span.name);
    message.varint(6, span.kind);
    message.fixed64(7, nanoseconds(span.start));
    message.fixed64(8, nanoseconds(span.end));
    span.attributes.iter().for_each(|(key, value)| attribute(&mut message, 9, key, value));
    if let Some(error) = &span.error {
        let mut status = Message::default();
        status.text(2, error);
        status.varint(3, ERROR);
        message.message(15, status);
    }
    message
}
