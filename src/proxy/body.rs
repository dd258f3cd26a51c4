//! Bodies on their way through: frame by frame, trailers included, nothing held back, with an eye on each.

use super::Shared;
use super::headers;
use super::patience::Begun;
use super::pool::Passage;
use super::remainder::Attended;
use super::rinse::Rinse;
use super::screen::Screen;
use super::settle::{Open, Upload};
use super::standing::Standing;
use crate::model::BodyEnd;
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// How much of a refused request's body is read, so that its client gets to read the answer.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long that may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a body breaks off.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A client's body, of which something may have been read already.
pub(super) struct Held {
    begun: Bytes,
    /// None where it was made here.
    rest: Option<Incoming>,
    /// Trailers that were read ahead.
    trailers: Option<HeaderMap>,
}

impl Held {
    /// A body of which nothing was read.
    pub(super) fn untouched(rest: Incoming) -> Self {
        Self::new(Bytes::new(), rest)
    }

    /// A body with what was read of it.
    pub(super) fn new(begun: Bytes, rest: Incoming) -> Self {
        Self { begun, rest: Some(rest), trailers: None }
    }

    /// A body that no client sent.
    pub(super) fn made_here(body: Bytes) -> Self {
        Self { begun: body, rest: None, trailers: None }
    }

    /// What was read of it: all of it, where it is read whole.
    pub(super) fn begun(&self) -> &[u8] {
        &self.begun
    }

    /// The same body, of which this was read.
    pub(super) fn with(self, begun: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self { begun, trailers, ..self }
    }

    /// The same body with what was read of it made into something else.
    pub(super) fn made(self, make: impl FnOnce(Bytes) -> Bytes) -> Self {
        Self { begun: make(self.begun), ..self }
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if !self.begun.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.begun)))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        self.rest.as_mut().map_or(Poll::Ready(None), |rest| Pin::new(rest).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.trailers.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        longer(&rest, self.begun.len() as u64)
    }
}

/// The size of what has so many bytes in front.
fn longer(rest: &SizeHint, more: u64) -> SizeHint {
    let mut hint = SizeHint::new();
    hint.set_lower(rest.lower().saturating_add(more));
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper.saturating_add(more));
    }
    hint
}

/// A request's body on its way to the upstream.
pub(super) struct RequestBody {
    inner: Held,
    upload: Arc<Upload>,
    /// What looks for placeholders in it, unless it was read whole.
    screen: Option<(Arc<Shared>, Screen)>,
    /// What is judged again where secret files are watched.
    goes_on: Option<(Arc<Shared>, Arc<Standing>)>,
}

impl RequestBody {
    /// Lets `upload` see what passes, and `screen` and `goes_on` stop it. In a box, since hyper makes room for many requests at
    /// a time on each connection.
    pub(super) fn new(
        inner: Held,
        upload: Arc<Upload>,
        screen: Option<(Arc<Shared>, Screen)>,
        goes_on: Option<(Arc<Shared>, Arc<Standing>)>,
    ) -> Box<Self> {
        Box::new(Self { inner, upload, screen, goes_on })
    }

    /// Whether a frame may pass.
    fn look(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        if let Some((shared, standing)) = &self.goes_on {
            shared.policy.goes_on(standing).inspect_err(|why| self.upload.stop((*why).to_owned()))?;
        }
        if let Some(bytes) = frame.data_ref() {
            self.upload.chunk(bytes)?;
        }
        let Some((shared, screen)) = &mut self.screen else { return Ok(()) };
        let looked = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(bytes), _) => shared.vault.look(screen, bytes),
            (None, Some(trailers)) => shared.vault.look_at_trailers(trailers),
            (None, None) => Ok(()),
        };
        Ok(looked.inspect_err(|misplaced| self.upload.stop(misplaced.to_string()))?)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Err(error) = self.look(frame)
        {
            return Poll::Ready(Some(Err(error)));
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body on its way to the client.
pub(super) enum ResponseBody {
    /// The proxy's own words.
    Text(Full<Bytes>),
    /// What the upstream sends.
    Stream(Attended),
    /// What began before it was decided.
    Begun(Box<Begun>),
}

/// An upstream's body, the request it settles, and the place on its connection that it takes as long as it lasts.
pub(super) struct Streamed {
    inner: Incoming,
    open: Open,
    shared: Arc<Shared>,
    passage: Passage,
    /// What takes secrets out of it.
    rinse: Option<Rinse>,
    /// Trailers that wait for what is held back.
    trailers: Option<HeaderMap>,
    /// Whether it was cut off, and nothing follows.
    cut: bool,
}

impl ResponseBody {
    /// A short text.
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Full::new(text.into()))
    }

    /// The upstream's body, which settles the request when it ends.
    pub(super) fn stream(
        inner: Incoming,
        open: Open,
        shared: Arc<Shared>,
        passage: Passage,
        rinse: Option<Rinse>,
    ) -> Self {
        let mut streamed = Streamed { inner, open, shared, passage, rinse, trailers: None, cut: false };
        streamed.settle_if_over();
        Self::Stream(Attended::new(streamed))
    }
}

impl Streamed {
    /// A body of known length is never asked again after its last byte, so the end must be seen here.
    fn settle_if_over(&mut self) {
        if self.inner.is_end_stream() {
            self.passage.end();
            self.open.end(BodyEnd::Complete);
        }
    }

