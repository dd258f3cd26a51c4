//! What the fuzz targets call: the rule language, as people and files write it. See `proxy::fuzzing`.

use super::{Effect, Level, Particulars, Policy, RuleSource, WrittenRule, parse_policy_file};
use crate::model::{Host, Port, RequestLine, Scheme};

/// Requests that every policy is asked about.
const REQUESTS: [(&str, Scheme, &str, u16, &str); 5] = [
    ("GET", Scheme::Https, "api.example.com", 443, "/v1/models"),
    ("POST", Scheme::Https, "registry.npmjs.org", 443, "/-/npm/v1/security/advisories/bulk"),
    ("GET", Scheme::Http, "192.0.2.7", 8080, "/a//b/%2F..%5C"),
    ("CONNECT", Scheme::Tcp, "db.example.com", 5432, ""),
    ("CONNECT", Scheme::Tls, "x.y.example.com", 443, ""),
];

/// Rules, one a line, each of which begins with its effect. What is understood means the same once it is written down in
/// its one form, and the index finds what a look at every rule finds.
pub fn rules(text: &str) {
    let written: Vec<WrittenRule> = text.lines().filter_map(one).collect();
    let Ok(policy) = compile(&written) else { return };
    let canonical: Vec<WrittenRule> = policy.rules().filter_map(|rule| one(&rule.to_string())).collect();
    let again = compile(&canonical);
    assert_eq!(again.as_ref().map(Policy::hash), Ok(policy.hash()), "{canonical:?}");
    let by = Particulars::default();
    for (method, scheme, host, port, path) in REQUESTS {
        let Ok(host) = Host::parse(host) else { continue };
        let line = RequestLine { method: method.to_owned(), scheme, host, port: Port(port), path: path.to_owned() };
        let looked_for: Vec<_> = policy.rules().filter(|rule| rule.matches(&line, &by, None)).collect();
        assert_eq!(policy.matching(&line, &by), looked_for, "{line:?}");
    }
}

/// A policy file.
pub fn policy_file(text: &str) {
    let _ = parse_policy_file("policy.yaml", text);
}

fn one(line: &str) -> Option<WrittenRule> {
    let (effect, text) = line.split_once(' ')?;
    Some(WrittenRule::alone(Effect::named(effect)?, text))
}

fn compile(rules: &[WrittenRule]) -> Result<Policy, super::PolicyErrors> {
    Policy::compile(&[RuleSource { level: Level::Profile, label: "fuzz", rules, clauses: &[] }])
}
