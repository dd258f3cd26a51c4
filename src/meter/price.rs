//! Usage becomes money: in integers, rounded up, and never less than is known to be owed.

use super::table::{PriceTable, Prices, Rates, Ratio};
use super::{Certainty, Reading, Terms, Tier};
use crate::model::{NanoUsd, Pricing, Usage};

impl Rates {
    /// Part by part the dearer of two.
    pub(super) fn dearer(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_long: self.cache_write_long.max(other.cache_write_long),
        }
    }

    /// What a usage's tokens cost, in nano-dollars; it cannot overflow, as each product is below 2^96.
    fn cost(self, usage: &Usage) -> u128 {
        let part = |tokens: u64, rate: u32| u128::from(tokens) * u128::from(rate);
        part(usage.input, self.input)
            + part(usage.output, self.output)
            + part(usage.cache_read, self.cache_read)
            + part(usage.cache_write, self.cache_write)
            + part(usage.cache_write_long, self.cache_write_long)
    }
}

impl PriceTable {
    /// What a reading costs, and how far that can be trusted.
    ///
    /// A model that the table does not know is charged, for each part, at the dearest price of any model.
    #[must_use]
    pub fn price(&self, reading: &Reading) -> (NanoUsd, Pricing) {
        if reading.certainty == Certainty::Unreadable {
            return (NanoUsd::ZERO, Pricing::Unreadable);
        }
        let prompt = reading.usage.prompt();
        let mut own = reading.usage;
        let mut total = 0u128;
        for share in &reading.shares {
            own = less(own, share.usage);
            total = total.saturating_add(self.tokens(&share.model, &share.usage, prompt, reading.terms));
        }
        total = total.saturating_add(self.tokens(&reading.model, &own, prompt, reading.terms));
        let searches = u128::from(reading.usage.web_searches) * u128::from(self.web_search);
        let nano = i64::try_from(total.saturating_add(searches)).unwrap_or(i64::MAX);
        let known = self.get(&reading.model).is_some() && reading.shares.iter().all(|s| self.get(&s.model).is_some());
        let pricing = match reading.certainty {
            Certainty::Partial => Pricing::Incomplete,
            _ if known => Pricing::Exact,
            _ => Pricing::UnknownModel,
        };
        (NanoUsd(nano), pricing)
    }

    /// What tokens of one model cost within a call of `prompt` prompt tokens.
    fn tokens(&self, model: &str, usage: &Usage, prompt: u64, terms: Terms) -> u128 {
        let line = self.get(model);
        let rates = line.map_or_else(|| self.dearest(prompt), |prices| prices.rates_at(prompt));
        let mut ratios = vec![match terms.tier {
            Tier::Standard => Ratio::ONE,
            Tier::Priority => self.priority(line),
            Tier::Flex => self.multipliers.flex,
            Tier::Batch => self.multipliers.batch,
            Tier::Ultrafast => self.multipliers.ultrafast,
        }];
        ratios.extend(terms.fast.then_some(self.multipliers.fast));
        ratios.extend(terms.us_only.then_some(self.multipliers.us_only));
        let numerator: u128 = ratios.iter().map(|ratio| u128::from(ratio.numerator)).product();
        let denominator: u128 = ratios.iter().map(|ratio| u128::from(ratio.denominator)).product();
        rates.cost(usage).saturating_mul(numerator).div_ceil(denominator.max(1))
    }

    /// The priority factor of a model; of an unknown one, the largest.
    fn priority(&self, line: Option<&Prices>) -> Ratio {
        let own = |prices: &Prices| prices.priority.unwrap_or(self.multipliers.priority);
        let largest = || self.models().map(own).max_by(Ratio::by_value).unwrap_or(self.multipliers.priority);
        line.map_or_else(largest, own)
    }

    /// Part by part the dearest rates of any model for a prompt of this length.
    fn dearest(&self, prompt: u64) -> Rates {
        self.models().map(|prices| prices.rates_at(prompt)).fold(Rates::default(), Rates::dearer)
    }
}

/// A usage without a part of it.
fn less(all: Usage, part: Usage) -> Usage {
    Usage {
        input: all.input.saturating_sub(part.input),
        cache_read: all.cache_read.saturating_sub(part.cache_read),
        cache_write: all.cache_write.saturating_sub(part.cache_write),
        cache_write_long: all.cache_write_long.saturating_sub(part.cache_write_long),
        output: all.output.saturating_sub(part.output),
        reasoning: all.reasoning.saturating_sub(part.reasoning),
        web_searches: all.web_searches.saturating_sub(part.web_searches),
    }
}
