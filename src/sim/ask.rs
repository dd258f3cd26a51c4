//! What a model call asks, in the terms a script needs, whatever dialect it came in.

use crate::meter::Dialect;
use serde_json::Value;

/// A model call, as far as a scripted answer depends on it.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) dialect: Dialect,
    pub(super) model: String,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// All text that came after the model's last word: the user's, and that of tool results.
    pub(super) newest: String,
    /// Whether the result of a tool call is among what came after the model's last word.
    pub(super) after_tool: bool,
    /// Whether the model has not spoken yet.
    pub(super) first: bool,
    pub(super) tools: Vec<Tool>,
    /// Size of the request's body.
    pub(super) bytes: usize,
    /// Whether a stream is of Amazon's framing.
    pub(super) by_amazon: bool,
}

/// A tool the model may call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    /// The namespace that a call has to name with it.
    pub(super) namespace: Option<String>,
    /// The JSON schema of the input; null for free text.
    pub(super) schema: Value,
    /// Whether the input is text rather than JSON.
    pub(super) free_text: bool,
}

impl Ask {
    /// Reads a call's body; none when it is not the JSON of a call.
    pub(super) fn parse(dialect: Dialect, body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let model = value.get("model")?.as_str()?.to_owned();
        let stream = value.get("stream").and_then(Value::as_bool).unwrap_or(false);
        Self::of(dialect, model, stream, &value, body.len())
    }

    /// Reads the body of a call whose path says which model is called and whether the answer is to be a stream.
    pub(super) fn parse_named(dialect: Dialect, model: &str, stream: bool, body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        Self::of(dialect, model.to_owned(), stream, &value, body.len())
    }

    fn of(dialect: Dialect, model: String, stream: bool, value: &Value, bytes: usize) -> Option<Self> {
        let items = match dialect {
            Dialect::OpenAiResponses => value.get("input")?,
            Dialect::GoogleGenerate => value.get("contents")?,
            Dialect::AnthropicMessages | Dialect::OpenAiChat | Dialect::BedrockConverse => value.get("messages")?,
        };
        let text_only = [items.clone()];
        let items = items.as_array().map_or(text_only.as_slice(), Vec::as_slice);
        let spoken = items.iter().rposition(is_models);
        let newest = items.get(spoken.map_or(0, |at| at + 1)..).unwrap_or_default();
        let mut text = String::new();
        newest.iter().filter(|item| !is_instruction(item)).for_each(|item| collect_text(item, &mut text));
        let mut tools = Vec::new();
        collect_tools(value.get("tools"), None, &mut tools);
        items.iter().for_each(|item| collect_tools(item.get("tools"), None, &mut tools));
        let flag = |pointer: &str| value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
        Some(Self {
            dialect,
            model,
            stream,
            include_usage: flag("/stream_options/include_usage"),
            newest: text,
            after_tool: newest.iter().any(holds_result),
            first: spoken.is_none(),
            tools,
            bytes,
            by_amazon: false,
        })
    }
}

/// Whether an item of the conversation is the model's own.
fn is_models(item: &Value) -> bool {
    let is = |key: &str, all: &[&str]| item.get(key).and_then(Value::as_str).is_some_and(|text| all.contains(&text));
    is("role", &["assistant", "model"])
        || is("type", &["function_call", "custom_tool_call", "local_shell_call", "reasoning", "web_search_call"])
}

/// Whether an item is the harness's standing instruction, which nobody said just now.
fn is_instruction(item: &Value) -> bool {
    item.get("role").and_then(Value::as_str).is_some_and(|role| ["system", "developer"].contains(&role))
}

/// Whether an item is, or holds, the result of a tool call.
fn holds_result(item: &Value) -> bool {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    let blocks = item.get("content").or_else(|| item.get("parts")).and_then(Value::as_array);
    kind == "tool_result"
        || item.get("functionResponse").is_some()
        || kind.ends_with("_call_output")
        || item.get("role").and_then(Value::as_str) == Some("tool")
        || blocks.is_some_and(|blocks| blocks.iter().any(holds_result))
}

