//! Whole calls through a [`Meter`]: answers as the vendors send them, cut in every way.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{NanoUsd, Pricing};
use Dialect::{AnthropicMessages, OpenAiChat, OpenAiResponses};

const SSE: &str = "text/event-stream; charset=utf-8";
const JSON: &str = "application/json";

const CLAUDE_STREAM: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",",
    "\"model\":\"claude-sonnet-5-20260101\",\"content\":[],\"usage\":{\"input_tokens\":12,",
    "\"cache_creation_input_tokens\":700,\"cache_creation\":{\"ephemeral_5m_input_tokens\":500,",
    "\"ephemeral_1h_input_tokens\":0},\"cache_read_input_tokens\":9000,\"output_tokens\":1,",
    "\"service_tier\":\"standard\"}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":",
    "\"text_delta\",\"text\":\"h\\u00e9 \\\"usage\\\":{}\"},\"usage\":{\"output_tokens\":5}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},",
    "\"usage\":{\"output_tokens\":345,\"output_tokens_details\":{\"thinking_tokens\":300},",
    "\"server_tool_use\":{\"web_search_requests\":2,\"web_fetch_requests\":1}}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

const RESPONSES_STREAM: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":",
    "\"gpt-6.1-sol\",\"status\":\"in_progress\",\"usage\":null,\"error\":null,\"output\":[]}}\r\n\r\n",
    "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"web_search_call\",\"id\":\"w\"}}\r\n\r\n",
    "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"model\":\"gpt-6.1-sol-2026-05-06\",",
    "\"status\":\"completed\",\"service_tier\":\"priority\",\"output\":[{\"type\":\"web_search_call\"},",
    "{\"type\":\"message\",\"content\":[]}],\"usage\":{\"input_tokens\":1000,\"input_tokens_details\":",
    "{\"cached_tokens\":600,\"cache_write_tokens\":150,\"cache_write_tokens_details\":{\"ttl_30m_tokens\":100,",
    "\"ttl_12h_tokens\":50}},\"output_tokens\":80,\"output_tokens_details\":{\"reasoning_tokens\":64},",
    "\"total_tokens\":1080}}}\r\n\r\n",
);

const CHAT_STREAM: &str = concat!(
    "data: {\"id\":\"c\",\"model\":\"gpt-5.4\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n",
    "data: {\"id\":\"c\",\"model\":\"gpt-5.4\",\"choices\":[],\"usage\":{\"prompt_tokens\":50,\"completion_tokens\":7,",
    "\"prompt_tokens_details\":{\"cached_tokens\":20},\"completion_tokens_details\":{\"reasoning_tokens\":3}}}\n\n",
    "data: [DONE]\n\n",
);

const CLAUDE_JSON: &str = r#"{"id":"m","type":"message","model":"claude-opus-5","content":[{"type":"text","text":"x"}],
    "usage":{"input_tokens":10,"cache_read_input_tokens":null,"cache_creation_input_tokens":90,
    "cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":40},"output_tokens":20,
    "speed":"fast","inference_geo":"us"}}"#;

const RESPONSES_JSON: &str = r#"{"id":"r","object":"response","status":"completed","error":null,"model":"gpt-5.5",
    "service_tier":"default","output":[{"type":"message"}],"usage":{"input_tokens":5,"output_tokens":6}}"#;

const CHAT_JSON: &str = r#"{"id":"c","model":"gpt-5.3-codex","choices":[{"message":{"content":"x"}}],
    "usage":{"prompt_tokens":5,"completion_tokens":6,"prompt_tokens_details":null}}"#;

const FIXTURES: [(Dialect, &str, &str); 6] = [
    (AnthropicMessages, SSE, CLAUDE_STREAM),
    (OpenAiResponses, SSE, RESPONSES_STREAM),
    (OpenAiChat, SSE, CHAT_STREAM),
    (AnthropicMessages, JSON, CLAUDE_JSON),
    (OpenAiResponses, JSON, RESPONSES_JSON),
    (OpenAiChat, JSON, CHAT_JSON),
];

