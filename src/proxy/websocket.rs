//! WebSockets over HTTP/1.1 (RFC 6455): judged as the request they begin with, then passed on byte by byte.
//!
//! Nothing is switched before the upstream has agreed in the form that the standard asks for, so that no other protocol
//! can hide behind a handshake. What passes is never changed; model calls on it are read by the way.

use super::Shared;
use super::first_message::{FirstMessage, Sites};
use super::frames::{Deflate, Frames, Piece};
use super::governed_socket::MessageCalls;
use super::inject::Misplaced;
use super::pool::Passage;
use super::relay::{Stop, Way};
use super::screen::Screen;
use super::settle::Open;
use super::standing::Standing;
use crate::meter::{Endpoint, Turns};
use crate::model::BodyEnd;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, Version, request, response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// What the accepting side adds to the key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// How long the other side may go on when one has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// What follows on a connection once HTTP is over.
pub(super) type Relaying = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client's side of one.
type Client = FirstMessage<TokioIo<Upgraded>>;

/// How a connection is handed from HTTP to what follows on it.
#[derive(Clone, Default)]
pub(super) struct Handoff {
    released: Arc<AtomicBool>,
    relaying: Arc<Mutex<Option<Relaying>>>,
}

impl Handoff {
    /// Whether what is read from the client is HTTP no more.
    pub(super) fn released(&self) -> Arc<AtomicBool> {
        self.released.clone()
    }

    /// What follows, if the connection was handed over.
    pub(super) fn follows(&self) -> Option<Relaying> {
        self.relaying.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn to(&self, relaying: Relaying) {
        self.released.store(true, Ordering::Release);
        *self.relaying.lock().unwrap_or_else(PoisonError::into_inner) = Some(relaying);
    }
}

/// What a client asks for beside its request.
pub(super) enum Offer {
    /// Nothing.
    None,
    /// A WebSocket.
    WebSocket(Handshake),
    /// A WebSocket in a form that is not carried: the status of the answer, and why.
    Refused(u16, &'static str),
}

/// The client's half of a handshake.
pub(super) struct Handshake {
    key: HeaderValue,
    client: OnUpgrade,
    handoff: Handoff,
    /// What is judged again while it is open.
    standing: Option<Arc<Standing>>,
    /// What holds money for each call on it, where that is wanted.
    calls: Option<Box<MessageCalls>>,
    /// The places in its first message that secrets go to.
    sites: Sites,
}

impl Offer {
    /// Reads a request's head, from which nothing has been taken away.
    pub(super) fn of(head: &mut request::Parts) -> Self {
        let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
        if !head.headers.get_all(UPGRADE).iter().any(websocket) {
            return Self::None;
        }
        let Some(handoff) = head.extensions.get::<Handoff>().cloned() else {
            return Self::Refused(426, "WebSockets are carried over HTTP/1.1 and through CONNECT alone");
        };
        let key = match key(head) {
            Ok(key) => key.clone(),
            Err(reason) => return Self::Refused(400, reason),
        };
        match head.extensions.remove::<OnUpgrade>() {
            Some(client) => {
                let (standing, calls, sites) = (None, None, Sites::new());
                Self::WebSocket(Handshake { key, client, handoff, standing, calls, sites })
            }
            None => Self::Refused(400, "its connection cannot become a WebSocket"),
        }
    }
}

/// The key of a handshake that is one (RFC 6455, section 4.2.1).
fn key(head: &request::Parts) -> Result<&HeaderValue, &'static str> {
    let headers = &head.headers;
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return Err("a WebSocket begins with a GET over HTTP/1.1");
    }
    if headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0") {
        return Err("a WebSocket begins with a request without a body");
    }
    if !names(headers, &CONNECTION, "upgrade") || headers.get_all(UPGRADE).iter().count() != 1 {
        return Err("a WebSocket's Connection header names Upgrade, and its Upgrade header nothing else");
    }
    if one(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err("only version 13 of WebSocket is carried");
    }
    let key = one(headers, &SEC_WEBSOCKET_KEY).filter(|key| STANDARD.decode(key).is_ok_and(|key| key.len() == 16));
    key.ok_or("its Sec-WebSocket-Key is not one of sixteen bytes")
}

/// The value of a header that stands there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn names(headers: &HeaderMap, header: &HeaderName, token: &str) -> bool {
    let mut values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case(token)))
}

/// Says in headers that were cleaned of what ends here that a WebSocket is wanted, or begins.
pub(super) fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

impl Handshake {
    /// The same, of which this is judged again while it is open.
    pub(super) fn standing(self, standing: Option<Arc<Standing>>) -> Self {
        Self { standing, ..self }
    }

