//! Logins that programs keep in a file of JSON and renew by themselves (RFC 6749, section 6): which texts of the file are
//! tokens, what a look-alike of it holds, and what of a renewal's answer the program is shown.
//!
//! Where a token is a JSON Web Token (RFC 7519), programs read claims in it. Its look-alike has the claims that they need, and
//! the placeholder where the signature stands.

use super::secret::{Place, Site};
use super::shape::Shape;
use crate::model::{HostName, Placeholder, Port, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A login of one program's.
#[derive(Debug)]
pub struct Login {
    /// The preset's name.
    pub name: &'static str,
    /// Its file, as `~/…`.
    pub file: &'static str,
    /// Its tokens; the first is the one that requests carry.
    pub tokens: &'static [Token],
    /// The rules without which it would be of no use.
    pub rules: &'static [&'static str],
    /// The variables of keys that the program would use instead.
    pub instead_of: &'static [&'static str],
    /// What else of the file the look-alike holds, as pointers (RFC 6901).
    kept: &'static [&'static str],
    /// The claims of its tokens that the look-alike holds.
    claims: &'static [&'static str],
    /// The places of the file that say when it was renewed, or until when that holds.
    stamps: &'static [(&'static str, Stamp)],
}

/// One of a login's tokens.
#[derive(Debug)]
pub struct Token {
    /// What its secret is called behind the login's name.
    suffix: &'static str,
    /// Where in the file it stands.
    pointer: &'static str,
    /// What a renewal's answer calls it.
    field: &'static str,
    shape: Shape,
    sites: &'static [(&'static str, &'static str, At)],
}

/// Where a token goes.
#[derive(Debug, Clone, Copy)]
enum At {
    Bearer,
    /// In the body of a request for renewal.
    Renewal,
}

/// A time in a login's file.
#[derive(Debug, Clone, Copy)]
enum Stamp {
    /// When it was renewed, as RFC 3339 has it.
    Now,
    /// Milliseconds since 1970, so many seconds from now as this field of the answer says.
    Until(&'static str),
}

/// Where a renewal's token stands in the request, and the kind of grant that it must be for (RFC 6749, section 6).
pub const RENEWAL_POINTER: &str = "/refresh_token";
/// See [`RENEWAL_POINTER`].
pub const RENEWAL_GRANT: (&str, &str) = ("/grant_type", "refresh_token");
/// What of a renewal's answer a program is shown besides its tokens.
const ANSWER_KEPT: [&str; 6] =
    ["token_type", "expires_in", "refresh_token_expires_in", "scope", "account", "organization"];

static LOGINS: &[Login] = &[
    Login {
        name: "claude-login",
        file: "~/.claude/.credentials.json",
        tokens: &[
            Token {
                suffix: "",
                pointer: "/claudeAiOauth/accessToken",
                field: "access_token",
                shape: Shape::AnthropicToken,
                sites: &[("api.anthropic.com", "/", At::Bearer)],
            },
            Token {
                suffix: "-renewal",
                pointer: "/claudeAiOauth/refreshToken",
                field: "refresh_token",
                shape: Shape::AnthropicRenewal,
                sites: &[("platform.claude.com", "/v1/oauth/token", At::Renewal)],
            },
        ],
        rules: &["POST platform.claude.com/v1/oauth/token"],
        instead_of: &["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"],
        kept: &[
            "/claudeAiOauth/expiresAt",
            "/claudeAiOauth/refreshTokenExpiresAt",
            "/claudeAiOauth/scopes",
            "/claudeAiOauth/subscriptionType",
            "/claudeAiOauth/rateLimitTier",
        ],
        claims: &[],
        stamps: &[
            ("/claudeAiOauth/expiresAt", Stamp::Until("expires_in")),
            ("/claudeAiOauth/refreshTokenExpiresAt", Stamp::Until("refresh_token_expires_in")),
        ],
    },
    Login {
        name: "codex-login",
        file: "~/.codex/auth.json",
        tokens: &[
            Token {
                suffix: "",
                pointer: "/tokens/access_token",
                field: "access_token",
                shape: Shape::Signature,
                sites: &[("chatgpt.com", "/backend-api/", At::Bearer)],
            },
            Token {
                suffix: "-renewal",
                pointer: "/tokens/refresh_token",
                field: "refresh_token",
                shape: Shape::Opaque,
                sites: &[("auth.openai.com", "/oauth/token", At::Renewal)],
            },
            // It says who is there, and is sent nowhere.
            Token {
                suffix: "-identity",
                pointer: "/tokens/id_token",
                field: "id_token",
                shape: Shape::Signature,
                sites: &[],
            },
        ],
        rules: &[
            "GET,POST chatgpt.com/backend-api/codex/**",
            // Which of its owner's workspaces it is for.
            "GET chatgpt.com/backend-api/wham/accounts/check",
            "GET chatgpt.com/backend-api/wham/settings/user",
            "POST auth.openai.com/oauth/token",
        ],
        instead_of: &["CODEX_API_KEY", "OPENAI_API_KEY"],
        kept: &["/auth_mode", "/last_refresh", "/tokens/account_id"],
        claims: &["exp", "iat", "email", "https://api.openai.com/auth", "https://api.openai.com/profile"],
        stamps: &[("/last_refresh", Stamp::Now)],
    },
];

impl Login {
    /// The login that a preset of this name is.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        LOGINS.iter().find(|login| login.name == name)
    }

