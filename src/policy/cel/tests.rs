//! What conditions say, and what is wrong with those that say nothing.

use super::*;
use crate::model::{Host, NanoUsd, Port, RequestLine, Scheme};
use crate::policy::Act;
use crate::policy::condition::Particulars;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn said(text: &str) -> Result<bool, Fault> {
    let line = RequestLine {
        method: "POST".to_owned(),
        scheme: Scheme::Https,
        host: Host::parse("api.example.com").unwrap(),
        port: Port(443),
        path: "/v1/x".to_owned(),
    };
    let mut headers = http::HeaderMap::new();
    headers.insert("x-team", "blue".parse().unwrap());
    let session = SessionFacts { profile: "codex".to_owned(), ..SessionFacts::default() };
    let history = History {
        acts: BTreeSet::from([Act::NpmInstall]),
        hosts: BTreeSet::from(["a.example".to_owned(), "b.example".to_owned()]).into(),
        requests: 3,
        spent: NanoUsd(2_500_000_000),
        ..History::default()
    };
    let by = Particulars {
        query: Some("a=1"),
        headers: Some(&headers),
        upload: Some(1000),
        session: Some(&session),
        history: Some(&history),
        ..Particulars::default()
    };
    Cel::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).holds(&Facts { line: &line, by: &by })
}

#[test]
fn what_is_true_holds_and_what_is_not_does_not() {
    for (text, expected) in [
        ("true", true),
        ("request.method == 'POST' && request.port == 443", true),
        ("request.host.endsWith('.example.com') ? request.upload > 10 * 100 : true", false),
        ("request.path.startsWith(\"/v1\") && request.query.contains('a=')", true),
        ("request.headers['X-Team'] == 'red' && request.headers.accept == ''", false),
        ("has(request.headers.accept) || 'x-team' in request.headers", true),
        ("spend.session >= 2.5 && spend.session < 3", true),
        ("!(request.host in history.hosts)", true),
        ("history.acts.exists(act, act.endsWith('install') && !(act in ['npm-publish']))", true),
        ("history.hosts.all(host, host.size() == 9)", true),
        ("history.hosts.exists(a, history.hosts.exists(b, a + b == 'a.exampleb.example'))", true),
        ("history.hosts[1] == 'b.example' && size(history.hosts) == 2", true),
        ("-history.requests + 7 % 4 == 0 - 0 * 2", true),
        ("1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && 7.0 / 2.0 == 3.5", true),
        ("'a\\u00e9\\'\\n' == \"a\u{e9}'\\n\"", true),
        ("session.profile == 'codex' && session.team == ''", true),
        ("request.act != '' || size(request.push) > 0", false),
        ("size(history.secret_files) == 0 || '.env' in history.secret_files", true),
    ] {
        assert_eq!(said(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_goes_wrong_is_an_error_unless_the_other_side_decides() {
    for (text, why) in [
        ("1 / (history.requests - 3) == 0", "divides by zero"),
        ("history.hosts[2] == 'x'", "not so many"),
        ("history.hosts[-1] == 'x'", "not so many"),
        ("request.headers.accept == 'x'", "there is no `accept`"),
        ("9223372036854775807 + history.requests > 0", "too large"),
        ("history.hosts.all(host, request.headers.accept == host)", "there is no `accept`"),
    ] {
        let Fault(found) = said(text).unwrap_err();
        assert!(found.contains(why), "{text}: {found}");
        for (text, expected) in [
            (format!("{text} || true"), true),
            (format!("true || {text}"), true),
            (format!("{text} && false"), false),
            (format!("false && {text}"), false),
        ] {
            assert_eq!(said(&text), Ok(expected), "{text}");
        }
        said(&format!("{text} || false")).unwrap_err();
        said(&format!("true && {text}")).unwrap_err();
    }
    let deep = format!("{}false{}", "history.hosts.exists(a, ".repeat(14), ")".repeat(14));
    let long = [deep.as_str(); 10].join(" || ");
    assert_eq!(said(&long), Err(Fault("it takes too long".to_owned())));
}

#[test]
fn what_makes_no_sense_is_refused_where_it_stands() {
    for (text, offset, why) in [
        ("request.hots == 'x'", 8, "did you mean `host`"),
        ("reqest.host == 'x'", 0, "did you mean `request`"),
        ("request.port == '443'", 13, "this is not for a whole number and a text"),
        ("request.host", 0, "the condition is a text"),
        ("request.port && true", 0, "this is a whole number, not true or false"),
        ("true && ", 8, "ends too early"),
        ("(true", 5, "`)` is expected"),
        ("true true", 5, "not expected here"),
        ("request.host = 'x'", 13, "`=` means nothing here"),
        ("request.host == 'x", 16, "does not end"),
        ("request.host.matches('x')", 13, "unknown function `matches`"),
        ("request.host.exists(x, true)", 13, "not a list"),
        ("[] == []", 0, "a list must hold"),
        ("['a', 1] == ['a']", 6, "several types"),
        ("1u == 1", 0, "not a number"),
        ("99999999999999999999 > 1", 0, "not a number"),
        ("true ? 1 : 'a'", 11, "one side of the choice"),
        ("1 + 2.0 == 3.0", 2, "a whole number becomes a decimal one"),
        ("'\\q' == ''", 2, "no escape"),
    ] {
        let error = Cel::parse(text).unwrap_err();
        assert!(format!("{} ({})", error.message, error.hint).contains(why), "{text}: {error:?}");
        assert_eq!(error.offset, offset, "{text}: {error:?}");
    }
    for deep in [format!("{}true{}", "(".repeat(500), ")".repeat(500)), format!("{}true", "!".repeat(500))] {
        assert!(Cel::parse(&deep).unwrap_err().message.contains("levels deep"));
    }
    assert!(Cel::parse(&" ".repeat(5000)).unwrap_err().message.contains("longer than"));
}

proptest! {
    #[test]
    fn no_text_ends_the_program(text in "[a-z.()\\[\\]!&|<>=+*/%?:, '\"0-9\\\\{}-]{0,60}") {
        if let Ok(cel) = Cel::parse(&text) {
            let line = RequestLine {
                method: "GET".to_owned(), scheme: Scheme::Http, host: Host::parse("a.example").unwrap(), port: Port(80),
                path: "/".to_owned(),
            };
            let _ = cel.holds(&Facts { line: &line, by: &Particulars::default() });
        }
    }
}
