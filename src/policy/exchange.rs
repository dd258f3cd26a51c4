//! Keys that go into no request themselves: each is exchanged for tokens that hold for a while, and requests carry those. What a
//! profile says of one, and the request that exchanges it.

use super::compile::Policy;
use super::condition::Particulars;
use super::document::{Fields, Node, Value, list, text};
use super::error::Complaint;
use super::verdict::{Grant, NamedRule, Refusal, RequestFacts, Verdict};
use crate::model::{Host, HostName, Port, RequestLine, Scheme};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Where GitHub's API is, unless an app is of another.
const GITHUB_API: &str = "https://api.github.com";
/// What a Google account's tokens are for, unless it says so.
const GOOGLE_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// For how long a JSON Web Token holds: GitHub takes ten minutes at most.
const GITHUB_SECONDS: i64 = 540;
/// How much before now it holds, since GitHub's clock may be behind.
const GITHUB_SECONDS_BEFORE: i64 = 60;
/// For how long Google's do.
const GOOGLE_SECONDS: i64 = 3600;
/// The grant by which a JSON Web Token is exchanged (RFC 7523, section 2.1).
const JWT_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// What a key is exchanged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// The tokens of one installation of a GitHub App. The key is the app's, as PEM.
    GitHubApp {
        /// The app's id, or its client's.
        app: String,
        /// Where it is exchanged.
        at: Endpoint,
        /// What the tokens are narrowed to, as GitHub's API takes it; nothing for all that the installation may.
        narrowed: Json,
    },
    /// The access tokens of a Google account: a service account's, or a user's. The key is the account's file of JSON.
    Google {
        /// What they are for.
        scopes: Vec<String>,
    },
}

/// A place that takes requests by TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: HostName,
    /// The port.
    pub port: Port,
    /// The path.
    pub path: String,
}

impl Endpoint {
    /// Reads `https://HOST[:PORT][/PATH]`.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)?),
            None => (authority, 443),
        };
        let plain = !path.contains(['?', '#', '%', '*', ' ', '\\']) && !path.contains("//");
        if !plain || path.split('/').any(|part| matches!(part, "." | "..")) {
            return None;
        }
        Some(Self { host: HostName::parse(host).ok()?, port: Port(port), path: path.to_owned() })
    }

    /// The request that is sent to it.
    #[must_use]
    pub fn line(&self) -> RequestLine {
        let Self { host, port, path } = self.clone();
        RequestLine { method: "POST".to_owned(), scheme: Scheme::Https, host: Host::Name(host), port, path }
    }
}

/// The claims by which an app of GitHub's says who it is, at a time in seconds since 1970.
#[must_use]
pub fn github_claims(app: &str, now: i64) -> Json {
    json!({"iss": app, "iat": now - GITHUB_SECONDS_BEFORE, "exp": now + GITHUB_SECONDS})
}

/// The claims by which a service account of Google's asks for a token (RFC 7523, section 3).
#[must_use]
pub fn google_claims(account: &str, scopes: &[String], audience: &str, now: i64) -> Json {
    json!({"iss": account, "scope": scopes.join(" "), "aud": audience, "iat": now, "exp": now + GOOGLE_SECONDS})
}

/// The form in which a JSON Web Token is exchanged.
#[must_use]
pub fn jwt_form(jwt: &str) -> String {
    format!("grant_type={}&assertion={jwt}", JWT_GRANT.replace(':', "%3A"))
}

impl Policy {
    /// Judges the request that exchanges a secret's key. It comes with the secret: it needs no rule, and a rule that denies
    /// it counts.
    ///
    /// # Errors
    /// The refusal, by which rule.
    pub fn decide_exchange(&self, line: RequestLine, secret: &str) -> Result<Grant, Box<Refusal>> {
        let facts = RequestFacts { line: line.clone(), disagreement: None };
        match self.decide_with(facts, &Particulars::default()) {
            Verdict::Allow(grant) => Ok(grant),
            Verdict::Deny(refusal) if refusal.rule.is_some() => Err(Box::new(refusal)),
            // A person is asked about what the harness does with it, not about this.
            Verdict::Deny(_) | Verdict::Ask(_) => {
                let text = format!("POST {}:{}{}", line.host, line.port, line.path);
                let rule = NamedRule { text, from: format!("the secret `{secret}`") };
                Ok(Grant::new(line, rule, Vec::new(), Vec::new()))
            }
        }
    }
}

