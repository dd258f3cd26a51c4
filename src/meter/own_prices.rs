//! Prices that a person wrote down: what their contract says, or of models that no public table has.

use super::prices::Prices;
use super::rates::{Card, Rates};
use super::{PriceError, Vendor};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// Decimals of a price for a million tokens: one pico-dollar for one.
const DECIMALS: usize = 6;

/// Why a text holds no prices.
#[derive(Debug, thiserror::Error)]
pub enum OwnPricesError {
    /// It is not the YAML that is expected.
    #[error("{0}")]
    Yaml(String),
    /// A price is wrong.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// A model for nothing, which is not said in so many words.
    #[error("`{0}` costs nothing for a prompt or an answer: write `free: true` where that is meant")]
    Free(String),
    /// A model for nothing that has a price.
    #[error("`{0}` is `free: true` and has a price: remove one of the two")]
    FreeAndPriced(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    vendor: Vendor,
    model: String,
    from: Option<String>,
    #[serde(default)]
    free: bool,
    usd_per_million: Option<WrittenRates>,
    #[serde(default)]
    long_prompt: Vec<WrittenLong>,
    max_output: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLong {
    above_tokens: u64,
    usd_per_million: WrittenRates,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRates {
    input: Price,
    output: Price,
    cache_read: Option<Price>,
    cache_write: Option<Price>,
    cache_write_long: Option<Price>,
}

/// Pico-dollars for a token, written as dollars for a million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Price(u32);

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Price;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "dollars for a million tokens, such as 1.25, with at most {DECIMALS} decimals")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Price, E> {
                per_million(text).map(Price).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }

            // The shortest decimal that is this number is what was written.
            fn visit_f64<E: Error>(self, value: f64) -> Result<Price, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Price, E> {
                self.visit_str(&value.to_string())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Price, E> {
                self.visit_str(&value.to_string())
            }
        }
        deserializer.deserialize_any(Amount)
    }
}

fn per_million(text: &str) -> Option<u32> {
    let text = text.trim().trim_start_matches('$');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > DECIMALS || !digits(whole) || !digits(fraction) {
        return None;
    }
    format!("{whole}{fraction:0<DECIMALS$}").parse().ok()
}

impl From<WrittenRates> for Rates {
    fn from(written: WrittenRates) -> Self {
        // What is not told apart costs what a prompt costs.
        let or_input = |price: Option<Price>| price.unwrap_or(written.input).0;
        Self {
            input: written.input.0,
            output: written.output.0,
            cache_read: or_input(written.cache_read),
            cache_write: or_input(written.cache_write),
            cache_write_long: written.cache_write_long.or(written.cache_write).unwrap_or(written.input).0,
        }
    }
}

impl TryFrom<Written> for Prices {
    type Error = OwnPricesError;

    fn try_from(written: Written) -> Result<Self, OwnPricesError> {
        let priced = written.usd_per_million.is_some() || !written.long_prompt.is_empty();
        let rates = Rates::from(written.usd_per_million.unwrap_or_default());
        match (written.free, priced) {
            (true, true) => return Err(OwnPricesError::FreeAndPriced(written.model)),
            (false, _) if rates.input == 0 || rates.output == 0 => return Err(OwnPricesError::Free(written.model)),
            _ => {}
        }
        let card = |above, rates| Card { above, rates, priority: None, flex: None, batch: None, ultrafast: None };
        let mut cards = vec![card(0, rates)];
        cards.extend(written.long_prompt.iter().map(|long| card(long.above_tokens, long.usd_per_million.into())));
        let prices = Self {
            vendor: written.vendor,
            model: written.model.to_ascii_lowercase(),
            from: written.from,
            cards,
            fast: None,
            us_only: None,
            max_output: written.max_output,
            web_search: None,
            disputed: false,
        };
        prices.check()?;
        Ok(prices)
    }
}

/// Prices as a person writes them, in YAML:
///
/// ```yaml
/// - vendor: openai
///   model: our-own-model
///   usd_per_million: { input: 1.25, output: 10, cache_read: 0.125 }
/// ```
///
/// # Errors
/// An [`OwnPricesError`] with the place, or the model, that is wrong.
pub fn own_prices(text: &str) -> Result<Vec<Prices>, OwnPricesError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let written: Vec<Written> =
        serde_saphyr::from_str(text).map_err(|error| OwnPricesError::Yaml(error.to_string()))?;
    let prices: Vec<Prices> = written.into_iter().map(Prices::try_from).collect::<Result<_, _>>()?;
    for (index, one) in prices.iter().enumerate() {
        let same = |other: &&Prices| (other.vendor, &other.model, &other.from) == (one.vendor, &one.model, &one.from);
        if prices[..index].iter().any(|other| same(&other)) {
            return Err(PriceError::Twice(one.model.clone()).into());
        }
    }
    Ok(prices)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_to_the_last_decimal() {
        let text = "\
- vendor: openai
  model: Our-Own
  from: 2026-12-01
  usd_per_million: { input: 1.25, output: $10, cache_read: 0.018750 }
  long_prompt: [{ above_tokens: 200000, usd_per_million: { input: 2.5, output: 15 } }]
";
        let prices = own_prices(text).unwrap().remove(0);
        assert_eq!((prices.vendor, prices.model.as_str()), (Vendor::OpenAi, "our-own"));
        assert_eq!(prices.from.as_deref(), Some("2026-12-01"));
        let rates: Vec<_> = prices.cards.iter().map(|card| card.rates).collect();
        assert_eq!(rates[0], Rates::from([1_250_000, 10_000_000, 18_750, 1_250_000, 1_250_000]));
        assert_eq!(rates[1], Rates::from([2_500_000, 15_000_000, 2_500_000, 2_500_000, 2_500_000]));
    }

    #[test]
    fn what_costs_nothing_has_to_be_said() {
        let own = |rest: &str| own_prices(&format!("- vendor: groq\n  model: m\n{rest}"));
        assert!(matches!(own(""), Err(OwnPricesError::Free(_))));
        assert!(matches!(own("  usd_per_million: { input: 0, output: 1 }"), Err(OwnPricesError::Free(_))));
        let both = "  free: true\n  usd_per_million: { input: 1, output: 1 }";
        assert!(matches!(own(both), Err(OwnPricesError::FreeAndPriced(_))));
        assert_eq!(own("  free: true").unwrap()[0].cards[0].rates, Rates::default());
    }

    #[test]
    fn mistakes_are_refused() {
        for text in ["vendor: openai", "- vendor: nobody\n  model: m\n  free: true", "- model: m\n  free: true"] {
            assert!(matches!(own_prices(text), Err(OwnPricesError::Yaml(_))), "{text}");
        }
        for price in ["-1", "0.0000001", "five", "5000"] {
            let text = format!("- vendor: openai\n  model: m\n  usd_per_million: {{ input: {price}, output: 1 }}");
            assert!(own_prices(&text).is_err(), "{price}");
        }
        let twice = "- vendor: openai\n  model: m\n  free: true\n".repeat(2);
        assert!(matches!(own_prices(&twice), Err(OwnPricesError::Price(PriceError::Twice(_)))));
    }
}
