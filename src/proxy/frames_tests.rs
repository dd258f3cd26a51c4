//! Frames as the standards show them, as zlib compresses them, cut anywhere, and as no sender may send them.

use super::*;
use proptest::prelude::*;

/// Feeds bytes in pieces of a size and gives the whole text messages.
fn read(frames: &mut Frames, bytes: &[u8], piece: usize) -> Vec<String> {
    let (mut messages, mut message) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece) {
        frames.feed(
            part,
            Some(&mut |piece: Piece<'_>| match piece {
                Piece::Text(text) => message.extend_from_slice(text),
                Piece::Binary(_) => {}
                Piece::End => messages.push(String::from_utf8_lossy(&std::mem::take(&mut message)).into_owned()),
            }),
        );
    }
    messages
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_default()).collect()
}

/// A frame as a sender makes it, with the shortest length.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(masked | length as u8),
        length @ 126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    let mask_bytes = mask.unwrap_or_default();
    bytes.extend(mask.iter().flatten());
    bytes.extend(payload.iter().zip(mask_bytes.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

#[test]
fn the_examples_of_rfc_6455_are_read() {
    for (bytes, text) in [
        ("81 05 48 65 6c 6c 6f", "Hello"),
        ("81 85 37 fa 21 3d 7f 9f 4d 51 58", "Hello"),
        ("01 03 48 65 6c 80 02 6c 6f", "Hello"),
        ("01 03 48 65 6c 89 05 48 65 6c 6c 6f 80 02 6c 6f", "Hello"),
    ] {
        for piece in [1, 3, 100] {
            let mut frames = Frames::new(Deflate::Off);
            assert_eq!(read(&mut frames, &hex(bytes), piece), [text], "{bytes} by {piece}");
            assert!(!frames.is_unreadable() && !frames.is_closed());
        }
    }
}

#[test]
fn the_examples_of_rfc_7692_are_read() {
    let taken_over = "c1 07 f2 48 cd c9 c9 07 00 c1 05 f2 00 11 00 00";
    let each = "c1 07 f2 48 cd c9 c9 07 00 c1 07 f2 48 cd c9 c9 07 00";
    let stored = "c1 0b 00 05 00 fa ff 48 65 6c 6c 6f 00";
    let in_two = "41 03 f2 48 cd 80 04 c9 c9 07 00";
    let two_blocks = "c1 0d f2 48 05 00 00 00 ff ff ca c9 c9 07 00";
    for (bytes, deflate, times) in [
        (taken_over, Deflate::Takeover, 2),
        (each, Deflate::Each, 2),
        (each, Deflate::Takeover, 2),
        (stored, Deflate::Takeover, 1),
        (in_two, Deflate::Takeover, 1),
        (two_blocks, Deflate::Takeover, 1),
    ] {
        for piece in [1, 2, 7, 100] {
            let mut frames = Frames::new(deflate);
            assert_eq!(read(&mut frames, &hex(bytes), piece), vec!["Hello"; times], "{bytes} by {piece}");
            assert!(!frames.is_unreadable());
        }
    }
    let second = &read(&mut Frames::new(Deflate::Each), &hex(taken_over), 100)[1];
    assert_ne!(second, "Hello", "it is in terms of what came before");
}

/// Two messages as zlib 1.3 writes them, the second in terms of the first.
#[test]
fn what_zlib_compressed_is_read() {
    let one =
        hex("aa562aa92c4855b2522a4a2d2ec8cf2b4ed54b2e4a4d2c494d51d2810b2959552b65a640d5c41b026572f35352738002e9052\
                   5baa67aa64ab5b50000");
    let two = hex("aa26d91c23ace60000");
    let bytes = [frame(0xc1, Some([1, 2, 3, 4]), &one), frame(0xc1, Some([5, 6, 7, 8]), &two)].concat();
    let text =
        |number| format!(r#"{{"type":"response.created","response":{{"id":"resp_{number}","model":"gpt-5.5"}}}}"#);
    for piece in [1, 5, 1000] {
        assert_eq!(read(&mut Frames::new(Deflate::Takeover), &bytes, piece), [text(1), text(2)], "by {piece}");
    }
}

#[test]
fn a_closing_frame_is_noticed_and_what_is_between_messages_is_no_text() {
    let mut frames = Frames::new(Deflate::Off);
    let bytes =
        [frame(0x89, None, b"ping"), frame(0x82, None, b"{\"binary\":1}"), frame(0x88, None, &[3, 232])].concat();
    assert_eq!(read(&mut frames, &bytes, 3), Vec::<String>::new());
    assert!(frames.is_closed() && !frames.is_unreadable());
}

#[test]
fn what_no_sender_may_send_ends_the_reading() {
    for (name, bytes) in [
        ("a continuation of nothing", frame(0x80, None, b"x")),
        ("a text within a text", [frame(0x01, None, b"x"), frame(0x81, None, b"y")].concat()),
        ("a compressed text where nothing was agreed", frame(0xc1, None, b"x")),
        ("reserved bits", frame(0xa1, None, b"x")),
        ("a reserved opcode", frame(0x83, None, b"x")),
        ("a ping in two parts", frame(0x09, None, b"x")),
        ("a ping of 126 bytes", frame(0x89, None, &[0; 126])),
        ("a length of more than 63 bits", hex("82 7f 80 00 00 00 00 00 00 00")),
    ] {
        let mut frames = Frames::new(Deflate::Off);
        assert_eq!(read(&mut frames, &bytes, 2), Vec::<String>::new(), "{name}");
        assert!(frames.is_unreadable(), "{name}");
    }
}

#[test]
fn a_bomb_is_not_read_to_its_end() {
    // A stored block of a byte, then the same byte 258 times, and again, as dense as the format allows.
    let mut bomb = miniz_oxide::deflate::compress_to_vec(&vec![b'x'; 80 << 20], 9);
    bomb.truncate(bomb.len() - 2);
    let mut frames = Frames::new(Deflate::Takeover);
    let mut seen = 0;
    for part in frame(0xc1, None, &bomb).chunks(1000) {
        frames.feed(
            part,
            Some(&mut |piece: Piece<'_>| {
                if let Piece::Text(text) = piece {
                    seen += text.len()
                }
            }),
        );
    }
    assert!(frames.is_unreadable());
    assert!(seen as u64 <= MESSAGE_BYTES_MAX, "{seen}");
}

proptest! {
    #[test]
    fn messages_are_read_however_they_are_cut(
        texts in prop::collection::vec("[ -~]{0,300}", 1..6),
        cuts in prop::collection::vec(0usize..300, 0..3),
        mask in prop::option::of(any::<[u8; 4]>()),
        piece in 1usize..70,
    ) {
        let mut bytes = Vec::new();
        for text in &texts {
            let mut parts = Vec::new();
            let mut rest = text.as_bytes();
            for cut in &cuts {
                let (part, after) = rest.split_at((*cut).min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            for (index, part) in parts.iter().enumerate() {
                let opcode = if index == 0 { TEXT } else { CONTINUATION };
                let last = if index + 1 == parts.len() { 0x80 } else { 0 };
                bytes.extend(frame(last | opcode, mask, part));
                bytes.extend(frame(0x8a, mask, b"pong"));
            }
        }
        prop_assert_eq!(read(&mut Frames::new(Deflate::Off), &bytes, piece), texts);
    }

    #[test]
    fn noise_is_survived(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20), taken: bool) {
        let mut frames = Frames::new(if taken { Deflate::Takeover } else { Deflate::Off });
        for piece in pieces {
            frames.feed(&piece, Some(&mut |_: Piece<'_>| {}));
            prop_assert!(frames.head.len() <= HEAD_BYTES_MAX);
        }
    }
}
