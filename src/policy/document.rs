//! A YAML text as a tree whose every node knows its place, and a reader that complains about all of it at once.
//!
//! It deliberately does not know what a profile or a policy is.

use super::error::{Complaint, hint_of};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, Spanned};
use std::fmt;

/// Longest text that is read as a profile or a policy, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of lists and maps.
const DEPTH_MAX: usize = 16;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What YAML can hold.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The key of a map with its place.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Node {
    pub(super) fn complaint(&self, message: impl Into<String>, hint: impl Into<String>) -> Complaint {
        Complaint { line: self.line, column: self.column, message: message.into(), hint: Some(hint.into()) }
    }

    /// What kind of value this is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

impl Key {
    pub(super) fn complaint(&self, message: impl Into<String>, hint: impl Into<String>) -> Complaint {
        Complaint { line: self.line, column: self.column, message: message.into(), hint: Some(hint.into()) }
    }
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, Complaint> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the file is longer than {TEXT_BYTES_MAX} bytes");
        return Err(Complaint { line: 1, column: 1, message, hint: None });
    }
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut root =
        serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| parser_complaint(&error, &lines))?;
    skip_quotes(&mut root, &lines);
    Ok(root)
}

/// The parser's own error as a complaint, with a hint for what people trip over.
fn parser_complaint(error: &serde_saphyr::Error, lines: &[&str]) -> Complaint {
    let (line, column) = error.location().map_or((1, 1), |at| (number(at.line()).max(1), number(at.column()).max(1)));
    let message = error.to_string();
    let message = message.lines().next().unwrap_or("this is not YAML").to_owned();
    let written = line.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or("");
    let star = written.contains(": *") || written.contains("- *");
    let hint = star.then(|| "a value that begins with `*` must stand in quotes".to_owned());
    Complaint { line, column, message, hint }
}

fn number(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Moves the place of every quoted text from its quote to its first character, where an offset in it counts from.
fn skip_quotes(node: &mut Node, lines: &[&str]) {
    match &mut node.value {
        Value::Text(_) => {
            let line = node.line.checked_sub(1).and_then(|index| lines.get(index));
            let first = line.and_then(|text| text.chars().nth(node.column.saturating_sub(1)));
            node.column += usize::from(matches!(first, Some('"' | '\'')));
        }
        Value::List(nodes) => nodes.iter_mut().for_each(|node| skip_quotes(node, lines)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, node)| skip_quotes(node, lines)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value, line: number(referenced.line()), column: number(referenced.column()) })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, referenced, .. } = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { text: value, line: number(referenced.line()), column: number(referenced.column()) })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(i128::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(i128::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}

/// The fields of one map, taken one by one; what is left over at the end is complained about.
pub(super) struct Fields {
    entries: Vec<(Key, Node)>,
    known: Vec<&'static str>,
}

impl Fields {
    /// The fields of a node, which must be a map; anything else is a complaint and reads as an empty map.
    pub(super) fn of(node: Node, what: &str, complaints: &mut Vec<Complaint>) -> Self {
        if let Value::Map(entries) = node.value {
            return Self { entries, known: Vec::new() };
        }
        let message = format!("{what} must be a map of keys and values, not {}", node.kind());
        complaints.push(node.complaint(message, "write it as `key: value` lines"));
        Self { entries: Vec::new(), known: Vec::new() }
    }

    /// Takes a field out; one that is written without a value counts as absent.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Node> {
        self.known.push(name);
        let index = self.entries.iter().position(|(key, _)| key.text == name)?;
        let (_, node) = self.entries.remove(index);
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// Complains about every field that nobody took.
    pub(super) fn finish(self, complaints: &mut Vec<Complaint>) {
        for (key, _) in self.entries {
            complaints.push(key.complaint(format!("unknown key `{}`", key.text), hint_of(&key.text, &self.known)));
        }
    }
}

/// Reads a text that is not empty.
pub(super) fn text(node: Node, what: &str, complaints: &mut Vec<Complaint>) -> Option<String> {
    let complaint = match &node.value {
        Value::Text(text) if !text.trim().is_empty() => return Some(text.clone()),
        Value::Text(_) => node.complaint(format!("{what} is empty"), "leave the key out, or give it a value"),
        Value::Null => node.complaint(format!("{what} is nothing"), "a bare `~` is YAML's nothing: write a value"),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
            node.complaint(format!("{what} must be a text, not {}", node.kind()), "put it in quotes")
        }
        Value::List(_) | Value::Map(_) => {
            node.complaint(format!("{what} must be a text, not {}", node.kind()), "write one value")
        }
    };
    complaints.push(complaint);
    None
}

/// Reads a list; where `one` allows it, a single value stands for a list of one.
pub(super) fn list(node: Node, what: &str, one: bool, complaints: &mut Vec<Complaint>) -> Vec<Node> {
    match node.value {
        Value::List(nodes) => nodes,
        Value::Text(_) if one => vec![node],
        _ => {
            let message = format!("{what} must be a list, not {}", node.kind());
            complaints.push(node.complaint(message, "write it as `[one, two]` or as `- one` lines"));
            Vec::new()
        }
    }
}
