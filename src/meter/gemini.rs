//! Google's Gemini API, `generateContent` and `streamGenerateContent`: what an answer and its chunks report as usage.
//!
//! Every chunk reports the totals so far, so the last report counts, and a chunk without one changes nothing. The prompt
//! as reported includes cached tokens, which are taken out of it here; thoughts and what tools added to the prompt come
//! on top of what is reported as candidates and prompt.

use super::document::Document;
use super::reading::{Certainty, Reading, Terms};
use crate::model::Usage;
use serde::Deserialize;

/// Everything the call has reported so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    model: Option<String>,
    usage: Option<Usage>,
    ended: bool,
    failed: bool,
    unpriced: bool,
}

/// The `usageMetadata` object; what is absent is none.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reported {
    #[serde(default)]
    prompt_token_count: u64,
    #[serde(default)]
    cached_content_token_count: u64,
    #[serde(default)]
    candidates_token_count: u64,
    #[serde(default)]
    thoughts_token_count: u64,
    #[serde(default)]
    tool_use_prompt_token_count: u64,
    #[serde(default)]
    prompt_tokens_details: Vec<Detail>,
    #[serde(default)]
    candidates_tokens_details: Vec<Detail>,
}

/// The tokens of one kind of content.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    modality: String,
    #[serde(default)]
    token_count: u64,
}

impl Tally {
    /// Takes a document in; an error when its usage is not of the form it must have.
    pub(super) fn absorb(&mut self, document: Document) -> Result<(), ()> {
        self.model = document.model.or(self.model.take());
        self.ended |= document.stop_reason.is_some();
        self.failed |= document.error;
        self.unpriced |= document.unpriced;
        if let Some(raw) = document.usage {
            let reported: Reported = serde_json::from_slice(&raw).map_err(|_| ())?;
            self.unpriced |= reported.has_media_of_its_own_price();
            self.usage = Some(reported.usage());
        }
        Ok(())
    }

    /// Whether the vendor answered with nothing but an error.
    pub(super) fn is_error(&self) -> bool {
        self.failed && self.usage.is_none()
    }

    /// The model that the answer names, if it did.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The reading so far; none when nothing was reported.
    pub(super) fn reading(&self) -> Option<Reading> {
        let known = self.ended && !self.failed && !self.unpriced;
        let certainty = if known { Certainty::Final } else { Certainty::Partial };
        let (model, terms) = (self.model.clone().unwrap_or_default(), Terms::default());
        Some(Reading { model, usage: self.usage?, certainty, terms, shares: Vec::new(), charged: None })
    }
}

impl Reported {
    fn usage(&self) -> Usage {
        let prompt = self.prompt_token_count.saturating_sub(self.cached_content_token_count);
        Usage {
            input: prompt.saturating_add(self.tool_use_prompt_token_count),
            cache_read: self.cached_content_token_count,
            output: self.candidates_token_count.saturating_add(self.thoughts_token_count),
            reasoning: self.thoughts_token_count,
            ..Usage::default()
        }
    }

