//! What is fetched of answers that were asked for earlier, as the vendors send it, cut in every way.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::meter::PriceTable;
use crate::model::{NanoUsd, Port, Pricing, Scheme, Usage};

fn line(method: &str, host: &str, path: &str) -> RequestLine {
    let host = Host::parse(host).unwrap();
    RequestLine { method: method.into(), scheme: Scheme::Https, host, port: Port(443), path: path.into() }
}

/// What is told by a body, in pieces of a size, and whether something of it could not be read.
fn read_in(at: (&str, &str), kind: &str, body: &str, size: usize, complete: bool) -> (Vec<Told>, bool) {
    let mut meter = LaterMeter::new(Later::of(&line("GET", at.0, at.1)).unwrap());
    meter.response_head(200, kind);
    let mut all = Vec::new();
    body.as_bytes().chunks(size).for_each(|piece| meter.response(piece, &mut |told| all.push(told)));
    let missing = meter.finish(complete, &mut |told| all.push(told));
    (all, missing)
}

fn read(at: (&str, &str), kind: &str, body: &str) -> (Vec<Told>, bool) {
    let whole = read_in(at, kind, body, body.len().max(1), true);
    for size in [1, 2, 7, 64, 1000] {
        assert_eq!(read_in(at, kind, body, size, true), whole, "in pieces of {size}");
    }
    whole
}

const RESPONSE: (&str, &str) = ("api.openai.com", "/v1/responses/resp_1");
const FILE: (&str, &str) = ("api.openai.com", "/v1/files/file-1/content");
const RESULTS: (&str, &str) = ("api.anthropic.com", "/v1/messages/batches/msgbatch_1/results");
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";

fn response(status: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"resp_1","object":"response","background":true,"status":"{status}","error":null,"model":"gpt-5.5",
        "service_tier":"default","output":[],"usage":{usage}}}"#
    )
}

const USAGE: &str = r#"{"input_tokens":1000,"input_tokens_details":{"cached_tokens":400},"output_tokens":50}"#;

/// What each told answer is called, and its tokens.
fn tokens(told: &[Told]) -> Vec<(&str, u64, u64, u64)> {
    told.iter()
        .map(|told| {
            let Usage { input, cache_read, output, .. } = told.reading.usage;
            (told.name.as_str(), input, cache_read, output)
        })
        .collect()
}

#[test]
fn it_is_known_where_answers_are_fetched_and_nothing_else_is_taken_for_it() {
    for (method, host, path, vendor) in [
        ("GET", RESPONSE.0, RESPONSE.1, Vendor::OpenAi),
        ("POST", "api.openai.com", "/v1/responses/resp_1/cancel", Vendor::OpenAi),
        ("GET", FILE.0, FILE.1, Vendor::OpenAi),
        ("GET", "ours.openai.azure.com", "/openai/v1/responses/resp_1", Vendor::Azure),
        ("GET", "ours.openai.azure.com", "/openai/files/file-1/content", Vendor::Azure),
        ("GET", "api.groq.com", "/openai/v1/files/file_1/content", Vendor::Groq),
        ("GET", "api.mistral.ai", "/v1/files/f/content", Vendor::Mistral),
        ("GET", "api.x.ai", "/v1/chat/deferred-completion/abc", Vendor::Xai),
        ("GET", RESULTS.0, RESULTS.1, Vendor::Anthropic),
        ("GET", "generativelanguage.googleapis.com", "/v1beta/batches/b1", Vendor::Google),
        ("GET", "generativelanguage.googleapis.com", "/download/v1beta/files/f1:download", Vendor::Google),
    ] {
        assert_eq!(
            Later::of(&line(method, host, path)).map(|later| later.endpoint().vendor),
            Some(vendor),
            "{host}{path}"
        );
        assert_eq!(Endpoint::of(&line(method, host, path)), None, "{host}{path}");
    }
    for (method, host, path) in [
        ("GET", "api.openai.com", "/v1/responses"),
        ("POST", "api.openai.com", "/v1/responses/resp_1"),
        ("GET", "api.openai.com", "/v1/responses/resp_1/input_items"),
        ("DELETE", "api.openai.com", "/v1/responses/resp_1"),
        ("GET", "api.openai.com", "/v1/files/file-1"),
        ("GET", "api.anthropic.com", "/v1/messages/batches/msgbatch_1"),
        ("POST", "api.anthropic.com", "/v1/messages/batches/msgbatch_1/results"),
        ("GET", "generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-pro"),
        ("GET", "example.com", "/v1/responses/resp_1"),
    ] {
        assert_eq!(Later::of(&line(method, host, path)), None, "{method} {host}{path}");
    }
}