fn read(dialect: Dialect, kind: &str, pieces: &[&[u8]], complete: bool) -> Option<Reading> {
    let mut meter = Meter::new(dialect.into());
    meter.request(br#"{"model":"asked","stream":true}"#);
    meter.response_head(200, kind, None);
    pieces.iter().for_each(|piece| meter.response(piece));
    meter.finish(complete)
}

fn whole(dialect: Dialect, kind: &str, body: &str) -> Reading {
    read(dialect, kind, &[body.as_bytes()], true).expect("a reading")
}

fn certainty(dialect: Dialect, kind: &str, body: &str, complete: bool) -> Option<Certainty> {
    read(dialect, kind, &[body.as_bytes()], complete).map(|reading| reading.certainty)
}

fn final_reading(model: &str, usage: Usage, terms: Terms) -> Reading {
    Reading { model: model.to_owned(), usage, certainty: Certainty::Final, terms, shares: Vec::new(), charged: None }
}

#[test]
fn a_claude_stream_keeps_what_its_last_event_leaves_out() {
    let usage = Usage {
        input: 12,
        cache_read: 9000,
        cache_write: 700,
        output: 345,
        reasoning: 300,
        web_searches: 2,
        ..Usage::default()
    };
    let expected = final_reading("claude-sonnet-5-20260101", usage, Terms::default());
    assert_eq!(whole(AnthropicMessages, SSE, CLAUDE_STREAM), expected);
}

#[test]
fn a_claude_stream_takes_later_totals_but_no_zeros_for_the_prompt() {
    let from = "\"usage\":{\"output_tokens\":345,";
    let to = "\"usage\":{\"output_tokens\":0,\"input_tokens\":0,\"cache_read_input_tokens\":9001,";
    let usage = whole(AnthropicMessages, SSE, &CLAUDE_STREAM.replace(from, to)).usage;
    assert_eq!((usage.input, usage.cache_read, usage.cache_write, usage.output), (12, 9001, 700, 0));
}

/// The end of a stream of Anthropic's that reports so much.
fn claude_total(output: &str) -> String {
    let last = CLAUDE_STREAM.find("event: message_delta").unwrap();
    let total = format!("{{\"output_tokens\":{output}}}");
    let delta = format!(
        "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"end_turn\"}},\"usage\":{total}}}\n\n"
    );
    format!("{}{delta}event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n", &CLAUDE_STREAM[..last])
}

#[test]
fn a_total_that_became_less_is_suspect_and_the_larger_one_counts() {
    let falls = CLAUDE_STREAM.replace(
        "event: message_stop",
        &format!("{}event: message_stop", &claude_total("7")[CLAUDE_STREAM.find("event: message_delta").unwrap()..]),
    );
    let reading = whole(AnthropicMessages, SSE, &falls);
    assert_eq!((reading.usage.output, reading.certainty), (345, Certainty::Partial));
}

#[test]
fn what_is_reported_twice_counts_once() {
    let (start, last) = CLAUDE_STREAM.split_at(CLAUDE_STREAM.find("event: message_delta").unwrap());
    let delta = last.split("event: message_stop").next().unwrap();
    let twice = format!("{start}{delta}{last}");
    assert_eq!(whole(AnthropicMessages, SSE, &twice), whole(AnthropicMessages, SSE, CLAUDE_STREAM));
    let (head, done) = CHAT_STREAM.split_at(CHAT_STREAM.find("data: [DONE]").unwrap());
    let usage = &head[head.rfind("data: ").unwrap()..];
    assert_eq!(whole(OpenAiChat, SSE, &format!("{head}{usage}{done}")), whole(OpenAiChat, SSE, CHAT_STREAM));
}

#[test]
fn numbers_that_are_none_are_never_taken_for_nothing_spent() {
    for wrong in ["-5", "1e400", "\"many\"", "1.5", "99999999999999999999999"] {
        let reading = whole(AnthropicMessages, SSE, &claude_total(wrong));
        assert_eq!(reading.certainty, Certainty::Unreadable, "{wrong}");
        let (_, pricing) = PriceTable::embedded().price(Vendor::Anthropic, &reading, "2026-11-26");
        assert_eq!(pricing, Pricing::Unreadable, "{wrong}");
        for (dialect, body, key) in
            [(OpenAiResponses, RESPONSES_JSON, "output_tokens"), (OpenAiChat, CHAT_JSON, "completion_tokens")]
        {
            let body = body.replace(&format!("\"{key}\":6"), &format!("\"{key}\":{wrong}"));
            assert_eq!(whole(dialect, JSON, &body).certainty, Certainty::Unreadable, "{wrong}");
        }
    }
    // As much as there can be is counted as that, and does not turn over.
    let most = whole(AnthropicMessages, SSE, &claude_total(&u64::MAX.to_string()));
    let (cost, _) = PriceTable::embedded().price(Vendor::Anthropic, &most, "2026-11-26");
    assert_eq!(cost, NanoUsd(i64::MAX));
}

#[test]
fn a_responses_stream_takes_cached_tokens_out_of_its_input() {
    let usage = Usage {
        input: 250,
        cache_read: 600,
        cache_write: 100,
        cache_write_long: 50,
        output: 80,
        reasoning: 64,
        web_searches: 1,
    };
    let terms = Terms { tier: Tier::Priority, ..Terms::default() };
    let expected = final_reading("gpt-6.1-sol-2026-05-06", usage, terms);
    assert_eq!(whole(OpenAiResponses, SSE, RESPONSES_STREAM), expected);
}

#[test]
fn a_chat_stream_reports_in_its_last_chunk() {
    let usage = Usage { input: 30, cache_read: 20, output: 7, reasoning: 3, ..Usage::default() };
    assert_eq!(whole(OpenAiChat, SSE, CHAT_STREAM), final_reading("gpt-5.4", usage, Terms::default()));
}

#[test]
fn whole_answers_are_read_too() {
    let usage = Usage { input: 10, cache_write_long: 90, output: 20, ..Usage::default() };
    let terms = Terms { tier: Tier::Standard, fast: true, us_only: true };
    assert_eq!(whole(AnthropicMessages, JSON, CLAUDE_JSON), final_reading("claude-opus-5", usage, terms));
    let usage = Usage { input: 5, output: 6, ..Usage::default() };
    assert_eq!(whole(OpenAiResponses, JSON, RESPONSES_JSON), final_reading("gpt-5.5", usage, Terms::default()));
    assert_eq!(whole(OpenAiChat, JSON, CHAT_JSON), final_reading("gpt-5.3-codex", usage, Terms::default()));
}

#[test]
fn a_missing_content_type_does_not_hide_the_form() {
    for (dialect, kind, body) in FIXTURES {
        assert_eq!(whole(dialect, "", body), whole(dialect, kind, body));
    }
}

#[test]
fn events_that_are_passed_over_change_nothing_however_the_stream_is_cut() {
    let delta = |text: &str| {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"text\":\"{text}\"}}}}\n\n"
        )
    };
    let begin = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"x\":1}";
    // As vendors write them, and with other ends of lines, lines more, no end at all, and what only looks like usage.
    let odd = [
        format!("{begin}\r\n\r\n"),
        format!("{begin}\ndata: {{\"type\":\"message_delta\"}}\n\n"),
        format!("{begin}\n: a note\n\n"),
        format!("id: 1\n{begin}\n\n\n\n"),
        delta("event: message_delta"),
        delta("\\n\\n\\\"usage\\\":{\\\"output_tokens\\\":9}"),
    ];
    let pieces: Vec<&str> = CLAUDE_STREAM.split_inclusive("\n\n").collect();
    for between in odd.iter().map(String::as_str).chain(["", "\n", "data:\n\n"]) {
        let words = [delta("one"), between.to_owned(), delta("two"), delta("three")].concat();
        let stream = pieces.join(&words);
        let single: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        let expected = read(Dialect::AnthropicMessages, SSE, &single, true);
        for size in [2, 3, 7, 60, 61, 100, 170, 4096, stream.len()] {
            let chunks: Vec<&[u8]> = stream.as_bytes().chunks(size).collect();
            assert_eq!(read(Dialect::AnthropicMessages, SSE, &chunks, true), expected, "{size} {between:?}");
        }
    }
}

