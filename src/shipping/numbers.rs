//! What a home's records come to, as numbers for Prometheus.

use super::ShippingError;
use crate::export::{Metric, MetricKind};
use crate::model::NanoUsd;
use crate::store::{Home, SpendBy, SpendRow, Store, shipping_marks};
use std::collections::BTreeMap;

/// Most models that have numbers of their own; the cheaper ones are one, so that names from outside make no number of rows.
const MODELS_MAX: usize = 50;
/// What the rest is called.
const REST: &str = "other";

/// The numbers. Whatever has a label has few values of it: statuses, verdicts, kinds of tokens, models up to a bound, and places.
///
/// # Errors
/// When the records cannot be read.
pub fn numbers(home: &Home, store: &dyn Store) -> Result<Vec<Metric>, ShippingError> {
    let sessions = store.sessions()?;
    let (mut statuses, mut allowed, mut denied, mut refused, mut failed) = (BTreeMap::new(), 0u64, 0u64, 0u64, 0u64);
    for (summary, status) in &sessions {
        *statuses.entry(status.as_str().to_owned()).or_insert(0u64) += 1;
        allowed += summary.requests.allowed;
        denied += summary.requests.denied;
        refused += summary.requests.refused;
        failed += summary.requests.failed;
    }
    let counter = MetricKind::Counter;
    let verdicts = [("allowed".to_owned(), allowed), ("denied".to_owned(), denied)];
    let version = [(env!("CARGO_PKG_VERSION").to_owned(), 1)];
    let mut metrics = vec![
        Metric::by("omni_build_info", "The version of omni.", MetricKind::Gauge, "version", version),
        Metric::by(
            "omni_sessions",
            "Sessions, by what they are doing or how they ended.",
            MetricKind::Gauge,
            "status",
            statuses,
        ),
        Metric::by("omni_requests_total", "Requests, by what was decided.", counter, "verdict", verdicts),
        Metric::one("omni_requests_failed_total", "Requests that were allowed and got no answer.", counter, failed),
        Metric::one(
            "omni_connections_refused_total",
            "Connections and names that were refused before there was a request.",
            counter,
            refused,
        ),
        Metric::one("omni_ledger_entries_total", "Entries of the ledger.", counter, store.ledger_size()?),
    ];
    metrics.extend(of_models(store.spend(SpendBy::Model, None)?));
    metrics.extend(of_places(home, store)?);
    Ok(metrics)
}

/// Calls, tokens and cost of each model.
fn of_models(rows: Vec<SpendRow>) -> [Metric; 3] {
    let mut calls = BTreeMap::<String, u64>::new();
    let mut cost = BTreeMap::<String, NanoUsd>::new();
    let mut tokens = BTreeMap::<(String, &str), u64>::new();
    for (place, row) in rows.into_iter().enumerate() {
        let model = if place < MODELS_MAX { row.key } else { REST.to_owned() };
        *calls.entry(model.clone()).or_default() += row.calls;
        let sum = cost.entry(model.clone()).or_insert(NanoUsd::ZERO);
        *sum = sum.plus(row.cost);
        let kinds = [
            ("input", row.usage.input),
            ("cache_read", row.usage.cache_read),
            ("cache_write", row.usage.cache_write.saturating_add(row.usage.cache_write_long)),
            ("output", row.usage.output),
        ];
        for (kind, count) in kinds {
            *tokens.entry((model.clone(), kind)).or_default() += count;
        }
    }
    let tokens = tokens
        .into_iter()
        .map(|((model, kind), count)| (vec![("model", model), ("type", kind.to_owned())], count.to_string()));
    let cost = cost.into_iter().map(|(model, cost)| (model, cost.to_decimal()));
    [
        Metric::by("omni_model_calls_total", "Model calls.", MetricKind::Counter, "model", calls),
        Metric {
            name: "omni_model_tokens_total",
            help: "Tokens of model calls, each counted once.",
            kind: MetricKind::Counter,
            samples: tokens.collect(),
        },
        Metric::by(
            "omni_model_cost_usd_total",
            "What model calls cost, in US dollars.",
            MetricKind::Counter,
            "model",
            cost,
        ),
    ]
}

/// How far each place is that records are shipped to.
fn of_places(home: &Home, store: &dyn Store) -> Result<[Metric; 2], ShippingError> {
    let (marks, size) = (shipping_marks(home)?, store.ledger_size()?);
    let waiting: Vec<_> = marks.iter().map(|(name, mark)| (name.clone(), size.saturating_sub(mark.next))).collect();
    let seconds = marks.into_iter().filter_map(|(name, mark)| Some((name, mark.caught_up?.0.div_euclid(1_000_000))));
    Ok([
        Metric::by(
            "omni_shipping_waiting_entries",
            "Entries of the ledger that a place has not got yet.",
            MetricKind::Gauge,
            "place",
            waiting,
        ),
        Metric::by(
            "omni_shipping_caught_up_timestamp_seconds",
            "When nothing waited for a place, last.",
            MetricKind::Gauge,
            "place",
            seconds,
        ),
    ])
}
