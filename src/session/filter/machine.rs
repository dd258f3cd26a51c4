//! The bytes of a terminal's output become tokens: characters, controls, sequences, strings.
//!
//! Follows the states of Paul Williams' parser of DEC's terminals (vt100.net/emu/dec_ansi_parser), with UTF-8. Where a
//! sequence is malformed, terminals differ; here it is one token that says so, and nothing of it is left over. Controls of
//! the second set (C1), as single bytes or in UTF-8, are never the beginning of anything.

/// Longest control sequence, parameters and intermediates. Colours of both grounds and the underline take some 60.
const SEQUENCE_BYTES_MAX: usize = 256;
/// Longest string (OSC) that is kept, which bounds what one clipboard write may hold. The rest of a longer one is dropped.
pub(super) const STRING_BYTES_MAX: usize = 128 * 1024;
/// Most intermediate bytes of a sequence: no sequence in use has more.
const INTERMEDIATES_MAX: usize = 2;

pub(super) const ESC: u8 = 0x1b;
pub(super) const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;

/// A control sequence: `ESC [`, a marker, parameters, intermediates, a last byte (ECMA-48 §5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence<'a> {
    /// `<`, `=`, `>` or `?`; none in most sequences.
    pub marker: Option<u8>,
    /// Digits, `;` and `:`.
    pub parameters: &'a [u8],
    /// Bytes from space to `/`.
    pub intermediates: &'a [u8],
    /// What it does.
    pub last: u8,
}

/// Strings that are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Introducer {
    /// `ESC P`: device control.
    Device,
    /// `ESC _`: application program command.
    Application,
    /// `ESC ^`: privacy message.
    Privacy,
    /// `ESC X`: start of string.
    Start,
    /// `ESC k`: the title, in `screen` and `tmux`.
    Title,
}

