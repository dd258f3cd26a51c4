//! Events that nothing is wanted of but that they pass: pieces of text, which are nearly all of a stream. They are known by how
//! their data begins, as the vendors write it, and are not read any further.

use super::Dialect;
use memchr::memchr2;

/// Longest beginning that is compared, in bytes.
const BEGIN_BYTES_MAX: usize = 64;

const ANTHROPIC: &[&[u8]] = &[br#"{"type":"content_block_delta","#, br#"{"type":"ping""#];
const RESPONSES: &[&[u8]] = &[
    br#"{"type":"response.output_text.delta","#,
    br#"{"type":"response.reasoning_summary_text.delta","#,
    br#"{"type":"response.reasoning_text.delta","#,
    br#"{"type":"response.function_call_arguments.delta","#,
    br#"{"type":"response.custom_tool_call_input.delta","#,
    br#"{"type":"response.refusal.delta","#,
];

/// How an event of those begins as a whole, as the vendors write it, with its name: the two that most of a stream is made of.
const ANTHROPIC_EVENTS: &[&[u8]] = &[b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\","];
const RESPONSES_EVENTS: &[&[u8]] = &[
    b"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",",
    b"event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",",
];

/// Decides about one event after the other.
#[derive(Debug)]
pub(super) struct Skim {
    idle: &'static [&'static [u8]],
    events: &'static [&'static [u8]],
    /// How the event begins, while that does not tell yet.
    begun: Vec<u8>,
    decided: Option<Verdict>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Idle,
    Wanted,
}

impl Skim {
    /// For a stream of this dialect.
    pub(super) fn new(dialect: Dialect) -> Self {
        let (idle, events): (&[_], &[_]) = match dialect {
            Dialect::AnthropicMessages => (ANTHROPIC, ANTHROPIC_EVENTS),
            Dialect::OpenAiResponses => (RESPONSES, RESPONSES_EVENTS),
            Dialect::OpenAiChat | Dialect::GoogleGenerate | Dialect::BedrockConverse => (&[], &[]),
        };
        Self { idle, events, begun: Vec::new(), decided: None }
    }

    /// What follows the whole events at the beginning of these bytes of which nothing is wanted: where a line begins, they are
    /// passed over at one look each.
    pub(super) fn after_idle<'a>(&self, mut bytes: &'a [u8]) -> &'a [u8] {
        if self.decided.is_some() || !self.begun.is_empty() {
            return bytes;
        }
        while let Some(data) = self.events.iter().find_map(|begin| bytes.strip_prefix(*begin)) {
            // A line's end in other words, or a line more, is for whoever reads line by line.
            let end = memchr2(b'\n', b'\r', data).and_then(|end| data.get(end..));
            match end.and_then(|end| end.strip_prefix(b"\n\n")) {
                Some(rest) => bytes = rest,
                None => break,
            }
        }
        bytes
    }

    /// Takes the next bytes of the event's data, and hands over those that are to be read.
    pub(super) fn data(&mut self, bytes: &[u8], read: &mut impl FnMut(&[u8])) {
        match self.decided {
            Some(Verdict::Idle) => {}
            Some(Verdict::Wanted) => read(bytes),
            // As nearly always: it begins here.
            None if self.begun.is_empty() && bytes.len() >= BEGIN_BYTES_MAX => {
                let idle = self.idle.iter().any(|begin| bytes.starts_with(begin));
                self.decided = Some(if idle { Verdict::Idle } else { Verdict::Wanted });
                if !idle {
                    read(bytes);
                }
            }
            None => {
                self.begun.extend_from_slice(bytes);
                if self.idle.iter().any(|begin| self.begun.starts_with(begin)) {
                    self.decided = Some(Verdict::Idle);
                    self.begun.clear();
                } else if !self.idle.iter().any(|begin| begin.starts_with(&self.begun)) {
                    self.give_up(read);
                }
            }
        }
    }

    /// A line of the data ended. Whether that is to be read.
    pub(super) fn line_ends(&mut self, read: &mut impl FnMut(&[u8])) {
        self.give_up(read);
        if self.decided == Some(Verdict::Wanted) {
            read(b"\n");
        }
    }

    /// The event ended. Whether there is anything in it to be read.
    pub(super) fn event_ends(&mut self, read: &mut impl FnMut(&[u8])) -> bool {
        self.give_up(read);
        self.decided.take() != Some(Verdict::Idle)
    }

    /// It began as none of those does.
    fn give_up(&mut self, read: &mut impl FnMut(&[u8])) {
        if self.decided.is_none() && !self.begun.is_empty() {
            self.decided = Some(Verdict::Wanted);
            read(&std::mem::take(&mut self.begun));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of events that come in such pieces.
    fn read(dialect: Dialect, events: &[&str], size: usize) -> Vec<String> {
        let mut skim = Skim::new(dialect);
        let mut all = Vec::new();
        for event in events {
            let mut text = Vec::new();
            for piece in event.as_bytes().chunks(size) {
                skim.data(piece, &mut |bytes| text.extend_from_slice(bytes));
            }
            skim.line_ends(&mut |bytes| text.extend_from_slice(bytes));
            if skim.event_ends(&mut |bytes| text.extend_from_slice(bytes)) {
                all.push(String::from_utf8_lossy(&text).trim_end().to_owned());
            }
        }
        all
    }

    #[test]
    fn pieces_of_text_are_not_read_and_all_else_is_however_it_comes() {
        let words = "word ".repeat(30);
        let delta = format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"text":"{words}"}}}}"#);
        let long = format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"{words}"}},"usage":{{}}}}"#);
        let events = [&delta, r#"{"type":"content_block"#, "[DONE]", &long, "", r#"{"type":"ping"}"#, &delta];
        for size in [1, 3, 29, 30, 31, 64, 1000] {
            let expected = [r#"{"type":"content_block"#, "[DONE]", &long, ""];
            assert_eq!(read(Dialect::AnthropicMessages, &events, size), expected, "{size}");
            assert_eq!(read(Dialect::OpenAiChat, &events, size).len(), events.len(), "{size}");
        }
        let delta = format!(r#"{{"type":"response.output_text.delta","delta":"{words}"}}"#);
        let last = r#"{"type":"response.completed","response":{}}"#;
        assert_eq!(read(Dialect::OpenAiResponses, &[&delta, last, &delta], 7), [last]);
    }
}
