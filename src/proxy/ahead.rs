//! Reading ahead below TLS: TLS asks for 4 KiB at a time, and long bodies come faster than that.
//!
//! A stream that has given as much as it was asked for is read in larger pieces, until it has no more to give. What
//! waits for nothing holds no buffer, so that thousands of idle connections cost none.

use super::writes_through::writes_through;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// How much is read ahead at a time: four of TLS's longest records.
const AHEAD_BYTES: usize = 64 * 1024;

thread_local! {
    /// A buffer that nobody uses at the moment. Bodies come and go in turns, and mostly one is enough for all of them.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A stream whose bytes may have been read already.
pub(super) struct Ahead<S> {
    stream: S,
    /// Holds [`AHEAD_BYTES`], or nothing where nothing is held.
    buffer: Vec<u8>,
    given: usize,
    filled: usize,
    /// Whether more is likely to be there than will be asked for.
    flows: bool,
}

impl<S> Ahead<S> {
    /// Reads a stream, of which nothing is read yet.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), given: 0, filled: 0, flows: false }
    }

    /// Whether something was read that was not asked for yet.
    fn has_more(&self) -> bool {
        self.given < self.filled
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let count = (self.filled - self.given).min(out.remaining());
        out.put_slice(&self.buffer[self.given..self.given + count]);
        self.given += count;
        if self.given == self.filled {
            (self.given, self.filled) = (0, 0);
            if !self.flows {
                self.release();
            }
        }
    }

    fn release(&mut self) {
        if !self.buffer.is_empty() {
            SPARE.set(std::mem::take(&mut self.buffer));
        }
    }
}

impl<S: AsyncRead + Unpin> Ahead<S> {
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            self.buffer = SPARE.take();
            self.buffer.resize(AHEAD_BYTES, 0);
        }
        let mut read = ReadBuf::new(&mut self.buffer);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut read);
        self.filled = read.filled().len();
        self.flows = self.filled == AHEAD_BYTES;
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.has_more() {
            this.give(out);
            return Poll::Ready(Ok(()));
        }
        let room = out.remaining();
        if !this.flows || room >= AHEAD_BYTES {
            let before = out.filled().len();
            let polled = Pin::new(&mut this.stream).poll_read(cx, out);
            this.flows = room > 0 && out.filled().len() - before == room;
            return polled;
        }
        let polled = this.poll_fill(cx);
        if this.filled == 0 {
            this.release();
            return polled;
        }
        this.give(out);
        polled
    }
}

writes_through!(Ahead);

/// A stream over one that is read ahead.
pub(super) trait OverAhead {
    /// Whether more can be read at once.
    fn has_more(&self) -> bool;
}

impl<S> OverAhead for tokio_rustls::client::TlsStream<Ahead<S>> {
    fn has_more(&self) -> bool {
        self.get_ref().0.has_more()
    }
}

impl<S> OverAhead for tokio_rustls::server::TlsStream<Ahead<S>> {
    fn has_more(&self) -> bool {
        self.get_ref().0.has_more()
    }
}

/// Gives as many records at a time as are there and fit, up to [`AHEAD_BYTES`], where TLS gives them one by one. More would
/// not stay in the processor's cache until it is written.
pub(super) struct Gathered<S> {
    stream: S,
}

impl<S> Gathered<S> {
    /// Gathers the records of this stream.
    pub(super) fn new(stream: S) -> Self {
        Self { stream }
    }

    /// The stream.
    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + OverAhead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let mut before = start;
        while out.filled().len() > before
            && out.filled().len() < start + AHEAD_BYTES
            && out.remaining() > 0
            && self.stream.has_more()
        {
            before = out.filled().len();
            // What does not come now comes at the next call, and so does an error: TLS says it again.
            let Poll::Ready(Ok(())) = Pin::new(&mut self.stream).poll_read(cx, out) else { break };
        }
        Poll::Ready(Ok(()))
    }
}

writes_through!(Gathered);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Reads so much at a time as TLS would, and holds every piece against what was sent.
    async fn read_in_pieces(ahead: &mut Ahead<tokio::io::DuplexStream>, sent: &[u8], piece: usize) {
        let (mut seen, mut room) = (0, vec![0; piece]);
        while seen < sent.len() {
            let count = ahead.read(&mut room).await.unwrap();
            assert!(count > 0 && room[..count] == sent[seen..seen + count], "at {seen}");
            seen += count;
        }
    }

    #[tokio::test]
    async fn whatever_is_read_ahead_comes_in_its_order_and_idle_streams_hold_nothing() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut ahead = Ahead::new(server);
        for length in [1, 100, 4096, 4097, AHEAD_BYTES, 3 * AHEAD_BYTES + 17] {
            let sent: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
            client.write_all(&sent).await.unwrap();
            read_in_pieces(&mut ahead, &sent, 4096).await;
            let mut one = [0];
            let waits = std::future::poll_fn(|cx| {
                let mut out = ReadBuf::new(&mut one);
                Poll::Ready(Pin::new(&mut ahead).poll_read(cx, &mut out).is_pending())
            });
            assert!(waits.await && ahead.buffer.is_empty(), "{length}");
        }
        drop(client);
        assert_eq!(ahead.read(&mut [0; 10]).await.unwrap(), 0);
    }
}
