//! Taking the compression off a body as it passes, to look at what is inside. What passes is not changed by it.

use super::zstd::Frames;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// Most bytes that come out of one body. What is larger is taken for a bomb.
const DECODED_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// How much comes out at a time.
const PIECE: usize = 32 * 1024;
/// Most bytes that wait until they can be read: a block of zstd, or the head of a gzip member with a name and a comment.
const WAITING_BYTES_MAX: usize = 192 * 1024;

/// Why a body cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is not what it says.
    Broken,
    /// More comes out than is looked at.
    Bomb,
}

/// A compression by which a body can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// The coding of that name in `Content-Encoding` (RFC 9110, section 8.4.1; RFC 7932; RFC 8878).
    pub(super) fn named(name: &str) -> Option<Self> {
        let known = [
            ("gzip", Self::Gzip),
            ("x-gzip", Self::Gzip),
            ("deflate", Self::Deflate),
            ("br", Self::Brotli),
            ("zstd", Self::Zstd),
        ];
        known.into_iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, coding)| coding)
    }

    /// Whether a body that begins so, and is not longer yet, may be compressed without saying so.
    pub(super) fn may_begin(begin: &[u8]) -> bool {
        [&[0x1f, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd]].iter().any(|magic| magic.starts_with(begin))
    }

    /// What a body begins with that is compressed and does not say so.
    pub(super) fn of_magic(begin: &[u8]) -> Option<Self> {
        match begin {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A body being read.
pub(super) struct Decoder {
    kind: Kind,
    /// What came and could not be read yet.
    waiting: Vec<u8>,
    decoded: u64,
    decoded_max: u64,
    /// How much comes out of one piece before the rest of it is left for later.
    at_once: usize,
    paused: bool,
}

enum Kind {
    /// A member's head is still to come.
    GzipHead,
    Gzip(Box<InflateState>),
    /// So many bytes of a member's checksum and length are still to come.
    GzipEnd(usize),
    /// zlib or, as some have it, bare deflate: told by the first byte.
    DeflateBegin,
    Deflate(Box<InflateState>),
    Brotli(Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>),
    Zstd(Box<Frames>),
    /// Nothing more may come.
    Over,
}

impl Decoder {
    pub(super) fn new(coding: Coding) -> Self {
        let kind = match coding {
            Coding::Gzip => Kind::GzipHead,
            Coding::Deflate => Kind::DeflateBegin,
            Coding::Brotli => Kind::Brotli(Box::new(BrotliState::new_strict(
                StandardAlloc::default(),
                StandardAlloc::default(),
                StandardAlloc::default(),
            ))),
            Coding::Zstd => Kind::Zstd(Box::default()),
        };
        let (decoded_max, at_once) = (DECODED_BYTES_MAX, usize::MAX);
        Self { kind, waiting: Vec::new(), decoded: 0, decoded_max, at_once, paused: false }
    }

    /// The same, taking for a bomb what is larger than this.
    pub(super) fn up_to(self, decoded_max: u64) -> Self {
        Self { decoded_max, ..self }
    }

    /// The same, pausing once so much or somewhat more came out of a piece.
    pub(super) fn pausing(self, at_once: usize) -> Self {
        Self { at_once, ..self }
    }

    /// Whether more is to come out of what came, by reading an empty piece.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Reads the next piece, and gives what comes out to `take`.
    pub(super) fn next(&mut self, piece: &[u8], take: &mut dyn FnMut(&[u8])) -> Result<(), Unreadable> {
        let joined;
        let mut rest = if self.waiting.is_empty() {
            piece
        } else {
            joined = [&std::mem::take(&mut self.waiting)[..], piece].concat();
            &joined[..]
        };
        let (decoded, decoded_max, left) = (self.decoded, self.decoded_max, self.at_once);
        let mut counted = Counted { decoded, decoded_max, left, take };
        let mut goes_on = std::mem::take(&mut self.paused) || !rest.is_empty();
        while goes_on {
            let taken = self.kind.step(rest, &mut counted)?;
            (self.decoded, self.paused) = (counted.decoded, counted.left == 0);
            rest = &rest[taken..];
            goes_on = taken > 0 && !rest.is_empty() && !self.paused;
        }
        if rest.len() > WAITING_BYTES_MAX && !self.paused {
            return Err(Unreadable::Broken);
        }
        self.waiting.extend_from_slice(rest);
        Ok(())
    }
}

/// Where what comes out goes, and how much of it there was.
struct Counted<'a> {
    decoded: u64,
    decoded_max: u64,
    /// How much more is taken before a pause.
    left: usize,
    take: &'a mut dyn FnMut(&[u8]),
}

impl Counted<'_> {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        self.decoded += bytes.len() as u64;
        self.left = self.left.saturating_sub(bytes.len());
        (self.take)(bytes);
        if self.decoded > self.decoded_max { Err(Unreadable::Bomb) } else { Ok(()) }
    }
}

