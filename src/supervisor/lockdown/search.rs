//! What a filter says to a system call by its number alone, as a search tree.
//!
//! A list of comparisons is read from its beginning at each call whose arguments matter, such as opening a file, and the
//! kernel reads it some hundreds of times while it takes it in. A tree of the same answers is read in seven steps.

use super::bpf;
use seccompiler::{BpfProgram, sock_filter};
use std::collections::BTreeMap;
use std::io;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is carried out.
    Allow,
    /// It fails with this error (errno(3)).
    Fail(i32),
    /// It waits for whoever holds the listener.
    Ask,
    /// Its arguments decide, in the program that follows.
    Look,
}

/// One answer to all numbers from `first` to the next range's.
struct Range {
    first: u32,
    answer: Answer,
}

/// The program that answers by the number in the accumulator: what `answers` says, [`Answer::Allow`] for other numbers up to
/// `newest`, and as unknown from there on. Where arguments decide, it goes on at its end.
///
/// # Errors
/// When a part of the tree is larger than a jump can be.
pub(super) fn tree(answers: &BTreeMap<u32, Answer>, newest: u32) -> io::Result<BpfProgram> {
    let ranges = ranges(answers, newest);
    let mut program = Vec::new();
    let mut looks = Vec::new();
    emit(&ranges, &mut program, &mut looks)?;
    let end = program.len();
    for place in looks {
        program[place].k = u32::try_from(end - place - 1).map_err(io::Error::other)?;
    }
    Ok(program)
}

fn ranges(answers: &BTreeMap<u32, Answer>, newest: u32) -> Vec<Range> {
    let after = newest.saturating_add(1);
    let mut ranges = Vec::new();
    let mut next = 0;
    let mut add = |first, answer| match ranges.last() {
        Some(Range { answer: last, .. }) if *last == answer => {}
        _ => ranges.push(Range { first, answer }),
    };
    for (number, answer) in answers.range(..after) {
        if *number > next {
            add(next, Answer::Allow);
        }
        add(*number, *answer);
        next = number + 1;
    }
    if next < after {
        add(next, Answer::Allow);
    }
    add(after, Answer::Fail(libc::ENOSYS));
    ranges
}

/// Writes the tree of some ranges. The places of what goes on at the end are noted, since the end is not known yet.
fn emit(ranges: &[Range], program: &mut BpfProgram, looks: &mut Vec<usize>) -> io::Result<()> {
    let (lower, upper) = match ranges {
        [] => return Ok(()),
        [Range { answer, .. }] => {
            if *answer == Answer::Look {
                looks.push(program.len());
            }
            program.push(instruction(*answer));
            return Ok(());
        }
        several => several.split_at(several.len() / 2),
    };
    let place = program.len();
    program.push(bpf::at_least(upper[0].first, 0, 0));
    emit(lower, program, looks)?;
    program[place].jt = u8::try_from(program.len() - place - 1).map_err(io::Error::other)?;
    emit(upper, program, looks)
}

fn instruction(answer: Answer) -> sock_filter {
    match answer {
        Answer::Allow => bpf::answer(libc::SECCOMP_RET_ALLOW),
        Answer::Fail(errno) => bpf::answer(libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        Answer::Ask => bpf::answer(libc::SECCOMP_RET_USER_NOTIF),
        Answer::Look => bpf::jump(0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the tree says to a number: an answer's instruction, or none where it goes on.
    fn run(program: &BpfProgram, number: u32) -> Option<u32> {
        let mut at = 0;
        while at < program.len() {
            let step = &program[at];
            at += 1;
            match step {
                step if *step == bpf::answer(step.k) => return Some(step.k),
                step if *step == bpf::jump(step.k) => at += step.k as usize,
                step => at += usize::from(if number >= step.k { step.jt } else { step.jf }),
            }
        }
        assert_eq!(at, program.len());
        None
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(Answer::Allow),
            Just(Answer::Fail(1)),
            Just(Answer::Fail(38)),
            Just(Answer::Ask),
            Just(Answer::Look)
        ]
    }

    proptest! {
        #[test]
        fn a_tree_says_what_the_list_says(
            answers in prop::collection::btree_map(0u32..500, any_answer(), 0..120),
            newest in 0u32..500,
        ) {
            let program = tree(&answers, newest).unwrap();
            for number in (0..600).chain([1 << 30, u32::MAX]) {
                let listed = answers.get(&number).copied().unwrap_or(Answer::Allow);
                let expected = if number > newest { Answer::Fail(libc::ENOSYS) } else { listed };
                let expected = (expected != Answer::Look).then(|| instruction(expected).k);
                prop_assert_eq!(run(&program, number), expected, "{}", number);
            }
        }
    }
}
