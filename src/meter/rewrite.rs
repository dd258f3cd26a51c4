//! A request's limit of output made lower, or its model another, where its dialect has one in the body and nothing else of it
//! changes.

use super::Dialect;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// The members of one object as they are written, two of one name included. A name that is written with escapes is no name
/// here, and so no object.
struct Members<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'a> Members<'a> {
    fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| *name == key)
    }

    /// The one member of a name, or that there is none; nothing where there are two, which are read in different ways.
    fn one(&self, key: &str) -> Option<Option<&'a RawValue>> {
        let mut values = self.0.iter().filter(|(name, _)| *name == key).map(|(_, value)| *value);
        let first = values.next();
        values.next().is_none().then_some(first)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The same body with at most so many tokens of output allowed; none where it cannot be rewritten surely.
#[must_use]
pub fn clamp(dialect: Dialect, body: &[u8], tokens: u64) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    let tokens = &tokens.to_string();
    match dialect {
        Dialect::AnthropicMessages => put(text, text, &members, "max_tokens", tokens),
        Dialect::OpenAiResponses => put(text, text, &members, "max_output_tokens", tokens),
        Dialect::OpenAiChat if members.has("max_tokens") => put(text, text, &members, "max_tokens", tokens),
        Dialect::OpenAiChat => put(text, text, &members, "max_completion_tokens", tokens),
        // Amazon takes every maker's own format there.
        Dialect::BedrockConverse => None,
        Dialect::GoogleGenerate => match members.one("generationConfig")? {
            None => Some(inserted(text, text, &format!("\"generationConfig\":{{\"maxOutputTokens\":{tokens}}},"))?),
            Some(config) => {
                let inner: Members<'_> = serde_json::from_str(config.get()).ok()?;
                put(text, config.get(), &inner, "maxOutputTokens", tokens)
            }
        },
    }
}

/// The same body for another model; none where it cannot be rewritten surely, or its dialect names the model elsewhere.
#[must_use]
pub fn with_model(dialect: Dialect, body: &[u8], model: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    match dialect {
        Dialect::AnthropicMessages | Dialect::OpenAiResponses | Dialect::OpenAiChat => {
            put(text, text, &members, "model", &serde_json::Value::from(model).to_string())
        }
        Dialect::BedrockConverse | Dialect::GoogleGenerate => None,
    }
}

/// Sets a member of an object that is a part of the text.
fn put(text: &str, object: &str, members: &Members<'_>, key: &str, written: &str) -> Option<Vec<u8>> {
    match members.one(key)? {
        Some(value) => Some(replaced(text, place(text, value.get())?, written)),
        None => inserted(text, object, &format!("\"{key}\":{written},")),
    }
}

/// Where a part of a text stands in it.
fn place(text: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    text.get(start..start + part.len()).filter(|found| *found == part)?;
    Some(start..start + part.len())
}

fn inserted(text: &str, object: &str, member: &str) -> Option<Vec<u8>> {
    let brace = place(text, object)?.start + object.find('{')?;
    // Nothing follows a comma in an object that has no members.
    let empty = object.trim_start().strip_prefix('{')?.trim_start().starts_with('}');
    let member = if empty { member.trim_end_matches(',') } else { member };
    Some(replaced(text, brace + 1..brace + 1, member))
}

fn replaced(text: &str, range: Range<usize>, with: &str) -> Vec<u8> {
    [&text[..range.start], with, &text[range.end..]].concat().into_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_alone_changes() {
        let clamped = |dialect, body: &str| {
            clamp(dialect, body.as_bytes(), 7).map(|body| String::from_utf8(body).unwrap()).unwrap_or_default()
        };
        let (anthropic, chat) = (Dialect::AnthropicMessages, Dialect::OpenAiChat);
        assert_eq!(
            clamped(anthropic, r#"{"b":1, "max_tokens" : 9000,"a":"x"}"#),
            r#"{"b":1, "max_tokens" : 7,"a":"x"}"#
        );
        assert_eq!(clamped(anthropic, "{}"), r#"{"max_tokens":7}"#);
        assert_eq!(clamped(chat, r#"{"a":1}"#), r#"{"max_completion_tokens":7,"a":1}"#);
        assert_eq!(clamped(chat, r#"{"max_tokens":9}"#), r#"{"max_tokens":7}"#);
        let google = Dialect::GoogleGenerate;
        assert_eq!(clamped(google, r#"{"a":1}"#), r#"{"generationConfig":{"maxOutputTokens":7},"a":1}"#);
        let deep = r#"{"generationConfig":{"x":1,"maxOutputTokens":99}}"#;
        assert_eq!(clamped(google, deep), r#"{"generationConfig":{"x":1,"maxOutputTokens":7}}"#);
    }

    #[test]
    fn the_model_alone_changes() {
        let changed = |dialect, body: &str| {
            with_model(dialect, body.as_bytes(), "small\"1").map(|body| String::from_utf8(body).unwrap())
        };
        let body = r#"{"a":"model", "model" : "large","tools":[{"model":{}}]}"#;
        let expected = r#"{"a":"model", "model" : "small\"1","tools":[{"model":{}}]}"#;
        assert_eq!(changed(Dialect::AnthropicMessages, body).as_deref(), Some(expected));
        for (dialect, body) in [
            (Dialect::OpenAiChat, r#"{"model":"a","model":"b"}"#),
            (Dialect::OpenAiChat, r#"{"model":"a","mod\u0065l":"b"}"#),
            (Dialect::OpenAiResponses, "nonsense"),
            (Dialect::GoogleGenerate, r#"{"model":"a"}"#),
        ] {
            assert_eq!(changed(dialect, body), None, "{body}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_left_alone() {
        for body in [r#"{"max_tokens":1,"max_tokens":9000}"#, "[]", "nonsense", r#"{"x":"\"max_tokens\""}"#] {
            let rewritten = clamp(Dialect::AnthropicMessages, body.as_bytes(), 7);
            let is_whole = rewritten.is_none_or(|body| serde_json::from_slice::<serde_json::Value>(&body).is_ok());
            assert!(is_whole, "{body}");
        }
        assert_eq!(clamp(Dialect::AnthropicMessages, br#"{"max_tokens":1,"max_tokens":9000}"#, 7), None);
    }
}
