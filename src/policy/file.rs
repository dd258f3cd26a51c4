//! Reads policy files: one document of one policy, or a list of policies.

use super::clause::{self, WrittenClause};
use super::compile::{Policy, RuleSource};
use super::document::{self, Fields, Node, Value, list, text};
use super::error::{Complaint, PolicyErrors, hint_of, refuse_all, refuse_any};
use super::example::{self, Example};
use super::gate;
use super::read::{rules, shipped_within, tier};
use super::rule::{Effect, Level, WrittenRule};
use super::secret_policy::{self, SecretPolicy};
use super::spend::{self, SpendPolicy};
use crate::model::Tier;
use std::time::Duration;

/// The types of policies this project knows, each with the keys it has beyond `name` and `type`. Those with no keys
/// here have none that are settled yet.
const TYPES: [(&str, &[&str]); 10] = [
    ("egress", &["rules"]),
    ("publish", &["at_most"]),
    ("isolation", &["minimum_isolation"]),
    ("spend", SpendPolicy::KEYS),
    ("gate", gate::KEYS),
    ("shipping", &["within"]),
    ("models", &[]),
    ("secret", secret_policy::KEYS),
    ("limits", &[]),
    ("condition", clause::KEYS),
];

/// What a policy file demands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its rules on requests.
    pub rules: Vec<WrittenRule>,
    /// The weakest tier of isolation that it lets anything run in, where it says so.
    pub minimum_isolation: Option<Tier>,
    /// To whom ports of the sandbox may be published at most, where it says so.
    pub publishing: Option<Publishing>,
    /// Within which time records must have been shipped everywhere for a session to start, where it says so.
    pub require_shipping: Option<Duration>,
    /// What may be spent.
    pub spend: Vec<SpendPolicy>,
    /// Which secrets may be used.
    pub secrets: Vec<SecretPolicy>,
    /// Its conditions on requests.
    pub clauses: Vec<WrittenClause>,
    /// How many examples it was tested by.
    pub examples: usize,
}

/// To whom a policy lets ports of the sandbox be published at most; the strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Publishing {
    /// Nobody.
    None,
    /// The host's own loopback.
    Loopback,
}

impl PolicyFile {
    /// What it says of requests, to be compiled. `label` is what it is called.
    #[must_use]
    pub fn source<'a>(&'a self, level: Level, label: &'a str) -> RuleSource<'a> {
        RuleSource { level, label, rules: &self.rules, clauses: &self.clauses }
    }
}

impl Publishing {
    const NAMES: [&str; 2] = ["none", "loopback"];

    fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "loopback" => Some(Self::Loopback),
            _ => None,
        }
    }
}

/// Reads a policy file. `label` is what errors call it.
///
/// # Errors
/// Everything that is wrong with it, each with its place and a hint. A policy of a type that this version does not
/// enforce is an error: running without it would be running unprotected.
pub fn parse_policy_file(label: &str, text: &str) -> Result<PolicyFile, PolicyErrors> {
    let root = document::parse(text).map_err(|complaint| PolicyErrors(vec![complaint.labelled(label)]))?;
    let mut complaints = Vec::new();
    let mut file = PolicyFile::default();
    let mut examples = Vec::new();
    for node in policies(root, &mut examples, &mut complaints) {
        policy(node, &mut file, &mut examples, &mut complaints);
    }
    let (own, further) = match Policy::compile(&[file.source(Level::Session, label)]) {
        Ok(own) => (Some(own), Vec::new()),
        Err(PolicyErrors(errors)) => (None, errors),
    };
    refuse_all(complaints.into_iter().map(|complaint| complaint.labelled(label)).chain(further).collect())?;
    file.examples = examples.len();
    let complaints = own.map(|own| example::complaints(&examples, &own)).unwrap_or_default();
    refuse_any(label, complaints)?;
    Ok(file)
}

/// Reads the policy file of a workspace, which can only make things stricter.
///
/// # Errors
/// As [`parse_policy_file`], and for every rule that allows something.
pub fn parse_project_file(label: &str, text: &str) -> Result<PolicyFile, PolicyErrors> {
    let file = parse_policy_file(label, text)?;
    let hint = "write `ask`, `deny` or `limit` here, and allow things in a profile";
    let allowing = file.rules.iter().filter(|rule| rule.effect == Effect::Allow);
    let complaints = allowing.map(|rule| rule.complaint(0, "a workspace cannot allow anything", hint)).collect();
    refuse_any(label, complaints)?;
    Ok(file)
}

/// Whether a text is meant as a policy file rather than as a profile: it has a `type` or a list of `policies`.
#[must_use]
pub fn is_policy_file(text: &str) -> bool {
    let is_sign = |(key, _): &(document::Key, Node)| matches!(key.text.as_str(), "type" | "policies");
    matches!(document::parse(text), Ok(Node { value: Value::Map(entries), .. }) if entries.iter().any(is_sign))
}

