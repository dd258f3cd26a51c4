//! What a client is told when its request goes nowhere, in the form it can show to a person.

use super::body::ResponseBody;
use super::cause::{self, Cause};
use super::{patience, push};
use crate::model::{Host, RequestLine};
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, UPGRADE, USER_AGENT};
use http::{Response, StatusCode};
use serde_json::json;
use std::time::Duration;

/// What a person reads as it is.
const TEXT: &str = "text/plain; charset=utf-8";

/// The host whose clients read Anthropic's form of an error.
const ANTHROPIC: &str = "api.anthropic.com";
/// The host whose clients read Google's.
const GOOGLE: &str = "generativelanguage.googleapis.com";
/// How Codex names itself. It asks six times when it is refused with 403, and shows a plain 400 at once.
const CODEX: &[u8] = b"codex";

/// How git names itself.
const GIT: &[u8] = b"git/";

/// How its client for large files does.
const LFS: &[u8] = b"git-lfs/";

/// Whom an answer is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Audience {
    /// The host that was asked for, whose clients read its own form of an error.
    host: Option<Host>,
    /// Whether the client is Codex.
    codex: bool,
    /// Whether it is git, which shows plain text alone.
    git: bool,
    /// Whether it is git's client for large files, which shows a message of its own form.
    lfs: bool,
}

impl Audience {
    /// The client that sent these headers, and the host it asked for.
    pub(super) fn new(host: &Host, headers: &HeaderMap) -> Self {
        let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
        let begins = |agent: &[u8]| agent.get(..CODEX.len()).is_some_and(|name| name.eq_ignore_ascii_case(CODEX));
        let git = agent.is_some_and(|agent| agent.starts_with(GIT));
        let lfs = agent.is_some_and(|agent| agent.starts_with(LFS));
        Self { host: Some(host.clone()), codex: agent.is_some_and(begins), git, lfs }
    }
}

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    status: StatusCode,
    message: String,
    refused: bool,
    closes: bool,
    /// When asking again may help.
    retry_after: Option<Duration>,
    /// The same in the words of git's own protocol.
    report: Option<Bytes>,
    /// Why the upstream gave no answer.
    cause: Option<Cause>,
}

impl Reply {
    /// The request was refused.
    pub(super) fn refused(status: u16, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let message = message.into();
        Self { status, message, refused: true, closes: false, retry_after: None, report: None, cause: None }
    }

    /// The request was allowed and its upstream gave no answer.
    pub(super) fn failed(status: u16, message: impl Into<String>) -> Self {
        Self { refused: false, ..Self::refused(status, message) }
    }

    /// The same answer, with what was wrong with the upstream.
    pub(super) fn because(self, cause: Option<Cause>) -> Self {
        Self { cause, ..self }
    }

