//! Reading frames back, and saying how a journal ends.

use super::chain::{HASH_BYTES, LENGTH_BYTES};
use super::record::Envelope;
use super::{Chain, HEADER_BYTES, Hash, Header, HeaderFault, PAYLOAD_BYTES_MAX};
use crate::model::Timestamp;

/// One whole frame whose hash was found right.
#[derive(Clone, Debug)]
pub struct Frame<'a> {
    /// Its place in the journal, from 1.
    pub seq: u64,
    /// When it was recorded, as the writer's clock had it.
    pub at: Timestamp,
    /// The fact's JSON, a part of the payload.
    pub event: &'a str,
    /// The bytes that the hash covers.
    pub payload: &'a [u8],
    /// The frame's hash.
    pub hash: Hash,
}

/// How a journal ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With a whole frame.
    Clean,
    /// In the middle of a frame: the writer died while writing, or is writing this very moment.
    Torn {
        /// Where the incomplete frame begins in the file.
        offset: u64,
        /// The number it would have had; 0 is the header.
        seq: u64,
    },
    /// With something that no writer wrote: everything from here on is worthless.
    Broken {
        /// Where the bad frame begins in the file.
        offset: u64,
        /// The number it should have; 0 is the header.
        seq: u64,
        /// What is wrong with it.
        why: Why,
    },
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The header is not the one this journal should have.
    #[error("{0}")]
    Header(HeaderFault),
    /// The length and its inverse disagree, or the length is impossible.
    #[error("the frame's length is damaged")]
    Length,
    /// The hash does not follow from the payload and the hash before.
    #[error("the hash does not follow from the payload and the hash before it")]
    Hash,
    /// The hash is right but the payload is not a record.
    #[error("the payload is not a record")]
    Payload,
    /// The hash is right but the record has another number.
    #[error("the record says that it is number {0}")]
    Sequence(u64),
    /// A packed journal goes on with what cannot be unpacked.
    #[error("the packed frames from here on are damaged")]
    Packed,
}

/// What was read.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The whole, verified frames, in order.
    pub frames: Vec<Frame<'a>>,
    /// The place after the last of them.
    pub chain: Chain,
    /// The same place as an offset in the file.
    pub end: u64,
    /// What comes after it.
    pub tail: Tail,
}

/// Reads a journal from its first byte.
#[must_use]
pub fn decode<'a>(header: &Header, bytes: &'a [u8]) -> Decoded<'a> {
    let chain = Chain::begin(header);
    let nothing = |tail| Decoded { frames: Vec::new(), chain, end: 0, tail };
    let Some((first, frames)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return nothing(Tail::Torn { offset: 0, seq: 0 });
    };
    if let Err(fault) = header.check(first) {
        return nothing(Tail::Broken { offset: 0, seq: 0, why: Why::Header(fault) });
    }
    resume(chain, HEADER_BYTES as u64, frames)
}

/// Reads on from a place that was verified before; `bytes` begin at `offset` of the file.
#[must_use]
pub fn resume(mut chain: Chain, offset: u64, bytes: &[u8]) -> Decoded<'_> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut end = offset;
    let tail = loop {
        let seq = chain.frames() + 1;
        match next(&mut chain, rest) {
            Step::Frame(frame, after) => {
                end += (rest.len() - after.len()) as u64;
                rest = after;
                frames.push(frame);
            }
            Step::End => break Tail::Clean,
            Step::Torn => break Tail::Torn { offset: end, seq },
            Step::Broken(why) => break Tail::Broken { offset: end, seq, why },
        }
    };
    Decoded { frames, chain, end, tail }
}

/// What stands at a place.
enum Step<'a> {
    Frame(Frame<'a>, &'a [u8]),
    End,
    Torn,
    Broken(Why),
}

/// Reads one frame; `chain` moves only when it is whole and right.
fn next<'a>(chain: &mut Chain, bytes: &'a [u8]) -> Step<'a> {
    if bytes.is_empty() {
        return Step::End;
    }
    // After a power loss some file systems show the length that a file had reached but zeros for its last bytes.
    if bytes.iter().all(|byte| *byte == 0) {
        return Step::Torn;
    }
    let Some((lengths, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Step::Torn };
    let [a, b, c, d, inverse @ ..] = *lengths;
    let length = u32::from_be_bytes([a, b, c, d]);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if length != !u32::from_be_bytes(inverse) || size == 0 || size > PAYLOAD_BYTES_MAX {
        return Step::Broken(Why::Length);
    }
    let Some((payload, rest)) = rest.split_at_checked(size) else { return Step::Torn };
    let Some((written, rest)) = rest.split_first_chunk::<HASH_BYTES>() else { return Step::Torn };
    let mut after = *chain;
    after.follow(payload);
    if after.head().0 != *written {
        return Step::Broken(Why::Hash);
    }
    let Ok(record) = serde_json::from_slice::<Envelope<'_>>(payload) else { return Step::Broken(Why::Payload) };
    if record.seq != after.frames() {
        return Step::Broken(Why::Sequence(record.seq));
    }
    *chain = after;
    let event = record.event.get();
    Step::Frame(Frame { seq: record.seq, at: record.at, event, payload, hash: after.head() }, rest)
}
