//! One request to one response: what is a model call follows the script, everything else is answered harmlessly.

use super::answer::Answer;
use super::ask::Ask;
use super::body::Paced;
use super::script::{Reply, Script};
use super::{anthropic, bedrock, chat, gemini, openai};
use crate::meter::Dialect;
use crate::model::Usage;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Models listed to those who ask.
const MODELS: [&str; 4] = ["claude-sonnet-5", "claude-haiku-4-5", "gpt-6.1-sol", "gpt-5.4"];
/// Rough bytes of text to a token.
const BYTES_PER_TOKEN: usize = 4;

/// What is answered, and what the record says of it.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Paced,
    pub(super) delay: Duration,
    pub(super) dialect: Option<Dialect>,
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    pub(super) turn: Option<usize>,
    pub(super) usage: Option<Usage>,
    /// The class of service that it was billed as, where that is not the usual one.
    pub(super) tier: Option<String>,
    pub(super) broken: bool,
}

/// The request's parts that an answer depends on.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    /// Without the query.
    pub(super) path: &'a str,
    pub(super) upgrade: bool,
    /// The account of ChatGPT's that it says it is for.
    pub(super) account: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// The scripts in force, and how far they have been used.
pub(super) struct Stage {
    script: Script,
    fallback: Script,
    played: Mutex<Played>,
}

#[derive(Default)]
struct Played {
    answers: u64,
    used: Vec<u64>,
}

impl Stage {
    pub(super) fn new(script: Option<Script>, fallback: Script) -> Self {
        let script = script.unwrap_or(Script { turns: Vec::new() });
        let played = Played { answers: 0, used: vec![0; script.turns.len()] };
        Self { script, fallback, played: Mutex::new(played) }
    }

    /// The response to a request.
    pub(super) fn respond(&self, request: &Request<'_>) -> Response {
        if let Some((model, act)) = gemini::call(request.method, request.path) {
            let dialect = Dialect::GoogleGenerate;
            return match act {
                "countTokens" => {
                    json_response(200, json!({"totalTokens": request.body.len().div_ceil(BYTES_PER_TOKEN)}))
                }
                "streamGenerateContent" => self.answer(dialect, Ask::parse_named(dialect, model, true, request.body)),
                _ => self.answer(dialect, Ask::parse_named(dialect, model, false, request.body)),
            };
        }
        if let Some(bedrock::Call { model, dialect, stream }) = bedrock::call(request.method, request.path) {
            let ask = Ask::parse_named(dialect, &model, stream, request.body);
            return self.answer(dialect, ask.map(|ask| Ask { by_amazon: true, ..ask }));
        }
        let responses = is_responses(request.path);
        match (request.method, request.path) {
            ("POST", "/v1/messages") => self.call(Dialect::AnthropicMessages, request.body),
            ("POST", "/v1/chat/completions") => self.call(Dialect::OpenAiChat, request.body),
            ("POST", _) if responses => self.call(Dialect::OpenAiResponses, request.body),
            ("POST", "/v1/messages/count_tokens") => {
                json_response(200, json!({"input_tokens": request.body.len().div_ceil(BYTES_PER_TOKEN)}))
            }
            // Clients that would rather use a WebSocket take this as the sign to use plain requests.
            ("GET", _) if responses || request.upgrade => {
                let message = "there is no WebSocket here; send a POST";
                json_response(426, openai::refusal(426, None, message))
            }
            ("GET", "/v1/models") => json_response(200, models()),
            // An account without settings managed by its organisation; an answer of another shape is asked for again and
            // again.
            ("GET", "/api/claude_code/settings" | "/api/claude_code/policy_limits") => {
                json_response(404, anthropic::refusal(404, None, "this account has none"))
            }
            ("GET", "/backend-api/codex/models") => json_response(200, json!({"models": []})),
            ("GET", "/backend-api/wham/accounts/check") => json_response(200, openai::accounts(request.account)),
            _ if request.host == "api.openai.com" => {
                json_response(404, openai::refusal(404, None, "this is not simulated"))
            }
            _ => json_response(200, json!({})),
        }
    }

    /// The scripted response to a model call.
    fn call(&self, dialect: Dialect, body: &[u8]) -> Response {
        self.answer(dialect, Ask::parse(dialect, body))
    }

    /// The scripted response to what is asked, if it is a model call.
    fn answer(&self, dialect: Dialect, ask: Option<Ask>) -> Response {
        let Some(ask) = ask else {
            let message = "the body is not the JSON of a model call";
            let response = json_response(400, refusal(dialect, 400, None, message));
            return Response { dialect: Some(dialect), ..response };
        };
        let (number, turn) = self.play(&ask);
        let scripted = turn.and_then(|at| self.script.turns.get(at));
        let fallback = || self.fallback.find(&ask, &[]).and_then(|at| self.fallback.turns.get(at));
        let reply = scripted.or_else(fallback).map(|turn| turn.reply.clone()).unwrap_or_default();
        let mut response = render(number, &ask, &reply);
        response.delay = Duration::from_millis(reply.delay_ms);
        response.body = response.body.cut_after(reply.cut_after_bytes);
        response.broken |= reply.cut_after_bytes.is_some();
        let model = Some(ask.model);
        Response { dialect: Some(dialect), model, turn: turn.map(|at| at + 1), ..response }
    }

