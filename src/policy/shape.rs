//! What placeholders look like: as vendors' own keys do, and so that one search finds them all.

use crate::model::Placeholder;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What every placeholder holds, right after what its vendor's keys begin with.
///
/// It is made so that the two characters it begins with, [`PLACEHOLDER_PAIR`], also stand in its base64, wherever in a
/// group of three bytes it begins: each `e` with a letter from `p` to `z` behind it, at the beginning of a group, is
/// written `ZX`, and there is one at every distance from the beginning modulo three. So one search for two rare
/// characters finds every placeholder of every session, plain and in base64.
pub const PLACEHOLDER_MARK: &[u8; 8] = b"ZXepeqer";
/// The beginning of [`PLACEHOLDER_MARK`].
pub const PLACEHOLDER_PAIR: &[u8; 2] = b"ZX";
/// How many characters after the mark are the placeholder's own.
pub const PLACEHOLDER_OWN: usize = 12;
/// The mark where there is room for little, and for capitals and the digits from `2` to `7` alone, as in the ids of AWS's keys.
///
/// Of letters like these no base64 begins a group with the pair, but `V`, `F` or `6` before a `W` ends one with it: so there is one at
/// every distance from the beginning modulo three here, too.
pub const PLACEHOLDER_MARK_CAPITAL: &[u8; 8] = b"ZXVWFW6W";
/// How many characters after that mark are the placeholder's own.
pub const PLACEHOLDER_OWN_CAPITAL: usize = 8;

/// What a placeholder looks like: a vendor's own keys, so that a harness that checks them is content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// `sk-ant-api03-`, 93 characters, `AA`.
    Anthropic,
    /// `sk-ant-oat01-`, 93 characters, `AA`: the tokens of a subscription.
    AnthropicToken,
    /// `sk-ant-ort01-`, 93 characters, `AA`: what such tokens are renewed by.
    AnthropicRenewal,
    /// The signature of a JSON Web Token by RS256 (RFC 7519), 342 characters, behind claims of its own.
    Signature,
    /// `sk-proj-`, 156 characters.
    OpenAi,
    /// `AIza`, 35 characters.
    Google,
    /// `sk-or-v1-`, 64 letters and digits.
    OpenRouter,
    /// `ghp_`, 30 letters and digits, and their CRC-32 in base 62.
    GitHub,
    /// `ghs_`, 30 letters and digits, and their CRC-32 in base 62: a token of an app's installation.
    GitHubInstallation,
    /// `ya29.`, 200 characters: a token of a Google account's.
    GoogleToken,
    /// `glpat-`, 20 characters.
    GitLab,
    /// `npm_`, 30 letters and digits, and their CRC-32 in base 62.
    Npm,
    /// `pypi-AgEIcHlwaS5vcmc`, which says that it is for pypi.org, and 144 characters.
    PyPi,
    /// `cio`, 32 letters and digits.
    CratesIo,
    /// `dckr_pat_`, 27 characters.
    DockerHub,
    /// `hf_`, 34 letters and digits.
    HuggingFace,
    /// `xoxb-`, two numbers, 24 letters and digits.
    Slack,
    /// `AKIA`, 16 capitals and digits from `2` to `7`: the id of a key of AWS's, whose secret is made from it ([`signing_placeholder`]).
    AwsKey,
    /// `ATATT3xFfGF0`, 171 characters, `=`, and the CRC-32 of all that in eight digits of base 16.
    Atlassian,
    /// `gsk_`, 52 letters and digits.
    Groq,
    /// `xai-`, 80 letters and digits.
    Xai,
    /// 32 letters and digits.
    Mistral,
    /// `sk-`, 32 letters and digits.
    DeepSeek,
    /// `sk_live_`, 99 letters and digits.
    Stripe,
    /// 40 characters.
    Cloudflare,
    /// `dop_v1_`, 64 letters and digits.
    DigitalOcean,
    /// `lin_api_`, 40 letters and digits.
    Linear,
    /// `ABSK`, 128 characters: a key of Amazon Bedrock's.
    Bedrock,
    /// `omni-placeholder-`, the secret's name, 32 characters.
    Opaque,
}

/// Which characters a placeholder is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    /// Those of base64 for URLs.
    Url,
    /// Letters and digits.
    Plain,
    /// Letters and digits, the last six of which are the CRC-32 of the others.
    Checked,
    /// Those of base32 (RFC 4648, section 6).
    Base32,
}

/// Digits of base 32, in order.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Digits of base 62, in the order in which GitHub and npm count.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many of them a checksum has.
const CHECK_DIGITS: usize = 6;

