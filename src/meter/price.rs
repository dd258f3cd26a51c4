//! Usage becomes money: in integers, rounded up, and never less than is known to be owed.

use super::prices::Prices;
use super::rates::{Multipliers, Rates, Ratio};
use super::table::PriceTable;
use super::{Certainty, Reading, Terms, Vendor};
use crate::model::{NanoUsd, Pricing, Usage};

/// Pico-dollars in a nano-dollar.
const PICO_PER_NANO: u128 = 1000;

/// One call: who bills it, when, and with how long a prompt.
#[derive(Clone, Copy)]
struct Call<'a> {
    vendor: Vendor,
    day: &'a str,
    prompt: u64,
    terms: Terms,
}

impl PriceTable {
    /// What a vendor's call costs that was read on a day (`YYYY-MM-DD` in UTC), and how far that can be trusted.
    ///
    /// What the vendor says itself counts. A model that the table does not know is charged, for each part, at the dearest price of any model of its vendor.
    #[must_use]
    pub fn price(&self, vendor: Vendor, reading: &Reading, day: &str) -> (NanoUsd, Pricing) {
        if reading.certainty == Certainty::Unreadable {
            return (NanoUsd::ZERO, Pricing::Unreadable);
        }
        if let Some(charged) = reading.charged.filter(|_| reading.certainty == Certainty::Final) {
            return (charged, Pricing::Exact);
        }
        if vendor == Vendor::Local {
            return (NanoUsd::ZERO, Pricing::Exact);
        }
        let call = Call { vendor, day, prompt: reading.usage.prompt(), terms: reading.terms };
        let mut own = reading.usage;
        let mut pico = 0u128;
        for share in &reading.shares {
            own = less(own, share.usage);
            pico = pico.saturating_add(self.tokens(call, &share.model, &share.usage));
        }
        pico = pico.saturating_add(self.tokens(call, &reading.model, &own));
        let searches = u128::from(reading.usage.web_searches) * u128::from(self.search(call, &reading.model));
        let nano = pico.div_ceil(PICO_PER_NANO).saturating_add(searches);
        let known = |model: &str| self.get(vendor, model, day).is_some();
        let pricing = match reading.certainty {
            Certainty::Partial => Pricing::Incomplete,
            _ if known(&reading.model) && reading.shares.iter().all(|share| known(&share.model)) => Pricing::Exact,
            _ => Pricing::UnknownModel,
        };
        (NanoUsd(i64::try_from(nano).unwrap_or(i64::MAX)), pricing)
    }

    /// The lines to charge a model by: its own, or all of its vendor's.
    fn lines(&self, call: Call<'_>, model: &str) -> Vec<&Prices> {
        self.get(call.vendor, model, call.day).map_or_else(|| self.of_vendor(call.vendor, call.day), |line| vec![line])
    }

    /// What tokens of one model cost within a call, in pico-dollars.
    fn tokens(&self, call: Call<'_>, model: &str, usage: &Usage) -> u128 {
        let usual = self.multipliers();
        let rates = self.lines(call, model).into_iter().map(|line| line.rates_of(call, usual));
        rates.fold(Rates::default(), Rates::dearer).cost(usage)
    }

    /// What one web search costs within a call, in nano-dollars.
    fn search(&self, call: Call<'_>, model: &str) -> u32 {
        let lines = self.lines(call, model).into_iter();
        lines.map(|line| line.web_search.unwrap_or(self.web_search())).max().unwrap_or(self.web_search())
    }
}

impl Prices {
    fn rates_of(&self, call: Call<'_>, usual: &Multipliers) -> Rates {
        let Terms { tier, fast, us_only } = call.terms;
        let rates = self.card(call.prompt).map_or_else(Rates::default, |card| card.rates_in(tier, usual));
        let factor = |applies: bool, own: Option<Ratio>, usual| if applies { own.unwrap_or(usual) } else { Ratio::ONE };
        rates.times(factor(fast, self.fast, usual.fast)).times(factor(us_only, self.us_only, usual.us_only))
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
