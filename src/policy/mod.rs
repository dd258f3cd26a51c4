//! Decisions: profiles and policy files as written become a compiled [`Policy`], and a policy judges requests.
//!
//! Pure. Only [`Policy::compile`] makes a policy, and only [`Policy::decide`] makes a [`Grant`].

mod verdict;

pub use verdict::{Disagreement, Grant, Question, Refusal, RequestFacts, Verdict};
