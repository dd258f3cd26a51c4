//! The gateway as a plain HTTP proxy, for programs that are told of one: CONNECT and absolute URLs, nothing else.

use super::Shared;
use super::body::{ResponseBody, drain};
use super::detect::{Protocol, Rewound, detect};
use super::early::{Awaited, Early, Outspoken};
use super::facts::{connect_target, parse_authority};
use super::http::handle;
use super::opaque::{self, Foreseen, Reached};
use super::refusal::{Audience, Reply};
use super::serve::{self, Place};
use super::socks::{self, Answer};
use super::strict::Strict;
use super::upstream::SendError;
use crate::model::{RefusalKind, Scheme};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// What somebody reads who opens the gateway in a browser.
const ABOUT: &str = "This is omni's proxy. Use it as an HTTP proxy (CONNECT, or http:// URLs); it serves no pages.";

/// A connection's place among the bounded number of connections; a tunnel keeps it beyond its first request.
pub(super) type Permit = Arc<OwnedSemaphorePermit>;

/// Serves a connection to the gateway itself.
pub(super) async fn connection(shared: Arc<Shared>, stream: TcpStream, local: SocketAddr, permit: Permit) {
    let Some(Ok((protocol, stream))) = shared.unless_drained(detect(stream)).await else { return };
    match protocol {
        Protocol::Http1 => {}
        Protocol::Silent => return,
        Protocol::Opaque => return socks(shared, stream, local).await,
        Protocol::Tls | Protocol::Http2Plain => {
            let reason = "the gateway is a plain HTTP/1 or SOCKS5 proxy: use an http:// or socks5h:// URL".to_owned();
            return shared.refuse(RefusalKind::Protocol, local.to_string(), reason).await;
        }
    }
    let early = Early::default();
    let service = service_fn(|request| answer(shared.clone(), permit.clone(), early.begin(&request), request));
    let stream = Strict::new(Outspoken::new(stream, early.clone()), true);
    let flaw = stream.flaw();
    let served = serve::builder().serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut served = pin!(served);
    // What breaks here is the client's own connection; its requests settle themselves.
    let _ = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = shared.drained() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Some(flaw) = flaw.get() {
        let reason = format!("it is not readable as HTTP/1: {flaw}");
        shared.refuse(RefusalKind::Protocol, local.to_string(), reason).await;
    }
}

/// Serves what may be a SOCKS client.
async fn socks(shared: Arc<Shared>, mut stream: Rewound<TcpStream>, local: SocketAddr) {
    let place = match shared.unless_drained(socks::welcome(&mut stream)).await {
        Some(Ok(place)) => place,
        Some(Err(reason)) => return shared.refuse(RefusalKind::Protocol, local.to_string(), reason).await,
        None => return,
    };
    // It says nothing more before it is answered.
    let Some((foreseen, mut stream)) = opaque::while_there(stream, opaque::foresee(&shared, &place)).await else {
        return;
    };
    let told = match foreseen {
        Foreseen::Ended => return,
        Foreseen::Nothing | Foreseen::Reached(_) => Answer::Speak,
        Foreseen::Refused(_) | Foreseen::Failed(SendError { status: 403, .. }) => Answer::NotAllowed,
        Foreseen::Failed(_) => Answer::Unreachable,
    };
    if socks::answer(&mut stream, told).await.is_err() {
        return;
    }
    match foreseen {
        Foreseen::Nothing => serve::connection(shared, stream, place).await,
        Foreseen::Reached(reached) => reached.carry(stream).await,
        Foreseen::Refused(_) | Foreseen::Failed(_) | Foreseen::Ended => {}
    }
}

async fn answer(
    shared: Arc<Shared>,
    permit: Permit,
    awaited: Awaited,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    if request.method() == Method::CONNECT {
        return Ok(connect(shared, permit, request).await);
    }
    let refused = match request.uri().scheme_str() {
        Some("http") => match place_of(&request) {
            Some(place) => {
                let (claim, teller) = (Arc::new(place.claim(Scheme::Http, None)), awaited.teller(shared.clone()));
                return Ok(handle(&shared, &claim, request, Some(teller)).await);
            }
            None => Reply::refused(400, "omni: the URL has no usable host"),
        },
        Some(_) => Reply::refused(400, "omni: ask for an https:// URL through CONNECT, so that it stays in TLS"),
        None => Reply::refused(404, ABOUT),
    };
    drain(request.into_body()).await;
    Ok(refused.into_response(&Audience::default()))
}

fn place_of(request: &Request<Incoming>) -> Option<Place> {
    let (host, port) = parse_authority(request.uri().authority()?.as_str(), Scheme::Http)?;
    Some(Place { source: "the URL", host, port })
}

/// Opens a tunnel to nowhere: what comes through it is judged like any other connection to that place.
async fn connect(shared: Arc<Shared>, permit: Permit, request: Request<Incoming>) -> Response<ResponseBody> {
    let Some((host, port)) = connect_target(request.uri()) else {
        // What follows was meant for a tunnel.
        let reply = Reply::refused(400, "omni: CONNECT needs a host and a port").closing();
        return reply.into_response(&Audience::default());
    };
    let place = Place { source: "the target of CONNECT", host, port };
    let refusal = |status, why: &str, cause| {
        let message = format!("omni: no connection to {place}: {why}");
        let reply = if status == 502 { Reply::failed(status, message) } else { Reply::refused(status, message) };
        reply.because(cause).closing().into_response(&Audience::default())
    };
    let reached = match opaque::foresee(&shared, &place).await {
        Foreseen::Nothing => None,
        Foreseen::Reached(reached) => Some(reached),
        Foreseen::Refused(why) => return refusal(403, &why, None),
        Foreseen::Failed(SendError { status, reason, cause }) => return refusal(status, &reason, cause),
        Foreseen::Ended => return refusal(502, "the session is over", None),
    };
    tokio::spawn(tunnel(shared, permit, request, place, reached));
    Response::new(ResponseBody::text(""))
}

/// Boxed, because a tunnel serves connections and a connection can open a tunnel.
fn tunnel(
    shared: Arc<Shared>,
    permit: Permit,
    request: Request<Incoming>,
    place: Place,
    reached: Option<Box<Reached>>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        if let Some(Ok(stream)) = shared.unless_drained(hyper::upgrade::on(request)).await {
            match reached {
                Some(reached) => reached.carry(TokioIo::new(stream)).await,
                None => serve::connection(shared, TokioIo::new(stream), place).await,
            }
        }
        drop(permit);
    })
}
