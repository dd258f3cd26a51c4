//! Frames of Zstandard (RFC 8878), block by block, so that no more comes out at a time than one block.

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest window of a frame, as RFC 9659 bounds it for `Content-Encoding`.
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Largest block (section 3.1.1.2.4).
const BLOCK_BYTES_MAX: usize = 128 * 1024;
/// Bytes of a block's header.
const BLOCK_HEAD: usize = 3;
/// What a frame begins with, and what a frame that is skipped begins with, but for four bits that are its own.
const MAGIC: u32 = 0xfd2f_b528;
const MAGIC_SKIPPED: u32 = 0x184d_2a50;

/// Frames that follow each other.
#[derive(Default)]
pub(super) struct Frames {
    /// The frame that is being read.
    frame: Option<Frame>,
    /// Bytes of a frame that is skipped that are still to come.
    skipped: usize,
}

struct Frame {
    decoder: FrameDecoder,
    has_checksum: bool,
}

impl Frames {
    /// Reads the next header or block: how much was read, 0 where more must come first, and what came out. None for what
    /// is no Zstandard. What may still be referred to comes out later, at the end of the frame at the latest.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        if self.skipped > 0 {
            let taken = bytes.len().min(self.skipped);
            self.skipped -= taken;
            return Some((taken, Vec::new()));
        }
        match self.frame.take() {
            None => self.begin(bytes).map(|taken| (taken, Vec::new())),
            Some(frame) => self.block(frame, bytes),
        }
    }

    /// Reads a frame's header (section 3.1.1.1).
    fn begin(&mut self, bytes: &[u8]) -> Option<usize> {
        let Some(magic) = bytes.first_chunk().map(|magic| u32::from_le_bytes(*magic)) else { return Some(0) };
        if magic & !15 == MAGIC_SKIPPED {
            let Some(length) = bytes.get(4..).and_then(<[u8]>::first_chunk) else { return Some(0) };
            self.skipped = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            return Some(8);
        }
        if magic != MAGIC {
            return None;
        }
        let Some(descriptor) = bytes.get(4) else { return Some(0) };
        let single = descriptor >> 5 & 1 == 1;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let size = match descriptor >> 6 {
            0 => usize::from(single),
            power => 1 << power,
        };
        let length = 5 + usize::from(!single) + dictionary + size;
        let Some(header) = bytes.get(..length) else { return Some(0) };
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        decoder.init(header).ok()?;
        self.frame = Some(Frame { decoder, has_checksum: descriptor >> 2 & 1 == 1 });
        Some(length)
    }

    /// Reads a block (section 3.1.1.2), with the checksum that may follow the last.
    fn block(&mut self, mut frame: Frame, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        let whole = match bytes.get(..BLOCK_HEAD) {
            Some(head) => bytes.get(..block_length(head, frame.has_checksum)?),
            None => None,
        };
        let Some(whole) = whole else {
            self.frame = Some(frame);
            return Some((0, Vec::new()));
        };
        let ended = frame.decoder.decode_blocks(whole, BlockDecodingStrategy::UptoBlocks(1)).ok()?;
        let decoded = frame.decoder.collect().unwrap_or_default();
        if !ended {
            self.frame = Some(frame);
        }
        Some((whole.len(), decoded))
    }
}

/// How long a block is on the wire, and the checksum where it is the last; none for one that cannot be.
fn block_length(head: &[u8], has_checksum: bool) -> Option<usize> {
    let head = head.iter().rev().fold(0, |head, byte| head << 8 | usize::from(*byte));
    let (last, kind, size) = (head & 1 == 1, head >> 1 & 3, head >> 3);
    let contents = if kind == 1 { 1 } else { size };
    let checksum = if last && has_checksum { 4 } else { 0 };
    (size <= BLOCK_BYTES_MAX).then_some(BLOCK_HEAD + contents + checksum)
}
