//! What rules say beyond method, host and path, end to end.

use super::*;
use crate::model::{Host, Port, RequestLine, Scheme};
use http::HeaderMap;
use proptest::prelude::*;
use std::time::Duration;

fn https(method: &str, host: &str, path: &str) -> RequestLine {
    let (method, path) = (method.to_owned(), path.to_owned());
    RequestLine { method, scheme: Scheme::Https, host: Host::parse(host).unwrap(), port: Port(443), path }
}

fn compile(rules: &[(Effect, &str)]) -> Result<Policy, PolicyErrors> {
    let rules: Vec<WrittenRule> = rules.iter().map(|(effect, text)| WrittenRule::alone(*effect, text)).collect();
    Policy::compile(&[RuleSource { level: Level::Session, label: "test", rules: &rules, clauses: &[] }])
}

fn policy(rules: &[(Effect, &str)]) -> Policy {
    compile(rules).unwrap_or_else(|errors| panic!("{errors}"))
}

fn effect(policy: &Policy, line: &RequestLine, by: &Particulars<'_>) -> Effect {
    match policy.decide_with(RequestFacts { line: line.clone(), disagreement: None }, by) {
        Verdict::Allow(_) => Effect::Allow,
        Verdict::Ask(_) => Effect::Ask,
        Verdict::Deny(_) => Effect::Deny,
    }
}