#[test]
fn any_split_gives_the_same_reading() {
    for (dialect, kind, body) in FIXTURES {
        let expected = Some(whole(dialect, kind, body));
        for at in 0..=body.len() {
            let (first, rest) = body.as_bytes().split_at(at);
            assert_eq!(read(dialect, kind, &[first, rest], true), expected, "split at {at}");
        }
        let single: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
        assert_eq!(read(dialect, kind, &single, true), expected);
    }
}

#[test]
fn a_cut_anywhere_never_reads_more_than_was_final() {
    for (dialect, kind, body) in FIXTURES {
        let full = whole(dialect, kind, body);
        for at in 0..body.len() {
            let (first, _) = body.as_bytes().split_at(at);
            let reading = read(dialect, kind, &[first], false).expect("a reading");
            match reading.certainty {
                Certainty::Final => assert_eq!(reading.usage, full.usage, "cut at {at}"),
                Certainty::Partial => assert!(reading.usage.output <= full.usage.output, "cut at {at}"),
                Certainty::Unreadable => panic!("a cut at {at} is not damage"),
            }
        }
    }
}

#[test]
fn a_stream_cut_after_its_first_event_is_partial() {
    let start = CLAUDE_STREAM.split_inclusive("\n\n").next().unwrap();
    let usage = Usage { input: 12, cache_read: 9000, cache_write: 700, output: 1, ..Usage::default() };
    let reading = read(AnthropicMessages, SSE, &[start.as_bytes()], false).unwrap();
    assert_eq!((reading.certainty, reading.usage), (Certainty::Partial, usage));
    let ended = read(AnthropicMessages, SSE, &[start.as_bytes()], true).unwrap();
    assert_eq!(ended.certainty, Certainty::Partial, "an orderly end changes nothing");
}

