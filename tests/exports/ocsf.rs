//! OCSF against the schema that is published, as the PyPI package `ocsf-json-schema` carries it.

use crate::world::{World, documented, objects, python, run_python};
use serde_json::json;
use std::collections::BTreeMap;

/// Holds each line against the schema of its class with its profiles, and prints `class event` for it. That the check can
/// fail is tried by three changes of each object.
const CHECK: &str = r#"
import copy, json, sys
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
published = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
known = {}
def faults(event):
    profiles = tuple(event["metadata"]["profiles"])
    key = (event["class_uid"], profiles)
    if key not in known:
        name = published.lookup_class_name_from_uid(event["class_uid"])
        known[key] = Draft202012Validator(published.get_class_schema(name, list(profiles)))
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in known[key].iter_errors(event)]
for line in sys.stdin:
    event = json.loads(line)
    found = faults(event)
    assert not found, (event["metadata"]["event_code"], found)
    for change in (lambda e: e.pop("time"), lambda e: e.update(activity_id=4711), lambda e: e.update(moon=1)):
        wrong = copy.deepcopy(event)
        change(wrong)
        assert faults(wrong), "the schema takes anything"
    print(event["class_uid"], event["metadata"]["event_code"])
"#;

#[test]
fn every_event_is_as_the_published_schema_says() {
    let Some(python) = python() else { return };
    let world = World::new();
    let events = documented();
    world.record(1, &events);
    world.printed(&["audit", "checkpoint"]);
    let lines = world.printed(&["audit", "export", "--format", "ocsf"]);
    let told = run_python(&python, CHECK, &[], &lines);
    let of: BTreeMap<_, _> =
        told.lines().filter_map(|line| line.split_once(' ').map(|(class, kind)| (kind, class))).collect();
    assert_eq!(told.lines().count(), events.len());
    for (kind, class) in [
        ("session_started", "1007"),
        ("request_allowed", "4002"),
        ("request_denied", "4002"),
        ("connection_refused", "4001"),
        ("name_resolved", "4003"),
        ("usage_metered", "6003"),
        ("ssh_signed", "3002"),
        ("file_refused", "1001"),
        ("budget_reached", "2004"),
    ] {
        assert_eq!(of.get(kind), Some(&class), "{kind}");
    }
}

#[test]
fn a_line_is_proved_by_the_receipt_of_the_entry_that_it_names() {
    let world = World::new();
    let session = world.record(1, &documented()[..6]);
    world.printed(&["audit", "checkpoint"]);
    for format in ["jsonl", "ocsf"] {
        let lines = objects(&world.printed(&["audit", "export", "--format", format]));
        assert_eq!(lines.len(), 6);
        for line in lines {
            let place = if format == "ocsf" { &line["unmapped"] } else { &line };
            let entry = place["entry"].as_u64().unwrap().to_string();
            let receipt = world.printed(&["audit", "prove", "--entry", &entry]);
            let (index, leaf) = shown(&receipt);
            assert_eq!((json!(index), json!(leaf)), (place["entry"].clone(), place["leaf"].clone()));
            assert_eq!(place["session"], json!(session));
        }
    }
}

/// The index in a receipt, and the hash of its leaf, worked out here.
fn shown(receipt: &str) -> (u64, String) {
    use base64::Engine as _;
    use sha2::Digest as _;
    let line = |start: &str| receipt.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_default().to_owned();
    let extra = base64::prelude::BASE64_STANDARD.decode(line("extra ")).unwrap();
    let leaf = sha2::Sha256::new().chain_update([0]).chain_update(&extra[..64]).finalize();
    (line("index ").parse().unwrap(), leaf.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[test]
fn exports_have_the_filters_of_the_log() {
    let world = World::new();
    world.record(1, &documented());
    let all = objects(&world.printed(&["audit", "export", "--format", "jsonl"]));
    let denied = objects(&world.printed(&["audit", "export", "--format", "jsonl", "--verdict", "denied"]));
    assert!(all.len() > denied.len() && !denied.is_empty());
    let kinds: Vec<_> = denied.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert!(kinds.iter().all(|kind| ["request_denied", "connection_refused"].contains(kind)), "{kinds:?}");
    let (out, err, code) = world.omni(&["audit", "export", "--format", "ocsf", "--session", "zzz"]);
    assert_eq!((out.as_str(), code), ("", 1), "{err}");
}
