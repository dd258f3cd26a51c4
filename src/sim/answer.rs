//! From a script's turn to a concrete answer: the text, the tool call that fits the request, the usage.

use super::ask::{Ask, Tool};
use super::script::Reply;
use crate::model::Usage;
use serde_json::{Map, Value, json};

/// Names of tools that run a shell command, best first.
const SHELLS: [&str; 7] =
    ["Bash", "bash", "exec_command", "shell_command", "shell", "run_shell_command", "run_terminal_cmd"];
/// Rough bytes of text to a token.
const BYTES_PER_TOKEN: u64 = 4;

/// What the model answers, ready for any dialect's encoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    /// Counts the answers of this run; ids are made from it, so that runs repeat.
    pub(super) number: u64,
    pub(super) model: String,
    pub(super) text: String,
    pub(super) call: Option<Call>,
    pub(super) usage: Usage,
    /// The class of service that it was billed as, where that is not the usual one.
    pub(super) tier: Option<String>,
    /// The vendor's type and the message of an error that breaks off a stream.
    pub(super) error: Option<(Option<String>, String)>,
}

/// A tool call.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) input: Input,
}

/// A tool's input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Json(Value),
    Text(String),
}

impl Input {
    /// The input as it travels in a string.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Answer {
    /// The answer that a reply means for a request.
    pub(super) fn new(number: u64, ask: &Ask, reply: &Reply) -> Self {
        let text = reply.text.as_deref().unwrap_or_default().repeat(reply.repeat.unwrap_or(1));
        let call = match (&reply.run, &reply.tool) {
            (Some(command), _) => ask.tools.iter().find_map(|tool| shell_call(tool, &ask.tools, command)),
            (None, Some(tool)) => {
                let offered = ask.tools.iter().find(|offered| offered.name == tool.name);
                let namespace = tool.namespace.clone().or_else(|| offered.and_then(|tool| tool.namespace.clone()));
                let input = match &tool.input {
                    Value::String(text) => Input::Text(text.clone()),
                    value => Input::Json(value.clone()),
                };
                Some(Call { name: tool.name.clone(), namespace, input })
            }
            (None, None) => None,
        };
        let said = text.len() + call.as_ref().map_or(0, |call| call.name.len() + call.input.to_text().len());
        let usage = reply.usage.map_or_else(|| estimate(ask, said), Usage::from);
        let error = reply.error.as_ref().map(|error| (error.kind.clone(), error.message.clone()));
        let tier = reply.service_tier.clone();
        Self { number, model: ask.model.clone(), text, call, usage, tier, error }
    }

    /// The class of service, where the usual one is called so.
    pub(super) fn tier<'a>(&'a self, usual: &'a str) -> &'a str {
        self.tier.as_deref().unwrap_or(usual)
    }

    /// An id of the vendor's shape.
    pub(super) fn id(&self, prefix: &str) -> String {
        format!("{prefix}_sim{:08}", self.number)
    }

    /// The text in pieces, as a stream sends it.
    pub(super) fn pieces(&self) -> Vec<&str> {
        self.text.split_inclusive(' ').collect()
    }
}

/// A usage reckoned from sizes alone, so that the same requests always cost the same: a first request mostly fills the
/// cache, a later one mostly reads it.
fn estimate(ask: &Ask, said_bytes: usize) -> Usage {
    let tokens = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX).div_ceil(BYTES_PER_TOKEN).max(1);
    let prompt = tokens(ask.bytes);
    let (cache_read, cache_write) = if ask.first { (0, prompt / 4 * 3) } else { (prompt / 4 * 3, prompt / 8) };
    let input = prompt - cache_read - cache_write;
    Usage { input, cache_read, cache_write, output: tokens(said_bytes), ..Usage::default() }
}

/// The call that runs a command with this tool; none when it is not the best shell among those offered.
fn shell_call(tool: &Tool, all: &[Tool], command: &str) -> Option<Call> {
    let best = SHELLS.iter().find(|name| all.iter().any(|tool| tool.name == **name));
    let input = match best {
        Some(name) if tool.name == *name => Input::Json(shell_input(&tool.schema, command)),
        // The one free-text tool that runs JavaScript, from which the shell is a function.
        None if tool.name == "exec" && tool.free_text => Input::Text(format!(
            "const result = await tools.exec_command({});\ntext(result.output);\n",
            json!({ "cmd": command })
        )),
        _ => return None,
    };
    Some(Call { name: tool.name.clone(), namespace: tool.namespace.clone(), input })
}

/// The input that a shell tool's schema asks for.
fn shell_input(schema: &Value, command: &str) -> Value {
    let property = |name: &str| schema.pointer(&format!("/properties/{name}"));
    let mut input = Map::new();
    let key = if property("cmd").is_some() { "cmd" } else { "command" };
    let as_list = property(key).and_then(|p| p.get("type")).and_then(Value::as_str) == Some("array");
    let value = if as_list { json!(["bash", "-lc", command]) } else { json!(command) };
    input.insert(key.to_owned(), value);
    if property("description").is_some() {
        input.insert("description".to_owned(), json!("Run a rehearsed command"));
    }
    Value::Object(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, schema: Value) -> Tool {
        Tool { name: name.to_owned(), namespace: None, schema, free_text: false }
    }

    fn run(tools: &[Tool]) -> Option<Call> {
        tools.iter().find_map(|tool| shell_call(tool, tools, "ls \"x\""))
    }

    #[test]
    fn a_command_takes_the_form_of_the_tool_that_is_offered() {
        let claude = json!({"properties": {"command": {"type": "string"}, "description": {"type": "string"}}});
        let list = json!({"properties": {"command": {"type": "array"}}});
        let codex = json!({"properties": {"cmd": {"type": "string"}}});
        let input = |tools: &[Tool]| run(tools).map(|call| call.input.to_text());
        let described = "{\"command\":\"ls \\\"x\\\"\",\"description\":\"Run a rehearsed command\"}";
        assert_eq!(input(&[tool("Read", json!({})), tool("Bash", claude)]).as_deref(), Some(described));
        assert_eq!(input(&[tool("shell", list)]).as_deref(), Some("{\"command\":[\"bash\",\"-lc\",\"ls \\\"x\\\"\"]}"));
        assert_eq!(input(&[tool("exec_command", codex)]).as_deref(), Some("{\"cmd\":\"ls \\\"x\\\"\"}"));
        let exec = Tool { free_text: true, namespace: Some("functions".to_owned()), ..tool("exec", Value::Null) };
        let code = "const result = await tools.exec_command({\"cmd\":\"ls \\\"x\\\"\"});\ntext(result.output);\n";
        assert_eq!(input(&[exec]).as_deref(), Some(code));
        assert_eq!(run(&[tool("Read", json!({}))]), None);
    }
}
