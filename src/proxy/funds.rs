//! Money for model calls: what one may cost is held before it leaves, and settled once it is over, exactly once.

use super::body::Held;
use super::consent;
use super::hold::{Broken, whole};
use super::in_turn::InTurn;
use super::line::{Answer, Ask, Cut, Doubt};
use super::record::now;
use super::settle::Books;
use super::{Patience, Shared};
use crate::meter::{
    Answered, Asked, Bound, Dialect, Endpoint, IN_BACKGROUND, Meter, Progress, Unmetered, Wish, clamp, unmetered,
    with_model,
};
use crate::model::{Event, NanoUsd, Pricing, RequestLine, RequestNumber};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Largest body of a call that money is held for: as much as vendors take.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(300);
/// The shortest answer that a call is worth making for, in tokens.
const OUTPUT_TOKENS_MIN: u64 = 1024;
/// After how long to ask again while money is merely held.
const BUSY_PAUSE: Duration = Duration::from_millis(150);
/// How long a call may wait for money that others hold.
const BUSY_MAX: Duration = Duration::from_secs(600);

/// Why no money is held for a call, with the status to say it by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfunded {
    pub status: u16,
    pub reason: String,
}

/// What is held for one call. Dropped before the call was made, it is given back whole.
pub(super) struct Funds {
    books: Arc<Books>,
    number: RequestNumber,
    held: NanoUsd,
    bound: Bound,
    /// Whether the answer is cut once it outruns what is held: it can be, and no limit of its own ends it before.
    cuts: bool,
    progress: Progress,
    settled: bool,
    turn: Option<InTurn>,
}

/// A call whose body was read, as it is to go out.
struct Read<'a> {
    number: RequestNumber,
    line: &'a RequestLine,
    endpoint: Endpoint,
    body: Bytes,
    bound: Bound,
    /// How many tokens its prompt has at most.
    prompt: u64,
    /// Whether nothing is to be answered.
    warms_up: bool,
    /// Whether the answer is to be made after it was said that it will be.
    in_background: bool,
    streams: bool,
    /// The model that it names, or nothing.
    model: String,
    form: Form,
}

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As a request.
    Request,
    /// As a message that goes on from so many tokens, where that is known otherwise than by what it names.
    Message(Option<u64>),
}

/// A call that is a message, with money held for it, as it is to go out.
pub(super) struct Funded {
    pub funds: Funds,
    pub body: Bytes,
    /// How many tokens its prompt has at most.
    pub prompt: u64,
    /// Whether nothing is to be answered.
    pub warms_up: bool,
    /// The model that it names, or nothing.
    pub model: String,
}

/// Holds money for a call that is a message. `goes_on_from` is how many tokens it goes on from, where it does not say from what.
pub(super) async fn reserve_message(
    shared: &Arc<Shared>,
    number: RequestNumber,
    line: &RequestLine,
    endpoint: Endpoint,
    body: Bytes,
    goes_on_from: Option<u64>,
) -> Result<Funded, Unfunded> {
    let turn = InTurn::begin(&shared.books, number, endpoint.dialect, &body);
    let mut read = read(shared, number, line, endpoint, body, Form::Message(goes_on_from));
    if read.in_background {
        return Err(Unfunded { status: 402, reason: IN_BACKGROUND.to_owned() });
    }
    let funds = ask(shared, &mut read, turn, &Patience::default()).await?;
    let body = fit(shared, &read, &funds);
    let Read { prompt, warms_up, model, .. } = read;
    Ok(Funded { funds, body, prompt, warms_up, model })
}

/// Holds money for a model call, in a session with policies that want that; the body comes back, perhaps with a lower limit of output.
pub(super) async fn reserve(
    shared: &Arc<Shared>,
    number: RequestNumber,
    line: &RequestLine,
    headers: &mut HeaderMap,
    mut held: Held,
    patience: &Patience,
) -> (Result<Option<Funds>, Unfunded>, Held) {
    let no = |status, reason: &str| Err(Unfunded { status, reason: reason.to_owned() });
    let Some(endpoint) = shared.books.model_hosts.endpoint(line) else {
        return (unmetered(line).map_or(Ok(None), |Unmetered { why, .. }| no(402, why)), held);
    };
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return (no(415, "its body is compressed, so that nobody could say what it may cost"), held);
    }
    let (body, trailers) = match tokio::time::timeout(BODY_TIMEOUT, whole(&mut held, BODY_BYTES_MAX)).await {
        Ok(Ok(read)) => read,
        Ok(Err(Broken::Long)) => return (no(413, "its body is longer than that of any model call"), held),
        Ok(Err(Broken::Off)) => return (no(400, "its body broke off"), held),
        Err(_) => return (no(408, "its body did not come in time"), held),
    };
    let turn = InTurn::begin(&shared.books, number, endpoint.dialect, &body);
    let mut read = read(shared, number, line, endpoint, body, Form::Request);
    if read.in_background {
        return (no(402, IN_BACKGROUND), held.with(read.body, trailers));
    }
    patience.may_stream(read.endpoint.dialect, read.streams);
    let funds = match ask(shared, &mut read, turn, patience).await {
        Ok(funds) => funds,
        Err(unfunded) => return (Err(unfunded), held.with(read.body, trailers)),
    };
    let body = fit(shared, &read, &funds);
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    (Ok(Some(funds)), held.with(body, trailers))
}

