//! What goes into a decision, and what comes out.

use super::quota::Quota;
use crate::model::RequestLine;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Everything a decision about one request rests on, in canonical form. Built in one place, in the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The canonical request line.
    pub line: RequestLine,
    /// Names of the request that contradict each other; any such contradiction refuses it.
    pub disagreement: Option<Disagreement>,
}

/// Two names of one request that should be the same and are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// What the first name is, such as `the name asked of DNS`.
    pub first: String,
    /// What the second name is, such as `the Host header`.
    pub second: String,
}

/// The outcome of a decision.
#[must_use = "a verdict that is not acted on is a request that was not judged"]
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go: hand the grant to the upstream.
    Allow(Grant),
    /// A person must say.
    Ask(Question),
    /// It may not.
    Deny(Refusal),
}

/// The permission to send one request. Only a policy makes one, nothing copies it, and the upstream consumes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    line: RequestLine,
    rule: NamedRule,
    quota: Vec<(Arc<str>, Quota)>,
    also: Vec<String>,
    asked_by: BTreeSet<String>,
}

/// The rule that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRule {
    /// As written, without its effect.
    pub text: String,
    /// Whose rule it is and where it stands, such as `profile claude-code:12`.
    pub from: String,
}

impl Grant {
    pub(super) fn new(line: RequestLine, rule: NamedRule, quota: Vec<(Arc<str>, Quota)>, also: Vec<String>) -> Self {
        Self { line, rule, quota, also, asked_by: BTreeSet::new() }
    }

    /// The rules that asked, each in its canonical form, where a person said yes.
    #[must_use]
    pub fn asked_by(&self) -> &BTreeSet<String> {
        &self.asked_by
    }

    /// The other rules and conditions that are about it, each with its effect and where it stands.
    #[must_use]
    pub fn also(&self) -> &[String] {
        &self.also
    }

    /// What it and others cap, each by the rule in its canonical form.
    pub(super) fn quota(&self) -> &[(Arc<str>, Quota)] {
        &self.quota
    }

    /// Whose the rule is that allowed it, and where it stands.
    #[must_use]
    pub fn rule_from(&self) -> &str {
        &self.rule.from
    }

    /// What may be sent.
    #[must_use]
    pub fn line(&self) -> &RequestLine {
        &self.line
    }

    /// The rule that allowed it, as written.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule.text
    }
}

/// A request that a rule wants a person's answer for.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// What is to be sent.
    pub line: RequestLine,
    /// The strictest rule that asks.
    pub rule: NamedRule,
    /// Every rule that asks about it, each in its canonical form: a yes to some of them is none to the others.
    pub asked_by: BTreeSet<String>,
    /// The narrowest rules that together are about this request; none where it cannot be told from others by a rule.
    pub covers: Vec<String>,
    /// The hash of the policy that asks.
    pub policy: String,
    /// The other rules and conditions that are about it, each with its effect and where it stands.
    pub also: Vec<String>,
    quota: Vec<(Arc<str>, Quota)>,
}

impl Question {
    pub(super) fn new(
        line: RequestLine,
        rule: NamedRule,
        asked_by: BTreeSet<String>,
        covers: Vec<String>,
        policy: String,
        quota: Vec<(Arc<str>, Quota)>,
        also: Vec<String>,
    ) -> Self {
        Self { line, rule, asked_by, covers, policy, also, quota }
    }

    /// The permission, now that a person said yes to what these rules ask; nothing where another asks, too.
    ///
    /// # Errors
    /// The question, which is still open.
    pub fn consented(self: Box<Self>, asked_by: &BTreeSet<String>) -> Result<Grant, Box<Self>> {
        match self.asked_by.is_subset(asked_by) {
            true => {
                let Self { line, rule, quota, also, asked_by, .. } = *self;
                Ok(Grant { line, rule, quota, also, asked_by })
            }
            false => Err(self),
        }
    }
}

/// Why a request may not go.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was to be sent.
    pub line: RequestLine,
    /// The rule that refused it; none when no rule matched.
    pub rule: Option<NamedRule>,
    /// The other rules and conditions that are about it, each with its effect and where it stands.
    pub also: Vec<String>,
    /// Why, for a person.
    pub reason: String,
    /// The rule text that would allow it, such as `GET example.com/`; none where no rule could.
    pub rule_to_add: Option<String>,
}
