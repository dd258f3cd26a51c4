//! HTTP/1 read strictly: a head that two readers could take differently never reaches the parser.
//!
//! The parser forgives some of what [RFC 9112] lets it forgive: lines without a carriage return, a `Content-Length`
//! beside a `Transfer-Encoding`, the same length twice. Here each head is looked at as it is on the wire. One that is
//! ambiguous is held back, and the parser meets a byte that it must refuse, so that it answers 400 and closes.
//!
//! [RFC 9112]: https://www.rfc-editor.org/rfc/rfc9112

use super::serve::HEAD_BYTES_MAX;
use super::writes_through::writes_through;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// How much of a line is kept: enough for the names and the numbers that frame a body.
const LINE_BYTES_KEPT: usize = 64;
/// No request begins with this, so a parser that meets it gives up.
const POISON: &[u8] = b"\0";

/// Why a connection was not read on, once it was not.
pub(super) type Flaw = Arc<OnceLock<&'static str>>;

/// A stream of requests, each of them checked before it is given out.
pub(super) struct Strict<S> {
    stream: S,
    reader: Reader,
    /// The beginning of a head that is not complete.
    held: Vec<u8>,
    /// What was held and may be given out, from `given` on.
    ready: Vec<u8>,
    given: usize,
    flaw: Flaw,
    /// Once set, what is read is HTTP no more.
    released: Arc<AtomicBool>,
}

impl<S> Strict<S> {
    /// Reads requests. With `tunnels`, what follows a CONNECT is no request and is not looked at.
    pub(super) fn new(stream: S, tunnels: bool) -> Self {
        let (held, ready, flaw, released) = (Vec::new(), Vec::new(), Flaw::default(), Arc::default());
        Self { stream, reader: Reader::new(tunnels), held, ready, given: 0, flaw, released }
    }

    /// The same, looking no more once this is set.
    pub(super) fn until(self, released: Arc<AtomicBool>) -> Self {
        Self { released, ..self }
    }

    /// Where the reason will be found when the stream is not read on.
    pub(super) fn flaw(&self) -> Flaw {
        self.flaw.clone()
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.given..];
        let count = rest.len().min(out.remaining());
        out.put_slice(&rest[..count]);
        self.given += count;
        if self.given == self.ready.len() {
            self.ready = Vec::new();
            self.given = 0;
        }
    }

    /// Judges what was just read into `out` from `before` on, and takes back what must wait.
    fn judge(&mut self, out: &mut ReadBuf<'_>, before: usize) {
        if self.released.load(Ordering::Acquire) {
            self.reader.state = State::Unread;
        }
        let fresh = &out.filled()[before..];
        let (safe, flaw) = match self.reader.feed(fresh) {
            Ok(safe) => (safe, None),
            Err((safe, flaw)) => (safe, Some(flaw)),
        };
        let rest = fresh.get(safe..).unwrap_or_default();
        if !self.held.is_empty() && safe > 0 {
            // The head that was held is complete; what was read comes after it.
            self.ready = std::mem::take(&mut self.held);
            self.ready.extend_from_slice(&fresh[..safe]);
            self.held.extend_from_slice(rest);
            out.set_filled(before);
        } else {
            self.held.extend_from_slice(rest);
            out.set_filled(before + safe);
        }
        if let Some(flaw) = flaw {
            let _ = self.flaw.set(flaw);
            self.held = Vec::new();
            self.ready.extend_from_slice(POISON);
        } else if self.held.len() > HEAD_BYTES_MAX {
            // The parser has the same limit and says so itself.
            self.reader.state = State::Unread;
            self.ready.append(&mut self.held);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                this.give(out);
                return Poll::Ready(Ok(()));
            }
            if this.flaw.get().is_some() {
                return Poll::Ready(Ok(()));
            }
            let before = out.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
            if out.filled().len() == before {
                // The stream's end, within a head or not, is for the parser to judge.
                this.ready = std::mem::take(&mut this.held);
                this.give(out);
                return Poll::Ready(Ok(()));
            }
            this.judge(out, before);
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

writes_through!(Strict);

/// Where in a request the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a head.
    Head,
    /// In a body, with this much of it to come.
    Body(u64),
    /// In the line that says how long the next chunk is.
    ChunkSize,
    /// In a chunk, with this much of it and its line end to come.
    Chunk(u64),
    /// In the lines after the last chunk.
    Trailers,
    /// Beyond what is looked at: in a tunnel, or in what the parser refuses by itself.
    Unread,
}

/// What the lines of a head have said so far.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    lines: usize,
    connect: bool,
    coded: bool,
    lengths: usize,
    length: Option<u64>,
}