/// The policies of a document: those of its `policies:`, else the document itself.
fn policies(root: Node, examples: &mut Vec<Example>, complaints: &mut Vec<Complaint>) -> Vec<Node> {
    let is_list = matches!(&root.value, Value::Map(entries) if entries.iter().any(|(key, _)| key.text == "policies"));
    if !is_list {
        return vec![root];
    }
    let mut fields = Fields::of(root, "a policy file", complaints);
    let policies = fields.take("policies").map(|node| list(node, "`policies`", false, complaints));
    examples.extend(fields.take("examples").map(|node| example::read(node, complaints)).unwrap_or_default());
    fields.finish(complaints);
    policies.unwrap_or_default()
}

fn policy(node: Node, file: &mut PolicyFile, examples: &mut Vec<Example>, complaints: &mut Vec<Complaint>) {
    let no_type = node.complaint("the policy has no `type`", "add `type: egress`");
    let is_map = matches!(node.value, Value::Map(_));
    let mut fields = Fields::of(node, "a policy", complaints);
    let called = fields.take("name").and_then(|name| text(name, "`name`", complaints));
    examples.extend(fields.take("examples").map(|node| example::read(node, complaints)).unwrap_or_default());
    let Some(written) = fields.take("type") else {
        complaints.extend(is_map.then_some(no_type));
        return;
    };
    let Some(name) = text(written.clone(), "`type`", complaints) else { return };
    let Some((name, keys)) = TYPES.into_iter().find(|(known, _)| *known == name) else {
        let known = TYPES.map(|(known, _)| known);
        complaints.push(written.complaint(format!("unknown type of policy `{name}`"), hint_of(&name, &known)));
        return;
    };
    match name {
        "gate" => {
            let (rules, clauses) = gate::read(fields, called, &written, complaints);
            file.rules.extend(rules);
            file.clauses.extend(clauses);
            return;
        }
        "condition" => return file.clauses.extend(clause::read(fields, called, &written, complaints)),
        "spend" => return file.spend.extend(spend::read(fields, called, &written, complaints)),
        "secret" => return file.secrets.extend(SecretPolicy::read(fields, called, &written, complaints)),
        "egress" => return file.rules.extend(egress(fields, written, complaints)),
        "publish" => {
            let read = publishing(fields, written, complaints);
            file.publishing = file.publishing.into_iter().chain(read).min();
            return;
        }
        "shipping" => {
            let read = shipping(fields, &written, complaints);
            file.require_shipping = file.require_shipping.into_iter().chain(read).min();
            return;
        }
        "isolation" => {
            // Of several, the strictest counts.
            file.minimum_isolation = file.minimum_isolation.max(isolation(fields, written, complaints));
            return;
        }
        _ => {}
    }
    let message = format!("a policy of type `{name}` is not enforced by this version, so it refuses to run with one");
    complaints.push(written.complaint(message, "remove the policy, or use a version that enforces it"));
    for key in keys {
        fields.take(key);
    }
    if !keys.is_empty() {
        fields.finish(complaints);
    }
}

fn publishing(mut fields: Fields, written: Node, complaints: &mut Vec<Complaint>) -> Option<Publishing> {
    let node = fields.take("at_most");
    fields.finish(complaints);
    let Some(node) = node else {
        complaints
            .push(written.complaint("the policy has no `at_most`", "add `at_most: none`, or `at_most: loopback`"));
        return None;
    };
    let name = text(node.clone(), "`at_most`", complaints)?;
    let named = Publishing::named(&name);
    if named.is_none() {
        let message = format!("ports are not published to `{name}`");
        complaints.push(node.complaint(message, hint_of(&name, &Publishing::NAMES)));
    }
    named
}

fn shipping(mut fields: Fields, written: &Node, complaints: &mut Vec<Complaint>) -> Option<Duration> {
    let node = fields.take("within");
    fields.finish(complaints);
    if node.is_none() {
        complaints.push(written.complaint("the policy has no `within`", "add `within: 1h`"));
    }
    node.and_then(|node| shipped_within(node, complaints))
}

fn isolation(mut fields: Fields, written: Node, complaints: &mut Vec<Complaint>) -> Option<Tier> {
    let node = fields.take("minimum_isolation");
    fields.finish(complaints);
    if node.is_none() {
        let message = "the policy has no `minimum_isolation`";
        complaints.push(written.complaint(message, "add `minimum_isolation: full`"));
    }
    node.and_then(|node| tier(node, complaints))
}

fn egress(mut fields: Fields, written: Node, complaints: &mut Vec<Complaint>) -> Vec<WrittenRule> {
    let node = fields.take("rules");
    fields.finish(complaints);
    match node {
        Some(node) => rules(node, "`rules`", complaints),
        None => {
            complaints.push(written.complaint("the policy has no `rules`", "add `rules:` with `- deny: …` lines"));
            Vec::new()
        }
    }
}