    /// What the file of a session holds, where the real one holds this and these stand for its tokens. Nothing is taken over
    /// that is not known to be no secret.
    #[must_use]
    pub fn look_alike(&self, real: &Value, placeholders: &[&Placeholder]) -> Value {
        let mut made = json!({});
        for pointer in self.kept {
            if let Some(value) = real.pointer(pointer).filter(|value| !value.is_null()) {
                set(&mut made, pointer, value.clone());
            }
        }
        for (token, placeholder) in self.tokens.iter().zip(placeholders) {
            if let Some(text) = real.pointer(token.pointer).and_then(Value::as_str) {
                set(&mut made, token.pointer, self.stand_in(token, text, placeholder).into());
            }
        }
        made
    }

    /// What a program is shown for a token.
    fn stand_in(&self, token: &Token, real: &str, placeholder: &Placeholder) -> String {
        if token.shape != Shape::Signature {
            return placeholder.0.clone();
        }
        let claims = real.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims = claims.and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).ok());
        let mut claims = claims.unwrap_or_default();
        claims.retain(|name, _| self.claims.contains(&name.as_str()));
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!(
            "{}.{}.{placeholder}",
            part(&json!({"alg": "RS256", "typ": "JWT"})),
            part(&claims.into()),
            placeholder = placeholder.as_str()
        )
    }

    /// What a renewal's answer means; none where there is no token in it.
    #[must_use]
    pub fn renewal(&self, answer: &Value, placeholders: &[&Placeholder], now: Timestamp) -> Option<Renewal> {
        let answer = answer.as_object()?;
        let mut shown: Map<String, Value> = Map::new();
        let (mut tokens, mut changes) = (Vec::new(), BTreeMap::new());
        for (number, (token, placeholder)) in self.tokens.iter().zip(placeholders).enumerate() {
            let Some(text) = answer.get(token.field).and_then(Value::as_str) else { continue };
            shown.insert(token.field.to_owned(), self.stand_in(token, text, placeholder).into());
            tokens.push((number, text.to_owned()));
            changes.insert(token.pointer.to_owned(), Value::from(text));
        }
        if tokens.is_empty() {
            return None;
        }
        for (name, value) in answer.iter().filter(|(name, _)| ANSWER_KEPT.contains(&name.as_str())) {
            shown.insert(name.clone(), value.clone());
        }
        for (pointer, stamp) in self.stamps {
            let value = match stamp {
                Stamp::Now => Some(now.to_rfc3339().into()),
                Stamp::Until(field) => answer
                    .get(*field)
                    .and_then(Value::as_i64)
                    .map(|seconds| (now.0 / 1000).saturating_add(seconds.saturating_mul(1000)).into()),
            };
            changes.extend(value.map(|value| ((*pointer).to_owned(), value)));
        }
        Some(Renewal { tokens, changes, shown: shown.into() })
    }
}

/// What a renewal's answer means.
pub struct Renewal {
    /// The new tokens, each with its place among the login's.
    pub tokens: Vec<(usize, String)>,
    /// What is to be written into the login's file, by where in it.
    pub changes: BTreeMap<String, Value>,
    /// What the program is shown.
    pub shown: Value,
}

/// Writes into a login's file what a renewal changed of it.
pub fn apply_renewal(document: &mut Value, changes: BTreeMap<String, Value>) {
    changes.into_iter().for_each(|(pointer, value)| set(document, &pointer, value));
}

/// Sets what stands at a pointer of plain names, making the objects above it.
fn set(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for name in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = value;
}

/// A token of a login, as a secret.
#[derive(Debug, Clone, Copy)]
pub struct LoginToken {
    /// Whose.
    pub login: &'static Login,
    /// Which, in the login's order.
    pub number: usize,
}

impl PartialEq for LoginToken {
    fn eq(&self, other: &Self) -> bool {
        (self.login.name, self.number) == (other.login.name, other.number)
    }
}

impl Eq for LoginToken {}

impl LoginToken {
    /// Every token of a login.
    pub(super) fn all(login: &'static Login) -> impl Iterator<Item = Self> {
        (0..login.tokens.len()).map(move |number| Self { login, number })
    }

