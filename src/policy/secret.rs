//! Secrets as a profile declares them, and what stands in for them. No value of a secret ever comes here.

use crate::model::{HostName, Placeholder, Port};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;

/// A secret that a session may use, where its value is looked for, and the one place it may be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    /// Its name, unique in the profile.
    pub name: String,
    /// Where its value is looked for; the first that has one counts.
    pub from: Vec<SecretSource>,
    /// The only host it is sent to, over TLS.
    pub host: HostName,
    /// The only port it is sent to.
    pub port: Port,
    /// Where in a request it goes.
    pub place: Place,
    /// The environment variables that hold the placeholder in the sandbox.
    pub placeholder_env: Vec<String>,
    /// What the placeholder looks like.
    pub shape: Shape,
}

/// Where the value of a secret is looked for, outside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of omni.
    Env(String),
    /// A file, as written (`~/` not yet expanded).
    File(String),
    /// What a command prints.
    Command(String),
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Command(command) => write!(f, "command:{command}"),
        }
    }
}

/// Where in a request a secret goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The whole value of this header, named in lower case.
    Header(String),
    /// `Authorization: Bearer …`.
    Bearer,
}

/// What a placeholder looks like: a vendor's own keys, so that a harness that checks them is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `sk-ant-api03-`, 93 characters, `AA`.
    Anthropic,
    /// `sk-proj-`, 156 characters.
    OpenAi,
    /// `AIza`, 35 characters.
    Google,
    /// `omni-placeholder-`, the secret's name, 32 characters.
    Opaque,
}

impl Shape {
    /// Every shape by the name it is written as.
    pub(super) const ALL: [(&'static str, Self); 4] =
        [("anthropic", Self::Anthropic), ("openai", Self::OpenAi), ("google", Self::Google), ("opaque", Self::Opaque)];

    /// The shape of a host's keys, where none is written.
    pub(super) fn of_host(host: &str) -> Self {
        match host {
            "api.anthropic.com" => Self::Anthropic,
            "api.openai.com" => Self::OpenAi,
            "generativelanguage.googleapis.com" => Self::Google,
            _ => Self::Opaque,
        }
    }

    /// Makes the placeholder of a secret out of bits that the caller drew. The bits are hashed, so one draw serves all
    /// the secrets of a session, and none of their placeholders tells anything of another.
    #[must_use]
    pub fn placeholder(&self, name: &str, entropy: &[u8; 96]) -> Placeholder {
        Placeholder(match self {
            Self::Anthropic => format!("sk-ant-api03-{}AA", characters(name, entropy, 93)),
            Self::OpenAi => format!("sk-proj-{}", characters(name, entropy, 156)),
            Self::Google => format!("AIza{}", characters(name, entropy, 35)),
            Self::Opaque => {
                let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                let shown: String = name.chars().filter(plain).collect();
                format!("omni-placeholder-{shown}-{}", characters(name, entropy, 32))
            }
        })
    }
}

/// Characters of base 64 for URLs, drawn from entropy.
fn characters(name: &str, entropy: &[u8; 96], count: usize) -> String {
    let mut text = String::with_capacity(count + 42);
    for block in 0u32.. {
        let mut hash = Sha256::new();
        hash.update(b"omni placeholder 1\0");
        hash.update(entropy);
        hash.update(block.to_be_bytes());
        hash.update(name);
        // 30 of the 32 bytes, as those make whole characters.
        text.push_str(&URL_SAFE_NO_PAD.encode(&hash.finalize()[..30]));
        if text.len() >= count {
            break;
        }
    }
    text.truncate(count);
    text
}

/// The one scheme, host, port and place at which one placeholder is exchanged for its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The secret's name.
    pub secret: String,
    /// The only host it is sent to, over TLS.
    pub host: HostName,
    /// The only port it is sent to.
    pub port: Port,
    /// Where in a request it goes.
    pub place: Place,
    /// What stands there until then.
    pub placeholder: Placeholder,
}

impl SecretSpec {
    /// Binds a placeholder to this secret's place.
    #[must_use]
    pub fn binding(&self, placeholder: Placeholder) -> Binding {
        let Self { name, host, port, place, .. } = self;
        Binding { secret: name.clone(), host: host.clone(), port: *port, place: place.clone(), placeholder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_has_the_shape_of_the_vendors_own_keys() {
        let entropy = [7; 96];
        let anthropic = Shape::Anthropic.placeholder("a", &entropy).0;
        assert!(anthropic.starts_with("sk-ant-api03-") && anthropic.ends_with("AA") && anthropic.len() == 108);
        let openai = Shape::OpenAi.placeholder("a", &entropy).0;
        assert!(openai.starts_with("sk-proj-") && openai.len() == 164);
        let opaque = Shape::Opaque.placeholder("my key", &entropy).0;
        assert!(opaque.starts_with("omni-placeholder-mykey-") && opaque.len() == 23 + 32);
    }

    #[test]
    fn every_secret_and_every_draw_has_its_own_placeholder() {
        let one = Shape::OpenAi.placeholder("a", &[7; 96]);
        assert_eq!(one, Shape::OpenAi.placeholder("a", &[7; 96]));
        assert_ne!(one, Shape::OpenAi.placeholder("b", &[7; 96]));
        assert_ne!(one, Shape::OpenAi.placeholder("a", &[8; 96]));
    }
}
