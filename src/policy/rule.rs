//! One rule: which requests it is about, and what it says of them.
//!
//! `METHOD[,METHOD…]|* HOST[:PORT][/PATH]`; HTTPS unless written `http://…`, the scheme's own port unless one is
//! written, and every path unless one is written.

use super::error::Complaint;
use super::matcher::Matcher;
use crate::model::{Host, RequestLine};
use std::fmt;

/// What a rule says of the requests it matches, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// They may go.
    Allow,
    /// A person must say.
    Ask,
    /// They may not go.
    Deny,
}

impl Effect {
    /// The word it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who a rule comes from, from the widest to the narrowest. It never changes a verdict, only who is named for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The organisation.
    Organisation,
    /// The project.
    Project,
    /// The profile of the harness.
    Profile,
    /// The command line of one session.
    Session,
}

impl Level {
    /// The level's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Project => "project",
            Self::Profile => "profile",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rule as a person wrote it, not yet understood, with the place of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRule {
    /// What it says of the requests it matches.
    pub effect: Effect,
    /// The rule's text, without the effect.
    pub text: String,
    /// The line, from 1.
    pub line: usize,
    /// The column of the text's first character, from 1.
    pub column: usize,
}

impl WrittenRule {
    /// A rule that stands in no file, such as one of the command line.
    #[must_use]
    pub fn alone(effect: Effect, text: &str) -> Self {
        Self { effect, text: text.to_owned(), line: 1, column: 1 }
    }

    pub(super) fn complaint(&self, offset: usize, message: impl Into<String>, hint: impl Into<String>) -> Complaint {
        let (message, hint) = (message.into(), Some(hint.into()));
        Complaint { line: self.line, column: self.column + offset, message, hint }
    }
}

/// A rule that was understood. Its text form is its effect and the canonical form of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    effect: Effect,
    level: Level,
    label: String,
    written: String,
    matcher: Matcher,
}

impl Rule {
    /// What it says.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// Who says it.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The file it comes from, or where else.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its text as written, without the effect.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.written
    }

    /// Whether it is about this request. Where servers could read a path in several ways, what is allowed must be so in
    /// each, and what is refused or asked about is so in any.
    #[must_use]
    pub fn matches(&self, line: &RequestLine) -> bool {
        match self.effect {
            Effect::Allow => self.matcher.matches(line) && self.matcher.matches_decoded(line),
            Effect::Ask | Effect::Deny => self.matcher.matches(line) || self.matcher.matches_another_reading(line),
        }
    }

    /// Whether some request to this host matches.
    #[must_use]
    pub fn concerns(&self, host: &Host) -> bool {
        self.matcher.concerns(host)
    }

    /// Understands a written rule.
    pub(super) fn parse(level: Level, label: &str, written: &WrittenRule) -> Result<Self, Complaint> {
        let matcher = Matcher::parse(written)?;
        if written.effect == Effect::Allow
            && let Some(message) = matcher.too_wide_to_allow()
        {
            return Err(written.complaint(0, message, "name the hosts that are needed, or use `ask`"));
        }
        let text = written.text.trim().to_owned();
        Ok(Self { effect: written.effect, level, label: label.to_owned(), written: text, matcher })
    }

    /// What rules are ordered by: the strictest first, then the widest level, then the text.
    pub(super) fn rank(&self) -> impl Ord + '_ {
        (std::cmp::Reverse(self.effect), &self.matcher, self.level, &self.label, &self.written)
    }

    /// Whether two rules say the same of the same requests.
    pub(super) fn means(&self, other: &Self) -> bool {
        self.effect == other.effect && self.matcher == other.matcher
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.effect, self.matcher)
    }
}