    /// Counts an answer and picks the turn of the user's script for it.
    fn play(&self, ask: &Ask) -> (u64, Option<usize>) {
        // A panic elsewhere leaves at worst one count behind, which nobody's safety rests on.
        let mut played = self.played.lock().unwrap_or_else(PoisonError::into_inner);
        played.answers += 1;
        let turn = self.script.find(ask, &played.used);
        if let Some(used) = turn.and_then(|at| played.used.get_mut(at)) {
            *used += 1;
        }
        (played.answers, turn)
    }
}

/// Whether OpenAI's Responses are at this path.
pub(super) fn is_responses(path: &str) -> bool {
    ["/v1/responses", "/backend-api/codex/responses"].contains(&path)
}

/// The response that a reply means.
fn render(number: u64, ask: &Ask, reply: &Reply) -> Response {
    let error = reply.error.as_ref();
    let status = reply.status.or((error.is_some() && !ask.stream).then_some(500));
    if let Some(status) = status {
        let message = error.map_or("a rehearsed refusal", |error| error.message.as_str());
        let kind = error.and_then(|error| error.kind.as_deref());
        let response = json_response(status, refusal(ask.dialect, status, kind, message));
        return Response { stream: ask.stream, ..response };
    }
    let mut answer = Answer::new(number, ask, reply);
    if ask.dialect == Dialect::OpenAiChat {
        // That dialect has no words for it.
        answer.usage.web_searches = 0;
    }
    if matches!(ask.dialect, Dialect::GoogleGenerate | Dialect::BedrockConverse) {
        answer.tier = None;
    }
    if ask.dialect == Dialect::GoogleGenerate {
        answer.usage = gemini::sayable(answer.usage);
    }
    if ask.dialect == Dialect::BedrockConverse {
        answer.usage = bedrock::sayable(answer.usage);
    }
    let silent = ask.dialect == Dialect::OpenAiChat && ask.stream && !ask.include_usage;
    let usage = (!silent).then_some(answer.usage);
    let tier = answer.tier.clone();
    if !ask.stream {
        let whole = match ask.dialect {
            Dialect::AnthropicMessages => anthropic::whole(&answer),
            Dialect::BedrockConverse => bedrock::whole(&answer),
            Dialect::OpenAiResponses => openai::whole(&answer),
            Dialect::OpenAiChat => chat::whole(&answer),
            Dialect::GoogleGenerate => gemini::whole(&answer),
        };
        return Response { usage, tier, ..json_response(200, whole) };
    }
    let pause = Duration::from_millis(reply.chunk_delay_ms);
    let broken = answer.error.is_some();
    let streamed = |content_type, body| Response {
        content_type,
        body,
        stream: true,
        usage,
        tier,
        broken,
        ..json_response(200, Value::Null)
    };
    let events = match ask.dialect {
        Dialect::BedrockConverse => {
            return streamed(bedrock::CONTENT_TYPE, Paced::chunks(bedrock::stream(&answer), pause));
        }
        Dialect::AnthropicMessages if ask.by_amazon => {
            let chunks = bedrock::chunks(&anthropic::stream(&answer));
            return streamed(bedrock::CONTENT_TYPE, Paced::chunks(chunks, pause));
        }
        Dialect::AnthropicMessages => anthropic::stream(&answer),
        Dialect::OpenAiResponses => openai::stream(&answer),
        Dialect::OpenAiChat => chat::stream(&answer, ask.include_usage),
        Dialect::GoogleGenerate => gemini::stream(&answer),
    };
    streamed("text/event-stream; charset=utf-8", Paced::chunks(events, pause))
}

fn refusal(dialect: Dialect, status: u16, kind: Option<&str>, message: &str) -> Value {
    match dialect {
        Dialect::AnthropicMessages | Dialect::BedrockConverse => anthropic::refusal(status, kind, message),
        Dialect::OpenAiResponses | Dialect::OpenAiChat => openai::refusal(status, kind, message),
        Dialect::GoogleGenerate => gemini::refusal(status, kind, message),
    }
}

/// A list that the clients of either vendor can read.
fn models() -> Value {
    let one = |id: &&str| json!({"id": id, "type": "model", "object": "model", "display_name": id, "created": 0});
    json!({"object": "list", "data": MODELS.iter().map(one).collect::<Vec<_>>(), "has_more": false})
}

/// A response of JSON that is no model's answer.
pub(super) fn json_response(status: u16, value: Value) -> Response {
    Response {
        status,
        content_type: "application/json",
        body: Paced::whole(value.to_string()),
        delay: Duration::ZERO,
        dialect: None,
        model: None,
        stream: false,
        turn: None,
        usage: None,
        tier: None,
        broken: false,
    }
}