impl Exchange {
    /// Reads `github_app: { app, installation, api, repositories, permissions }`.
    pub(super) fn read_github_app(node: Node, complaints: &mut Vec<Complaint>) -> Option<Self> {
        let whole = node.clone();
        let mut fields = Fields::of(node, "`github_app`", complaints);
        let (app, installation, api) = (fields.take("app"), fields.take("installation"), fields.take("api"));
        let (repositories, permissions) = (fields.take("repositories"), fields.take("permissions"));
        fields.finish(complaints);
        let (Some(app), Some(installation)) = (app, installation) else {
            let hint = "write `github_app: { app: ID, installation: ID }`, with the numbers that GitHub shows";
            complaints.push(whole.complaint("`github_app` has no `app` or no `installation`", hint));
            return None;
        };
        let app = read_id(app, "`app`", complaints)?;
        let installation = read_id(installation, "`installation`", complaints)?;
        let base = match api {
            Some(node) => text(node, "`api`", complaints)?,
            None => GITHUB_API.to_owned(),
        };
        let url = format!("{}/app/installations/{installation}/access_tokens", base.trim_end_matches('/'));
        let Some(at) = Endpoint::parse(&url) else {
            let hint = "write it like `https://github.example.com/api/v3`";
            complaints.push(whole.complaint(format!("`{base}` is not where an API is"), hint));
            return None;
        };
        let mut narrowed = serde_json::Map::new();
        if let Some(node) = repositories {
            let names = list(node, "`repositories`", true, complaints).into_iter();
            let names: Vec<_> = names.filter_map(|node| text(node, "a repository", complaints)).collect();
            narrowed.insert("repositories".to_owned(), json!(names));
        }
        if let Some(node) = permissions {
            narrowed.insert("permissions".to_owned(), json!(read_permissions(node, complaints)));
        }
        Some(Self::GitHubApp { app, at, narrowed: Json::Object(narrowed) })
    }

    /// Reads `google_account: { scopes }`.
    pub(super) fn read_google(node: Node, complaints: &mut Vec<Complaint>) -> Self {
        let mut fields = Fields::of(node, "`google_account`", complaints);
        let scopes = fields.take("scopes");
        fields.finish(complaints);
        let scopes = scopes.map(|node| list(node, "`scopes`", true, complaints)).unwrap_or_default();
        let mut read = Vec::new();
        for node in scopes {
            let Some(scope) = text(node.clone(), "a scope", complaints) else { continue };
            if scope.contains(|c: char| c.is_whitespace() || c == '"' || c == '\\') {
                complaints
                    .push(node.complaint(format!("`{scope}` is no scope"), "write one a line, as Google lists them"));
            }
            read.push(scope);
        }
        match read.is_empty() {
            true => Self::google(),
            false => Self::Google { scopes: read },
        }
    }

    /// The tokens of a Google account for all that it may do.
    pub(super) fn google() -> Self {
        Self::Google { scopes: vec![GOOGLE_SCOPE.to_owned()] }
    }
}

/// An id, as a number or as a text of letters and digits.
fn read_id(node: Node, what: &str, complaints: &mut Vec<Complaint>) -> Option<String> {
    let written = match &node.value {
        Value::Integer(number) => number.to_string(),
        _ => text(node.clone(), what, complaints)?,
    };
    if !written.is_empty() && written.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return Some(written);
    }
    complaints.push(node.complaint(format!("`{written}` is no id"), "write the one that GitHub shows"));
    None
}

