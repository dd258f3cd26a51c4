//! WebSockets on which models are called in a session whose money is limited: each message of the client's that has an answer
//! made is a call, for which money is held and which is recorded before it goes on.
//!
//! Messages are read whole, and pass as they were said. Nothing is compressed: that is not asked for here. Whoever waits for
//! money or a person is kept waiting by events that mean nothing; whoever gets none is told so in OpenAI's own form, and the
//! socket ends.

use super::Shared;
use super::conversation::{Conversation, Heard, MessageCall, Wanted, refusal};
use super::funds::{self, Unfunded};
use super::patience::OUTRAN;
use super::screen::Screen;
use super::settle::Open;
use super::standing::Standing;
use crate::meter::{Endpoint, Meter};
use crate::model::{BodyEnd, Event, RequestLine, RequestNumber};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

/// Longest message of a client's: as long as the body of any call.
const ASKED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Longest message of a provider's: its last holds the whole answer.
const SAID_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How much is read at a time.
const READ_BYTES: usize = 16 * 1024;
/// How many messages may wait behind one for which there is no money yet.
const WAITING_MAX: usize = 16;
/// How often who waits gets a sign of life: Codex waits a quarter of a minute for the first event of its first call.
const BEAT: Duration = Duration::from_secs(6);
/// An event that its clients take for nothing.
const SIGN: &str = r#"{"type":"response.heartbeat"}"#;
/// How long the rest of answers is read whose client left.
const REST_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of it, in messages.
const REST_MESSAGES_MAX: usize = 4096;
/// How long the last words to either side may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

type Leg = WebSocketStream<TokioIo<Upgraded>>;
type Deciding = Pin<Box<dyn Future<Output = Result<Granted, Unfunded>> + Send>>;

/// What holds money for the calls on one socket.
pub(super) struct MessageCalls {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    /// The record of the request that the socket began with, which each call's is like.
    allowed: Event,
    line: RequestLine,
    /// What is judged again once a secret file was read.
    standing: Option<Arc<Standing>>,
}

/// A call that may go.
struct Granted {
    call: MessageCall,
    model: String,
    text: Utf8Bytes,
}

impl MessageCalls {
    /// Those of a socket that begins with this request; none where it calls no models, or nobody limits what they cost.
    pub(super) fn of(shared: &Arc<Shared>, allowed: &Event, standing: Option<Arc<Standing>>) -> Option<Self> {
        let Event::RequestAllowed { line, .. } = allowed else { return None };
        let endpoint = shared.books.model_hosts.websocket(line).filter(|_| shared.books.governed)?;
        Some(Self { shared: shared.clone(), endpoint, allowed: allowed.clone(), line: line.clone(), standing })
    }

