//! Amazon's event stream, `application/vnd.amazon.eventstream`: messages with headers, a payload and checksums.
//!
//! Format: https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html (prelude, headers of named values, payload, each
//! with a CRC-32). One message is kept at a time, up to a bound.

/// Longest message: the most that the vendor's own libraries take.
const MESSAGE_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Longest message that is kept. Those that report usage have a few hundred bytes, and what is longer is content.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Two lengths and their checksum.
const PRELUDE_BYTES: usize = 12;
/// A message's checksum.
const CRC_BYTES: usize = 4;
/// The header that names an event.
const EVENT_TYPE: &[u8] = b":event-type";
/// The header that says what kind of message it is: an event, an exception, an error.
const MESSAGE_TYPE: &[u8] = b":message-type";
/// A header's value that is text.
const TEXT: u8 = 7;

/// What the stream turned out to hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// An event of that name.
    Event(&'a str, &'a [u8]),
    /// An error instead of an event.
    Failure,
    /// Something that is no message. Nothing after it is read.
    Damage,
}

/// Cuts a stream into messages.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    kept: Vec<u8>,
    /// How much of a message is still to be passed over, since it is too long to matter.
    over: usize,
    broken: bool,
}

impl Cutter {
    /// Takes the next bytes and hands over each message in order.
    pub(super) fn feed(&mut self, mut bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() && !self.broken {
            let passed = self.over.min(bytes.len());
            self.over -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let Some(missing) = self.missing() else {
                self.broken = true;
                return on(Piece::Damage);
            };
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            self.kept.extend_from_slice(taken);
            bytes = rest;
            self.end_message(on);
        }
    }

    /// Whether the stream ends between two messages.
    pub(super) fn is_between(&self) -> bool {
        self.kept.is_empty() && self.over == 0 && !self.broken
    }

    /// How much is missing to the prelude's or the message's end; none where it can be no message.
    fn missing(&self) -> Option<usize> {
        let Some(length) = self.length() else { return Some(PRELUDE_BYTES - self.kept.len()) };
        (PRELUDE_BYTES + CRC_BYTES..=MESSAGE_BYTES_MAX)
            .contains(&length)
            .then(|| length.saturating_sub(self.kept.len()))
    }

    fn length(&self) -> Option<usize> {
        let prelude = self.kept.get(..PRELUDE_BYTES)?;
        usize::try_from(number(prelude, 0)?).ok()
    }

    fn end_message(&mut self, on: &mut impl FnMut(Piece<'_>)) {
        let Some(length) = self.length() else { return };
        if self.kept.len() == PRELUDE_BYTES && length > KEPT_BYTES_MAX {
            (self.over, self.kept) = (length - PRELUDE_BYTES, Vec::new());
            return;
        }
        if self.kept.len() < length {
            return;
        }
        let message = std::mem::take(&mut self.kept);
        match read(&message) {
            Some(piece) => on(piece),
            None => {
                self.broken = true;
                on(Piece::Damage);
            }
        }
    }
}

/// A whole message; none where its checksums or its headers are wrong.
fn read(message: &[u8]) -> Option<Piece<'_>> {
    let (body, crc) = message.split_at(message.len().checked_sub(CRC_BYTES)?);
    let prelude = body.get(..PRELUDE_BYTES - CRC_BYTES)?;
    if number(crc, 0)? != crc32(body) || number(body, PRELUDE_BYTES - CRC_BYTES)? != crc32(prelude) {
        return None;
    }
    let headers_length = usize::try_from(number(body, 4)?).ok()?;
    let rest = body.get(PRELUDE_BYTES..)?;
    let (mut headers, payload) = (rest.get(..headers_length)?, rest.get(headers_length..)?);
    let (mut event, mut kind) = (&b""[..], &b"event"[..]);
    while !headers.is_empty() {
        let (name, value, after) = header(headers)?;
        match name {
            EVENT_TYPE => event = value,
            MESSAGE_TYPE => kind = value,
            _ => {}
        }
        headers = after;
    }
    Some(if kind == b"event" { Piece::Event(std::str::from_utf8(event).ok()?, payload) } else { Piece::Failure })
}

/// One header, and what follows it: a name, and a value of text or of a length that its type tells.
fn header(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    let (&kind, rest) = rest.split_first()?;
    let (length, rest) = match kind {
        0 | 1 => (0, rest),
        2 => (1, rest),
        3 => (2, rest),
        4 => (4, rest),
        5 | 8 => (8, rest),
        6 | TEXT => {
            let (length, rest) = rest.split_at_checked(2)?;
            (usize::from(u16::from_be_bytes(length.try_into().ok()?)), rest)
        }
        9 => (16, rest),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((name, value, rest))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// CRC-32 as in ISO 3309, of which Ethernet and zlib use the same.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let index = (crc ^ u32::from(*byte)) & 0xff;
        TABLE.get(index as usize).copied().unwrap_or_default() ^ (crc >> 8)
    };
    !bytes.iter().fold(!0, step)
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// A message as a sender makes it, for tests.
#[cfg(test)]
pub(super) fn message(kind: &str, event: &str, payload: &[u8]) -> Vec<u8> {
    let text = |name: &[u8], value: &str| {
        let length = u16::try_from(value.len()).unwrap_or_default().to_be_bytes();
        [&[u8::try_from(name.len()).unwrap_or_default()], name, &[TEXT], &length, value.as_bytes()].concat()
    };
    let headers = [text(MESSAGE_TYPE, kind), text(EVENT_TYPE, event)].concat();
    let whole = PRELUDE_BYTES + headers.len() + payload.len() + CRC_BYTES;
    let lengths = [whole, headers.len()].map(|length| u32::try_from(length).unwrap_or_default().to_be_bytes()).concat();
    let body = [&lengths[..], &crc32(&lengths).to_be_bytes(), &headers, payload].concat();
    [&body[..], &crc32(&body).to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], piece: usize) -> Vec<String> {
        let (mut cutter, mut all) = (Cutter::default(), Vec::new());
        for part in bytes.chunks(piece) {
            cutter.feed(part, &mut |piece| all.push(format!("{piece:?}")));
        }
        if !cutter.is_between() {
            all.push("open".to_owned());
        }
        all
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let bytes =
            [message("event", "metadata", b"{}"), message("exception", "x", b""), message("event", "a", b"!")].concat();
        for piece in [1, 2, 3, 7, 50, 1000] {
            assert_eq!(read_all(&bytes, piece), ["Event(\"metadata\", [123, 125])", "Failure", "Event(\"a\", [33])"]);
        }
        assert_eq!(read_all(&bytes[..bytes.len() - 1], 9).last().map(String::as_str), Some("open"));
    }

    #[test]
    fn what_is_damaged_ends_the_reading() {
        let good = message("event", "metadata", b"{}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            let read = read_all(&[&bad[..], &good].concat(), 11);
            assert!(read.iter().all(|piece| !piece.starts_with("Event")), "{at}: {read:?}");
        }
    }

    #[test]
    fn a_long_message_is_passed_over() {
        let bytes = [message("event", "big", &vec![b'x'; 2 * KEPT_BYTES_MAX]), message("event", "a", b"!")].concat();
        assert_eq!(read_all(&bytes, 10_000), ["Event(\"a\", [33])"]);
    }
}
