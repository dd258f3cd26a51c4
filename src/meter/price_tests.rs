//! The price table, to the nano-dollar.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::table::EMBEDDED;
use super::*;
use crate::model::{NanoUsd, Pricing};
use proptest::prelude::*;

fn reading(model: &str, usage: Usage) -> Reading {
    let (terms, shares) = (Terms::default(), Vec::new());
    Reading { model: model.to_owned(), usage, certainty: Certainty::Final, terms, shares, charged: None }
}

/// A day of the shipped table.
const DAY: &str = "2026-11-26";

fn vendor(model: &str) -> Vendor {
    match model.to_ascii_lowercase().get(..3) {
        Some("cla") => Vendor::Anthropic,
        Some("gem") => Vendor::Google,
        _ => Vendor::OpenAi,
    }
}

fn charge(reading: &Reading) -> (NanoUsd, Pricing) {
    PriceTable::embedded().price(vendor(&reading.model), reading, DAY)
}

fn price(model: &str, usage: Usage) -> (NanoUsd, Pricing) {
    charge(&reading(model, usage))
}

fn input(tokens: u64) -> Usage {
    Usage { input: tokens, ..Usage::default() }
}

#[test]
fn the_shipped_table_is_a_table() {
    let table = PriceTable::parse(EMBEDDED).unwrap();
    assert_eq!(table.version(), "2026-11-26");
    let embedded = PriceTable::embedded();
    assert!(embedded.models().eq(table.models()));
    assert_eq!(table.models().count(), EMBEDDED.lines().count() - 1);
    assert_eq!(table.sources().len(), 2);
    // Those left out say what a call cost, or are the user's.
    let elsewhere = [Vendor::OpenRouter, Vendor::Local, Vendor::Own];
    for vendor in Vendor::ALL.into_iter().filter(|vendor| !elsewhere.contains(vendor)) {
        assert!(table.models().any(|prices| prices.vendor == vendor), "{vendor}");
    }
}

#[test]
fn only_what_is_said_to_be_free_costs_nothing() {
    let table = PriceTable::embedded();
    let free: Vec<_> = table.models().filter(|prices| prices.cards[0].rates.output == 0).collect();
    assert!(
        free.iter().all(|prices| prices.vendor != Vendor::Anthropic && prices.vendor != Vendor::OpenAi),
        "{free:?}"
    );
}

#[test]
fn each_part_has_its_own_price() {
    let usage = Usage {
        input: 1,
        cache_read: 10,
        cache_write: 100,
        cache_write_long: 1000,
        output: 10_000,
        reasoning: 9_999,
        web_searches: 3,
    };
    let cost = 2_000 + 10 * 200 + 100 * 2_500 + 1000 * 4_000 + 10_000 * 10_000 + 3 * 10_000_000;
    assert_eq!(price("claude-sonnet-5", usage), (NanoUsd(cost), Pricing::Exact));
}

#[test]
fn a_date_is_not_part_of_a_models_name() {
    let table = PriceTable::embedded();
    let named = |name: &str| table.get(vendor(name), name, DAY).map(|prices| prices.model.as_str());
    assert_eq!(named("claude-sonnet-5-20260101"), Some("claude-sonnet-5"));
    assert_eq!(named("claude-opus-4-5-20251101"), Some("claude-opus-4-5"));
    assert_eq!(named("Claude-Haiku-4-5-latest"), Some("claude-haiku-4-5"));
    assert_eq!(named("claude-opus-4-5@20251101"), Some("claude-opus-4-5"));
    assert_eq!(named("gpt-5.5-2026-03-04"), Some("gpt-5.5"));
    for other in ["gpt-5.5-max", "gpt-55", "claude-sonnet", "gpt-5.5-2026", "claude-sonnet-5-2026010", "", "-20260101"]
    {
        assert_eq!(named(other), None, "{other}");
    }
}

#[test]
fn the_long_prompt_rates_hold_for_the_whole_call_beyond_the_threshold() {
    let cached = |tokens| Usage { cache_read: tokens, output: 1, ..Usage::default() };
    assert_eq!(price("gpt-5.4", cached(272_000)).0, NanoUsd(272_000 * 250 + 15_000));
    assert_eq!(price("gpt-5.4", cached(272_001)).0, NanoUsd(272_001 * 500 + 22_500));
    assert_eq!(price("claude-haiku-5-5", input(100_001)).0, NanoUsd(100_001 * 500));
}

