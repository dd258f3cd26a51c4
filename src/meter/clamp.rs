//! A request's limit of output made lower, where its dialect has one and nothing else of it changes.

use super::Dialect;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;

type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

/// The same body with at most so many tokens of output allowed; none where it cannot be rewritten surely.
#[must_use]
pub fn clamp(dialect: Dialect, body: &[u8], tokens: u64) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(body).ok()?;
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    match dialect {
        Dialect::AnthropicMessages => put(text, text, &members, "max_tokens", tokens),
        Dialect::OpenAiResponses => put(text, text, &members, "max_output_tokens", tokens),
        Dialect::OpenAiChat if members.contains_key("max_tokens") => put(text, text, &members, "max_tokens", tokens),
        Dialect::OpenAiChat => put(text, text, &members, "max_completion_tokens", tokens),
        // Amazon takes every maker's own format there.
        Dialect::BedrockConverse => None,
        Dialect::GoogleGenerate => match members.get("generationConfig") {
            None => Some(inserted(text, text, &format!("\"generationConfig\":{{\"maxOutputTokens\":{tokens}}},"))?),
            Some(config) => {
                let inner: Members<'_> = serde_json::from_str(config.get()).ok()?;
                put(text, config.get(), &inner, "maxOutputTokens", tokens)
            }
        },
    }
}

/// Sets a member of an object that is a part of the text.
fn put(text: &str, object: &str, members: &Members<'_>, key: &str, tokens: u64) -> Option<Vec<u8>> {
    // Two of one name are read in different ways.
    if object.matches(&format!("\"{key}\"")).count() > usize::from(members.contains_key(key)) {
        return None;
    }
    match members.get(key) {
        Some(value) => Some(replaced(text, place(text, value.get())?, &tokens.to_string())),
        None => inserted(text, object, &format!("\"{key}\":{tokens},")),
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
    fn what_could_be_read_in_two_ways_is_left_alone() {
        for body in [r#"{"max_tokens":1,"max_tokens":9000}"#, "[]", "nonsense", r#"{"x":"\"max_tokens\""}"#] {
            let rewritten = clamp(Dialect::AnthropicMessages, body.as_bytes(), 7);
            let is_whole = rewritten.is_none_or(|body| serde_json::from_slice::<serde_json::Value>(&body).is_ok());
            assert!(is_whole, "{body}");
        }
        assert_eq!(clamp(Dialect::AnthropicMessages, br#"{"max_tokens":1,"max_tokens":9000}"#, 7), None);
    }
}
