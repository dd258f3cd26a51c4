//! Events as the Open Cybersecurity Schema Framework has them (<https://schema.ocsf.io/1.8.0>), one object an entry.
//!
//! Each event has its class by what it tells of ([`shape_of`]); docs/exports.md has the table. What OCSF has no place for stands in
//! `raw_data`, which is the event exactly as it was recorded, and `unmapped` says where in the ledger that is proved. An
//! object is made of one entry alone: what a request's later events do not repeat, they refer to by
//! `metadata.correlation_uid`.

mod consent;
mod life;
mod shape;
mod traffic;

use self::shape::{Class, Control, Shape};
use super::{Frame, Installation, Record, Recorded};
use crate::model::{Event, Timestamp, harmless_json};
use serde_json::{Map, Value, json};

/// The version of the schema.
pub const VERSION: &str = "1.8.0";

/// The object.
#[must_use]
pub fn object(record: &Record, from: &Installation) -> Value {
    let shape = match (&record.recorded, record.event()) {
        (Recorded::Frame(frame), Some(event)) => shape_of(&event, frame),
        (Recorded::Key { number, public }, _) => life::ledger_key(*number, public),
        _ => Shape::other(Class::Base, "Of a later version"),
    };
    envelope(record, shape, from)
}

/// The object as one line, with its end.
#[must_use]
pub fn line(record: &Record, from: &Installation) -> String {
    let mut line = harmless_json(&object(record, from).to_string());
    line.push('\n');
    line
}

/// What an event is. One that has no place of its own here is an activity of omni's, by its name.
fn shape_of(event: &Event, frame: &Frame) -> Shape {
    let known =
        traffic::shape(event, frame).or_else(|| consent::shape(event, frame)).or_else(|| life::shape(event, frame));
    known.unwrap_or_else(|| {
        Shape::other(Class::Api, "Recorded")
            .with("api", json!({ "operation": event.kind() }))
            .with("src_endpoint", shape::sandbox(frame.session.as_str()))
    })
}

fn envelope(record: &Record, shape: Shape, from: &Installation) -> Value {
    let Shape { class, activity, mut fields, .. } = shape;
    let mut profiles = vec!["host"];
    let mut put = |key: &str, value: Value| drop(fields.insert(key.to_owned(), value));
    put("class_uid", json!(class.uid()));
    put("category_uid", json!(class.category()));
    put("activity_id", json!(activity));
    put("type_uid", json!(u64::from(class.uid()) * 100 + u64::from(activity)));
    put("severity_id", json!(shape.severity as u32));
    put("time", json!(record.at().map_or(0, milliseconds)));
    put("message", json!(record.kind().replace('_', " ")));
    put("device", json!({ "type_id": 0, "hostname": from.host }));
    if let Some(name) = shape.activity_name {
        put("activity_name", json!(name));
    }
    if let Some(succeeded) = shape.succeeded {
        put("status_id", json!(if succeeded { 1 } else { 2 }));
    }
    if let Some(detail) = &shape.detail {
        put("status_detail", json!(detail));
    }
    if let Some(control) = shape.control {
        profiles.push("security_control");
        let (action, disposition) = match control {
            Control::Allowed => (1, 1),
            Control::Blocked => (2, 2),
        };
        put("action_id", json!(action));
        put("disposition_id", json!(disposition));
    }
    if shape.is_model_call {
        profiles.push("ai_operation");
    }
    put("actor", actor(record, shape.by.as_deref()));
    if let Some(frame) = record.frame() {
        put("raw_data", json!(frame.json));
    }
    put("unmapped", place(record));
    put("metadata", metadata(record, from, &profiles));
    Value::Object(fields)
}

/// OCSF counts milliseconds.
fn milliseconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1000)
}

/// Who acted: a session of omni's, on a user's behalf, or a user by themselves.
fn actor(record: &Record, by: Option<&str>) -> Value {
    let mut actor = Map::from_iter([("app_name".to_owned(), json!("omni"))]);
    let frame = record.frame();
    if let Some(frame) = frame {
        actor.insert("session".to_owned(), json!({ "uid": frame.session }));
    }
    if let Some(user) = by.or_else(|| frame?.user.as_deref()) {
        actor.insert("user".to_owned(), json!({ "name": user }));
    }
    Value::Object(actor)
}

/// Where the entry is proved.
fn place(record: &Record) -> Value {
    let mut place = json!({ "entry": record.entry, "leaf": record.leaf_hex() });
    if let (Some(frame), Some(fields)) = (record.frame(), place.as_object_mut()) {
        fields.insert("session".to_owned(), json!(frame.session));
        fields.insert("number".to_owned(), json!(frame.number));
        fields.insert("writer".to_owned(), json!(frame.writer));
        fields.insert("seq".to_owned(), json!(frame.seq));
    }
    place
}

fn metadata(record: &Record, from: &Installation, profiles: &[&str]) -> Value {
    let product = json!({ "name": "omni", "vendor_name": "omni", "version": from.omni_version });
    let mut metadata = json!({
        "version": VERSION,
        "product": product,
        "profiles": profiles,
        "event_code": record.kind(),
        "uid": record.uid(),
        "log_name": "ledger",
    });
    let Some(fields) = metadata.as_object_mut() else { return metadata };
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(key.to_owned(), value);
        }
    };
    put("sequence", record.entry.map(|entry| json!(entry)));
    put("log_provider", from.ledger.as_ref().map(|ledger| json!(ledger)));
    put("original_time", record.at().map(|at| json!(at.to_rfc3339())));
    put("correlation_uid", record.frame().map(|frame| json!(correlation(frame))));
    metadata
}

/// What the events of one request, question or connection have in common; of others, the session.
fn correlation(frame: &Frame) -> String {
    let fields: Map<String, Value> = serde_json::from_str(&frame.json).unwrap_or_default();
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    match (number("request"), number("question"), number("connection")) {
        (Some(request), _, _) => request_uid(frame, request),
        (None, Some(question), _) => format!("{}?{question}", frame.session),
        (None, None, Some(connection)) => format!("{}<{connection}", frame.session),
        _ => frame.session.to_string(),
    }
}

/// What names a request among all.
fn request_uid(frame: &Frame, request: u64) -> String {
    format!("{}#{request}", frame.session)
}