/// Adds every text of an item, one a line.
fn collect_text(item: &Value, text: &mut String) {
    match item {
        Value::String(line) => {
            text.push_str(line);
            text.push('\n');
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect_text(part, text)),
        Value::Object(fields) => {
            let holders = ["text", "content", "output", "parts", "functionResponse", "response"];
            holders.iter().filter_map(|key| fields.get(*key)).for_each(|v| collect_text(v, text));
        }
        _ => {}
    }
}

/// Adds the tools of a list, those in namespaces too, in any of the dialects' forms.
fn collect_tools(list: Option<&Value>, namespace: Option<&str>, tools: &mut Vec<Tool>) {
    for written in list.and_then(Value::as_array).into_iter().flatten() {
        let kind = written.get("type").and_then(Value::as_str).unwrap_or_default();
        // Google lists the functions of a tool.
        collect_tools(written.get("functionDeclarations"), namespace, tools);
        // Chat Completions wraps a tool in an object named after its kind.
        let inner = written.get(kind).filter(|inner| inner.is_object()).unwrap_or(written);
        let Some(name) = inner.get("name").and_then(Value::as_str) else { continue };
        if kind == "namespace" {
            collect_tools(inner.get("tools"), Some(name), tools);
            continue;
        }
        let schema = inner.get("input_schema").or_else(|| inner.get("parameters"));
        let schema = schema.or_else(|| inner.get("parametersJsonSchema"));
        tools.push(Tool {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            schema: schema.cloned().unwrap_or(Value::Null),
            free_text: kind == "custom" && schema.is_none(),
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_follows_the_models_last_word_is_new() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"first"},{"role":"assistant","content":"a"},
            {"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"ran"}]},
            {"type":"text","text":"and now?"}]}],"tools":[{"name":"Bash","input_schema":{"type":"object"}}]}"#;
        let ask = Ask::parse(Dialect::AnthropicMessages, body.as_bytes()).unwrap();
        assert_eq!((ask.newest.as_str(), ask.after_tool, ask.first), ("ran\nand now?\n", true, false));
        assert_eq!(ask.tools.len(), 1);
    }

    #[test]
    fn tools_are_found_in_namespaces_and_in_the_conversation() {
        let body = r#"{"model":"m","stream":true,"input":[{"type":"additional_tools","tools":[{"type":"namespace",
            "name":"functions","tools":[{"type":"custom","name":"exec"}]}]},{"type":"message","role":"user","content":
            [{"type":"input_text","text":"hi"}]}],"tools":[{"type":"web_search"}]}"#;
        let ask = Ask::parse(Dialect::OpenAiResponses, body.as_bytes()).unwrap();
        let namespace = Some("functions".to_owned());
        let exec = Tool { name: "exec".to_owned(), namespace, schema: Value::Null, free_text: true };
        assert_eq!(ask.tools, vec![exec]);
        assert_eq!((ask.newest.as_str(), ask.after_tool, ask.first, ask.stream), ("hi\n", false, true, true));
    }

    #[test]
    fn what_the_harness_always_says_is_not_said_by_anyone() {
        let body = r#"{"model":"m","input":[{"role":"developer","content":"history"},{"role":"user","content":"hi"}]}"#;
        assert_eq!(Ask::parse(Dialect::OpenAiResponses, body.as_bytes()).unwrap().newest, "hi\n");
    }

    #[test]
    fn a_prompt_may_be_a_mere_text() {
        let ask = Ask::parse(Dialect::OpenAiResponses, br#"{"model":"m","input":"hi"}"#).unwrap();
        assert_eq!(ask.newest, "hi\n");
        assert!(Ask::parse(Dialect::OpenAiChat, b"{}").is_none());
    }
}
