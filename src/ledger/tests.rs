//! What the chain finds, and where.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::model::{EndReason, Event, ExitStatus, RequestNumber, SessionId, Timestamp, Writer};
use proptest::prelude::*;

fn header() -> Header {
    Header { session: SessionId::from_entropy([7; 10]), writer: Writer::Proxy }
}

/// A journal of `count` frames and where each frame begins; the last number is the file's length.
fn journal(count: u64) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().encode().to_vec();
    let mut chain = Chain::begin(&header());
    let mut borders = vec![bytes.len()];
    for number in 1..=count {
        let event = Event::RequestFailed { request: RequestNumber(number), reason: format!("reason {number}") };
        chain.append(Timestamp(1_000 + number.cast_signed()), &event, &mut bytes).unwrap();
        borders.push(bytes.len());
    }
    (bytes, borders)
}

/// The frame that holds this byte; 0 is the header.
fn frame_at(borders: &[usize], offset: usize) -> u64 {
    borders.iter().filter(|border| **border <= offset).count() as u64
}

fn broken_at(bytes: &[u8]) -> Option<u64> {
    match decode(&header(), bytes).tail {
        Tail::Broken { seq, .. } => Some(seq),
        Tail::Clean | Tail::Torn { .. } => None,
    }
}

#[test]
fn what_was_written_is_read_back() {
    let (bytes, _) = journal(3);
    let decoded = decode(&header(), &bytes);
    assert_eq!(decoded.tail, Tail::Clean);
    assert_eq!(decoded.end, bytes.len() as u64);
    let events: Vec<_> = decoded.frames.iter().map(|frame| (frame.seq, frame.at, event_of(frame.event))).collect();
    let wanted = |n: u64| Event::RequestFailed { request: RequestNumber(n), reason: format!("reason {n}") };
    assert_eq!(events[2], (3, Timestamp(1_003), Some(wanted(3))));
    assert_eq!(events.len(), 3);
}

#[test]
fn every_event_survives_the_frame() {
    let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
    let mut bytes = header().encode().to_vec();
    Chain::begin(&header()).append(Timestamp(5), &ended, &mut bytes).unwrap();
    let decoded = decode(&header(), &bytes);
    assert_eq!(event_of(decoded.frames[0].event), Some(ended));
    assert_eq!(event_kind(decoded.frames[0].event).as_deref(), Some("session_ended"));
}

#[test]
fn the_bytes_are_those_the_manual_shows() {
    use sha2::{Digest, Sha256};
    let (bytes, borders) = journal(1);
    assert_eq!(&bytes[..11], b"OMNIJRNL\0\x01\x02");
    assert_eq!(&bytes[11..16], &[0; 5]);
    assert_eq!(&bytes[16..32], header().session.as_str().as_bytes());
    let frame = &bytes[borders[0]..];
    let payload = &frame[8..frame.len() - 32];
    assert_eq!(&frame[..4], &u32::try_from(payload.len()).unwrap().to_be_bytes());
    assert_eq!(
        std::str::from_utf8(payload).unwrap(),
        r#"{"seq":1,"at":1001,"event":{"event":"request_failed","request":1,"reason":"reason 1"}}"#
    );
    let genesis = Sha256::digest([b"omni journal header v1\0".as_slice(), &bytes[..32]].concat());
    let hash = Sha256::digest([b"omni journal frame v1\0".as_slice(), &genesis, payload].concat());
    assert_eq!(&frame[frame.len() - 32..], hash.as_slice());
}

#[test]
fn an_event_of_a_later_version_keeps_its_name() {
    let later = r#"{"event":"budget_raised","by":"somebody"}"#;
    assert_eq!(event_of(later), None);
    assert_eq!(event_kind(later).as_deref(), Some("budget_raised"));
}

#[test]
fn a_removed_frame_is_found_where_it_was() {
    let (bytes, borders) = journal(5);
    for gone in 1..5 {
        let shorter = [&bytes[..borders[gone - 1]], &bytes[borders[gone]..]].concat();
        assert_eq!(broken_at(&shorter), Some(gone as u64));
    }
}

