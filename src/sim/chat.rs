//! Answers in the dialect of OpenAI's Chat Completions.

use super::answer::Answer;
use super::openai::prompt_details;
use serde_json::{Value, json};

/// The events of a streamed answer, each as it stands in the body.
pub(super) fn stream(answer: &Answer, include_usage: bool) -> Vec<String> {
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
        event(&envelope(answer, "chat.completion.chunk", vec![choice]))
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    events.extend(answer.pieces().into_iter().map(|piece| chunk(json!({"content": piece}), None)));
    if let Some((kind, message)) = &answer.error {
        events.push(event(&super::openai::refusal(500, kind.as_deref(), message)));
        return events;
    }
    if let Some(mut call) = tool_call(answer) {
        call["index"] = json!(0);
        events.push(chunk(json!({"tool_calls": [call]}), None));
    }
    events.push(chunk(json!({}), Some(finish_reason(answer))));
    if include_usage {
        let mut last = envelope(answer, "chat.completion.chunk", Vec::new());
        last["usage"] = usage(answer);
        events.push(event(&last));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

/// The whole answer.
pub(super) fn whole(answer: &Answer) -> Value {
    let mut message = json!({"role": "assistant", "content": answer.text});
    if let Some(call) = tool_call(answer) {
        message["tool_calls"] = json!([call]);
    }
    let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason(answer)});
    let mut all = envelope(answer, "chat.completion", vec![choice]);
    all["usage"] = usage(answer);
    all
}

fn envelope(answer: &Answer, object: &str, choices: Vec<Value>) -> Value {
    json!({
        "id": answer.id("chatcmpl"), "object": object, "created": 0, "model": answer.model, "choices": choices,
        "service_tier": answer.tier("default"),
    })
}

fn tool_call(answer: &Answer) -> Option<Value> {
    let call = answer.call.as_ref()?;
    let function = json!({"name": call.name, "arguments": call.input.to_text()});
    Some(json!({"id": answer.id("call"), "type": "function", "function": function}))
}

fn finish_reason(answer: &Answer) -> &'static str {
    if answer.call.is_some() { "tool_calls" } else { "stop" }
}

fn usage(answer: &Answer) -> Value {
    let usage = answer.usage;
    json!({
        "prompt_tokens": usage.prompt(),
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt().saturating_add(usage.output),
        "prompt_tokens_details": prompt_details(usage),
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    })
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
