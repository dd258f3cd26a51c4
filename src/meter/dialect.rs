//! Which vendor's wire format a request speaks, judged by its line alone.

use super::Vendor;
use crate::model::{Host, RequestLine};

/// A wire format in which a model is called and usage is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `POST https://api.anthropic.com/v1/messages`.
    AnthropicMessages,
    /// `POST https://api.openai.com/v1/responses`, and its `/compact`.
    OpenAiResponses,
    /// `POST https://api.openai.com/v1/chat/completions`.
    OpenAiChat,
    /// `POST https://generativelanguage.googleapis.com/VERSION/models/MODEL:generateContent`, or
    /// `:streamGenerateContent`.
    GoogleGenerate,
}

/// The host of Google's Gemini API.
const GOOGLE: &str = "generativelanguage.googleapis.com";
/// What its model calls end in.
const GENERATE: [&str; 2] = [":generateContent", ":streamGenerateContent"];

impl Dialect {
    /// The dialect of a billable model call; none when the request is something else, such as `count_tokens`.
    #[must_use]
    pub fn of(line: &RequestLine) -> Option<Self> {
        let Host::Name(host) = &line.host else { return None };
        if line.method != "POST" {
            return None;
        }
        match (host.as_str(), line.path.trim_end_matches('/')) {
            ("api.anthropic.com", "/v1/messages") => Some(Self::AnthropicMessages),
            ("api.openai.com", "/v1/responses" | "/v1/responses/compact") => Some(Self::OpenAiResponses),
            ("api.openai.com", "/v1/chat/completions") => Some(Self::OpenAiChat),
            (GOOGLE, path) if generated(path).is_some() => Some(Self::GoogleGenerate),
            _ => None,
        }
    }

    /// The dialect of model calls over a WebSocket that begins with this request.
    #[must_use]
    pub fn of_websocket(line: &RequestLine) -> Option<Self> {
        let Host::Name(host) = &line.host else { return None };
        let responses = (host.as_str(), line.path.trim_end_matches('/')) == ("api.openai.com", "/v1/responses");
        responses.then_some(Self::OpenAiResponses)
    }

    /// The model that a call's path names, in the dialects that name it there.
    #[must_use]
    pub fn model_in(line: &RequestLine) -> Option<String> {
        match Self::of(line)? {
            Self::GoogleGenerate => generated(&line.path).map(str::to_owned),
            Self::AnthropicMessages | Self::OpenAiResponses | Self::OpenAiChat => None,
        }
    }

    /// Who bills a call in it.
    #[must_use]
    pub fn vendor(self) -> Vendor {
        match self {
            Self::AnthropicMessages => Vendor::Anthropic,
            Self::OpenAiResponses | Self::OpenAiChat => Vendor::OpenAi,
            Self::GoogleGenerate => Vendor::Google,
        }
    }

    /// The name under which usage is recorded.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic-messages",
            Self::OpenAiResponses => "openai-responses",
            Self::OpenAiChat => "openai-chat",
            Self::GoogleGenerate => "google-generate",
        }
    }
}

/// The model whose call a path of Google's is: `/v1beta/models/MODEL:generateContent`, whatever the version, and tuned
/// models too.
fn generated(path: &str) -> Option<&str> {
    let call = GENERATE.iter().find_map(|end| path.strip_suffix(end))?;
    call.rsplit_once("odels/").map(|(_, model)| model).filter(|model| !model.is_empty() && !model.contains('/'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Port, Scheme};

    fn of(method: &str, host: &str, path: &str) -> Option<Dialect> {
        let host = Host::parse(host).unwrap();
        let line =
            RequestLine { method: method.into(), scheme: Scheme::Https, host, port: Port(443), path: path.into() };
        Dialect::of(&line)
    }

    #[test]
    fn a_model_call_is_known_by_host_method_and_path() {
        assert_eq!(of("POST", "api.anthropic.com", "/v1/messages"), Some(Dialect::AnthropicMessages));
        assert_eq!(of("POST", "API.anthropic.com.", "/v1/messages/"), Some(Dialect::AnthropicMessages));
        assert_eq!(of("POST", "api.openai.com", "/v1/responses"), Some(Dialect::OpenAiResponses));
        assert_eq!(of("POST", "api.openai.com", "/v1/responses/compact"), Some(Dialect::OpenAiResponses));
        assert_eq!(of("POST", "api.openai.com", "/v1/chat/completions"), Some(Dialect::OpenAiChat));
    }

    #[test]
    fn googles_calls_name_their_model_in_the_path() {
        let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";
        assert_eq!(of("POST", GOOGLE, path), Some(Dialect::GoogleGenerate));
        assert_eq!(of("POST", GOOGLE, "/v1/tunedModels/x:generateContent"), Some(Dialect::GoogleGenerate));
        assert_eq!(generated(path), Some("gemini-2.5-pro"));
        assert_eq!(of("POST", GOOGLE, "/v1beta/models/gemini-2.5-pro:countTokens"), None);
        assert_eq!(of("POST", GOOGLE, "/v1beta/models/:generateContent"), None);
        assert_eq!(of("GET", GOOGLE, path), None);
    }

    #[test]
    fn what_costs_nothing_is_no_model_call() {
        assert_eq!(of("POST", "api.anthropic.com", "/v1/messages/count_tokens"), None);
        assert_eq!(of("GET", "api.openai.com", "/v1/models"), None);
        assert_eq!(of("GET", "api.openai.com", "/v1/responses"), None);
        assert_eq!(of("POST", "example.com", "/v1/messages"), None);
        assert_eq!(of("POST", "127.0.0.1", "/v1/messages"), None);
    }
}
