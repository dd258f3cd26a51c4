//! Model calls to hosts that a user named, beside those of the vendors.

use super::endpoint::{messages, openai};
use super::{Dialect, Endpoint, Later, Vendor};
use crate::model::{Host, ModelFormat, ModelHost, RequestLine};

/// Where model calls go: to the vendors, and to hosts that a user named.
#[derive(Clone, Debug, Default)]
pub struct ModelHosts(Vec<ModelHost>);

impl ModelHosts {
    /// The vendors' hosts and these. A vendor's own host stays that vendor's, whatever is named.
    #[must_use]
    pub fn new(named: Vec<ModelHost>) -> Self {
        Self(named)
    }

    /// Where a billable model call goes; none when the request is something else.
    #[must_use]
    pub fn endpoint(&self, line: &RequestLine) -> Option<Endpoint> {
        Endpoint::of(line).or_else(|| self.0.iter().find_map(|named| endpoint_at(named, line)))
    }

    /// What a request fetches of answers that were asked for earlier; none where it fetches something else.
    #[must_use]
    pub fn later(&self, line: &RequestLine) -> Option<Later> {
        Later::of(line)
            .or_else(|| self.0.iter().filter(|named| is_at(named, line)).find_map(|named| Later::at(named, line)))
    }

    /// Where model calls go over a WebSocket that begins with this request.
    #[must_use]
    pub fn websocket(&self, line: &RequestLine) -> Option<Endpoint> {
        let posted = self.endpoint(&RequestLine { method: "POST".to_owned(), ..line.clone() })?;
        (line.method == "GET" && posted.dialect == Dialect::OpenAiResponses).then_some(posted)
    }
}

fn endpoint_at(named: &ModelHost, line: &RequestLine) -> Option<Endpoint> {
    if line.method != "POST" || !is_at(named, line) {
        return None;
    }
    let path = line.path.trim_end_matches('/');
    let dialect = match named.format {
        ModelFormat::OpenAi => openai(path, &named.base),
        ModelFormat::Anthropic => messages(path, &named.base),
    };
    let vendor = if named.free { Vendor::Local } else { Vendor::Own };
    Some(Endpoint { dialect: dialect?, vendor, model: None })
}

/// Whether a request goes to that host, at its port.
fn is_at(named: &ModelHost, line: &RequestLine) -> bool {
    matches!(&line.host, Host::Name(host) if *host == named.host) && named.port.is_none_or(|port| port == line.port)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{HostName, Port, Scheme};

    fn line(method: &str, host: &str, port: u16, path: &str) -> RequestLine {
        let host = Host::parse(host).unwrap();
        RequestLine { method: method.into(), scheme: Scheme::Http, host, port: Port(port), path: path.into() }
    }

    fn named(host: &str, port: Option<u16>, format: ModelFormat, free: bool) -> ModelHost {
        let Host::Name(host) = Host::parse(host).unwrap() else { panic!("{host} is no name") };
        let host: HostName = host;
        ModelHost { host, port: port.map(Port), base: "/v1".to_owned(), format, free }
    }

    #[test]
    fn a_named_host_is_metered_at_its_port_and_below_its_base_alone() {
        let hosts = ModelHosts::new(vec![
            named("llm.example", Some(8000), ModelFormat::OpenAi, true),
            named("gateway.example", None, ModelFormat::Anthropic, false),
        ]);
        let of = |method, host, port, path| {
            hosts.endpoint(&line(method, host, port, path)).map(|found| (found.dialect, found.vendor))
        };
        assert_eq!(of("POST", "llm.example", 8000, "/v1/chat/completions"), Some((Dialect::OpenAiChat, Vendor::Local)));
        assert_eq!(of("POST", "gateway.example", 443, "/v1/messages"), Some((Dialect::AnthropicMessages, Vendor::Own)));
        for (method, host, port, path) in [
            ("POST", "llm.example", 8001, "/v1/chat/completions"),
            ("GET", "llm.example", 8000, "/v1/chat/completions"),
            ("POST", "llm.example", 8000, "/chat/completions"),
            ("POST", "llm.example", 8000, "/v1/messages"),
            ("POST", "other.example", 8000, "/v1/chat/completions"),
        ] {
            assert_eq!(of(method, host, port, path), None, "{method} {host}:{port}{path}");
        }
        assert!(hosts.websocket(&line("GET", "llm.example", 8000, "/v1/responses")).is_some());
        let later = |host, port, path| hosts.later(&line("GET", host, port, path)).map(|later| later.endpoint().vendor);
        assert_eq!(later("llm.example", 8000, "/v1/responses/resp_1"), Some(Vendor::Local));
        assert_eq!(later("gateway.example", 443, "/v1/messages/batches/b/results"), Some(Vendor::Own));
        assert_eq!(later("api.openai.com", 443, "/v1/responses/resp_1"), Some(Vendor::OpenAi));
        assert_eq!(later("llm.example", 8001, "/v1/responses/resp_1"), None);
    }

    #[test]
    fn a_websocket_is_a_get_where_responses_are() {
        let of = |method, path| {
            ModelHosts::default().websocket(&line(method, "api.openai.com", 443, path)).map(|found| found.dialect)
        };
        assert_eq!(of("GET", "/v1/responses"), Some(Dialect::OpenAiResponses));
        assert_eq!(of("POST", "/v1/responses"), None);
        assert_eq!(of("GET", "/v1/chat/completions"), None);
    }

    #[test]
    fn a_vendors_host_cannot_be_named_free() {
        let hosts = ModelHosts::new(vec![named("api.openai.com", None, ModelFormat::OpenAi, true)]);
        let found = hosts.endpoint(&line("POST", "api.openai.com", 443, "/v1/responses")).unwrap();
        assert_eq!(found.vendor, Vendor::OpenAi);
    }
}