#[test]
fn an_answer_in_the_background_is_told_once_it_is_made() {
    for status in ["queued", "in_progress"] {
        assert_eq!(read(RESPONSE, JSON, &response(status, "null")), (Vec::new(), false), "{status}");
    }
    assert_eq!(read(RESPONSE, JSON, &response("failed", "null").replace("\"error\":null", "\"error\":{}")).0, []);
    let (told, missing) = read(RESPONSE, JSON, &response("completed", USAGE));
    assert_eq!((tokens(&told), missing), (vec![("resp_1", 600, 400, 50)], false));
    assert_eq!((told[0].apart, told[0].reading.certainty), (Some(true), Certainty::Final));
    // One that was given up may have been billed, and nobody says for what.
    let (told, _) = read(RESPONSE, JSON, &response("cancelled", "null"));
    assert_eq!((told[0].name.as_str(), told[0].reading.certainty), ("resp_1", Certainty::Unreadable));
    let (told, _) = read(RESPONSE, JSON, &response("completed", USAGE).replace("1000", "-1"));
    assert_eq!(told[0].reading.certainty, Certainty::Unreadable);
}

#[test]
fn a_stream_that_is_taken_up_again_tells_at_its_end() {
    let events = format!(
        "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"delta\":\"and\"}}\n\n\
         event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":9,\"response\":{}}}\n\n",
        response("completed", USAGE).replace('\n', "")
    );
    let (told, missing) = read(RESPONSE, EVENTS, &events);
    assert_eq!((tokens(&told), missing), (vec![("resp_1", 600, 400, 50)], false));
    assert_eq!(told[0].apart, Some(true));
    let end = events.find("event: response.completed").unwrap();
    for cut in [0, end, end + 60] {
        assert_eq!(read_in(RESPONSE, EVENTS, &events[..cut], 50, false), (Vec::new(), false), "{cut}");
    }
}

fn anthropic(number: u32, model: &str) -> String {
    format!(
        r#"{{"custom_id":"c{number}","result":{{"type":"succeeded","message":{{"id":"msg_{number}","type":"message","model":"{model}",
        "content":[{{"type":"text","text":"\"usage\":{{}}"}}],"usage":{{"input_tokens":100,"cache_read_input_tokens":20,"output_tokens":{number},"service_tier":"batch"}}}}}}}}"#
    )
    .replace('\n', "")
        + "\n"
}

#[test]
fn each_line_of_a_batch_is_an_answer_at_the_prices_of_batches() {
    let failed = "{\"custom_id\":\"c9\",\"result\":{\"type\":\"errored\",\"error\":{\"type\":\"error\"}}}\n";
    let body = [&anthropic(1, "claude-sonnet-5"), failed, &anthropic(2, "claude-sonnet-5"), "\n"].concat();
    let (told, missing) = read(RESULTS, "application/x-jsonl", &body);
    assert_eq!((tokens(&told), missing), (vec![("msg_1", 100, 20, 1), ("msg_2", 100, 20, 2)], false));
    let prices = PriceTable::embedded();
    let one = |tier| {
        let reading = Reading { terms: Terms { tier, ..Terms::default() }, ..told[0].reading.clone() };
        prices.price(Vendor::Anthropic, &reading, "2026-11-27")
    };
    assert_eq!(told[0].reading.terms.tier, Tier::Batch);
    // Sonnet 5: $2, $10 and $0.20 for a million; batches cost half.
    assert_eq!(one(Tier::Standard), (NanoUsd(100 * 2000 + 20 * 200 + 10_000), Pricing::Exact));
    assert_eq!(one(Tier::Batch), (NanoUsd(100 * 1000 + 20 * 100 + 5_000), Pricing::Exact));
}

#[test]
fn what_of_a_batch_cannot_be_read_is_said_to_be_missing() {
    let body = [anthropic(1, "claude-sonnet-5"), anthropic(2, "claude-sonnet-5")].concat();
    let (told, missing) = read(RESULTS, "", &body.replace("msg_1\"", "msg_1"));
    assert_eq!((tokens(&told), missing), (vec![("msg_2", 100, 20, 2)], true));
    let (told, missing) = read(RESULTS, "", &body.replace("\"output_tokens\":1", "\"output_tokens\":-1"));
    assert_eq!((told[0].reading.certainty, told.len(), missing), (Certainty::Unreadable, 2, false));
    assert_eq!(read(RESULTS, "", "<html>"), (Vec::new(), true));
    let half = body.len() - 5;
    assert!(read_in(RESULTS, "", &body[..half], 50, false).1);
    assert_eq!(tokens(&read_in(RESULTS, "", &body[..half], 50, false).0), [("msg_1", 100, 20, 1)]);
    // The last line's end may be missing, and it is whole all the same.
    assert_eq!(read(RESULTS, "", body.trim_end()).0.len(), 2);
}