    /// Whether more may leave, now that secret files may have been read.
    fn goes_on(&self) -> Result<(), &'static str> {
        self.standing.as_ref().map_or(Ok(()), |standing| self.shared.policy.goes_on(standing))
    }

    /// Passes on what both sides say until one of them is done, or until it is refused.
    pub(super) async fn carry(
        self: Box<Self>,
        client: Upgraded,
        upstream: Upgraded,
        open: Open,
        screen: Option<Screen>,
        refused: impl Future<Output = ()>,
    ) {
        let client = leg(client, Role::Server, ASKED_BYTES_MAX).await;
        let upstream = leg(upstream, Role::Client, SAID_BYTES_MAX).await;
        let mut beat = interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (to_client, from_client) = client.split();
        let (to_upstream, from_upstream) = upstream.split();
        let mut carried = Carried {
            calls: *self,
            open,
            screen,
            talk: Conversation::default(),
            waiting: VecDeque::new(),
            deciding: None,
            number: RequestNumber(0),
            beat,
            client: Side { to: to_client, from: from_client, unsent: false },
            upstream: Side { to: to_upstream, from: from_upstream, unsent: false },
            goodbye: None,
        };
        let end = tokio::select! {
            end = carried.pass() => end,
            () = refused => BodyEnd::RuleAdded,
        };
        carried.finish(end).await;
    }

    /// Holds money for a message, and records that it may go.
    fn decide(
        &self,
        number: RequestNumber,
        text: Utf8Bytes,
        stream: Option<String>,
        goes_on_from: Option<(u64, String)>,
    ) -> Deciding {
        let (shared, line) = (self.shared.clone(), self.line.clone());
        let (mut endpoint, mut allowed) = (self.endpoint.clone(), self.allowed.clone());
        Box::pin(async move {
            let body = Bytes::from(text);
            let (before, model) = goes_on_from.unzip();
            endpoint.model = model.filter(|model| !model.is_empty());
            let funded = funds::reserve_message(&shared, number, &line, endpoint.clone(), body, before).await?;
            if let Event::RequestAllowed { request, secrets, .. } = &mut allowed {
                // Those that the socket began with are told with it.
                (*request, *secrets) = (number, Vec::new());
            }
            let unrecorded = |error: super::record::NotRecorded| Unfunded { status: 503, reason: error.to_string() };
            shared.books.clerk.keep(&allowed).await.map_err(unrecorded)?;
            let model = funded.model.clone();
            let unreadable = |_| Unfunded { status: 400, reason: "a message is no text".to_owned() };
            let text = Utf8Bytes::try_from(funded.body.clone()).map_err(unreadable)?;
            let call = MessageCall::new(shared.books.clone(), endpoint, number, stream, funded);
            Ok(Granted { call, model, text })
        })
    }

    /// Records that a message does not go; what its client is told.
    async fn deny(&self, number: RequestNumber, unfunded: Unfunded) -> String {
        let Event::RequestAllowed { rule, rule_from, also, .. } = &self.allowed else { return unfunded.reason };
        let message = super::refusal::explain(&self.line, &unfunded.reason, None);
        let denied = Event::RequestDenied {
            request: number,
            line: self.line.clone(),
            rule: Some(rule.clone()),
            rule_from: rule_from.clone(),
            act: None,
            reason: unfunded.reason,
            also: also.clone(),
        };
        // What is refused stays refused, recorded or not.
        let _ = self.shared.books.clerk.record(denied).await;
        refusal(&message)
    }
}

async fn leg(upgraded: Upgraded, role: Role, message_bytes_max: usize) -> Leg {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), role, Some(config)).await
}

/// One side of the socket.
struct Side {
    to: SplitSink<Leg, Message>,
    from: SplitStream<Leg>,
    /// Whether something was said that is not sent yet. Until it is, nothing more is read that would be said to this side.
    unsent: bool,
}

impl Side {
    async fn say(&mut self, message: Message) -> Result<(), Error> {
        self.unsent = true;
        self.to.feed(message).await
    }

    /// Says the last word.
    async fn leave(&mut self, why: Option<CloseFrame>) {
        let _ = self.say(Message::Close(why)).await;
        let _ = self.to.flush().await;
    }
}

/// What happens on a socket.
enum Happened {
    Asked(Option<Result<Message, Error>>),
    Said(Option<Result<Message, Error>>),
    Decided(Box<Result<Granted, Unfunded>>),
    Beat,
    /// What was said is sent, or cannot be.
    Sent(Result<(), BodyEnd>),
}

/// A socket under way.
struct Carried {
    calls: MessageCalls,
    open: Open,
    screen: Option<Screen>,
    talk: Conversation,
    /// Messages of the client's that were not looked at yet.
    waiting: VecDeque<Utf8Bytes>,
    deciding: Option<Deciding>,
    /// The number of the call that is decided about, or was last.
    number: RequestNumber,
    beat: Interval,
    client: Side,
    upstream: Side,
    /// What the client is told at the end.
    goodbye: Option<CloseFrame>,
}

