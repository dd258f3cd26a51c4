//! Answers in the dialect of Google's Gemini API; a stream is one of events, as `alt=sse` asks for.

use super::answer::{Answer, Input};
use crate::model::Usage;
use serde_json::{Value, json};

/// What can be done with a model: to call it, or to count.
const ACTS: [&str; 3] = ["generateContent", "streamGenerateContent", "countTokens"];

/// The model and the act of a request of this dialect: `POST /v1beta/models/MODEL:ACT`.
pub(super) fn call<'a>(method: &str, path: &'a str) -> Option<(&'a str, &'a str)> {
    let (model, act) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
    (method == "POST" && ACTS.contains(&act)).then_some((model, act))
}

/// The usage as far as this dialect has words for it: it writes no caches, and counts no searches.
pub(super) fn sayable(usage: Usage) -> Usage {
    let written = usage.cache_write.saturating_add(usage.cache_write_long);
    let input = usage.input.saturating_add(written);
    Usage { input, cache_write: 0, cache_write_long: 0, web_searches: 0, ..usage }
}

/// The events of a streamed answer, each as it stands in the body.
pub(super) fn stream(answer: &Answer) -> Vec<String> {
    let event = |value: Value| format!("data: {value}\r\n\r\n");
    let mut events: Vec<String> =
        answer.pieces().into_iter().map(|piece| event(chunk(answer, json!([{"text": piece}]), None))).collect();
    if let Some((kind, message)) = &answer.error {
        events.push(event(refusal(500, kind.as_deref(), message)));
        return events;
    }
    let call: Vec<Value> = function_call(answer).into_iter().collect();
    events.push(event(chunk(answer, Value::Array(call), Some("STOP"))));
    events
}

/// The whole answer.
pub(super) fn whole(answer: &Answer) -> Value {
    let text = (!answer.text.is_empty()).then(|| json!({"text": answer.text}));
    let parts = text.into_iter().chain(function_call(answer)).collect();
    chunk(answer, Value::Array(parts), Some("STOP"))
}

/// A refusal; without a kind, the usual one of the status.
pub(super) fn refusal(status: u16, kind: Option<&str>, message: &str) -> Value {
    let usual = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        402 => "FAILED_PRECONDITION",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    json!({"error": {"code": status, "message": message, "status": kind.unwrap_or(usual)}})
}

/// One part of an answer. The usage so far is in each of them; only the last one's is the whole.
fn chunk(answer: &Answer, parts: Value, finish: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    let mut usage = json!({"promptTokenCount": answer.usage.prompt(), "totalTokenCount": answer.usage.prompt()});
    if let Some(finish) = finish {
        candidate["finishReason"] = json!(finish);
        let Usage { output, reasoning, cache_read, .. } = answer.usage;
        usage["cachedContentTokenCount"] = json!(cache_read);
        usage["candidatesTokenCount"] = json!(output.saturating_sub(reasoning));
        usage["thoughtsTokenCount"] = json!(reasoning);
        usage["totalTokenCount"] = json!(answer.usage.prompt().saturating_add(output));
    }
    json!({
        "candidates": [candidate], "usageMetadata": usage, "modelVersion": answer.model, "responseId": answer.id("gem"),
    })
}

fn function_call(answer: &Answer) -> Option<Value> {
    let call = answer.call.as_ref()?;
    let args = match &call.input {
        Input::Json(value) => value.clone(),
        Input::Text(text) => json!({"input": text}),
    };
    Some(json!({"functionCall": {"name": call.name, "args": args}}))
}
