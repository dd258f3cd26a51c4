//! One connection, from its first byte: what it speaks decides who serves it, and what cannot be judged is closed.

use super::Shared;
use super::body::ResponseBody;
use super::detect::{Protocol, detect};
use super::early::{Awaited, Early, Outspoken};
use super::facts::Claim;
use super::http::handle;
use super::strict::Strict;
use super::websocket::{Handoff, Relaying};
use super::{opaque, passthrough, tls};
use crate::model::{Host, Port, RefusalKind, Scheme};
use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Timer;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// Most bytes of a request's head.
pub(super) const HEAD_BYTES_MAX: usize = 256 * 1024;
/// How long a request's head may take, and how long a connection may wait for its next one.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// How much of one upload may wait here: HTTP/2's own beginning, and plenty without a network between.
const STREAM_WINDOW: u32 = 64 * 1024;
/// How much of all uploads of a connection may: as much as all together, so that one that is stuck never stops another.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;
/// Requests that a client took back before they were looked at, and those it was refused: one more of either, and the
/// connection is closed. A client that opens requests only to reset them gets no further than this.
const RESETS_PENDING_MAX: usize = 20;
/// Requests that broke the protocol on one connection before it is closed.
const PROTOCOL_ERRORS_MAX: usize = 256;

/// Where a connection says it is going, before it has said how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Where this is known from, for a person.
    pub source: &'static str,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Port,
}

impl Place {
    /// The claim that a connection to this place makes.
    pub(super) fn claim(self, scheme: Scheme, other_sni: Option<String>) -> Claim {
        let Self { source, host, port } = self;
        Claim { source, host, port, scheme, other_sni }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Serves a connection to a place until either side is done.
pub(super) async fn connection<S>(shared: Arc<Shared>, stream: S, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // In a box, so that what HTTP needs is gone while something else follows, for hours perhaps.
    if let Some(follows) = Box::pin(begin(shared, stream, place)).await {
        follows.await;
    }
}

/// Serves a connection for as long as it is what it began as.
async fn begin<S>(shared: Arc<Shared>, stream: S, place: Place) -> Option<Relaying>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if shared.policy.carries_unread(&place.host, place.port) {
        // Not looked at: the server may be the one to speak first.
        opaque::serve(shared, stream, place, Scheme::Tcp, false).await;
        return None;
    }
    let (protocol, stream) = shared.unless_drained(detect(stream)).await?.ok()?;
    match protocol {
        Protocol::Tls if shared.policy.passes_tls(&place.host, place.port) => {
            passthrough::serve(shared, stream, place).await;
        }
        Protocol::Tls => return tls::terminate(shared, stream, place).await,
        Protocol::Http1 => return http1(shared, stream, place.claim(Scheme::Http, None)).await,
        Protocol::Http2Plain => {
            let reason = "HTTP/2 without TLS is not carried";
            shared.refuse(RefusalKind::Protocol, place.to_string(), reason.to_owned()).await;
        }
        Protocol::Opaque => opaque::serve(shared, stream, place, Scheme::Tcp, true).await,
        // A connection that was opened ahead of need and never used.
        Protocol::Silent => {}
    }
    None
}

/// Serves HTTP/1. What follows is to be awaited.
pub(super) async fn http1<S>(shared: Arc<Shared>, stream: S, claim: Claim) -> Option<Relaying>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let target = format!("{}:{}", claim.host, claim.port);
    let claim = Arc::new(claim);
    let (handoff, early) = (Handoff::default(), Early::default());
    let service = service_fn(|mut request: Request<Incoming>| {
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(handoff.clone());
        }
        let awaited = early.begin(&request);
        answer(shared.clone(), claim.clone(), request, Some(awaited))
    });
    let stream = Strict::new(Outspoken::new(stream, early.clone()), false).until(handoff.released());
    let flaw = stream.flaw();
    let served = builder().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let outcome = {
        let mut served = pin!(served);
        tokio::select! {
            outcome = served.as_mut() => outcome,
            () = shared.drained() => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        }
    };
    let follows = handoff.follows();
    if follows.is_none() && outcome.is_err_and(|error| error.is_parse()) {
        let why = flaw.get().map_or_else(String::new, |flaw| format!(": {flaw}"));
        let reason = format!("it is not readable as HTTP/1, in a connection by {}{why}", claim.scheme);
        shared.refuse(RefusalKind::Protocol, target, reason).await;
    }
    follows
}

/// Serves HTTP/2.
pub(super) async fn http2<S>(shared: Arc<Shared>, stream: S, claim: Claim)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let claim = Arc::new(claim);
    let service = service_fn(|request| answer(shared.clone(), claim.clone(), request, None));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(PROTOCOL_ERRORS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // An HTTP/2 client that goes away or breaks the protocol ends its own connection; its requests settle themselves.
    let _ = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = shared.drained() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
}

/// How HTTP/1 is read.
pub(super) fn builder() -> http1::Builder {
    builder_by(TokioTimer::new())
}

fn builder_by(timer: impl Timer + Send + Sync + 'static) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // It takes a hundred headers. Told another number, it would clear memory for so many at each request.
    builder.timer(timer).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder
}

async fn answer(
    shared: Arc<Shared>,
    claim: Arc<Claim>,
    request: Request<Incoming>,
    awaited: Option<Awaited>,
) -> Result<Response<ResponseBody>, Infallible> {
    let teller = awaited.as_ref().map(|awaited| awaited.teller(shared.clone()));
    Ok(handle(&shared, &claim, request, teller).await)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use hyper::rt::Sleep;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A clock on which every wait lasts a thousandth of what was asked for, and is remembered.
    #[derive(Clone, Default)]
    struct Hurried(Arc<Mutex<Vec<Duration>>>);

    impl Timer for Hurried {
        fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
            self.0.lock().unwrap().push(duration);
            TokioTimer::new().sleep(duration / 1000)
        }

        fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
            self.sleep(deadline.saturating_duration_since(Instant::now()))
        }

        fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
            *sleep = self.sleep_until(deadline);
        }
    }

    #[tokio::test]
    async fn a_head_that_never_ends_is_given_up_after_its_time() {
        let timer = Hurried::default();
        let (mut client, server) = tokio::io::duplex(1024);
        let service = service_fn(|_| async { Ok::<_, Infallible>(Response::new(ResponseBody::text("never"))) });
        let stream = TokioIo::new(Strict::new(server, false));
        let serving = tokio::spawn(builder_by(timer.clone()).serve_connection(stream, service).into_future());
        let started = Instant::now();
        let drip = async {
            client.write_all(b"GET /").await?;
            // A byte now and then does not buy more time.
            while client.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, std::io::Error>(())
        };
        tokio::time::timeout(Duration::from_secs(20), drip).await.unwrap().unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(serving.await.unwrap().is_err_and(|error| error.is_timeout()));
        assert!(!String::from_utf8_lossy(&rest).contains("never"));
        assert!(started.elapsed() >= HEAD_TIMEOUT / 1000);
        let asked = timer.0.lock().unwrap().clone();
        assert!(asked.iter().any(|wait| HEAD_TIMEOUT - *wait < Duration::from_secs(1)), "{asked:?}");
    }
}