#[test]
fn errors_cost_nothing() {
    let mut meter = Meter::new(AnthropicMessages.into());
    meter.response_head(529, JSON, None);
    meter.response(br#"{"type":"error","error":{"type":"overloaded_error"}}"#);
    assert_eq!(meter.finish(true), None);
    assert_eq!(Meter::new(OpenAiChat.into()).finish(true), None, "no answer at all");
    let overloaded = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    assert_eq!(certainty(AnthropicMessages, SSE, overloaded, true), None);
    let failed = "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"usage\":null}}\n\n";
    assert_eq!(certainty(OpenAiResponses, SSE, failed, true), None);
    assert_eq!(certainty(OpenAiChat, JSON, r#"{"error":{"message":"no"}}"#, true), None);
}

#[test]
fn an_error_after_the_first_numbers_is_partial() {
    let start = CLAUDE_STREAM.split_inclusive("\n\n").next().unwrap();
    let body = format!("{start}event: error\ndata: {{\"type\":\"error\",\"error\":{{}}}}\n\n");
    assert_eq!(certainty(AnthropicMessages, SSE, &body, true), Some(Certainty::Partial));
}

#[test]
fn a_success_without_numbers_is_unreadable() {
    let silent = "data: {\"model\":\"gpt-5.4\",\"choices\":[]}\n\ndata: [DONE]\n\n";
    let queued = r#"{"object":"response","status":"queued","model":"gpt-5.4","usage":null}"#;
    let cases = [
        (OpenAiChat, SSE, silent),
        (OpenAiResponses, JSON, queued),
        (AnthropicMessages, SSE, ""),
        (AnthropicMessages, JSON, "{}"),
        (AnthropicMessages, JSON, "<html>"),
        (AnthropicMessages, SSE, "\u{1f}\u{8b}\u{8}garbage"),
        (AnthropicMessages, JSON, r#"{"type":"message","usage":{"input_tokens":-1,"output_tokens":2}}"#),
        (AnthropicMessages, JSON, r#"{"type":"message","usage":{"input_tokens":1.5,"output_tokens":2}}"#),
    ];
    for (dialect, kind, body) in cases {
        let reading = read(dialect, kind, &[body.as_bytes()], true).unwrap();
        assert_eq!((reading.certainty, reading.usage), (Certainty::Unreadable, Usage::default()), "{body}");
    }
    assert_eq!(read(AnthropicMessages, JSON, &[b"{}"], true).unwrap().model, "asked");
}

#[test]
fn a_compressed_answer_is_unreadable() {
    let mut meter = Meter::new(AnthropicMessages.into());
    meter.response_head(200, SSE, Some("gzip"));
    meter.response(CLAUDE_STREAM.as_bytes());
    assert_eq!(meter.finish(true).map(|reading| reading.certainty), Some(Certainty::Unreadable));
}

#[test]
fn a_lost_first_event_is_unreadable() {
    let (_, rest) = CLAUDE_STREAM.split_once("\n\n").unwrap();
    assert_eq!(certainty(AnthropicMessages, SSE, rest, true), Some(Certainty::Unreadable));
}

#[test]
fn an_event_that_is_not_json_makes_the_call_unreadable() {
    let body = format!("data: {{\"type\":\n\n{CLAUDE_STREAM}");
    assert_eq!(certainty(AnthropicMessages, SSE, &body, true), Some(Certainty::Unreadable));
}

#[test]
fn length_alone_is_no_obstacle_and_a_huge_usage_is() {
    let long = "x".repeat(3 << 20);
    let padded = CLAUDE_JSON.replacen("\"x\"", &format!("\"{long}\""), 1);
    assert_eq!(certainty(AnthropicMessages, JSON, &padded, true), Some(Certainty::Final));
    let huge = CLAUDE_JSON.replacen("\"fast\"", &format!("\"{long}\""), 1);
    assert_eq!(certainty(AnthropicMessages, JSON, &huge, true), Some(Certainty::Unreadable));
}

#[test]
fn what_no_price_is_known_for_is_a_lower_bound() {
    let tier = CLAUDE_JSON.replace("\"fast\"", "\"warp\"");
    assert_eq!(certainty(AnthropicMessages, JSON, &tier, true), Some(Certainty::Partial));
    let geo = CLAUDE_JSON.replace("\"us\"", "\"moon\"");
    assert_eq!(certainty(AnthropicMessages, JSON, &geo, true), Some(Certainty::Partial));
    let item = RESPONSES_JSON.replace("\"message\"", "\"code_interpreter_call\"");
    assert_eq!(certainty(OpenAiResponses, JSON, &item, true), Some(Certainty::Partial));
    let scale = RESPONSES_JSON.replace("\"default\"", "\"scale\"");
    assert_eq!(certainty(OpenAiResponses, JSON, &scale, true), Some(Certainty::Partial));
}

#[test]
fn the_answers_tier_wins_and_a_cheaper_wish_counts_for_nothing() {
    let tier_of = |asked: &str, body: &str| {
        let mut meter = Meter::new(OpenAiResponses.into());
        meter.request(format!(r#"{{"service_tier":"{asked}"}}"#).as_bytes());
        meter.response_head(200, JSON, None);
        meter.response(body.as_bytes());
        meter.finish(true).unwrap().terms.tier
    };
    let silent = RESPONSES_JSON.replace("\"service_tier\":\"default\",", "");
    assert_eq!(tier_of("priority", RESPONSES_JSON), Tier::Standard);
    assert_eq!(tier_of("priority", &silent), Tier::Priority);
    assert_eq!(tier_of("flex", &silent), Tier::Standard);
    assert_eq!(tier_of("standard", &RESPONSES_JSON.replace("default", "flex")), Tier::Flex);
}

#[test]
fn inferences_beside_the_sums_are_added_and_priced_as_their_own_models() {
    let body = r#"{"type":"message","model":"claude-opus-5","usage":{"input_tokens":10,"output_tokens":20,"iterations":[
        {"type":"message","input_tokens":10,"output_tokens":20},
        {"type":"compaction","input_tokens":100,"output_tokens":5},
        {"type":"advisor_message","model":"claude-fable-5-1","input_tokens":1000,"output_tokens":1}]}}"#;
    let reading = whole(AnthropicMessages, JSON, body);
    let share = Usage { input: 1000, output: 1, ..Usage::default() };
    assert_eq!(reading.shares, vec![Share { model: "claude-fable-5-1".to_owned(), usage: share }]);
    assert_eq!(reading.usage, Usage { input: 1110, output: 26, ..Usage::default() });
    let cost = 110 * 5_000 + 25 * 25_000 + 1000 * 10_000 + 50_000;
    assert_eq!(
        PriceTable::embedded().price(Vendor::Anthropic, &reading, "2026-11-26"),
        (NanoUsd(cost), Pricing::Exact)
    );
}