    /// The same, on which money is held for each call.
    pub(super) fn funded(self, calls: Option<MessageCalls>) -> Self {
        Self { calls: calls.map(Box::new), ..self }
    }

    /// Asks the next server for a WebSocket.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        ask(headers);
        if self.calls.is_some() || !self.sites.is_empty() {
            // What is compressed would have to be read with all that was said before it, and could not be changed.
            headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        }
    }

    /// The same, whose first message may get secrets.
    pub(super) fn putting(self, sites: Sites) -> Self {
        Self { sites, ..self }
    }

    /// Whether the upstream agreed to this very handshake; why not, for a person.
    pub(super) fn check(&self, head: &response::Parts) -> Result<(), &'static str> {
        let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
        if !one(&head.headers, &UPGRADE).is_some_and(websocket) || !names(&head.headers, &CONNECTION, "upgrade") {
            return Err("the upstream switched to something that is no WebSocket");
        }
        let asked_for_none = self.calls.is_some() || !self.sites.is_empty();
        if asked_for_none && head.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS) {
            return Err("the upstream agreed to an extension that was not asked for");
        }
        let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        context.update(self.key.as_bytes());
        context.update(GUID);
        let expected = STANDARD.encode(context.finish());
        match one(&head.headers, &SEC_WEBSOCKET_ACCEPT) {
            Some(accept) if *accept == *expected => Ok(()),
            _ => Err("the upstream accepted a WebSocket that was not asked for"),
        }
    }

    /// Passes on what follows, once both sides have left HTTP.
    pub(super) fn carry(
        self,
        shared: Arc<Shared>,
        upstream: OnUpgrade,
        open: Open,
        mut passage: Passage,
        socket: Socket,
    ) {
        passage.leave();
        let Self { client, standing, calls, sites, handoff, .. } = self;
        handoff.to(Box::pin(async move {
            let _passage = passage;
            // What is dropped settles itself.
            if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
                let refused = async {
                    match &standing {
                        Some(standing) => shared.policy.until_refused(standing).await,
                        None => std::future::pending().await,
                    }
                };
                let goes_on = standing.clone().map(|standing| (shared.clone(), standing));
                let carried: Pin<Box<dyn Future<Output = ()> + Send + '_>> = match calls {
                    Some(calls) => {
                        let screen = socket.screen.map(|(_, screen)| screen);
                        Box::pin(calls.carry(client, upstream, open, screen, refused))
                    }
                    None => {
                        let relay = Box::new(Relay { open, socket, ways: Default::default(), goes_on });
                        let client = FirstMessage::new(TokioIo::new(client), &shared, sites);
                        Box::pin(relay.run(client, upstream, refused))
                    }
                };
                shared.unless_drained(carried).await;
            }
        }));
    }
}

/// What is read of a WebSocket as it passes.
pub(super) struct Socket {
    up: Frames,
    down: Frames,
    turns: Option<Turns>,
    begun: bool,
    /// What looks for placeholders in what the client says.
    screen: Option<(Arc<Shared>, Screen)>,
}

impl Socket {
    /// Reads what follows this agreement.
    pub(super) fn new(endpoint: Option<Endpoint>, agreed: &HeaderMap) -> Self {
        let extensions: Vec<&str> = agreed
            .get_all(SEC_WEBSOCKET_EXTENSIONS)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'))
            .map(str::trim)
            .collect();
        let side = |alone: &str| match extensions.as_slice() {
            ["permessage-deflate", parameters @ ..] if parameters.contains(&alone) => Deflate::Each,
            ["permessage-deflate", ..] => Deflate::Takeover,
            _ => Deflate::Off,
        };
        let (up, down) = (side("client_no_context_takeover"), side("server_no_context_takeover"));
        let turns = endpoint.map(Turns::new);
        Self { up: Frames::new(up), down: Frames::new(down), turns, begun: false, screen: None }
    }

    /// Has what the client says watched for placeholders.
    pub(super) fn watched(self, shared: &Arc<Shared>) -> Self {
        let json = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let screen = shared.vault.screen(&json).ok().flatten();
        Self { screen: screen.map(|screen| (shared.clone(), screen)), ..self }
    }

