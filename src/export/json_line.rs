//! One JSON object a line: what `omni audit log --json` prints, and where it stands in the ledger.

use super::{Frame, Record, Recorded};
use crate::model::{NanoUsd, harmless_json};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

/// Fields that say where an event stands; what a later version's event has of these names gives way.
const PLACE: [&str; 8] = ["entry", "leaf", "session", "number", "at", "writer", "seq", "session_user"];

/// The object.
#[must_use]
pub fn json_object(record: &Record) -> Map<String, Value> {
    let mut object = match &record.recorded {
        Recorded::Frame(frame) => of_frame(frame),
        Recorded::Key { number, public } => {
            let key = BASE64_STANDARD.encode(public);
            Map::from_iter([("key".to_owned(), json!(number)), ("public".to_owned(), json!(key))])
        }
        Recorded::Other { kind } => Map::from_iter([("kind".to_owned(), json!(kind))]),
    };
    object.insert("event".to_owned(), json!(record.kind()));
    object.insert("entry".to_owned(), json!(record.entry));
    object.insert("leaf".to_owned(), json!(record.leaf_hex()));
    object
}

/// The line, with its end, and without anything that could steer a terminal.
#[must_use]
pub fn json_line(record: &Record) -> String {
    let mut line = harmless_json(&Value::Object(json_object(record)).to_string());
    line.push('\n');
    line
}

fn of_frame(frame: &Frame) -> Map<String, Value> {
    // What was recorded is an object, since it has a name.
    let mut fields: Map<String, Value> = serde_json::from_str(&frame.json).unwrap_or_default();
    for key in PLACE {
        fields.remove(key);
    }
    // Money is a decimal string of dollars.
    if let Some(cost) = fields.remove("cost") {
        let decimal = cost.as_i64().map(|nano| Value::String(NanoUsd(nano).to_decimal()));
        fields.insert("cost_usd".to_owned(), decimal.unwrap_or(cost));
    }
    fields.insert("session".to_owned(), json!(frame.session));
    fields.insert("number".to_owned(), json!(frame.number));
    fields.insert("at".to_owned(), json!(frame.at.to_rfc3339()));
    fields.insert("writer".to_owned(), json!(frame.writer));
    fields.insert("seq".to_owned(), json!(frame.seq));
    fields.insert("session_user".to_owned(), json!(frame.user));
    fields
}