    /// Whether it holds sound heard, or pictures and sound made, which cost more than the table knows.
    fn has_media_of_its_own_price(&self) -> bool {
        let some = |details: &[Detail], priced: &[&str]| {
            details.iter().any(|detail| detail.token_count > 0 && !priced.contains(&detail.modality.as_str()))
        };
        some(&self.prompt_tokens_details, &["TEXT", "IMAGE", "VIDEO", "DOCUMENT"])
            || some(&self.candidates_tokens_details, &["TEXT"])
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::{Dialect, Meter};
    use super::*;
    use crate::meter::Endpoint;

    fn read(content_type: &str, body: &str, complete: bool) -> Option<Reading> {
        let whole = read_in(content_type, body, complete, usize::MAX);
        for size in [1, 7] {
            assert_eq!(read_in(content_type, body, complete, size), whole, "in pieces of {size}");
        }
        whole
    }

    fn read_in(content_type: &str, body: &str, complete: bool, size: usize) -> Option<Reading> {
        let mut meter =
            Meter::new(Endpoint { model: Some("gemini-2.5-pro".to_owned()), ..Dialect::GoogleGenerate.into() });
        meter.request(br#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#);
        meter.response_head(200, content_type, None);
        body.as_bytes().chunks(size.min(body.len())).for_each(|chunk| meter.response(chunk));
        meter.finish(complete)
    }

    const FIRST: &str = r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}],
        "usageMetadata":{"promptTokenCount":100,"totalTokenCount":100},"modelVersion":"gemini-2.5-pro-001"}"#;
    const SILENT: &str = r#"{"candidates":[{"content":{"parts":[{"text":"{\"usageMetadata\":{}}"}]}}]}"#;
    const LAST: &str = r#"{"candidates":[{"content":{"parts":[{"text":"b"}]},"finishReason":"STOP"}],"usageMetadata":
        {"promptTokenCount":100,"cachedContentTokenCount":60,"candidatesTokenCount":7,"thoughtsTokenCount":20,
        "toolUsePromptTokenCount":5,"promptTokensDetails":[{"modality":"TEXT","tokenCount":100}]},
        "modelVersion":"gemini-2.5-pro-001"}"#;

    fn expected(certainty: Certainty) -> Reading {
        let usage = Usage { input: 45, cache_read: 60, output: 27, reasoning: 20, ..Usage::default() };
        let model = "gemini-2.5-pro-001".to_owned();
        Reading { model, usage, certainty, terms: Terms::default(), shares: Vec::new(), charged: None }
    }

    /// An event of a stream, whose data must be one line.
    fn event(chunk: &str) -> String {
        format!("data: {}\r\n\r\n", chunk.replace('\n', ""))
    }

    #[test]
    fn the_last_report_counts_in_every_form_of_an_answer() {
        let stream: String = [FIRST, LAST, SILENT].map(event).concat();
        assert_eq!(read("text/event-stream", &stream, true), Some(expected(Certainty::Final)));
        let list = format!("[{FIRST}\n,\r\n{SILENT},{LAST}]");
        assert_eq!(read("application/json; charset=UTF-8", &list, true), Some(expected(Certainty::Final)));
        assert_eq!(read("application/json", LAST, true), Some(expected(Certainty::Final)));
    }

    #[test]
    fn an_answer_that_was_cut_is_known_to_be_more() {
        let cut = event(FIRST);
        let reading = read("text/event-stream", &cut, false).expect("a reading");
        assert_eq!((reading.certainty, reading.usage.input), (Certainty::Partial, 100));
        assert_eq!(read("text/event-stream", &cut, true).expect("a reading").certainty, Certainty::Partial);
        let nothing = read("text/event-stream", &event(SILENT), false).expect("a reading");
        assert_eq!((nothing.certainty, nothing.model.as_str()), (Certainty::Partial, "gemini-2.5-pro"));
    }

    #[test]
    fn what_has_another_price_is_not_called_exact() {
        let searched =
            LAST.replace("\"finishReason\"", "\"groundingMetadata\":{\"webSearchQueries\":[\"x\"]},\"finishReason\"");
        assert_eq!(read("application/json", &searched, true), Some(expected(Certainty::Partial)));
        let heard = LAST.replace("\"TEXT\"", "\"AUDIO\"");
        assert_eq!(read("application/json", &heard, true), Some(expected(Certainty::Partial)));
    }

    #[test]
    fn a_blocked_prompt_is_paid_for_and_an_error_is_not() {
        let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"},"usageMetadata":{"promptTokenCount":9}}"#;
        let reading = read("application/json", blocked, true).expect("a reading");
        assert_eq!((reading.certainty, reading.usage.input), (Certainty::Final, 9));
        assert_eq!(read("text/event-stream", &event(r#"{"error":{"code":503}}"#), true), None);
    }
}
