//! The examples that a policy file carries, by which it is tested whenever it is read: what its own rules and conditions say
//! of a request.

use super::act::Act;
use super::cel::History;
use super::compile::{Policy, RuleSource};
use super::condition::{Particulars, SECRET_FILE};
use super::document::{Node, Value, list, text};
use super::error::{Complaint, PolicyErrors, hint_of};
use super::git_push::{Change, RefUpdate};
use super::quantity::parse_size;
use super::rule::{Effect, Level, WrittenRule};
use super::verdict::{RequestFacts, Verdict};
use crate::model::{Host, NanoUsd, Port, RequestLine, Scheme};
use http::HeaderMap;
use std::sync::Arc;

/// Most examples of one file.
const EXAMPLES_MAX: usize = 1_000;
/// What can be said of a request; `leaves` is that the file says nothing of it.
const OUTCOMES: [&str; 4] = ["allow", "ask", "deny", "leaves"];

/// What the file is called that an example was told of with `after=secret-file`.
const A_SECRET_FILE: &str = ".env";

/// An example as a person wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Example {
    outcome: &'static str,
    text: String,
    line: usize,
    column: usize,
}

/// Reads a list of them.
pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Vec<Example> {
    let nodes = list(node.clone(), "`examples`", false, complaints);
    if nodes.len() > EXAMPLES_MAX {
        complaints.push(node.complaint(format!("more than {EXAMPLES_MAX} examples"), "write fewer"));
    }
    nodes.into_iter().take(EXAMPLES_MAX).filter_map(|node| example(node, complaints)).collect()
}

fn example(node: Node, complaints: &mut Vec<Complaint>) -> Option<Example> {
    let complaint =
        node.complaint("an example is a map of one key", "write it like `- deny: POST https://example.com/x`");
    let Value::Map(entries) = node.value else {
        complaints.push(complaint);
        return None;
    };
    let Ok([(key, node)]) = <[_; 1]>::try_from(entries) else {
        complaints.push(complaint);
        return None;
    };
    let Some(outcome) = OUTCOMES.into_iter().find(|outcome| *outcome == key.text) else {
        let message = format!("an example does not end as `{}`", key.text);
        complaints.push(key.complaint(message, hint_of(&key.text, &OUTCOMES)));
        return None;
    };
    let (line, column) = (node.line, node.column);
    Some(Example { outcome, text: text(node, "an example", complaints)?, line, column })
}

/// A request of an example.
struct Request {
    line: RequestLine,
    query: Option<String>,
    act: Option<Act>,
    updates: Vec<RefUpdate>,
    upload: u64,
    history: History,
}

impl Example {
    fn told(&self, message: String, hint: &str) -> Complaint {
        Complaint { line: self.line, column: self.column, message, hint: Some(hint.to_owned()) }
    }
}

/// What is wrong with examples, or with what the file says: `own` is that.
pub(super) fn complaints(examples: &[Example], own: &Policy) -> Vec<Complaint> {
    let (mut requests, mut all, mut complaints) = (Vec::new(), Vec::new(), Vec::new());
    for example in examples {
        let understood = request(&example.text).and_then(|request| {
            let opened = everything_at(&request.line);
            let wrong = |errors: PolicyErrors| (errors.to_string(), "write another request".to_owned());
            Policy::compile(&[source(&opened)]).map(|_| (request, opened)).map_err(wrong)
        });
        match understood {
            Ok((request, opened)) => {
                requests.push((example, request));
                all.extend(opened);
            }
            Err((message, hint)) => complaints.push(example.told(message, &hint)),
        }
    }
    // The conditions of a file that says nothing else of a request are asked as well. An allowance outweighs nothing.
    let all = match own.adding(&source(&all)) {
        Ok(all) => all,
        // No example was tried: the file is not to be taken for one whose examples hold.
        Err(errors) => {
            let told = |(example, _): &(&Example, _)| {
                example.told(format!("the examples cannot be tried: {errors}"), "write fewer or other ones")
            };
            complaints.extend(requests.first().map(told));
            return complaints;
        }
    };
    for (example, request) in requests {
        let (outcome, by) = said(&request, own, &all);
        if outcome != example.outcome {
            let by = by.map_or_else(String::new, |by| format!(" by `{by}`"));
            let message = format!("the example should end as `{}`, and ends as `{outcome}`{by}", example.outcome);
            complaints.push(example.told(message, "change the example, or what the file says of it"));
        }
    }
    complaints
}

/// What a file says of a request, and by which rule. `all` says of what the file says nothing that it may go.
fn said(request: &Request, own: &Policy, all: &Policy) -> (&'static str, Option<String>) {
    match judged(own, request) {
        ("none", _) => match judged(all, request) {
            ("allow" | "none", _) => ("leaves", None),
            other => other,
        },
        other => other,
    }
}

fn source(rules: &[WrittenRule]) -> RuleSource<'_> {
    RuleSource { level: Level::Session, label: "", rules, clauses: &[] }
}

fn everything_at(line: &RequestLine) -> [WrittenRule; 2] {
    ["", "http://"]
        .map(|scheme| WrittenRule::alone(Effect::Allow, &format!("* {scheme}{}:{}/**", line.host, line.port.0)))
}

fn judged(policy: &Policy, request: &Request) -> (&'static str, Option<String>) {
    let headers = HeaderMap::new();
    let by = Particulars {
        query: request.query.as_deref(),
        headers: Some(&headers),
        act: request.act,
        updates: &request.updates,
        upload: Some(request.upload),
        session: None,
        history: Some(&request.history),
    };
    match policy.decide_with(RequestFacts { line: request.line.clone(), disagreement: None }, &by) {
        Verdict::Allow(grant) => ("allow", Some(grant.rule().to_owned())),
        Verdict::Ask(question) => ("ask", Some(question.rule.text)),
        Verdict::Deny(refusal) => refusal.rule.map_or(("none", None), |rule| ("deny", Some(rule.text))),
    }
}

