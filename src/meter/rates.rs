//! What tokens cost, and what changes that: lengths of prompts, classes of service, factors.

use super::Tier;
use crate::model::Usage;
use serde::Deserialize;

/// What a model's tokens cost, in pico-dollars each: the vendors' prices for a million tokens have up to six decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "[u32; 5]")]
pub struct Rates {
    /// A prompt token that touched no cache.
    pub input: u32,
    /// A generated token.
    pub output: u32,
    /// A prompt token read from a cache.
    pub cache_read: u32,
    /// A prompt token written to a cache for the short time.
    pub cache_write: u32,
    /// A prompt token written to a cache for the long time.
    pub cache_write_long: u32,
}

/// A factor, kept exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "(u16, u16)")]
pub struct Ratio {
    /// What is multiplied by.
    pub numerator: u16,
    /// What is divided by, rounding up; never 0 in a table that parsed.
    pub denominator: u16,
}

/// Factors on the token costs of a whole call, of models without rates or factors of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multipliers {
    /// Of [`Tier::Priority`].
    pub priority: Ratio,
    /// Of [`Tier::Flex`].
    pub flex: Ratio,
    /// Of [`Tier::Batch`].
    pub batch: Ratio,
    /// Of [`Tier::Ultrafast`].
    pub ultrafast: Ratio,
    /// Of Anthropic's fast mode.
    pub fast: Ratio,
    /// Of inference bound to the United States.
    pub us_only: Ratio,
}

/// The rates of prompts of one range of lengths, in each class of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The prompt tokens, cached ones included, from which on it does not hold yet: it holds for longer ones.
    #[serde(default)]
    pub above: u64,
    /// The list price.
    pub rates: Rates,
    /// The model's own rates in [`Tier::Priority`], where they are not the usual multiple; and so on.
    pub priority: Option<Rates>,
    /// In [`Tier::Flex`].
    pub flex: Option<Rates>,
    /// In [`Tier::Batch`].
    pub batch: Option<Rates>,
    /// In [`Tier::Ultrafast`].
    pub ultrafast: Option<Rates>,
}

impl From<[u32; 5]> for Rates {
    fn from([input, output, cache_read, cache_write, cache_write_long]: [u32; 5]) -> Self {
        Self { input, output, cache_read, cache_write, cache_write_long }
    }
}

impl From<(u16, u16)> for Ratio {
    fn from((numerator, denominator): (u16, u16)) -> Self {
        Self { numerator, denominator }
    }
}

impl Rates {
    /// Part by part the dearer of two.
    #[must_use]
    pub fn dearer(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            cache_write_long: self.cache_write_long.max(other.cache_write_long),
        }
    }

    /// Each rate multiplied, rounded up.
    #[must_use]
    pub fn times(self, ratio: Ratio) -> Self {
        let part = |rate| ratio.of(rate);
        Self {
            input: part(self.input),
            output: part(self.output),
            cache_read: part(self.cache_read),
            cache_write: part(self.cache_write),
            cache_write_long: part(self.cache_write_long),
        }
    }

    /// What a usage's tokens cost, in pico-dollars; it cannot overflow, as each product is below 2^96.
    pub(super) fn cost(self, usage: &Usage) -> u128 {
        let part = |tokens: u64, rate: u32| u128::from(tokens) * u128::from(rate);
        part(usage.input, self.input)
            + part(usage.output, self.output)
            + part(usage.cache_read, self.cache_read)
            + part(usage.cache_write, self.cache_write)
            + part(usage.cache_write_long, self.cache_write_long)
    }
}

impl Ratio {
    /// No change.
    pub(super) const ONE: Self = Self { numerator: 1, denominator: 1 };

    fn of(self, rate: u32) -> u32 {
        let all = (u64::from(rate) * u64::from(self.numerator)).div_ceil(u64::from(self.denominator.max(1)));
        u32::try_from(all).unwrap_or(u32::MAX)
    }
}

impl Multipliers {
    pub(super) const NONE: Self = Self {
        priority: Ratio::ONE,
        flex: Ratio::ONE,
        batch: Ratio::ONE,
        ultrafast: Ratio::ONE,
        fast: Ratio::ONE,
        us_only: Ratio::ONE,
    };

    pub(super) fn all(&self) -> [Ratio; 6] {
        [self.priority, self.flex, self.batch, self.ultrafast, self.fast, self.us_only]
    }
}

impl Card {
    /// The rates in a class of service.
    #[must_use]
    pub fn rates_in(&self, tier: Tier, usual: &Multipliers) -> Rates {
        let (own, usual) = match tier {
            Tier::Standard => return self.rates,
            Tier::Priority => (self.priority, usual.priority),
            Tier::Flex => (self.flex, usual.flex),
            Tier::Batch => (self.batch, usual.batch),
            Tier::Ultrafast => (self.ultrafast, usual.ultrafast),
        };
        own.unwrap_or_else(|| self.rates.times(usual))
    }
}
