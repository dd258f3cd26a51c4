//! Which model API a request calls, judged by its line alone.

use super::{Dialect, Vendor};
use crate::model::{Host, RequestLine};

/// What Google's model calls end in.
const GENERATE: [&str; 2] = [":generateContent", ":streamGenerateContent"];
/// What calls of Anthropic's models end in at Google's Vertex AI.
const RAW_PREDICT: [&str; 2] = [":rawPredict", ":streamRawPredict"];
/// Ends of the hosts of Microsoft's OpenAI and Foundry resources.
const AZURE: [&str; 3] = [".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com"];
/// Ends of the hosts of Amazon's regions.
const AMAZON: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// A model API: its wire format, who bills, and the model where the path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The wire format.
    pub dialect: Dialect,
    /// Who bills.
    pub vendor: Vendor,
    /// The model that the path names, in the APIs that name it there.
    pub model: Option<String>,
}

impl Endpoint {
    /// Where a billable model call goes; none when the request is something else, such as `count_tokens`.
    #[must_use]
    pub fn of(line: &RequestLine) -> Option<Self> {
        let Host::Name(host) = &line.host else { return None };
        if line.method != "POST" {
            return None;
        }
        let path = line.path.trim_end_matches('/');
        // Of OpenAI's, but nothing else of that host is billed by the call.
        if host.as_str() == "chatgpt.com" {
            let dialect = (path == "/backend-api/codex/responses").then_some(Dialect::OpenAiResponses);
            return Self::at(Vendor::OpenAi, dialect?);
        }
        let vendor = vendor_of(host.as_str())?;
        let dialect = match vendor {
            Vendor::Anthropic => messages(path, "/v1"),
            Vendor::OpenAi | Vendor::Mistral => openai(path, "/v1"),
            Vendor::OpenRouter => openai(path, "/api/v1").or_else(|| messages(path, "/api/v1")),
            Vendor::Xai => openai(path, "/v1").or_else(|| messages(path, "/v1")),
            Vendor::Groq => openai(path, "/openai/v1"),
            Vendor::DeepSeek => {
                openai(path, "/v1").or_else(|| openai(path, "")).or_else(|| messages(path, "/anthropic/v1"))
            }
            Vendor::Azure => azure(path),
            Vendor::Google => return google(path),
            Vendor::Vertex => return vertex(path),
            Vendor::Bedrock => return bedrock(path).filter(|_| runs_models(host.as_str())),
            Vendor::Local | Vendor::Own => None,
        };
        Self::at(vendor, dialect?)
    }

    /// Where the path names no model.
    #[allow(clippy::unnecessary_wraps)] // As what it is the end of.
    fn at(vendor: Vendor, dialect: Dialect) -> Option<Self> {
        Some(Self { dialect, vendor, model: None })
    }
}

impl From<Dialect> for Endpoint {
    /// The API whose format it is first of all.
    fn from(dialect: Dialect) -> Self {
        let vendor = match dialect {
            Dialect::AnthropicMessages => Vendor::Anthropic,
            Dialect::OpenAiResponses | Dialect::OpenAiChat => Vendor::OpenAi,
            Dialect::GoogleGenerate => Vendor::Google,
            Dialect::BedrockConverse => Vendor::Bedrock,
        };
        Self { dialect, vendor, model: None }
    }
}

/// Which vendor bills what is asked of a host.
pub(super) fn vendor_of(host: &str) -> Option<Vendor> {
    Some(match host {
        "api.anthropic.com" => Vendor::Anthropic,
        "api.openai.com" => Vendor::OpenAi,
        "generativelanguage.googleapis.com" => Vendor::Google,
        "openrouter.ai" => Vendor::OpenRouter,
        "api.x.ai" => Vendor::Xai,
        "api.mistral.ai" => Vendor::Mistral,
        "api.groq.com" => Vendor::Groq,
        "api.deepseek.com" => Vendor::DeepSeek,
        host if AZURE.iter().any(|end| host.ends_with(end)) => Vendor::Azure,
        host if host == "aiplatform.googleapis.com" || host.ends_with("-aiplatform.googleapis.com") => Vendor::Vertex,
        host if host.starts_with("bedrock") && AMAZON.iter().any(|end| host.ends_with(end)) => Vendor::Bedrock,
        _ => return None,
    })
}

/// OpenAI's formats below a path.
pub(super) fn openai(path: &str, base: &str) -> Option<Dialect> {
    match path.strip_prefix(base)? {
        "/responses" | "/responses/compact" => Some(Dialect::OpenAiResponses),
        "/chat/completions" => Some(Dialect::OpenAiChat),
        _ => None,
    }
}