impl Carried {
    /// Passes on what is said; how it ended.
    async fn pass(&mut self) -> BodyEnd {
        loop {
            let next = match self.happened().await {
                Happened::Asked(asked) => self.ask(asked).await,
                Happened::Said(said) => self.hear(said).await,
                Happened::Decided(decided) => self.let_go(*decided).await,
                Happened::Beat => self.client.say(Message::text(SIGN)).await.map_err(|_| BodyEnd::ClientGone),
                Happened::Sent(sent) => sent,
            };
            let next = match next {
                Ok(()) => self.take_next().await,
                end => end,
            };
            if let Err(end) = next {
                return end;
            }
        }
    }

    async fn happened(&mut self) -> Happened {
        let Self { waiting, deciding, beat, client, upstream, .. } = self;
        let decides = deciding.is_some();
        let waiting_bytes: usize = waiting.iter().map(|text| text.len()).sum();
        let has_room = waiting.len() < WAITING_MAX && waiting_bytes < ASKED_BYTES_MAX;
        let decided = poll_fn(|cx| match deciding {
            Some(deciding) => deciding.as_mut().poll(cx),
            None => std::task::Poll::Pending,
        });
        let Side { to: to_client, from: from_client, unsent: client_unsent } = client;
        let Side { to: to_upstream, from: from_upstream, unsent: upstream_unsent } = upstream;
        tokio::select! {
            sent = to_client.flush(), if *client_unsent => {
                *client_unsent = false;
                Happened::Sent(sent.map_err(|_| BodyEnd::ClientGone))
            }
            sent = to_upstream.flush(), if *upstream_unsent => {
                *upstream_unsent = false;
                Happened::Sent(sent.map_err(|_| BodyEnd::UpstreamBroke))
            }
            said = from_upstream.next(), if !*client_unsent => Happened::Said(said),
            decided = decided, if decides => Happened::Decided(Box::new(decided)),
            asked = from_client.next(), if has_room && !*upstream_unsent => Happened::Asked(asked),
            _ = beat.tick(), if decides && !*client_unsent => Happened::Beat,
            else => pending().await,
        }
    }

    /// The client said something.
    async fn ask(&mut self, asked: Option<Result<Message, Error>>) -> Result<(), BodyEnd> {
        match asked {
            Some(Ok(Message::Text(text))) => {
                if let Some(screen) = &mut self.screen
                    && let Err(misplaced) = self.calls.shared.vault.look(screen, text.as_bytes())
                {
                    self.open.upload().stop(misplaced.to_string());
                    return Err(BodyEnd::QuotaReached);
                }
                self.open.upload().chunk(text.as_bytes()).map_err(|_| BodyEnd::QuotaReached)?;
                self.waiting.push_back(text);
                Ok(())
            }
            // Each side's are answered by this one.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => Err(self.read_rest(BodyEnd::Complete).await),
            Some(Ok(Message::Binary(_) | Message::Frame(_))) => {
                self.close(CloseCode::Unsupported, "omni lets only text through where a policy limits what it costs");
                Err(BodyEnd::QuotaReached)
            }
            Some(Err(_)) | None => Err(self.read_rest(BodyEnd::ClientGone).await),
        }
    }

    /// Takes the next message of the client's that waits, where none is decided about.
    async fn take_next(&mut self) -> Result<(), BodyEnd> {
        if self.deciding.is_some() || self.upstream.unsent {
            return Ok(());
        }
        let Some(text) = self.waiting.pop_front() else { return Ok(()) };
        if let Err(why) = self.calls.goes_on() {
            self.open.upload().stop(why.to_owned());
            self.close(CloseCode::Policy, why);
            return Err(BodyEnd::QuotaReached);
        }
        match Wanted::of(&text) {
            Ok(Wanted::Call { stream, goes_on }) => {
                let before = if goes_on { self.talk.last() } else { None };
                self.number = self.calls.shared.books.clerk.next_request();
                self.deciding = Some(self.calls.decide(self.number, text, stream, before));
                self.beat.reset();
                Ok(())
            }
            Ok(Wanted::Nothing) => self.upstream.say(Message::Text(text)).await.map_err(|_| BodyEnd::UpstreamBroke),
            Err(why) => {
                self.close(CloseCode::Policy, &why);
                Err(BodyEnd::QuotaReached)
            }
        }
    }