/// Reads `{ contents: read, … }`.
fn read_permissions(node: Node, complaints: &mut Vec<Complaint>) -> BTreeMap<String, String> {
    let complaint = node.complaint("`permissions` is no map", "write it like `{ contents: read }`");
    let Value::Map(entries) = node.value else {
        complaints.push(complaint);
        return BTreeMap::new();
    };
    let read = entries.into_iter().filter_map(|(key, node)| Some((key.text, text(node, "a permission", complaints)?)));
    read.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::rule::{Effect, Level, WrittenRule};
    use super::super::{Mode, RuleSource, SecretSpec};
    use super::*;

    fn read(text: &str) -> Result<SecretSpec, String> {
        SecretSpec::parse("test", text).map_err(|errors| errors.to_string())
    }

    #[test]
    fn an_app_of_githubs_says_which_installation_its_tokens_are_of_and_what_they_may() {
        let spec = read(
            "name: bot\npreset: github-app\nfrom: file:/k.pem\n\
             github_app: { app: 12, installation: 34, repositories: [a], permissions: { contents: read } }",
        );
        let spec = spec.unwrap();
        let at = Endpoint::parse("https://api.github.com/app/installations/34/access_tokens").unwrap();
        let narrowed = json!({"repositories": ["a"], "permissions": {"contents": "read"}});
        assert_eq!(spec.exchange, Some(Exchange::GitHubApp { app: "12".to_owned(), at, narrowed }));
        assert!(spec.is_document() && spec.mode == Mode::Placeholder && spec.placeholder_env.len() == 2);
        let own = "name: bot\npreset: github-app\nfrom: file:/k.pem\nsites: [ { host: git.example, bearer: true } ]\n\
            github_app: { app: Iv1.ab, installation: 3, api: 'https://git.example:8443/api/v3/' }";
        let Some(Exchange::GitHubApp { at, .. }) = read(own).unwrap().exchange else { panic!("no app") };
        assert_eq!((at.port, at.path.as_str()), (Port(8443), "/api/v3/app/installations/3/access_tokens"));
    }

    #[test]
    fn what_is_missing_of_an_exchange_is_said() {
        for (more, expected) in [
            ("preset: github-app", "has no `github_app`"),
            ("preset: github-app\ngithub_app: { app: 1 }", "no `app` or no `installation`"),
            ("preset: github-app\ngithub_app: { app: 1, installation: '../2' }", "`../2` is no id"),
            ("preset: github-app\ngithub_app: { app: 1, installation: 2, api: 'http://a.example' }", "is not where"),
            ("host: a.example\nclient_certificate: true\ngoogle_account: { scopes: a }", "goes into no request"),
            ("preset: gcp-service-account\ngoogle_account: { scopes: ['a b'] }", "is no scope"),
            ("host: a.example\nbearer: true\ngithub_app: { app: 1, installation: 2 }\ngoogle_account: {}", "both"),
        ] {
            let said = read(&format!("name: a\nfrom: file:/k\n{more}")).unwrap_err();
            assert!(said.contains(expected), "{more}: {said}");
        }
        let spec = read("name: a\npreset: gcp-service-account").unwrap();
        assert_eq!(spec.exchange, Some(Exchange::google()));
    }

    #[test]
    fn an_exchange_needs_no_rule_and_a_rule_that_denies_it_counts() {
        let line = || Endpoint::parse("https://token.example/t").unwrap().line();
        let judged = |effect, text: &str| {
            let rules = [WrittenRule::alone(effect, text)];
            let source = RuleSource { level: Level::Organisation, label: "test", rules: &rules, clauses: &[] };
            let granted = Policy::compile(&[source]).unwrap().decide_exchange(line(), "bot");
            granted.map(|grant| grant.rule_from().to_owned()).map_err(|refusal| refusal.rule.unwrap().text)
        };
        assert_eq!(judged(Effect::Allow, "GET other.example/"), Ok("the secret `bot`".to_owned()));
        assert_eq!(judged(Effect::Ask, "POST token.example/**"), Ok("the secret `bot`".to_owned()));
        assert_eq!(judged(Effect::Deny, "POST token.example/**"), Err("POST token.example/**".to_owned()));
    }

    #[test]
    fn an_endpoint_is_one_path_over_tls() {
        let path = |url: &str| Endpoint::parse(url).map(|at| at.path);
        assert_eq!(path("https://a.example"), Some("/".to_owned()));
        assert_eq!(path("https://a.example:8443/v1/t"), Some("/v1/t".to_owned()));
        for bad in ["http://a.example/", "https://a.example/x?y", "https://a.example/../x", "https://a.example:0/", ""]
        {
            assert_eq!(path(bad), None, "{bad}");
        }
    }
}
