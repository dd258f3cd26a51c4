//! Rules become a policy, and a policy judges requests.

use super::error::{Complaint, PolicyErrors, refuse_any};
use super::matcher::{Matcher, is_method};
use super::rule::{Effect, Level, Rule, WrittenRule};
use super::verdict::{Grant, Question, Refusal, RequestFacts, Verdict};
use crate::model::{Host, RequestLine, Scheme};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// What the hashed text of a policy begins with, so that it is taken for nothing else.
const HASH_DOMAIN: &str = "omni policy 1\n";

/// Rules of one origin.
#[derive(Debug, Clone, Copy)]
pub struct RuleSource<'a> {
    /// Who they come from.
    pub level: Level,
    /// The file's name, or where else they come from, such as `--allow`.
    pub label: &'a str,
    /// The rules.
    pub rules: &'a [WrittenRule],
}

/// A compiled set of rules: canonical, immutable, cheap to clone. The order of what it was made from changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Sorted, the strictest first, with no two of the same meaning.
    rules: Arc<[Rule]>,
}

impl Policy {
    /// Compiles rules of any number of origins.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, each with its place and a hint.
    pub fn compile(sources: &[RuleSource<'_>]) -> Result<Self, PolicyErrors> {
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for source in sources {
            let mut complaints: Vec<Complaint> = Vec::new();
            for written in source.rules {
                match Rule::parse(source.level, source.label, written) {
                    Ok(rule) => rules.push(rule),
                    Err(complaint) => complaints.push(complaint),
                }
            }
            if let Err(PolicyErrors(more)) = refuse_any(source.label, complaints) {
                errors.extend(more);
            }
        }
        if !errors.is_empty() {
            return Err(PolicyErrors(errors));
        }
        rules.sort_by(|a, b| a.rank().cmp(&b.rank()));
        rules.dedup_by(|later, earlier| later.means(earlier));
        Ok(Self { rules: rules.into() })
    }

    /// Judges one request: the strictest rule that matches decides, and what no rule matches is refused.
    pub fn decide(&self, facts: RequestFacts) -> Verdict {
        let RequestFacts { line, disagreement } = facts;
        if let Some(names) = disagreement {
            let reason = format!("{} and {} are not the same host", names.first, names.second);
            return Verdict::Deny(Refusal { line, rule: None, reason, rule_to_add: None });
        }
        let Some(rule) = self.matching(&line).next() else {
            let reason = format!("no rule allows {}", url_line(&line));
            let rule_to_add = rule_to_add(&line);
            return Verdict::Deny(Refusal { line, rule: None, reason, rule_to_add });
        };
        let text = rule.text().to_owned();
        match rule.effect() {
            Effect::Allow => Verdict::Allow(Grant::new(line, text)),
            Effect::Ask => Verdict::Ask(Question { line, rule: text }),
            Effect::Deny => {
                let reason = format!("the rule `{rule}` of the {} ({}) refuses it", rule.level(), rule.label());
                Verdict::Deny(Refusal { line, rule: Some(text), reason, rule_to_add: None })
            }
        }
    }

    /// The rules that match a request, the one that decides first.
    pub fn matching<'a>(&'a self, line: &'a RequestLine) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.matches(line))
    }

    /// The rules that match some request to a host, the strictest first.
    pub fn concerning<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.concerns(host))
    }

    /// All rules, the strictest first.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The SHA-256, in hexadecimal, of the canonical rules. Two policies of the same rules have the same hash,
    /// however, wherever and in whatever order these were written.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut lines: Vec<String> = self.rules.iter().map(ToString::to_string).collect();
        lines.sort_unstable();
        let digest = Sha256::digest(format!("{HASH_DOMAIN}{}\n", lines.join("\n")));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A request as a person reads it.
pub(super) fn url_line(line: &RequestLine) -> String {
    format!("{} {}://{}{}", line.method, line.scheme, authority(line), line.path)
}

/// Host and port, the port only where it is not the scheme's own.
fn authority(line: &RequestLine) -> String {
    if line.port == line.scheme.default_port() { line.host.to_string() } else { format!("{}:{}", line.host, line.port) }
}

/// The narrowest rule text that would allow a request to a name. Addresses get none: what is reached by address should
/// be named, or opened by a person who knows what it is.
fn rule_to_add(line: &RequestLine) -> Option<String> {
    if !matches!(line.host, Host::Name(_)) {
        return None;
    }
    let scheme = if line.scheme == Scheme::Http { "http://" } else { "" };
    let method = if is_method(&line.method) { line.method.as_str() } else { "*" };
    let allows = |text: &String| {
        let matcher = Matcher::parse(&WrittenRule::alone(Effect::Allow, text));
        matcher.is_ok_and(|matcher| matcher.matches(line) && matcher.matches_decoded(line))
    };
    let rule = |path: &str| format!("{method} {scheme}{}{path}", authority(line));
    [rule(&line.path), rule("/**")].into_iter().find(allows)
}