#[test]
fn an_unknown_model_costs_the_dearest_of_each_part_that_its_vendor_has() {
    let table = PriceTable::embedded();
    for (vendor, model) in [(Vendor::Anthropic, "claude-nobody-1"), (Vendor::OpenAi, "nobody-1")] {
        for tokens in [1_000, 300_000] {
            let all = table.of_vendor(vendor, DAY).into_iter();
            let dearest = all.map(|prices| prices.card(tokens).unwrap().rates.input).max().unwrap();
            let nano = i64::try_from(tokens * u64::from(dearest) / 1_000).unwrap();
            assert_eq!(price(model, input(tokens)), (NanoUsd(nano), Pricing::UnknownModel), "{model}");
        }
    }
    assert!(price("nobody-1", input(1000)).0 > price("claude-nobody-1", input(1000)).0, "each by its own vendor");
}

#[test]
fn prices_hold_from_their_day_on() {
    let cost = |day| PriceTable::embedded().price(Vendor::Google, &reading("gemini-3.8-flash", input(1)), day).0;
    assert_eq!((cost("2026-12-31"), cost("2027-01-01")), (NanoUsd(750), NanoUsd(1_500)));
    assert_eq!(cost("1999-01-01"), NanoUsd(750), "the oldest that is known");
}

#[test]
fn a_fraction_of_a_nano_dollar_counts_only_in_the_sum() {
    let own = own_prices("- { vendor: openai, model: m, usd_per_million: { input: 0.0001, output: 1 } }").unwrap();
    let table = PriceTable::embedded().with(own, "test");
    let cost = |tokens| table.price(Vendor::OpenAi, &reading("m", input(tokens)), DAY);
    assert_eq!(cost(10_000), (NanoUsd(1_000), Pricing::Exact));
    assert_eq!(cost(1).0, NanoUsd(1), "rounded up");
    assert_eq!(table.version(), "2026-11-26+test");
}

#[test]
fn own_prices_replace_those_of_the_table() {
    let own = own_prices("- { vendor: openai, model: gpt-5.4, usd_per_million: { input: 1, output: 1 } }").unwrap();
    let table = PriceTable::embedded().with(own, "test");
    let cost = |model, tokens| table.price(Vendor::OpenAi, &reading(model, input(tokens)), DAY).0;
    assert_eq!(cost("gpt-5.4", 1), NanoUsd(1_000));
    assert_eq!(cost("gpt-5.4-2026-03-04", 300_000), NanoUsd(300_000_000), "also of long prompts");
    assert_eq!(cost("gpt-5.5", 1), price("gpt-5.5", input(1)).0);
}

#[test]
fn terms_multiply_and_round_up() {
    let with = |model: &str, tokens, terms| charge(&Reading { terms, ..reading(model, input(tokens)) }).0;
    let tier = |tier| Terms { tier, ..Terms::default() };
    assert_eq!(with("gpt-5.4", 2, tier(Tier::Priority)), NanoUsd(10_000));
    assert_eq!(with("gpt-5.5", 2, tier(Tier::Priority)), NanoUsd(25_000), "its own rates, not the usual double");
    assert_eq!(with("gpt-5.3-codex", 1, tier(Tier::Flex)), NanoUsd(875));
    assert_eq!(with("gpt-6.1-sol", 1, tier(Tier::Ultrafast)), NanoUsd(12_000));
    let both = Terms { tier: Tier::Standard, fast: true, us_only: true };
    assert_eq!(with("claude-opus-5", 1, both), NanoUsd(11_000));
    let odd = Usage { cache_read: 1, ..Usage::default() };
    let reading = Reading { terms: tier(Tier::Batch), ..reading("claude-haiku-5-5", odd) };
    assert_eq!(charge(&reading).0, NanoUsd(5));
}

#[test]
fn a_class_of_service_may_make_some_parts_cheaper_only() {
    let flex = Terms { tier: Tier::Flex, ..Terms::default() };
    let cost = |usage| charge(&Reading { terms: flex, ..reading("gemini-3.1-pro-preview", usage) }).0;
    assert_eq!(cost(input(1)), NanoUsd(1_000));
    assert_eq!(cost(Usage { cache_read: 1, ..Usage::default() }), NanoUsd(200));
}