#[test]
fn reordered_and_repeated_frames_are_found() {
    let (bytes, borders) = journal(4);
    let frame = |n: usize| &bytes[borders[n - 1]..borders[n]];
    let start = &bytes[..borders[0]];
    assert_eq!(broken_at(&[start, frame(1), frame(3), frame(2), frame(4)].concat()), Some(2));
    assert_eq!(broken_at(&[start, frame(1), frame(1), frame(2)].concat()), Some(2));
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_whole_frame_and_is_torn_at_the_next() {
    let (bytes, borders) = journal(3);
    for length in 0..bytes.len() {
        let decoded = decode(&header(), &bytes[..length]);
        let whole = frame_at(&borders, length).saturating_sub(1);
        assert_eq!(decoded.frames.len() as u64, whole, "cut at {length}");
        let border = borders.contains(&length);
        let seq = if length < HEADER_BYTES { 0 } else { whole + 1 };
        let wanted = if border { Tail::Clean } else { Tail::Torn { offset: decoded.end, seq } };
        assert_eq!(decoded.tail, wanted, "cut at {length}");
    }
}

#[test]
fn bytes_missing_from_the_middle_are_found_there() {
    let (bytes, borders) = journal(5);
    let hole = borders[2] + 10;
    assert_eq!(broken_at(&[&bytes[..hole], &bytes[hole + 7..]].concat()), Some(3));
}

#[test]
fn zeros_at_the_end_are_a_torn_frame_and_not_damage() {
    let (mut bytes, borders) = journal(2);
    bytes.resize(bytes.len() + 300, 0);
    assert_eq!(decode(&header(), &bytes).tail, Tail::Torn { offset: borders[2] as u64, seq: 3 });
}

#[test]
fn a_journal_of_another_session_or_writer_is_refused() {
    let (bytes, _) = journal(1);
    let foreign = [
        Header { writer: Writer::Session, ..header() },
        Header { session: SessionId::from_entropy([8; 10]), ..header() },
    ];
    for other in foreign {
        let wanted = Tail::Broken { offset: 0, seq: 0, why: Why::Header(HeaderFault::Foreign) };
        assert_eq!(decode(&other, &bytes).tail, wanted);
    }
}

#[test]
fn reading_on_from_any_border_gives_the_same_end() {
    let (bytes, borders) = journal(4);
    let whole = decode(&header(), &bytes);
    for border in &borders {
        let before = decode(&header(), &bytes[..*border]);
        let after = resume(before.chain, before.end, &bytes[*border..]);
        assert_eq!((after.chain, after.end, after.tail), (whole.chain, whole.end, Tail::Clean));
        assert_eq!(before.frames.len() + after.frames.len(), 4);
    }
}

#[test]
fn a_fact_too_large_for_a_frame_leaves_nothing_behind() {
    let event = Event::RequestFailed { request: RequestNumber(1), reason: "x".repeat(PAYLOAD_BYTES_MAX) };
    let mut chain = Chain::begin(&header());
    let mut out = vec![1, 2, 3];
    assert!(matches!(chain.append(Timestamp(0), &event, &mut out), Err(FrameError::TooLarge { .. })));
    assert_eq!((out, chain), (vec![1, 2, 3], Chain::begin(&header())));
}

proptest! {
    #[test]
    fn any_flipped_bit_is_found_at_its_frame(count in 1u64..8, place in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (mut bytes, borders) = journal(count);
        let offset = place.index(bytes.len());
        bytes[offset] ^= 1 << bit;
        prop_assert_eq!(broken_at(&bytes), Some(frame_at(&borders, offset)));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let (bytes, _) = journal(1);
        let decoded = decode(&header(), &[bytes, noise].concat()).frames.len();
        prop_assert!(decoded >= 1);
    }
}
