//! Model calls through the whole proxy: each is metered once, and one that cannot be read is said to be.

use crate::support::*;
use bytes::Bytes;
use http::{Response, response};
use hyper::body::Frame;
use omni::model::{Event, Pricing};
use std::sync::atomic::{AtomicUsize, Ordering};

const ANTHROPIC: (&str, &str) = ("api.anthropic.com", "/v1/messages");
const RESPONSES: (&str, &str) = ("api.openai.com", "/v1/responses");
const CHAT: (&str, &str) = ("api.openai.com", "/v1/chat/completions");

const MESSAGE_STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"type\":\"message\",\
\"model\":\"claude-sonnet-5\",\"usage\":{\"input_tokens\":100,\"cache_read_input_tokens\":10,\"output_tokens\":1}}}\n\n\
event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
\"usage\":{\"output_tokens\":20}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
const RESPONSE_STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n\
event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-6-sol\",\
\"usage\":{\"input_tokens\":110,\"input_tokens_details\":{\"cached_tokens\":10},\"output_tokens\":20}}}\n\n";
const CHAT_STREAM: &str = "data: {\"model\":\"gpt-6-sol\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\
\"usage\":null}\n\ndata: {\"model\":\"gpt-6-sol\",\"choices\":[],\"usage\":{\"prompt_tokens\":110,\
\"prompt_tokens_details\":{\"cached_tokens\":10},\"completion_tokens\":20}}\n\ndata: [DONE]\n\n";
const CHAT_WITHOUT_USAGE: &str =
    "data: {\"model\":\"gpt-6-sol\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n";
const ERROR_EVENT: &str =
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";

/// One byte after the other, so that every event is cut everywhere.
fn crumbled(text: &[u8]) -> Channel {
    let (feed, body) = channel();
    let bytes = text.to_vec();
    tokio::spawn(async move {
        for byte in bytes {
            if feed.send(Ok(Frame::data(Bytes::from(vec![byte])))).await.is_err() {
                return;
            }
        }
    });
    body
}

fn stream() -> response::Builder {
    Response::builder().header("content-type", "text/event-stream; charset=utf-8")
}

