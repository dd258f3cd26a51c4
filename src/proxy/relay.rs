//! Bytes between two streams, each way as they come. What is idle holds no buffer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at a time. It stands on the stack; only what cannot be written at once is kept.
const READ_BYTES: usize = 16 * 1024;

/// One direction.
#[derive(Default)]
pub(super) struct Way {
    kept: Vec<u8>,
    written: usize,
    unflushed: bool,
    ended: bool,
    done: bool,
}

/// Why a direction stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// The reading side broke.
    Read,
    /// The writing side broke.
    Write,
    /// More than may pass.
    TooMuch,
}

impl Way {
    /// Whether the reading side has said that nothing more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Moves what there is. Ready when the reading side ended and the writing side was told, or at a failure. `see` sees
    /// each byte before it passes and may stop it.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        see: &mut impl FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Poll<Result<(), Stop>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.write(cx, writer)).map_err(|_| Stop::Write)?;
            if self.ended {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(|_| Stop::Write)?;
                self.done = true;
                continue;
            }
            let mut space = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut space);
            match Pin::new(&mut *reader).poll_read(cx, &mut read) {
                Poll::Ready(outcome) => outcome.map_err(|_| Stop::Read)?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(|_| Stop::Write)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let bytes = read.filled();
            self.ended = bytes.is_empty();
            see(bytes)?;
            self.pass(cx, writer, bytes).map_err(|_| Stop::Write)?;
        }
    }

    /// Writes what was just read as far as it goes at once, and keeps the rest.
    fn pass<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        mut bytes: &[u8],
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            self.unflushed = true;
            match Pin::new(&mut *writer).poll_write(cx, bytes) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => bytes = bytes.get(count..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.kept = bytes.to_vec();
                    break;
                }
            }
        }
        Ok(())
    }

    fn write<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>> {
        while let Some(rest) = self.kept.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut *writer).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        (self.kept, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}