/// What the output is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Whole printable characters in UTF-8.
    Text(&'a [u8]),
    /// A byte that is no character: invalid UTF-8, or a control of the second set.
    Unreadable,
    /// A control of the first set, or DEL.
    Control(u8),
    /// `ESC`, intermediates, a last byte.
    Escape(&'a [u8], u8),
    /// A control sequence.
    Sequence(Sequence<'a>),
    /// An operating system command (OSC), and whether BEL ended it rather than `ESC \`.
    Command(&'a [u8], bool),
    /// Another string, the end of which was reached.
    Dropped(Introducer),
    /// Something that was broken off, too long, or not in the form of anything.
    Malformed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Within a character that takes this many more bytes.
    Character(u8),
    Escape,
    Sequence,
    /// Within a sequence that is not in the form of one.
    Skipped,
    Command,
    /// Within a command that is too long.
    LongCommand,
    Other(Introducer),
    /// After an ESC within a string: the end, if `\` follows.
    CommandEnd,
    OtherEnd(Introducer),
}

/// The parser between two bytes.
#[derive(Debug, Default)]
pub(super) struct Machine {
    state: State,
    marker: Option<u8>,
    parameters: Vec<u8>,
    intermediates: Vec<u8>,
    character: Vec<u8>,
    string: Vec<u8>,
}

impl Machine {
    /// Reads on, and tells of each token once it is whole.
    pub(super) fn feed(&mut self, bytes: &[u8], tell: &mut impl FnMut(Token<'_>)) {
        let mut rest = bytes;
        while let Some(byte) = rest.first() {
            let plain = match self.state {
                State::Ground => rest.iter().take_while(|byte| matches!(byte, 0x20..=0x7e)).count(),
                _ => 0,
            };
            if plain > 0 {
                tell(Token::Text(&rest[..plain]));
                rest = &rest[plain..];
            } else {
                self.step(*byte, tell);
                rest = &rest[1..];
            }
        }
    }

    fn step(&mut self, byte: u8, tell: &mut impl FnMut(Token<'_>)) {
        match (self.state, byte) {
            (State::Ground, _) => self.begin(byte, tell),
            (State::Character(missing), _) => self.character(missing, byte, tell),
            (_, CAN | SUB) => self.break_off(tell),
            (State::Command, ESC) => self.state = State::CommandEnd,
            (State::Other(introducer), ESC) => self.state = State::OtherEnd(introducer),
            (State::CommandEnd, b'\\') => self.command(false, tell),
            (State::OtherEnd(introducer), b'\\') => {
                self.state = State::Ground;
                tell(Token::Dropped(introducer));
            }
            (State::CommandEnd | State::OtherEnd(_), _) => {
                self.break_off(tell);
                self.escape();
                self.step(byte, tell);
            }
            (_, ESC) => {
                self.break_off(tell);
                self.escape();
            }
            (State::Command, BEL) => self.command(true, tell),
            (State::LongCommand, BEL) => self.break_off(tell),
            (State::Command, _) if self.string.len() < STRING_BYTES_MAX => self.string.push(byte),
            (State::Command, _) => self.state = State::LongCommand,
            (State::LongCommand | State::Other(_), _) => {}
            (State::Escape, _) => self.after_escape(byte, tell),
            (State::Sequence | State::Skipped, _) => self.sequence(byte, tell),
        }
    }

    /// A byte after something whole.
    fn begin(&mut self, byte: u8, tell: &mut impl FnMut(Token<'_>)) {
        match byte {
            ESC => self.escape(),
            0x20..=0x7e => tell(Token::Text(&[byte])),
            0x00..=0x1f | 0x7f => tell(Token::Control(byte)),
            _ => {
                let missing = match byte {
                    0xc2..=0xdf => 1,
                    0xe0..=0xef => 2,
                    0xf0..=0xf4 => 3,
                    _ => return tell(Token::Unreadable),
                };
                self.character.clear();
                self.character.push(byte);
                self.state = State::Character(missing);
            }
        }
    }

    /// A byte within a character.
    fn character(&mut self, missing: u8, byte: u8, tell: &mut impl FnMut(Token<'_>)) {
        // The second byte alone tells overlong forms, surrogates and what is above the last character (RFC 3629 §4).
        let expected = match self.character.as_slice() {
            [0xe0] => 0xa0..=0xbf,
            [0xed] => 0x80..=0x9f,
            [0xf0] => 0x90..=0xbf,
            [0xf4] => 0x80..=0x8f,
            _ => 0x80..=0xbf,
        };
        if !expected.contains(&byte) {
            self.state = State::Ground;
            tell(Token::Unreadable);
            return self.begin(byte, tell);
        }
        self.character.push(byte);
        self.state = if missing > 1 { State::Character(missing - 1) } else { State::Ground };
        if missing == 1 {
            let second_set = matches!(self.character.as_slice(), [0xc2, 0x80..=0x9f]);
            tell(if second_set { Token::Unreadable } else { Token::Text(&self.character) });
        }
    }

    fn escape(&mut self) {
        self.state = State::Escape;
        self.intermediates.clear();
    }

    /// A byte after ESC or its intermediates.
    fn after_escape(&mut self, byte: u8, tell: &mut impl FnMut(Token<'_>)) {
        let introduces = self.intermediates.is_empty();
        match byte {
            0x00..=0x1f => tell(Token::Control(byte)),
            0x20..=0x2f if self.intermediates.len() < INTERMEDIATES_MAX => self.intermediates.push(byte),
            b'[' if introduces => {
                self.state = State::Sequence;
                self.marker = None;
                self.parameters.clear();
            }
            b']' if introduces => {
                self.state = State::Command;
                self.string.clear();
            }
            b'P' if introduces => self.state = State::Other(Introducer::Device),
            b'_' if introduces => self.state = State::Other(Introducer::Application),
            b'^' if introduces => self.state = State::Other(Introducer::Privacy),
            b'X' if introduces => self.state = State::Other(Introducer::Start),
            b'k' if introduces => self.state = State::Other(Introducer::Title),
            // The end of a string that was given up.
            b'\\' if introduces => self.state = State::Ground,
            0x30..=0x7e => {
                self.state = State::Ground;
                tell(Token::Escape(&self.intermediates, byte));
            }
            0x7f => {}
            _ => {
                self.break_off(tell);
                self.step(byte, tell);
            }
        }
    }

    /// A byte within a control sequence.
    fn sequence(&mut self, byte: u8, tell: &mut impl FnMut(Token<'_>)) {
        let room = self.parameters.len() + self.intermediates.len() < SEQUENCE_BYTES_MAX;
        let first = self.parameters.is_empty() && self.intermediates.is_empty() && self.marker.is_none();
        match byte {
            // Terminals do what these say and then go on with the sequence.
            0x00..=0x1f => tell(Token::Control(byte)),
            0x7f => {}
            0x40..=0x7e if self.state == State::Skipped => self.break_off(tell),
            0x40..=0x7e => {
                self.state = State::Ground;
                let (parameters, intermediates) = (&self.parameters, &self.intermediates);
                tell(Token::Sequence(Sequence { marker: self.marker, parameters, intermediates, last: byte }));
            }
            b'0'..=b';' if room && self.intermediates.is_empty() => self.parameters.push(byte),
            b'<'..=b'?' if first => self.marker = Some(byte),
            0x20..=0x2f if self.intermediates.len() < INTERMEDIATES_MAX => self.intermediates.push(byte),
            0x20..=0x3f => self.state = State::Skipped,
            _ => {
                self.break_off(tell);
                self.step(byte, tell);
            }
        }
    }

    fn command(&mut self, bell: bool, tell: &mut impl FnMut(Token<'_>)) {
        self.state = State::Ground;
        tell(Token::Command(&self.string, bell));
        // A long one must not keep its memory for the rest of the session.
        self.string = Vec::new();
    }

    fn break_off(&mut self, tell: &mut impl FnMut(Token<'_>)) {
        let within = self.state != State::Escape || !self.intermediates.is_empty();
        self.state = State::Ground;
        self.string = Vec::new();
        if within {
            tell(Token::Malformed);
        }
    }
}
