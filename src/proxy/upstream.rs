//! Sending what was granted. Without a grant nothing can be sent, and a grant is used up by sending.

use super::body::RequestBody;
use super::dial::{DialError, Dialer};
use super::lanes::{LANES_MAX, Lanes, STREAMS_MAX, Slot};
use crate::model::RequestLine;
use crate::policy::{Grant, TooMuch};
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How many unused connections are kept for one host. Where more requests than that come at a time to a server of HTTP/1,
/// each of the others costs a handshake.
const IDLE_MAX: usize = 256;
/// How often an HTTP/2 upstream with requests open is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Most header bytes of an HTTP/2 answer.
const HEADER_BYTES_MAX: u32 = 256 * 1024;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SendError {
    /// The status of the answer to the client.
    pub status: u16,
    /// Why, for a person.
    pub reason: String,
}

/// How much of one answer may wait here for its client: enough for a far upstream, 5 MB a second at 100 ms.
const STREAM_WINDOW: u32 = 512 * 1024;
/// How much of all answers of a connection may: as much as all together, so that one that is stuck never stops another.
const CONNECTION_WINDOW: u32 = STREAMS_MAX as u32 * STREAM_WINDOW;

/// The pooled way to all upstreams of a session.
pub(super) struct Upstream {
    dialer: Dialer,
    lanes: Arc<Lanes>,
    /// A pool for each lane, made when it is first used.
    clients: [OnceLock<Client<Dialer, RequestBody>>; LANES_MAX],
    /// The pool for connections that become WebSockets.
    websockets: OnceLock<Client<Dialer, RequestBody>>,
}

impl Upstream {
    /// A pool over this dialer.
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            lanes: dialer.lanes(),
            dialer,
            clients: [const { OnceLock::new() }; LANES_MAX],
            websockets: OnceLock::new(),
        }
    }

    /// Sends one request to the place that was granted, with the path that was granted. The slot is to be kept until
    /// the answer has ended.
    pub(super) async fn send(
        &self,
        grant: Grant,
        target: &str,
        headers: HeaderMap,
        body: RequestBody,
        websocket: bool,
    ) -> Result<(Response<Incoming>, Slot), SendError> {
        let line = grant.line();
        let request = build(line, target, headers, body).ok_or_else(|| SendError {
            status: 400,
            reason: "the request cannot be written for its upstream".to_owned(),
        })?;
        let dialer = if websocket { self.dialer.for_websockets() } else { self.dialer.clone() };
        let slot = self.lanes.take(&dialer.errand(line.scheme, &line.host, line.port)).await;
        drop(grant);
        // A lane beyond the last is the first: there are as many clients as lanes.
        let client = self.clients.get(slot.lane()).unwrap_or(&self.clients[0]);
        let client = if websocket {
            self.websockets.get_or_init(|| client_over(dialer))
        } else {
            client.get_or_init(|| client_over(dialer.for_lane(slot.lane())))
        };
        let sent = client.request(request).await;
        sent.map(|response| (response, slot)).map_err(|error| explain(&error))
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

fn client_over(dialer: Dialer) -> Client<Dialer, RequestBody> {
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_MAX)
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .build(dialer)
}

/// The request as the grant says; `None` when the target is not the granted path.
fn build(line: &RequestLine, target: &str, headers: HeaderMap, body: RequestBody) -> Option<Request<RequestBody>> {
    let query = target.strip_prefix(line.path.as_str())?;
    if !query.is_empty() && !query.starts_with('?') {
        return None;
    }
    let default = line.port == line.scheme.default_port();
    let port = if default { String::new() } else { format!(":{}", line.port) };
    let uri: Uri = format!("{}://{}{port}{target}", line.scheme, line.host).parse().ok()?;
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(line.method.as_bytes()).ok()?;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    Some(request)
}

fn explain(error: &Error) -> SendError {
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(inner) = cause {
        if let Some(dial) = inner.downcast_ref::<DialError>() {
            return SendError { status: dial.status(), reason: dial.to_string() };
        }
        if let Some(too_much) = inner.downcast_ref::<TooMuch>() {
            return SendError { status: 413, reason: too_much.to_string() };
        }
        last = inner.to_string();
        cause = inner.source();
    }
    SendError { status: 502, reason: format!("the upstream broke off: {last}") }
}
