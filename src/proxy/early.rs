//! Answers before the answer (1xx, RFC 9110, section 15.2), such as 103 Early Hints, passed on where both sides speak HTTP/1.
//!
//! hyper tells of those that it reads, and writes none but its own 100. So they are written below it, as soon as
//! everything that it had to say before the request has gone out, and always before the answer that they precede.

use super::Shared;
use super::headers;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::{Request, StatusCode, Version};
use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that wait for a client. What comes beyond them is not passed on: it is advice, and the answer follows.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// What is to be said early on one connection.
#[derive(Clone, Default)]
pub(super) struct Early(Arc<Mutex<Place>>);

#[derive(Default)]
struct Place {
    /// How many requests have come.
    turn: u64,
    /// Whether the last of them waits for its answer.
    awaited: bool,
    /// Whether all that was said before it has gone out.
    clear: bool,
    /// What is to be said.
    heads: Vec<u8>,
    /// Who says it.
    waker: Option<Waker>,
}

/// A request that waits for its answer, until this is dropped.
pub(super) struct Awaited {
    early: Early,
    turn: u64,
}

/// Says something to whoever sent a request.
pub(super) struct Teller {
    early: Early,
    turn: u64,
    shared: Arc<Shared>,
}

impl Early {
    /// A request has come.
    pub(super) fn begin<B>(&self, request: &Request<B>) -> Awaited {
        let mut place = self.lock();
        place.turn += 1;
        // A client of HTTP/1.0 knows of no such answers.
        place.awaited = request.version() == Version::HTTP_11;
        place.clear = false;
        place.heads.clear();
        Awaited { early: self.clone(), turn: place.turn }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// What says something to its client.
    pub(super) fn teller(&self, shared: Arc<Shared>) -> Teller {
        Teller { early: self.early.clone(), turn: self.turn, shared }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut place = self.early.lock();
        if place.turn == self.turn {
            place.awaited = false;
        }
    }
}

impl Teller {
    /// Passes on what its upstream says early.
    pub(super) fn tell(&self, status: StatusCode, headers: &HeaderMap) {
        // Leave to send a body was the proxy's to give.
        if status == StatusCode::CONTINUE {
            return;
        }
        let mut headers = headers.clone();
        headers::clean_response(&mut headers);
        headers.remove(CONTENT_LENGTH);
        self.shared.vault.redact(&mut headers);
        let head = written(status, &headers);
        let mut place = self.early.lock();
        if place.turn == self.turn && place.awaited && place.heads.len() + head.len() <= WAITING_BYTES_MAX {
            place.heads.extend(head);
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }
}

fn written(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::new();
    let reason = status.canonical_reason().unwrap_or_default();
    // A vector takes whatever is written to it.
    let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", status.as_str());
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A client's stream, on which something is said early.
pub(super) struct Outspoken<S> {
    stream: S,
    early: Early,
    /// What is being said, from `said` on. Nothing else is written before it is.
    saying: Vec<u8>,
    said: usize,
}

impl<S> Outspoken<S> {
    /// Says on this stream what is to be said early.
    pub(super) fn new(stream: S, early: Early) -> Self {
        Self { stream, early, saying: Vec::new(), said: 0 }
    }
}

impl<S: AsyncWrite + Unpin> Outspoken<S> {
    fn poll_say(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.said < self.saying.len() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.saying[self.said..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.said += count;
        }
        (self.saying, self.said) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Says what is to be said, unless it stands behind something that has not gone out.
    fn poll_say_early(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_say(cx))?;
        let mut place = self.early.lock();
        if !place.clear || place.heads.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.saying = std::mem::take(&mut place.heads);
        drop(place);
        self.poll_say(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outspoken<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outspoken<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_say_early(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_say_early(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write: whatever was said before the request has gone out.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut place = self.early.lock();
        if place.awaited {
            place.clear = true;
            if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                place.waker = Some(cx.waker().clone());
            }
        }
        drop(place);
        ready!(self.poll_say_early(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_say(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