    /// Passes on a call that may go, or says why it may not.
    async fn let_go(&mut self, decided: Result<Granted, Unfunded>) -> Result<(), BodyEnd> {
        self.deciding = None;
        match decided {
            Ok(Granted { call, model, text }) => {
                self.talk.begin(call, model);
                self.upstream.say(Message::Text(text)).await.map_err(|_| BodyEnd::UpstreamBroke)
            }
            Err(unfunded) => {
                let told = self.calls.deny(self.number, unfunded).await;
                let _ = self.client.say(Message::text(told)).await;
                self.close(CloseCode::Policy, "no money is left for it");
                Err(BodyEnd::BudgetReached)
            }
        }
    }

    /// The provider said something.
    async fn hear(&mut self, said: Option<Result<Message, Error>>) -> Result<(), BodyEnd> {
        let gone = |_| BodyEnd::ClientGone;
        match said {
            Some(Ok(Message::Text(text))) => {
                self.open.chunk(text.as_bytes()).map_err(|_| BodyEnd::QuotaReached)?;
                let heard = self.talk.hear(&text);
                if heard == Heard::Unasked {
                    self.meter_unasked(&text);
                    return Err(BodyEnd::BudgetReached);
                }
                self.client.say(Message::Text(text)).await.map_err(gone)?;
                if heard == Heard::Outran {
                    let _ = self.client.say(Message::text(refusal(OUTRAN))).await;
                    self.close(CloseCode::Policy, OUTRAN);
                    return Err(BodyEnd::BudgetReached);
                }
                Ok(())
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(why))) => {
                self.goodbye = why;
                Err(BodyEnd::Complete)
            }
            // No answer is of this form.
            Some(Ok(Message::Binary(_) | Message::Frame(_)) | Err(_)) | None => Err(BodyEnd::UpstreamBroke),
        }
    }

    /// Has an answer in the record that no money is held for, since nobody asked for it.
    fn meter_unasked(&self, text: &str) {
        let mut meter = Meter::new(self.calls.endpoint.clone());
        meter.response_head(200, "text/event-stream", None);
        ["data: ", text, "\n\n"].iter().for_each(|piece| meter.response(piece.as_bytes()));
        if let Some(reading) = meter.finish(false) {
            self.open.metered(&self.calls.endpoint, reading);
        }
        self.open.upload().stop("the upstream began an answer that nobody asked for".to_owned());
    }

    /// The client is done: what is still to come for it is read for a while, since its last words say what it cost.
    async fn read_rest(&mut self, end: BodyEnd) -> BodyEnd {
        // What was not let go by now is withdrawn.
        (self.deciding, self.waiting) = (None, VecDeque::new());
        let Self { upstream, talk, .. } = self;
        let reading = async {
            for _ in 0..REST_MESSAGES_MAX {
                if !talk.is_under_way() {
                    return;
                }
                match upstream.from.next().await {
                    Some(Ok(Message::Text(text))) => _ = talk.hear(&text),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    _ => return,
                }
            }
        };
        let _ = tokio::time::timeout(REST_TIMEOUT, reading).await;
        end
    }

    fn close(&mut self, code: CloseCode, why: &str) {
        self.goodbye = Some(CloseFrame { code, reason: why.into() });
    }

    /// Settles everything, and takes leave of both sides.
    async fn finish(mut self, end: BodyEnd) {
        self.deciding = None;
        self.talk.end(end);
        self.open.end(end);
        let why = self.goodbye.take();
        let leaving = async { tokio::join!(self.client.leave(why), self.upstream.leave(None)) };
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, leaving).await;
    }
}
