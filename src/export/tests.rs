//! Every documented event as a line, in each format.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::ledger::Hash;
use crate::model::{SessionId, Timestamp};
use serde_json::{Value, json};

/// Every event of docs/events.md, with its example.
pub(crate) fn documented() -> Vec<(String, String)> {
    let text = include_str!("../../docs/events.md");
    let examples = text.lines().filter(|line| line.starts_with("{\"event\":"));
    let events: Vec<_> = examples
        .map(|json| {
            let event: Value = serde_json::from_str(json).unwrap();
            (event["event"].as_str().unwrap().to_owned(), json.to_owned())
        })
        .collect();
    assert!(events.len() > 40, "docs/events.md has {} examples", events.len());
    events
}

pub(crate) fn record(entry: u64, kind: &str, json: &str) -> Record {
    let frame = Frame {
        session: SessionId::from_entropy([7; 10]),
        user: Some("ada".to_owned()),
        number: entry + 1,
        writer: "proxy".to_owned(),
        seq: 3,
        at: Timestamp(1_700_000_000_123_456),
        kind: kind.to_owned(),
        json: json.to_owned(),
    };
    Record { entry: Some(entry), leaf: Some(Hash([0xab; 32])), recorded: Recorded::Frame(frame) }
}

pub(crate) fn installation() -> Installation {
    Installation { host: "build7".to_owned(), ledger: Some("omni/0f".to_owned()), omni_version: "0.1.0".to_owned() }
}

#[test]
fn a_line_says_where_it_is_proved_and_keeps_the_events_fields() {
    let json = r#"{"event":"usage_metered","request":1,"cost":1500000000,"number":77,"session":"x"}"#;
    let wanted = json!({
        "entry": 4, "leaf": "ab".repeat(32), "session": SessionId::from_entropy([7; 10]), "session_user": "ada", "number": 5,
        "at": "2023-11-14T22:13:20.123456Z", "writer": "proxy", "seq": 3, "event": "usage_metered", "request": 1,
        "cost_usd": "1.50",
    });
    assert_eq!(Value::Object(json_object(&record(4, "usage_metered", json))), wanted);
}

#[test]
fn a_line_is_one_line_and_steers_no_terminal() {
    let line = json_line(&record(1, "request_failed", r#"{"event":"request_failed","reason":"\u001b[2J\n\u202e"}"#));
    assert!(!line.trim_end_matches('\n').contains(crate::model::is_hostile), "{line:?}");
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["reason"], "\u{1b}[2J\n\u{202e}");
}

#[test]
fn every_documented_event_has_its_numbers_in_ocsf_and_keeps_what_was_recorded() {
    for (kind, json) in documented() {
        let object = ocsf::object(&record(9, &kind, &json), &installation());
        let [class, category, activity, kind_uid] =
            ["class_uid", "category_uid", "activity_id", "type_uid"].map(|key| object[key].as_u64().unwrap());
        assert_ne!(class, 0, "{kind} is a bare event");
        assert_eq!((category, kind_uid), (class / 1000, class * 100 + activity), "{kind}");
        assert_eq!(object["raw_data"], json, "{kind}");
        assert_eq!(object["metadata"]["event_code"], kind);
        assert_eq!(object["unmapped"]["entry"], 9, "{kind}");
        // `activity_name` and 99 come together.
        assert_eq!(object.get("activity_name").is_some(), activity == 99, "{kind}");
    }
}

#[test]
fn an_event_of_a_later_version_and_a_key_are_told_as_well() {
    let later = ocsf::object(&record(1, "moon_landed", r#"{"event":"moon_landed","where":"sea"}"#), &installation());
    assert_eq!(
        (&later["class_uid"], &later["raw_data"]),
        (&json!(0), &json!(r#"{"event":"moon_landed","where":"sea"}"#))
    );
    let key = Record { entry: Some(0), leaf: None, recorded: Recorded::Key { number: 1, public: [1; 32] } };
    let object = ocsf::object(&key, &installation());
    assert_eq!((&object["class_uid"], &object["activity_id"]), (&json!(3004), &json!(6)));
    assert_eq!(json_object(&key)["event"], "ledger_key");
}