impl Kind {
    /// Reads some of what came; how much, and 0 where more must come first.
    fn step(&mut self, rest: &[u8], out: &mut Counted<'_>) -> Result<usize, Unreadable> {
        match self {
            Self::GzipHead => match gzip_head(rest)? {
                Some(length) => {
                    *self = Self::Gzip(InflateState::new_boxed(DataFormat::Raw));
                    Ok(length)
                }
                None => Ok(0),
            },
            Self::Gzip(state) => {
                let (taken, ended) = inflated(state, rest, out)?;
                if ended {
                    *self = Self::GzipEnd(8);
                }
                Ok(taken)
            }
            Self::GzipEnd(left) => {
                let taken = rest.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    *self = Self::GzipHead;
                }
                Ok(taken)
            }
            Self::DeflateBegin => {
                // The two bytes of zlib's head are a multiple of 31 (RFC 1950, section 2.2).
                let [first, second, ..] = rest else { return Ok(0) };
                let zlib = first & 15 == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31);
                let format = if zlib { DataFormat::Zlib } else { DataFormat::Raw };
                *self = Self::Deflate(InflateState::new_boxed(format));
                self.step(rest, out)
            }
            Self::Deflate(state) => {
                let (taken, ended) = inflated(state, rest, out)?;
                if ended {
                    *self = Self::Over;
                }
                Ok(taken)
            }
            Self::Brotli(state) => {
                let (taken, ended) = unbrotlied(state, rest, out)?;
                if ended {
                    *self = Self::Over;
                }
                Ok(taken)
            }
            Self::Zstd(frames) => {
                let (taken, decoded) = frames.step(rest).ok_or(Unreadable::Broken)?;
                out.take(&decoded)?;
                Ok(taken)
            }
            Self::Over if rest.is_empty() => Ok(0),
            Self::Over => Err(Unreadable::Broken),
        }
    }
}

/// The length of a gzip member's head (RFC 1952, section 2.3), once all of it is there.
fn gzip_head(bytes: &[u8]) -> Result<Option<usize>, Unreadable> {
    let begin = &bytes[..bytes.len().min(3)];
    if !b"\x1f\x8b\x08".starts_with(begin) {
        return Err(Unreadable::Broken);
    }
    let Some(flags) = bytes.get(3).filter(|_| bytes.len() >= 10) else { return Ok(None) };
    let mut at = 10;
    if flags & 4 != 0 {
        let Some([low, high]) = bytes.get(at..at + 2).and_then(|length| length.first_chunk()) else { return Ok(None) };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for text in [8, 16] {
        if flags & text != 0 {
            let Some(end) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0)) else {
                return Ok(None);
            };
            at += end + 1;
        }
    }
    at += if flags & 2 != 0 { 2 } else { 0 };
    Ok((bytes.len() >= at).then_some(at))
}

fn inflated(state: &mut InflateState, bytes: &[u8], out: &mut Counted<'_>) -> Result<(usize, bool), Unreadable> {
    let mut piece = vec![0; PIECE];
    let mut taken = 0;
    loop {
        let result = inflate(state, &bytes[taken..], &mut piece, MZFlush::None);
        taken += result.bytes_consumed;
        out.take(&piece[..result.bytes_written])?;
        match result.status {
            Ok(MZStatus::StreamEnd) => return Ok((taken, true)),
            // A full piece may have more behind it.
            Ok(_) if result.bytes_written == PIECE && out.left > 0 => {}
            Ok(_) | Err(MZError::Buf) => return Ok((taken, false)),
            Err(_) => return Err(Unreadable::Broken),
        }
    }
}

