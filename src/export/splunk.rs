//! Entries in the shape of Splunk's HTTP Event Collector: one object after another in a request's body.

use super::{Installation, Record};
use crate::model::harmless_json;
use serde_json::{Map, Value, json};

/// Where events go within Splunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SplunkPlace {
    /// The index; the token's own where none is named.
    pub index: Option<String>,
    /// The source type; `omni:` and the format where none is named.
    pub sourcetype: Option<String>,
}

/// One event.
#[must_use]
pub fn splunk_event(record: &Record, from: &Installation, place: &SplunkPlace, format: &str, event: Value) -> String {
    let sourcetype = place.sourcetype.clone().unwrap_or_else(|| format!("omni:{format}"));
    let mut object = Map::from_iter([
        ("host".to_owned(), json!(from.host)),
        ("source".to_owned(), json!(from.ledger.as_deref().unwrap_or("omni"))),
        ("sourcetype".to_owned(), json!(sourcetype)),
        ("event".to_owned(), event),
        ("fields".to_owned(), json!({ "omni_event": record.kind(), "omni_entry": record.entry })),
    ]);
    if let Some(index) = &place.index {
        object.insert("index".to_owned(), json!(index));
    }
    if let Some(at) = record.at() {
        // A decimal of seconds as text, since a number would lose the microseconds.
        let seconds = format!("{}.{:06}", at.0.div_euclid(1_000_000), at.0.rem_euclid(1_000_000));
        object.insert("time".to_owned(), json!(seconds));
    }
    let mut line = harmless_json(&Value::Object(object).to_string());
    line.push('\n');
    line
}
