//! Answers in the dialect of OpenAI's Responses, and what both of OpenAI's dialects share.

use super::answer::{Answer, Input};
use crate::model::Usage;
use serde_json::{Value, json};

/// The events of a streamed answer, each as it stands in the body.
pub(super) fn stream(answer: &Answer) -> Vec<String> {
    let mut events = Events::default();
    for kind in ["response.created", "response.in_progress"] {
        events.push(json!({"type": kind, "response": envelope(answer, "in_progress")}));
    }
    if let Some((kind, message)) = &answer.error {
        let mut response = envelope(answer, "failed");
        let code = kind.as_deref().unwrap_or("server_error");
        response["error"] = json!({"code": code, "message": message});
        events.push(json!({"type": "response.failed", "response": response}));
        return events.all;
    }
    for (index, item) in items(answer).into_iter().enumerate() {
        let mut opened = item.clone();
        opened["status"] = json!("in_progress");
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": opened}));
        events.item(answer, index, &item);
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    events.push(json!({"type": "response.completed", "response": whole(answer)}));
    events.all
}

/// The whole answer.
pub(super) fn whole(answer: &Answer) -> Value {
    let mut response = envelope(answer, "completed");
    response["output"] = Value::Array(items(answer));
    let usage = answer.usage;
    response["usage"] = json!({
        "input_tokens": usage.prompt(),
        "input_tokens_details": prompt_details(usage),
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt().saturating_add(usage.output),
    });
    response
}

/// A refusal; without a kind, the usual one of the status.
pub(super) fn refusal(status: u16, kind: Option<&str>, message: &str) -> Value {
    let usual = match status {
        401 => "invalid_api_key",
        429 => "rate_limit_exceeded",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let kind = kind.unwrap_or(usual);
    json!({"error": {"message": message, "type": kind, "code": kind, "param": null}})
}

/// What both dialects say of a prompt beside its length, which includes all of these.
pub(super) fn prompt_details(usage: Usage) -> Value {
    let written = usage.cache_write.saturating_add(usage.cache_write_long);
    let mut details = json!({"cached_tokens": usage.cache_read, "cache_write_tokens": written});
    if usage.cache_write_long > 0 {
        details["cache_write_tokens_details"] =
            json!({"ttl_30m_tokens": usage.cache_write, "ttl_12h_tokens": usage.cache_write_long});
    }
    details
}

fn envelope(answer: &Answer, status: &str) -> Value {
    json!({
        "id": answer.id("resp"), "object": "response", "created_at": 0, "status": status, "model": answer.model,
        "error": null, "incomplete_details": null, "output": [], "parallel_tool_calls": false,
        "service_tier": answer.tier("default"), "usage": null,
    })
}

/// The output items: searches the vendor ran, the text, the tool call.
fn items(answer: &Answer) -> Vec<Value> {
    let search = |number: u64| {
        let id = format!("{}_{number}", answer.id("ws"));
        json!({"type": "web_search_call", "id": id, "status": "completed", "action": {"type": "search", "query": "x"}})
    };
    let mut items: Vec<Value> = (0..answer.usage.web_searches).map(search).collect();
    if !answer.text.is_empty() {
        let part = json!({"type": "output_text", "text": answer.text, "annotations": []});
        items.push(json!({
            "type": "message", "id": answer.id("msg"), "role": "assistant", "status": "completed", "content": [part],
        }));
    }
    if let Some(call) = &answer.call {
        let (kind, field) = match call.input {
            Input::Json(_) => ("function_call", "arguments"),
            Input::Text(_) => ("custom_tool_call", "input"),
        };
        let mut item = json!({
            "type": kind, "id": answer.id("fc"), "call_id": answer.id("call"), "name": call.name,
            "status": "completed",
        });
        item[field] = json!(call.input.to_text());
        if let Some(namespace) = &call.namespace {
            item["namespace"] = json!(namespace);
        }
        items.push(item);
    }
    items
}

#[derive(Default)]
struct Events {
    all: Vec<String>,
}

impl Events {
    fn push(&mut self, mut data: Value) {
        data["sequence_number"] = json!(self.all.len());
        let kind = data["type"].as_str().unwrap_or_default();
        self.all.push(format!("event: {kind}\ndata: {data}\n\n"));
    }

    /// The events between an item's beginning and its end.
    fn item(&mut self, answer: &Answer, index: usize, item: &Value) {
        let id = &item["id"];
        let mut about = |kind: &str, key: &str, value: Value| {
            let mut data = json!({"type": kind, "output_index": index, "item_id": id, "content_index": 0});
            data[key] = value;
            self.push(data);
        };
        match item["type"].as_str() {
            Some("message") => {
                let empty = json!({"type": "output_text", "text": "", "annotations": []});
                about("response.content_part.added", "part", empty);
                for piece in answer.pieces() {
                    about("response.output_text.delta", "delta", json!(piece));
                }
                about("response.output_text.done", "text", json!(answer.text));
                about("response.content_part.done", "part", item["content"][0].clone());
            }
            Some("function_call") => {
                about("response.function_call_arguments.delta", "delta", item["arguments"].clone());
                about("response.function_call_arguments.done", "arguments", item["arguments"].clone());
            }
            Some("custom_tool_call") => {
                about("response.custom_tool_call_input.delta", "delta", item["input"].clone());
                about("response.custom_tool_call_input.done", "input", item["input"].clone());
            }
            _ => {}
        }
    }
}
/// The accounts of a person who logged in with ChatGPT, as Codex asks for them before its first model call.
pub(super) fn accounts(account: Option<&str>) -> Value {
    let id = account.unwrap_or("simulated-account");
    let one = json!({
        "id": id, "account_user_id": "simulated-user", "name": "Personal", "structure": "personal", "plan_type": "pro",
        "is_deactivated": false, "is_fedramp_compliant_workspace": false, "can_access_with_session": true,
        "workspace_backend_origin": "https://chatgpt.com", "account_routing_override": "NO_CONSTRAINT", "profile_picture_url": null,
    });
    json!({"accounts": [one], "account_ordering": [id], "default_account_id": id})
}
