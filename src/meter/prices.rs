//! What one model costs at one vendor from one day on.

use super::rates::{Card, Rates, Ratio};
use super::{PriceError, Vendor};
use serde::Deserialize;

/// One model at one vendor, from one day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// Who bills it.
    pub vendor: Vendor,
    /// The vendor's name of the model, without a date.
    pub model: String,
    /// The first day of these prices, as `YYYY-MM-DD` in UTC; none where they held as far back as is known.
    pub from: Option<String>,
    /// The cards by the lengths of prompts, the shortest first.
    pub cards: Vec<Card>,
    /// The model's own factor of Anthropic's fast mode.
    pub fast: Option<Ratio>,
    /// The model's own factor of inference bound to the United States.
    pub us_only: Option<Ratio>,
    /// Most tokens of one answer, where it is known.
    pub max_output: Option<u64>,
    /// What one web search costs that the vendor runs, in nano-dollars, where it is not the usual price.
    pub web_search: Option<u32>,
    /// Whether the sources of the table disagree, of which the dearer is taken.
    pub disputed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenPrices {
    vendor: Vendor,
    model: String,
    from: Option<String>,
    rates: Rates,
    priority: Option<Rates>,
    flex: Option<Rates>,
    batch: Option<Rates>,
    ultrafast: Option<Rates>,
    #[serde(default)]
    long: Vec<Card>,
    fast: Option<Ratio>,
    us_only: Option<Ratio>,
    max_output: Option<u64>,
    web_search: Option<u32>,
    #[serde(default)]
    disputed: bool,
}

impl From<WrittenPrices> for Prices {
    fn from(written: WrittenPrices) -> Self {
        let WrittenPrices { rates, priority, flex, batch, ultrafast, long, .. } = written;
        let mut cards = vec![Card { above: 0, rates, priority, flex, batch, ultrafast }];
        cards.extend(long);
        Self {
            vendor: written.vendor,
            model: written.model.to_ascii_lowercase(),
            from: written.from,
            cards,
            fast: written.fast,
            us_only: written.us_only,
            max_output: written.max_output,
            web_search: written.web_search,
            disputed: written.disputed,
        }
    }
}

impl Prices {
    /// The card for a call with this many prompt tokens.
    #[must_use]
    pub fn card(&self, prompt_tokens: u64) -> Option<&Card> {
        self.cards.iter().rev().find(|card| card.above == 0 || prompt_tokens > card.above)
    }

    pub(super) fn check(&self) -> Result<(), PriceError> {
        let dearer =
            |pair: &[Card]| pair[1].rates.dearer(pair[0].rates) == pair[1].rates && pair[1].above > pair[0].above;
        if !self.cards.windows(2).all(dearer) {
            return Err(PriceError::Falling(self.model.clone()));
        }
        if [self.fast, self.us_only].into_iter().flatten().any(|ratio| ratio.denominator == 0) {
            return Err(PriceError::Denominator);
        }
        if self.from.as_ref().is_some_and(|day| day.parse::<jiff::civil::Date>().is_err() || day.len() != 10) {
            return Err(PriceError::Day(self.model.clone()));
        }
        Ok(())
    }

    /// Whether they held on a day (`YYYY-MM-DD`), unless later ones did.
    pub(super) fn held_on(&self, day: &str) -> bool {
        self.from.as_deref().is_none_or(|from| from <= day)
    }
}