impl Shape {
    /// Every shape by the name it is written as.
    pub(super) const ALL: [(&'static str, Self); 29] = [
        ("anthropic", Self::Anthropic),
        ("anthropic-token", Self::AnthropicToken),
        ("anthropic-renewal", Self::AnthropicRenewal),
        ("signature", Self::Signature),
        ("openai", Self::OpenAi),
        ("google", Self::Google),
        ("openrouter", Self::OpenRouter),
        ("github", Self::GitHub),
        ("github-installation", Self::GitHubInstallation),
        ("google-token", Self::GoogleToken),
        ("gitlab", Self::GitLab),
        ("npm", Self::Npm),
        ("pypi", Self::PyPi),
        ("crates-io", Self::CratesIo),
        ("docker-hub", Self::DockerHub),
        ("hugging-face", Self::HuggingFace),
        ("slack", Self::Slack),
        ("aws", Self::AwsKey),
        ("atlassian", Self::Atlassian),
        ("groq", Self::Groq),
        ("xai", Self::Xai),
        ("mistral", Self::Mistral),
        ("deepseek", Self::DeepSeek),
        ("stripe", Self::Stripe),
        ("cloudflare", Self::Cloudflare),
        ("digitalocean", Self::DigitalOcean),
        ("linear", Self::Linear),
        ("bedrock", Self::Bedrock),
        ("opaque", Self::Opaque),
    ];

    /// The shape of a host's keys, where none is written.
    pub(super) fn of_host(host: &str) -> Self {
        match host {
            "api.anthropic.com" => Self::Anthropic,
            "api.openai.com" => Self::OpenAi,
            "generativelanguage.googleapis.com" => Self::Google,
            "openrouter.ai" => Self::OpenRouter,
            "api.github.com" | "github.com" => Self::GitHub,
            "gitlab.com" => Self::GitLab,
            "registry.npmjs.org" => Self::Npm,
            "upload.pypi.org" => Self::PyPi,
            "crates.io" => Self::CratesIo,
            "huggingface.co" => Self::HuggingFace,
            "slack.com" => Self::Slack,
            _ => Self::Opaque,
        }
    }

    /// Makes the placeholder of a secret out of bits that the caller drew. The bits are hashed, so one draw serves all
    /// the secrets of a session, and none of their placeholders tells anything of another.
    #[must_use]
    pub fn placeholder(&self, name: &str, entropy: &[u8; 96]) -> Placeholder {
        let (begin, alphabet, count, end) = match self {
            Self::Anthropic => ("sk-ant-api03-", Alphabet::Url, 93, "AA"),
            Self::AnthropicToken => ("sk-ant-oat01-", Alphabet::Url, 93, "AA"),
            Self::AnthropicRenewal => ("sk-ant-ort01-", Alphabet::Url, 93, "AA"),
            Self::Signature => ("", Alphabet::Url, 342, ""),
            Self::OpenAi => ("sk-proj-", Alphabet::Url, 156, ""),
            Self::Google => ("AIza", Alphabet::Url, 35, ""),
            Self::OpenRouter => ("sk-or-v1-", Alphabet::Plain, 64, ""),
            Self::GitHub => ("ghp_", Alphabet::Checked, 36, ""),
            Self::GitHubInstallation => ("ghs_", Alphabet::Checked, 36, ""),
            Self::GoogleToken => ("ya29.", Alphabet::Url, 200, ""),
            Self::GitLab => ("glpat-", Alphabet::Url, 20, ""),
            Self::Npm => ("npm_", Alphabet::Checked, 36, ""),
            Self::PyPi => ("pypi-AgEIcHlwaS5vcmc", Alphabet::Url, 144, ""),
            Self::CratesIo => ("cio", Alphabet::Plain, 32, ""),
            Self::DockerHub => ("dckr_pat_", Alphabet::Url, 27, ""),
            Self::HuggingFace => ("hf_", Alphabet::Plain, 34, ""),
            Self::Slack => ("xoxb-100000000000-1000000000000-", Alphabet::Plain, 24, ""),
            Self::AwsKey => ("AKIA", Alphabet::Base32, 16, ""),
            Self::Atlassian => ("ATATT3xFfGF0", Alphabet::Url, 171, "="),
            Self::Groq => ("gsk_", Alphabet::Plain, 52, ""),
            Self::Xai => ("xai-", Alphabet::Plain, 80, ""),
            Self::Mistral => ("", Alphabet::Plain, 32, ""),
            Self::DeepSeek => ("sk-", Alphabet::Plain, 32, ""),
            Self::Stripe => ("sk_live_", Alphabet::Plain, 99, ""),
            Self::Cloudflare => ("", Alphabet::Url, 40, ""),
            Self::DigitalOcean => ("dop_v1_", Alphabet::Plain, 64, ""),
            Self::Linear => ("lin_api_", Alphabet::Plain, 40, ""),
            Self::Bedrock => ("ABSK", Alphabet::Plain, 128, ""),
            Self::Opaque => {
                let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                let shown: String = name.chars().filter(plain).collect();
                return Placeholder(format!(
                    "omni-placeholder-{shown}-{}",
                    characters(name, entropy, 32, Alphabet::Url)
                ));
            }
        };
        let mut text = format!("{begin}{}{end}", characters(name, entropy, count, alphabet));
        if *self == Self::Atlassian {
            let check = crc32(text.trim_end_matches('=').as_bytes());
            text.push_str(&format!("{check:08X}"));
        }
        Placeholder(text)
    }
}

/// The secret that belongs to a placeholder for the id of a key: what a harness signs with. It is sent nowhere, and worth
/// nothing.
#[must_use]
pub fn signing_placeholder(id: &Placeholder) -> String {
    let hash = Sha256::new().chain_update(b"omni signing placeholder\0").chain_update(&id.0).finalize();
    // As long as the vendor's.
    URL_SAFE_NO_PAD.encode(hash).chars().take(40).collect()
}

/// Characters drawn from entropy, after the mark.
fn characters(name: &str, entropy: &[u8; 96], count: usize, alphabet: Alphabet) -> String {
    let drawn = if alphabet == Alphabet::Checked { count - CHECK_DIGITS } else { count };
    let mark = if alphabet == Alphabet::Base32 { PLACEHOLDER_MARK_CAPITAL } else { PLACEHOLDER_MARK };
    let mut text = String::from_utf8_lossy(mark).into_owned();
    for block in 0u32.. {
        let mut hash = Sha256::new();
        hash.update(b"omni placeholder 2\0");
        hash.update(entropy);
        hash.update(block.to_be_bytes());
        hash.update(name);
        let hash = hash.finalize();
        // 30 of the 32 bytes, as those make whole characters.
        let block = URL_SAFE_NO_PAD.encode(&hash[..30]);
        match alphabet {
            Alphabet::Base32 => text.extend(hash.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)]))),
            Alphabet::Url => text.push_str(&block),
            Alphabet::Plain | Alphabet::Checked => text.extend(block.chars().filter(char::is_ascii_alphanumeric)),
        }
        if text.len() >= drawn {
            break;
        }
    }
    text.truncate(drawn);
    if alphabet == Alphabet::Checked {
        let mut check = [b'0'; CHECK_DIGITS];
        let mut rest = crc32(text.as_bytes());
        for digit in check.iter_mut().rev() {
            *digit = DIGITS[(rest % 62) as usize];
            rest /= 62;
        }
        text.extend(check.map(char::from));
    }
    text
}