fn headers(named: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn update(change: Change, name: &str) -> RefUpdate {
    let (some, none) = ("1".repeat(40), "0".repeat(40));
    let (old, new) = match change {
        Change::Create => (none, some),
        Change::Update | Change::Forward | Change::Force => (some.clone(), some),
        Change::Delete => (some, none),
    };
    RefUpdate { name: name.to_owned(), change, old, new }
}

#[test]
fn a_header_must_be_right_each_time_it_is_sent() {
    let allow = policy(&[(Effect::Allow, "GET a.com/** header:Accept=text/*")]);
    let deny = policy(&[(Effect::Allow, "GET a.com/**"), (Effect::Deny, "* a.com/** header:accept=text/*")]);
    let line = https("GET", "a.com", "/");
    for (sent, allowed, denied) in [
        (&[][..], false, false),
        (&[("accept", "text/html")], true, true),
        (&[("accept", "image/png")], false, false),
        (&[("accept", "text/html"), ("accept", "image/png")], false, true),
    ] {
        let headers = headers(sent);
        let by = Particulars { headers: Some(&headers), ..Particulars::default() };
        assert_eq!(effect(&allow, &line, &by) == Effect::Allow, allowed, "{sent:?}");
        assert_eq!(effect(&deny, &line, &by) == Effect::Deny, denied, "{sent:?}");
    }
}

#[test]
fn a_query_is_decoded_and_counts_against_whoever_makes_it_ambiguous() {
    let allow = policy(&[(Effect::Allow, "GET a.com/** query:format=json*")]);
    let deny = policy(&[(Effect::Allow, "GET a.com/**"), (Effect::Deny, "* a.com/** query:format=json*")]);
    let line = https("GET", "a.com", "/");
    for (query, allowed, denied) in [
        (None, false, false),
        (Some("format=json"), true, true),
        (Some("f%6Frmat=%6Ason5"), true, true),
        (Some("format=xml"), false, false),
        (Some("format=json&format=xml"), false, true),
        (Some("x=1;format=json"), true, true),
        (Some("format=%zz"), false, true),
    ] {
        let by = Particulars { query, ..Particulars::default() };
        assert_eq!(effect(&allow, &line, &by) == Effect::Allow, allowed, "{query:?}");
        assert_eq!(effect(&deny, &line, &by) == Effect::Deny, denied, "{query:?}");
    }
}

#[test]
fn a_push_is_judged_for_each_reference() {
    let rules = [
        (Effect::Allow, "GET,POST git.com/me/it.git/** push=feature/*,fix/**"),
        (Effect::Allow, "GET,POST git.com/me/it.git/** push:create=refs/tags/v*"),
    ];
    let policy = policy(&rules);
    let line = https("POST", "git.com", "/me/it.git/git-receive-pack");
    let to = |line: &RequestLine, updates: &[RefUpdate]| {
        effect(&policy, line, &Particulars { act: Some(Act::GitPush), updates, ..Particulars::default() })
    };
    let (feature, main) = (update(Change::Update, "refs/heads/feature/a"), update(Change::Update, "refs/heads/main"));
    assert_eq!(to(&line, std::slice::from_ref(&feature)), Effect::Allow);
    assert_eq!(to(&line, std::slice::from_ref(&main)), Effect::Deny);
    assert_eq!(to(&line, &[feature.clone(), main]), Effect::Deny);
    assert_eq!(to(&line, &[update(Change::Update, "refs/heads/feature/a/b")]), Effect::Deny);
    assert_eq!(to(&line, &[update(Change::Create, "refs/heads/fix/a/b"), feature.clone()]), Effect::Allow);
    let (made, moved) = (update(Change::Create, "refs/tags/v1"), update(Change::Update, "refs/tags/v1"));
    assert_eq!(to(&line, &[feature.clone(), made]), Effect::Allow);
    assert_eq!(
        (to(&line, &[moved]), to(&line, &[update(Change::Delete, "refs/tags/v1")])),
        (Effect::Deny, Effect::Deny)
    );
    // Asking for the references is part of it; no other request is.
    assert_eq!(to(&https("GET", "git.com", "/me/it.git/info/refs"), &[]), Effect::Allow);
    assert_eq!(to(&https("POST", "git.com", "/me/other.git/git-receive-pack"), &[feature]), Effect::Deny);
    assert_eq!(effect(&policy, &line, &Particulars::default()), Effect::Deny);
}

#[test]
fn what_is_not_known_to_be_forward_counts_as_forced() {
    let line = https("POST", "git.example", "/me/it.git/git-receive-pack");
    let becomes = |rule: &str, change: Change| {
        let policy = policy(&[(Effect::Allow, rule)]);
        let updates = [update(change, "refs/heads/main")];
        let by = Particulars { act: Some(Act::GitPush), updates: &updates, ..Particulars::default() };
        effect(&policy, &line, &by) == Effect::Allow
    };
    for (word, expected) in [
        ("update", [false, true, true, true, false]),
        ("forward", [false, false, true, false, false]),
        ("force", [false, true, false, true, false]),
        ("create,forward", [true, false, true, false, false]),
    ] {
        let rule = format!("POST git.example/** push:{word}=main");
        let changes = [Change::Create, Change::Update, Change::Forward, Change::Force, Change::Delete];
        assert_eq!(changes.map(|change| becomes(&rule, change)), expected, "{word}");
    }
}

#[test]
fn no_case_of_letters_gets_a_reference_past_a_denial() {
    let rules = [
        (Effect::Allow, "* git.com/** push=**"),
        (Effect::Deny, "* git.com/** push=Release/*"),
        (Effect::Allow, "* other.com/** push=main"),
    ];
    let policy = policy(&rules);
    let to = |host: &str, name: &str| {
        let updates = [update(Change::Update, name)];
        let by = Particulars { act: Some(Act::GitPush), updates: &updates, ..Particulars::default() };
        effect(&policy, &https("POST", host, "/it.git/git-receive-pack"), &by)
    };
    assert_eq!(
        (to("git.com", "refs/heads/release/1"), to("git.com", "refs/Heads/RELEASE/1")),
        (Effect::Deny, Effect::Deny)
    );
    assert_eq!(to("git.com", "refs/heads/main"), Effect::Allow);
    assert_eq!((to("other.com", "refs/heads/main"), to("other.com", "refs/heads/Main")), (Effect::Allow, Effect::Deny));
}

#[test]
fn a_push_that_a_rule_denies_says_which_reference() {
    let policy = policy(&[(Effect::Allow, "* git.com/**"), (Effect::Deny, "* git.com/** push:delete=**")]);
    let updates = [update(Change::Update, "refs/heads/a"), update(Change::Delete, "refs/heads/b")];
    let by = Particulars { act: Some(Act::GitPush), updates: &updates, ..Particulars::default() };
    let line = https("POST", "git.com", "/it.git/git-receive-pack");
    let Verdict::Deny(refusal) = policy.decide_with(RequestFacts { line, disagreement: None }, &by) else { panic!() };
    assert_eq!(
        refusal.reason,
        "the rule `deny * git.com/** push:delete=**` of the session (test) refuses delete refs/heads/b"
    );
}

#[test]
fn what_a_request_does_can_be_asked_about() {
    let policy = policy(&[
        (Effect::Allow, "* npm.com/**"),
        (Effect::Ask, "* *:* act=package-install"),
        (Effect::Deny, "* *:* act=npm-publish,pypi-publish"),
    ]);
    let by = |act| Particulars { act, ..Particulars::default() };
    let line = https("GET", "npm.com", "/x");
    assert_eq!(effect(&policy, &line, &by(Some(Act::NpmInstall))), Effect::Ask);
    assert_eq!(effect(&policy, &line, &by(Some(Act::NpmPublish))), Effect::Deny);
    assert_eq!(effect(&policy, &line, &by(None)), Effect::Allow);
}

#[test]
fn what_cannot_be_a_condition_or_a_cap_is_explained() {
    let told = |effect, text: &str| compile(&[(effect, text)]).unwrap_err().to_string();
    for (text, expected) in [
        ("GET a.com/x ratte=1/s", "test:1:13: `ratte` is nothing that a rule can ask for (did you mean `rate`?)"),
        (
            "GET a.com/x rate=0/s",
            "test:1:13: `0/s` is not a rate (write it like `60/min`: at most 10000, per s, min, h or d)",
        ),
        (
            "GET a.com/x upload=much",
            "test:1:13: `much` is not a size (write it like `512KiB` or `10MiB`, or `0` for nothing at all)",
        ),
        (
            "GET a.com/x act=git-pusch",
            "test:1:13: `git-pusch` is not something that requests do (did you mean `git-push`?)",
        ),
        (
            "GET a.com/x push:moved=a",
            "test:1:13: `moved` is nothing that becomes of a reference (known here: create, update, forward, force, delete)",
        ),
        ("GET a.com/x header=a", "test:1:13: `header` names none (write `header:NAME=VALUE`)"),
        ("GET a.com/x upload=1B upload=2B", "test:1:23: `upload` stands here twice (leave one of them)"),
    ] {
        assert_eq!(told(Effect::Allow, text), expected);
    }
    assert!(told(Effect::Limit, "* *:*").contains("the rule limits nothing"));
    assert!(told(Effect::Deny, "* *:* rate=1/s").contains("lets nothing through that could be limited"));
}

#[test]
fn rules_have_one_form_whatever_order_their_words_come_in() {
    let one = policy(&[(Effect::Allow, "GET a.com/x rate=5/s query:b=1 header:A=2 upload=1KiB")]);
    let other = policy(&[(Effect::Allow, "GET a.com/x upload=1024 header:a=2 query:b=1 rate=5/s")]);
    assert_eq!((one.hash(), one.rules().count()), (other.hash(), 1));
    assert_eq!(one.rules().next().unwrap().to_string(), "allow GET a.com/x header:a=2 query:b=1 upload=1024 rate=5/s");
    let both = one.adding(&RuleSource {
        level: Level::Session,
        label: "more",
        rules: &[WrittenRule::alone(Effect::Allow, "GET a.com/x")],
        clauses: &[],
    });
    assert_eq!(both.unwrap().rules().count(), 2);
}

fn grant(policy: &Policy, line: &RequestLine) -> Grant {
    match policy.decide(RequestFacts { line: line.clone(), disagreement: None }) {
        Verdict::Allow(grant) => grant,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rate_is_held_in_every_span_of_time() {
    let policy = policy(&[(Effect::Allow, "* a.com/**"), (Effect::Limit, "* *:* rate=3/min")]);
    let mut tally = Tally::default();
    let line = https("GET", "a.com", "/");
    let mut at = |seconds| tally.admit(&grant(&policy, &line), Duration::from_secs(seconds)).map(drop);
    assert_eq!((at(0), at(10), at(20)), (Ok(()), Ok(()), Ok(())));
    let full =
        |wait| Err(TooMany { rule: "limit * *:*/** rate=3/min".to_owned(), retry_after: Duration::from_secs(wait) });
    assert_eq!((at(21), at(59), at(60), at(61), at(70)), (full(39), full(1), Ok(()), full(9), Ok(())));
}

#[test]
fn the_strictest_of_all_caps_counts() {
    let policy = policy(&[
        (Effect::Allow, "* a.com/** upload=100 session-download=10"),
        (Effect::Limit, "POST *:* upload=50"),
        (Effect::Limit, "* b.com upload=1"),
    ]);
    let mut tally = Tally::default();
    let mut admit = |method| tally.admit(&grant(&policy, &https(method, "a.com", "/")), Duration::ZERO).unwrap();
    let (post, put) = (admit("POST"), admit("PUT"));
    assert_eq!((post.expect(Way::Up, 50), post.expect(Way::Up, 51).is_err()), (Ok(()), true));
    assert_eq!((put.take(Way::Up, 60), put.take(Way::Up, 41).is_err()), (Ok(()), true));
    assert_eq!(put.take(Way::Down, 6), Ok(()));
    let told = post.take(Way::Down, 5).unwrap_err().to_string();
    assert_eq!(
        told,
        "the rule `allow * a.com/** upload=100 session-download=10` lets 10 bytes through in all answers of the session, \
         and this is more"
    );
}

/// A rule of few words, so that rules and requests meet.
fn rule_text() -> impl Strategy<Value = (Effect, String)> {
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Ask), Just(Effect::Deny)];
    let host = prop_oneof![
        Just("*"),
        Just("a.b.com"),
        Just("*.b.com"),
        Just("*.com"),
        Just("b.com"),
        Just("10.0.0.0/8"),
        Just("10.1.0.0/16"),
        Just("[fd00::/8]"),
        Just("10.1.2.3"),
        Just("[::ffff:10.0.0.0/104]")
    ];
    (effect, prop_oneof![Just("*"), Just("GET")], host, "(/([ab]|\\*){0,3}){0,4}")
        .prop_map(|(effect, method, host, path)| (effect, format!("{method} {host}{path}")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn the_index_finds_what_a_scan_of_all_rules_finds(
        rules in proptest::collection::vec(rule_text(), 0..40),
        host in prop_oneof![Just("a.b.com"), Just("x.a.b.com"), Just("b.com"), Just("com"), Just("10.1.2.3"),
            Just("10.2.0.1"), Just("[fd00::1]"), Just("[::ffff:10.1.2.3]"), Just("[::1]")],
        path in "(/([ab]|%2F){0,3}){1,4}",
    ) {
        let usable = rules.iter().filter(|(effect, text)| compile(&[(*effect, text)]).is_ok());
        let usable: Vec<(Effect, &str)> = usable.map(|(effect, text)| (*effect, text.as_str())).collect();
        let (policy, line, by) = (policy(&usable), https("GET", host, &path), Particulars::default());
        let scanned: Vec<&Rule> = policy.rules().filter(|rule| rule.matches(&line, &by, None)).collect();
        prop_assert_eq!(policy.matching(&line, &by), scanned);
    }
}
