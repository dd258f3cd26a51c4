//! What a client is told when its request goes nowhere, in the form it can show to a person.

use super::body::ResponseBody;
use crate::model::{Host, RequestLine};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use serde_json::json;

/// The host whose clients read Anthropic's form of an error.
const ANTHROPIC: &str = "api.anthropic.com";

/// An answer of the proxy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    status: StatusCode,
    message: String,
    kind: &'static str,
}

impl Reply {
    /// The request was refused.
    pub(super) fn refused(status: u16, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        Self { status, message: message.into(), kind: "omni_refused" }
    }

    /// The request was allowed and its upstream gave no answer.
    pub(super) fn failed(status: u16, message: impl Into<String>) -> Self {
        Self { kind: "omni_upstream_failed", ..Self::refused(status, message) }
    }

    /// The answer, in the form that clients of this host understand.
    pub(super) fn into_response(self, host: Option<&Host>) -> Response<ResponseBody> {
        let anthropic = matches!(host, Some(Host::Name(name)) if name.as_str() == ANTHROPIC);
        let body = if anthropic {
            let kind = if self.kind == "omni_refused" { "permission_error" } else { "api_error" };
            json!({"type": "error", "error": {"type": kind, "message": self.message}})
        } else {
            json!({"error": {"type": self.kind, "message": self.message}})
        };
        let mut response = Response::new(ResponseBody::text(format!("{body}\n")));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Asking again changes nothing; clients of both big vendors heed this.
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
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
    format!("{method} {scheme}://{host}{port}{path}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Port, Scheme};
    use http_body_util::BodyExt;

    async fn told(reply: Reply, host: &str) -> serde_json::Value {
        let response = reply.into_response(Some(&Host::parse(host).unwrap()));
        assert_eq!(response.headers()["x-should-retry"], "false");
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    #[tokio::test]
    async fn each_vendors_client_gets_its_own_form() {
        let reply = Reply::refused(403, "no");
        assert_eq!(
            told(reply.clone(), "api.anthropic.com").await,
            json!({"type": "error", "error": {"type": "permission_error", "message": "no"}})
        );
        assert_eq!(told(reply, "x.example").await, json!({"error": {"type": "omni_refused", "message": "no"}}));
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
