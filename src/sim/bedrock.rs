//! Answers in the forms of Amazon Bedrock: Converse, and Anthropic's messages by Invoke. Streams are of Amazon's own framing
//! (https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html).

use super::answer::{Answer, Input};
use crate::meter::Dialect;
use crate::model::Usage;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

/// What such a stream's `Content-Type` is.
pub(super) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";
/// Two lengths and their checksum, and a message's own.
const FRAME_BYTES: usize = 16;
/// The type of a header that is text.
const TEXT: u8 = 7;

/// A call of a model: which, in which dialect, and whether as a stream.
pub(super) struct Call {
    pub(super) model: String,
    pub(super) dialect: Dialect,
    pub(super) stream: bool,
}

/// The call that a request is: `POST /model/MODEL/ACT`.
pub(super) fn call(method: &str, path: &str) -> Option<Call> {
    let (model, act) = path.strip_prefix("/model/").filter(|_| method == "POST")?.rsplit_once('/')?;
    let model = model.replace("%3A", ":").replace("%3a", ":");
    let (dialect, stream) = match act {
        "converse" => (Dialect::BedrockConverse, false),
        "converse-stream" => (Dialect::BedrockConverse, true),
        "invoke" => (Dialect::AnthropicMessages, false),
        "invoke-with-response-stream" => (Dialect::AnthropicMessages, true),
        _ => return None,
    };
    Some(Call { model, dialect, stream })
}

/// The usage as far as Converse has words for it.
pub(super) fn sayable(usage: Usage) -> Usage {
    Usage { reasoning: 0, web_searches: 0, ..usage }
}

/// The whole answer of Converse.
pub(super) fn whole(answer: &Answer) -> Value {
    let text = (!answer.text.is_empty()).then(|| json!({"text": answer.text}));
    let content: Vec<Value> = text.into_iter().chain(tool_use(answer).map(|tool| json!({"toolUse": tool}))).collect();
    json!({
        "output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop_reason(answer),
        "usage": usage(answer.usage), "metrics": {"latencyMs": 1},
    })
}

/// The messages of a streamed answer of Converse.
pub(super) fn stream(answer: &Answer) -> Vec<Bytes> {
    let mut all = vec![event("messageStart", &json!({"role": "assistant"}))];
    let delta =
        |index: usize, delta: Value| event("contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta}));
    let stop = |index: usize| event("contentBlockStop", &json!({"contentBlockIndex": index}));
    if !answer.text.is_empty() {
        all.extend(answer.pieces().into_iter().map(|piece| delta(0, json!({"text": piece}))));
        all.push(stop(0));
    }
    if let Some((_, message)) = &answer.error {
        all.push(frame("exception", "modelStreamErrorException", &json!({"message": message})));
        return all;
    }
    if let Some(tool) = tool_use(answer) {
        let start = json!({"toolUse": {"toolUseId": tool["toolUseId"], "name": tool["name"]}});
        all.push(event("contentBlockStart", &json!({"contentBlockIndex": 1, "start": start})));
        all.push(delta(1, json!({"toolUse": {"input": tool["input"].to_string()}})));
        all.push(stop(1));
    }
    all.push(event("messageStop", &json!({"stopReason": stop_reason(answer)})));
    all.push(event("metadata", &json!({"usage": usage(answer.usage), "metrics": {"latencyMs": 1}})));
    all
}

/// The messages of a stream whose events, as server-sent ones, are those of a model's own vendor.
pub(super) fn chunks(events: &[String]) -> Vec<Bytes> {
    let data = events.iter().filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
    data.map(|data| event("chunk", &json!({"bytes": STANDARD.encode(data)}))).collect()
}

fn tool_use(answer: &Answer) -> Option<Value> {
    let call = answer.call.as_ref()?;
    let input = match &call.input {
        Input::Json(value) => value.clone(),
        Input::Text(text) => json!({"input": text}),
    };
    Some(json!({"toolUseId": answer.id("tool"), "name": call.name, "input": input}))
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.call.is_some() { "tool_use" } else { "end_turn" }
}

fn usage(usage: Usage) -> Value {
    let written = usage.cache_write.saturating_add(usage.cache_write_long);
    let details = [("5m", usage.cache_write), ("1h", usage.cache_write_long)];
    let details: Vec<Value> = details
        .iter()
        .filter(|part| part.1 > 0)
        .map(|(ttl, tokens)| json!({"ttl": ttl, "inputTokens": tokens}))
        .collect();
    json!({
        "inputTokens": usage.input, "outputTokens": usage.output,
        "totalTokens": usage.prompt().saturating_add(usage.output),
        "cacheReadInputTokens": usage.cache_read, "cacheWriteInputTokens": written, "cacheDetails": details,
    })
}

fn event(kind: &str, payload: &Value) -> Bytes {
    frame("event", kind, payload)
}

/// A message of the stream: lengths, headers and payload, each part with its checksum.
fn frame(message: &str, kind: &str, payload: &Value) -> Bytes {
    let payload = payload.to_string();
    let kind_header = if message == "event" { ":event-type" } else { ":exception-type" };
    let mut headers = Vec::new();
    for (name, value) in [(":message-type", message), (kind_header, kind), (":content-type", "application/json")] {
        // All of these are short.
        headers.push(u8::try_from(name.len()).unwrap_or_default());
        headers.extend_from_slice(name.as_bytes());
        headers.push(TEXT);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or_default().to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = [length(FRAME_BYTES + headers.len() + payload.len()), length(headers.len())].concat();
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes.extend_from_slice(&headers);
    bytes.extend_from_slice(payload.as_bytes());
    bytes.extend_from_slice(&crc32(&bytes).to_be_bytes());
    bytes.into()
}

/// CRC-32 as in ISO 3309, bit by bit: written anew here, so that it does not agree with the meter's by being the same.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
