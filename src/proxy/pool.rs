//! Connections to upstreams, kept for the requests that follow: those of HTTP/1 carry one request at a time, those of
//! HTTP/2 many.
//!
//! A request takes the connection that was free last, so that those nobody needs grow old and are let go. One is free
//! again with the last byte of its answer, before the client can have read it: a client that asks again at once never
//! meets an empty pool, and pays for no handshake. Of many requests at once to a new host a few make connections, and the
//! others wait a moment for what comes first: one that is free again, or their turn to make one.

use super::body::RequestBody;
use super::dial::{DialError, Dialer, Origin};
use super::dial_turns::{Turn, Turns};
use super::lanes::{STREAMS_MAX, Slot};
use super::leg::Leg;
use http::header::{HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often those are looked for that were not used for so long.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How many unused connections are kept for one host. Where more requests than that come at a time to a server of HTTP/1,
/// each of the others costs a handshake.
const IDLE_MAX: usize = 256;
/// How many are kept for all hosts together.
const IDLE_OF_ALL_MAX: usize = 1024;
/// How often an HTTP/2 upstream with requests open is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Most header bytes of an HTTP/2 answer.
const HEADER_BYTES_MAX: u32 = 256 * 1024;
/// How much of one answer may wait here for its client: enough for a far upstream, 5 MB a second at 100 ms.
const STREAM_WINDOW: u32 = 512 * 1024;
/// How much of all answers of a connection may: as much as all together, so that one that is stuck never stops another.
const CONNECTION_WINDOW: u32 = STREAMS_MAX as u32 * STREAM_WINDOW;

type Single = http1::SendRequest<Box<RequestBody>>;
type Many = http2::SendRequest<Box<RequestBody>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PoolError {
    /// There is no connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection did not bring an answer.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The path cannot stand in a request.
    #[error("its target is not a path: {0}")]
    Target(#[from] http::Error),
}

/// The kept connections to all upstreams.
#[derive(Default)]
pub(super) struct Pool {
    kept: Mutex<Kept>,
    turns: Arc<Turns<Single>>,
}

#[derive(Default)]
struct Kept {
    idle: HashMap<Arc<str>, Vec<Idle>>,
    /// Of all hosts together.
    idle_count: usize,
    /// By host and lane.
    shared: HashMap<(Arc<str>, usize), Many>,
    sweeping: bool,
}

struct Idle {
    sender: Single,
    since: Instant,
}

enum Connection {
    Single(Single),
    Many(Many),
}

/// A request's way to its upstream, to be kept until its answer has ended.
pub(super) struct Passage {
    slot: Slot,
    pool: Arc<Pool>,
    single: Option<Single>,
}

impl Pool {
    /// Sends a request to a place, over a connection that is kept or a new one. The request has the path that it asks for,
    /// and no host yet. What a kept connection did not begin to send, since its server closed it, is sent over another.
    pub(super) async fn send(
        self: &Arc<Self>,
        dialer: &Dialer,
        origin: &Origin<'_>,
        slot: Slot,
        mut request: Request<Box<RequestBody>>,
    ) -> Result<(Response<Incoming>, Passage), PoolError> {
        let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        loop {
            let (mut connection, kept) = match self.take(&slot) {
                Some(connection) => (connection, true),
                None => match self.turns.take(slot.host()).await {
                    Turn::Given(single) if !single.is_ready() => continue,
                    Turn::Given(single) => (Connection::Single(single), true),
                    Turn::Dial(_turn) => (Box::pin(self.open(dialer, origin, &slot)).await?, false),
                },
            };
            address(&mut request, origin, &target, matches!(connection, Connection::Many(_)))?;
            match connection.send(request).await {
                Ok(response) => {
                    let single = match connection {
                        Connection::Single(single) => Some(single),
                        Connection::Many(_) => None,
                    };
                    return Ok((response, Passage { slot, pool: self.clone(), single }));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if kept => {
                        self.forget(&slot, &connection);
                        request = unsent;
                    }
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    async fn open(&self, dialer: &Dialer, origin: &Origin<'_>, slot: &Slot) -> Result<Connection, PoolError> {
        let leg = dialer.dial(origin, slot).await?;
        if !leg.is_http2() {
            return Ok(Connection::Single(shake_http1(leg).await?));
        }
        let many = shake_http2(leg).await?;
        self.lock().shared.insert((slot.host().clone(), slot.lane()), many.clone());
        Ok(Connection::Many(many))
    }

    /// A connection that is free, or takes one more request.
    fn take(&self, slot: &Slot) -> Option<Connection> {
        let mut kept = self.lock();
        if !kept.shared.is_empty() {
            let key = (slot.host().clone(), slot.lane());
            match kept.shared.get(&key) {
                Some(many) if many.is_ready() => return Some(Connection::Many(many.clone())),
                Some(_) => drop(kept.shared.remove(&key)),
                None => {}
            }
        }
        let Kept { idle, idle_count, .. } = &mut *kept;
        let free = idle.get_mut(slot.host())?;
        while let Some(Idle { sender, since }) = free.pop() {
            *idle_count -= 1;
            if sender.is_ready() && since.elapsed() < IDLE_TIMEOUT {
                return Some(Connection::Single(sender));
            }
        }
        None
    }

    /// A connection turned out to be closed.
    fn forget(&self, slot: &Slot, connection: &Connection) {
        if let Connection::Many(_) = connection {
            self.lock().shared.remove(&(slot.host().clone(), slot.lane()));
        }
    }

    /// Keeps a connection that is free.
    fn keep(self: &Arc<Self>, host: &Arc<str>, sender: Single) {
        let Some(sender) = self.turns.give(host, sender) else { return };
        let mut kept = self.lock();
        if kept.idle_count >= IDLE_OF_ALL_MAX {
            return;
        }
        let free = kept.idle.entry(host.clone()).or_default();
        if free.len() >= IDLE_MAX {
            return;
        }
        free.push(Idle { sender, since: Instant::now() });
        kept.idle_count += 1;
        if !std::mem::replace(&mut kept.sweeping, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go what was not used for long, for as long as anything is kept.
async fn sweep(pool: std::sync::Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = pool.lock();
        let Kept { idle, idle_count, shared, sweeping } = &mut *kept;
        for free in idle.values_mut() {
            free.retain(|idle| idle.since.elapsed() < IDLE_TIMEOUT && !idle.sender.is_closed());
        }
        idle.retain(|_, free| !free.is_empty());
        shared.retain(|_, many| !many.is_closed());
        *idle_count = idle.values().map(Vec::len).sum();
        *sweeping = *idle_count > 0;
        if !*sweeping {
            return;
        }
    }
}

impl Connection {
    async fn send(
        &mut self,
        request: Request<Box<RequestBody>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Box<RequestBody>>>> {
        match self {
            Self::Single(single) => single.try_send_request(request).await,
            Self::Many(many) => many.try_send_request(request).await,
        }
    }
}

impl Passage {
    /// The answer has ended, and the next request may have its connection.
    pub(super) fn end(&mut self) {
        let Some(mut single) = self.single.take() else { return };
        if single.is_ready() {
            return self.pool.keep(self.slot.host(), single);
        }
        if !single.is_closed() {
            // It is still sending the request that was answered early.
            let (pool, host) = (self.pool.clone(), self.slot.host().clone());
            tokio::spawn(async move {
                if single.ready().await.is_ok() {
                    pool.keep(&host, single);
                }
            });
        }
    }

    /// Its connection carries something else from now on.
    pub(super) fn leave(&mut self) {
        self.single = None;
    }
}

/// Says where a request goes, in the way of the connection's protocol.
fn address(
    request: &mut Request<Box<RequestBody>>,
    origin: &Origin<'_>,
    target: &PathAndQuery,
    http2: bool,
) -> Result<(), http::Error> {
    let Origin { scheme, host, port, proxied, .. } = origin;
    let authority = if *port == scheme.default_port() { host.to_string() } else { format!("{host}:{port}") };
    let whole = || {
        let uri = Uri::builder().scheme(scheme.as_str()).authority(authority.as_str());
        uri.path_and_query(target.clone()).build()
    };
    *request.uri_mut() = if http2 || *proxied { whole()? } else { Uri::from(target.clone()) };
    if http2 {
        request.headers_mut().remove(HOST);
    } else {
        request.headers_mut().insert(HOST, HeaderValue::try_from(authority)?);
    }
    Ok(())
}

async fn shake_http1(leg: Leg) -> hyper::Result<Single> {
    let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(leg)).await?;
    // How it ended is told to whoever waits for an answer.
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn shake_http2(leg: Leg) -> hyper::Result<Many> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    let (sender, connection) = builder.handshake(TokioIo::new(leg)).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
