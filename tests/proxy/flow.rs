//! What is allowed: it arrives, streams, is metered and settled.

use crate::support::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Frame;
use omni::model::{BodyEnd, Event, RequestNumber};
use std::sync::{Arc, Mutex};

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_request_reaches_its_upstream_with_the_real_key() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["POST api.example.com/v1/**"], ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    let mut asked = request("POST", "api.example.com", "/v1/x/../%61?q=1", "body");
    asked.headers_mut().insert("x-api-key", PLACEHOLDER.parse().unwrap());
    asked.headers_mut().insert("proxy-authorization", "Basic abc".parse().unwrap());
    let response = client.send_request(asked).await.unwrap();
    assert_eq!(told(response).await, (200, "hello".to_owned()));
    let (head, body) = upstream.last();
    assert_eq!(head.uri, "/v1/a?q=1");
    assert_eq!(
        (&head.headers["x-api-key"], &head.headers["host"]),
        (&REAL.parse().unwrap(), &"api.example.com".parse().unwrap())
    );
    assert!(!head.headers.contains_key("proxy-authorization"));
    assert_eq!(body, "body");
    drop(client);
    let events = proxy.stop();
    let kinds: Vec<&str> = events.iter().map(Event::kind).collect();
    assert_eq!(kinds, ["proxy_started", "request_allowed", "request_completed"]);
    assert!(matches!(&events[1], Event::RequestAllowed { secrets, .. } if secrets == &["vendor"]));
    let Event::RequestCompleted { request, status, request_bytes, response_bytes, end, .. } = events[2] else {
        panic!()
    };
    assert_eq!((request, status, request_bytes, response_bytes, end), (RequestNumber(1), 200, 4, 5, BodyEnd::Complete));
    assert!(!format!("{events:?}").contains(REAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_works_on_both_sides_and_each_request_is_judged() {
    let upstream = Upstream::start(&["h2"], |_, _| Response::new(text("two"))).await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["GET api.example.com/ok"], ..Wanted::default() });
    let mut client = proxy.client_h2("api.example.com").await;
    let ask = |uri: &str| Request::builder().uri(uri).body(Full::<Bytes>::default()).unwrap();
    let (first, second, third) = tokio::join!(
        client.clone().send_request(ask("https://api.example.com/ok")),
        client.clone().send_request(ask("https://api.example.com/no")),
        client.send_request(ask("https://evil.example/ok")),
    );
    assert_eq!(told(first.unwrap()).await, (200, "two".to_owned()));
    assert_eq!((told(second.unwrap()).await.0, told(third.unwrap()).await.0), (403, 421));
    assert_eq!((upstream.requests(), upstream.last().0.version), (1, http::Version::HTTP_2));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_goes_by_absolute_url() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let proxy = Proxy::start(None, Wanted { rules: &["GET http://api.example.com/**"], ..Wanted::default() });
    let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let asked = "GET http://api.example.com/a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    // It was judged and allowed; there are no name servers in this test.
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("does not resolve"), "{answer}");
    assert_eq!(of_kind(&proxy.stop(), "request_allowed").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_stream_arrives_before_the_next_is_sent() {
    let feed = Arc::new(Mutex::new(None));
    let kept = feed.clone();
    let script = move |_: &http::request::Parts, _: &Bytes| {
        let (feed, body) = channel();
        *kept.lock().unwrap() = Some(feed);
        Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
    };
    let upstream = Upstream::start(&["h2", "http/1.1"], script).await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["GET api.example.com/**"], ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    let response = client.send_request(request("GET", "api.example.com", "/sse", "")).await.unwrap();
    let feed: Feed = feed.lock().unwrap().take().unwrap();
    let mut body = response.into_body();
    for number in 0..3 {
        let event = Bytes::from(format!("data: {number}\n\n"));
        feed.send(Ok(Frame::data(event.clone()))).await.unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), event);
    }
    drop(feed);
    assert!(body.frame().await.is_none());
    proxy.stop();
}

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-5","content":[],
"stop_reason":"end_turn","usage":{"input_tokens":100,"cache_read_input_tokens":10,"cache_creation_input_tokens":0,"output_tokens":20}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_model_call_is_metered_to_the_token() {
    let script = |_: &http::request::Parts, _: &Bytes| {
        Response::builder().header("content-type", "application/json").body(text(MESSAGE)).unwrap()
    };
    let upstream = Upstream::start(&["http/1.1"], script).await;
    let wanted =
        Wanted { rules: &["POST api.anthropic.com/**"], secret_host: "api.anthropic.com", ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    let mut client = proxy.client("api.anthropic.com").await;
    let mut asked =
        request("POST", "api.anthropic.com", "/v1/messages", r#"{"model":"claude-sonnet-5","max_tokens":9}"#);
    asked.headers_mut().insert("x-api-key", PLACEHOLDER.parse().unwrap());
    asked.headers_mut().insert("accept-encoding", "gzip, br".parse().unwrap());
    assert_eq!(told(client.send_request(asked).await.unwrap()).await, (200, MESSAGE.to_owned()));
    assert!(!upstream.last().0.headers.contains_key("accept-encoding"));
    let events = proxy.stop();
    let metered = of_kind(&events, "usage_metered");
    let [Event::UsageMetered { request, model, usage, dialect, .. }] = &metered[..] else { panic!("{events:?}") };
    assert_eq!(
        (*request, model.as_str(), dialect.as_str()),
        (RequestNumber(1), "claude-sonnet-5", "anthropic-messages")
    );
    assert_eq!((usage.input, usage.cache_read, usage.output), (100, 10, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_and_an_upstream_that_breaks_are_each_settled_once() {
    let feed = Arc::new(Mutex::new(Vec::new()));
    let kept = feed.clone();
    let script = move |_: &http::request::Parts, _: &Bytes| {
        let (feed, body) = channel();
        feed.try_send(Ok(Frame::data(Bytes::from_static(b"begin")))).unwrap();
        kept.lock().unwrap().push(feed);
        Response::builder().header("content-length", "100").body(body).unwrap()
    };
    let upstream = Upstream::start(&["http/1.1"], script).await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["GET api.example.com/**"], ..Wanted::default() });
    let mut leaver = proxy.client("api.example.com").await;
    let mut left = leaver.send_request(request("GET", "api.example.com", "/1", "")).await.unwrap().into_body();
    left.frame().await.unwrap().unwrap();
    drop((left, leaver));
    let mut stayer = proxy.client("api.example.com").await;
    let mut broken = stayer.send_request(request("GET", "api.example.com", "/2", "")).await.unwrap().into_body();
    broken.frame().await.unwrap().unwrap();
    let second: Feed = feed.lock().unwrap().pop().unwrap();
    second.send(Err(std::io::ErrorKind::Other.into())).await.unwrap();
    assert!(broken.frame().await.is_none_or(|frame| frame.is_err()));
    let mut ends: Vec<_> = of_kind(&proxy.stop(), "request_completed")
        .into_iter()
        .map(|event| match event {
            Event::RequestCompleted { request, end, .. } => (request.0, end),
            _ => unreachable!(),
        })
        .collect();
    ends.sort_by_key(|(request, _)| *request);
    assert_eq!(ends, [(1, BodyEnd::ClientGone), (2, BodyEnd::UpstreamBroke)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_end_settles_what_is_still_open() {
    let feed = Arc::new(Mutex::new(None));
    let kept = feed.clone();
    let script = move |_: &http::request::Parts, _: &Bytes| {
        let (feed, body) = channel();
        *kept.lock().unwrap() = Some(feed);
        Response::new(body)
    };
    let upstream = Upstream::start(&["http/1.1"], script).await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["GET api.example.com/**"], ..Wanted::default() });
    let mut client = proxy.client("api.example.com").await;
    let response = client.send_request(request("GET", "api.example.com", "/", "")).await.unwrap();
    let events = tokio::task::spawn_blocking(move || proxy.stop()).await.unwrap();
    drop((response, feed));
    let [Event::RequestCompleted { end, .. }] = of_kind(&events, "request_completed")[..] else { panic!("{events:?}") };
    assert_eq!(end, BodyEnd::SessionEnded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_weeks_still_has_certificates_that_hold() {
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    for days in [0, 1, 2, 29] {
        let upstream = Upstream::start(&["h2"], |_, _| Response::new(text("hello"))).await;
        let wanted = Wanted { rules: &["GET api.example.com/**"], age: day * days, ..Wanted::default() };
        let proxy = Proxy::start(Some(&upstream), wanted);
        let mut client = proxy.client("api.example.com").await;
        let response = client.send_request(request("GET", "api.example.com", "/", "")).await.unwrap();
        assert_eq!(told(response).await, (200, "hello".to_owned()), "after {days} days");
        proxy.stop();
    }
}