/// The checksum of ISO 3309, bit by bit: the texts are short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

    #[test]
    fn a_placeholder_has_the_shape_of_the_vendors_own_keys() {
        let entropy = [7; 96];
        let anthropic = Shape::Anthropic.placeholder("a", &entropy).0;
        assert!(anthropic.starts_with("sk-ant-api03-") && anthropic.ends_with("AA") && anthropic.len() == 108);
        let openai = Shape::OpenAi.placeholder("a", &entropy).0;
        assert!(openai.starts_with("sk-proj-") && openai.len() == 164);
        let opaque = Shape::Opaque.placeholder("my key", &entropy).0;
        assert!(opaque.starts_with("omni-placeholder-mykey-") && opaque.len() == 23 + 32);
        let github = Shape::GitHub.placeholder("a", &entropy).0;
        assert!(github.len() == 40 && github.bytes().skip(4).all(|byte| byte.is_ascii_alphanumeric()), "{github}");
        let aws = Shape::AwsKey.placeholder("a", &entropy).0;
        assert!(aws.len() == 20 && aws.starts_with("AKIA") && aws.bytes().all(|byte| BASE32.contains(&byte)), "{aws}");
    }

    #[test]
    fn the_checksum_is_the_one_that_vendors_check() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let token = Shape::Npm.placeholder("a", &[7; 96]).0;
        let value = token[34..].bytes().fold(0u64, |sum, byte| {
            sum * 62 + DIGITS.iter().position(|digit| *digit == byte).map_or(0, |at| at as u64)
        });
        assert_eq!(value, u64::from(crc32(&token.as_bytes()[4..34])));
    }

    #[test]
    fn every_secret_and_every_draw_has_its_own_placeholder_with_the_mark_and_enough_of_its_own() {
        for (name, shape) in Shape::ALL {
            let (mark, count) = match shape {
                Shape::AwsKey => (PLACEHOLDER_MARK_CAPITAL, PLACEHOLDER_OWN_CAPITAL),
                _ => (PLACEHOLDER_MARK, PLACEHOLDER_OWN),
            };
            let mark = String::from_utf8_lossy(mark).into_owned();
            let own = |secret: &str, entropy| {
                let text = shape.placeholder(secret, &[entropy; 96]).0;
                let rest = text.split_once(mark.as_str()).map(|(_, rest)| rest.to_owned());
                rest.and_then(|rest| rest.get(..count).map(str::to_owned))
            };
            assert!(own("a", 7).is_some() && own("a", 7) == own("a", 7), "{name}");
            assert!(own("a", 7) != own("b", 7) && own("a", 7) != own("a", 8), "{name}");
        }
    }

    #[test]
    fn the_pair_stands_in_the_marks_base64_wherever_it_begins() {
        for before in 0..9 {
            for mark in [PLACEHOLDER_MARK, PLACEHOLDER_MARK_CAPITAL] {
                assert!(mark.starts_with(PLACEHOLDER_PAIR));
                let text = [&vec![b'-'; before][..], mark, b"x"].concat();
                for coded in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE.encode(&text)] {
                    assert!(coded.contains("ZX"), "{before}: {coded}");
                }
            }
        }
    }
}
