//! The model calls under way on one WebSocket: what each message of the client is, and to which call each of the provider's
//! belongs (OpenAI's Responses).
//!
//! A call begins with a message of the client's. The provider names its answer in the first event of it, in the order in which
//! the calls came, and names it again in the last; what lies between belongs to the answer that was named last. Where
//! conversations run side by side, each message names its own.

use super::funds::{Funded, Funds};
use super::kept_context;
use super::patience::failed_response;
use super::settle::Books;
use crate::meter::{Answered, Endpoint, Meter};
use crate::model::{BodyEnd, Event, RequestNumber};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// The status of a call that was answered.
const ANSWERED: u16 = 200;

/// What a message of the client's is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A call, in the conversation of that name.
    Call {
        /// The conversation, where several run side by side.
        stream: Option<String>,
        /// Whether it goes on from what was said on this socket without saying so.
        goes_on: bool,
    },
    /// Something that no answer is made for.
    Nothing,
}

#[derive(Deserialize)]
struct Asking<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    stream_id: Option<&'a RawValue>,
}

impl Wanted {
    /// Reads a message of the client's; why nobody can say what it may cost, where nobody can.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let unreadable = |_| "a message is no JSON of the form that OpenAI's Responses have".to_owned();
        let Asking { kind, stream_id } = serde_json::from_str(text).map_err(unreadable)?;
        let stream = stream_id.map(|stream| stream.get().to_owned());
        match kind.as_ref() {
            "response.create" => Ok(Self::Call { stream, goes_on: false }),
            // Either has the provider make more of an answer, or another in its place.
            "response.append" | "response.steer" => Ok(Self::Call { stream, goes_on: true }),
            "response.cancel" | "response.processed" | "session.update" | "ping" | "pong" => Ok(Self::Nothing),
            _ => Err("nobody can say what a message of a type that omni does not know may cost".to_owned()),
        }
    }
}

/// What is read of an event.
#[derive(Default, Deserialize)]
struct Said<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    stream_id: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<Named<'a>>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    status_code: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

impl Said<'_> {
    /// The status that it would have had as the answer to a request.
    fn status(&self) -> u16 {
        let told = self.status.or(self.status_code).filter(|_| self.kind == "error");
        told.and_then(|status| status.get().parse().ok()).unwrap_or(ANSWERED)
    }

    fn ends(&self) -> bool {
        matches!(
            self.kind.as_ref(),
            "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" | "error"
        )
    }
}

/// What came of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that anybody must mind.
    Usual,
    /// Its answer is longer than what is held for it.
    Outran,
    /// An answer began that nobody asked for.
    Unasked,
}

/// A call under way. It is settled once, and when it is dropped at the latest.
pub(super) struct MessageCall {
    books: Arc<Books>,
    endpoint: Endpoint,
    number: RequestNumber,
    stream: Option<String>,
    /// What the provider calls its answer, once it has begun.
    answer: Option<String>,
    meter: Option<Meter>,
    funds: Funds,
    prompt: u64,
    warms_up: bool,
    bytes: (u64, u64),
    begun: Instant,
}

impl MessageCall {
    /// A call that was recorded as allowed, and its message as it goes out.
    pub(super) fn new(
        books: Arc<Books>,
        endpoint: Endpoint,
        number: RequestNumber,
        stream: Option<String>,
        funded: Funded,
    ) -> Self {
        let Funded { funds, body, prompt, warms_up, .. } = funded;
        let mut meter = Meter::new(endpoint.clone());
        meter.request(&body);
        meter.response_head(ANSWERED, "text/event-stream", None);
        let (bytes, begun) = ((body.len() as u64, 0), Instant::now());
        let meter = Some(meter);
        Self { books, endpoint, number, stream, answer: None, meter, funds, prompt, warms_up, bytes, begun }
    }

