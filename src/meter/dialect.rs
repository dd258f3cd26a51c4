//! The wire formats in which models are called.

/// A wire format in which a model is called and usage is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Anthropic's Messages.
    AnthropicMessages,
    /// OpenAI's Responses.
    OpenAiResponses,
    /// OpenAI's Chat Completions.
    OpenAiChat,
    /// Google's `generateContent` and `streamGenerateContent`.
    GoogleGenerate,
    /// Amazon Bedrock's Converse, and what all models' own formats report there in the same words.
    BedrockConverse,
}

impl Dialect {
    /// The name under which usage is recorded.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic-messages",
            Self::OpenAiResponses => "openai-responses",
            Self::OpenAiChat => "openai-chat",
            Self::GoogleGenerate => "google-generate",
            Self::BedrockConverse => "bedrock-converse",
        }
    }
}
