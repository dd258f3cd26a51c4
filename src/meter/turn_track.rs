//! Where a turn begins and ends: from a person's prompt to the end of the model's turn, as both are seen on the wire.
//!
//! A call belongs to the turn that is open. One is open while a call of it is under way, and while an answer of it asked for
//! tools whose results no call has brought yet; a call that ends with a prompt begins another once none is. What a harness
//! asks beside the conversation, such as for a title, and the sub-agents that a tool runs, so count in the turn that they
//! happen in, though each begins with a prompt of its own. Whatever cannot be told leaves the turn open: a budget then
//! counts longer, never shorter.

use super::Dialect;
use crate::model::{RequestNumber, Timestamp};
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;

/// How long a turn whose tools never answer is open after its last call, in microseconds: whoever was to run them may be gone.
const TOOLS_MAX: i64 = 3_600_000_000;

/// What a call's request ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A person's words, or what looks like them.
    Prompt,
    /// What tools came to, whatever stands beside it.
    Results,
    /// Neither, or it cannot be told.
    Neither,
}

/// The turns of one session.
#[derive(Debug, Default)]
pub struct TurnTrack {
    /// The first call of the turn that is open, or was last.
    first: Option<RequestNumber>,
    under_way: u32,
    /// Answers that asked for tools and were not followed up yet.
    awaited: u32,
    /// When the last call began or ended.
    last: Timestamp,
}

/// A call's part of a turn, to be handed back when it is over.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The first call of the turn.
    pub first: RequestNumber,
    /// Whether it follows an answer up that asked for tools.
    follows: bool,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// It asks for tools to be run.
    WithTools,
    /// It asks for nothing.
    Finally,
    /// Not at all, or with an error: what it brought will come again.
    Not,
}

impl TurnTrack {
    /// A call begins.
    pub fn begin(&mut self, request: RequestNumber, said: Said, now: Timestamp) -> Part {
        let given_up = now.0.saturating_sub(self.last.0) > TOOLS_MAX;
        if self.under_way == 0 && (self.awaited == 0 || given_up) && said == Said::Prompt {
            (self.first, self.awaited) = (Some(request), 0);
        }
        let first = *self.first.get_or_insert(request);
        let follows = said == Said::Results && self.awaited > 0;
        self.awaited -= u32::from(follows);
        self.under_way = self.under_way.saturating_add(1);
        self.last = now;
        Part { first, follows }
    }

    /// A call is over.
    pub fn end(&mut self, part: &Part, answered: Answered, now: Timestamp) {
        self.under_way = self.under_way.saturating_sub(1);
        let awaits = answered == Answered::WithTools || (answered == Answered::Not && part.follows);
        self.awaited = self.awaited.saturating_add(u32::from(awaits));
        self.last = now;
    }
}

/// What a request ends with: what stands in it after the last word of the model's.
#[must_use]
pub fn said(dialect: Dialect, body: &[u8]) -> Said {
    let read = |list: Option<List>| list.map_or(Said::Neither, |list| list.said);
    match dialect {
        Dialect::AnthropicMessages | Dialect::OpenAiChat | Dialect::BedrockConverse => {
            let body = serde_json::from_slice::<Messages>(body).ok();
            read(body.and_then(|body| body.messages))
        }
        Dialect::OpenAiResponses => read(serde_json::from_slice::<Input>(body).ok().and_then(|body| body.input)),
        Dialect::GoogleGenerate => read(serde_json::from_slice::<Contents>(body).ok().and_then(|body| body.contents)),
    }
}

#[derive(serde::Deserialize)]
struct Messages {
    messages: Option<List>,
}

#[derive(serde::Deserialize)]
struct Input {
    input: Option<List>,
}

#[derive(serde::Deserialize)]
struct Contents {
    contents: Option<List>,
}

/// A conversation, of which only the end is kept.
struct List {
    said: Said,
}

/// One of its items, in any vendor's words.
#[derive(serde::Deserialize)]
struct Item {
    role: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    content: Option<Content>,
    parts: Option<Vec<Piece>>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Content {
    Pieces(Vec<Piece>),
    Other(IgnoredAny),
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Piece {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "toolResult")]
    converse: Option<IgnoredAny>,
    #[serde(rename = "functionResponse")]
    google: Option<IgnoredAny>,
}

impl Piece {
    fn is_result(&self) -> bool {
        let named = self.kind.as_deref().is_some_and(|kind| kind.ends_with("tool_result"));
        named || self.converse.is_some() || self.google.is_some()
    }
}