    /// Takes an event of its answer; whether that is more than is held for it.
    fn take(&mut self, text: &str) -> bool {
        self.bytes.1 += text.len() as u64;
        let Some(meter) = &mut self.meter else { return false };
        // As one event of a stream, whose data cannot have line ends within.
        let text = match text.contains(['\n', '\r']) {
            true => Cow::Owned(text.replace(['\n', '\r'], " ")),
            false => Cow::Borrowed(text),
        };
        let mut outran = false;
        for piece in ["data: ", &text, "\n\n"] {
            meter.response(piece.as_bytes());
            outran |= self.funds.outrun_by(piece.as_bytes());
        }
        outran
    }

    /// It is over. Only the first time counts.
    fn settle(&mut self, status: u16, end: BodyEnd) {
        let Some(meter) = self.meter.take() else { return };
        let complete = end == BodyEnd::Complete;
        self.books.clerk.record_later(Event::RequestCompleted {
            request: self.number,
            status,
            request_bytes: self.bytes.0,
            response_bytes: self.bytes.1,
            duration_ms: u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            end,
        });
        let answered = match (complete && status == ANSWERED, meter.asks_for_tools()) {
            (false, _) => Answered::Not,
            (true, true) => Answered::WithTools,
            (true, false) => Answered::Finally,
        };
        let reading = meter.finish(complete);
        if let (Some(answer), Some(reading)) = (&self.answer, &reading) {
            // Nothing is used by a beginning that is only made ready, and is used with what follows.
            let ready = if self.warms_up { self.prompt } else { 0 };
            self.books.contexts.note(answer, kept_context::tokens(&reading.usage).max(ready));
        }
        let Endpoint { dialect, vendor, .. } = self.endpoint;
        let told = reading.map(|reading| self.books.metered(self.number, dialect.as_str(), vendor, reading));
        self.funds.settle(told, !complete);
        self.funds.end_turn(answered);
    }
}

impl Drop for MessageCall {
    fn drop(&mut self) {
        let ending = self.books.is_ending();
        self.settle(ANSWERED, if ending { BodyEnd::SessionEnded } else { BodyEnd::ClientGone });
    }
}

/// The calls under way on one socket.
#[derive(Default)]
pub(super) struct Conversation {
    calls: Vec<MessageCall>,
    /// How long the last prompt and its answer were, and the model that answered.
    last: Option<(u64, String)>,
}

impl Conversation {
    /// A call's message goes out.
    pub(super) fn begin(&mut self, call: MessageCall, model: String) {
        self.last = Some((call.prompt.saturating_add(call.funds.output_max()), model));
        self.calls.push(call);
    }

    /// From how many tokens a message goes on that does not say from what, and with which model; nothing where nothing was
    /// said yet.
    pub(super) fn last(&self) -> Option<(u64, String)> {
        self.last.clone()
    }

    /// Whether an answer is still to come.
    pub(super) fn is_under_way(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Takes a message of the provider's.
    pub(super) fn hear(&mut self, text: &str) -> Heard {
        let said: Said<'_> = serde_json::from_str(text).unwrap_or_default();
        let marks: Vec<_> = self.calls.iter().map(|call| (call.stream.as_deref(), call.answer.as_deref())).collect();
        let place = match place(&marks, &said) {
            Place::Call(place) => place,
            Place::Nobodys => return Heard::Usual,
            Place::Unasked => return Heard::Unasked,
        };
        let Some(call) = self.calls.get_mut(place) else { return Heard::Usual };
        let named = said.response.as_ref().and_then(|response| response.id.as_ref());
        if let (None, Some(id)) = (&call.answer, named) {
            call.answer = Some(id.clone().into_owned());
        }
        let outran = call.take(text);
        if said.ends() {
            self.calls.remove(place).settle(said.status(), BodyEnd::Complete);
            return Heard::Usual;
        }
        if outran { Heard::Outran } else { Heard::Usual }
    }

    /// The socket is over for this reason, and so is what was under way.
    pub(super) fn end(&mut self, end: BodyEnd) {
        // Whatever closed it, an answer that did not say its last word is not whole.
        let end = if end == BodyEnd::Complete { BodyEnd::UpstreamBroke } else { end };
        self.calls.drain(..).for_each(|mut call| call.settle(ANSWERED, end));
    }
}

/// Whose an event is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// That of the call with this place.
    Call(usize),
    /// No call's.
    Nobodys,
    /// That of a call that was never made.
    Unasked,
}