/// Anthropic's format below a path.
pub(super) fn messages(path: &str, base: &str) -> Option<Dialect> {
    (path.strip_prefix(base)? == "/messages").then_some(Dialect::AnthropicMessages)
}

/// A deployment has a name of its own in the path; the model's is in the answer.
fn azure(path: &str) -> Option<Dialect> {
    let deployed = path.strip_prefix("/openai/deployments/").and_then(|rest| rest.split_once('/'));
    match deployed {
        Some((_, "chat/completions")) => Some(Dialect::OpenAiChat),
        Some(_) => None,
        None => openai(path, "/openai/v1")
            .or_else(|| openai(path, "/openai"))
            .or_else(|| openai(path, "/models"))
            .or_else(|| messages(path, "/anthropic/v1")),
    }
}

fn google(path: &str) -> Option<Endpoint> {
    let vendor = Vendor::Google;
    if let Some(model) = called(path, &GENERATE, "odels/") {
        return Some(Endpoint { dialect: Dialect::GoogleGenerate, vendor, model: Some(model.to_owned()) });
    }
    let (_, rest) = path.strip_prefix('/')?.split_once("/openai/")?;
    Endpoint::at(vendor, openai(&format!("/{rest}"), "")?)
}

fn vertex(path: &str) -> Option<Endpoint> {
    let vendor = Vendor::Vertex;
    let of = |dialect, model: &str| Some(Endpoint { dialect, vendor, model: Some(model.to_owned()) });
    if let Some(model) = called(path, &GENERATE, "odels/") {
        return of(Dialect::GoogleGenerate, model);
    }
    let model = called(path, &RAW_PREDICT, "/publishers/anthropic/models/")?;
    of(Dialect::AnthropicMessages, model)
}

/// The model whose call a path is: what stands between these, and is one segment.
fn called<'a>(path: &'a str, ends: &[&str], before: &str) -> Option<&'a str> {
    let call = ends.iter().find_map(|end| path.strip_suffix(end))?;
    call.rsplit_once(before).map(|(_, model)| model).filter(|model| !model.is_empty() && !model.contains('/'))
}

/// Whether a host of Amazon's answers model calls; others of Bedrock's manage it.
fn runs_models(host: &str) -> bool {
    let region = AMAZON.iter().find_map(|end| host.strip_suffix(end));
    region.is_some_and(|name| name.starts_with("bedrock-runtime.") || name.starts_with("bedrock-runtime-fips."))
}

