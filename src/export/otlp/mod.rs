//! Entries in the messages of OpenTelemetry's protocol, OTLP 1.x (<https://opentelemetry.io/docs/specs/otlp/>): logs, one a
//! line for each entry, and spans for sessions and their model calls.

mod log;
mod span;

pub use log::logs;
pub use span::{Span, SpanBook, spans};

use super::Installation;
use super::protobuf::{Field, Message, field};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Domains of the hashes that name traces and spans.
const TRACE_DOMAIN: &[u8] = b"omni trace v1\0";
const SPAN_DOMAIN: &[u8] = b"omni span v1\0";

/// What was not taken of a request that was answered with success: how many, and why. None where all was.
#[must_use]
pub fn rejected(answer: &[u8]) -> Option<(u64, String)> {
    let Field::Bytes(partial) = field(answer, 1)? else { return None };
    let Some(Field::Varint(count)) = field(partial, 1) else { return None };
    let why = match field(partial, 2) {
        Some(Field::Bytes(text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    (count > 0).then_some((count, why))
}

/// The trace of a session.
fn trace_id(session: &str) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::new().chain_update(TRACE_DOMAIN).chain_update(session).finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}

/// The span of a session, or of one of its requests.
fn span_id(session: &str, request: Option<u64>) -> [u8; 8] {
    let of = request.map_or_else(|| session.to_owned(), |request| format!("{session}#{request}"));
    let hash: [u8; 32] = Sha256::new().chain_update(SPAN_DOMAIN).chain_update(of).finalize().into();
    let mut id = [0; 8];
    id.copy_from_slice(&hash[..8]);
    id
}

fn nanoseconds(at: crate::model::Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000)
}

/// A request of one scope of one resource, for logs and spans alike: their messages differ in what the items are.
fn request(items: impl Iterator<Item = Message>, from: &Installation) -> Vec<u8> {
    let mut scoped = Message::default();
    scoped.message(1, scope(from));
    items.for_each(|item| scoped.message(2, item));
    let mut of_resource = Message::default();
    of_resource.message(1, resource(from));
    of_resource.message(2, scoped);
    let mut request = Message::default();
    request.message(1, of_resource);
    request.into_bytes()
}

/// `Resource`: the machine and the program.
fn resource(from: &Installation) -> Message {
    let mut resource = Message::default();
    attribute(&mut resource, 1, "service.name", &Value::from("omni"));
    attribute(&mut resource, 1, "service.version", &Value::from(from.omni_version.as_str()));
    attribute(&mut resource, 1, "host.name", &Value::from(from.host.as_str()));
    if let Some(ledger) = &from.ledger {
        attribute(&mut resource, 1, "service.instance.id", &Value::from(ledger.as_str()));
    }
    resource
}

/// `InstrumentationScope`.
fn scope(from: &Installation) -> Message {
    let mut scope = Message::default();
    scope.text(1, "omni");
    scope.text(2, &from.omni_version);
    scope
}

/// Adds a `KeyValue`.
fn attribute(to: &mut Message, number: u64, key: &str, value: &Value) {
    let mut pair = Message::default();
    pair.text(1, key);
    pair.message(2, any_value(value));
    to.message(number, pair);
}

/// `AnyValue`. Numbers that it has no room for become text.
fn any_value(value: &Value) -> Message {
    let mut any = Message::default();
    match value {
        Value::Null => {}
        Value::Bool(value) => any.some_varint(2, u64::from(*value)),
        Value::String(text) => any.some_bytes(1, text.as_bytes()),
        Value::Number(number) => match number.as_i64() {
            Some(number) => any.some_varint(3, number.cast_unsigned()),
            None => any.some_bytes(1, number.to_string().as_bytes()),
        },
        Value::Array(values) => {
            let mut list = Message::default();
            values.iter().for_each(|value| list.message(1, any_value(value)));
            any.message(5, list);
        }
        Value::Object(fields) => {
            let mut list = Message::default();
            fields.iter().for_each(|(key, value)| attribute(&mut list, 1, key, value));
            any.message(6, list);
        }
    }
    any
}
