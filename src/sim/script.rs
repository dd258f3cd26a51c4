//! The script: which answer follows which request.

use super::SimError;
use super::ask::Ask;
use crate::model::Usage;
use serde::Deserialize;
use serde_json::Value;

/// The script in force where a user's own has no fitting turn, and where there is none.
const DEFAULT: &str = include_str!("default.yaml");
/// Longest wait a script may ask for, in milliseconds: an hour, more than any harness waits.
const DELAY_MS_MAX: u64 = 3_600_000;
/// Longest text that repetition may make, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// Most web searches an answer may claim.
const WEB_SEARCHES_MAX: u64 = 1000;

/// A script file. Turns are tried in order; the first that fits and is not used up answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The turns.
    pub turns: Vec<Turn>,
}

/// One turn: a condition and an answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// When it fits; always, if nothing is written.
    #[serde(default)]
    pub when: When,
    /// What is answered.
    pub reply: Reply,
    /// How many requests it answers; any number, if not written.
    pub times: Option<u64>,
}

/// A condition, all of which must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// A text in what the user or a tool last said, letter by letter.
    pub contains: Option<String>,
    /// Whether a tool's result is among what came last.
    pub after_tool: Option<bool>,
    /// The model's name, or the beginning of it.
    pub model: Option<String>,
    /// The wire format: `anthropic-messages`, `openai-responses`, `openai-chat` or `google-generate`.
    pub dialect: Option<String>,
    /// Whether the request offers tools.
    pub has_tools: Option<bool>,
}

/// An answer, good or bad.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    /// What the model says.
    pub text: Option<String>,
    /// How many times it says it.
    pub repeat: Option<usize>,
    /// A shell command, run with whatever shell tool the request offers; left out when it offers none.
    pub run: Option<String>,
    /// A call of a tool by its name, whether the request offers it or not.
    pub tool: Option<ToolCall>,
    /// The usage to report, instead of one reckoned from sizes.
    pub usage: Option<WrittenUsage>,
    /// The class of service to report, in the vendor's own word, where the dialect has one; the usual one, if not written.
    pub service_tier: Option<String>,
    /// An HTTP status to refuse with, from 400 to 599.
    pub status: Option<u16>,
    /// The error: of the refusal, or without a status, one that breaks off a stream after the text.
    pub error: Option<WrittenError>,
    /// Milliseconds of silence before the response's head.
    pub delay_ms: u64,
    /// Milliseconds of silence before each event of a stream.
    pub chunk_delay_ms: u64,
    /// After this many bytes of the body the connection is cut.
    pub cut_after_bytes: Option<usize>,
}

/// A tool call.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// The tool's namespace, where the vendor has them.
    pub namespace: Option<String>,
    /// The input: a mapping, or a text for tools that take free text.
    pub input: Value,
}

/// An error in the vendor's words.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenError {
    /// The vendor's type or code, such as `overloaded_error`; if not written, the usual one of the status.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The message.
    pub message: String,
}

/// Tokens to report; a part that is not written is zero.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenUsage {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    cache_write_long: u64,
    output: u64,
    reasoning: u64,
    web_searches: u64,
}

impl From<WrittenUsage> for Usage {
    fn from(written: WrittenUsage) -> Self {
        let WrittenUsage { input, cache_read, cache_write, cache_write_long, output, reasoning, web_searches } =
            written;
        Self { input, cache_read, cache_write, cache_write_long, output, reasoning, web_searches }
    }
}

impl Script {
    /// The built-in script.
    ///
    /// # Errors
    /// None in practice: the text is part of the program, and a test parses it.
    pub fn default_script() -> Result<Self, SimError> {
        Self::parse("the built-in script", DEFAULT)
    }

    /// Parses a script file; `label` names it in errors.
    ///
    /// # Errors
    /// [`SimError::Script`] with the place, for anything that would not do what it says.
    pub fn parse(label: &str, text: &str) -> Result<Self, SimError> {
        let wrong = |why: String| SimError::Script { label: label.to_owned(), why };
        let script: Self = serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))?;
        for (at, turn) in script.turns.iter().enumerate() {
            turn.check().map_err(|why| wrong(format!("turn {}: {why}", at + 1)))?;
        }
        Ok(script)
    }

    /// The number, from 0, of the turn that answers; `used` says how often each turn has answered.
    pub(super) fn find(&self, ask: &Ask, used: &[u64]) -> Option<usize> {
        let left = |at: usize, turn: &Turn| turn.times.is_none_or(|times| used.get(at).is_none_or(|n| *n < times));
        (0..).zip(&self.turns).find(|(at, turn)| turn.when.fits(ask) && left(*at, turn)).map(|(at, _)| at)
    }
}

