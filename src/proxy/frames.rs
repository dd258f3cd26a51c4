//! WebSocket frames, read as they pass in one direction (RFC 6455, section 5; RFC 7692 for compressed messages).
//!
//! This only looks: what passes is never changed, and what cannot be read stops the looking, not the stream. Memory is
//! constant: a few bytes of a frame's head, and one window where messages are compressed.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// Longest head of a frame: two bytes, eight of length, four of mask.
const HEAD_BYTES_MAX: usize = 14;
/// How much is unmasked or inflated at a time.
const PIECE_BYTES: usize = 4096;
/// Most bytes of one inflated message. More than this is a bomb, and no longer read.
const MESSAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What a sender leaves out at the end of each compressed message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

/// A piece of what was said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Bytes of a text message, unmasked and inflated.
    Text(&'a [u8]),
    /// Bytes of a binary message, likewise.
    Binary(&'a [u8]),
    /// The text message ended.
    End,
}

/// How one direction's messages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deflate {
    /// Not at all.
    Off,
    /// Each by itself.
    Each,
    /// Each with what came before as its context.
    Takeover,
}

/// Reads the frames of one direction.
pub(super) struct Frames {
    deflate: Deflate,
    head: Vec<u8>,
    frame: Option<Frame>,
    message: Option<Message>,
    window: Option<Box<InflateState>>,
    closed: bool,
    unreadable: bool,
}

/// The frame whose payload is passing.
struct Frame {
    left: u64,
    mask: Option<[u8; 4]>,
    at: usize,
    last: bool,
    opcode: u8,
}

#[derive(Clone, Copy)]
struct Message {
    text: bool,
    compressed: bool,
    inflated: u64,
}

impl Message {
    fn piece<'a>(&self, bytes: &'a [u8]) -> Piece<'a> {
        if self.text { Piece::Text(bytes) } else { Piece::Binary(bytes) }
    }
}

impl Frames {
    /// Reads from the first byte after the handshake.
    pub(super) fn new(deflate: Deflate) -> Self {
        let (head, frame, message, window) = (Vec::new(), None, None, None);
        Self { deflate, head, frame, message, window, closed: false, unreadable: false }
    }

    /// Whether a closing frame has passed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether something passed that could not be read.
    pub(super) fn is_unreadable(&self) -> bool {
        self.unreadable
    }

    /// Takes the next bytes, split anywhere. With `on`, hands over each piece of what is said in order.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut on: Option<&mut dyn FnMut(Piece<'_>)>) {
        while !self.unreadable && (!bytes.is_empty() || self.frame.as_ref().is_some_and(|frame| frame.left == 0)) {
            let read = match self.frame.take() {
                None => self.begin(&mut bytes),
                Some(frame) => self.payload(frame, &mut bytes, &mut on),
            };
            self.unreadable = read.is_none();
        }
        if self.unreadable {
            (self.head, self.window) = (Vec::new(), None);
        }
    }

    /// Takes what is there of a frame's head.
    fn begin(&mut self, bytes: &mut &[u8]) -> Option<()> {
        while let Some((byte, rest)) = bytes.split_first() {
            self.head.push(*byte);
            *bytes = rest;
            if let Some(frame) = Frame::of(&self.head) {
                let flags = self.head[0] & 0x70;
                self.head.clear();
                self.frame = Some(frame?);
                return self.open(flags);
            }
            if self.head.len() >= HEAD_BYTES_MAX {
                return None;
            }
        }
        Some(())
    }

    /// Judges the frame that begins.
    fn open(&mut self, flags: u8) -> Option<()> {
        let opcode = self.frame.as_ref()?.opcode;
        let compressed = flags == 0x40 && self.deflate != Deflate::Off;
        match opcode {
            TEXT | BINARY if self.message.is_none() && (flags == 0 || compressed) => {
                self.message = Some(Message { text: opcode == TEXT, compressed, inflated: 0 });
            }
            CONTINUATION if self.message.is_some() && flags == 0 => {}
            CLOSE if flags == 0 => self.closed = true,
            9 | 10 if flags == 0 => {}
            _ => return None,
        }
        Some(())
    }

    fn payload(
        &mut self,
        mut frame: Frame,
        bytes: &mut &[u8],
        on: &mut Option<&mut dyn FnMut(Piece<'_>)>,
    ) -> Option<()> {
        let here = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
        let (mine, rest) = bytes.split_at(here);
        *bytes = rest;
        frame.left -= here as u64;
        let data = frame.opcode <= BINARY;
        if let Some(on) = on.as_deref_mut().filter(|_| data) {
            let mut plain = [0; PIECE_BYTES];
            for piece in mine.chunks(PIECE_BYTES) {
                let plain = &mut plain[..piece.len()];
                plain.copy_from_slice(piece);
                frame.unmask(plain);
                self.said(plain, on)?;
            }
        }
        if frame.left > 0 {
            self.frame = Some(frame);
        } else if data && frame.last {
            let message = self.message?;
            if let Some(on) = on.as_deref_mut() {
                if message.compressed {
                    self.said(&TAIL, on)?;
                }
                if message.text {
                    on(Piece::End);
                }
            }
            if self.deflate != Deflate::Takeover {
                self.window = None;
            }
            self.message = None;
        }
        Some(())
    }

    /// Takes payload of the message, unmasked.
    fn said(&mut self, bytes: &[u8], on: &mut dyn FnMut(Piece<'_>)) -> Option<()> {
        let message = self.message.as_mut()?;
        if !message.compressed {
            on(message.piece(bytes));
            return Some(());
        }
        let window = self.window.get_or_insert_with(|| InflateState::new_boxed(DataFormat::Raw));
        let (mut input, mut plain) = (bytes, [0; PIECE_BYTES]);
        loop {
            let step = inflate(window, input, &mut plain, MZFlush::None);
            input = input.get(step.bytes_consumed..)?;
            message.inflated += step.bytes_written as u64;
            if message.inflated > MESSAGE_BYTES_MAX {
                return None;
            }
            if step.bytes_written > 0 {
                on(message.piece(&plain[..step.bytes_written]));
            }
            match step.status {
                Ok(MZStatus::Ok) | Err(MZError::Buf) => {}
                Ok(_) | Err(_) => return None,
            }
            if step.bytes_written < PIECE_BYTES && (input.is_empty() || step.bytes_consumed == 0) {
                return input.is_empty().then_some(());
            }
        }
    }
}

impl Frame {
    /// The frame with this head: nothing yet, a frame, or none that can be.
    fn of(head: &[u8]) -> Option<Option<Self>> {
        let (&first, &second) = (head.first()?, head.get(1)?);
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = second & 0x80 != 0;
        let length = head.get(2..2 + extended)?;
        let mask = if masked { Some(head.get(2 + extended..6 + extended)?) } else { None };
        let number = length.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let left = if extended == 0 { u64::from(second & 0x7f) } else { number };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        // A length of 64 bits has its highest unset; a control frame is short and whole.
        let control = opcode >= CLOSE;
        if left > i64::MAX as u64 || control && (left > 125 || !last) {
            return Some(None);
        }
        let mask = mask.and_then(|mask| mask.try_into().ok());
        Some(Some(Self { left, mask, at: 0, last, opcode }))
    }

    fn unmask(&mut self, bytes: &mut [u8]) {
        let Some(mask) = self.mask else { return };
        for byte in bytes {
            *byte ^= mask[self.at & 3];
            self.at += 1;
        }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