impl Item {
    /// What the list ends with, if it ends with this.
    fn after(self, before: Said) -> Said {
        let Self { role, kind, content, parts } = self;
        let pieces = match content {
            Some(Content::Pieces(pieces)) => pieces,
            Some(Content::Other(_)) | None => parts.unwrap_or_default(),
        };
        let result = role.as_deref() == Some("tool")
            || kind.as_deref().is_some_and(|kind| kind.ends_with("_output") || kind.ends_with("_approval_response"))
            || pieces.iter().any(Piece::is_result);
        let message = kind.as_deref().is_none_or(|kind| kind == "message");
        match role.as_deref() {
            _ if result => Said::Results,
            Some("assistant" | "model") => Said::Neither,
            // Google's clients may leave the role out of a lone prompt.
            Some("user") | None if message && before == Said::Neither => Said::Prompt,
            Some(_) => before,
            None if message => before,
            // What else has no role is the model's, such as its reasoning and its calls.
            None => Said::Neither,
        }
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct End;
        impl<'de> Visitor<'de> for End {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a conversation")
            }

            fn visit_str<E>(self, _: &str) -> Result<List, E> {
                Ok(List { said: Said::Prompt })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let mut said = Said::Neither;
                while let Some(item) = items.next_element::<Item>()? {
                    said = item.after(said);
                }
                Ok(List { said })
            }
        }
        deserializer.deserialize_any(End)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_ends_with_is_read_in_every_dialect() {
        use Dialect::{AnthropicMessages, BedrockConverse, GoogleGenerate, OpenAiChat, OpenAiResponses};
        let prompt = r#"{"role":"user","content":"hi"}"#;
        for (dialect, text, expected) in [
            (AnthropicMessages, format!(r#"{{"messages":[{prompt}]}}"#), Said::Prompt),
            (AnthropicMessages, format!(r#"{{"messages":[{prompt},{{"role":"assistant","content":"yes"}}]}}"#), Said::Neither),
            (
                AnthropicMessages,
                r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":[]},{"type":"text"}]}]}"#.to_owned(),
                Said::Results,
            ),
            (OpenAiChat, format!(r#"{{"messages":[{{"role":"system","content":"be"}},{prompt}]}}"#), Said::Prompt),
            (OpenAiChat, format!(r#"{{"messages":[{{"role":"tool","content":"x"}},{prompt}]}}"#), Said::Results),
            (OpenAiResponses, r#"{"input":"hi"}"#.to_owned(), Said::Prompt),
            (
                OpenAiResponses,
                r#"{"input":[{"type":"message","role":"developer","content":"be"},{"type":"message","role":"user","content":[]}]}"#
                    .to_owned(),
                Said::Prompt,
            ),
            (
                OpenAiResponses,
                format!(r#"{{"input":[{prompt},{{"type":"function_call"}},{{"type":"function_call_output"}}]}}"#),
                Said::Results,
            ),
            (OpenAiResponses, format!(r#"{{"input":[{prompt},{{"type":"reasoning"}}]}}"#), Said::Neither),
            (GoogleGenerate, r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#.to_owned(), Said::Prompt),
            (
                GoogleGenerate,
                r#"{"contents":[{"role":"model","parts":[]},{"role":"user","parts":[{"functionResponse":{}}]}]}"#.to_owned(),
                Said::Results,
            ),
            (
                BedrockConverse,
                r#"{"messages":[{"role":"user","content":[{"toolResult":{}}]}]}"#.to_owned(),
                Said::Results,
            ),
            (AnthropicMessages, "not JSON".to_owned(), Said::Neither),
            (AnthropicMessages, r#"{"messages":[7]}"#.to_owned(), Said::Neither),
        ] {
            assert_eq!(said(dialect, text.as_bytes()), expected, "{text}");
        }
    }

    fn call(track: &mut TurnTrack, number: u64, said: Said, answered: Answered) -> u64 {
        let part = track.begin(RequestNumber(number), said, Timestamp(0));
        track.end(&part, answered, Timestamp(0));
        part.first.0
    }

    #[test]
    fn a_turn_ends_where_the_model_asks_for_nothing_more() {
        let mut track = TurnTrack::default();
        assert_eq!(call(&mut track, 1, Said::Prompt, Answered::WithTools), 1);
        // A sub-agent that the tool runs, with a tool of its own.
        assert_eq!(call(&mut track, 2, Said::Prompt, Answered::WithTools), 1);
        assert_eq!(call(&mut track, 3, Said::Results, Answered::Finally), 1);
        // What the first tool came to is sent twice, since the first time failed.
        assert_eq!(call(&mut track, 4, Said::Results, Answered::Not), 1);
        assert_eq!(call(&mut track, 5, Said::Prompt, Answered::Finally), 1);
        assert_eq!(call(&mut track, 6, Said::Results, Answered::Finally), 1);
        assert_eq!(call(&mut track, 7, Said::Prompt, Answered::Finally), 7);
        assert_eq!(call(&mut track, 8, Said::Neither, Answered::Finally), 7);
        assert_eq!(call(&mut track, 9, Said::Prompt, Answered::Finally), 9);
    }

    #[test]
    fn what_is_under_way_keeps_a_turn_open_and_tools_that_never_answer_do_not_for_ever() {
        let mut track = TurnTrack::default();
        let part = track.begin(RequestNumber(1), Said::Prompt, Timestamp(0));
        assert_eq!(call(&mut track, 2, Said::Prompt, Answered::Finally), 1);
        track.end(&part, Answered::WithTools, Timestamp(0));
        assert_eq!(call(&mut track, 3, Said::Prompt, Answered::Finally), 1);
        let late = track.begin(RequestNumber(4), Said::Prompt, Timestamp(TOOLS_MAX + 1));
        assert_eq!(late.first, RequestNumber(4));
    }
}
