//! The first message of a WebSocket, in which some servers want what elsewhere stands in a header: held until it is whole, and given on
//! with the secret where its placeholder stood. All that comes before and after passes as it is.

use super::Shared;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are held for it. What is longer passes as it is, watched like all that follows.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// How much is read at a time.
const READ_BYTES: usize = 4096;
/// The flag of a message's last frame, and the bits that say its kind (RFC 6455, section 5.2).
const LAST: u8 = 0x80;
const KIND: u8 = 0x0f;
/// What is reserved for extensions, none of which is agreed to here.
const RESERVED: u8 = 0x70;
/// The kind of a frame that goes on with a message, and the first of those that are none of a message.
const CONTINUATION: u8 = 0;
const CONTROL: u8 = 8;
const CLOSE: u8 = 8;
/// The flag of a payload that is masked.
const MASKED: u8 = 0x80;
/// The lengths that say in how many bytes the length follows, and the longest that needs none.
const LENGTH_OF_2: u8 = 126;
const LENGTH_OF_8: u8 = 127;

/// A secret's sites, by whose they are and which.
pub(super) type Sites = Vec<(usize, usize)>;

/// A client's WebSocket, of which the first message may get secrets.
pub(super) struct FirstMessage<S> {
    stream: S,
    waits: Option<Waits>,
    /// What is to be given on before anything else.
    ready: Vec<u8>,
}

/// What waits for the message.
struct Waits {
    shared: Arc<Shared>,
    sites: Sites,
    held: Vec<u8>,
}

impl<S> FirstMessage<S> {
    /// Waits for the first message where there are sites in it, and passes everything else on.
    pub(super) fn new(stream: S, shared: &Arc<Shared>, sites: Sites) -> Self {
        let waits = (!sites.is_empty()).then(|| Waits { shared: shared.clone(), sites, held: Vec::new() });
        Self { stream, waits, ready: Vec::new() }
    }

    /// Takes what came; nothing more came where it is empty.
    fn take(&mut self, bytes: &[u8]) {
        let Some(waits) = &mut self.waits else { return };
        waits.held.extend_from_slice(bytes);
        let (shared, sites) = (&waits.shared, &waits.sites);
        match opened(&waits.held, |text| shared.vault.put_into_message(sites, text)) {
            None if waits.held.len() <= HELD_BYTES_MAX && !bytes.is_empty() => {}
            None => self.ready = std::mem::take(&mut waits.held),
            Some(whole) => self.ready = whole,
        }
        if !self.ready.is_empty() {
            self.waits = None;
        }
    }
}

/// What is given on of what a client said, once its first message is there or there can be none: `put` makes the new text of it, where
/// there is one.
fn opened(said: &[u8], put: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (mut rest, mut before) = (said, Vec::new());
    let mut message: Option<(u8, Option<[u8; 4]>, Vec<u8>)> = None;
    let as_it_is = || Some(said.to_vec());
    loop {
        let frame = match Frame::of(rest) {
            Read::Frame(frame) => frame,
            Read::More => return None,
            Read::Unreadable => return as_it_is(),
        };
        let bytes = &rest[..frame.length];
        rest = &rest[frame.length..];
        match (frame.kind, &mut message) {
            (CLOSE, _) => return as_it_is(),
            (CONTROL.., _) => before.extend_from_slice(bytes),
            (CONTINUATION, Some((.., text))) => text.extend(frame.payload),
            (CONTINUATION, None) | (_, Some(_)) => return as_it_is(),
            (kind, None) => message = Some((kind, frame.mask, frame.payload)),
        }
        if let Some((kind, mask, text)) = message.as_ref().filter(|_| frame.last && frame.kind < CONTROL) {
            return match put(text) {
                Some(new) => Some([before, written(*kind, *mask, &new), rest.to_vec()].concat()),
                None => as_it_is(),
            };
        }
    }
}

/// A frame at the beginning of some bytes.
struct Frame {
    kind: u8,
    last: bool,
    mask: Option<[u8; 4]>,
    /// Without the mask.
    payload: Vec<u8>,
    /// How many bytes it is long with its head.
    length: usize,
}

/// What some bytes begin with.
enum Read {
    Frame(Frame),
    /// A part of one.
    More,
    /// None that can be read.
    Unreadable,
}

