//! Policies of the type `gate`: a person is asked before something is done, perhaps only once something else was.

use super::clause::{WrittenClause, clause};
use super::document::{Fields, Node, list, text};
use super::error::Complaint;
use super::quantity::parse_size;
use super::rule::{Effect, WrittenRule};

/// The keys of the type, beyond `name` and `type`.
pub(super) const KEYS: &[&str] = &["before", "rule", "after", "condition"];

/// What a gate is before, and the word of a rule for it.
const ACTS: [(&str, &str); 2] = [("publish", "package-publish"), ("push", "git-push")];
/// The requests that an act can be: to every host and port, in TLS and without.
const ANYWHERE: [&str; 2] = ["* *:*", "* http://*:*"];

/// What a gate before the first contact with a host is written as, and what it stands for.
const NEW_HOST: (&str, &str) = ("new-host", "!(request.host in history.hosts)");
/// How a gate before large uploads begins.
const UPLOAD: &str = "upload>";

/// Reads one, as the rules that it stands for, and what of it no rule says.
pub(super) fn read(
    mut fields: Fields,
    name: Option<String>,
    written: &Node,
    complaints: &mut Vec<Complaint>,
) -> (Vec<WrittenRule>, Vec<WrittenClause>) {
    let name = name.unwrap_or_else(|| format!("line {}", written.line));
    let condition =
        fields.take("condition").and_then(|node| clause(node, name.clone(), Effect::Ask, Vec::new(), complaints));
    let mut take = |key: &'static str, complaints: &mut Vec<Complaint>| {
        fields.take(key).map(|node| words(node, key, complaints)).unwrap_or_default()
    };
    let (before, rules, after) = (take("before", complaints), take("rule", complaints), take("after", complaints));
    fields.finish(complaints);
    if before.is_empty() && rules.is_empty() {
        complaints.push(written.complaint("the gate is before nothing", "add `before: git-push` or a `rule:`"));
    }
    let after = match after.as_slice() {
        [] => String::new(),
        acts => format!(" after={}", acts.iter().map(|(_, word)| named(word)).collect::<Vec<_>>().join(",")),
    };
    let rule = |node: &Node, text: String| WrittenRule {
        effect: Effect::Ask,
        text: format!("{text}{after}"),
        line: node.line,
        column: node.column,
    };
    let (words, acts): (Vec<_>, Vec<_>) =
        before.iter().partition(|(_, word)| word == NEW_HOST.0 || word.starts_with(UPLOAD));
    let of_acts = acts.iter().flat_map(|(node, word)| {
        ANYWHERE.iter().map(move |target| rule(node, format!("{target} act={}", named(word))))
    });
    let all: Vec<_> = of_acts.chain(rules.iter().map(|(node, text)| rule(node, text.clone()))).collect();
    let own = |node: &Node| -> Vec<_> { ANYWHERE.iter().map(|target| rule(node, (*target).to_owned())).collect() };
    let mut clauses = Vec::new();
    for (node, word) in words {
        let Some(text) = meaning(node, word, complaints) else { continue };
        let text = condition.as_ref().map_or_else(|| text.clone(), |other| format!("{text} && ({})", other.text));
        let (line, column) = (node.line, node.column);
        clauses.push(WrittenClause { name: name.clone(), effect: Effect::Ask, text, about: own(node), line, column });
    }
    match condition {
        Some(condition) if !all.is_empty() => clauses.push(WrittenClause { about: all, ..condition }),
        // Beside nothing but what stands above, it is a part of that.
        Some(condition) => complaints.extend(condition.complaint()),
        None => return (all, clauses),
    }
    (Vec::new(), clauses)
}

/// The condition that a word of `before` stands for.
fn meaning(node: &Node, word: &str, complaints: &mut Vec<Complaint>) -> Option<String> {
    let Some(size) = word.strip_prefix(UPLOAD) else { return Some(NEW_HOST.1.to_owned()) };
    match parse_size(size) {
        // A body that does not say how long it is could be longer.
        Ok(size) => Some(format!("(request.upload > {size} || request.upload < 0)")),
        Err(error) => {
            complaints.push(node.complaint(error.to_string(), "write it like `upload>10MiB`"));
            None
        }
    }
}

fn words(node: Node, key: &str, complaints: &mut Vec<Complaint>) -> Vec<(Node, String)> {
    let nodes = list(node, &format!("`{key}`"), true, complaints);
    nodes
        .into_iter()
        .filter_map(|node| text(node.clone(), &format!("`{key}`"), complaints).map(|word| (node, word)))
        .collect()
}

fn named(word: &str) -> &str {
    ACTS.iter().find(|(name, _)| *name == word).map_or(word, |(_, act)| act)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use crate::model::{Host, Port, RequestLine, Scheme};
    use crate::policy::parse_policy_file;
    use crate::policy::{
        Act, Effect, History, Level, Particulars, Policy, RequestFacts, RuleSource, Verdict, WrittenRule,
    };

    fn asks(policy: &Policy, scheme: Scheme, act: Act, done: &[Act]) -> bool {
        let host = Host::parse("git.example.com").unwrap();
        let (method, path, port) = ("POST".to_owned(), "/x".to_owned(), scheme.default_port());
        let line = RequestLine { method, scheme, host, port: Port(port.0), path };
        let history = History { acts: done.iter().copied().collect(), ..History::default() };
        let by = Particulars { act: Some(act), history: Some(&history), ..Particulars::default() };
        matches!(policy.decide_with(RequestFacts { line, disagreement: None }, &by), Verdict::Ask(_))
    }

    fn policy(text: &str) -> Policy {
        let file = parse_policy_file("gate.yaml", text).unwrap();
        let allow = [WrittenRule::alone(Effect::Allow, "* git.example.com/**")];
        let test = RuleSource { level: Level::Session, label: "test", rules: &allow, clauses: &[] };
        Policy::compile(&[file.source(Level::Session, "gate.yaml"), test]).unwrap()
    }

    #[test]
    fn a_gate_asks_before_an_act_wherever_it_goes() {
        let policy = policy("type: gate\nbefore: [npm-publish, package-install]\n");
        for scheme in [Scheme::Https, Scheme::Http] {
            assert!(asks(&policy, scheme, Act::NpmPublish, &[]) && asks(&policy, scheme, Act::CargoInstall, &[]));
            assert!(!asks(&policy, scheme, Act::GitFetch, &[]));
        }
    }

    #[test]
    fn a_gate_with_a_memory_asks_once_something_else_was_done() {
        let policy = policy("type: gate\nbefore: publish\nafter: package-install\n");
        assert!(!asks(&policy, Scheme::Https, Act::NpmPublish, &[Act::GitFetch]));
        assert!(asks(&policy, Scheme::Https, Act::NpmPublish, &[Act::GitFetch, Act::PypiInstall]));
    }

    #[test]
    fn what_is_no_act_is_refused_with_its_place() {
        let told = |text| parse_policy_file("g.yaml", text).expect_err("something wrong").to_string();
        assert!(told("type: gate\nbefore: git-pusch\n").contains("g.yaml:2:"));
        assert!(told("type: gate\nbefore: git-push\nafter: lunch\n").contains("is not something that requests do"));
        assert!(told("type: gate\n").contains("before nothing"));
    }
}
