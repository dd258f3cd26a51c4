//! Hosts that a user names as places of model calls, beside the vendors that are known.

use super::{HostName, Port};

/// The wire format that a host speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ModelFormat {
    /// OpenAI's: Responses and Chat Completions, as vLLM, llama.cpp, Ollama and most gateways speak them.
    #[default]
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
}

/// A host of model calls that a profile names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHost {
    /// The host.
    pub host: HostName,
    /// Its port; any where none is written.
    pub port: Option<Port>,
    /// What the paths of its API begin with, such as `/v1`, or nothing.
    pub base: String,
    /// What it speaks.
    pub format: ModelFormat,
    /// Whether nobody bills what goes there.
    pub free: bool,
}
