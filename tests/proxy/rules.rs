//! What rules say beyond method, host and path, held on the wire, with the upstream as witness.

use crate::support::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use hyper::client::conn::http1::SendRequest;
use omni::model::{BodyEnd, Event};
use std::os::fd::{AsFd, OwnedFd};

async fn upstream() -> Upstream {
    Upstream::start(&["http/1.1"], |head, _| match head.uri.path() {
        "/big" => {
            let mut response = Response::new(text(&"x".repeat(1000)));
            response.headers_mut().insert("content-length", "1000".parse().unwrap());
            response
        }
        "/endless" => Response::new(text(&"x".repeat(1000))),
        _ => Response::new(text("hello")),
    })
    .await
}

fn get(path: &str, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut builder = Request::builder().uri(path).header("host", "api.example.com");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Full::default()).unwrap()
}

/// The status and body of the answer to one more request of a connection.
async fn ask(client: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (u16, String) {
    client.ready().await.unwrap();
    told(client.send_request(request).await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_on_headers_and_queries_are_held_for_each_request_of_a_connection() {
    let upstream = upstream().await;
    let rules = ["GET api.example.com/** header:x-mode=read* query:format=json"];
    let denials = ["* api.example.com/** query:debug=*"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, denials: &denials, ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    for (path, headers, expected) in [
        ("/a?format=json", &[("x-mode", "read-only")][..], 200),
        ("/a?format=json", &[], 403),
        ("/a?format=xml", &[("x-mode", "read-only")], 403),
        ("/a?format=json", &[("x-mode", "read"), ("x-mode", "write")], 403),
        ("/a?format=json&d%65bug=1", &[("x-mode", "read")], 403),
        ("/a?f%6Frmat=json", &[("x-mode", "read")], 200),
    ] {
        let (status, body) = ask(&mut client, get(path, headers)).await;
        assert_eq!(status, expected, "{path} {headers:?}: {body}");
    }
    assert_eq!(upstream.requests(), 2);
    let events = proxy.stop();
    let [Event::RequestAllowed { rule_from, .. }, ..] = &of_kind(&events, "request_allowed")[..] else { panic!() };
    assert_eq!(rule_from.as_deref(), Some("profile test"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_is_refused_with_the_time_to_wait() {
    let upstream = upstream().await;
    let (rules, limits) = (["* api.example.com/**"], ["GET *:* rate=2/h"]);
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, limits: &limits, ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    for expected in [200, 200, 429] {
        client.ready().await.unwrap();
        let response = client.send_request(get("/", &[])).await.unwrap();
        let wait = response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
        let (status, body) = told(response).await;
        assert_eq!(
            (status, wait.is_some_and(|wait| wait > 3_000 && wait <= 3_600)),
            (expected, expected == 429),
            "{body}"
        );
    }
    let (status, _) = ask(&mut client, request("POST", "api.example.com", "/", "x")).await;
    assert_eq!((status, upstream.requests()), (200, 3));
    let events = proxy.stop();
    assert_eq!(of_kind(&events, "request_denied").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_says_it_is_too_large_does_not_begin() {
    let upstream = upstream().await;
    let rules = ["POST api.example.com/** upload=10 session-upload=15"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    let mut post = async |body: &str| ask(&mut client, request("POST", "api.example.com", "/", body)).await;
    let (status, body) = post("12345678901").await;
    assert!(status == 413 && body.contains("lets 10 bytes through as a request's body"), "{status} {body}");
    assert_eq!(post("1234567890").await.0, 200);
    let (status, body) = post("123456").await;
    assert!(status == 413 && body.contains("lets 15 bytes through in all requests of the session"), "{status} {body}");
    assert_eq!(post("12345").await.0, 200);
    assert_eq!(post("1").await.0, 413);
    assert_eq!((upstream.requests(), of_kind(&proxy.stop(), "request_denied").len()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_a_length_is_cut_where_it_becomes_too_large() {
    let upstream = upstream().await;
    let rules = ["POST api.example.com/** upload=10"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    let (feed, body) = channel();
    let request = Request::builder().method("POST").uri("/").header("host", "api.example.com").body(body).unwrap();
    feed.send(Ok(Frame::data(Bytes::from_static(b"1234567890")))).await.unwrap();
    feed.send(Ok(Frame::data(Bytes::from_static(b"1")))).await.unwrap();
    let (status, body) = told(client.send_request(request).await.unwrap()).await;
    assert!(status == 413 && body.contains("lets 10 bytes through"), "{status} {body}");
    // The upstream never saw it whole.
    assert!(upstream.seen.lock().unwrap().iter().all(|(_, body)| body.len() <= 10));
    let events = proxy.stop();
    assert!(
        matches!(&of_kind(&events, "request_failed")[..], [Event::RequestFailed { reason, .. }] if reason.contains("10 bytes"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_explained_or_cut() {
    let upstream = upstream().await;
    let rules = ["GET api.example.com/** download=999"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    let (status, body) = told(client.send_request(get("/big", &[])).await.unwrap()).await;
    assert!(status == 403 && body.contains("lets 999 bytes through as an answer's body"), "{status} {body}");
    let mut client = proxy.client("api.example.com").await;
    // Cut off, with its head or even before that; never something that looks whole.
    if let Ok(response) = client.send_request(get("/endless", &[])).await {
        assert!(response.status() == 200 && response.into_body().collect().await.is_err());
    }
    let mut client = proxy.client("api.example.com").await;
    assert_eq!(told(client.send_request(get("/", &[])).await.unwrap()).await, (200, "hello".to_owned()));
    let end = |event: &Event| match event {
        Event::RequestCompleted { end, response_bytes, .. } => Some((*end, *response_bytes)),
        _ => None,
    };
    let ends: Vec<_> = proxy.stop().iter().filter_map(end).collect();
    assert_eq!(ends, [(BodyEnd::QuotaReached, 0), (BodyEnd::QuotaReached, 0), (BodyEnd::Complete, 5)]);
}

/// The two ends of the way that rules come.
pub fn way() -> (OwnedFd, OwnedFd) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

pub fn add(way: &OwnedFd, number: u32, effect: &str, rule: &str) -> serde_json::Value {
    let amendment = serde_json::json!({"number": number, "user": "ada", "effect": effect, "rule": rule});
    let said = serde_json::json!({"amend": amendment}).to_string();
    rustix::net::send(way.as_fd(), said.as_bytes(), rustix::net::SendFlags::NOSIGNAL).unwrap();
    let mut answer = vec![0; 32 * 1024];
    let (count, _) = rustix::net::recv(way.as_fd(), &mut answer[..], rustix::net::RecvFlags::empty()).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&answer[..count]).unwrap();
    said["amended"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_added_counts_from_the_next_request_of_an_open_connection() {
    let (upstream, (ours, theirs)) = (upstream().await, way());
    let denials = ["* api.example.com/secret/**"];
    let wanted = Wanted { amendments: Some(theirs), denials: &denials, ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    let mut client = proxy.client("api.example.com").await;
    let mut status = async |path: &str| ask(&mut client, get(path, &[])).await.0;
    assert_eq!(status("/a").await, 403);
    let fine = |number: u32| serde_json::json!({"number": number, "refused": null});
    assert_eq!(add(&ours, 7, "allow", "GET api.example.com/**"), fine(7));
    assert_eq!((status("/a").await, status("/secret/a").await), (200, 403));
    assert_eq!(add(&ours, 8, "deny", "GET api.example.com/b"), fine(8));
    assert_eq!((status("/a").await, status("/b").await), (200, 403));
    assert_eq!(add(&ours, 9, "limit", "* *:* rate=1/h"), fine(9));
    assert_eq!((status("/a").await, status("/a").await), (200, 429));
    for (effect, rule, why) in [
        ("allow", "GET *", "`*` allows every host there is"),
        ("allow", "GET a b c", "is left over"),
        ("permit", "GET a.com", "`permit` is no effect of a rule"),
    ] {
        let refused = add(&ours, 10, effect, rule)["refused"].as_str().unwrap().to_owned();
        assert!(refused.contains(why), "{refused}");
    }
    let events = of_kind(&proxy.stop(), "rule_added");
    let told: Vec<_> = events
        .iter()
        .map(|event| match event {
            Event::RuleAdded { user, rule, .. } => (user.as_str(), rule.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("ada", "allow GET api.example.com/**"),
        ("ada", "deny GET api.example.com/b"),
        ("ada", "limit * *:*/** rate=1/h"),
    ];
    assert_eq!(told, expected);
}