impl Frame {
    fn of(bytes: &[u8]) -> Read {
        let &[first, second, ..] = bytes else { return Read::More };
        let (kind, length) = (first & KIND, second & !MASKED);
        if first & RESERVED != 0 || (CONTINUATION + 3..CONTROL).contains(&kind) {
            return Read::Unreadable;
        }
        let extended = match length {
            LENGTH_OF_2 => 2,
            LENGTH_OF_8 => 8,
            _ => 0,
        };
        let Some(number) = bytes.get(2..2 + extended) else { return Read::More };
        let number = number.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let length = if extended == 0 { u64::from(length) } else { number };
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= HELD_BYTES_MAX) else {
            return Read::Unreadable;
        };
        let mut head = 2 + extended;
        let mut mask = None;
        if second & MASKED != 0 {
            let Some(found) = bytes.get(head..head + 4).and_then(|found| found.try_into().ok()) else {
                return Read::More;
            };
            (mask, head) = (Some(found), head + 4);
        }
        let Some(payload) = bytes.get(head..head + length) else { return Read::More };
        let payload = masked(payload, mask);
        Read::Frame(Self { kind, last: first & LAST != 0, mask, payload, length: head + length })
    }
}

fn masked(bytes: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mask = mask.unwrap_or_default();
    bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
}

/// A whole message in one frame.
fn written(kind: u8, mask: Option<[u8; 4]>, text: &[u8]) -> Vec<u8> {
    let flag = if mask.is_some() { MASKED } else { 0 };
    let mut bytes = vec![LAST | kind];
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(length @ ..LENGTH_OF_2), _) => bytes.push(flag | length),
        (_, Ok(length)) => {
            bytes.push(flag | LENGTH_OF_2);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(flag | LENGTH_OF_8);
            bytes.extend((text.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.iter().flatten());
    bytes.extend(masked(text, mask));
    bytes
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstMessage<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.ready.is_empty() {
                let count = this.ready.len().min(out.remaining());
                out.put_slice(&this.ready[..count]);
                this.ready.drain(..count);
                return Poll::Ready(Ok(()));
            }
            if this.waits.is_none() {
                return Pin::new(&mut this.stream).poll_read(cx, out);
            }
            let mut space = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            this.take(read.filled());
            if read.filled().is_empty() && this.ready.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstMessage<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

    fn frame(first: u8, text: &[u8]) -> Vec<u8> {
        let mut bytes = written(1, MASK, text);
        bytes[0] = first;
        bytes
    }

    fn put(text: &[u8]) -> Option<Vec<u8>> {
        (text == b"hello there").then(|| vec![b'x'; 300])
    }

    #[test]
    fn the_first_message_is_put_together_and_what_is_around_it_stays() {
        let ping = frame(0x89, b"ping");
        let said =
            [&ping[..], &frame(0x01, b"hello "), &ping, &frame(0x80, b"there"), &frame(0x81, b"hello there")].concat();
        let end = said.len() - frame(0x81, b"hello there").len();
        for cut in 0..end {
            assert_eq!(opened(&said[..cut], put), None, "{cut}");
        }
        let expected = [&ping[..], &ping, &written(1, MASK, &[b'x'; 300]), &said[end..]].concat();
        assert_eq!(opened(&said, put), Some(expected));
    }

    #[test]
    fn every_length_of_a_message_is_read_as_it_was_written() {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
            let text = vec![b'y'; length];
            for mask in [None, MASK] {
                let bytes = written(2, mask, &text);
                let again = opened(&bytes, |found| Some(found.to_vec()));
                assert_eq!(again, Some(bytes), "{length}");
            }
        }
    }

    #[test]
    fn what_is_no_message_or_gets_nothing_passes_as_it_is() {
        let long = [&[0x81, 0xff][..], &70_000_u64.to_be_bytes()].concat();
        for said in [
            frame(0x81, b"other"),
            frame(0xc1, b"hello there"),
            frame(0x83, b"x"),
            frame(0x88, b""),
            frame(0x80, b"x"),
            long,
        ] {
            assert_eq!(opened(&said, put), Some(said.clone()), "{said:?}");
        }
    }
}
