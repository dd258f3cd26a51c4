//! An answer that takes long since somebody must say something first, or since money is held by others: the client is kept
//! waiting by what each vendor's clients take for a sign of life.
//!
//! For a while nothing is sent, so that an early answer has the status it should have. Then the answer begins, where it is
//! to be a stream of a known dialect, and what the upstream sends follows in it.

use super::body::{BodyError, ResponseBody};
use crate::meter::Dialect;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// How long a client waits without a sign: the shortest of them gives up after a minute.
const SILENCE: Duration = Duration::from_secs(10);
/// How often a sign is sent after that: clients give up after three minutes without, the shortest after one.
const BEAT: Duration = Duration::from_secs(10);
/// Longest refusal that is told within a stream.
const WHY_BYTES_MAX: usize = 64 * 1024;

/// What an answer is ended by whose money is spent.
pub(super) const OUTRAN: &str = "omni cut the answer off here: it is longer than the budget allows";

/// A request's answer on its way.
type Work = Pin<Box<dyn Future<Output = Response<ResponseBody>> + Send>>;

/// What a request says about its waiting.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    /// Made by whoever waits first, which is hardly anybody.
    waiting: Arc<OnceLock<watch::Sender<Waiting>>>,
    /// Whether the query asks Google for events: its streams are one long list otherwise.
    asks_for_events: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    /// The dialect, where the answer is to be a stream.
    dialect: Option<Dialect>,
    /// Since when somebody is waited for.
    since: Option<Instant>,
}

impl Patience {
    /// That of a request with this query.
    pub(super) fn of(query: Option<&str>) -> Self {
        let asks_for_events = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        Self { asks_for_events, ..Self::default() }
    }

    /// The answer may begin before it is decided, as a stream of this dialect.
    pub(super) fn may_stream(&self, dialect: Dialect, streams: bool) {
        let streams = streams && (dialect != Dialect::GoogleGenerate || self.asks_for_events);
        self.waiting().send_modify(|waiting| waiting.dialect = streams.then_some(dialect));
    }

    /// Waits for something that may take long.
    pub(super) async fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.waiting().send_modify(|waiting| waiting.since = Some(Instant::now()));
        let done = what.await;
        self.waiting().send_modify(|waiting| waiting.since = None);
        done
    }

    fn waiting(&self) -> &watch::Sender<Waiting> {
        self.waiting.get_or_init(watch::Sender::default)
    }

    /// Whether somebody is waited for.
    fn is_waiting(&self) -> bool {
        self.waiting.get().is_some_and(|waiting| waiting.borrow().since.is_some())
    }

    /// Waits until a client has waited long enough for a sign; for ever where it is to get none.
    async fn wears_thin(&self) -> Dialect {
        let mut heard = self.waiting().subscribe();
        loop {
            let Waiting { dialect, since } = *heard.borrow_and_update();
            let changed = heard.changed();
            match (dialect, since) {
                (Some(dialect), Some(since)) => tokio::select! {
                    () = tokio::time::sleep_until(since + SILENCE) => return dialect,
                    changed = changed => if changed.is_err() { pending::<()>().await },
                },
                _ => {
                    if changed.await.is_err() {
                        pending::<()>().await;
                    }
                }
            }
        }
    }
}

/// Waits for an answer, or begins it.
pub(super) async fn answer(mut work: Work, patience: &Patience) -> Response<ResponseBody> {
    let mut worn = pin!(patience.wears_thin());
    let begun = poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Ok(answer)),
        // Hardly any request waits for anybody.
        Poll::Pending if patience.is_waiting() => worn.as_mut().poll(cx).map(Err),
        Poll::Pending => Poll::Pending,
    });
    match begun.await {
        Ok(answer) => answer,
        Err(dialect) => {
            let mut response = Response::new(ResponseBody::Begun(Box::new(Begun::new(work, dialect))));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            response
        }
    }
}

/// An answer that has begun before it was decided.
pub(super) struct Begun {
    stage: Stage,
    dialect: Dialect,
    beat: Interval,
}

enum Stage {
    /// Nobody said anything yet.
    Awaited(Work),
    /// The upstream answers.
    Answered(Pin<Box<ResponseBody>>),
    /// It is refused: what is said about that is read, and told in the stream.
    Refused {
        status: StatusCode,
        body: Pin<Box<ResponseBody>>,
        why: Vec<u8>,
    },
    Over,
}

impl Begun {
    fn new(work: Work, dialect: Dialect) -> Self {
        let mut beat = interval_at(Instant::now(), BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { stage: Stage::Awaited(work), dialect, beat }
    }

    /// The next piece of it.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            self.stage = match &mut self.stage {
                Stage::Awaited(work) => match work.as_mut().poll(cx) {
                    Poll::Ready(response) => decided(response),
                    Poll::Pending => {
                        ready!(self.beat.poll_tick(cx));
                        return Poll::Ready(Some(Ok(Frame::data(sign(self.dialect)))));
                    }
                },
                Stage::Answered(body) => return body.as_mut().poll_frame(cx),
                Stage::Refused { status, body, why } => match ready!(body.as_mut().poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        let room = WHY_BYTES_MAX.saturating_sub(why.len());
                        why.extend(frame.data_ref().into_iter().flatten().take(room));
                        continue;
                    }
                    Some(Err(_)) | None => {
                        let words = refusal(self.dialect, *status, &message(why));
                        self.stage = Stage::Over;
                        return Poll::Ready(Some(Ok(Frame::data(words))));
                    }
                },
                Stage::Over => return Poll::Ready(None),
            };
        }
    }

    /// Whether nothing follows.
    pub(super) fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Answered(body) => body.is_end_stream(),
            Stage::Over => true,
            Stage::Awaited(_) | Stage::Refused { .. } => false,
        }
    }
}

