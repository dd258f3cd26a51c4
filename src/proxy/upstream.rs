//! Sending what was granted. Without a grant nothing can be sent, and a grant is used up by sending.

use super::body::RequestBody;
use super::dial::{Dialer, Origin};
use super::pool::{Passage, Pool, PoolError};
use crate::model::RequestLine;
use crate::policy::{Grant, TooMuch};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
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
    /// answer has ended, and kept until then.
    pub(super) async fn send(
        &self,
        grant: Grant,
        target: &str,
        headers: HeaderMap,
        body: Box<RequestBody>,
        websocket: bool,
    ) -> Result<(Response<Incoming>, Passage), SendError> {
        let line = grant.line();
        let request = build(line, target, headers, body).ok_or_else(|| SendError {
            status: 400,
            reason: "the request cannot be written for its upstream".to_owned(),
        })?;
        let origin = Origin { scheme: line.scheme, host: &line.host, port: line.port, websocket };
        let slot = self.dialer.lanes().take(&origin.name()).await;
        let sent = self.pool.send(&self.dialer, &origin, slot, request).await;
        sent.map_err(|error| explain(&error))
    }
}

impl Upstream {
    /// Opens a connection that is not read to the place that was granted.
    pub(super) async fn open(&self, grant: Grant) -> Result<TcpStream, SendError> {
        let RequestLine { host, port, .. } = grant.line();
        let opened = self.dialer.open(host, *port).await;
        opened.map_err(|error| SendError { status: error.status(), reason: error.to_string() })
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
    if let PoolError::Dial(dial) = error {
        return SendError { status: dial.status(), reason: dial.to_string() };
    }
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(inner) = cause {
        if let Some(too_much) = inner.downcast_ref::<TooMuch>() {
            return SendError { status: 413, reason: too_much.to_string() };
        }
        last = inner.to_string();
        cause = inner.source();
    }
    SendError { status: 502, reason: format!("the upstream broke off: {last}") }
}