/// Follows requests from byte to byte.
#[derive(Debug)]
struct Reader {
    state: State,
    tunnels: bool,
    head: Head,
    /// The beginning of the line, at most [`LINE_BYTES_KEPT`] of it.
    line: Vec<u8>,
    /// The last byte before the next one.
    last: u8,
}

impl Reader {
    fn new(tunnels: bool) -> Self {
        Self { state: State::Head, tunnels, head: Head::default(), line: Vec::new(), last: 0 }
    }

    /// Takes the next bytes; how many of them are checked. With a flaw, those before the head that has it are.
    fn feed(&mut self, bytes: &[u8]) -> Result<usize, (usize, &'static str)> {
        let (mut at, mut safe) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match self.state {
                State::Unread => rest.len(),
                State::Body(left) => {
                    let used = left.min(rest.len() as u64);
                    self.state = if used == left { State::Head } else { State::Body(left - used) };
                    usize::try_from(used).unwrap_or(rest.len())
                }
                State::Chunk(left) => {
                    let used = left.min(rest.len() as u64);
                    self.state = if used == left { State::ChunkSize } else { State::Chunk(left - used) };
                    usize::try_from(used).unwrap_or(rest.len())
                }
                State::Head | State::ChunkSize | State::Trailers => self.line(rest).map_err(|flaw| (safe, flaw))?,
            };
            if self.state != State::Head || self.head.lines == 0 && self.line.is_empty() {
                safe = at;
            }
        }
        Ok(safe)
    }

    /// Takes bytes up to the end of a line, if it is there; how many.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let text = &bytes[..end.unwrap_or(bytes.len())];
        let room = LINE_BYTES_KEPT.saturating_sub(self.line.len());
        self.line.extend_from_slice(&text[..text.len().min(room)]);
        self.last = text.last().copied().unwrap_or(self.last);
        let Some(end) = end else { return Ok(bytes.len()) };
        let whole = self.line.len() < LINE_BYTES_KEPT;
        let mut line = std::mem::take(&mut self.line);
        let returned = std::mem::replace(&mut self.last, 0) == b'\r';
        if whole && returned {
            line.pop();
        }
        match self.state {
            State::Head if !returned => return Err("a line of its head ends without a carriage return"),
            State::Head => self.head_line(&line, whole)?,
            State::ChunkSize => self.state = chunk(&line, returned, whole)?,
            State::Trailers if !returned => return Err("a line of its trailers ends without a carriage return"),
            State::Trailers if line.is_empty() => self.state = State::Head,
            _ => {}
        }
        Ok(end + 1)
    }

    /// Takes a line of a head, or as much of it as was kept.
    fn head_line(&mut self, line: &[u8], whole: bool) -> Result<(), &'static str> {
        if line.is_empty() {
            // Empty lines before a request do not count.
            if self.head.lines > 0 {
                self.state = std::mem::take(&mut self.head).body(self.tunnels)?;
            }
            return Ok(());
        }
        self.head.lines += 1;
        if self.head.lines == 1 {
            self.head.connect = line.starts_with(b"CONNECT ");
            return Ok(());
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err("a header of it goes on in a second line");
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.head.coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length") && !whole {
            return Err("its Content-Length is longer than any number");
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.head.lengths += 1;
            let digits = value.get(1..).unwrap_or_default().trim_ascii();
            self.head.length = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
        }
        Ok(())
    }
}

impl Head {
    /// What comes after the head.
    fn body(self, tunnels: bool) -> Result<State, &'static str> {
        if self.lengths > 1 {
            return Err("it has more than one Content-Length");
        }
        if self.lengths > 0 && self.coded {
            return Err("it has both a Content-Length and a Transfer-Encoding");
        }
        Ok(match self.length {
            _ if self.connect && tunnels => State::Unread,
            _ if self.coded => State::ChunkSize,
            Some(0) => State::Head,
            Some(length) => State::Body(length),
            None if self.lengths == 0 => State::Head,
            None => State::Unread,
        })
    }
}

/// What comes after the line with a chunk's size (RFC 9112, section 7.1).
fn chunk(line: &[u8], returned: bool, whole: bool) -> Result<State, &'static str> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if end == line.len() && !whole {
        return Err("the size of a chunk is longer than any number");
    }
    let size = std::str::from_utf8(&line[..end]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    Ok(match size {
        Some(0) if returned => State::Trailers,
        Some(size) if returned && size < u64::MAX - 2 => State::Chunk(size + 2),
        _ => State::Unread,
    })
}

#[cfg(test)]
#[path = "strict_tests.rs"]
mod tests;
