//! The price table: what each model's tokens cost, as written and as checked.

use crate::model::NanoUsd;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The table that ships with omni.
pub(super) const EMBEDDED: &str = include_str!("prices.json");

/// What a model's tokens cost, in nano-dollars each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// Factors on the token costs of a whole call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multipliers {
    /// Of [`Tier::Priority`](super::Tier::Priority), unless the model has its own.
    pub priority: Ratio,
    /// Of [`Tier::Flex`](super::Tier::Flex).
    pub flex: Ratio,
    /// Of [`Tier::Batch`](super::Tier::Batch).
    pub batch: Ratio,
    /// Of [`Tier::Ultrafast`](super::Tier::Ultrafast).
    pub ultrafast: Ratio,
    /// Of Anthropic's fast mode.
    pub fast: Ratio,
    /// Of inference bound to the United States.
    pub us_only: Ratio,
}

/// The rates for the whole of a call whose prompt is longer than a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongPrompt {
    /// The prompt tokens, cached ones included, up to which the ordinary rates hold.
    pub above: u64,
    /// The rates beyond it, for every token of the call.
    pub rates: Rates,
}

/// One model's line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// The vendor's name of the model, without a date.
    pub model: String,
    /// The ordinary rates.
    pub rates: Rates,
    /// The rates of long prompts, where they differ.
    pub long_prompt: Option<LongPrompt>,
    /// The model's own factor for [`Tier::Priority`](super::Tier::Priority).
    pub priority: Option<Ratio>,
}

/// Why a text is not a price table.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// It is not the JSON that is expected.
    #[error("the price table cannot be read: {0}; correct the file at that place")]
    Json(#[from] serde_json::Error),
    /// No model is in it, so nothing could be charged for an unknown one.
    #[error("the price table has no models; add at least one")]
    Empty,
    /// Two lines for one model.
    #[error("the price table has `{0}` twice; remove one of the lines")]
    Twice(String),
    /// A factor divides by zero.
    #[error("the price table has a multiplier with the denominator 0; write it as [numerator, denominator]")]
    Denominator,
    /// Long prompts are cheaper than short ones, which no vendor does.
    #[error("the price table has `{0}` cheaper for long prompts than for short ones; correct its long_prompt")]
    Falling(String),
}

