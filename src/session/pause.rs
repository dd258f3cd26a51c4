//! Model calls that wait at a hard limit whose policy pauses: all of one policy by one question, until a person answers it or the
//! policy's window is over. Who waits is kept with the question.

use crate::meter::Budget;
use crate::model::{NanoUsd, Timestamp, Window};
use crate::policy::SpendPolicy;
use crate::proxy::Doubt;
use crate::store::Moment;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a call waits where no window of the clock's ends before.
const PAUSE_MAX: Duration = Duration::from_secs(86_400);

/// What waits, and what people made of it.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// In which of its windows a policy was when its calls began to wait, by its place in the session's list.
    since: BTreeMap<usize, i64>,
    raised: BTreeMap<usize, Raised>,
}

/// A limit that a person raised for as long as a window lasts.
#[derive(Debug)]
struct Raised {
    by: NanoUsd,
    window: i64,
}

/// The policy whose hard limit it is about, where it is.
pub(super) fn paused_by(doubt: Option<Doubt>) -> Option<usize> {
    match doubt {
        Some(Doubt::HardLimit(policy)) => Some(policy),
        _ => None,
    }
}

/// How long a call waits at this policy's limit, and whether waiting alone is of any use.
pub(super) fn lasts(policy: &SpendPolicy, now: Timestamp) -> (Duration, bool) {
    let left = policy.window.end(now, &policy.zone).map(|end| end.0.saturating_sub(now.0).max(0).cast_unsigned());
    (left.map_or(PAUSE_MAX, Duration::from_micros), left.is_some())
}

impl Pauses {
    /// Calls begin to wait.
    pub(super) fn begin(&mut self, policy: usize, window: i64) {
        self.since.insert(policy, window);
    }

    /// Whether a policy's calls wait for a window that is over.
    pub(super) fn has_turned_over(&self, policy: usize, window: i64) -> bool {
        self.since.get(&policy).is_some_and(|since| *since != window)
    }

    /// A person raises a limit by its own amount, as often as they say so; what it is then.
    pub(super) fn raise(&mut self, index: usize, policy: &SpendPolicy, window: i64) -> NanoUsd {
        let limit = policy.hard_limit.unwrap_or_default();
        let raised = self.raised.entry(index).or_insert(Raised { by: NanoUsd::ZERO, window });
        let before = if raised.window == window { raised.by } else { NanoUsd::ZERO };
        *raised = Raised { by: before.plus(limit), window };
        limit.plus(raised.by)
    }

    /// By how much limits are raised at this moment.
    pub(super) fn raised(&self, policies: &[SpendPolicy], moment: Moment) -> BTreeMap<usize, NanoUsd> {
        let numbered = policies.iter().enumerate();
        let raised = numbered.filter_map(|(index, policy)| {
            let raised = self.raised.get(&index).filter(|raised| raised.window == moment.window_of(policy))?;
            Some((index, raised.by))
        });
        raised.collect()
    }
}

/// Why a call waits.
pub(super) fn why((policy, budget): (&SpendPolicy, &Budget), used_up: &str) -> String {
    let hard = policy.hard_limit.unwrap_or_default();
    let until = match policy.window {
        Window::Session | Window::Turn => String::new(),
        window => format!(", or until the {window} is over"),
    };
    let held = if budget.held > NanoUsd::ZERO { format!(" ({} more is held)", budget.held) } else { String::new() };
    format!(
        "{used_up}{held}; it waits for a person's answer{until}: a yes lets what waits go beyond the limit, and one for the \
         session raises it by {hard}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RequestNumber;

    #[test]
    fn a_raised_limit_lasts_as_long_as_its_window() {
        let policy = SpendPolicy { window: Window::Turn, ..SpendPolicy::budget(NanoUsd(100)) };
        let at = |turn| Moment { at: Timestamp(0), turn: RequestNumber(turn) };
        let mut pauses = Pauses::default();
        assert_eq!(pauses.raise(0, &policy, at(1).window_of(&policy)), NanoUsd(200));
        assert_eq!(pauses.raise(0, &policy, at(1).window_of(&policy)), NanoUsd(300));
        assert_eq!(pauses.raised(std::slice::from_ref(&policy), at(1)), BTreeMap::from([(0, NanoUsd(200))]));
        assert_eq!(pauses.raised(std::slice::from_ref(&policy), at(7)), BTreeMap::new());
        assert_eq!(pauses.raise(0, &policy, at(7).window_of(&policy)), NanoUsd(200));
    }

    #[test]
    fn a_day_that_ends_is_waited_for_and_a_session_is_not() {
        let day = SpendPolicy { window: Window::Day, ..SpendPolicy::budget(NanoUsd(1)) };
        let now = Timestamp(86_400_000_000 - 5_000_000);
        assert_eq!(lasts(&day, now), (Duration::from_secs(5), true));
        assert_eq!(lasts(&SpendPolicy::budget(NanoUsd(1)), now), (PAUSE_MAX, false));
        let mut pauses = Pauses::default();
        pauses.begin(0, 5);
        assert!(pauses.has_turned_over(0, 6) && !pauses.has_turned_over(0, 5) && !pauses.has_turned_over(1, 6));
    }
}
