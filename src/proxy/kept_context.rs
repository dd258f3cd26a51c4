//! How long the conversations are that a vendor keeps: a call that goes on from one names it, and pays for all of it again.

use crate::meter::Asked;
use crate::model::Usage;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How many answers are remembered. Each is gone on from at once or not at all.
const ANSWERS_MAX: usize = 1024;
/// Longest name that is remembered, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// What counts for a conversation of which nothing is known, in tokens: the longest that any of OpenAI's models reads.
const UNKNOWN_TOKENS: u64 = 1_050_000;

/// What is known of them.
#[derive(Default)]
pub(super) struct KeptContexts(Mutex<Known>);

#[derive(Default)]
struct Known {
    tokens: BTreeMap<String, u64>,
    order: VecDeque<String>,
}

impl KeptContexts {
    /// An answer came, and whoever goes on from it goes on from so many tokens.
    pub(super) fn note(&self, answer: &str, tokens: u64) {
        if answer.len() > NAME_BYTES_MAX {
            return;
        }
        let Known { tokens: known, order } = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.insert(answer.to_owned(), tokens).is_some() {
            return;
        }
        order.push_back(answer.to_owned());
        if order.len() > ANSWERS_MAX
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    /// How many tokens a call goes on from, beside those of its body.
    pub(super) fn before(&self, asked: &Asked) -> u64 {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &asked.previous {
            Some(answer) => known().tokens.get(answer).copied().unwrap_or(UNKNOWN_TOKENS),
            None if asked.conversation => UNKNOWN_TOKENS,
            None => 0,
        }
    }
}

/// How many tokens whoever goes on from an answer pays for.
pub(super) fn tokens(usage: &Usage) -> u64 {
    usage.prompt().saturating_add(usage.output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_on_from_counts_and_what_is_not_known_counts_as_the_longest() {
        let contexts = KeptContexts::default();
        let after = |answer: &str| Asked { previous: Some(answer.to_owned()), ..Asked::default() };
        contexts.note("resp_0", 7);
        contexts.note("resp_0", 8);
        let conversation = Asked { conversation: true, ..Asked::default() };
        let before =
            [Asked::default(), after("resp_0"), after("resp_1"), conversation].map(|asked| contexts.before(&asked));
        assert_eq!(before, [0, 8, UNKNOWN_TOKENS, UNKNOWN_TOKENS]);
        (1..=ANSWERS_MAX).for_each(|number| contexts.note(&format!("resp_{number}"), 1));
        assert_eq!([after("resp_0"), after("resp_1")].map(|asked| contexts.before(&asked)), [UNKNOWN_TOKENS, 1]);
    }
}