fn read<'a>(
    shared: &Shared,
    number: RequestNumber,
    line: &'a RequestLine,
    endpoint: Endpoint,
    body: Bytes,
    form: Form,
) -> Read<'a> {
    let mut meter = Meter::new(endpoint.clone());
    meter.request(&body);
    // Only on a WebSocket is there such a thing as a call without an answer.
    let warms_up = meter.asked().warms_up && form != Form::Request;
    let asked = Asked { warms_up, ..meter.asked().clone() };
    let kept = match form {
        Form::Message(Some(tokens)) if asked.previous.is_none() => tokens,
        _ => shared.books.contexts.before(&asked),
    };
    let bound = shared.books.prices.bound(&endpoint, &asked, &body, kept, &now().to_day());
    let prompt = (body.len() as u64).saturating_add(kept);
    let streams = form != Form::Request || streams(&meter, line);
    let in_background = asked.background && endpoint.dialect == Dialect::OpenAiResponses;
    let model = endpoint.model.clone().or(asked.model).unwrap_or_default();
    Read { number, line, endpoint, body, bound, prompt, warms_up, in_background, streams, model, form }
}

/// Whether a call's answer is to be a stream.
pub(super) fn asks_for_stream(endpoint: Endpoint, line: &RequestLine, body: &[u8]) -> bool {
    let mut meter = Meter::new(endpoint);
    meter.request(body);
    streams(&meter, line)
}

fn streams(meter: &Meter, line: &RequestLine) -> bool {
    // Amazon's streams are of a form of their own, in which nothing can be said.
    let events = meter.dialect() != Dialect::BedrockConverse;
    events && (meter.asked().stream || line.path.trim_end_matches('/').ends_with(":streamGenerateContent"))
}

/// Asks for money until there is some or there will be none.
async fn ask(
    shared: &Arc<Shared>,
    read: &mut Read<'_>,
    turn: Option<InTurn>,
    patience: &Patience,
) -> Result<Funds, Unfunded> {
    let no = |reason| Unfunded { status: 402, reason };
    let first = turn.as_ref().map_or(RequestNumber(0), InTurn::first);
    let amount = loop {
        let answer = match once(shared, read, first).await {
            Ok(Answer::Busy(_)) => patience.wait(in_line(shared, read, first)).await,
            answer => answer,
        };
        let (doubt, why) = match answer {
            Ok(Answer::Held(amount)) => break amount,
            Ok(Answer::AskFirst { doubt, why }) => (doubt, why),
            Ok(Answer::Downgrade { policy, name, model, why }) => match downgraded(shared, read, &model) {
                Some(cheaper) => {
                    replace(shared, read, cheaper, name).await?;
                    continue;
                }
                None => (Doubt::SoftLimit(policy), format!("{why}; it cannot be sent to `{model}` for less")),
            },
            Ok(Answer::Busy(why) | Answer::Denied(why)) => return Err(no(why)),
            Ok(Answer::Consented { .. }) | Err(Cut) => {
                return Err(no("the session that keeps the money is gone".to_owned()));
            }
        };
        let subject = consent::Subject { line: read.line, query: None, body: Some(&read.body), push: None };
        let inquiry = consent::of_budget(shared, read.number, subject, doubt, why);
        patience.wait(consent::ask(shared, inquiry)).await.map_err(no)?;
    };
    let Read { number, bound, streams, .. } = read;
    let funds = Funds {
        books: shared.books.clone(),
        number: *number,
        held: amount,
        bound: bound.clone(),
        cuts: *streams && amount < bound.full,
        progress: Progress::new(*streams),
        settled: false,
        turn,
    };
    let placed = Event::HoldPlaced { request: *number, amount, bound: bound.full };
    shared.books.clerk.record(placed).await.map_err(|error| Unfunded { status: 503, reason: error.to_string() })?;
    Ok(funds)
}

