//! A journal at rest: one that is over and was folded is kept in bundles, and so takes an eighth of its bytes.
//!
//! It has the same frames, with the same hashes, which follow from their payloads: only the hash after each bundle is written
//! down. Places in it are told as bytes of the journal as it was written, so that nothing else has to know.

use super::bundle::CLOSED_BYTES_MAX;
use super::chain::{FRAME_OVERHEAD_BYTES, HASH_BYTES, LENGTH_BYTES};
use super::decode::{Decoded, Frame, Tail, Why};
use super::record::Envelope;
use super::{Bundle, Bundled, Chain, HEADER_BYTES, Hash, Header, HeaderFault, open_bundle};

/// Bytes before the first bundle: the header, and how long the journal was as it was written.
pub const PACKED_HEADER_BYTES: usize = HEADER_BYTES + 8;
/// Bytes around each bundle.
pub const BLOCK_OVERHEAD_BYTES: usize = LENGTH_BYTES + HASH_BYTES;

/// What a packed journal begins with: how long it was as it was written.
#[must_use]
pub fn packed_header(header: &Header, length: u64) -> [u8; PACKED_HEADER_BYTES] {
    let mut bytes = [0; PACKED_HEADER_BYTES];
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode_packed());
    bytes[HEADER_BYTES..].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Whose journal a file's first bytes say it is, and how long it was as it was written; none where it is not packed.
#[must_use]
pub fn read_packed_header(header: &Header, bytes: &[u8]) -> Option<Result<u64, HeaderFault>> {
    let (first, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (length, _) = rest.split_first_chunk::<8>()?;
    if !Header::is_packed(first) {
        return None;
    }
    let ours = *first == header.encode_packed();
    Some(if ours { Ok(u64::from_be_bytes(*length)) } else { Err(HeaderFault::Foreign) })
}

/// Makes the blocks of a packed journal.
#[derive(Debug, Default)]
pub struct Packer {
    bundle: Bundle,
    head: Option<Hash>,
}

impl Packer {
    /// Takes a frame in; a block, where there are enough frames for one.
    pub fn push(&mut self, writer: crate::model::Writer, frame: &Frame<'_>) -> Option<Vec<u8>> {
        self.bundle.push(writer, frame.payload);
        self.head = Some(frame.hash);
        if self.bundle.is_full() { self.finish() } else { None }
    }

    /// The block of what is left.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let head = self.head.filter(|_| !self.bundle.is_empty())?;
        let closed = self.bundle.close();
        let length = u32::try_from(closed.len()).unwrap_or(u32::MAX);
        Some([&length.to_be_bytes()[..], &(!length).to_be_bytes(), &closed, &head.0].concat())
    }
}

/// The length of the bundle that these bytes go before; none where they are damaged.
#[must_use]
pub fn block_length(lengths: [u8; LENGTH_BYTES]) -> Option<usize> {
    let [a, b, c, d, inverse @ ..] = lengths;
    let length = u32::from_be_bytes([a, b, c, d]);
    let size = usize::try_from(length).ok()?;
    (length == !u32::from_be_bytes(inverse) && size <= CLOSED_BYTES_MAX).then_some(size)
}

/// Blocks that were opened, one after another.
#[derive(Debug, Default)]
pub struct Unpacked {
    opened: Vec<u8>,
    /// Where each block ends, and the hash that its last frame has to have.
    ends: Vec<(usize, Hash)>,
    damaged: bool,
}

impl Unpacked {
    /// Forgets all blocks.
    pub fn clear(&mut self) {
        self.opened.clear();
        self.ends.clear();
        self.damaged = false;
    }

    /// Opens the next block, after whose bundle its last frame's hash stands. False where it is damaged.
    pub fn push(&mut self, block: &[u8]) -> bool {
        let opened =
            block.split_last_chunk::<HASH_BYTES>().and_then(|(closed, head)| Some((open_bundle(closed)?, head)));
        match opened {
            Some((opened, head)) => {
                self.opened.extend(opened);
                self.ends.push((self.opened.len(), Hash(*head)));
                true
            }
            None => self.damage(),
        }
    }

    /// Notes that what follows is no block.
    pub fn damage(&mut self) -> bool {
        self.damaged = true;
        false
    }

    /// How many bytes were opened.
    #[must_use]
    pub fn len(&self) -> usize {
        self.opened.len()
    }

