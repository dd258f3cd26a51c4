//! The end of every allowed request, told exactly once, however it ends.
//!
//! An [`Open`] request is settled by its answer's end or by being dropped: a client that leaves, an upstream that breaks
//! and a session that ends all come through here.

use super::answers::Answers;
use super::fetched::Fetched;
use super::funds::Funds;
use super::keep::{BodyKeeper, Draft};
use super::kept_context::{self, KeptContexts};
use super::line::Line;
use super::patience;
use super::readable::Readable;
use super::record::{Clerk, now};
use crate::meter::{
    Answered, Certainty, Dialect, Endpoint, Meter, ModelHosts, PriceTable, Reading, TurnTrack, Unmetered, Vendor,
    unmetered,
};
use crate::model::{BodyEnd, BodySide, Event, NanoUsd, Pricing, RequestLine, RequestNumber, UNMETERED, Usage};
use crate::policy::{Allowance, TooMuch, Way};
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// What settling needs, shared by all requests of the session.
pub(super) struct Books {
    /// Where facts go.
    pub clerk: Arc<Clerk>,
    /// What model calls cost.
    pub prices: PriceTable,
    /// Where model calls go.
    pub model_hosts: ModelHosts,
    /// Where money is held, and people are asked.
    pub line: Line,
    /// Whether money is held for model calls.
    pub governed: bool,
    /// Whether a call that does not fit is sent with a lower limit of its output.
    pub clamps: bool,
    /// The session's turns, where a policy counts by them.
    pub turns: Option<Mutex<TurnTrack>>,
    /// Whether the session is ending, so that what is cut off now was cut by that.
    pub ending: AtomicBool,
    /// What records bodies, where that was asked for.
    pub keeper: Option<Arc<BodyKeeper>>,
    /// How long the conversations are that vendors keep.
    pub contexts: KeptContexts,
    /// Which answers were counted.
    pub answers: Answers,
    /// What model calls came to by now.
    pub tab: Arc<Tab>,
}

/// What model calls of a session came to, in nanodollars, and how many there were.
#[derive(Debug, Default)]
pub(super) struct Tab(AtomicI64, AtomicU64);

impl Tab {
    /// Enters what one call cost.
    pub(super) fn enter(&self, cost: NanoUsd) {
        self.0.fetch_add(cost.0, Ordering::Relaxed);
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    /// Both, as they are now.
    pub(super) fn sum(&self) -> (NanoUsd, u64) {
        (NanoUsd(self.0.load(Ordering::Relaxed)), self.1.load(Ordering::Relaxed))
    }
}

impl Books {
    /// Those of a session without policies about money.
    pub(super) fn ungoverned(clerk: Arc<Clerk>, prices: PriceTable, line: Line) -> Self {
        Self {
            clerk,
            prices,
            model_hosts: ModelHosts::default(),
            line,
            governed: false,
            clamps: false,
            turns: None,
            ending: AtomicBool::new(false),
            keeper: None,
            contexts: KeptContexts::default(),
            answers: Answers::default(),
            tab: Arc::default(),
        }
    }

    /// Whether the session is ending.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// A model call was read: its record, and what it costs. `dialect` is the format that it was read in.
    pub(super) fn metered(
        &self,
        request: RequestNumber,
        dialect: &str,
        vendor: Vendor,
        reading: Reading,
    ) -> (NanoUsd, Pricing) {
        let (cost, pricing) = self.prices.price(vendor, &reading, &now().to_day());
        self.tab.enter(cost);
        self.clerk.record_done(&Event::UsageMetered {
            request,
            dialect: dialect.to_owned(),
            vendor: vendor.as_str().to_owned(),
            model: reading.model,
            usage: reading.usage,
            service: reading.terms.tier.as_str().to_owned(),
            cost,
            pricing,
            price_table: self.prices.version().to_owned(),
        });
        (cost, pricing)
    }
}

/// What the request's body leaves behind as it passes.
pub(super) struct Upload {
    bytes: AtomicU64,
    meter: Option<Mutex<Meter>>,
    allowance: Allowance,
    /// Whether the body was cut off since it was more than is allowed.
    cut: AtomicBool,
    /// Why the body was stopped, where something stood in it that may not go.
    stopped: OnceLock<String>,
    /// What of it is recorded.
    draft: Mutex<Option<Draft>>,
}

impl Upload {
    /// Takes the next bytes of the request's body, unless they are more than may pass.
    pub(super) fn chunk(&self, bytes: &[u8]) -> Result<(), TooMuch> {
        self.allowance.take(Way::Up, bytes.len() as u64).inspect_err(|_| self.cut.store(true, Ordering::Relaxed))?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.with_meter(|meter| meter.request(bytes));
        if let Some(draft) = &mut *self.draft.lock().unwrap_or_else(PoisonError::into_inner) {
            draft.take(bytes);
        }
        Ok(())
    }