type Wrong = (String, String);

/// `METHOD URL [act=NAME] [after=NAME,…] [push=CHANGE:REFERENCE] [upload=SIZE] [spent=$AMOUNT] [hosts=NAME,…]`.
fn request(text: &str) -> Result<Request, Wrong> {
    let mut words = text.split_whitespace();
    let form =
        || ("an example is a method and a URL".to_owned(), "write it like `POST https://example.com/x`".to_owned());
    let (method, url) = words.next().zip(words.next()).ok_or_else(form)?;
    let (line, query) = url_of(method, url).ok_or_else(form)?;
    let act = Act::of(&line, query.as_deref(), &HeaderMap::new());
    let mut request = Request { line, query, act, updates: Vec::new(), upload: 0, history: History::default() };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let wrong = |hint: &str| (format!("`{word}` says nothing of an example"), hint.to_owned());
        match key {
            "act" => request.act = Act::named(value).map_err(|hint| wrong(&hint))?.into_iter().next(),
            "after" => {
                for name in value.split(',') {
                    match name {
                        SECRET_FILE => {
                            _ = Arc::make_mut(&mut request.history.secret_files).insert(A_SECRET_FILE.to_owned())
                        }
                        name => request.history.acts.extend(Act::named(name).map_err(|hint| wrong(&hint))?),
                    }
                }
            }
            "push" => {
                let (change, name) = value.split_once(':').unwrap_or(("update", value));
                let change =
                    Change::named(change).ok_or_else(|| wrong("write it like `push=delete:refs/heads/main`"))?;
                let name = if name.starts_with("refs/") { name.to_owned() } else { format!("refs/heads/{name}") };
                request.updates.push(RefUpdate { name, change, old: String::new(), new: String::new() });
            }
            "upload" => request.upload = parse_size(value).map_err(|error| wrong(&error.to_string()))?,
            "spent" => {
                let amount: Result<NanoUsd, _> = value.parse();
                request.history.spent = amount.map_err(|_| wrong("write it like `spent=$2.50`"))?;
            }
            "hosts" => Arc::make_mut(&mut request.history.hosts).extend(value.split(',').map(str::to_owned)),
            _ => return Err(wrong("known are act, after, push, upload, spent and hosts")),
        }
    }
    Ok(request)
}

fn url_of(method: &str, url: &str) -> Option<(RequestLine, Option<String>)> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("http", rest)) => (Scheme::Http, rest),
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(_) => return None,
        None => (Scheme::Https, url),
    };
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query.to_owned())));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']')) {
        Some((host, port)) => (host, Port(port.parse().ok()?)),
        None => (authority, scheme.default_port()),
    };
    let path = if path.is_empty() { "/" } else { path };
    let host = Host::parse(host).ok()?;
    Some((RequestLine { method: method.to_ascii_uppercase(), scheme, host, port, path: path.to_owned() }, query))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::policy::parse_policy_file;

    const FILE: &str = "
policies:
  - type: egress
    rules: [{ deny: '* secret.example/**' }, { allow: 'GET docs.example/**' }]
  - type: gate
    before: [git-push, new-host]
    after: package-install
  - { type: gate, rule: 'POST later.example/**', after: [secret-file, cargo-install] }
  - type: condition
    name: small
    effect: deny
    condition: request.upload > 1000 || spend.session > 2.0
    examples:
      - deny: POST https://a.example/x upload=2KiB
      - deny: POST https://a.example/x spent=$2.50
      - leaves: POST https://a.example/x upload=1B
examples:
  - deny: GET https://secret.example/x
  - allow: GET https://docs.example/x
  - leaves: POST docs.example/x
  - ask: POST http://git.example/it.git/git-receive-pack act=git-push after=npm-install hosts=git.example
  - ask: POST http://new.example/ after=npm-install hosts=git.example
  - leaves: POST http://git.example/it.git/git-receive-pack act=git-push
  - ask: POST https://later.example/x after=secret-file
  - leaves: POST https://later.example/x after=npm-install hosts=later.example
";

    #[test]
    fn a_file_is_tested_by_its_own_examples() {
        parse_policy_file("own.yaml", FILE).unwrap();
    }

    #[test]
    fn an_example_that_does_not_hold_is_told_with_its_place() {
        let told = |text: &str| parse_policy_file("own.yaml", text).unwrap_err().to_string();
        let changed = FILE.replace("- deny: GET https://secret", "- ask: GET https://secret");
        let error = told(&changed);
        let line = FILE.lines().position(|line| line.contains("GET https://secret")).unwrap() + 1;
        assert!(error.starts_with(&format!("own.yaml:{line}:")), "{error}");
        assert!(error.contains("should end as `ask`, and ends as `deny` by `* secret.example/**`"), "{error}");
        for (text, why) in [
            ("- maybe: GET a.example", "does not end as `maybe`"),
            ("- deny: GET", "a method and a URL"),
            ("- deny: GET a.example lunch=1", "says nothing of an example"),
            ("- deny: GET a.example act=lunch", "says nothing of an example"),
            ("- GET a.example", "a map of one key"),
        ] {
            let error = told(&format!("type: egress\nrules: [{{ deny: '* b.example' }}]\nexamples:\n  {text}\n"));
            assert!(error.starts_with("own.yaml:4:") && error.contains(why), "{text}: {error}");
        }
    }
}