/// `/model/ID/converse` and so on, where ID is a model's, a profile's, or the ARN of one.
fn bedrock(path: &str) -> Option<Endpoint> {
    let (id, act) = path.strip_prefix("/model/")?.rsplit_once('/')?;
    let id = id.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/").replace("%2f", "/");
    let model = id.rsplit('/').next().filter(|model| !model.is_empty())?.to_owned();
    let dialect = match act {
        "converse" | "converse-stream" => Dialect::BedrockConverse,
        "invoke" | "invoke-with-response-stream" if model.contains("anthropic.") => Dialect::AnthropicMessages,
        "invoke" | "invoke-with-response-stream" => Dialect::BedrockConverse,
        _ => return None,
    };
    Some(Endpoint { dialect, vendor: Vendor::Bedrock, model: Some(model) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Port, Scheme};

    fn line(method: &str, host: &str, path: &str) -> RequestLine {
        let host = Host::parse(host).unwrap();
        RequestLine { method: method.into(), scheme: Scheme::Https, host, port: Port(443), path: path.into() }
    }

    fn of(host: &str, path: &str) -> Option<(Dialect, Vendor, Option<String>)> {
        Endpoint::of(&line("POST", host, path)).map(|found| (found.dialect, found.vendor, found.model))
    }

    #[test]
    fn a_model_call_is_known_by_host_method_and_path() {
        use Dialect::{AnthropicMessages, OpenAiChat, OpenAiResponses};
        for (host, path, dialect, vendor) in [
            ("api.anthropic.com", "/v1/messages", AnthropicMessages, Vendor::Anthropic),
            ("API.anthropic.com.", "/v1/messages/", AnthropicMessages, Vendor::Anthropic),
            ("api.openai.com", "/v1/responses", OpenAiResponses, Vendor::OpenAi),
            ("api.openai.com", "/v1/responses/compact", OpenAiResponses, Vendor::OpenAi),
            ("api.openai.com", "/v1/chat/completions", OpenAiChat, Vendor::OpenAi),
            ("chatgpt.com", "/backend-api/codex/responses", OpenAiResponses, Vendor::OpenAi),
            ("generativelanguage.googleapis.com", "/v1beta/openai/chat/completions", OpenAiChat, Vendor::Google),
            ("openrouter.ai", "/api/v1/chat/completions", OpenAiChat, Vendor::OpenRouter),
            ("openrouter.ai", "/api/v1/messages", AnthropicMessages, Vendor::OpenRouter),
            ("api.x.ai", "/v1/responses", OpenAiResponses, Vendor::Xai),
            ("api.mistral.ai", "/v1/chat/completions", OpenAiChat, Vendor::Mistral),
            ("api.groq.com", "/openai/v1/chat/completions", OpenAiChat, Vendor::Groq),
            ("api.deepseek.com", "/chat/completions", OpenAiChat, Vendor::DeepSeek),
            ("api.deepseek.com", "/anthropic/v1/messages", AnthropicMessages, Vendor::DeepSeek),
            ("ours.openai.azure.com", "/openai/deployments/d/chat/completions", OpenAiChat, Vendor::Azure),
            ("ours.openai.azure.com", "/openai/v1/responses", OpenAiResponses, Vendor::Azure),
            ("ours.services.ai.azure.com", "/anthropic/v1/messages", AnthropicMessages, Vendor::Azure),
        ] {
            assert_eq!(of(host, path), Some((dialect, vendor, None)), "{host}{path}");
        }
    }

    #[test]
    fn some_calls_name_their_model_in_the_path() {
        use Dialect::{AnthropicMessages, BedrockConverse, GoogleGenerate};
        let vertex = "/v1/projects/p/locations/l/publishers";
        for (host, path, dialect, vendor, model) in [
            (
                "generativelanguage.googleapis.com",
                "/v1beta/models/gemini-2.5-pro:streamGenerateContent".to_owned(),
                GoogleGenerate,
                Vendor::Google,
                "gemini-2.5-pro",
            ),
            (
                "generativelanguage.googleapis.com",
                "/v1/tunedModels/x:generateContent".to_owned(),
                GoogleGenerate,
                Vendor::Google,
                "x",
            ),
            (
                "europe-west1-aiplatform.googleapis.com",
                format!("{vertex}/google/models/gemini-2.5-pro:generateContent"),
                GoogleGenerate,
                Vendor::Vertex,
                "gemini-2.5-pro",
            ),
            (
                "aiplatform.googleapis.com",
                format!("{vertex}/anthropic/models/claude-sonnet-4-5@20250929:streamRawPredict"),
                AnthropicMessages,
                Vendor::Vertex,
                "claude-sonnet-4-5@20250929",
            ),
            (
                "bedrock-runtime.us-east-1.amazonaws.com",
                "/model/us.anthropic.claude-opus-5/converse-stream".to_owned(),
                BedrockConverse,
                Vendor::Bedrock,
                "us.anthropic.claude-opus-5",
            ),
            (
                "bedrock-runtime.us-east-1.amazonaws.com",
                "/model/anthropic.claude-3-5-haiku-20241022-v1%3A0/invoke".to_owned(),
                AnthropicMessages,
                Vendor::Bedrock,
                "anthropic.claude-3-5-haiku-20241022-v1:0",
            ),
            (
                "bedrock-runtime-fips.us-east-1.amazonaws.com",
                "/model/amazon.nova-lite-v1:0/invoke-with-response-stream".to_owned(),
                BedrockConverse,
                Vendor::Bedrock,
                "amazon.nova-lite-v1:0",
            ),
            (
                "bedrock-runtime.eu-west-1.amazonaws.com",
                "/model/arn:aws:bedrock:eu-west-1:1:inference-profile%2Feu.anthropic.claude-opus-5/converse".to_owned(),
                BedrockConverse,
                Vendor::Bedrock,
                "eu.anthropic.claude-opus-5",
            ),
        ] {
            assert_eq!(of(host, &path), Some((dialect, vendor, Some(model.to_owned()))), "{host}{path}");
        }
    }

    #[test]
    fn what_costs_nothing_is_no_model_call() {
        for (method, host, path) in [
            ("POST", "api.anthropic.com", "/v1/messages/count_tokens"),
            ("GET", "api.openai.com", "/v1/models"),
            ("GET", "api.openai.com", "/v1/responses"),
            ("POST", "example.com", "/v1/messages"),
            ("POST", "127.0.0.1", "/v1/messages"),
            ("POST", "notopenrouter.ai", "/api/v1/chat/completions"),
            ("POST", "openai.azure.com", "/openai/v1/responses"),
            ("POST", "bedrock-runtime.amazonaws.com.evil.example", "/model/m/converse"),
            ("POST", "bedrock-runtime.us-east-1.amazonaws.com", "/model/m/count-tokens"),
            ("POST", "generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-pro:countTokens"),
            ("POST", "generativelanguage.googleapis.com", "/v1beta/models/:generateContent"),
        ] {
            assert_eq!(Endpoint::of(&line(method, host, path)), None, "{method} {host}{path}");
        }
    }
}