fn decided(response: Response<ResponseBody>) -> Stage {
    let (head, body) = response.into_parts();
    let body = Box::pin(body);
    let streams = head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    match head.status.is_success() && streams {
        true => Stage::Answered(body),
        false => Stage::Refused { status: head.status, body, why: Vec::new() },
    }
}

/// What a person reads of a refusal: its message, where it is of a vendor's form.
fn message(why: &[u8]) -> String {
    let told = serde_json::from_slice::<Value>(why).ok();
    let named = told.as_ref().and_then(|told| told.pointer("/error/message").or_else(|| told.get("message")));
    let text = named.and_then(Value::as_str).map(str::to_owned);
    text.unwrap_or_else(|| String::from_utf8_lossy(why).trim().to_owned())
}

/// A sign of life that a dialect's clients heed and take for nothing else.
fn sign(dialect: Dialect) -> Bytes {
    Bytes::from_static(match dialect {
        Dialect::AnthropicMessages => b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
        // Comments do not reset its clients' clocks; an event of an unknown type does.
        Dialect::OpenAiResponses => b"event: response.heartbeat\ndata: {\"type\":\"response.heartbeat\"}\n\n",
        Dialect::OpenAiChat => b": ping\n\n",
        // Its clients take neither comments nor names of events.
        Dialect::GoogleGenerate | Dialect::BedrockConverse => b"data: {}\n\n",
    })
}

/// A refusal in the middle of a stream, in its vendor's own words.
pub(super) fn refusal(dialect: Dialect, status: StatusCode, message: &str) -> Bytes {
    let money = status == StatusCode::PAYMENT_REQUIRED;
    let text = match dialect {
        Dialect::AnthropicMessages => {
            let kind = if money { "billing_error" } else { "permission_error" };
            named(&json!({"type": "error", "error": {"type": kind, "message": message}}))
        }
        Dialect::OpenAiResponses => named(&failed_response(message)),
        Dialect::OpenAiChat => {
            let kind = if money { "omni_budget" } else { "omni_refused" };
            event(&json!({"error": {"type": kind, "code": status.as_u16(), "message": message}}))
        }
        Dialect::GoogleGenerate | Dialect::BedrockConverse => event(&google(status, message)),
    };
    text.into()
}

/// A refusal as OpenAI's Responses end an answer: of the codes there are, Codex shows this one's message at once and does not ask
/// again.
pub(super) fn failed_response(message: &str) -> Value {
    let error = json!({"code": "invalid_prompt", "message": message});
    let response = json!({"id": "resp_omni", "object": "response", "status": "failed", "error": error});
    json!({"type": "response.failed", "response": response})
}

/// An event of a stream that has no name.
fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// One that is named as its data says.
fn named(data: &Value) -> String {
    format!("event: {}\n{}", data["type"].as_str().unwrap_or_default(), event(data))
}

/// An error in Google's form.
pub(super) fn google(status: StatusCode, message: &str) -> Value {
    json!({"error": {"code": status.as_u16(), "message": message, "status": "FAILED_PRECONDITION"}})
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proxy::refusal::Reply;
    use http_body_util::BodyExt;
    use tokio::sync::oneshot;

    async fn next(body: &mut ResponseBody) -> String {
        let frame = body.frame().await.unwrap().unwrap();
        String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_begins_the_answer_and_a_refusal_is_told_in_it() {
        let patience = Patience::default();
        let (says, said) = oneshot::channel::<()>();
        patience.may_stream(Dialect::AnthropicMessages, true);
        let waits = patience.clone();
        let work: Work = Box::pin(async move {
            let _ = waits.wait(said).await;
            Reply::refused(402, "no more money").into_response(&crate::proxy::refusal::Audience::default())
        });
        let response = answer(work, &patience).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        for _ in 0..3 {
            assert_eq!(next(&mut body).await, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
        }
        says.send(()).unwrap();
        assert_eq!(
            next(&mut body).await,
            "event: error\ndata: {\"error\":{\"message\":\"no more money\",\"type\":\"billing_error\"},\"type\":\"error\"}\n\n"
        );
        assert!(body.frame().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_decided_soon_has_its_own_status_and_what_is_no_stream_waits_in_silence() {
        for (streams, wait) in [(true, 5), (false, 3600)] {
            let patience = Patience::default();
            patience.may_stream(Dialect::OpenAiResponses, streams);
            let waits = patience.clone();
            let work: Work = Box::pin(async move {
                waits.wait(tokio::time::sleep(Duration::from_secs(wait))).await;
                Reply::refused(402, "no").into_response(&crate::proxy::refusal::Audience::default())
            });
            assert_eq!(answer(work, &patience).await.status(), StatusCode::PAYMENT_REQUIRED);
        }
    }
}