fn unbrotlied(
    state: &mut BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    bytes: &[u8],
    out: &mut Counted<'_>,
) -> Result<(usize, bool), Unreadable> {
    let mut piece = vec![0; PIECE];
    let (mut left, mut at) = (bytes.len(), 0);
    loop {
        let (mut room, mut written, mut total) = (PIECE, 0, 0);
        let result =
            BrotliDecompressStream(&mut left, &mut at, bytes, &mut room, &mut written, &mut piece, &mut total, state);
        out.take(&piece[..written])?;
        match result {
            BrotliResult::NeedsMoreOutput if out.left == 0 => return Ok((at, false)),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::NeedsMoreInput => return Ok((at, false)),
            BrotliResult::ResultSuccess => return Ok((at, true)),
            BrotliResult::ResultFailure => return Err(Unreadable::Broken),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    /// What each program made of the text that [`plain`] is.
    const GZIP: &str = "H4sIAAAAAAACA+3JwQnAIBAAsFVugC4leNBPK6jY9QuuYX6BzDtjlCfja72OaCt7lLduXDGttdZaa6211lprrbXWWmuttdZaa6211lpr\
        rbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXW\
        WmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmut\
        tdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZa\
        a6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa4/fH6JCh2/A1AEA";
    const ZLIB: &str = "eNrtycEJwCAQALBVboAuJXjQTyuo2PULrmF+gcw7Y5Qn42u9jmgre5S3blwxrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXW\
        WmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmut\
        tdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZa\
        a6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa6211lprrbXWWmuttdZaa621\
        1lprrbXWWmuttdZaa6211lprrbXWWmuP3x+XXNjb";
    const BROTLI: &str = "W7/UAUARKr1AWGAiB+wFbTeQF2OmdXnNaDhLEOdiDkgA";
    const ZSTD: &str = "KLUv/QRoJQEAyHRoZSBzYW1lIHdvcmRzIG92ZXIgYW5kLCACAJ/UQWWcQmkCcLYs0A==";

    fn plain() -> Vec<u8> {
        b"the same words over and over, ".repeat(4000)
    }

    fn decoded(coding: Coding, bytes: &[u8], size: usize) -> Result<Vec<u8>, Unreadable> {
        let mut decoder = Decoder::new(coding);
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            decoder.next(piece, &mut |bytes| out.extend_from_slice(bytes))?;
        }
        Ok(out)
    }

    #[test]
    fn little_comes_out_at_once_where_that_is_wanted_and_a_bomb_is_given_up() {
        let zeros = vec![0; 8 * 1024 * 1024];
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&zeros, 6);
        let mut decoder = Decoder::new(Coding::Deflate).pausing(100_000);
        let (mut length, mut rounds, mut piece) = (0, 0, zlib.as_slice());
        loop {
            let before = length;
            decoder.next(piece, &mut |bytes| length += bytes.len()).unwrap();
            assert!(length - before < 100_000 + PIECE, "{before} {length}");
            (rounds, piece) = (rounds + 1, &[]);
            if !decoder.is_paused() {
                break;
            }
        }
        assert!(length == zeros.len() && rounds > 60, "{length} {rounds}");
        let mut bounded = Decoder::new(Coding::Deflate).up_to(1024 * 1024);
        assert_eq!(bounded.next(&zlib, &mut |_| {}), Err(Unreadable::Bomb));
    }

    #[test]
    fn every_coding_is_read_however_it_is_cut() {
        let codings = [(Coding::Gzip, GZIP), (Coding::Deflate, ZLIB), (Coding::Brotli, BROTLI), (Coding::Zstd, ZSTD)];
        for (coding, text) in codings {
            let bytes = BASE64_STANDARD.decode(text).unwrap();
            for size in [1, 3, 17, bytes.len()] {
                assert!(decoded(coding, &bytes, size).unwrap() == plain(), "{coding:?} {size}");
            }
            assert_eq!(decoded(coding, &[b'%'; 37], 37).err(), Some(Unreadable::Broken), "{coding:?}");
        }
    }

    #[test]
    fn members_and_frames_may_follow_each_other_and_nothing_else_may() {
        for (coding, text) in [(Coding::Gzip, GZIP), (Coding::Zstd, ZSTD)] {
            let twice = BASE64_STANDARD.decode(text).unwrap().repeat(2);
            assert!(decoded(coding, &twice, 100).unwrap() == plain().repeat(2), "{coding:?}");
        }
        for (coding, text) in [(Coding::Deflate, ZLIB), (Coding::Brotli, BROTLI)] {
            let mut more = BASE64_STANDARD.decode(text).unwrap();
            more.extend_from_slice(b"more");
            assert_eq!(decoded(coding, &more, 100).err(), Some(Unreadable::Broken), "{coding:?}");
        }
    }

    #[test]
    fn bare_deflate_is_told_from_zlib() {
        let bytes = BASE64_STANDARD.decode(ZLIB).unwrap();
        assert!(decoded(Coding::Deflate, &bytes[2..bytes.len() - 4], 5).unwrap() == plain());
    }

    #[test]
    fn what_is_compressed_is_known_by_how_it_begins() {
        let begins = |text: &str| Coding::of_magic(&BASE64_STANDARD.decode(text).unwrap());
        assert_eq!(
            (begins(GZIP), begins(ZSTD), Coding::of_magic(b"{}")),
            (Some(Coding::Gzip), Some(Coding::Zstd), None)
        );
        assert_eq!((Coding::named("BR"), Coding::named("compress")), (Some(Coding::Brotli), None));
    }
}
