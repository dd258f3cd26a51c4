//! What a call can cost at most, said before it is made.
//!
//! No token is shorter than a byte, so a prompt has at most as many tokens as its body has bytes; the answer has as many as
//! the request allows it, else as the model can make.

use super::{Asked, Certainty, Dialect, Endpoint, PriceTable, Reading, Terms, Tier, Vendor};
use crate::model::{NanoUsd, Usage};
use memchr::memmem;

/// Most tokens of an answer where neither the request nor the table says.
const OUTPUT_TOKENS_MAX: u64 = 128_000;
/// What marks a part of a prompt that is to be kept in Anthropic's cache, for which more is billed.
const CACHED: &[u8] = b"cache_control";
/// What asks for the long time.
const CACHED_LONG: &[u8] = b"\"1h\"";

/// What a call can cost, as a function of how long its answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Most tokens of the answer, all answers together.
    pub output: u64,
    /// What it costs with that many.
    pub full: NanoUsd,
    /// What it costs with none.
    pub input: NanoUsd,
    /// The model that is asked for, where nothing is known of its price.
    pub unknown: Option<String>,
}

impl Bound {
    /// The longest answer that an amount is enough for.
    #[must_use]
    pub fn output_within(&self, amount: NanoUsd) -> u64 {
        let (spare, whole) = (amount.0.saturating_sub(self.input.0), self.full.0.saturating_sub(self.input.0));
        if spare <= 0 {
            return 0;
        }
        if spare >= whole {
            return self.output;
        }
        // The price of a token is the same from the first to the last, and what is rounded is rounded down.
        let tokens = i128::from(spare) * i128::from(self.output) / i128::from(whole.max(1));
        u64::try_from(tokens).unwrap_or(0)
    }

    /// What it costs with an answer of so many tokens, rounded up.
    #[must_use]
    pub fn with_output(&self, tokens: u64) -> NanoUsd {
        let whole = u128::from(self.full.0.saturating_sub(self.input.0).unsigned_abs());
        let part = (whole * u128::from(tokens.min(self.output))).div_ceil(u128::from(self.output.max(1)));
        self.input.plus(NanoUsd(i64::try_from(part).unwrap_or(i64::MAX)))
    }
}

impl PriceTable {
    /// What a call with this body can cost on a day (`YYYY-MM-DD` in UTC). `kept` is how many tokens there are of what came
    /// before and the vendor keeps, so that the body only names it.
    #[must_use]
    pub fn bound(&self, endpoint: &Endpoint, asked: &Asked, body: &[u8], kept: u64, day: &str) -> Bound {
        let Endpoint { dialect, vendor, model } = endpoint;
        let model = model.as_deref().or(asked.model.as_deref()).unwrap_or_default();
        let known = self.get(*vendor, model, day).and_then(|prices| prices.max_output);
        let each = asked.max_output.unwrap_or_else(|| known.unwrap_or(OUTPUT_TOKENS_MAX));
        let output = if asked.warms_up { 0 } else { each.saturating_mul(asked.answers.unwrap_or(1).max(1)) };
        let tokens = (body.len() as u64).saturating_add(kept);
        let plain = |output| Usage { input: tokens, output, ..Usage::default() };
        let written = |output| Usage { cache_write: tokens, output, ..Usage::default() };
        let kept = |output| Usage { cache_write_long: tokens, output, ..Usage::default() };
        let has = |mark| memmem::find(body, mark).is_some();
        // Other vendors decide by themselves what they keep, for the short time.
        let writes = *dialect != Dialect::AnthropicMessages || has(CACHED);
        let writes_long =
            [Dialect::AnthropicMessages, Dialect::BedrockConverse].contains(dialect) && has(CACHED) && has(CACHED_LONG);
        let price = |usage| {
            let reading = Reading {
                model: model.to_owned(),
                usage,
                certainty: Certainty::Final,
                terms: terms(asked),
                shares: Vec::new(),
                charged: None,
            };
            self.price(*vendor, &reading, day).0
        };
        let dearest = |output| {
            let mut all = vec![price(plain(output))];
            all.extend(writes.then(|| price(written(output))));
            all.extend(writes_long.then(|| price(kept(output))));
            all.into_iter().max().unwrap_or_default()
        };
        let priced =
            *vendor == Vendor::Local || *vendor == Vendor::OpenRouter || self.get(*vendor, model, day).is_some();
        let unknown = (!priced).then(|| model.to_owned());
        Bound { output, full: dearest(output), input: dearest(0), unknown }
    }
}

/// The terms that the vendor may bill on: what was asked for, unless it makes the call cheaper.
fn terms(asked: &Asked) -> Terms {
    let tier = match asked.service_tier.as_deref() {
        Some("priority" | "fast") => Tier::Priority,
        Some("ultrafast") => Tier::Ultrafast,
        _ => Tier::Standard,
    };
    Terms { tier, fast: asked.fast, us_only: asked.us_only }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::meter::Meter;

    const DAY: &str = "2026-11-26";

    fn bound(body: &str) -> Bound {
        let endpoint = Endpoint::from(Dialect::AnthropicMessages);
        let mut meter = Meter::new(endpoint.clone());
        meter.request(body.as_bytes());
        PriceTable::embedded().bound(&endpoint, meter.asked(), body.as_bytes(), 0, DAY)
    }

    #[test]
    fn a_call_costs_at_most_its_bytes_and_its_limit_of_output() {
        let body = r#"{"model":"claude-opus-4-5","max_tokens":1000,"messages":[]}"#;
        let bytes = i64::try_from(body.len()).unwrap();
        let expected = Bound {
            output: 1000,
            full: NanoUsd(bytes * 5_000 + 1000 * 25_000),
            input: NanoUsd(bytes * 5_000),
            unknown: None,
        };
        assert_eq!(bound(body), expected);
    }

    #[test]
    fn what_may_be_kept_in_a_cache_costs_more() {
        let plain = bound(r#"{"model":"claude-opus-4-5","max_tokens":1}"#).input;
        let kept = bound(r#"{"model":"claude-opus-4-5","max_tokens":1,"cache_control":{}}"#).input;
        let long = bound(r#"{"model":"claude-opus-4-5","max_tokens":1,"cache_control":{"ttl":"1h"}}"#).input;
        assert!(plain < kept && kept < long, "{plain} {kept} {long}");
    }

    #[test]
    fn what_an_amount_is_enough_for_costs_no_more_than_it() {
        let bound = bound(r#"{"model":"claude-opus-4-5","max_tokens":32000,"messages":[]}"#);
        for amount in [0, 1, 300_000, 400_000, 5_000_000, 799_999_999, i64::MAX].map(NanoUsd) {
            let tokens = bound.output_within(amount);
            assert!(tokens == 0 || bound.with_output(tokens) <= amount, "{amount}: {tokens}");
        }
        assert_eq!(bound.output_within(bound.full), bound.output);
    }
}
