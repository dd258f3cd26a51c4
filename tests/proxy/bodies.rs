//! Bodies: nothing is held back, nothing is lost, nobody's stands in another's way, and each ends in the record once.

use crate::support::*;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use omni::model::{BodyEnd, Event, Pricing};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than anything here takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

fn everything() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**", "* api.anthropic.com/**"], ..Wanted::default() }
}

fn ask(method: &str, path: &str) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(format!("https://api.example.com{path}"));
    builder.body(Full::default()).unwrap()
}

/// An upstream whose answers stream; their feeds are given out in order.
async fn feeding(protocols: &[&str], streams_max: Option<u32>) -> (Upstream, Arc<Mutex<Vec<Feed>>>) {
    let feeds = Arc::new(Mutex::new(Vec::new()));
    let kept = feeds.clone();
    let upstream = Upstream::handled(protocols, streams_max, move |_| {
        let (feed, body) = channel();
        kept.lock().unwrap().push(feed);
        Box::pin(async move { Response::builder().header("content-type", "text/event-stream").body(body).unwrap() })
    });
    (upstream.await, feeds)
}

fn ends(events: &[Event]) -> Vec<BodyEnd> {
    let end = |event: &Event| match event {
        Event::RequestCompleted { end, .. } => Some(*end),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

/// So many streams to one host, all of them open at the same time, each with its events.
async fn all_progress(protocols: &[&str], streams_max: Option<u32>, count: usize) -> usize {
    let (upstream, feeds) = feeding(protocols, streams_max).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let client = proxy.client_h2::<Full<Bytes>>("api.example.com").await;
    let streams: Vec<_> = (0..count)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.send_request(ask("GET", "/sse")).await.unwrap().into_body() })
        })
        .collect();
    let opened = async {
        let mut bodies = Vec::new();
        for stream in streams {
            bodies.push(stream.await.unwrap());
        }
        bodies
    };
    let mut bodies = tokio::time::timeout(PATIENCE, opened).await.expect("every stream begins");
    let feeds: Vec<Feed> = std::mem::take(&mut *feeds.lock().unwrap());
    assert_eq!(feeds.len(), count);
    for feed in &feeds {
        feed.send(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")))).await.unwrap();
    }
    for body in &mut bodies {
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("every stream goes on");
        assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    }
    drop(feeds);
    for body in bodies {
        let rest = tokio::time::timeout(PATIENCE, body.collect()).await.expect("every stream ends");
        assert!(rest.as_ref().is_ok_and(|rest| rest.trailers().is_none()), "{protocols:?} {streams_max:?} {rest:?}");
    }
    assert_eq!(ends(&proxy.stop()), vec![BodyEnd::Complete; count]);
    upstream.connections.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_to_one_host_all_progress_whatever_it_takes_at_a_time() {
    assert_eq!(all_progress(&["h2"], Some(1000), 150).await, 3);
    assert_eq!(all_progress(&["h2"], Some(10), 150).await, 15);
    assert_eq!(all_progress(&["h2"], Some(1), 20).await, 20);
    assert_eq!(all_progress(&["h2"], None, 150).await, 3);
    assert_eq!(all_progress(&["http/1.1"], None, 150).await, 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_used_again_when_their_streams_have_ended() {
    let upstream = Upstream::start(&["h2"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client_h2("api.example.com").await;
    for _ in 0..300 {
        assert_eq!(told(client.send_request(ask("GET", "/")).await.unwrap()).await.0, 200);
    }
    assert_eq!(upstream.connections.load(Ordering::Relaxed), 1);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_hold_their_upstreams_back_and_nobody_else() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let upstream = Upstream::handled(&["h2"], None, move |request| {
        let sent = counted.clone();
        Box::pin(async move {
            if request.uri().path() == "/small" {
                return Response::new(text("small"));
            }
            let (feed, body) = channel();
            tokio::spawn(async move {
                let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
                while feed.send(Ok(Frame::data(chunk.clone()))).await.is_ok() {
                    sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
            });
            Response::new(body)
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut stuck = Vec::new();
    for _ in 0..40 {
        let mut client = proxy.client_h2::<Full<Bytes>>("api.example.com").await;
        let body = client.send_request(ask("GET", "/endless")).await.unwrap().into_body();
        stuck.push((client, body));
    }
    // Nothing sent for half a second is held back, not slow.
    let (mut last, mut still) = (0, 0);
    while still < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = sent.load(Ordering::Relaxed);
        still = if now > 0 && now == last { still + 1 } else { 0 };
        last = now;
        // Each may fill windows and buffers on both sides, and no more.
        assert!(last < 40 * 4 * 1024 * 1024, "{last} bytes were sent that nobody has read");
    }
    let mut other = proxy.client_h2("api.example.com").await;
    let small = tokio::time::timeout(PATIENCE, other.send_request(ask("GET", "/small"))).await;
    assert_eq!(told(small.expect("another's request goes on").unwrap()).await, (200, "small".to_owned()));
    assert_eq!(upstream.connections.load(Ordering::Relaxed), 1);
    drop(stuck);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_read_is_held_back_and_no_other() {
    // Over HTTP/2 it would be the upstream's own window that all of them share.
    let upstream = Upstream::handled(&["http/1.1"], None, |request| {
        Box::pin(async move {
            if request.uri().path() == "/small" {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                return Response::new(text(&body.len().to_string()));
            }
            std::future::pending().await
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client_h2::<Channel>("api.example.com").await;
    let (mut sent, mut feeds) = (0_usize, Vec::new());
    for _ in 0..20 {
        let (feed, body) = channel();
        let request = Request::builder().method("POST").uri("https://api.example.com/stuck").body(body).unwrap();
        tokio::spawn(client.send_request(request));
        let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
        let wait = Duration::from_millis(200);
        while let Ok(Ok(())) = tokio::time::timeout(wait, feed.send(Ok(Frame::data(chunk.clone())))).await {
            sent += chunk.len();
            assert!(sent < 20 * 8 * 1024 * 1024, "nothing holds the uploads back");
        }
        feeds.push(feed);
    }
    let (feed, body) = channel();
    feed.try_send(Ok(Frame::data(Bytes::from(vec![b'x'; 500_000])))).unwrap();
    drop(feed);
    let request = Request::builder().method("POST").uri("https://api.example.com/small").body(body).unwrap();
    let answer = tokio::time::timeout(PATIENCE, client.send_request(request)).await;
    assert_eq!(told(answer.expect("another's upload goes on").unwrap()).await, (200, "500000".to_owned()));
    drop(feeds);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways_without_what_they_must_not_carry() {
    let upstream = Upstream::handled(&["h2"], None, |request| {
        Box::pin(async move {
            let te = request.headers().get("te").cloned();
            let collected = request.into_body().collect().await.unwrap();
            let mut trailers = collected.trailers().cloned().unwrap_or_default();
            trailers.insert("grpc-status", "0".parse().unwrap());
            trailers.insert("x-echo", format!("key {REAL}").parse().unwrap());
            trailers.insert("alt-svc", "h3=\":443\"".parse().unwrap());
            let (feed, body) = channel();
            feed.try_send(Ok(Frame::data(collected.to_bytes()))).unwrap();
            feed.try_send(Ok(Frame::trailers(trailers))).unwrap();
            let mut answer = Response::new(body);
            answer.headers_mut().extend(te.map(|te| ("x-te".parse::<http::HeaderName>().unwrap(), te)));
            answer
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client_h2::<Channel>("api.example.com").await;
    let (feed, body) = channel();
    feed.try_send(Ok(Frame::data(Bytes::from_static(b"message")))).unwrap();
    let trailers = HeaderMap::from_iter([("x-sum".parse::<http::HeaderName>().unwrap(), "1".parse().unwrap())]);
    feed.try_send(Ok(Frame::trailers(trailers))).unwrap();
    drop(feed);
    let request = Request::builder().method("POST").uri("https://api.example.com/g").header("te", "trailers");
    let answer = client.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.headers()["x-te"], "trailers");
    let collected = answer.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap().clone();
    assert_eq!(collected.to_bytes(), "message");
    assert!(trailers["grpc-status"] == "0" && trailers["x-sum"] == "1", "{trailers:?}");
    assert!(trailers["x-echo"] == format!("key {PLACEHOLDER}") && !trailers.contains_key("alt-svc"), "{trailers:?}");
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_have_none() {
    for protocols in [["h2"], ["http/1.1"]] {
        let upstream = Upstream::handled(&protocols, None, |request| {
            let (status, body) = match (request.method(), request.uri().path()) {
                (&Method::HEAD, _) => (200, channel().1),
                (_, path) => (path[1..].parse().unwrap(), channel().1),
            };
            let answer = Response::builder().status(status).header("etag", "x");
            let answer = if status == 200 { answer.header("content-length", "1000000") } else { answer };
            Box::pin(async move { answer.body(body).unwrap() })
        })
        .await;
        let proxy = Proxy::start(Some(&upstream), everything());
        let mut client = proxy.client("api.example.com").await;
        for (method, path, status) in [("HEAD", "/a", 200), ("GET", "/204", 204), ("GET", "/304", 304)] {
            client.ready().await.unwrap();
            let answer = client.send_request(request(method, "api.example.com", path, "")).await.unwrap();
            assert_eq!(answer.status(), StatusCode::from_u16(status).unwrap());
            assert_eq!(answer.headers()["etag"], "x");
            assert_eq!(answer.headers().contains_key("content-length"), method == "HEAD");
            let body = tokio::time::timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap();
            assert!(body.to_bytes().is_empty());
        }
        assert_eq!(ends(&proxy.stop()), [BodyEnd::Complete; 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_leave_gets_it_and_a_refused_one_its_answer() {
    for protocols in [["h2"], ["http/1.1"]] {
        let upstream = Upstream::start(&protocols, |_, body| Response::new(text(&body.len().to_string()))).await;
        let wanted = Wanted { rules: &["POST api.example.com/ok"], ..Wanted::default() };
        let proxy = Proxy::start(Some(&upstream), wanted);
        let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
        let head = |path: &str, framing: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: api.example.com\r\nExpect: 100-continue\r\n{framing}\r\n\r\n")
        };
        for (framing, body) in
            [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
        {
            stream.write_all(head("/ok", framing).as_bytes()).await.unwrap();
            let mut leave = [0; 25];
            tokio::time::timeout(PATIENCE, stream.read_exact(&mut leave)).await.unwrap().unwrap();
            assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
            stream.write_all(body.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !String::from_utf8_lossy(&answer).contains("\r\n0\r\n\r\n") {
                answer.push(tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
            }
            assert!(answer.starts_with(b"HTTP/1.1 200") && upstream.last().1 == "hello");
            assert!(!upstream.last().0.headers.contains_key("expect"));
        }
        stream.write_all(head("/no", "Content-Length: 5").as_bytes()).await.unwrap();
        let mut status = [0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut status)).await.unwrap().unwrap();
        assert_eq!(&status, b"HTTP/1.1 403");
        assert_eq!(upstream.requests(), 2);
        proxy.stop();
    }
}

const BEGIN: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"type\":\"message\",\
\"model\":\"claude-sonnet-5\",\"usage\":{\"input_tokens\":100,\"output_tokens\":1}}}\n\n";

fn metered(events: &[Event]) -> Vec<(Pricing, u64)> {
    let reading = |event: &Event| match event {
        Event::UsageMetered { pricing, usage, .. } => Some((*pricing, usage.input)),
        _ => None,
    };
    events.iter().filter_map(reading).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_a_model_call_cancels_it_at_once_and_is_settled_once() {
    for (client_h2, protocols) in [(false, ["h2"]), (true, ["h2"]), (false, ["http/1.1"]), (true, ["http/1.1"])] {
        let (upstream, feeds) = feeding(&protocols, None).await;
        let proxy = Proxy::start(Some(&upstream), everything());
        let mut body: Incoming;
        let connection: Box<dyn std::any::Any>;
        if client_h2 {
            let mut client = proxy.client_h2("api.anthropic.com").await;
            let asked = Request::post("https://api.anthropic.com/v1/messages").body(Full::<Bytes>::default()).unwrap();
            body = client.send_request(asked).await.unwrap().into_body();
            connection = Box::new(client);
        } else {
            let mut client = proxy.client("api.anthropic.com").await;
            let asked = request("POST", "api.anthropic.com", "/v1/messages", "{}");
            body = client.send_request(asked).await.unwrap().into_body();
            connection = Box::new(client);
        }
        let feed = feeds.lock().unwrap().pop().unwrap();
        feed.send(Ok(Frame::data(Bytes::from_static(BEGIN.as_bytes())))).await.unwrap();
        body.frame().await.unwrap().unwrap();
        drop((body, connection));
        let cancelled = tokio::time::timeout(PATIENCE, feed.closed()).await;
        assert!(cancelled.is_ok(), "the upstream was not told, {client_h2} {protocols:?}");
        soon("it is settled", || !of_kind(&proxy.memory.events(), "usage_metered").is_empty()).await;
        let events = proxy.stop();
        assert_eq!(ends(&events), [BodyEnd::ClientGone], "{events:?}");
        assert_eq!(metered(&events), [(Pricing::Incomplete, 100)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_a_model_call_off_is_said_to_have() {
    for protocols in [["h2"], ["http/1.1"]] {
        let (upstream, feeds) = feeding(&protocols, None).await;
        let proxy = Proxy::start(Some(&upstream), everything());
        let mut client = proxy.client("api.anthropic.com").await;
        let asked = request("POST", "api.anthropic.com", "/v1/messages", "{}");
        let mut body = client.send_request(asked).await.unwrap().into_body();
        let feed = feeds.lock().unwrap().pop().unwrap();
        feed.send(Ok(Frame::data(Bytes::from_static(BEGIN.as_bytes())))).await.unwrap();
        body.frame().await.unwrap().unwrap();
        feed.send(Err(std::io::ErrorKind::ConnectionReset.into())).await.unwrap();
        // The client learns that what it has is not all of it.
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        let events = proxy.stop();
        assert_eq!(ends(&events), [BodyEnd::UpstreamBroke], "{events:?}");
        assert_eq!(metered(&events), [(Pricing::Incomplete, 100)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_answer_cancels_too() {
    let (told_sender, mut told) = tokio::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>(1);
    let upstream = Upstream::handled(&["h2", "http/1.1"], None, move |_| {
        let told = told_sender.clone();
        Box::pin(async move {
            let (mut alive, watch) = tokio::sync::oneshot::channel::<()>();
            let (report, reported) = tokio::sync::oneshot::channel();
            told.send(report).await.unwrap();
            let _watch = watch;
            let _reported = reported;
            alive.closed().await;
            Response::new(text("never"))
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client("api.example.com").await;
    let waiting = tokio::spawn(async move { client.send_request(request("GET", "api.example.com", "/", "")).await });
    let mut report = told.recv().await.unwrap();
    waiting.abort();
    tokio::time::timeout(PATIENCE, report.closed()).await.expect("the upstream's request is dropped");
    soon("it is settled", || !of_kind(&proxy.memory.events(), "request_failed").is_empty()).await;
    assert_eq!(of_kind(&proxy.stop(), "request_failed").len(), 1);
}
