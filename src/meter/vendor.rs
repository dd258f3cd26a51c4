//! Who bills a model call.

use serde::Deserialize;
use std::fmt;

/// Who bills a model call: one model has different prices at different vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// Anthropic's own API.
    Anthropic,
    /// Microsoft's Azure OpenAI and Foundry.
    Azure,
    /// Amazon's Bedrock.
    Bedrock,
    /// DeepSeek's own API.
    DeepSeek,
    /// Google's Gemini API.
    Google,
    /// Groq's own API.
    Groq,
    /// Models that nobody bills: of a host that the user named so.
    Local,
    /// Mistral's own API.
    Mistral,
    /// OpenAI's own API.
    OpenAi,
    /// OpenRouter, which says what a call cost.
    OpenRouter,
    /// A host that the user named, at the user's own prices.
    Own,
    /// Google's Vertex AI.
    Vertex,
    /// xAI's own API.
    Xai,
}

impl Vendor {
    /// All of them, by name.
    pub const ALL: [Self; 13] = [
        Self::Anthropic,
        Self::Azure,
        Self::Bedrock,
        Self::DeepSeek,
        Self::Google,
        Self::Groq,
        Self::Local,
        Self::Mistral,
        Self::OpenAi,
        Self::OpenRouter,
        Self::Own,
        Self::Vertex,
        Self::Xai,
    ];

    /// The name in price tables and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Azure => "azure",
            Self::Bedrock => "bedrock",
            Self::DeepSeek => "deepseek",
            Self::Google => "google",
            Self::Groq => "groq",
            Self::Local => "local",
            Self::Mistral => "mistral",
            Self::OpenAi => "openai",
            Self::OpenRouter => "openrouter",
            Self::Own => "own",
            Self::Vertex => "vertex",
            Self::Xai => "xai",
        }
    }
}

impl fmt::Display for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