    /// Whether it is a model's answer whose end is still to come, and would say what it cost.
    pub(super) fn has_a_bill_to_come(&self) -> bool {
        !self.cut && self.open.has_a_bill_to_come() && !self.inner.is_end_stream()
    }

    /// What all requests share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads on for the bill alone: how many bytes came, as long as any may.
    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let polled = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match polled {
            Some(Ok(frame)) => {
                let bytes = frame.into_data().unwrap_or_default();
                let goes_on = self.open.chunk(&bytes).is_ok() && self.open.cut().is_none();
                goes_on.then_some(bytes.len())
            }
            Some(Err(_)) => None,
            None => {
                self.passage.end();
                self.open.end_unheard();
                None
            }
        })
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.cut {
            return Poll::Ready(None);
        }
        if let Some(words) = self.open.cut() {
            self.cut = true;
            self.open.end(BodyEnd::BudgetReached);
            return Poll::Ready(Some(Ok(Frame::data(words))));
        }
        loop {
            if let Some(rinse) = self.rinse.as_mut().filter(|rinse| rinse.has_more()) {
                let rinsed = rinse.next(&self.shared.vault.scrub(), &Bytes::new());
                match self.rinsed(rinsed) {
                    Ok(frame) if frame.data_ref().is_some_and(Bytes::is_empty) => continue,
                    rinsed => return Poll::Ready(Some(rinsed)),
                }
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
            let mut polled = Pin::new(&mut self.inner).poll_frame(cx);
            match &mut polled {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(bytes) = frame.data_ref() {
                        if let Err(too_much) = self.open.chunk(bytes) {
                            self.open.end(BodyEnd::QuotaReached);
                            return Poll::Ready(Some(Err(too_much.into())));
                        }
                    } else if let Some(trailers) = frame.trailers_mut() {
                        headers::clean_response(trailers);
                        self.shared.vault.redact(trailers);
                    }
                    self.settle_if_over();
                }
                Poll::Ready(Some(Err(_))) => self.open.end(BodyEnd::UpstreamBroke),
                Poll::Ready(None) => {
                    self.passage.end();
                    self.open.end(BodyEnd::Complete);
                }
                Poll::Pending => {}
            }
            match self.rinse(polled) {
                // All of it is held back: what comes next tells.
                Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                rinsed => return rinsed,
            }
        }
    }

    /// Takes secrets out of a frame, and lets what was held back go before the end.
    fn rinse(
        &mut self,
        polled: Poll<Option<Result<Frame<Bytes>, hyper::Error>>>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(rinse) = &mut self.rinse else { return polled.map_err(Into::into) };
        let frame = match polled {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(None) if rinse.held() > 0 => return Poll::Ready(Some(Ok(Frame::data(rinse.end())))),
            other => return other.map_err(Into::into),
        };
        Poll::Ready(Some(match (frame.into_data(), rinse.held()) {
            (Ok(bytes), _) => {
                let rinsed = rinse.next(&self.shared.vault.scrub(), &bytes);
                self.rinsed(rinsed)
            }
            (Err(frame), 0) => Ok(frame),
            (Err(frame), _) => {
                self.trailers = frame.into_trailers().ok();
                Ok(Frame::data(rinse.end()))
            }
        }))
    }

    fn rinsed(&mut self, rinsed: Result<Bytes, &'static str>) -> Result<Frame<Bytes>, BodyError> {
        rinsed.map(Frame::data).map_err(|broken| {
            self.open.end(BodyEnd::UpstreamBroke);
            broken.into()
        })
    }

    fn is_over(&self) -> bool {
        let held = self.rinse.as_ref().map_or(0, Rinse::held);
        let waits = self.rinse.as_ref().is_some_and(Rinse::has_more);
        held == 0 && !waits && self.trailers.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.inner.size_hint();
        match &self.rinse {
            None => hint,
            Some(rinse) if rinse.changes_length() => SizeHint::default(),
            Some(rinse) => longer(&hint, rinse.held() as u64),
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Stream(attended) => attended.body_mut().map_or(Poll::Ready(None), |body| body.poll_frame(cx)),
            Self::Begun(begun) => begun.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Stream(attended) => attended.body().is_none_or(Streamed::is_over),
            Self::Begun(begun) => begun.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Stream(attended) => attended.body().map(Streamed::size_hint).unwrap_or_default(),
            Self::Begun(_) => SizeHint::default(),
        }
    }
}

/// Reads away what a refused request still sends. A client that is writing when the connection closes may never see
/// the answer.
pub(super) async fn drain(body: impl Body<Data = Bytes> + Unpin) {
    drain_up_to(body, DRAIN_BYTES_MAX, DRAIN_TIMEOUT).await;
}

/// Reads away so much of a body, for so long.
pub(super) async fn drain_up_to(mut body: impl Body<Data = Bytes> + Unpin, bytes_max: usize, timeout: Duration) {
    let reading = async {
        let mut total = 0;
        while let Some(Ok(frame)) = body.frame().await {
            total += frame.data_ref().map_or(0, Bytes::len);
            if total > bytes_max {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(timeout, reading).await;
}
