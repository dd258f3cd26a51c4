//! The price table, to the nano-dollar.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::table::EMBEDDED;
use super::*;
use crate::model::{NanoUsd, Pricing};
use proptest::prelude::*;

fn reading(model: &str, usage: Usage) -> Reading {
    let (terms, shares) = (Terms::default(), Vec::new());
    Reading { model: model.to_owned(), usage, certainty: Certainty::Final, terms, shares }
}

fn price(model: &str, usage: Usage) -> (NanoUsd, Pricing) {
    PriceTable::embedded().price(&reading(model, usage))
}

fn input(tokens: u64) -> Usage {
    Usage { input: tokens, ..Usage::default() }
}

#[test]
fn the_shipped_table_is_a_table() {
    let table = PriceTable::parse(EMBEDDED).unwrap();
    assert_eq!(table.version(), "2026-11-22");
    assert_eq!(PriceTable::embedded(), table);
    assert!(table.models().all(|prices| prices.rates.input > 0 && prices.rates.output > 0));
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
    let named = |name: &str| table.get(name).map(|prices| prices.model.as_str());
    assert_eq!(named("claude-sonnet-5-20260101"), Some("claude-sonnet-5"));
    assert_eq!(named("claude-opus-4-5-20251101"), Some("claude-opus-4-5"));
    assert_eq!(named("Claude-Haiku-4-5-latest"), Some("claude-haiku-4-5"));
    assert_eq!(named("claude-opus-4-5@20251101"), Some("claude-opus-4-5"));
    assert_eq!(named("gpt-5.5-2026-03-04"), Some("gpt-5.5"));
    for other in ["gpt-5.5-pro", "gpt-5", "claude-sonnet", "gpt-5.5-2026", "claude-sonnet-5-2026010", "", "-20260101"] {
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
fn an_unknown_model_costs_the_dearest_of_each_part() {
    assert_eq!(price("nobody-1", input(1)), (NanoUsd(10_000), Pricing::UnknownModel));
    assert_eq!(price("nobody-1", input(300_000)), (NanoUsd(300_000 * 20_000), Pricing::UnknownModel));
    let write = Usage { cache_write_long: 1, ..Usage::default() };
    assert_eq!(price("unknown", write), (NanoUsd(25_000), Pricing::UnknownModel));
}

#[test]
fn terms_multiply_and_round_up() {
    let with = |model: &str, tokens, terms| {
        PriceTable::embedded().price(&Reading { terms, ..reading(model, input(tokens)) }).0
    };
    let tier = |tier| Terms { tier, ..Terms::default() };
    assert_eq!(with("gpt-5.4", 2, tier(Tier::Priority)), NanoUsd(10_000));
    assert_eq!(with("gpt-5.5", 2, tier(Tier::Priority)), NanoUsd(25_000));
    assert_eq!(with("nobody-1", 2, tier(Tier::Priority)), NanoUsd(50_000));
    assert_eq!(with("gpt-5.3-codex", 1, tier(Tier::Flex)), NanoUsd(875));
    assert_eq!(with("gpt-6.1-sol", 1, tier(Tier::Ultrafast)), NanoUsd(12_000));
    let both = Terms { tier: Tier::Standard, fast: true, us_only: true };
    assert_eq!(with("claude-opus-5", 1, both), NanoUsd(11_000));
    let odd = Usage { cache_read: 1, ..Usage::default() };
    let reading = Reading { terms: tier(Tier::Batch), ..reading("claude-haiku-5-5", odd) };
    assert_eq!(PriceTable::embedded().price(&reading).0, NanoUsd(5));
}

#[test]
fn certainty_decides_how_a_cost_is_called() {
    let table = PriceTable::embedded();
    let of = |certainty, model| table.price(&Reading { certainty, ..reading(model, input(1)) });
    assert_eq!(of(Certainty::Partial, "claude-opus-5"), (NanoUsd(5_000), Pricing::Incomplete));
    assert_eq!(of(Certainty::Partial, "nobody-1"), (NanoUsd(10_000), Pricing::Incomplete));
    assert_eq!(of(Certainty::Unreadable, "claude-opus-5"), (NanoUsd::ZERO, Pricing::Unreadable));
}

#[test]
fn a_table_that_could_not_be_charged_by_is_refused() {
    let with = |from: &str, to: &str| PriceTable::parse(&EMBEDDED.replacen(from, to, 1));
    assert!(matches!(with("claude-opus-4-8", "claude-opus-4-7"), Err(PriceError::Twice(_))));
    assert!(matches!(with("[1, 2]", "[1, 0]"), Err(PriceError::Denominator)));
    assert!(matches!(with("\"web_search\"", "\"web_serach\""), Err(PriceError::Json(_))));
    assert!(matches!(with("\"input\": 500,", "\"input\": 99,"), Err(PriceError::Falling(_))));
    let empty = EMBEDDED.split_once("\"models\"").map(|(head, _)| format!("{head}\"models\": []}}")).unwrap();
    assert!(matches!(PriceTable::parse(&empty), Err(PriceError::Empty)));
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
        let table = PriceTable::embedded();
        let terms = Terms { tier, fast, us_only };
        let cost = |usage| table.price(&Reading { terms, ..reading(model, usage) }).0;
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
            let mut meter = Meter::new(dialect);
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
