//! A simulated model provider: it speaks the vendors' dialects over TLS and follows a script, so that harnesses can be
//! rehearsed, demonstrated and tested without keys, cost or network.
//!
//! It is nothing to rely on for safety: it takes any key, records all of them if asked to, and knows no model. What it
//! reports as usage is what its record says, to the token.

mod answer;
mod anthropic;
mod ask;
mod bedrock;
mod body;
mod certificate;
mod chat;
mod gemini;
mod openai;
mod record;
mod reply;
mod script;
mod server;
mod websocket;

#[cfg(test)]
mod tests;

pub use script::{Reply, Script, ToolCall, Turn, When, WrittenError, WrittenUsage};
pub use server::Sim;

use std::net::SocketAddr;
use std::path::PathBuf;

/// What a simulated provider needs to start.
#[derive(Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What it answers, before the built-in script.
    pub script: Option<Script>,
    /// Where its CA's certificate is written, as PEM.
    pub ca_out: Option<PathBuf>,
    /// Where requests are written down.
    pub record: Option<PathBuf>,
    /// Whether OpenAI's Responses can be had over a WebSocket.
    pub websockets: bool,
}

/// Why the simulated provider cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The script is not one.
    #[error("{label} is not a script: {why}")]
    Script {
        /// Which script.
        label: String,
        /// What is wrong, and where.
        why: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --listen, or port 0 for any free one")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; choose another path", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No certificate could be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS could not be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The runtime could not be started.
    #[error("cannot start serving: {0}")]
    Runtime(std::io::Error),
}
