//! Amazon Bedrock's Converse and ConverseStream: what an answer and the last event of one report as usage.
//!
//! The prompt's parts are disjoint as reported. A stream's usage comes in its last event, `metadata`.

use super::document::Document;
use super::openai::tier;
use super::reading::{Certainty, Reading, Terms};
use crate::model::Usage;
use serde::Deserialize;

/// Everything the call has reported so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    usage: Option<Usage>,
    tier: Option<String>,
    failed: bool,
}

/// The `usage` object (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reported {
    #[serde(alias = "inputTokenCount")]
    input_tokens: u64,
    #[serde(alias = "outputTokenCount")]
    output_tokens: u64,
    #[serde(default, alias = "cacheReadInputTokenCount")]
    cache_read_input_tokens: u64,
    #[serde(default, alias = "cacheWriteInputTokenCount")]
    cache_write_input_tokens: u64,
    #[serde(default)]
    cache_details: Vec<CacheDetail>,
}

/// Tokens written to a cache for one time.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheDetail {
    ttl: String,
    input_tokens: u64,
}

impl Tally {
    /// Takes a document in; an error when its usage is not of the form it must have.
    pub(super) fn absorb(&mut self, document: Document) -> Result<(), ()> {
        self.tier = document.tier.or(self.tier.take());
        if let Some(raw) = document.usage {
            let reported: Reported = serde_json::from_slice(&raw).map_err(|_| ())?;
            self.usage = Some(reported.usage());
        }
        Ok(())
    }

    /// The stream said that something went wrong.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Whether the vendor answered with nothing but an error.
    pub(super) fn is_error(&self) -> bool {
        self.failed && self.usage.is_none()
    }

    /// The reading; none when nothing was reported.
    pub(super) fn reading(&self) -> Option<Reading> {
        let tier = self.tier.as_deref().map_or(Some(super::Tier::Standard), tier);
        let certainty = if tier.is_some() { Certainty::Final } else { Certainty::Partial };
        let terms = Terms { tier: tier.unwrap_or_default(), ..Terms::default() };
        Some(Reading { model: String::new(), usage: self.usage?, certainty, terms, shares: Vec::new(), charged: None })
    }
}

impl Reported {
    fn usage(&self) -> Usage {
        let hour = self.cache_details.iter().filter(|detail| detail.ttl == "1h");
        let long: u64 = hour.map(|detail| detail.input_tokens).fold(0, u64::saturating_add);
        let written = self.cache_write_input_tokens.max(long);
        Usage {
            input: self.input_tokens,
            cache_read: self.cache_read_input_tokens,
            cache_write: written - long,
            cache_write_long: long,
            output: self.output_tokens,
            ..Usage::default()
        }
    }
}