/// All known prices, under a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceTable {
    version: String,
    pub(super) web_search: u32,
    pub(super) multipliers: Multipliers,
    models: BTreeMap<String, Prices>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    version: String,
    #[serde(rename = "unit")]
    _unit: String,
    web_search: u32,
    multipliers: Multipliers,
    models: Vec<WrittenPrices>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPrices {
    model: String,
    input: u32,
    output: u32,
    cache_read: u32,
    cache_write: u32,
    cache_write_long: u32,
    long_prompt: Option<WrittenLongPrompt>,
    priority: Option<Ratio>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLongPrompt {
    above: u64,
    input: u32,
    output: u32,
    cache_read: u32,
    cache_write: u32,
    cache_write_long: u32,
}

impl From<(u16, u16)> for Ratio {
    fn from((numerator, denominator): (u16, u16)) -> Self {
        Self { numerator, denominator }
    }
}

impl From<WrittenPrices> for Prices {
    fn from(written: WrittenPrices) -> Self {
        let WrittenPrices { model, input, output, cache_read, cache_write, cache_write_long, .. } = written;
        let long_prompt = written.long_prompt.map(|long| {
            let WrittenLongPrompt { above, input, output, cache_read, cache_write, cache_write_long } = long;
            LongPrompt { above, rates: Rates { input, output, cache_read, cache_write, cache_write_long } }
        });
        let rates = Rates { input, output, cache_read, cache_write, cache_write_long };
        Self { model, rates, long_prompt, priority: written.priority }
    }
}

impl Prices {
    /// The rates for a call with this many prompt tokens.
    #[must_use]
    pub fn rates_at(&self, prompt_tokens: u64) -> Rates {
        match self.long_prompt {
            Some(long) if prompt_tokens > long.above => long.rates,
            _ => self.rates,
        }
    }
}

impl PriceTable {
    /// The table that ships with omni.
    #[must_use]
    pub fn embedded() -> Self {
        // The text is part of the program and a test parses it, so the empty table is never seen; it charges nothing
        // and says of every model that it is unknown.
        Self::parse(EMBEDDED).unwrap_or_else(|_| Self {
            version: "none".to_owned(),
            web_search: 0,
            multipliers: Multipliers::NONE,
            models: BTreeMap::new(),
        })
    }

    /// Parses a table in the form of `prices.json`.
    ///
    /// # Errors
    /// A [`PriceError`] for anything that could not be charged by.
    pub fn parse(json: &str) -> Result<Self, PriceError> {
        let written: WrittenTable = serde_json::from_str(json)?;
        let mut models = BTreeMap::new();
        for prices in written.models.into_iter().map(Prices::from) {
            if prices.long_prompt.is_some_and(|long| long.rates.dearer(prices.rates) != long.rates) {
                return Err(PriceError::Falling(prices.model));
            }
            if let Some(earlier) = models.insert(prices.model.clone(), prices) {
                return Err(PriceError::Twice(earlier.model));
            }
        }
        if models.is_empty() {
            return Err(PriceError::Empty);
        }
        let own = models.values().filter_map(|prices| prices.priority);
        if written.multipliers.all().into_iter().chain(own).any(|ratio| ratio.denominator == 0) {
            return Err(PriceError::Denominator);
        }
        let WrittenTable { version, web_search, multipliers, .. } = written;
        Ok(Self { version, web_search, multipliers, models })
    }

    /// The table's version, which stands in every record of a cost.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// All models, by name.
    pub fn models(&self) -> impl Iterator<Item = &Prices> {
        self.models.values()
    }

    /// What one web search costs that the vendor ran.
    #[must_use]
    pub fn web_search(&self) -> NanoUsd {
        NanoUsd(i64::from(self.web_search))
    }

    /// The factors that apply to models without their own.
    #[must_use]
    pub fn multipliers(&self) -> &Multipliers {
        &self.multipliers
    }

    /// The prices of a model as a vendor names it: by the whole name, or by the name without a final date or `-latest`.
    ///
    /// Nothing shorter is tried: `gpt-5.5-pro` is not `gpt-5.5`, and guessing so would charge too little.
    #[must_use]
    pub fn get(&self, model: &str) -> Option<&Prices> {
        let model = model.to_ascii_lowercase();
        self.models.get(&model).or_else(|| self.models.get(undated(&model)))
    }
}

impl Ratio {
    /// No change.
    pub(super) const ONE: Self = Self { numerator: 1, denominator: 1 };

    pub(super) fn by_value(&self, other: &Self) -> std::cmp::Ordering {
        let cross = |a: &Self, b: &Self| u32::from(a.numerator) * u32::from(b.denominator);
        cross(self, other).cmp(&cross(other, self))
    }
}

impl Multipliers {
    const NONE: Self = Self {
        priority: Ratio::ONE,
        flex: Ratio::ONE,
        batch: Ratio::ONE,
        ultrafast: Ratio::ONE,
        fast: Ratio::ONE,
        us_only: Ratio::ONE,
    };

    fn all(&self) -> [Ratio; 6] {
        [self.priority, self.flex, self.batch, self.ultrafast, self.fast, self.us_only]
    }
}

/// The name without a final `-YYYYMMDD`, `@YYYYMMDD`, `-YYYY-MM-DD` or `-latest`.
fn undated(model: &str) -> &str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(name) = model.strip_suffix("-latest") {
        return name;
    }
    if let Some((name, date)) = model.rsplit_once(['-', '@'])
        && date.len() == 8
        && digits(date)
    {
        return name;
    }
    let mut parts = model.rsplitn(4, '-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(day), Some(month), Some(year), Some(name))
            if day.len() == 2 && month.len() == 2 && year.len() == 4 && [day, month, year].into_iter().all(digits) =>
        {
            name
        }
        _ => model,
    }
}
