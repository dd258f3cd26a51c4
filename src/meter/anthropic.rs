//! Anthropic's Messages: what a message and the events of one report as usage.
//!
//! `message_start` gives the prompt, `message_delta` the totals; a later event overrides what it names and leaves the
//! rest. The prompt's parts are disjoint as reported; the output includes thinking.

use super::document::Document;
use super::reading::{Certainty, Reading, Share, Terms, Tier};
use crate::model::Usage;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most inferences within one call that are followed one by one.
const ITERATIONS_MAX: usize = 256;

/// Everything the call has reported so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    model: Option<String>,
    started: bool,
    seen: Reported,
    has_usage: bool,
    has_totals: bool,
    stopped: bool,
    failed: bool,
    /// Whether a total became less, which none does: the larger one counts, and nothing is exact.
    suspect: bool,
}

/// The usage object; what is absent or null is none.
#[derive(Debug, Default, Deserialize)]
struct Reported {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    output_tokens_details: Option<OutputDetails>,
    server_tool_use: Option<BTreeMap<String, Option<u64>>>,
    service_tier: Option<String>,
    speed: Option<String>,
    inference_geo: Option<String>,
    iterations: Option<Vec<Iteration>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct CacheCreation {
    ephemeral_5m_input_tokens: Option<u64>,
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

/// One inference of several within a call.
#[derive(Debug, Default, Deserialize)]
struct Iteration {
    #[serde(rename = "type")]
    kind: Option<String>,
    model: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
}

impl Tally {
    /// Takes a document in; an error when its usage is not of the form it must have.
    pub(super) fn absorb(&mut self, document: Document) -> Result<(), ()> {
        let kind = document.kind.as_deref().unwrap_or_default();
        match kind {
            "error" => self.failed = true,
            "message" => (self.started, self.stopped) = (true, true),
            "message_start" => self.started = true,
            "message_stop" => self.stopped = true,
            "message_delta" => self.stopped |= document.stop_reason.is_some(),
            _ => return Ok(()),
        }
        self.model = document.model.or(self.model.take());
        if let Some(raw) = document.usage {
            let mut reported: Reported = serde_json::from_slice(&raw).map_err(|_| ())?;
            if reported.iterations.as_ref().is_some_and(|all| all.len() > ITERATIONS_MAX) {
                return Err(());
            }
            if self.has_totals && reported.output_tokens < self.seen.output_tokens {
                self.suspect |= reported.output_tokens.take().is_some();
            }
            self.has_usage = true;
            // The output of `message_start` is a placeholder.
            self.has_totals |= kind != "message_start" && reported.output_tokens.is_some();
            self.seen.override_with(reported);
        }
        Ok(())
    }

    /// Whether the vendor answered with nothing but an error.
    pub(super) fn is_error(&self) -> bool {
        self.failed && !self.has_usage
    }

    /// The model that the answer names, if it did.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The reading so far; none when nothing was reported.
    pub(super) fn reading(&self) -> Option<Reading> {
        if !self.has_usage {
            return None;
        }
        let (usage, shares) = self.seen.usage();
        let terms = self.seen.terms();
        let last = self.has_totals && self.stopped && self.started;
        let certainty = match terms {
            Some(_) if last && !self.suspect && !self.seen.has_unpriced_tools() => Certainty::Final,
            // The prompt's numbers never came: what is known is not even the beginning.
            _ if !self.started => Certainty::Unreadable,
            _ => Certainty::Partial,
        };
        let model = self.model.clone().unwrap_or_default();
        Some(Reading { model, usage, certainty, terms: terms.unwrap_or_default(), shares, charged: None })
    }
}

impl Reported {
    /// What is present overrides, what is absent stays.
    fn override_with(&mut self, later: Self) {
        let Self { input_tokens, output_tokens, cache_read_input_tokens, cache_creation_input_tokens, .. } = later;
        replace(&mut self.output_tokens, output_tokens);
        // The prompt was read by then: a zero in its place says that a gateway left it out.
        let some = |tokens: Option<u64>| tokens.filter(|tokens| *tokens > 0);
        replace(&mut self.input_tokens, some(input_tokens));
        replace(&mut self.cache_read_input_tokens, some(cache_read_input_tokens));
        replace(&mut self.cache_creation_input_tokens, some(cache_creation_input_tokens));
        replace(&mut self.cache_creation, later.cache_creation);
        replace(&mut self.output_tokens_details, later.output_tokens_details);
        replace(&mut self.server_tool_use, later.server_tool_use);
        replace(&mut self.service_tier, later.service_tier);
        replace(&mut self.speed, later.speed);
        replace(&mut self.inference_geo, later.inference_geo);
        replace(&mut self.iterations, later.iterations);
    }

    /// The whole usage, and the shares of it that other inferences made.
    fn usage(&self) -> (Usage, Vec<Share>) {
        let (cache_write, cache_write_long) = writes(self.cache_creation_input_tokens, self.cache_creation);
        let own = Usage {
            input: self.input_tokens.unwrap_or(0),
            cache_read: self.cache_read_input_tokens.unwrap_or(0),
            cache_write,
            cache_write_long,
            output: self.output_tokens.unwrap_or(0),
            reasoning: self.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens).unwrap_or(0),
            web_searches: self.tool_uses("web_search_requests"),
        };
        // A compaction, an advisor and a fallback are not in the sums above.
        let extra = |one: &&Iteration| {
            matches!(one.kind.as_deref(), Some("compaction" | "advisor_message" | "fallback_message"))
        };
        let others: Vec<&Iteration> = self.iterations.iter().flatten().filter(extra).collect();
        let all = others.iter().fold(own, |sum, one| sum.plus(one.usage()));
        let share = |one: &&Iteration| Some(Share { model: one.model.clone()?, usage: one.usage() });
        (all, others.iter().filter_map(share).collect())
    }

    fn tool_uses(&self, name: &str) -> u64 {
        self.server_tool_use.as_ref().and_then(|uses| uses.get(name).copied().flatten()).unwrap_or(0)
    }

    /// Whether the vendor ran a tool that is charged for in a way that no table here expresses.
    fn has_unpriced_tools(&self) -> bool {
        let priced = ["web_search_requests", "web_fetch_requests"];
        let mut uses = self.server_tool_use.iter().flatten();
        uses.any(|(name, count)| !priced.contains(&name.as_str()) && count.is_some_and(|count| count > 0))
    }

    /// The terms; none when one is not known here, so that its price is not known either.
    fn terms(&self) -> Option<Terms> {
        let tier = match self.service_tier.as_deref() {
            None | Some("standard") => Tier::Standard,
            Some("priority") => Tier::Priority,
            Some("batch") => Tier::Batch,
            Some(_) => return None,
        };
        let fast = match self.speed.as_deref() {
            None | Some("standard") => false,
            Some("fast") => true,
            Some(_) => return None,
        };
        let us_only = match self.inference_geo.as_deref() {
            None | Some("global" | "not_available" | "") => false,
            Some("us") => true,
            Some(_) => return None,
        };
        Some(Terms { tier, fast, us_only })
    }
}

impl Iteration {
    fn usage(&self) -> Usage {
        let (cache_write, cache_write_long) = writes(self.cache_creation_input_tokens, self.cache_creation);
        Usage {
            input: self.input_tokens.unwrap_or(0),
            cache_read: self.cache_read_input_tokens.unwrap_or(0),
            cache_write,
            cache_write_long,
            output: self.output_tokens.unwrap_or(0),
            ..Usage::default()
        }
    }
}

/// Cache writes for the short and the long time.
///
/// The total may cover more inferences than the split does; the rest goes where the split is dearest, so that it is
/// never charged too little.
fn writes(total: Option<u64>, split: Option<CacheCreation>) -> (u64, u64) {
    let split = split.unwrap_or_default();
    let short = split.ephemeral_5m_input_tokens.unwrap_or(0);
    let long = split.ephemeral_1h_input_tokens.unwrap_or(0);
    let rest = total.unwrap_or(0).saturating_sub(short.saturating_add(long));
    if long > 0 { (short, long.saturating_add(rest)) } else { (short.saturating_add(rest), long) }
}

fn replace<T>(slot: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *slot = later;
    }
}
