//! Answers in the dialect of Anthropic's Messages.

use super::answer::{Answer, Input};
use crate::model::Usage;
use serde_json::{Value, json};

/// The events of a streamed answer, each as it stands in the body.
pub(super) fn stream(answer: &Answer) -> Vec<String> {
    let usage = answer.usage;
    let mut first = prompt_usage(answer);
    first["output_tokens"] = json!(1);
    let mut message = envelope(answer);
    message["usage"] = first;
    let mut events = vec![event(json!({"type": "message_start", "message": message})), event(json!({"type": "ping"}))];
    let mut index = 0;
    if !answer.text.is_empty() {
        let delta = |text: &str| json!({"type": "text_delta", "text": text});
        let deltas = answer.pieces().into_iter().map(delta).collect();
        events.extend(block(index, json!({"type": "text", "text": ""}), deltas));
        index += 1;
    }
    if let Some((kind, message)) = &answer.error {
        events.push(event(error_body(kind.as_deref().unwrap_or("api_error"), message)));
        return events;
    }
    if let Some(call) = &answer.call {
        let start = json!({"type": "tool_use", "id": answer.id("toolu"), "name": call.name, "input": {}});
        let delta = json!({"type": "input_json_delta", "partial_json": call.input.to_text()});
        events.extend(block(index, start, vec![delta]));
    }
    let delta = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});
    events.push(event(json!({"type": "message_delta", "delta": delta, "usage": output_usage(usage)})));
    events.push(event(json!({"type": "message_stop"})));
    events
}

/// The whole answer.
pub(super) fn whole(answer: &Answer) -> Value {
    let mut content = Vec::new();
    if !answer.text.is_empty() {
        content.push(json!({"type": "text", "text": answer.text}));
    }
    if let Some(call) = &answer.call {
        let input = match &call.input {
            Input::Json(value) => value.clone(),
            Input::Text(text) => json!({"input": text}),
        };
        content.push(json!({"type": "tool_use", "id": answer.id("toolu"), "name": call.name, "input": input}));
    }
    let mut usage = prompt_usage(answer);
    if let (Value::Object(all), Value::Object(output)) = (&mut usage, output_usage(answer.usage)) {
        all.extend(output);
    }
    let mut message = envelope(answer);
    message["content"] = Value::Array(content);
    message["stop_reason"] = json!(stop_reason(answer));
    message["usage"] = usage;
    message
}

/// A refusal; without a kind, the usual one of the status.
pub(super) fn refusal(status: u16, kind: Option<&str>, message: &str) -> Value {
    let usual = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    error_body(kind.unwrap_or(usual), message)
}

fn error_body(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

fn envelope(answer: &Answer) -> Value {
    json!({
        "id": answer.id("msg"), "type": "message", "role": "assistant", "model": answer.model, "content": [],
        "stop_reason": null, "stop_sequence": null,
    })
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.call.is_some() { "tool_use" } else { "end_turn" }
}

fn block(index: usize, start: Value, deltas: Vec<Value>) -> Vec<String> {
    let mut events = vec![event(json!({"type": "content_block_start", "index": index, "content_block": start}))];
    let delta = |delta| event(json!({"type": "content_block_delta", "index": index, "delta": delta}));
    events.extend(deltas.into_iter().map(delta));
    events.push(event(json!({"type": "content_block_stop", "index": index})));
    events
}

fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn prompt_usage(answer: &Answer) -> Value {
    let usage = answer.usage;
    json!({
        "input_tokens": usage.input,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write.saturating_add(usage.cache_write_long),
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write,
            "ephemeral_1h_input_tokens": usage.cache_write_long,
        },
        "service_tier": answer.tier("standard"),
    })
}

fn output_usage(usage: Usage) -> Value {
    let mut all = json!({"output_tokens": usage.output});
    if usage.reasoning > 0 {
        all["output_tokens_details"] = json!({"thinking_tokens": usage.reasoning});
    }
    if usage.web_searches > 0 {
        all["server_tool_use"] = json!({"web_search_requests": usage.web_searches});
    }
    all
}
