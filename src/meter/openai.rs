//! OpenAI's Responses and Chat Completions: what an answer and the events of one report as usage.
//!
//! The prompt as reported includes cached and cache-written tokens, which are taken out of it here; the output includes
//! reasoning. Numbers come once, at the end.

use super::document::Document;
use super::reading::{Certainty, Reading, Terms, Tier};
use super::{Dialect, Vendor};
use crate::model::{NanoUsd, Usage};
use serde::Deserialize;

/// Everything the call has reported so far.
#[derive(Debug)]
pub(super) struct Tally {
    dialect: Dialect,
    vendor: Vendor,
    id: Option<String>,
    model: Option<String>,
    tier: Option<String>,
    /// Whether the answer was only promised by then.
    promised: bool,
    /// Whether it was made in the background, where it says so.
    background: Option<bool>,
    usage: Option<Usage>,
    /// What the call cost, where the vendor says so.
    charged: Option<NanoUsd>,
    ended: bool,
    failed: bool,
    /// Counted as output items end.
    items_seen: u64,
    /// Counted in the final answer.
    items_listed: u64,
    unpriced: bool,
}

/// The usage object of both dialects, which differ in names only.
#[derive(Debug, Deserialize)]
struct Reported {
    #[serde(alias = "prompt_tokens")]
    input_tokens: u64,
    #[serde(alias = "completion_tokens")]
    output_tokens: u64,
    #[serde(alias = "prompt_tokens_details")]
    input_tokens_details: Option<InputDetails>,
    #[serde(alias = "completion_tokens_details")]
    output_tokens_details: Option<OutputDetails>,
    cache_write_tokens_details: Option<WriteDetails>,
    /// What OpenRouter charged, in dollars.
    cost: Option<f64>,
}

#[derive(Debug, Default, Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_write_tokens_details: Option<WriteDetails>,
}

#[derive(Debug, Default, Deserialize)]
struct WriteDetails {
    ttl_30m_tokens: Option<u64>,
    ttl_12h_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct OutputDetails {
    reasoning_tokens: Option<u64>,
}

impl Tally {
    pub(super) fn new(dialect: Dialect, vendor: Vendor) -> Self {
        Self {
            dialect,
            vendor,
            id: None,
            model: None,
            tier: None,
            promised: false,
            background: None,
            usage: None,
            charged: None,
            ended: false,
            failed: false,
            items_seen: 0,
            items_listed: 0,
            unpriced: false,
        }
    }

    /// Takes a document in; an error when its usage is not of the form it must have.
    pub(super) fn absorb(&mut self, document: Document) -> Result<(), ()> {
        let streamed = document.kind.is_some();
        let last = match document.kind.as_deref() {
            Some("response.completed" | "response.incomplete" | "response.failed" | "response.cancelled") => true,
            Some(_) => false,
            // A whole answer of Responses; chat has no kinds, and its stream ends by its own mark.
            None => self.dialect == Dialect::OpenAiResponses,
        };
        let failure = matches!(document.kind.as_deref(), Some("error" | "response.failed"));
        self.failed |= failure || document.error || document.status.as_deref() == Some("failed");
        self.promised = matches!(document.status.as_deref(), Some("queued" | "in_progress"));
        self.background = document.background.or(self.background);
        self.id = document.id.or(self.id.take());
        self.model = document.model.or(self.model.take());
        self.tier = document.tier.or(self.tier.take());
        self.unpriced |= document.unpriced;
        if last {
            self.ended = true;
            self.items_listed = document.web_searches;
        } else if streamed && document.kind.as_deref() == Some("response.output_item.done") {
            self.items_seen = self.items_seen.saturating_add(document.web_searches);
        }
        if let Some(raw) = document.usage {
            let reported: Reported = serde_json::from_slice(&raw).map_err(|_| ())?;
            self.charged = reported.cost.and_then(dollars).filter(|_| self.vendor == Vendor::OpenRouter);
            let mut usage = reported.usage();
            // As the table of a vendor's own says, so that both sum up alike: this one reports reasoning beside the answer.
            if self.vendor == Vendor::Xai && self.dialect == Dialect::OpenAiChat {
                usage.output = usage.output.saturating_add(usage.reasoning);
            }
            self.usage = Some(usage);
        }
        Ok(())
    }

    /// Notes that a chat is over, by its own mark or by the end of its body: none of its chunks says that it is last.
    pub(super) fn end_of_body(&mut self) {
        self.ended |= self.dialect == Dialect::OpenAiChat;
    }

    /// Whether nothing more is to come.
    pub(super) fn is_over(&self) -> bool {
        self.ended || self.failed
    }

    /// Whether the answer is still to be made.
    pub(super) fn is_promised(&self) -> bool {
        self.promised
    }

    /// Whether it was made in the background, where it says so.
    pub(super) fn background(&self) -> Option<bool> {
        self.background
    }

    /// Whether the vendor answered with nothing but an error.
    pub(super) fn is_error(&self) -> bool {
        self.failed && self.usage.is_none()
    }

    /// What the vendor calls the answer.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The model that the answer names, if it did.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The reading so far; none when nothing was reported. `asked_tier` is the tier of the request, which counts where
    /// the answer names none, unless it is a cheaper one.
    pub(super) fn reading(&self, asked_tier: Option<&str>) -> Option<Reading> {
        let web_searches = self.items_seen.max(self.items_listed);
        let usage = Usage { web_searches, ..self.usage? };
        let answered = self.tier.as_deref().map(tier);
        let asked = || asked_tier.map(tier).filter(|tier| !matches!(tier, Some(Tier::Flex | Tier::Batch)));
        let tier = answered.or_else(asked).unwrap_or(Some(Tier::Standard));
        let known = self.ended && !self.unpriced && tier.is_some();
        let certainty = if known { Certainty::Final } else { Certainty::Partial };
        let terms = Terms { tier: tier.unwrap_or_default(), ..Terms::default() };
        Some(Reading {
            model: self.model.clone().unwrap_or_default(),
            usage,
            certainty,
            terms,
            shares: Vec::new(),
            charged: self.charged,
        })
    }
}

/// An amount that was written as a number of dollars; none where it is none.
fn dollars(amount: f64) -> Option<NanoUsd> {
    format!("{amount:.9}").parse().ok()
}

/// The tier of that name; none when its price is not known here.
pub(super) fn tier(name: &str) -> Option<Tier> {
    match name {
        "auto" | "default" | "standard" => Some(Tier::Standard),
        "priority" | "fast" => Some(Tier::Priority),
        "flex" => Some(Tier::Flex),
        "batch" => Some(Tier::Batch),
        "ultrafast" => Some(Tier::Ultrafast),
        _ => None,
    }
}

impl Reported {
    fn usage(self) -> Usage {
        let details = self.input_tokens_details.unwrap_or_default();
        let split = details.cache_write_tokens_details.or(self.cache_write_tokens_details).unwrap_or_default();
        let (short, long) = (split.ttl_30m_tokens.unwrap_or(0), split.ttl_12h_tokens.unwrap_or(0));
        let written = details.cache_write_tokens.unwrap_or(0).max(short.saturating_add(long));
        let cache_read = details.cached_tokens.unwrap_or(0);
        // Parts larger than the whole contradict it; charging the parts is then the dearer reading.
        let input = self.input_tokens.saturating_sub(cache_read).saturating_sub(written);
        Usage {
            input,
            cache_read,
            cache_write: written.saturating_sub(long),
            cache_write_long: long,
            output: self.output_tokens,
            reasoning: self.output_tokens_details.and_then(|details| details.reasoning_tokens).unwrap_or(0),
            web_searches: 0,
        }
    }
}
