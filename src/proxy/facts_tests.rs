//! What makes a request suspicious, and what does not: each disagreement between names, and paths in disguise.
#![allow(clippy::unwrap_used)]

use super::*;
use http::Request;

fn claim(host: &str, port: u16, scheme: Scheme) -> Claim {
    let host = Host::parse(host).unwrap();
    Claim { source: "the name asked of DNS", host, port: Port(port), scheme, other_sni: None }
}

fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn judge(uri: &str, headers: &[(&str, &str)]) -> Result<Judged, Malformed> {
    facts(&claim("api.example.com", 443, Scheme::Https), &head("GET", uri, headers))
}

fn disagrees(uri: &str, headers: &[(&str, &str)]) -> bool {
    judge(uri, headers).unwrap().facts.disagreement.is_some()
}

#[test]
fn a_path_has_one_form() {
    let cases = [
        ("", "/"),
        ("/", "/"),
        ("/v1/messages", "/v1/messages"),
        ("/a/./b/../c", "/a/c"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/%41%7e%2d", "/A~-"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/@scope/pkg;v=1", "/@scope/pkg;v=1"),
        ("/%40scope", "/%40scope"),
        ("/{x}", "/%7Bx%7D"),
        ("/%25zz", "/%25zz"),
        ("/.../..a/a..", "/.../..a/a.."),
    ];
    for (path, expected) in cases {
        assert_eq!(normalise_path(path).as_deref(), Ok(expected), "{path}");
    }
}

#[test]
fn a_form_stays_what_it_is() {
    for path in ["/@scope%2fname", "/a/../b//c/%7Bx%7D", "/caf%c3%a9", "/a/.", "/%25"] {
        let once = normalise_path(path).unwrap();
        assert_eq!(normalise_path(&once).as_deref(), Ok(once.as_str()), "{path}");
    }
}

#[test]
fn a_path_that_servers_read_differently_is_refused() {
    for path in [
        "/a%2f..",
        "/%2e%2e%2fb",
        "/a%2F.%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a%00b",
        "/a%0d%0ab",
        "/a%7f",
        "/a%",
        "/a%4",
        "/a%zz",
        "/..",
        "/a/../..",
        "*",
        "a",
    ] {
        assert!(normalise_path(path).is_err(), "{path}");
    }
}

#[test]
fn the_upstream_gets_the_path_that_was_judged_and_the_query_as_written() {
    let judged = judge("/a/../b%41?x=%2e%2e/&y", &[("host", "api.example.com")]).unwrap();
    assert_eq!(judged.facts.line.path, "/bA");
    assert_eq!(judged.target, "/bA?x=%2e%2e/&y");
}

#[test]
fn every_spelling_of_the_same_host_agrees() {
    for host in ["api.example.com", "API.Example.COM", "api.example.com.", "api.example.com:443", "api.example.com:"] {
        assert!(!disagrees("/", &[("host", host)]), "{host}");
    }
    assert!(!disagrees("https://api.example.com/", &[("host", "api.example.com")]));
}

#[test]
fn another_host_or_port_in_any_place_disagrees() {
    assert!(disagrees("/", &[("host", "evil.example")]));
    assert!(disagrees("/", &[("host", "api.example.com:8443")]));
    assert!(disagrees("https://evil.example/", &[("host", "api.example.com")]));
    assert!(disagrees("https://api.example.com/", &[("host", "evil.example")]));
    assert!(disagrees("https://api.example.com:444/", &[]));
    let mut other = claim("api.example.com", 443, Scheme::Https);
    other.other_sni = Some("evil.example".to_owned());
    let judged = facts(&other, &head("GET", "/", &[("host", "api.example.com")])).unwrap();
    assert!(judged.facts.disagreement.is_some());
}

#[test]
fn an_address_agrees_with_its_own_spellings_only() {
    let address = claim("127.0.0.1", 80, Scheme::Http);
    let with_host = |host: &str| facts(&address, &head("GET", "/", &[("host", host)]));
    assert_eq!(with_host("127.0.0.1").unwrap().facts.disagreement, None);
    assert_eq!(with_host("[::ffff:127.0.0.1]:80").unwrap().facts.disagreement, None);
    assert!(with_host("localhost").unwrap().facts.disagreement.is_some());
    for host in ["127.1", "0x7f.1", "2130706433"] {
        assert_eq!(with_host(host).unwrap_err().status, 400, "{host}");
    }
}