/// What is metered of calls that are answered like this, over either protocol of the upstream.
async fn metered(
    (host, path): (&str, &str),
    calls: usize,
    answer: impl Fn(usize) -> Answer + Clone + Send + Sync + 'static,
) -> Vec<(Pricing, u64, u64, u64, String)> {
    let mut both = Vec::new();
    for protocols in [["h2"], ["http/1.1"]] {
        let (answer, count) = (answer.clone(), AtomicUsize::new(0));
        let upstream = Upstream::start(&protocols, move |head, _| {
            assert!(!head.headers.contains_key("accept-encoding"));
            answer(count.fetch_add(1, Ordering::SeqCst))
        })
        .await;
        let proxy = Proxy::start(
            Some(&upstream),
            Wanted { rules: &["* *.anthropic.com/**", "* *.openai.com/**"], ..Wanted::default() },
        );
        let mut client = proxy.client(host).await;
        for _ in 0..calls {
            let mut asked = request("POST", host, path, r#"{"stream":true,"model":"asked-for"}"#);
            asked.headers_mut().insert("accept-encoding", "gzip, br, zstd".parse().unwrap());
            client.ready().await.unwrap();
            told(client.send_request(asked).await.unwrap()).await;
        }
        let events = proxy.stop();
        assert_eq!(of_kind(&events, "request_completed").len(), calls);
        let reading = |event: &Event| match event {
            Event::UsageMetered { pricing, usage, model, .. } => {
                Some((*pricing, usage.input, usage.cache_read, usage.output, model.clone()))
            }
            _ => None,
        };
        both.push(events.iter().filter_map(reading).collect::<Vec<_>>());
    }
    assert_eq!(both[0], both[1]);
    both.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_metered_to_the_token_however_they_are_cut() {
    for (call, text, model) in [
        (ANTHROPIC, MESSAGE_STREAM, "claude-sonnet-5"),
        (RESPONSES, RESPONSE_STREAM, "gpt-6-sol"),
        (CHAT, CHAT_STREAM, "gpt-6-sol"),
    ] {
        let read = metered(call, 1, move |_| stream().body(crumbled(text.as_bytes())).unwrap()).await;
        assert_eq!(read, [(Pricing::Exact, 100, 10, 20, model.to_owned())], "{call:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_said_to_be_unreadable() {
    // The beginning of any gzip stream.
    let packed: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x2d\x4b\xcd\x2b\xb1\x52\xc8\x2d\xce\x4c\x2f\x4a\x2d\x56";
    for call in [ANTHROPIC, RESPONSES, CHAT] {
        for coding in [Some("gzip"), Some("br"), Some("identity, gzip"), None] {
            for kind in ["text/event-stream", "application/json", "application/octet-stream"] {
                let read = metered(call, 1, move |_| {
                    let answer = Response::builder().header("content-type", kind);
                    let answer =
                        coding.into_iter().fold(answer, |answer, coding| answer.header("content-encoding", coding));
                    answer.body(crumbled(packed)).unwrap()
                });
                let read = read.await;
                assert_eq!(
                    read,
                    [(Pricing::Unreadable, 0, 0, 0, "asked-for".to_owned())],
                    "{call:?} {coding:?} {kind}"
                );
            }
        }
    }
    for (call, body) in [(CHAT, CHAT_WITHOUT_USAGE), (ANTHROPIC, "{}"), (RESPONSES, "<html>"), (ANTHROPIC, "")] {
        let read = metered(call, 1, move |_| stream().body(crumbled(body.as_bytes())).unwrap()).await;
        assert!(matches!(&read[..], [(Pricing::Unreadable, 0, 0, 0, _)]), "{call:?} {body}: {read:?}");
    }
}

/// What is compressed against our wish is read in a copy, whether it says so or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_answer_is_metered_all_the_same() {
    let deflated = miniz_oxide::deflate::compress_to_vec(MESSAGE_STREAM.as_bytes(), 6);
    let zlib = miniz_oxide::deflate::compress_to_vec_zlib(MESSAGE_STREAM.as_bytes(), 6);
    // RFC 1952: a head without a name; at the end CRC and length, of which the reader needs none.
    let gzip = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff".as_slice(), &deflated, &[0; 8]].concat();
    for (coding, bytes) in [(Some("gzip"), &gzip), (Some("deflate"), &zlib), (None, &gzip)] {
        let bytes = bytes.clone();
        let read = metered(ANTHROPIC, 1, move |_| {
            let answer = coding.into_iter().fold(stream(), |answer, coding| answer.header("content-encoding", coding));
            answer.body(crumbled(&bytes)).unwrap()
        });
        assert_eq!(read.await, [(Pricing::Exact, 100, 10, 20, "claude-sonnet-5".to_owned())], "{coding:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_call_costs_nothing_and_its_retry_is_billed_once() {
    let answers = |call: usize| match call {
        0 => Response::builder().status(529).header("content-type", "application/json").body(text("{}")).unwrap(),
        1 => Response::builder().status(429).header("retry-after", "1").body(text("slow down")).unwrap(),
        2 => stream().body(text(ERROR_EVENT)).unwrap(),
        _ => stream().body(text(MESSAGE_STREAM)).unwrap(),
    };
    let read = metered(ANTHROPIC, 4, answers).await;
    assert_eq!(read, [(Pricing::Exact, 100, 10, 20, "claude-sonnet-5".to_owned())]);
}

/// What is metered of requests to OpenAI and Anthropic, one after the other, each answered with the text of its path.
async fn fetched(requests: &[(&str, &str, &str)], answer: fn(&str) -> String) -> Vec<(String, Pricing, u64, String)> {
    let upstream = Upstream::start(&["http/1.1"], move |head, _| {
        assert!(!head.headers.contains_key("accept-encoding") || head.method == "POST");
        Response::builder().header("content-type", "application/json").body(text(&answer(head.uri.path()))).unwrap()
    })
    .await;
    let wanted = Wanted { rules: &["* *.anthropic.com/**", "* *.openai.com/**"], ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    for (method, host, path) in requests {
        let mut client = proxy.client(host).await;
        let mut asked =
            request(method, host, path, if *method == "POST" { r#"{"background":true,"model":"m"}"# } else { "" });
        asked.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
        client.ready().await.unwrap();
        told(client.send_request(asked).await.unwrap()).await;
    }
    let reading = |event: &Event| match event {
        Event::UsageMetered { dialect, pricing, usage, service, .. } => {
            Some((dialect.clone(), *pricing, usage.output, service.clone()))
        }
        _ => None,
    };
    proxy.stop().iter().filter_map(reading).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_later_is_metered_when_it_is_fetched_and_once() {
    let in_background = |path: &str| {
        match path.strip_prefix("/v1/responses") {
        Some("") => r#"{"id":"resp_1","background":true,"status":"queued","model":"gpt-5.5","usage":null}"#.to_owned(),
        Some("/resp_other") => {
            r#"{"id":"resp_other","background":false,"status":"completed","model":"gpt-5.5","usage":{"input_tokens":1,"output_tokens":9}}"#
                .to_owned()
        }
        _ => r#"{"id":"resp_1","background":true,"status":"completed","model":"gpt-5.5","usage":{"input_tokens":1,"output_tokens":7}}"#
            .to_owned(),
    }
    };
    let host = "api.openai.com";
    let asked = ("POST", host, "/v1/responses");
    let [poll, other] = ["/v1/responses/resp_1", "/v1/responses/resp_other"].map(|path| ("GET", host, path));
    let told = fetched(&[asked, poll, poll, other, poll], in_background).await;
    let row = |dialect: &str, pricing, output, service: &str| (dialect.to_owned(), pricing, output, service.to_owned());
    let unread = row("openai-responses", Pricing::Unreadable, 0, "");
    assert_eq!(told, [unread, row("openai-responses", Pricing::Exact, 7, "")]);

    let batch = |path: &str| {
        match path {
        "/v1/messages/batches" => r#"{"id":"msgbatch_1","processing_status":"in_progress"}"#.to_owned(),
        _ => (1..=2)
            .map(|number| {
                format!(
                    "{{\"custom_id\":\"c\",\"result\":{{\"type\":\"succeeded\",\"message\":{{\"id\":\"msg_{number}\",\"type\":\"message\",\
                     \"model\":\"claude-sonnet-5\",\"usage\":{{\"input_tokens\":1,\"output_tokens\":{number}}}}}}}}}\n"
                )
            })
            .collect(),
    }
    };
    let host = "api.anthropic.com";
    let results = ("GET", host, "/v1/messages/batches/msgbatch_1/results");
    let told = fetched(&[("POST", host, "/v1/messages/batches"), results, results], batch).await;
    let one = |output| row("anthropic-messages", Pricing::Exact, output, "batch");
    assert_eq!(told, [row("unmetered", Pricing::Unreadable, 0, ""), one(1), one(2)]);
}
