//! Whether a call fits into budgets: arithmetic alone. What is spent and held is read, and what is decided written, in one
//! transaction by whoever calls this.

use crate::model::NanoUsd;

/// One budget as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What is never passed.
    pub hard: Option<NanoUsd>,
    /// From where on a person is asked.
    pub soft: Option<NanoUsd>,
    /// What calls that are over came to.
    pub spent: NanoUsd,
    /// What is set aside for calls that are not.
    pub held: NanoUsd,
    /// What the next call will probably cost, by those before.
    pub expected: NanoUsd,
}

/// What a call wants to set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// What it can cost at most.
    pub full: NanoUsd,
    /// With how little it can be made at all.
    pub least: NanoUsd,
    /// Whether soft limits do not count: a person said so.
    pub consented: bool,
}

/// What becomes of it. Budgets are named by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// So much is set aside for it.
    Hold(NanoUsd),
    /// There would be room if what is held by others came back.
    Wait(usize),
    /// A person must say.
    Ask(usize),
    /// There is no room.
    Refuse(usize),
}

impl Budget {
    /// What is left of it once all that is held is spent.
    fn left(&self) -> NanoUsd {
        let taken = self.spent.plus(self.held);
        self.hard.map_or(NanoUsd(i64::MAX), |hard| NanoUsd(hard.0.saturating_sub(taken.0)))
    }
}

/// Decides about a call. Never is more set aside than is left in the tightest budget, so spent and held together pass no hard
/// limit by what is admitted here.
#[must_use]
pub fn admit(budgets: &[Budget], wish: &Wish) -> Admission {
    let numbered = || budgets.iter().enumerate();
    let never = |budget: &Budget| budget.hard.is_some_and(|hard| budget.spent.plus(wish.least) > hard);
    if let Some((index, _)) = numbered().find(|(_, budget)| never(budget)) {
        return Admission::Refuse(index);
    }
    let asks = |budget: &Budget| budget.soft.is_some_and(|soft| budget.spent.plus(budget.expected) >= soft);
    if let Some((index, _)) = numbered().find(|(_, budget)| !wish.consented && asks(budget)) {
        return Admission::Ask(index);
    }
    // A whole hold is worth waiting for while others may give some back; where they do not, what is left must do.
    let tight = |budget: &Budget| budget.left() < wish.full && budget.held > NanoUsd::ZERO;
    if let Some((index, _)) = numbered().find(|(_, budget)| tight(budget)) {
        return Admission::Wait(index);
    }
    let left = budgets.iter().map(Budget::left).min().unwrap_or(NanoUsd(i64::MAX));
    Admission::Hold(wish.full.min(left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn budget(hard: i64, spent: i64, held: i64) -> Budget {
        Budget {
            hard: Some(NanoUsd(hard)),
            soft: None,
            spent: NanoUsd(spent),
            held: NanoUsd(held),
            expected: NanoUsd::ZERO,
        }
    }

    fn wish(full: i64, least: i64) -> Wish {
        Wish { full: NanoUsd(full), least: NanoUsd(least), consented: false }
    }

    #[test]
    fn a_call_waits_while_money_is_merely_held_and_is_refused_once_it_is_spent() {
        assert_eq!(admit(&[budget(100, 0, 0)], &wish(60, 10)), Admission::Hold(NanoUsd(60)));
        assert_eq!(admit(&[budget(100, 0, 60)], &wish(60, 10)), Admission::Wait(0));
        assert_eq!(admit(&[budget(100, 95, 0)], &wish(60, 10)), Admission::Refuse(0));
        // What is left is enough to begin with.
        assert_eq!(admit(&[budget(100, 60, 0)], &wish(60, 10)), Admission::Hold(NanoUsd(40)));
    }

    #[test]
    fn the_tightest_budget_counts_and_a_soft_limit_asks() {
        let wide = budget(1_000, 0, 0);
        assert_eq!(admit(&[wide, budget(100, 60, 0)], &wish(60, 10)), Admission::Hold(NanoUsd(40)));
        let soft = Budget { soft: Some(NanoUsd(50)), ..budget(100, 60, 0) };
        assert_eq!(admit(&[wide, soft], &wish(60, 10)), Admission::Ask(1));
        assert_eq!(admit(&[soft], &Wish { consented: true, ..wish(60, 10) }), Admission::Hold(NanoUsd(40)));
        let near = Budget { spent: NanoUsd(45), expected: NanoUsd(5), ..soft };
        assert_eq!(admit(&[near], &wish(60, 10)), Admission::Ask(0));
    }

    proptest! {
        /// Calls that come, end at whatever they cost within their hold, or are lost, in any order.
        #[test]
        fn spent_and_held_never_pass_a_hard_limit(
            hard in 1i64..1_000,
            acts in proptest::collection::vec((any::<bool>(), 1i64..300, 0usize..8, 0i64..300), 0..200),
        ) {
            let (mut spent, mut holds) = (0i64, Vec::<i64>::new());
            for (begins, full, which, cost) in acts {
                if begins {
                    let held: i64 = holds.iter().sum();
                    if let Admission::Hold(NanoUsd(amount)) = admit(&[budget(hard, spent, held)], &wish(full, full.min(5))) {
                        holds.push(amount);
                    }
                } else if which < holds.len() {
                    spent += cost.min(holds.swap_remove(which));
                }
                prop_assert!(spent + holds.iter().sum::<i64>() <= hard);
            }
        }
    }
}