#[test]
fn a_file_tells_nothing_unless_it_is_of_answers() {
    for body in ["", "just text\nand more\n", "{\"messages\":[]}\n{\"prompt\":\"x\"}\n", "\u{0}\u{1}\u{2}", "[1,2]"] {
        assert_eq!(read(FILE, "application/octet-stream", body), (Vec::new(), false), "{body}");
    }
    let line = |id: &str, body: &str| {
        format!(
            "{{\"id\":\"batch_req_{id}\",\"custom_id\":\"c\",\"response\":{{\"status_code\":200,\"body\":{body}}},\"error\":null}}\n"
        )
    };
    let chat = r#"{"id":"chatcmpl-1","object":"chat.completion","model":"gpt-5.5","usage":{"prompt_tokens":30,"completion_tokens":5}}"#;
    let vector =
        r#"{"object":"list","data":[],"model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8}}"#;
    let failed = r#"{"error":{"message":"no"}}"#;
    let made = response("completed", USAGE).replace('\n', "");
    let body = [line("1", chat), line("2", failed), line("3", &made), line("4", vector)].concat();
    let (told, missing) = read(FILE, "application/octet-stream", &body);
    assert_eq!(tokens(&told)[..2], [("chatcmpl-1", 30, 0, 5), ("resp_1", 600, 400, 50)]);
    assert!(told.iter().all(|told| told.apart == Some(true)) && !missing);
    assert_eq!([told[0].dialect, told[1].dialect], [Dialect::OpenAiChat, Dialect::OpenAiResponses]);
    assert_eq!([told[0].reading.terms.tier, told[1].reading.terms.tier], [Tier::Batch; 2]);
    // There is no price here for vectors, whose usage has no answer.
    assert_eq!((told[2].reading.certainty, told.len()), (Certainty::Unreadable, 3));
    assert_eq!(told[2].reading.model, "text-embedding-3-small");
}

#[test]
fn googles_batches_come_in_lines_or_in_a_list() {
    let answer = |id: u32| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"x"}}]}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":10,"candidatesTokenCount":{id}}},"modelVersion":"gemini-2.5-flash","responseId":"r{id}"}}"#
        )
    };
    let lines: String = (1..=2).map(|id| format!("{{\"key\":\"k\",\"response\":{}}}\n", answer(id))).collect();
    let file = ("generativelanguage.googleapis.com", "/download/v1beta/files/f1:download");
    let (told, missing) = read(file, "application/octet-stream", &lines);
    assert_eq!((tokens(&told), missing), (vec![("r1", 10, 0, 1), ("r2", 10, 0, 2)], false));
    let listed = |id| format!(r#"{{"metadata":{{"key":"k"}},"response":{}}}"#, answer(id));
    let list = format!(
        r#"{{"name":"batches/b1","metadata":{{"state":"BATCH_STATE_SUCCEEDED"}},"done":true,"response":{{"inlinedResponses":{{"inlinedResponses":[{},{{"error":{{"code":3}}}},{}]}}}}}}"#,
        listed(1),
        listed(2)
    );
    let at = ("generativelanguage.googleapis.com", "/v1beta/batches/b1");
    let (told, missing) = read(at, JSON, &list);
    assert_eq!((tokens(&told), missing), (vec![("r1", 10, 0, 1), ("r2", 10, 0, 2)], false));
    let whole = |told: &Told| told.reading.certainty == Certainty::Final && told.reading.terms.tier == Tier::Batch;
    assert!(told.iter().all(whole));
    let waits = r#"{"name":"batches/b1","metadata":{"state":"BATCH_STATE_RUNNING"}}"#;
    assert_eq!(read(at, JSON, waits), (Vec::new(), false));
    // What has no name is known by its place.
    let nameless = list.replace(",\"responseId\":\"r1\"", "");
    assert_eq!(tokens(&read(at, JSON, &nameless).0)[0].0, "/v1beta/batches/b1 0");
}