/// Asks for money.
async fn once(shared: &Shared, read: &Read<'_>, turn: RequestNumber) -> Result<Answer, Cut> {
    let model = (read.model.as_str(), read.bound.unknown.is_none());
    shared.books.line.ask(Ask::reserve(read.number, &wish(shared, read), model, turn)).await
}

/// Asks again while what there is is held by others.
async fn in_line(shared: &Shared, read: &Read<'_>, turn: RequestNumber) -> Result<Answer, Cut> {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(BUSY_PAUSE).await;
        match once(shared, read, turn).await {
            Ok(Answer::Busy(_)) if begun.elapsed() < BUSY_MAX => {}
            answer => return answer,
        }
    }
}

/// What a call wants to set aside, as it stands.
fn wish(shared: &Shared, read: &Read<'_>) -> Wish {
    let bound = &read.bound;
    let least = match read.streams || shared.books.clamps {
        true => bound.with_output(bound.output.min(OUTPUT_TOKENS_MIN)),
        // What comes in one piece is billed whole, whatever is cut.
        false => bound.full,
    };
    Wish { full: bound.full, least, consented: false }
}

/// The same call to another model, where its body can be rewritten for it and it costs less.
fn downgraded<'a>(shared: &Shared, read: &Read<'a>, model: &str) -> Option<Read<'a>> {
    let body = with_model(read.endpoint.dialect, &read.body, model).filter(|_| read.endpoint.model.is_none())?;
    let cheaper = self::read(shared, read.number, read.line, read.endpoint.clone(), body.into(), read.form);
    (cheaper.model == model && cheaper.bound.full < read.bound.full).then_some(cheaper)
}

/// Has another call go in the place of this one, and records that.
async fn replace<'a>(shared: &Shared, read: &mut Read<'a>, cheaper: Read<'a>, policy: String) -> Result<(), Unfunded> {
    let (from, to) = (read.model.clone(), cheaper.model.clone());
    let replaced = Event::ModelReplaced { request: read.number, policy, from, to };
    shared.books.clerk.record(replaced).await.map_err(|error| Unfunded { status: 503, reason: error.to_string() })?;
    *read = cheaper;
    Ok(())
}

/// The body as it goes out: with a lower limit of output where a policy clamps and less is held than it may cost.
fn fit(shared: &Shared, read: &Read<'_>, funds: &Funds) -> Bytes {
    if !shared.books.clamps || funds.held >= read.bound.full {
        return read.body.clone();
    }
    let clamped = clamp(read.endpoint.dialect, &read.body, funds.bound.output_within(funds.held).max(1));
    clamped.map_or_else(|| read.body.clone(), Bytes::from)
}

impl Funds {
    /// Takes the next bytes of the answer; whether they are more than is held for it.
    pub(super) fn outrun_by(&mut self, bytes: &[u8]) -> bool {
        self.progress.feed(bytes);
        self.cuts && self.so_far() > self.held
    }

    /// Most tokens of the answer.
    pub(super) fn output_max(&self) -> u64 {
        self.bound.output
    }

    /// What the call came to by now, reckoned.
    fn so_far(&self) -> NanoUsd {
        self.bound.with_output(self.progress.tokens())
    }

    /// Settles at what the vendor says; where it does not say, at what the call probably came to. Only the first time counts.
    pub(super) fn settle(&mut self, told: Option<(NanoUsd, Pricing)>, broke_off: bool) {
        let reckoned = self.so_far().min(self.held);
        let (charged, estimated) = match told {
            Some((cost, Pricing::Exact | Pricing::UnknownModel)) => (cost, false),
            Some((cost, Pricing::Incomplete)) => (cost.max(reckoned), true),
            Some((_, Pricing::Unreadable)) => (self.held, true),
            // It may have been read, and what it began to answer is not known.
            None if broke_off => (reckoned, true),
            None => (NanoUsd::ZERO, false),
        };
        self.charge(charged, estimated);
    }

    /// The call is over, and with it perhaps the turn.
    pub(super) fn end_turn(&mut self, answered: Answered) {
        if let Some(turn) = self.turn.take() {
            turn.end(answered);
        }
    }

    fn charge(&mut self, charged: NanoUsd, estimated: bool) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let settled = Event::HoldSettled { request: self.number, held: self.held, charged, estimated };
        self.books.clerk.record_done(&settled);
        self.books.line.settle(self.number, charged);
    }
}

impl Drop for Funds {
    fn drop(&mut self) {
        self.charge(NanoUsd::ZERO, false);
    }
}
