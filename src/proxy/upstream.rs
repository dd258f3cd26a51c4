//! Sending what was granted. Without a grant nothing can be sent, and a grant is used up by sending.

use super::body::RequestBody;
use super::cause::Cause;
use super::dial::{DialError, Dialer, Origin};
use super::early::Teller;
use super::pool::{Passage, Pool, PoolError};
use crate::model::RequestLine;
use crate::policy::{Grant, TooMuch};
use http::header::{HeaderValue, PROXY_AUTHORIZATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use std::error::Error as _;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SendError {
    /// The status of the answer to the client.
    pub status: u16,
    /// Why, for a person.
    pub reason: String,
    /// Why, for a program, where it is the upstream's state.
    pub cause: Option<Cause>,
}

impl From<&DialError> for SendError {
    fn from(error: &DialError) -> Self {
        Self { status: error.status(), reason: error.to_string(), cause: Some(error.cause()) }
    }
}

/// The pooled way to all upstreams of a session.
pub(super) struct Upstream {
    dialer: Dialer,
    pool: Arc<Pool>,
}

impl Upstream {
    /// A pool over this dialer.
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer, pool: Arc::default() }
    }

    /// Sends one request to the place that was granted, with the path that was granted. The passage is to be told when the
    /// answer has ended, and kept until then. The teller hears what comes before the answer.
    pub(super) async fn send(
        &self,
        grant: Grant,
        target: &str,
        headers: HeaderMap,
        body: Box<RequestBody>,
        websocket: bool,
        teller: Option<Teller>,
    ) -> Result<(Response<Incoming>, Passage), SendError> {
        let line = grant.line();
        let mut headers = headers;
        let login = self.dialer.login(line.scheme, &line.host, line.port);
        if let Some(login) = login.and_then(|login| HeaderValue::from_str(login).ok()) {
            headers.insert(PROXY_AUTHORIZATION, login);
        }
        let proxied = self.dialer.is_asked_for_requests(line.scheme, &line.host, line.port);
        let mut request = build(line, target, headers, body).ok_or_else(|| SendError {
            status: 400,
            reason: "the request cannot be written for its upstream".to_owned(),
            cause: None,
        })?;
        if let Some(teller) = teller {
            hyper::ext::on_informational(&mut request, move |early| teller.tell(early.status(), early.headers()));
        }
        let origin = Origin { scheme: line.scheme, host: &line.host, port: line.port, websocket, proxied };
        let slot = self.dialer.lanes().take(&origin.name()).await;
        let sent = self.pool.send(&self.dialer, &origin, slot, request).await;
        let (response, passage) = sent.map_err(|error| explain(&error))?;
        if proxied && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            let reason = "the proxy on the way does not take the user and password of its URL, if there are any (407)";
            return Err(SendError { status: 502, reason: reason.to_owned(), cause: Some(Cause::UpstreamProxy) });
        }
        Ok((response, passage))
    }
}

impl Upstream {
    /// Opens a connection that is not read to the place that was granted.
    pub(super) async fn open(&self, grant: Grant) -> Result<TcpStream, SendError> {
        let RequestLine { scheme, host, port, .. } = grant.line();
        let opened = self.dialer.open(*scheme, host, *port).await;
        opened.map_err(|error| SendError::from(&error))
    }
}

/// The request as the grant says; `None` when the target is not the granted path.
fn build(
    line: &RequestLine,
    target: &str,
    headers: HeaderMap,
    body: Box<RequestBody>,
) -> Option<Request<Box<RequestBody>>> {
    let query = target.strip_prefix(line.path.as_str())?;
    if !query.is_empty() && !query.starts_with('?') {
        return None;
    }
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(line.method.as_bytes()).ok()?;
    *request.uri_mut() = Uri::from(PathAndQuery::try_from(target).ok()?);
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Some(request)
}

fn explain(error: &PoolError) -> SendError {
    let mut cause = match error {
        PoolError::Dial(dial) => return dial.into(),
        PoolError::Http(http) if http.is_parse() || http.is_parse_too_large() => Cause::Protocol,
        PoolError::Http(_) | PoolError::Target(_) => Cause::Reset,
    };
    let mut next = error.source();
    let mut last = error.to_string();
    while let Some(inner) = next {
        if let Some(too_much) = inner.downcast_ref::<TooMuch>() {
            return SendError { status: 413, reason: too_much.to_string(), cause: None };
        }
        if let Some(socket) = inner.downcast_ref::<std::io::Error>() {
            cause = Cause::of(socket);
        }
        last = inner.to_string();
        next = inner.source();
    }
    SendError { status: 502, reason: format!("the upstream broke off: {last}"), cause: Some(cause) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::serve::{self, Place};
    use super::super::shared::Shared;
    use crate::model::{Event, Host, Port};
    use crate::policy::{Effect, Level, Policy, RuleSource, WrittenRule};
    use crate::store::Memory;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// How long the model thinks, before it says anything and once more in between.
    const THINKS: Duration = Duration::from_secs(600);

    /// A model that thinks, on a clock that waits for nobody.
    async fn think(listener: tokio::net::TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"think") {
            stream.read_buf(&mut asked).await.unwrap();
        }
        tokio::time::sleep(THINKS).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(head).await.unwrap();
        stream.write_all(b"data: one\n\n").await.unwrap();
        tokio::time::sleep(THINKS).await;
        stream.write_all(b"data: two\n\n").await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_thinks_for_ten_minutes_is_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("model.example:80:127.0.0.1:{}", listener.local_addr().unwrap().port());
        let thinking = tokio::spawn(think(listener));
        let rules = [WrittenRule::alone(Effect::Allow, "POST http://model.example/**")];
        let source = RuleSource { level: Level::Session, label: "test", rules: &rules, clauses: &[] };
        let memory = Memory::new();
        let policy = Policy::compile(&[source]).unwrap();
        let (shared, _end) = Shared::rehearsal_by(&memory, policy, vec![to.parse().unwrap()]);
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let place = Place { source: "test", host: Host::parse("model.example").unwrap(), port: Port(80) };
        let serving = tokio::spawn(serve::connection(shared, server, place));
        let asked = b"POST /v1 HTTP/1.1\r\nhost: model.example\r\ncontent-length: 5\r\n\r\nthink";
        client.write_all(asked).await.unwrap();
        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains("data: two") {
            assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("data: one"), "{answer}");
        thinking.await.unwrap();
        drop(client);
        serving.await.unwrap();
        let ended = memory.events().into_iter().find_map(|event| match event {
            Event::RequestCompleted { status, duration_ms: _, end, .. } => Some((status, end)),
            _ => None,
        });
        assert_eq!(ended, Some((200, crate::model::BodyEnd::Complete)));
    }
}