    /// The connection is of no more use after this.
    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The same answer, for who may ask again after a while.
    pub(super) fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }

    /// The same answer for a push, as a report on each reference.
    pub(super) fn reporting(self, report: Option<Bytes>) -> Self {
        Self { report, ..self }
    }

    /// The answer, in the form that this client understands.
    pub(super) fn into_response(self, audience: &Audience) -> Response<ResponseBody> {
        let decided = matches!(
            self.status,
            StatusCode::FORBIDDEN | StatusCode::MISDIRECTED_REQUEST | StatusCode::PAYMENT_REQUIRED
        );
        let plain = || Bytes::from(format!("{}\n", self.message));
        let (status, kind, body) = match &self.report {
            // Git reads a report from a success alone; the report says that nothing was done.
            Some(report) => (StatusCode::OK, push::RESULT_TYPE, report.clone()),
            None if audience.codex && self.refused && decided => (StatusCode::BAD_REQUEST, TEXT, plain()),
            None if audience.git => (self.status, TEXT, plain()),
            None => (self.status, "application/json", self.json(audience).into()),
        };
        let mut response = Response::new(ResponseBody::text(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        if let Some(wait) = self.retry_after {
            // Whole seconds, and never too early.
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        } else if self.refused || decided {
            // Asking again changes nothing; clients of both big vendors heed this.
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(cause) = self.cause {
            headers.insert(cause::HEADER, HeaderValue::from_static(cause.as_str()));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match self.status {
            StatusCode::UPGRADE_REQUIRED => drop(headers.insert(UPGRADE, HeaderValue::from_static("HTTP/1.1"))),
            StatusCode::METHOD_NOT_ALLOWED => {
                let carried = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
                headers.insert(ALLOW, carried);
            }
            _ => {}
        }
        response
    }

    fn json(&self, audience: &Audience) -> String {
        let anthropic = is_host(audience, ANTHROPIC);
        let body = if audience.lfs {
            json!({"message": self.message})
        } else if anthropic {
            let kind = match self.status {
                StatusCode::PAYMENT_REQUIRED => "billing_error",
                _ if self.refused => "permission_error",
                _ => "api_error",
            };
            json!({"type": "error", "error": {"type": kind, "message": self.message}})
        } else if self.refused && is_host(audience, GOOGLE) {
            patience::google(self.status, &self.message)
        } else {
            let kind = if self.refused { "omni_refused" } else { "omni_upstream_failed" };
            let mut error = json!({"type": kind, "message": self.message});
            if let Some(cause) = self.cause {
                error["code"] = cause.as_str().into();
            }
            json!({"error": error})
        };
        format!("{body}\n")
    }
}

fn is_host(audience: &Audience, host: &str) -> bool {
    matches!(&audience.host, Some(Host::Name(name)) if name.as_str() == host)
}

/// What a person reads about a refused request: what it was, why, and what would allow it.
pub(super) fn explain(line: &RequestLine, reason: &str, rule_to_add: Option<&str>) -> String {
    let hint = rule_to_add.map_or_else(String::new, |rule| {
        format!(". Add the rule `{rule}` to the profile's egress, or run omni exec --allow '{rule}'")
    });
    format!("omni refused {}: {reason}{hint}", url(line))
}

/// The request as method and URL.
pub(super) fn url(line: &RequestLine) -> String {
    let RequestLine { method, scheme, host, port, path } = line;
    let port = if *port == scheme.default_port() { String::new() } else { format!(":{port}") };
    let path = if scheme.is_opaque() { "" } else { path };
    format!("{method} {scheme}://{host}{port}{path}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Port, Scheme};
    use http_body_util::BodyExt;

    fn audience(host: &str, agent: Option<&str>) -> Audience {
        let agent = agent.map(|agent| (USER_AGENT, agent.parse().unwrap()));
        Audience::new(&Host::parse(host).unwrap(), &HeaderMap::from_iter(agent))
    }

    async fn told(reply: Reply, audience: &Audience) -> (u16, String, bool) {
        let response = reply.into_response(audience);
        let status = response.status().as_u16();
        let final_ = response.headers().get("x-should-retry").is_some_and(|value| value == "false");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap(), final_)
    }

    #[tokio::test]
    async fn each_vendors_client_gets_its_own_form() {
        let reply = Reply::refused(403, "no");
        let (status, body, is_final) =
            told(reply.clone(), &audience("api.anthropic.com", Some("claude-cli/2.1"))).await;
        let form = json!({"type": "error", "error": {"type": "permission_error", "message": "no"}});
        assert_eq!((status, body, is_final), (403, format!("{form}\n"), true));
        let form = json!({"error": {"type": "omni_refused", "message": "no"}});
        for agent in [None, Some("OpenAI/Python 2.0"), Some("cod"), Some("my-codex")] {
            let answer = told(reply.clone(), &audience("api.openai.com", agent)).await;
            assert_eq!(answer, (403, format!("{form}\n"), true), "{agent:?}");
        }
    }

    #[tokio::test]
    async fn codex_gets_what_it_shows_at_once_where_asking_again_is_vain() {
        let codex = audience("api.openai.com", Some("codex_cli_rs/0.169.0 (Debian 12)"));
        for status in [403, 421] {
            assert_eq!(told(Reply::refused(status, "no"), &codex).await, (400, "no\n".to_owned(), true));
        }
        // It falls back from a WebSocket on this status alone, and an upstream's trouble may be over soon.
        assert_eq!(told(Reply::refused(426, "no"), &codex).await.0, 426);
        let (status, _, is_final) = told(Reply::failed(502, "no"), &codex).await;
        assert_eq!((status, is_final), (502, false));
    }

    #[test]
    fn an_explanation_names_the_rule_to_add() {
        let host = Host::parse("x.example").unwrap();
        let line =
            RequestLine { method: "GET".into(), scheme: Scheme::Https, host, port: Port(8443), path: "/a".into() };
        assert_eq!(
            explain(&line, "no rule allows it", Some("GET x.example:8443/a")),
            "omni refused GET https://x.example:8443/a: no rule allows it. Add the rule `GET x.example:8443/a` to the \
             profile's egress, or run omni exec --allow 'GET x.example:8443/a'"
        );
    }
}
