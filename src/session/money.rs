//! What a person is told about budgets, and when.

use crate::meter::Budget;
use crate::model::{NanoUsd, Window, printable};
use crate::policy::{OnSoftLimit, SpendPolicy};

/// The parts of a budget at which it is told, in per cent.
const ALERTS: [u32; 3] = [50, 80, 100];

type Found<'a> = (&'a SpendPolicy, &'a Budget);

/// The parts of a budget that are spent.
pub(super) fn alerts(policy: &SpendPolicy, budget: &Budget) -> Vec<u32> {
    let Some(NanoUsd(limit)) = policy.hard_limit.or(policy.soft_limit) else { return Vec::new() };
    let reached = |percent: &u32| i128::from(budget.spent.0) * 100 >= i128::from(limit) * i128::from(*percent);
    ALERTS.into_iter().filter(reached).collect()
}

/// The policies whose soft limit is only told.
pub(super) fn that_only_tell(policies: &[SpendPolicy]) -> impl Iterator<Item = usize> {
    let tells = |policy: &SpendPolicy| policy.on_soft_limit == OnSoftLimit::Notify;
    policies.iter().enumerate().filter(move |(_, policy)| tells(policy)).map(|(index, _)| index)
}

/// The policies beyond whose soft limit calls of this model go on, since it is the one that they are sent to.
pub(super) fn that_go_on_with(policies: &[SpendPolicy], model: &str) -> impl Iterator<Item = usize> {
    let goes_on = move |policy: &SpendPolicy| policy.downgrade_to.as_deref() == Some(model);
    policies.iter().enumerate().filter(move |(_, policy)| goes_on(policy)).map(|(index, _)| index)
}

/// Why a model without a price is not simply called.
pub(super) fn unknown(policy: &SpendPolicy, model: &str) -> String {
    let model = printable(model);
    format!(
        "the price of the model `{model}` is not known, and the budget `{}` minds that; `omni prices show {model}` tells what \
         is known, and prices.yaml takes a price of your own",
        policy.name
    )
}

/// Why a call waits.
pub(super) fn busy((policy, budget): Found<'_>) -> String {
    format!(
        "calls under way hold {} of the budget `{}`, and what they leave did not come back in time",
        budget.held, policy.name
    )
}

/// Why a person must say.
pub(super) fn soft((policy, budget): Found<'_>) -> String {
    let soft = policy.soft_limit.unwrap_or_default();
    let hard = policy.hard_limit.map_or_else(String::new, |hard| format!(", and at {hard} it ends"));
    format!(
        "{} is spent{}, and from {soft} on the budget `{}` wants a person's answer{hard}",
        budget.spent,
        when(policy),
        policy.name
    )
}

/// Why nothing goes any more.
pub(super) fn hard((policy, budget): Found<'_>, least: NanoUsd) -> String {
    let hard = policy.hard_limit.unwrap_or_default();
    format!(
        "the budget `{}` is used up: {} of {hard} is spent{}, and this call could cost {least} or more",
        policy.name,
        budget.spent,
        when(policy)
    )
}

fn when(policy: &SpendPolicy) -> String {
    match policy.window {
        Window::Session => String::new(),
        window => format!(" in this {window} by the {}", policy.scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_told_of_in_parts() {
        let policy = SpendPolicy::budget(NanoUsd(100));
        let spent = |spent| {
            let (hard, soft, held, expected) = (policy.hard_limit, None, NanoUsd::ZERO, NanoUsd::ZERO);
            alerts(&policy, &Budget { hard, soft, spent: NanoUsd(spent), held, expected })
        };
        assert_eq!(spent(49), Vec::<u32>::new());
        assert_eq!(spent(80), [50, 80]);
        assert_eq!(spent(i64::MAX), [50, 80, 100]);
    }
}