    fn sent(&mut self, bytes: &[u8]) -> Result<(), Misplaced> {
        let Self { up, turns, screen, .. } = self;
        if turns.is_none() && screen.is_none() {
            up.feed(bytes, None);
            return Ok(());
        }
        let mut looked = Ok(());
        let mut take = |piece: Piece<'_>| {
            if let (Some(turns), Piece::Text(text)) = (turns.as_mut(), &piece) {
                turns.request(text);
            }
            if let (Some((shared, screen)), Piece::Text(said) | Piece::Binary(said)) = (screen.as_mut(), piece)
                && looked.is_ok()
            {
                looked = shared.vault.look(screen, said);
            }
        };
        up.feed(bytes, Some(&mut take));
        match &mut self.screen {
            // What is no frame may still hold one as it is.
            Some((shared, screen)) if looked.is_ok() && self.up.is_unreadable() => shared.vault.look(screen, bytes),
            _ => looked,
        }
    }

    fn received(&mut self, bytes: &[u8], open: &Open) {
        let Self { down, turns, begun, .. } = self;
        let Some(turns) = turns else { return down.feed(bytes, None) };
        let mut take = |piece: Piece<'_>| match piece {
            Piece::Text(text) => {
                if !std::mem::replace(begun, true) {
                    turns.response_begins();
                }
                turns.response(text);
            }
            Piece::Binary(_) => {}
            Piece::End => {
                if std::mem::replace(begun, false)
                    && let Some(reading) = turns.response_ends()
                {
                    open.metered(turns.endpoint(), reading);
                }
            }
        };
        down.feed(bytes, Some(&mut take));
    }

    /// Whether either side has said that it closes.
    fn is_closed(&self) -> bool {
        self.up.is_closed() || self.down.is_closed()
    }

    fn finish(&mut self, open: &Open) {
        let Some(mut turns) = self.turns.take() else { return };
        if self.up.is_unreadable() || self.down.is_unreadable() {
            turns.lose_sight();
        }
        let endpoint = turns.endpoint().clone();
        if let Some(reading) = turns.finish() {
            open.metered(&endpoint, reading);
        }
    }
}

/// A WebSocket under way. It is settled when it is dropped.
struct Relay {
    open: Open,
    socket: Socket,
    ways: (Way, Way),
    /// What is judged again where secret files are watched.
    goes_on: Option<(Arc<Shared>, Arc<Standing>)>,
}

impl Relay {
    async fn run(mut self: Box<Self>, mut client: Client, upstream: Upgraded, refused: impl Future<Output = ()>) {
        let mut upstream = TokioIo::new(upstream);
        let end = tokio::select! {
            end = self.pass(&mut client, &mut upstream) => end,
            () = refused => BodyEnd::RuleAdded,
        };
        self.open.end(end);
    }

    async fn pass(&mut self, client: &mut Client, upstream: &mut TokioIo<Upgraded>) -> BodyEnd {
        let Self { open, socket, ways: (up, down), goes_on } = self;
        let upload = open.upload();
        // Ended by whoever said so first, and then within a time.
        let mut first: Option<BodyEnd> = None;
        let mut closing = pin!(None);
        poll_fn(|cx| {
            let sent = up.poll(cx, client, upstream, &mut |bytes| {
                let goes_on = goes_on.as_ref().map_or(Ok(()), |(shared, standing)| shared.policy.goes_on(standing));
                goes_on.map_err(|why| {
                    upload.stop(why.to_owned());
                    Stop::TooMuch
                })?;
                upload.chunk(bytes).map_err(|_| Stop::TooMuch)?;
                socket.sent(bytes).map_err(|misplaced| {
                    upload.stop(misplaced.to_string());
                    Stop::TooMuch
                })
            });
            let received = down.poll(cx, upstream, client, &mut |bytes| {
                open.chunk(bytes).map_err(|_| Stop::TooMuch)?;
                socket.received(bytes, open);
                Ok(())
            });
            let of = |stop: Stop, reader: BodyEnd, writer: BodyEnd| match stop {
                Stop::Read => reader,
                Stop::Write => writer,
                Stop::TooMuch => BodyEnd::QuotaReached,
            };
            let closed = |end: BodyEnd, socket: &Socket| {
                if socket.is_closed() && end != BodyEnd::QuotaReached { BodyEnd::Complete } else { end }
            };
            match (sent, received) {
                (Poll::Ready(Err(stop)), _) => {
                    return Poll::Ready(closed(of(stop, BodyEnd::ClientGone, BodyEnd::UpstreamBroke), socket));
                }
                (_, Poll::Ready(Err(stop))) => {
                    return Poll::Ready(closed(of(stop, BodyEnd::UpstreamBroke, BodyEnd::ClientGone), socket));
                }
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                    let end = first.unwrap_or(BodyEnd::Complete);
                    return Poll::Ready(closed(end, socket));
                }
                _ => {}
            }
            if first.is_none() && (up.has_ended() || down.has_ended()) {
                first = Some(if down.has_ended() { BodyEnd::UpstreamBroke } else { BodyEnd::ClientGone });
                closing.set(Some(tokio::time::sleep(CLOSE_TIMEOUT)));
            }
            match closing.as_mut().as_pin_mut() {
                Some(closing) => closing.poll(cx).map(|()| closed(first.unwrap_or(BodyEnd::ClientGone), socket)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.socket.finish(&self.open);
    }
}
