//! One rule: which requests it is about, and what it says of them.
//!
//! `METHOD[,METHOD…]|* HOST[:PORT][/PATH] [KEY=VALUE…]`; HTTPS unless written `http://…`, the scheme's own port unless one
//! is written, and every path unless one is written. What follows are conditions and quota.

use super::condition::Particulars;
use super::error::Complaint;
use super::git_push::RefUpdate;
use super::matcher::Matcher;
use super::quota::Quota;
use crate::model::{Host, RequestLine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// What a rule says of the requests it matches, from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// They may go.
    Allow,
    /// They may go where another rule allows it, but only so much of them.
    Limit,
    /// A person must say.
    Ask,
    /// They may not go.
    Deny,
}

impl Effect {
    /// The effect that a word names.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        [Self::Allow, Self::Limit, Self::Ask, Self::Deny].into_iter().find(|effect| effect.as_str() == word)
    }

    /// The word it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Limit => "limit",
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenRule {
    /// What it says of the requests it matches.
    pub effect: Effect,
    /// The rule's text, without the effect.
    pub text: String,
    /// The line, from 1; 0 where it stands in no file.
    pub line: usize,
    /// The column of the text's first character, from 1.
    pub column: usize,
}

impl WrittenRule {
    /// A rule that stands in no file, such as one of the command line.
    #[must_use]
    pub fn alone(effect: Effect, text: &str) -> Self {
        Self { effect, text: text.to_owned(), line: 0, column: 1 }
    }

    pub(super) fn complaint(&self, offset: usize, message: impl Into<String>, hint: impl Into<String>) -> Complaint {
        let (message, hint) = (message.into(), Some(hint.into()));
        Complaint { line: self.line.max(1), column: self.column + offset, message, hint }
    }
}

/// A rule that was understood. Its text form is its effect and the canonical form of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    effect: Effect,
    level: Level,
    label: String,
    line: usize,
    written: String,
    matcher: Matcher,
    quota: Quota,
    canonical: Arc<str>,
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

    /// Where it stands: its file with the line, or where else it comes from.
    #[must_use]
    pub fn place(&self) -> String {
        if self.line == 0 { self.label.clone() } else { format!("{}:{}", self.label, self.line) }
    }

    /// How much it lets through.
    #[must_use]
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Its canonical form, with the effect.
    pub(super) fn canonical(&self) -> &Arc<str> {
        &self.canonical
    }

    pub(super) fn matcher(&self) -> &Matcher {
        &self.matcher
    }

    /// Its text as written, without the effect.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.written
    }

    /// Whether it is about this request. Where servers could read a path in several ways, what is allowed must be so in
    /// each, and what is refused, asked about or limited is so in any. A push is judged for each reference it changes.
    #[must_use]
    pub fn matches(&self, line: &RequestLine, by: &Particulars<'_>, update: Option<&RefUpdate>) -> bool {
        self.matches_where(line, |strictly| self.matcher.conditions_are_met(by, update, strictly))
    }

    /// The same where these say whether its conditions are met, which they may be told to be strict about.
    fn matches_where(&self, line: &RequestLine, conditions: impl Fn(bool) -> bool) -> bool {
        let strictly = self.effect == Effect::Allow;
        if line.scheme.is_opaque() && self.limits_unread() {
            return self.matcher.concerns_place(&line.host, line.port);
        }
        let about = match strictly {
            true => self.matcher.matches(line) && self.matcher.matches_decoded(line),
            false => self.matcher.matches(line) || self.matcher.matches_another_reading(line),
        };
        about && conditions(strictly)
    }

    /// What of requests it asks about that no record holds, in a person's words.
    pub(super) fn unrecorded(&self) -> BTreeSet<String> {
        self.matcher.unrecorded()
    }

    /// Whether it would be about this request if what no record holds were as it asks.
    pub(super) fn could_match(&self, line: &RequestLine, by: &Particulars<'_>, update: Option<&RefUpdate>) -> bool {
        self.matches_where(line, |strictly| self.matcher.recorded_conditions_are_met(by, update, strictly))
    }

    /// Whether it limits all requests of its hosts and ports, and with them connections that are not read: nothing else is
    /// known of those than what it counts.
    pub(super) fn limits_unread(&self) -> bool {
        self.effect == Effect::Limit && self.matcher.is_about_everything()
    }

    /// Whether some request to this host matches.
    #[must_use]
    pub fn concerns(&self, host: &Host) -> bool {
        self.matcher.concerns(host)
    }

    /// Understands a written rule.
    pub(super) fn parse(level: Level, label: &str, written: &WrittenRule) -> Result<Self, Complaint> {
        let (matcher, quota) = Matcher::parse(written)?;
        if written.effect == Effect::Allow
            && let Some(message) = matcher.too_wide_to_allow()
        {
            return Err(written.complaint(0, message, "name the hosts that are needed, or use `ask`"));
        }
        if written.effect == Effect::Allow && matcher.covers_loopback_unnamed() {
            let message = "the pattern covers this machine's own services";
            return Err(written.complaint(0, message, "name the hosts, and open own services by `host_port: PORT`"));
        }
        match (written.effect, quota.is_none()) {
            (Effect::Limit, true) => {
                let hint = "add `upload=10MiB`, `download=1GiB`, `rate=60/min` or the like behind it";
                return Err(written.complaint(0, "the rule limits nothing", hint));
            }
            (Effect::Ask | Effect::Deny, false) => {
                let message = format!("`{}` lets nothing through that could be limited", written.effect);
                return Err(written.complaint(0, message, "write the limit as a rule of its own, with `limit:`"));
            }
            _ => {}
        }
        let (text, label) = (written.text.trim().to_owned(), label.to_owned());
        let canonical = format!("{} {matcher}{quota}", written.effect).into();
        Ok(Self { effect: written.effect, level, label, line: written.line, written: text, matcher, quota, canonical })
    }

    /// What rules are ordered by: the strictest first, then the widest level, then the text.
    pub(super) fn rank(&self) -> impl Ord + '_ {
        (std::cmp::Reverse(self.effect), &self.matcher, &self.quota, self.level, &self.label, self.line, &self.written)
    }

    /// Whether two rules say the same of the same requests.
    pub(super) fn means(&self, other: &Self) -> bool {
        self.effect == other.effect && self.matcher == other.matcher && self.quota == other.quota
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical)
    }
}
