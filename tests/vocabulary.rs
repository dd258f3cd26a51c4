//! The words that records are made of: docs/events.md has an example of each, docs/ledger.schema.json says what each may hold,
//! and both are what the code does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod schema;

use omni::ledger::{event_json, event_kind, event_of};
use omni::model::{Event, SessionId, Timestamp, Writer};
use omni::store::{Home, Journal, Recorder, Sqlite, Store};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const EVENTS: &str = include_str!("../docs/events.md");
const SOURCE: &str = include_str!("../src/model/event_kind.rs");

/// The examples, in the order of the document.
fn examples() -> Vec<Value> {
    let blocks = EVENTS.split("```json\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.map(|block| serde_json::from_str(block).unwrap()).collect()
}

/// Every name that the code gives an event.
fn kinds() -> BTreeSet<String> {
    let function = SOURCE.split("pub fn kind(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    function.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn each_event_has_one_example_which_is_what_the_code_writes() {
    let examples = examples();
    let named: BTreeSet<String> = examples.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect();
    assert_eq!((named, examples.len()), (kinds(), kinds().len()));
    for example in examples {
        let event: Event = event_of(&example.to_string()).unwrap_or_else(|| panic!("{example}"));
        assert_eq!(serde_json::to_value(&event).unwrap(), example);
        assert!(EVENTS.contains(&format!("`{}`: ", event.kind())), "{} is not told of", event.kind());
    }
}

#[test]
fn the_schema_knows_each_event_and_each_of_its_fields() {
    for example in examples() {
        assert_eq!(schema::faults_of(&example), [] as [String; 0]);
        for key in example.as_object().unwrap().keys().filter(|key| *key != "event") {
            let mut other = example.clone();
            other[key] = json!([[["nothing has this"]]]);
            assert!(!schema::faults_of(&other).is_empty(), "the schema takes anything for {key} of {example}");
        }
        let mut more = example.clone();
        more["more"] = json!(1);
        assert!(!schema::faults_of(&more).is_empty(), "the schema takes further fields of {example}");
    }
}

#[test]
fn an_event_of_a_later_version_passes_through() {
    let later = json!({ "event": "dream_had", "about": "sheep" });
    assert_eq!(schema::faults_of(&later), [] as [String; 0]);
    assert_eq!((event_of(&later.to_string()), event_kind(&later.to_string())), (None, Some("dream_had".to_owned())));
}

#[test]
fn what_a_journal_holds_is_what_the_schema_says() {
    let place = tempfile::tempdir().unwrap();
    let home = Home::open(&place.path().join("home")).unwrap();
    let session = SessionId::from_entropy([1; 10]);
    let mut journal = Journal::create(&home, &session, Writer::Proxy).unwrap();
    let events: Vec<Event> = examples().iter().map(|event| event_of(&event.to_string()).unwrap()).collect();
    for (at, event) in (1..).zip(&events) {
        journal.record(Timestamp(at), event).unwrap();
    }
    let bytes = std::fs::read(journal.path()).unwrap();
    let header = omni::ledger::Header { session: session.clone(), writer: Writer::Proxy };
    let decoded = omni::ledger::decode(&header, &bytes);
    assert_eq!(decoded.frames.len(), events.len());
    for frame in &decoded.frames {
        let payload: Value = serde_json::from_slice(frame.payload).unwrap();
        assert_eq!(schema::faults_of_payload(&payload), [] as [String; 0]);
        assert_eq!(event_json(frame.payload), Some(frame.event));
    }
    let mut store = Sqlite::open(&home).unwrap();
    store.fold_all().unwrap();
    let stored: Vec<Event> = store.events(&session).unwrap().iter().map(|event| event.event().unwrap()).collect();
    assert_eq!(stored, events);
}