    /// Whether nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
    }

    /// The frames of the blocks, as [`super::resume`] reads those of a journal as it was written: all of a block are right, or
    /// none is told.
    #[must_use]
    pub fn frames(&self, mut chain: Chain, offset: u64) -> Decoded<'_> {
        let (mut frames, mut end, mut start) = (Vec::new(), offset, 0);
        for (until, head) in &self.ends {
            let first = chain.frames() + 1;
            let block = self.opened.get(start..*until).unwrap_or_default();
            let read = frames_of(chain, block).and_then(|(after, read)| match after.head() == *head {
                true => Ok((after, read)),
                false => Err(Why::Hash),
            });
            let (after, read) = match read {
                Ok(read) => read,
                Err(why) => return Decoded { frames, chain, end, tail: Tail::Broken { offset: end, seq: first, why } },
            };
            end += read.iter().map(|frame| (frame.payload.len() + FRAME_OVERHEAD_BYTES) as u64).sum::<u64>();
            frames.extend(read);
            (chain, start) = (after, *until);
        }
        let seq = chain.frames() + 1;
        let tail = if self.damaged { Tail::Broken { offset: end, seq, why: Why::Packed } } else { Tail::Clean };
        Decoded { frames, chain, end, tail }
    }
}

/// The frames of one block.
fn frames_of(mut chain: Chain, block: &[u8]) -> Result<(Chain, Vec<Frame<'_>>), Why> {
    let mut frames = Vec::new();
    for record in Bundled::of(block) {
        let (_, payload) = record.ok_or(Why::Packed)?;
        chain.follow(payload);
        let record: Envelope<'_> = serde_json::from_slice(payload).map_err(|_| Why::Payload)?;
        if record.seq != chain.frames() {
            return Err(Why::Sequence(record.seq));
        }
        frames.push(Frame { seq: record.seq, at: record.at, event: record.event.get(), payload, hash: chain.head() });
    }
    Ok((chain, frames))
}

/// A packed journal as it was written, up to where it is damaged; none where these bytes are not a packed journal of this
/// session and writer.
#[must_use]
pub fn unpack(header: &Header, packed: &[u8]) -> Option<Vec<u8>> {
    read_packed_header(header, packed)?.ok()?;
    let mut rest = packed.get(PACKED_HEADER_BYTES..)?;
    let mut unpacked = Unpacked::default();
    while let Some((lengths, after)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        let block = block_length(*lengths).and_then(|length| after.split_at_checked(length + HASH_BYTES));
        let Some((block, after)) = block else { break };
        if !unpacked.push(block) {
            break;
        }
        rest = after;
    }
    let mut written = header.encode().to_vec();
    for frame in unpacked.frames(Chain::begin(header), HEADER_BYTES as u64).frames {
        let length = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
        written.extend(length.to_be_bytes());
        written.extend((!length).to_be_bytes());
        written.extend(frame.payload);
        written.extend(frame.hash.0);
    }
    Some(written)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::decode;
    use super::*;
    use crate::model::{Event, RequestNumber, SessionId, Timestamp, Writer};

    const FRAMES: u64 = 300;

    fn journal() -> (Header, Vec<u8>, Vec<u8>) {
        let header = Header { session: SessionId::from_entropy([1; 10]), writer: Writer::Proxy };
        let (mut chain, mut written) = (Chain::begin(&header), header.encode().to_vec());
        for request in 1..=FRAMES {
            let event = Event::RequestFailed { request: RequestNumber(request), reason: "no answer".to_owned() };
            chain.append(Timestamp(1), &event, &mut written).unwrap();
        }
        let decoded = decode(&header, &written);
        let mut packer = Packer::default();
        let mut packed = packed_header(&header, written.len() as u64).to_vec();
        decoded
            .frames
            .iter()
            .filter_map(|frame| packer.push(Writer::Proxy, frame))
            .for_each(|block| packed.extend(block));
        packed.extend(packer.finish().unwrap());
        assert_eq!(packer.finish(), None);
        (header, written, packed)
    }

    #[test]
    fn what_was_packed_is_what_was_written_in_an_eighth_of_the_bytes() {
        let (header, written, packed) = journal();
        assert_eq!(unpack(&header, &packed).unwrap(), written);
        assert_eq!(read_packed_header(&header, &packed), Some(Ok(written.len() as u64)));
        assert!(packed.len() * 8 < written.len(), "{} of {}", packed.len(), written.len());
        assert_eq!(read_packed_header(&header, &written), None);
        let other = Header { writer: Writer::Session, ..header };
        assert_eq!(read_packed_header(&other, &packed), Some(Err(HeaderFault::Foreign)));
    }

    #[test]
    fn no_flipped_byte_changes_a_frame_and_only_those_of_its_block_are_lost() {
        let (header, written, packed) = journal();
        for place in (PACKED_HEADER_BYTES..packed.len()).step_by(7).chain([packed.len() - 1]) {
            let mut flipped = packed.clone();
            flipped[place] ^= 0x10;
            let found = unpack(&header, &flipped).unwrap();
            assert!(found.len() < written.len() && written.starts_with(&found), "{place}");
            assert!(decode(&header, &found).frames.len().is_multiple_of(128), "{place}");
        }
    }
}
