//! Keys out of what a terminal sends. What it sends in sequences, such as its answers to what was asked of it, the mouse and
//! what is pasted, is no key of anybody's.

/// Longest sequence that is waited for the end of, in bytes; a longer one is given up, and its rest read as keys of no meaning.
const SEQUENCE_BYTES_MAX: usize = 4096;
/// What stands before and behind what is pasted.
const PASTE_BEGINS: &[u8] = b"200";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// What was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A printable character of ASCII.
    Letter(char),
    Enter,
    Backspace,
    Escape,
    /// Ctrl-C.
    Interrupt,
    /// Any other key.
    Unknown,
    /// Nothing that was typed.
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Behind `ESC [`, with what came of it.
    Sequence(Vec<u8>),
    /// Behind `ESC O`.
    Single,
    /// In a string (`ESC ]`, `P`, `X`, `^`, `_`), and whether the last byte was an `ESC`.
    Text(usize, bool),
    /// Behind `ESC [ M`: an old report of the mouse, so many bytes to come.
    Mouse(u8),
    /// In what is pasted, with its last bytes.
    Paste(Vec<u8>),
}

/// A reader of keys between two reads.
#[derive(Debug, Default)]
pub(super) struct Keys(State);

impl Keys {
    /// The keys in what came.
    pub(super) fn read(&mut self, typed: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        let mut rest = typed;
        while let [byte, after @ ..] = rest {
            rest = after;
            self.0 = match std::mem::take(&mut self.0) {
                State::Ground if *byte == 0x1b => match after {
                    [b'[', more @ ..] => {
                        rest = more;
                        State::Sequence(Vec::new())
                    }
                    [b'O', more @ ..] => {
                        rest = more;
                        State::Single
                    }
                    [b']' | b'P' | b'X' | b'^' | b'_', more @ ..] => {
                        rest = more;
                        State::Text(0, false)
                    }
                    // With another key: Alt.
                    [_, more @ ..] => {
                        rest = more;
                        keys.push(Key::Unknown);
                        State::Ground
                    }
                    [] => {
                        keys.push(Key::Escape);
                        State::Ground
                    }
                },
                State::Ground => {
                    keys.push(plain(*byte));
                    State::Ground
                }
                State::Sequence(begun) => sequence(begun, *byte, &mut keys),
                State::Single => {
                    keys.push(Key::Unknown);
                    State::Ground
                }
                State::Text(..) if *byte == 0x07 => ended(&mut keys),
                State::Text(_, true) if *byte == b'\\' => ended(&mut keys),
                State::Text(length, _) if length < SEQUENCE_BYTES_MAX => State::Text(length + 1, *byte == 0x1b),
                State::Text(..) => ended(&mut keys),
                State::Mouse(0 | 1) => ended(&mut keys),
                State::Mouse(left) => State::Mouse(left - 1),
                State::Paste(last) => paste(last, *byte, &mut keys),
            };
        }
        keys
    }
}

fn ended(keys: &mut Vec<Key>) -> State {
    keys.push(Key::Other);
    State::Ground
}

fn sequence(mut begun: Vec<u8>, byte: u8, keys: &mut Vec<Key>) -> State {
    match byte {
        b'M' if begun.is_empty() => return State::Mouse(3),
        b'~' if begun == PASTE_BEGINS => return State::Paste(Vec::new()),
        0x40..=0x7e => keys.push(meaning(&begun, byte)),
        0x20..=0x3f if begun.len() < SEQUENCE_BYTES_MAX => {
            begun.push(byte);
            return State::Sequence(begun);
        }
        _ => keys.push(Key::Unknown),
    }
    State::Ground
}

/// Keys of kitty's protocol, without anything held; cursor keys and the like; the terminal's own answers.
fn meaning(begun: &[u8], last: u8) -> Key {
    match (begun, last) {
        (code, b'u') if code.iter().all(u8::is_ascii_digit) => {
            let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
            code.map_or(Key::Unknown, plain)
        }
        (code, b'u') if !code.starts_with(b"?") => Key::Unknown,
        (b"", _) | (_, b'~' | b'A' | b'B' | b'C' | b'D' | b'F' | b'H') => Key::Unknown,
        _ => Key::Other,
    }
}

fn paste(mut last: Vec<u8>, byte: u8, keys: &mut Vec<Key>) -> State {
    last.push(byte);
    if last.ends_with(PASTE_ENDS) {
        keys.push(Key::Unknown);
        return State::Ground;
    }
    let more = last.len().saturating_sub(PASTE_ENDS.len());
    last.drain(..more);
    State::Paste(last)
}

fn plain(byte: u8) -> Key {
    match byte {
        b'\r' | b'\n' => Key::Enter,
        0x03 => Key::Interrupt,
        0x1b => Key::Escape,
        0x08 | 0x7f => Key::Backspace,
        b' '..=b'~' => Key::Letter(char::from(byte)),
        _ => Key::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Key::{Backspace, Enter, Escape, Interrupt, Letter, Other, Unknown};

    fn read(pieces: &[&[u8]]) -> Vec<Key> {
        let mut keys = Keys::default();
        pieces.iter().flat_map(|piece| keys.read(piece)).collect()
    }

    #[test]
    fn keys_are_keys_in_either_protocol() {
        assert_eq!(read(&[b"o\r"]), [Letter('o'), Enter]);
        assert_eq!(read(&[b"\x1b[111u\x1b[13u\x1b[27u"]), [Letter('o'), Enter, Escape]);
        assert_eq!(read(&[b"\x03\x7f\x1b"]), [Interrupt, Backspace, Escape]);
        assert_eq!(read(&[b"\x1b[A\x1bOB\x1b[111;5u\x1bo\x1b[3~"]), [Unknown; 5]);
    }

    #[test]
    fn nothing_that_a_terminal_sends_by_itself_is_a_key() {
        let answers: [&[u8]; 7] = [
            b"\x1b[?62;22c",
            b"\x1b[12;40R",
            b"\x1b]11;rgb:dddd/dddd/dddd\x1b\\",
            b"\x1bP>|name o\r\x1b\\",
            b"\x1b[<0;12;3M",
            b"\x1b[Mo\r!",
            b"\x1b[?1u",
        ];
        for answer in answers {
            assert_eq!(read(&[answer]), [Other], "{answer:?}");
            for at in 2..answer.len() {
                assert_eq!(read(&[&answer[..at], &answer[at..]]), [Other], "{answer:?} {at}");
            }
        }
        assert_eq!(read(&[b"\x1b[200~o\ro\r", b"\x1b[20", b"1~o"]), [Unknown, Letter('o')]);
    }
}