impl Turn {
    fn check(&self) -> Result<(), String> {
        let reply = &self.reply;
        let dialects = ["anthropic-messages", "openai-responses", "openai-chat", "google-generate"];
        let text_bytes = reply.text.as_deref().unwrap_or_default().len().saturating_mul(reply.repeat.unwrap_or(1));
        let complaints = [
            (self.when.dialect.as_deref().is_some_and(|name| !dialects.contains(&name)), {
                format!("`dialect` is one of {}", dialects.join(", "))
            }),
            (reply.run.is_some() && reply.tool.is_some(), "write either `run` or `tool`, not both".to_owned()),
            (reply.status.is_some_and(|status| !(400..600).contains(&status)), {
                "`status` is a refusal, from 400 to 599; leave it out for a good answer".to_owned()
            }),
            (reply.repeat.is_some() && reply.text.is_none(), "`repeat` needs a `text`".to_owned()),
            (reply.delay_ms.max(reply.chunk_delay_ms) > DELAY_MS_MAX, {
                format!("a delay is at most {DELAY_MS_MAX} milliseconds")
            }),
            (text_bytes > TEXT_BYTES_MAX, format!("the repeated text is longer than {TEXT_BYTES_MAX} bytes")),
            (reply.usage.is_some_and(|usage| usage.web_searches > WEB_SEARCHES_MAX), {
                format!("at most {WEB_SEARCHES_MAX} web searches")
            }),
            (reply.usage.is_some_and(|usage| usage.reasoning > usage.output), {
                "`reasoning` is a part of `output` and cannot be more".to_owned()
            }),
        ];
        complaints.into_iter().find(|(holds, _)| *holds).map_or(Ok(()), |(_, why)| Err(why))
    }
}

impl When {
    fn fits(&self, ask: &Ask) -> bool {
        self.contains.as_deref().is_none_or(|text| ask.newest.contains(text))
            && self.after_tool.is_none_or(|after| after == ask.after_tool)
            && self.model.as_deref().is_none_or(|model| ask.model.starts_with(model))
            && self.dialect.as_deref().is_none_or(|dialect| dialect == ask.dialect.as_str())
            && self.has_tools.is_none_or(|has| has != ask.tools.is_empty())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::meter::Dialect;

    fn ask(prompt: &str) -> Ask {
        let body = serde_json::json!({"model": "claude-opus-5", "messages": [{"role": "user", "content": prompt}]});
        Ask::parse(Dialect::AnthropicMessages, body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_first_fitting_turn_that_is_not_used_up_answers() {
        let text = "turns:\n- when: {contains: 'a b', after_tool: false}\n  times: 2\n  reply: {text: one}\n\
                    - when: {model: claude-, dialect: anthropic-messages, has_tools: false}\n  reply: {text: two}\n";
        let script = Script::parse("s", text).unwrap();
        assert_eq!(script.find(&ask("x a b"), &[0, 0]), Some(0));
        assert_eq!(script.find(&ask("x a b"), &[2, 0]), Some(1));
        assert_eq!(script.find(&ask("x"), &[]), Some(1));
        let other = Ask { model: "gpt-6".to_owned(), ..ask("x") };
        assert_eq!(script.find(&other, &[]), None);
    }

    #[test]
    fn the_built_in_script_parses() {
        assert_eq!(Script::default_script().unwrap().turns.len(), 2);
    }

    #[test]
    fn the_script_of_the_manual_parses() {
        let manual = include_str!("../../docs/sim.md");
        let scripts: Vec<&str> =
            manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        assert_eq!(scripts.len(), 2);
        assert_eq!(Script::parse("the manual", scripts[0]).unwrap().turns.len(), 5);
        assert_eq!(Script::parse("the manual", scripts[1]).unwrap().turns.len(), 1);
    }

    #[test]
    fn what_would_not_do_what_it_says_is_refused() {
        let refused = [
            ("reply: {txt: x}", "txt"),
            ("reply: {status: 200}", "turn 1"),
            ("reply: {run: ls, tool: {name: Bash, input: {}}}", "either"),
            ("reply: {repeat: 3}", "needs a `text`"),
            ("when: {dialect: gemini}\n  reply: {}", "one of"),
            ("reply: {delay_ms: 3600001}", "at most"),
            ("reply: {text: abc, repeat: 9999999999}", "longer"),
            ("reply: {usage: {output: 1, reasoning: 2}}", "part of"),
            ("reply: {usage: {input: -1}}", "line 2"),
        ];
        for (turn, word) in refused {
            let error = Script::parse("my.yaml", &format!("turns:\n- {turn}\n")).unwrap_err().to_string();
            assert!(error.contains("my.yaml") && error.contains(word), "{turn}: {error}");
        }
    }
}
