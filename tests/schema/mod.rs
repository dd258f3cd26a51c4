//! Checks JSON against docs/ledger.schema.json, by as much of JSON Schema (2020-12) as that uses. A word that it does not know
//! is an error, so that nothing of the schema is passed over.

use serde_json::Value;
use std::sync::LazyLock;

static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../docs/ledger.schema.json")).expect("the schema"));

/// What is wrong with a frame's payload; nothing where it is as the schema says.
pub fn faults_of_payload(payload: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(&SCHEMA, payload, "", &mut faults);
    faults
}

/// What is wrong with an event.
#[allow(dead_code, reason = "some tests have whole payloads")]
pub fn faults_of(event: &Value) -> Vec<String> {
    faults_of_payload(&serde_json::json!({ "seq": 1, "at": 1, "event": event }))
}

fn check(schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    let schema = schema.as_object().expect("a schema");
    let mut fail = |what: String| faults.push(format!("{place}: {what} ({value})"));
    for (word, wanted) in schema {
        match word.as_str() {
            "$schema" | "$defs" | "title" | "description" => {}
            "type" if !is_any_of(wanted, value) => fail(format!("it is not {wanted}")),
            "const" if wanted != value => fail(format!("it is not {wanted}")),
            "enum" if !wanted.as_array().unwrap().contains(value) => fail(format!("it is none of {wanted}")),
            "minimum" if value.as_i64().is_some_and(|number| number < wanted.as_i64().unwrap()) => {
                fail(format!("it is less than {wanted}"));
            }
            "maximum" if value.as_i64().is_some_and(|number| number > wanted.as_i64().unwrap()) => {
                fail(format!("it is more than {wanted}"));
            }
            "pattern" if !matches_pattern(wanted.as_str().unwrap(), value.as_str().unwrap_or_default()) => {
                fail(format!("it does not match {wanted}"));
            }
            "not" if passes(wanted, value) => fail(format!("it is {wanted}")),
            "anyOf" if !wanted.as_array().unwrap().iter().any(|one| passes(one, value)) => {
                fail("it is nothing of what it can be".to_owned());
            }
            "required" => {
                let missing =
                    wanted.as_array().unwrap().iter().filter(|key| value.get(key.as_str().unwrap()).is_none());
                missing.for_each(|key| fail(format!("it lacks {key}")));
            }
            "type" | "const" | "enum" | "minimum" | "maximum" | "pattern" | "not" | "anyOf" => {}
            "oneOf" | "$ref" | "properties" | "additionalProperties" | "items" => {}
            other => panic!("the schema uses `{other}`, which this does not check"),
        }
    }
    check_parts(schema, value, place, faults);
}

/// What of a schema is about parts of a value.
fn check_parts(schema: &serde_json::Map<String, Value>, value: &Value, place: &str, faults: &mut Vec<String>) {
    if let Some(name) = schema.get("$ref") {
        check(defined(name.as_str().unwrap()), value, place, faults);
    }
    if let Some(choices) = schema.get("oneOf") {
        let choices = choices.as_array().unwrap();
        match choices.iter().filter(|one| passes(one, value)).count() {
            1 => {}
            // The one that it means to be says best what is wrong.
            0 => match choices.iter().find(|one| names_event(one, value)) {
                Some(meant) => check(meant, value, place, faults),
                None => faults.push(format!("{place}: it is nothing of what it can be ({value})")),
            },
            count => faults.push(format!("{place}: it is {count} things at once ({value})")),
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (key, part) in value.as_object().into_iter().flatten() {
        let inner = format!("{place}/{key}");
        match properties.and_then(|properties| properties.get(key)).or(schema.get("additionalProperties")) {
            None => {}
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => faults.push(format!("{inner}: the schema does not know it")),
            Some(wanted) => check(wanted, part, &inner, faults),
        }
    }
    if let Some(wanted) = schema.get("items") {
        for (index, part) in value.as_array().into_iter().flatten().enumerate() {
            check(wanted, part, &format!("{place}/{index}"), faults);
        }
    }
}

fn passes(schema: &Value, value: &Value) -> bool {
    let mut faults = Vec::new();
    check(schema, value, "", &mut faults);
    faults.is_empty()
}

fn defined(name: &str) -> &'static Value {
    SCHEMA.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("the schema lacks {name}"))
}

/// Whether a choice is the schema of this very event.
fn names_event(choice: &Value, value: &Value) -> bool {
    let meant = defined(choice["$ref"].as_str().unwrap());
    meant.pointer("/properties/event/const").is_some_and(|name| Some(name) == value.get("event"))
}

fn is_any_of(types: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the schema has the type `{other}`, which this does not check"),
    };
    match types {
        Value::Array(kinds) => kinds.iter().any(is),
        kind => is(kind),
    }
}

/// The two patterns that the schema has: a number of characters out of a set.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let is: fn(char) -> bool = match pattern {
        "^[0-9a-f]{64}$" => |letter| matches!(letter, '0'..='9' | 'a'..='f'),
        "^[0-9a-hjkmnp-tv-z]{16}$" => {
            |letter| matches!(letter, '0'..='9' | 'a'..='h' | 'j' | 'k' | 'm' | 'n' | 'p'..='t' | 'v'..='z')
        }
        other => panic!("the schema has the pattern {other}, which this does not check"),
    };
    let length = if pattern.ends_with("{64}$") { 64 } else { 16 };
    text.len() == length && text.chars().all(is)
}