    /// The body was stopped, and so the request was.
    pub(super) fn stop(&self, reason: String) {
        // The first reason is the reason.
        let _ = self.stopped.set(reason);
    }

    fn is_kept(&self) -> bool {
        self.draft.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn with_meter(&self, act: impl FnOnce(&mut Meter)) {
        if let Some(meter) = &self.meter {
            act(&mut meter.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// A request that was allowed and is not settled yet.
pub(super) struct Open {
    books: Arc<Books>,
    number: RequestNumber,
    endpoint: Option<Endpoint>,
    /// Who bills it, where it is a call of which nothing can be read.
    unread: Option<Vendor>,
    /// What it fetches of answers that were asked for earlier.
    fetched: Option<Box<Fetched>>,
    upload: Arc<Upload>,
    started: Instant,
    status: Option<u16>,
    response_bytes: u64,
    settled: bool,
    /// What reads a compressed answer for the meter.
    copy: Option<Readable>,
    funds: Option<Box<Funds>>,
    outrun: bool,
    /// What of the answer is recorded.
    draft: Option<Draft>,
}

impl Open {
    /// Opens a request that was recorded as allowed.
    pub(super) fn new(books: Arc<Books>, number: RequestNumber, line: &RequestLine, allowance: Allowance) -> Self {
        let endpoint = books.model_hosts.endpoint(line);
        let unread = if endpoint.is_none() { unmetered(line).map(|Unmetered { vendor, .. }| vendor) } else { None };
        let fetched = books.model_hosts.later(line);
        let fetched = fetched.map(|later| Box::new(Fetched::new(books.clone(), number, later, &line.path)));
        // Of what cannot be read as an answer the request still names the model.
        let asked = || Some(Endpoint { dialect: Dialect::OpenAiChat, vendor: unread?, model: None });
        let meter = endpoint.clone().or_else(asked).map(|endpoint| Mutex::new(Meter::new(endpoint)));
        let upload = Arc::new(Upload {
            bytes: AtomicU64::new(0),
            meter,
            allowance,
            cut: AtomicBool::new(false),
            stopped: OnceLock::new(),
            draft: Mutex::new(None),
        });
        let started = Instant::now();
        Self {
            books,
            number,
            endpoint,
            unread,
            fetched,
            upload,
            started,
            status: None,
            response_bytes: 0,
            settled: false,
            copy: None,
            draft: None,
            funds: None,
            outrun: false,
        }
    }

    /// The same request, with what is held for it.
    pub(super) fn funded(mut self, funds: Option<Funds>) -> Self {
        self.funds = funds.map(Box::new);
        self
    }

    /// What to say in the stream and end it by, where the answer outran what is held for it.
    pub(super) fn cut(&self) -> Option<Bytes> {
        let dialect = self.endpoint.as_ref().filter(|_| self.outrun)?.dialect;
        Some(patience::refusal(dialect, http::StatusCode::PAYMENT_REQUIRED, patience::OUTRAN))
    }

    /// Begins to record bodies, where that was asked for. Returns whether they must be readable.
    pub(super) fn keep(&self, headers: &http::HeaderMap) -> bool {
        let draft = self.books.keeper.as_ref().map(|keeper| keeper.begin(headers));
        let keeps = draft.is_some();
        *self.upload.draft.lock().unwrap_or_else(PoisonError::into_inner) = draft;
        keeps
    }

    /// Whether the answer is read as it passes.
    pub(super) fn is_read(&self) -> bool {
        self.endpoint.is_some() || self.fetched.is_some()
    }

    /// Where the request's body reports.
    pub(super) fn upload(&self) -> Arc<Upload> {
        self.upload.clone()
    }

    /// The upstream answered.
    pub(super) fn answered(&mut self, head: &http::response::Parts) {
        self.status = Some(head.status.as_u16());
        let text = |name| head.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let kind = text(http::header::CONTENT_TYPE).unwrap_or_default();
        let encoding = text(http::header::CONTENT_ENCODING);
        if let Some(fetched) = &mut self.fetched {
            fetched.answered(head.status.as_u16(), kind, encoding);
        }
        self.upload.with_meter(|meter| {
            self.copy = Readable::of(encoding).filter(|_| self.unread.is_none());
            meter.response_head(head.status.as_u16(), kind, encoding.filter(|_| self.copy.is_none()));
            if self.unread.is_some() {
                meter.lose_sight();
            }
        });
        if head.status != http::StatusCode::SWITCHING_PROTOCOLS && self.upload.is_kept() {
            self.draft = self.books.keeper.as_ref().map(|keeper| keeper.begin(&head.headers));
        }
    }

    /// Whether so many bytes of an answer may pass.
    pub(super) fn expect(&self, bytes: u64) -> Result<(), TooMuch> {
        self.upload.allowance.expect(Way::Down, bytes)
    }

    /// The next bytes of the answer's body are to pass, unless they are more than may.
    pub(super) fn chunk(&mut self, bytes: &[u8]) -> Result<(), TooMuch> {
        self.upload.allowance.take(Way::Down, bytes.len() as u64)?;
        self.response_bytes += bytes.len() as u64;
        self.upload.with_meter(|meter| match &mut self.copy {
            Some(copy) => {
                if copy.next(bytes, &mut |plain| meter.response(plain)).is_err() {
                    meter.lose_sight();
                }
            }
            None => meter.response(bytes),
        });
        if let Some(fetched) = &mut self.fetched {
            fetched.chunk(bytes);
        }
        self.outrun |= self.funds.as_mut().is_some_and(|funds| funds.outrun_by(bytes));
        if let Some(draft) = &mut self.draft {
            draft.take(bytes);
        }
        Ok(())
    }

    /// Why the request's body was stopped, where it was.
    pub(super) fn stopped(&self) -> Option<&str> {
        self.upload.stopped.get().map(String::as_str)
    }

    /// There will be no answer.
    pub(super) fn fail(mut self, reason: String) {
        self.settle_failed(reason);
    }

    /// Whether it is a model call that succeeds and is not settled yet, in a session that goes on.
    pub(super) fn has_a_bill_to_come(&self) -> bool {
        let succeeds = self.status.is_some_and(|status| (200..300).contains(&status));
        self.endpoint.is_some() && succeeds && !self.settled && !self.books.is_ending()
    }

    /// The answer ended, and its client had left before.
    pub(super) fn end_unheard(&mut self) {
        self.end_as(BodyEnd::ClientGone, true);
    }

    /// The answer ended. Only the first call counts.
    pub(super) fn end(&mut self, end: BodyEnd) {
        self.end_as(end, end == BodyEnd::Complete);
    }

    /// The same; `whole` says whether all of the answer was read.
    fn end_as(&mut self, end: BodyEnd, whole: bool) {
        let Some(status) = self.status else { return };
        if let Some(reason) = self.upload.stopped.get() {
            return self.settle_failed(reason.clone());
        }
        // The upstream breaks off when a request's body does.
        let cut = end == BodyEnd::UpstreamBroke && self.upload.cut.load(Ordering::Relaxed);
        let end = if cut { BodyEnd::QuotaReached } else { end };
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        self.settle_bodies();
        self.books.clerk.record_later(Event::RequestCompleted {
            request: self.number,
            status,
            request_bytes: self.upload.bytes.load(Ordering::Relaxed),
            response_bytes: self.response_bytes,
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            end,
        });
        self.settle_usage(whole);
    }

    fn settle_failed(&mut self, reason: String) {
        if !std::mem::replace(&mut self.settled, true) {
            self.settle_bodies();
            self.books.clerk.record_done(&Event::RequestFailed { request: self.number, reason });
            self.settle_usage(false);
        }
    }

    fn settle_bodies(&mut self) {
        let request = self.upload.draft.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (draft, side) in [(request, BodySide::Request), (self.draft.take(), BodySide::Response)] {
            if let Some(event) = draft.and_then(|draft| draft.finish(self.number, side)) {
                self.books.clerk.record_done(&event);
            }
        }
    }

    fn settle_usage(&mut self, complete: bool) {
        if let Some(fetched) = self.fetched.take() {
            fetched.end(complete);
        }
        let answered = self.answered_how(complete);
        let told = self.record_usage(complete);
        let sent = self.status.is_none() && self.upload.bytes.load(Ordering::Relaxed) > 0;
        if let Some(mut funds) = self.funds.take() {
            funds.settle(told, sent);
            funds.end_turn(answered);
        }
    }

    /// Whether the answer came whole, and asks for more.
    fn answered_how(&self, complete: bool) -> Answered {
        let succeeded = complete && self.status.is_some_and(|status| (200..300).contains(&status));
        let mut asks = false;
        self.upload.with_meter(|meter| asks = meter.asks_for_tools());
        match (succeeded, asks) {
            (false, _) => Answered::Not,
            (true, true) => Answered::WithTools,
            (true, false) => Answered::Finally,
        }
    }

    /// Records what the call used, and tells what that costs.
    fn record_usage(&self, complete: bool) -> Option<(NanoUsd, Pricing)> {
        let reading = self.reading(complete)?;
        if let Some(vendor) = self.unread {
            return Some(self.books.metered(self.number, UNMETERED, vendor, reading));
        }
        Some(self.metered(self.endpoint.as_ref()?, reading))
    }

    /// What the call used, as far as it could be read.
    fn reading(&self, complete: bool) -> Option<Reading> {
        let meter = self.upload.meter.as_ref()?;
        // The request's body may still hold the meter's lock cell; the finished meter leaves an idle one behind.
        let mut cell = meter.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = cell.idle();
        let meter = std::mem::replace(&mut *cell, idle);
        let answer = meter.response_id().map(str::to_owned);
        let reading = meter.finish(complete)?;
        if let (Some(answer), Some(endpoint)) = (answer, &self.endpoint) {
            if self.books.governed {
                self.books.contexts.note(&answer, kept_context::tokens(&reading.usage));
            }
            let told = reading.certainty == Certainty::Final || reading.usage != Usage::default();
            self.books.answers.asked(endpoint.vendor, &answer, told);
        }
        Some(reading)
    }

    /// A model call was read; what it costs.
    pub(super) fn metered(&self, endpoint: &Endpoint, reading: Reading) -> (NanoUsd, Pricing) {
        self.books.metered(self.number, endpoint.dialect.as_str(), endpoint.vendor, reading)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let ending = self.books.is_ending();
        if self.status.is_some() {
            self.end(if ending { BodyEnd::SessionEnded } else { BodyEnd::ClientGone });
        } else {
            let who = if ending { "the session ended" } else { "the client went away" };
            self.settle_failed(format!("{who} before the upstream answered"));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Host, Port, Scheme};
    use crate::store::Memory;

    fn open(memory: &Memory) -> Open {
        let clerk = Arc::new(Clerk::new(Box::new(memory.clone()), None, crate::model::Durability::default()).unwrap());
        let books = Books::ungoverned(clerk, PriceTable::embedded(), Line::new().0);
        let line = RequestLine {
            method: "GET".to_owned(),
            scheme: Scheme::Https,
            host: Host::parse("a.example").unwrap(),
            port: Port(443),
            path: "/".to_owned(),
        };
        Open::new(Arc::new(books), RequestNumber(1), &line, Allowance::default())
    }

    fn ok() -> http::response::Parts {
        http::Response::new(()).into_parts().0
    }

    fn ends(memory: &Memory) -> Vec<BodyEnd> {
        let end = |event| match event {
            Event::RequestCompleted { end, .. } => Some(end),
            _ => None,
        };
        memory.events().into_iter().filter_map(end).collect()
    }

    #[test]
    fn an_answer_is_settled_once() {
        let memory = Memory::new();
        let mut request = open(&memory);
        request.answered(&ok());
        request.chunk(b"hello").unwrap();
        request.end(BodyEnd::Complete);
        request.end(BodyEnd::UpstreamBroke);
        drop(request);
        assert_eq!(ends(&memory), [BodyEnd::Complete]);
    }

    #[test]
    fn what_is_dropped_is_settled_too() {
        let memory = Memory::new();
        let mut request = open(&memory);
        request.answered(&ok());
        drop(request);
        let mut cut = open(&memory);
        cut.answered(&ok());
        cut.books.ending.store(true, Ordering::Relaxed);
        drop(cut);
        assert_eq!(ends(&memory), [BodyEnd::ClientGone, BodyEnd::SessionEnded]);
        drop(open(&memory));
        assert!(matches!(memory.events().last(), Some(Event::RequestFailed { .. })));
    }
}
