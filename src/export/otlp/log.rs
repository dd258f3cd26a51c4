//! `ExportLogsServiceRequest` (opentelemetry/proto/collector/logs/v1).

use super::super::protobuf::Message;
use super::super::{Installation, Record, json_object};
use super::{any_value, attribute, nanoseconds, request, span_id, trace_id};
use serde_json::{Value, json};

/// Severities of the data model.
const INFO: u64 = 9;
const WARN: u64 = 13;

/// A request with a log record for each entry, whose body is the entry as JSON Lines have it.
#[must_use]
pub fn logs(records: &[Record], from: &Installation) -> Vec<u8> {
    request(records.iter().map(log), from)
}

fn log(record: &Record) -> Message {
    let mut log = Message::default();
    let at = record.at().map_or(0, nanoseconds);
    log.fixed64(1, at);
    let (severity, word) = if record.is_warning() { (WARN, "WARN") } else { (INFO, "INFO") };
    log.varint(2, severity);
    log.text(3, word);
    let object = json_object(record);
    let request = object.get("request").and_then(Value::as_u64);
    log.message(5, any_value(&Value::Object(object)));
    let mut put = |key: &str, value: Value| attribute(&mut log, 6, key, &value);
    put("omni.entry", json!(record.entry));
    put("omni.leaf", json!(record.leaf_hex()));
    if let Some(frame) = record.frame() {
        put("session.id", json!(frame.session));
        if let Some(user) = &frame.user {
            put("user.name", json!(user));
        }
    }
    if let Some(frame) = record.frame() {
        log.bytes(9, &trace_id(frame.session.as_str()));
        log.bytes(10, &span_id(frame.session.as_str(), request));
    }
    log.fixed64(11, at);
    log.text(12, &format!("omni.{}", record.kind()));
    log
}