/// Whose an event is, by each call's conversation and what its answer is called.
fn place(calls: &[(Option<&str>, Option<&str>)], said: &Said<'_>) -> Place {
    let stream = said.stream_id.map(RawValue::get);
    let of_stream = |call: &(Option<&str>, Option<&str>)| stream.is_none() || call.0 == stream;
    let unnamed = || calls.iter().position(|call| of_stream(call) && call.1.is_none());
    let named_last = || calls.iter().rposition(|call| of_stream(call) && call.1.is_some());
    let id = said.response.as_ref().and_then(|response| response.id.as_deref());
    let found = match id {
        Some(id) => calls.iter().position(|call| call.1 == Some(id)).or_else(unnamed),
        None if said.kind == "error" => unnamed().or_else(named_last),
        None => named_last().or_else(unnamed).filter(|_| said.kind.starts_with("response.") || said.kind.is_empty()),
    };
    match found {
        Some(place) => Place::Call(place),
        None if id.is_some() && said.kind.starts_with("response.") => Place::Unasked,
        None => Place::Nobodys,
    }
}

/// A refusal in the words of an event.
pub(super) fn refusal(reason: &str) -> String {
    failed_response(reason).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_call_or_nothing_and_what_cannot_be_told_is_neither() {
        let call = |stream: Option<&str>, goes_on| Ok(Wanted::Call { stream: stream.map(str::to_owned), goes_on });
        for (text, expected) in [
            (r#"{"type":"response.create","input":[{"type":"ping"}]}"#, call(None, false)),
            (r#"{"input":[],"t\u0079pe":"response.create","stream_id":"a"}"#, call(Some("\"a\""), false)),
            (r#"{"type":"response.steer","stream_id":7}"#, call(Some("7"), true)),
            (r#"{"type":"response.cancel"}"#, Ok(Wanted::Nothing)),
        ] {
            assert_eq!(Wanted::of(text), expected, "{text}");
        }
        for text in [
            r#"{"type":"ping","type":"response.create"}"#,
            r#"{"type":"ping","t\u0079pe":"response.create"}"#,
            r#"{"type":"response.invent"}"#,
            r#"{"type":7}"#,
            "{}",
            "[]",
            "nonsense",
        ] {
            assert!(Wanted::of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_event_is_of_the_call_that_it_belongs_to() {
        let of =
            |calls: &[(Option<&str>, Option<&str>)], text: &str| place(calls, &serde_json::from_str(text).unwrap());
        let created = |id: &str| format!(r#"{{"type":"response.created","response":{{"id":"{id}"}}}}"#);
        let delta = r#"{"type":"response.output_text.delta","delta":"a"}"#;
        let [first, second] = [(None, Some("r1")), (None, None)];
        assert_eq!(of(&[second, second], &created("r1")), Place::Call(0));
        assert_eq!(of(&[first, second], &created("r2")), Place::Call(1));
        assert_eq!(of(&[first, second], delta), Place::Call(0));
        assert_eq!(of(&[(None, Some("r1")), (None, Some("r2"))], delta), Place::Call(1));
        assert_eq!(of(&[first, second], r#"{"type":"error","status":400}"#), Place::Call(1));
        assert_eq!(of(&[first], &created("r3")), Place::Unasked);
        assert_eq!(of(&[first], r#"{"type":"codex.rate_limits"}"#), Place::Nobodys);
        assert_eq!(of(&[], delta), Place::Nobodys);
        let streams = [(Some("\"a\""), Some("r1")), (Some("\"b\""), Some("r2")), (Some("\"a\""), None)];
        assert_eq!(of(&streams, r#"{"type":"response.x","stream_id":"a"}"#), Place::Call(0));
        let other = r#"{"type":"response.created","stream_id":"a","response":{"id":"r3"}}"#;
        assert_eq!(of(&streams, other), Place::Call(2));
    }
}
