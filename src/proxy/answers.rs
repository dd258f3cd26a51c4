//! Which answers of vendors were counted in this session: one that is fetched again costs nothing again.

use crate::meter::Vendor;
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many answers are known again. Those of larger batches count again when they are fetched again.
const ANSWERS_MAX: usize = 262_144;
/// How much of the hash of its name stands for an answer: so much that no two share it.
const MARK_BYTES: usize = 16;

type Mark = [u8; MARK_BYTES];

/// What is known of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// It was asked for here, and what it used was not told by then.
    Asked,
    Counted,
}

/// The answers of a session.
#[derive(Default)]
pub(super) struct Answers(Mutex<HashMap<Mark, Known>>);

impl Answers {
    /// Notes that an answer was asked for here, and whether its usage was told with it.
    pub(super) fn asked(&self, vendor: Vendor, name: &str, told: bool) {
        let known = if told { Known::Counted } else { Known::Asked };
        self.with(vendor, name, |found| *found = (*found).max(Some(known)));
    }

    /// Whether an answer that was fetched is to be counted, which it is from now on: one that was not yet, and that was asked
    /// for here or is `apart`, made in the background or by a batch. What was asked for elsewhere and answered there was counted
    /// there.
    pub(super) fn count(&self, vendor: Vendor, name: &str, apart: bool) -> bool {
        self.with(vendor, name, |found| {
            let counts = match found {
                Some(Known::Counted) => false,
                Some(Known::Asked) => true,
                None => apart,
            };
            if counts {
                *found = Some(Known::Counted);
            }
            counts
        })
    }

    /// Changes what is known of an answer, unless there are too many, and gives what the change gives.
    fn with<T>(&self, vendor: Vendor, name: &str, change: impl FnOnce(&mut Option<Known>) -> T) -> T {
        let hash = digest(&SHA256, format!("{vendor} {name}").as_bytes());
        let mut mark = Mark::default();
        mark.copy_from_slice(&hash.as_ref()[..MARK_BYTES]);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = all.get(&mark).copied();
        let room = all.len() < ANSWERS_MAX || found.is_some();
        let changed = change(&mut found);
        if let Some(known) = found.filter(|_| room) {
            all.insert(mark, known);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_and_only_where_it_was_not_counted_before() {
        let answers = Answers::default();
        let fetched = |name, apart| answers.count(Vendor::OpenAi, name, apart);
        assert!(fetched("resp_1", true) && !fetched("resp_1", true));
        assert!(answers.count(Vendor::Azure, "resp_1", true), "another vendor's");
        answers.asked(Vendor::OpenAi, "resp_2", true);
        assert!(!fetched("resp_2", true), "told when it was asked for");
        answers.asked(Vendor::OpenAi, "resp_3", false);
        assert!(fetched("resp_3", false) && !fetched("resp_3", true), "broke off, and was fetched");
        assert!(!fetched("resp_4", false), "answered elsewhere");
        answers.asked(Vendor::OpenAi, "resp_1", false);
        assert!(!fetched("resp_1", true));
    }

    #[test]
    fn beyond_the_bound_nothing_is_known_again_and_all_counts() {
        let answers = Answers::default();
        (0..ANSWERS_MAX).for_each(|number| assert!(answers.count(Vendor::OpenAi, &number.to_string(), true)));
        assert!(!answers.count(Vendor::OpenAi, "0", true));
        assert!(answers.count(Vendor::OpenAi, "new", true) && answers.count(Vendor::OpenAi, "new", true));
    }
}
