//! Clauses: conditions in CEL, and what becomes of requests for which they hold. What rules let through they ask about or
//! refuse; they never allow. A condition that has no value refuses.

use super::cel::{Cel, CelError, Facts};
use super::compile::each;
use super::condition::Particulars;
use super::document::{Fields, Node, Value, list, text};
use super::error::{Complaint, hint_of};
use super::rule::{Effect, Level, Rule, WrittenRule};
use super::verdict::NamedRule;
use crate::model::{Host, Port, RequestLine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// The keys of the type, beyond `name` and `type`.
pub(super) const KEYS: &[&str] = &["condition", "effect", "rule"];
/// What can become of a request.
const EFFECTS: [&str; 2] = ["ask", "deny"];

/// A clause as a person wrote it, with the place of its condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenClause {
    /// What it is called.
    pub name: String,
    /// What becomes of a request for which it holds: `Ask` or `Deny`.
    pub effect: Effect,
    /// Its condition.
    pub text: String,
    /// The requests that it is about, as rules; none is all.
    pub about: Vec<WrittenRule>,
    /// The line, from 1.
    pub line: usize,
    /// The column of the condition's first character, from 1.
    pub column: usize,
}

impl WrittenClause {
    /// What is wrong with it, where something is.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        Clause::compile(Level::Session, "", self).err()
    }

    /// Where an error is. A condition of several lines begins below its key.
    fn place(&self, error: CelError) -> Complaint {
        let CelError { offset, message, hint } = error;
        let before: String = self.text.chars().take(offset).collect();
        let (line, column) = match (self.text.contains('\n'), before.rsplit_once('\n')) {
            (false, _) => (self.line, self.column + offset),
            (true, None) => (self.line + 1, offset + 1),
            (true, Some((above, within))) => (self.line + 2 + above.matches('\n').count(), within.chars().count() + 1),
        };
        Complaint { line: line.max(1), column, message, hint: Some(hint) }
    }
}

/// A clause that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Clause {
    effect: Effect,
    cel: Cel,
    about: Vec<Rule>,
    canonical: String,
    named: NamedRule,
}

impl Clause {
    /// Understands a written clause.
    pub(super) fn compile(level: Level, label: &str, written: &WrittenClause) -> Result<Self, Complaint> {
        let cel = Cel::parse(&written.text).map_err(|error| written.place(error))?;
        let about = written.about.iter().map(|rule| Rule::parse(level, label, rule));
        let about = about.collect::<Result<Vec<_>, _>>()?;
        let words = written.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut scope: Vec<String> = about.iter().map(ToString::to_string).collect();
        scope.sort();
        let scope = if scope.is_empty() { String::new() } else { format!(" of {}", scope.join(", ")) };
        let canonical = format!("{} where {words}{scope}", written.effect);
        let from = format!("{level} {label}:{}", written.line);
        let named = NamedRule { text: format!("{}: {words}", written.name), from };
        Ok(Self { effect: written.effect, cel, about, canonical, named })
    }

    /// What becomes of a request for which it holds.
    pub(super) fn effect(&self) -> Effect {
        self.effect
    }

    /// What it is called, and where it stands.
    pub(super) fn named(&self) -> &NamedRule {
        &self.named
    }

    /// Whether it asks which secret files were read.
    pub(super) fn asks_about_secret_files(&self) -> bool {
        self.cel.asks_about_secret_files() || self.about.iter().any(|rule| rule.matcher().asks_about_secret_files())
    }

    /// What of a request that it could be about it asks and no record holds, in a person's words.
    pub(super) fn unrecorded(&self, line: &RequestLine, by: &Particulars<'_>) -> BTreeSet<String> {
        let scope = self.about.iter().filter(|rule| each(by.updates).any(|update| rule.could_match(line, by, update)));
        let mut asked: BTreeSet<String> = scope.clone().flat_map(Rule::unrecorded).collect();
        if self.about.is_empty() || scope.count() > 0 {
            asked.extend(self.cel.unrecorded().map(str::to_owned));
        }
        asked
    }

    /// Whether some request to a place is for it to judge.
    pub(super) fn concerns_place(&self, host: &Host, port: Port) -> bool {
        self.about.is_empty() || self.about.iter().any(|rule| rule.matcher().concerns_place(host, port))
    }

    /// Whether it is about a request, and holds.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub(super) fn holds(&self, line: &RequestLine, by: &Particulars<'_>) -> Result<bool, String> {
        let about = self.about.is_empty()
            || self.about.iter().any(|rule| each(by.updates).any(|update| rule.matches(line, by, update)));
        if !about {
            return Ok(false);
        }
        self.cel.holds(&Facts { line, by }).map_err(|fault| fault.0)
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical)
    }
}

/// Reads a policy of the type `condition`.
pub(super) fn read(
    mut fields: Fields,
    name: Option<String>,
    written: &Node,
    complaints: &mut Vec<Complaint>,
) -> Option<WrittenClause> {
    let (condition, effect, rules) = (fields.take("condition"), fields.take("effect"), fields.take("rule"));
    fields.finish(complaints);
    let effect = effect.and_then(|node| named_effect(&node, complaints));
    if effect.is_none() {
        complaints.push(written.complaint("the policy has no `effect`", "add `effect: ask` or `effect: deny`"));
    }
    let about = rules.map(|node| about(node, complaints)).unwrap_or_default();
    let Some(node) = condition else {
        complaints
            .push(written.complaint("the policy has no `condition`", "add `condition: request.upload > 1000000`"));
        return None;
    };
    let name = name.unwrap_or_else(|| format!("line {}", written.line));
    clause(node, name, effect?, about, complaints)
}

fn named_effect(node: &Node, complaints: &mut Vec<Complaint>) -> Option<Effect> {
    let word = text(node.clone(), "`effect`", complaints)?;
    let effect = Effect::named(&word).filter(|_| EFFECTS.contains(&word.as_str()));
    if effect.is_none() {
        let message = format!("nothing becomes `{word}` by a condition, which only ever makes things stricter");
        complaints.push(node.complaint(message, hint_of(&word, &EFFECTS)));
    }
    effect
}

fn about(node: Node, complaints: &mut Vec<Complaint>) -> Vec<WrittenRule> {
    let nodes = list(node, "`rule`", true, complaints);
    let texts = nodes.into_iter().filter_map(|node| Some((node.clone(), text(node, "`rule`", complaints)?)));
    let rule =
        |(node, text): (Node, String)| WrittenRule { effect: Effect::Ask, text, line: node.line, column: node.column };
    texts.map(rule).collect()
}

/// A clause of a condition that stands at a place.
pub(super) fn clause(
    node: Node,
    name: String,
    effect: Effect,
    about: Vec<WrittenRule>,
    complaints: &mut Vec<Complaint>,
) -> Option<WrittenClause> {
    // `true` alone is a condition as well.
    let text = match node.value {
        Value::Bool(truth) => truth.to_string(),
        _ => text(node.clone(), "`condition`", complaints)?,
    };
    Some(WrittenClause { name, effect, text, about, line: node.line, column: node.column })
}
