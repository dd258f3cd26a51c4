//! A response's body that takes its time, or breaks off, as a script wants it.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// The body broke off because the script says so.
#[derive(Debug, thiserror::Error)]
#[error("the script cuts the connection here")]
pub(super) struct Cut;

/// Chunks, each after a pause, and at the end perhaps a cut instead of an end.
pub(super) struct Paced {
    chunks: VecDeque<Bytes>,
    /// The announced length, where there is one.
    length: Option<u64>,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    cut: bool,
    flushed: bool,
}

impl Paced {
    /// A body known beforehand, whose length is announced.
    pub(super) fn whole(text: String) -> Self {
        let length = u64::try_from(text.len()).ok();
        let mut body = Self::chunks(vec![text], Duration::ZERO);
        body.length = length;
        body
    }

    /// A stream of chunks with a pause before each.
    pub(super) fn chunks(chunks: impl IntoIterator<Item = impl Into<Bytes>>, pause: Duration) -> Self {
        let chunks = chunks.into_iter().map(Into::into).filter(|chunk: &Bytes| !chunk.is_empty()).collect();
        Self { chunks, length: None, pause, timer: None, cut: false, flushed: false }
    }

    /// The same body, cut after so many bytes; a longer limit than the body cuts at its very end.
    pub(super) fn cut_after(mut self, limit: Option<usize>) -> Self {
        let Some(mut left) = limit else { return self };
        self.cut = true;
        for chunk in &mut self.chunks {
            chunk.truncate(left);
            left -= chunk.len();
        }
        self.chunks.retain(|chunk| !chunk.is_empty());
        self
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        if this.chunks.is_empty() {
            if !this.cut {
                return Poll::Ready(None);
            }
            // What was sent so far must reach the client before the cut; the server flushes when nothing is ready.
            if !std::mem::replace(&mut this.flushed, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err(Cut)));
        }
        if !this.pause.is_zero() {
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.pause)));
            ready!(timer.as_mut().poll(cx));
            timer.as_mut().reset(Instant::now() + this.pause);
        }
        Poll::Ready(this.chunks.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && !self.cut
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
