//! What a request asks for: the few values that bear on its price.

use super::scan::{Path, Scanner};

/// Longest name that is taken; vendors' are far shorter.
const NAME_BYTES_MAX: usize = 256;

/// What a model call's body asks for, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The model.
    pub model: Option<String>,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whether a chat stream is to end with its usage; without, such a stream cannot be metered.
    pub include_usage: bool,
    /// The class of service.
    pub service_tier: Option<String>,
    /// Most tokens of one answer.
    pub max_output: Option<u64>,
    /// How many answers, where it asks for several.
    pub answers: Option<u64>,
    /// Whether Anthropic's fast mode is asked for.
    pub fast: bool,
    /// Whether inference is to be bound to the United States.
    pub us_only: bool,
    /// Whether OpenAI is to make the answer after it has said that it will; its usage is told to who asks for it later.
    pub background: bool,
    /// Whether nothing is to be answered, so that a conversation's beginning is ready when it comes.
    pub warms_up: bool,
    /// What came before and is kept by OpenAI, by the answer that it goes on from.
    pub previous: Option<String>,
    /// Whether OpenAI keeps the whole conversation.
    pub conversation: bool,
}

#[derive(Clone, Copy, Debug)]
enum Slot {
    Model,
    Stream,
    IncludeUsage,
    ServiceTier,
    MaxOutput,
    Answers,
    Speed,
    Geography,
    Background,
    Generate,
    Previous,
    Conversation,
}

const WANTED: &[(Path, Slot)] = &[
    (&["model"], Slot::Model),
    (&["stream"], Slot::Stream),
    (&["stream_options", "include_usage"], Slot::IncludeUsage),
    (&["service_tier"], Slot::ServiceTier),
    (&["max_tokens"], Slot::MaxOutput),
    (&["max_output_tokens"], Slot::MaxOutput),
    (&["max_completion_tokens"], Slot::MaxOutput),
    (&["generationConfig", "maxOutputTokens"], Slot::MaxOutput),
    (&["inferenceConfig", "maxTokens"], Slot::MaxOutput),
    (&["n"], Slot::Answers),
    (&["generationConfig", "candidateCount"], Slot::Answers),
    (&["speed"], Slot::Speed),
    (&["inference_geo"], Slot::Geography),
    (&["background"], Slot::Background),
    (&["generate"], Slot::Generate),
    (&["previous_response_id"], Slot::Previous),
    (&["conversation"], Slot::Conversation),
];

/// Reads a request's body as it passes; one that is not JSON asks for nothing.
pub(super) struct Request {
    scanner: Scanner<Slot>,
    asked: Asked,
}

impl Request {
    pub(super) fn new() -> Self {
        Self { scanner: Scanner::new(WANTED), asked: Asked::default() }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let asked = &mut self.asked;
        self.scanner.feed(bytes, &mut |slot, raw| match slot {
            Slot::Model => asked.model = name(raw),
            Slot::Stream => asked.stream = raw == b"true",
            Slot::IncludeUsage => asked.include_usage = raw == b"true",
            Slot::ServiceTier => asked.service_tier = name(raw),
            // Of two limits, which a vendor refuses or reads in its own order, the larger is what it may come to.
            Slot::MaxOutput => asked.max_output = asked.max_output.max(number(raw)),
            Slot::Answers => asked.answers = asked.answers.max(number(raw)),
            Slot::Speed => asked.fast = name(raw).as_deref() == Some("fast"),
            Slot::Geography => asked.us_only = name(raw).as_deref() == Some("us"),
            Slot::Background => asked.background = raw == b"true",
            Slot::Generate => asked.warms_up = raw == b"false",
            Slot::Previous => asked.previous = name(raw),
            Slot::Conversation => asked.conversation = raw != b"null",
        });
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }
}

fn number(raw: &[u8]) -> Option<u64> {
    serde_json::from_slice(raw).ok()
}

fn name(raw: &[u8]) -> Option<String> {
    let text: Option<String> = serde_json::from_slice(raw).ok()?;
    text.filter(|text| text.len() <= NAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_top_level_only() {
        let body = r#"{"messages":[{"content":"{\"model\":\"x\"}","model":"y"}],"stream":true,"model":"claude-opus-5",
            "stream_options":{"include_usage":true},"metadata":{"service_tier":"flex"}}"#;
        let mut request = Request::new();
        request.feed(body.as_bytes());
        let model = Some("claude-opus-5".to_owned());
        let expected = Asked { model, stream: true, include_usage: true, ..Asked::default() };
        assert_eq!(request.asked(), &expected);
    }

    #[test]
    fn a_body_that_is_not_json_asks_for_nothing() {
        let mut request = Request::new();
        request.feed(b"\x28\xb5\x2f\xfd\"model\":\"x\"");
        assert_eq!(request.asked(), &Asked::default());
    }
}