    fn token(self) -> &'static Token {
        &self.login.tokens[self.number]
    }

    /// What its secret is called, where the login's is called so.
    pub(super) fn name(self, login: &str) -> String {
        format!("{login}{}", self.token().suffix)
    }

    /// Where in the login's file it stands.
    pub(super) fn pointer(self) -> &'static str {
        self.token().pointer
    }

    pub(super) fn shape(self) -> Shape {
        self.token().shape
    }

    pub(super) fn sites(self) -> Vec<Site> {
        let site = |(host, path, at): &(&str, &str, At)| {
            let place = match at {
                At::Bearer => Place::Bearer,
                At::Renewal => Place::Json(RENEWAL_POINTER.to_owned()),
            };
            // Every host of a login is one: a test parses them all.
            let host = HostName::parse(host).ok()?;
            Some(Site { host, port: Port(443), path: (*path).to_owned(), place })
        };
        self.token().sites.iter().filter_map(site).collect()
    }

    /// Whether requests for renewal carry it.
    #[must_use]
    pub fn renews(self) -> bool {
        self.token().sites.iter().any(|(_, _, at)| matches!(at, At::Renewal))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn jwt(claims: &Value, signature: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{signature}", part(&json!({"alg": "RS256", "kid": "canary"})), part(claims))
    }

    fn claims(token: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    }

    fn placeholders(login: &'static Login) -> Vec<Placeholder> {
        LoginToken::all(login).map(|token| token.shape().placeholder(&token.name("login"), &[7; 96])).collect()
    }

    #[test]
    fn every_login_has_its_sites_and_one_token_that_renews_it() {
        for login in LOGINS {
            let tokens: Vec<_> = LoginToken::all(login).collect();
            assert!(tokens.iter().all(|token| token.sites().len() == token.token().sites.len()), "{}", login.name);
            assert_eq!(tokens.iter().filter(|token| token.renews()).count(), 1, "{}", login.name);
            assert!(!tokens[0].sites().is_empty() && login.file.starts_with("~/"), "{}", login.name);
        }
    }

    #[test]
    fn a_look_alike_holds_what_a_program_reads_and_no_token() {
        let login = Login::named("codex-login").unwrap();
        let held = placeholders(login);
        let account = json!({"chatgpt_account_id": "acc-1", "chatgpt_plan_type": "pro"});
        let access = json!({"exp": 7, "jti": "canary", "https://api.openai.com/auth": account});
        let real = json!({
            "auth_mode": "chatgpt", "OPENAI_API_KEY": "canary", "last_refresh": "2026-11-27T00:00:00Z",
            "tokens": {"access_token": jwt(&access, "canary"), "refresh_token": "canary", "account_id": "acc-1",
                "id_token": jwt(&json!({"email": "a@b.example", "at_hash": "canary"}), "canary")},
            "agent": {"key": "canary"},
        });
        let made = login.look_alike(&real, &held.iter().collect::<Vec<_>>());
        let token = |name: &str| made["tokens"][name].as_str().unwrap().to_owned();
        assert_eq!(claims(&token("access_token")), json!({"exp": 7, "https://api.openai.com/auth": account}));
        assert_eq!(claims(&token("id_token")), json!({"email": "a@b.example"}));
        assert!(token("access_token").ends_with(&format!(".{}", held[0].0)) && token("refresh_token") == held[1].0);
        let texts =
            [made.to_string(), claims(&token("access_token")).to_string(), claims(&token("id_token")).to_string()];
        assert!(!texts.concat().contains("canary") && !made.to_string().contains(&URL_SAFE_NO_PAD.encode("canary")));
        assert_eq!((&made["auth_mode"], &made["tokens"]["account_id"]), (&json!("chatgpt"), &json!("acc-1")));
    }

    #[test]
    fn a_renewal_is_written_outside_and_shown_with_placeholders() {
        let login = Login::named("claude-login").unwrap();
        let held = placeholders(login);
        let answer = json!({"access_token": "new-1", "refresh_token": "new-2", "expires_in": 60, "api_key": "new-3",
            "scope": "user:inference"});
        let now = Timestamp(5000);
        let held: Vec<_> = held.iter().collect();
        let renewal = login.renewal(&answer, &held, now).unwrap();
        assert_eq!(renewal.tokens, [(0, "new-1".to_owned()), (1, "new-2".to_owned())]);
        assert!(!renewal.shown.to_string().contains("new-"), "{}", renewal.shown);
        assert_eq!(renewal.shown["access_token"], held[0].0.as_str());
        assert_eq!(renewal.shown["scope"], "user:inference");
        let mut file = json!({"claudeAiOauth": {"accessToken": "old", "scopes": ["a"]}, "mcpOAuth": {"b": 1}});
        apply_renewal(&mut file, renewal.changes);
        let tokens = json!({"accessToken": "new-1", "refreshToken": "new-2", "expiresAt": 60_005, "scopes": ["a"]});
        assert_eq!(file, json!({"claudeAiOauth": tokens, "mcpOAuth": {"b": 1}}));
        assert!(login.renewal(&json!({"error": "invalid_grant"}), &held, now).is_none());
    }
}
