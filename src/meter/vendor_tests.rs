//! What only some vendors do: Bedrock's formats, OpenRouter's own cost, xAI's sums.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{NanoUsd, Pricing, RequestLine};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const EVENTS: &str = "application/vnd.amazon.eventstream";

fn endpoint(host: &str, path: &str) -> Endpoint {
    let (host, port) = (crate::model::Host::parse(host).unwrap(), crate::model::Port(443));
    let scheme = crate::model::Scheme::Https;
    Endpoint::of(&RequestLine { method: "POST".to_owned(), scheme, host, port, path: path.to_owned() }).unwrap()
}

fn bedrock(model: &str, act: &str) -> Endpoint {
    endpoint("bedrock-runtime.us-east-1.amazonaws.com", &format!("/model/{model}/{act}"))
}

/// The reading of an answer, the same however it is cut.
fn read(endpoint: &Endpoint, kind: &str, body: &[u8], complete: bool) -> Option<Reading> {
    let in_pieces = |size| {
        let mut meter = Meter::new(endpoint.clone());
        meter.response_head(200, kind, None);
        body.chunks(size).for_each(|piece| meter.response(piece));
        meter.finish(complete)
    };
    let whole = in_pieces(body.len());
    for size in [1, 3, 64] {
        assert_eq!(in_pieces(size), whole, "in pieces of {size}");
    }
    whole
}

fn usage(input: u64, cache_read: u64, cache_write: u64, cache_write_long: u64, output: u64) -> Usage {
    Usage { input, cache_read, cache_write, cache_write_long, output, ..Usage::default() }
}

const CONVERSED: &str = r#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn",
    "usage":{"inputTokens":10,"outputTokens":5,"totalTokens":115,"cacheReadInputTokens":20,"cacheWriteInputTokens":80,
    "cacheDetails":[{"ttl":"1h","inputTokens":30},{"ttl":"5m","inputTokens":50}]},"metrics":{"latencyMs":1}}"#;

#[test]
fn converse_reports_disjoint_parts_and_the_times_of_its_cache() {
    let to = bedrock("us.anthropic.claude-opus-5", "converse");
    let reading = read(&to, "application/json", CONVERSED.as_bytes(), true).unwrap();
    assert_eq!((reading.usage, reading.certainty), (usage(10, 20, 50, 30, 5), Certainty::Final));
    assert_eq!(reading.model, "us.anthropic.claude-opus-5");
    let (cost, pricing) = PriceTable::embedded().price(to.vendor, &reading, "2026-11-26");
    let expected = 10 * 5_500 + 20 * 550 + 50 * 6_875 + 30 * 11_000 + 5 * 27_500;
    assert_eq!((cost, pricing), (NanoUsd(expected), Pricing::Exact), "a tenth more than elsewhere");
}