#[test]
fn requests_without_one_clear_meaning_are_malformed() {
    let ok = ("host", "api.example.com");
    let status = |uri: &str, headers: &[(&str, &str)]| judge(uri, headers).unwrap_err().status;
    assert_eq!(status("/", &[]), 400);
    assert_eq!(status("/", &[ok, ok]), 400);
    assert_eq!(status("/", &[("host", "user@api.example.com")]), 400);
    assert_eq!(status("/", &[("host", "api.example.com:x")]), 400);
    assert_eq!(status("/", &[("host", "api.example.com:99999")]), 400);
    assert_eq!(status("http://api.example.com/", &[ok]), 400);
    assert_eq!(status("/", &[ok, ("content-length", "1"), ("transfer-encoding", "chunked")]), 400);
    assert_eq!(status("/", &[ok, ("content-length", "1"), ("content-length", "1")]), 400);
    assert_eq!(status(&format!("/{}", "a".repeat(PATH_BYTES_MAX)), &[ok]), 414);
}

#[test]
fn methods_that_reflect_or_tunnel_are_not_carried() {
    let place = claim("api.example.com", 443, Scheme::Https);
    for (method, expected) in [("TRACE", 405), ("CONNECT", 405), ("get", 400)] {
        let uri = if method == "CONNECT" { "api.example.com:443" } else { "/" };
        let refused = facts(&place, &head(method, uri, &[("host", "api.example.com")])).unwrap_err();
        assert_eq!(refused.status, expected, "{method}");
    }
}

#[test]
fn a_connect_target_is_a_host_and_a_port() {
    let target = |text: &str| connect_target(&text.parse().unwrap());
    assert_eq!(target("A.example:443"), Some((Host::parse("a.example").unwrap(), Port(443))));
    assert_eq!(target("[2001:db8::1]:8443"), Some((Host::parse("2001:db8::1").unwrap(), Port(8443))));
    for text in ["a.example", "a.example:0", "[::1]", "0x7f.1:443"] {
        assert_eq!(target(text), None, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn whatever_is_sent_a_path_that_is_taken_has_no_second_reading(path in "/[ -~]{0,40}|(/|%2e|%2E|\\.|%2f|%5c|%|a|~|;|%C3%A9){0,12}") {
        if let Ok(once) = normalise_path(&path) {
            proptest::prop_assert_eq!(normalise_path(&once), Ok(once.clone()));
            proptest::prop_assert!(once.starts_with('/'));
            proptest::prop_assert!(!once.split('/').any(|segment| matches!(segment, "." | "..")));
            let lower = once.to_ascii_lowercase();
            proptest::prop_assert!(!["%5c", "%2e", "%00", "\\"].iter().any(|bad| lower.contains(bad)));
        }
    }

    #[test]
    fn an_authority_that_is_taken_means_the_same_when_written_out(text in "[a-zA-Z0-9.:\\[\\]@%-]{0,30}") {
        if let Some((host, port)) = parse_authority(&text, Scheme::Https) {
            proptest::prop_assert_eq!(parse_authority(&format!("{host}:{port}"), Scheme::Http), Some((host, port)));
        }
    }
}

#[test]
fn a_path_that_is_taken_as_it_is_would_not_be_rewritten() {
    let pieces = ["/", "a", "B9", ".", "..", ".a", "a.", "-_~", "%41", "%2F", "é", "!", "//", "\\", ":"];
    let mut taken = 0;
    for first in pieces {
        for second in pieces {
            for third in pieces {
                let path = format!("/{first}{second}/{third}");
                if is_normal(&path) {
                    taken += 1;
                    assert_eq!(rewrite_path(&path).as_deref(), Ok(path.as_str()));
                }
            }
        }
    }
    assert!(taken > 100, "{taken}");
    assert!(!is_normal("") && !is_normal("a") && !is_normal("/a/../b") && !is_normal("/."));
}