#[test]
fn certainty_decides_how_a_cost_is_called() {
    let of = |certainty, model| charge(&Reading { certainty, ..reading(model, input(1)) });
    assert_eq!(of(Certainty::Partial, "claude-opus-5"), (NanoUsd(5_000), Pricing::Incomplete));
    assert_eq!(of(Certainty::Partial, "nobody-1").1, Pricing::Incomplete);
    assert_eq!(of(Certainty::Unreadable, "claude-opus-5"), (NanoUsd::ZERO, Pricing::Unreadable));
}

#[test]
fn a_table_that_could_not_be_charged_by_is_refused() {
    let (head, _) = EMBEDDED.split_once('\n').unwrap();
    let line =
        r#"{"vendor":"openai","model":"m","rates":[2,2,2,2,2],"long":[{"above":9,"rates":[3,3,3,3,3]}],"fast":[2,1]}"#;
    let table = |line: &str| PriceTable::parse(&format!("{head}\n{line}\n"));
    let with = |from: &str, to: &str| table(&line.replacen(from, to, 1));
    assert_eq!(table(line).unwrap().models().count(), 1);
    assert!(matches!(table(&format!("{line}\n{line}")), Err(PriceError::Twice(_))));
    assert!(matches!(with("[2,1]", "[2,0]"), Err(PriceError::Denominator)));
    assert!(matches!(with("\"model\"", "\"mdoel\""), Err(PriceError::Json { line: 2, .. })));
    assert!(matches!(with("[3,3,", "[1,3,"), Err(PriceError::Falling(_))));
    assert!(matches!(with("\"rates\"", "\"from\":\"2026-13-01\",\"rates\""), Err(PriceError::Day(_))));
    assert!(matches!(with("\"m\"", &format!("\"{}\"", "m".repeat(5000))), Err(PriceError::TooLarge)));
    assert!(matches!(PriceTable::parse(head), Err(PriceError::Empty)));
    let unit = EMBEDDED.replacen("pico-dollars", "dollars", 1);
    assert!(matches!(PriceTable::parse(&unit), Err(PriceError::Json { line: 1, .. })));
}

fn usage() -> impl Strategy<Value = Usage> {
    let tokens = || prop_oneof![0u64..1_000, 0u64..1_000_000, Just(u64::MAX), any::<u64>()];
    (tokens(), tokens(), tokens(), tokens(), tokens(), tokens()).prop_map(
        |(input, cache_read, cache_write, cache_write_long, output, web_searches)| {
            let reasoning = output / 2;
            Usage { input, cache_read, cache_write, cache_write_long, output, reasoning, web_searches }
        },
    )
}

proptest! {
    #[test]
    fn more_of_anything_never_costs_less(
        base in usage(),
        more in usage(),
        part in 0usize..6,
        model in prop::sample::select(vec!["claude-haiku-5-5", "gpt-5.5", "gpt-5.3-codex", "nobody-1"]),
        fast: bool,
        us_only: bool,
        tier in prop::sample::select(vec![Tier::Standard, Tier::Priority, Tier::Flex, Tier::Batch, Tier::Ultrafast]),
    ) {
        let mut grown = base;
        let (slot, by) = match part {
            0 => (&mut grown.input, more.input),
            1 => (&mut grown.cache_read, more.cache_read),
            2 => (&mut grown.cache_write, more.cache_write),
            3 => (&mut grown.cache_write_long, more.cache_write_long),
            4 => (&mut grown.output, more.output),
            _ => (&mut grown.web_searches, more.web_searches),
        };
        *slot = slot.saturating_add(by);
        let terms = Terms { tier, fast, us_only };
        let cost = |usage| charge(&Reading { terms, ..reading(model, usage) }).0;
        prop_assert!(cost(base) <= cost(grown));
        prop_assert!(cost(base) >= NanoUsd::ZERO);
    }

    #[test]
    fn noise_never_panics(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        sse: bool,
        complete: bool,
    ) {
        for dialect in [
            Dialect::AnthropicMessages,
            Dialect::OpenAiResponses,
            Dialect::OpenAiChat,
            Dialect::GoogleGenerate,
        ] {
            let mut meter = Meter::new(dialect.into());
            meter.response_head(200, if sse { "text/event-stream" } else { "" }, None);
            for piece in &pieces {
                meter.request(piece);
                meter.response(piece);
            }
            let reading = meter.finish(complete);
            prop_assert!(reading.is_none_or(|reading| reading.usage == Usage::default()));
        }
    }
}
