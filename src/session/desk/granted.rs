//! What people said yes to for the rest of the session.
//!
//! The proxy judges by it from when it hears of it on. A request that it judged a moment before asks nevertheless, and is
//! answered from here: nobody is asked about what they said a moment ago.

use super::questions::remember;
use crate::proxy::{Doubt, Inquiry};
use std::collections::{BTreeSet, VecDeque};

/// The answers, each with who gave it; the oldest is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Granted(VecDeque<(Inquiry, String)>);

impl Granted {
    /// Somebody said yes to requests like this one.
    pub(super) fn keep(&mut self, inquiry: &Inquiry, by: &str) {
        remember(&mut self.0, (inquiry.clone(), by.to_owned()));
    }

    /// Who said yes to requests like this one. What a policy on money doubts counts as long as it is waived: a limit that was
    /// raised can be reached again.
    pub(super) fn to(&self, inquiry: &Inquiry, waived: &BTreeSet<Doubt>) -> Option<&str> {
        let counts = inquiry.doubt.is_none_or(|doubt| waived.contains(&doubt));
        let mut alike = self.0.iter().filter(|(answered, _)| counts && is_alike(inquiry, answered));
        alike.next().map(|(_, by)| by.as_str())
    }
}

/// Whether an answer to requests of a kind is one to this.
pub(super) fn is_alike(inquiry: &Inquiry, answered: &Inquiry) -> bool {
    let within = |all: &[String], some: &[String]| !some.is_empty() && some.iter().all(|one| all.contains(one));
    match (inquiry.doubt, answered.doubt) {
        (Some(doubt), Some(other)) => doubt == other,
        (None, None) => within(&answered.covers, &inquiry.covers) && within(&answered.asked_by, &inquiry.asked_by),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::RequestNumber;

    fn inquiry(asked_by: &[&str], covers: &[&str], doubt: Option<Doubt>) -> Inquiry {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        Inquiry {
            request: RequestNumber(1),
            what: String::new(),
            why: String::new(),
            rule: None,
            asked_by: owned(asked_by),
            covers: owned(covers),
            preview: String::new(),
            digest: String::new(),
            doubt,
        }
    }

    #[test]
    fn what_was_judged_before_the_answer_was_heard_is_answered_by_it_and_nothing_else_is() {
        let (mut granted, mut waived) = (Granted::default(), BTreeSet::new());
        let asked = inquiry(&["a", "b"], &["POST x"], None);
        assert_eq!(granted.to(&asked, &waived), None);
        granted.keep(&asked, "ann");
        assert_eq!(granted.to(&asked, &waived), Some("ann"));
        assert_eq!(granted.to(&inquiry(&["a"], &["POST x"], None), &waived), Some("ann"));
        for (asked_by, covers) in [
            (&["a", "c"][..], &["POST x"][..]),
            (&["a"], &["GET x"]),
            (&["a"], &["POST x", "GET x"]),
            (&[], &["POST x"]),
            (&["a"], &[]),
        ] {
            assert_eq!(granted.to(&inquiry(asked_by, covers, None), &waived), None, "{asked_by:?} {covers:?}");
        }
        let (soft, hard) = (Doubt::SoftLimit(0), Doubt::HardLimit(0));
        for doubt in [soft, hard] {
            granted.keep(&inquiry(&[], &[], Some(doubt)), "bob");
            assert_eq!(granted.to(&inquiry(&[], &[], Some(doubt)), &waived), None, "nothing is waived");
        }
        waived.insert(soft);
        assert_eq!(granted.to(&inquiry(&[], &[], Some(soft)), &waived), Some("bob"));
        assert_eq!(granted.to(&inquiry(&[], &[], Some(hard)), &waived), None, "a raised limit can be reached again");
        assert_eq!(granted.to(&inquiry(&[], &[], Some(Doubt::SoftLimit(1))), &waived), None);
    }
}
