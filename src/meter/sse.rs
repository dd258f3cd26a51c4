//! Server-sent events, cut into data lines and events as they pass (WHATWG HTML, section 9.2.6).
//!
//! Nothing of a line is stored but its field name, so an event of any length costs no memory here.

use memchr::memchr2;

/// The one field that carries JSON; the event's name is repeated in the JSON by every vendor.
const DATA: &[u8] = b"data";

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Bytes of a data line.
    Data(&'a [u8]),
    /// A data line ended.
    DataEnd,
    /// The event ended.
    EventEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the field name; how much of `data` it has been so far.
    Name(usize),
    /// Right after the colon, where one space does not count.
    Colon,
    Data,
    Other,
}

/// Cuts a stream of events.
#[derive(Debug)]
pub(super) struct Cutter {
    state: State,
    after_cr: bool,
}

impl Cutter {
    const LINE_START: State = State::Name(0);

    pub(super) fn new() -> Self {
        Self { state: Self::LINE_START, after_cr: false }
    }

    /// Takes the next bytes and hands over each piece in order.
    pub(super) fn feed(&mut self, mut bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) {
        while !bytes.is_empty() {
            bytes = self.feed_event(bytes, on);
        }
    }

    /// Takes bytes up to the end of an event, or all of them where none ends in them; what is left.
    pub(super) fn feed_event<'a>(&mut self, mut bytes: &'a [u8], on: &mut impl FnMut(Piece<'_>)) -> &'a [u8] {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(&byte) = bytes.first() {
            let line_ends = matches!(byte, b'\n' | b'\r');
            let event_ends = line_ends && self.is_at_line();
            let used = if line_ends { self.end_line(bytes, on) } else { self.within_line(bytes, on) };
            bytes = bytes.get(used..).unwrap_or_default();
            if event_ends {
                break;
            }
        }
        bytes
    }

    /// Whether a line begins here.
    pub(super) fn is_at_line(&self) -> bool {
        self.state == Self::LINE_START && !self.after_cr
    }

    fn end_line(&mut self, bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) -> usize {
        match self.state {
            State::Name(0) => on(Piece::EventEnd),
            State::Name(4) | State::Data | State::Colon => on(Piece::DataEnd),
            State::Name(_) | State::Other => {}
        }
        self.state = Self::LINE_START;
        match bytes {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => {
                self.after_cr = true;
                1
            }
            _ => 1,
        }
    }

    fn within_line(&mut self, bytes: &[u8], on: &mut impl FnMut(Piece<'_>)) -> usize {
        let line = || memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
        match self.state {
            State::Name(matched) => {
                let rest = DATA.get(matched..).unwrap_or_default();
                let here = rest.iter().zip(bytes).take_while(|(name, byte)| name == byte).count();
                self.state = match bytes.get(here) {
                    // The name may go on in the next piece, or the line end here.
                    None | Some(b'\n' | b'\r') => State::Name(matched + here),
                    Some(b':') if matched + here == DATA.len() => State::Colon,
                    // The rest of the line is of no use, whatever it is called.
                    Some(_) => State::Other,
                };
                here + usize::from(self.state == State::Colon)
            }
            State::Colon => {
                self.state = State::Data;
                usize::from(bytes.first() == Some(&b' '))
            }
            State::Data => {
                let line = line();
                on(Piece::Data(bytes.get(..line).unwrap_or_default()));
                line
            }
            State::Other => line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as the lists of their data lines.
    fn events(pieces: &[&[u8]]) -> Vec<Vec<String>> {
        let (mut all, mut event, mut line) = (Vec::new(), Vec::new(), Vec::new());
        let mut cutter = Cutter::new();
        for piece in pieces {
            cutter.feed(piece, &mut |piece| match piece {
                Piece::Data(bytes) => line.extend_from_slice(bytes),
                Piece::DataEnd => event.push(String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned()),
                Piece::EventEnd => all.push(std::mem::take(&mut event)),
            });
        }
        all
    }

    const STREAM: &[u8] =
        b"event: x\ndata: {\"a\":1}\n\n: note\ndata:two\r\ndata:  three\rdata\r\n\r\ndatum: no\nid\ndata:\n\ndata: cut";

    #[test]
    fn data_lines_are_cut_out_of_events() {
        let expected = [vec!["{\"a\":1}"], vec!["two", " three", ""], vec![""]];
        assert_eq!(events(&[STREAM]), expected.map(|lines| lines.into_iter().map(str::to_owned).collect::<Vec<_>>()));
    }

    #[test]
    fn any_split_gives_the_same_events() {
        let whole = events(&[STREAM]);
        for at in 0..STREAM.len() {
            let (first, rest) = STREAM.split_at(at);
            assert_eq!(events(&[first, rest]), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = STREAM.chunks(1).collect();
        assert_eq!(events(&single), whole);
    }
}