#[test]
fn a_stream_of_converse_reports_in_its_last_event() {
    let metadata = r#"{"usage":{"inputTokens":10,"outputTokens":5,"totalTokens":15},"metrics":{"latencyMs":1}}"#;
    let stream = [
        amazon::message("event", "messageStart", br#"{"role":"assistant"}"#),
        amazon::message("event", "contentBlockDelta", br#"{"delta":{"text":"hi"},"contentBlockIndex":0}"#),
        amazon::message("event", "messageStop", br#"{"stopReason":"end_turn"}"#),
        amazon::message("event", "metadata", metadata.as_bytes()),
    ]
    .concat();
    let to = bedrock("amazon.nova-lite-v1:0", "converse-stream");
    let reading = read(&to, EVENTS, &stream, true).unwrap();
    assert_eq!((reading.usage, reading.certainty), (usage(10, 0, 0, 0, 5), Certainty::Final));
    let cut = read(&to, EVENTS, &stream[..stream.len() - 9], false).unwrap();
    assert_eq!((cut.usage, cut.certainty), (Usage::default(), Certainty::Partial));
    let mut flipped = stream.clone();
    flipped[30] ^= 1;
    assert_eq!(read(&to, EVENTS, &flipped, true).unwrap().certainty, Certainty::Unreadable);
    let failed = amazon::message("exception", "throttlingException", br#"{"message":"slow down"}"#);
    assert_eq!(read(&to, EVENTS, &failed, true), None, "an error alone is not billed");
}

/// Anthropic's own events in base64, each in a message of Amazon's.
fn invoked(events: &[&str]) -> Vec<u8> {
    let chunk = |event: &&str| {
        let payload = format!("{{\"bytes\":\"{}\",\"p\":\"abc\"}}", STANDARD.encode(event));
        amazon::message("event", "chunk", payload.as_bytes())
    };
    events.iter().flat_map(chunk).collect()
}

#[test]
fn a_models_own_stream_is_read_within_amazons() {
    let events = [
        r#"{"type":"message_start","message":{"model":"claude-opus-5","usage":{"input_tokens":7,"cache_read_input_tokens":3,"output_tokens":1}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#,
        r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":7,"outputTokenCount":9}}"#,
    ];
    let to = bedrock("anthropic.claude-opus-5", "invoke-with-response-stream");
    let reading = read(&to, EVENTS, &invoked(&events), true).unwrap();
    assert_eq!((reading.usage, reading.certainty), (usage(7, 3, 0, 0, 9), Certainty::Final));
    assert_eq!(reading.model, "anthropic.claude-opus-5", "as Bedrock prices it");
    let other = bedrock("meta.llama3-8b-instruct-v1:0", "invoke-with-response-stream");
    let last = r#"{"generation":"hi","amazon-bedrock-invocationMetrics":{"inputTokenCount":7,"outputTokenCount":9}}"#;
    let reading = read(&other, EVENTS, &invoked(&[r#"{"generation":"h"}"#, last]), true).unwrap();
    assert_eq!((reading.usage, reading.certainty), (usage(7, 0, 0, 0, 9), Certainty::Final));
    let silent = read(&other, "application/json", br#"{"generation":"hi"}"#, true).unwrap();
    assert_eq!(silent.certainty, Certainty::Unreadable, "never free");
}

#[test]
fn what_openrouter_says_a_call_cost_is_what_it_cost() {
    let to = endpoint("openrouter.ai", "/api/v1/chat/completions");
    let body = |cost: &str| {
        format!(r#"{{"model":"anthropic/claude-opus-5","usage":{{"prompt_tokens":10,"completion_tokens":5{cost}}}}}"#)
    };
    let price = |body: &str| {
        let reading = read(&to, "application/json", body.as_bytes(), true).unwrap();
        PriceTable::embedded().price(to.vendor, &reading, "2026-11-26")
    };
    assert_eq!(price(&body(r#","cost":0.00123456"#)), (NanoUsd(1_234_560), Pricing::Exact));
    assert_eq!(price(&body(r#","cost":0"#)), (NanoUsd(0), Pricing::Exact), "a free model is free if it says so");
    let (cost, pricing) = price(&body(""));
    assert!(cost > NanoUsd(0) && pricing == Pricing::UnknownModel, "where it says nothing, the dearest");
    let (cost, pricing) = price(&body(r#","cost":-1"#));
    assert!(cost > NanoUsd(0) && pricing == Pricing::UnknownModel, "nor can it give something back");
    let elsewhere =
        read(&Dialect::OpenAiChat.into(), "application/json", body(r#","cost":0"#).as_bytes(), true).unwrap();
    assert_eq!(elsewhere.charged, None, "nobody else is believed");
}

#[test]
fn xais_chats_report_reasoning_beside_the_answer() {
    let body = r#"{"model":"grok-4.7","usage":{"prompt_tokens":10,"completion_tokens":5,
        "completion_tokens_details":{"reasoning_tokens":40}}}"#;
    let of = |to: &Endpoint| read(to, "application/json", body.as_bytes(), true).unwrap().usage.output;
    assert_eq!(of(&endpoint("api.x.ai", "/v1/chat/completions")), 45);
    assert_eq!(of(&Dialect::OpenAiChat.into()), 5);
}

#[test]
fn a_deployment_is_priced_by_the_model_that_answers() {
    let to = endpoint("ours.openai.azure.com", "/openai/deployments/our-name/chat/completions");
    let body = br#"{"model":"gpt-5-2025-08-07","usage":{"prompt_tokens":10,"completion_tokens":5}}"#;
    let reading = read(&to, "application/json", body, true).unwrap();
    let (cost, pricing) = PriceTable::embedded().price(to.vendor, &reading, "2026-11-26");
    assert_eq!((cost, pricing), (NanoUsd(10 * 1_250 + 5 * 10_000), Pricing::Exact));
}
