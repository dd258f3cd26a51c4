//! Watching a request's body for placeholders as it passes: as it is, with its escapes taken out, and decompressed.
//!
//! Nothing is held back for it. A placeholder is known before its last byte passes, and there the body is cut off.

use super::decode::{Coding, Decoder, Unreadable};
use super::rare::Rare;
use super::watch::{Trail, Watch, unescaped};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use memchr::{memchr, memmem};
use std::sync::LazyLock;

/// How many bytes tell whether a body is compressed that does not say so.
const MAGIC_BYTES: usize = 4;
/// What the type of a form's body begins with.
const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// What an escaped character of a placeholder begins with in JSON.
const JSON_ESCAPE: &[u8] = b"\\u00";
/// Looks for one.
static JSON_ESCAPES: LazyLock<Rare> = LazyLock::new(|| Rare::new(JSON_ESCAPE));
/// Longest escape that may be cut off at the end of a piece, less a byte.
const ESCAPE_CUT: usize = 5;

/// Why a body may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The placeholder with this place in the list stands in it.
    Placeholder(usize),
    /// It cannot be read.
    Unreadable(&'static str),
}

/// One body being watched.
pub struct Screen {
    plain: Text,
    inside: Inside,
}

/// What of a body is compressed.
enum Inside {
    /// Nothing.
    Nothing,
    /// Not known yet; how it begins.
    Unknown(Vec<u8>),
    /// All of it, which it said or did not.
    Compressed { decoder: Box<Decoder>, text: Text, declared: bool },
}

impl Screen {
    /// Begins to watch a body with these headers.
    ///
    /// # Errors
    /// [`Stop::Unreadable`] for a body that cannot be read.
    pub fn new(headers: &HeaderMap) -> Result<Self, Stop> {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default().to_ascii_lowercase();
        let escapes = match () {
            () if is_form(headers) => Escapes::Percent,
            () if memmem::find(&kind, b"json").is_some() => Escapes::Json,
            () => Escapes::None,
        };
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let value = value.to_str().map_err(|_| Stop::Unreadable("its Content-Encoding is no text"))?;
            codings.extend(value.split(',').map(str::trim).filter(|name| !is_plain(name)));
        }
        let inside = match codings.as_slice() {
            [] => Inside::Unknown(Vec::new()),
            [name] => {
                let coding = Coding::named(name).ok_or(Stop::Unreadable("its Content-Encoding is not known here"))?;
                let (decoder, text) = (Box::new(Decoder::new(coding)), Text::new(escapes));
                Inside::Compressed { decoder, text, declared: true }
            }
            _ => return Err(Stop::Unreadable("it is compressed more than once")),
        };
        Ok(Self { plain: Text::new(escapes), inside })
    }

    /// Looks at the next piece.
    ///
    /// # Errors
    /// Why it may not pass.
    pub fn next(&mut self, watch: &Watch, piece: &[u8]) -> Result<(), Stop> {
        if let Some(index) = self.plain.next(watch, piece) {
            return Err(Stop::Placeholder(index));
        }
        if let Inside::Unknown(begin) = &mut self.inside {
            begin.extend_from_slice(&piece[..piece.len().min(MAGIC_BYTES - begin.len())]);
            if begin.len() < MAGIC_BYTES {
                return Ok(());
            }
            let begin = std::mem::take(begin);
            self.inside = self.look_inside(&begin);
            // What came before this piece was too short to be known.
            let before = begin.len().saturating_sub(piece.len());
            self.decompress(watch, &begin[..before])?;
        }
        self.decompress(watch, piece)
    }

    fn look_inside(&self, begin: &[u8]) -> Inside {
        match Coding::of_magic(begin) {
            Some(coding) => Inside::Compressed {
                decoder: Box::new(Decoder::new(coding)),
                text: Text::new(self.plain.escapes),
                declared: false,
            },
            None => Inside::Nothing,
        }
    }

    fn decompress(&mut self, watch: &Watch, piece: &[u8]) -> Result<(), Stop> {
        let Inside::Compressed { decoder, text, declared } = &mut self.inside else { return Ok(()) };
        let mut found = None;
        let read = decoder.next(piece, &mut |bytes| found = found.or_else(|| text.next(watch, bytes)));
        match (found, read) {
            (Some(index), _) => Err(Stop::Placeholder(index)),
            (None, Ok(())) => Ok(()),
            (None, Err(Unreadable::Bomb)) => Err(Stop::Unreadable("too much comes out of it")),
            (None, Err(Unreadable::Broken)) if *declared => Err(Stop::Unreadable("it is not compressed as it says")),
            (None, Err(Unreadable::Broken)) => {
                // It only began like something compressed.
                self.inside = Inside::Nothing;
                Ok(())
            }
        }
    }
}

/// Whether a body is a form's.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().get(..FORM.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(FORM))
}

/// Codings that leave the text readable: none, and S3's chunks with a signature each.
fn is_plain(name: &str) -> bool {
    name.is_empty() || name.eq_ignore_ascii_case("identity") || name.eq_ignore_ascii_case("aws-chunked")
}

/// How the characters of a text may be escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    None,
    /// As in forms.
    Percent,
    /// As in JSON.
    Json,
}

/// A text being watched, and the same without its escapes from where they begin.
struct Text {
    trail: Trail,
    escapes: Escapes,
    without: Option<(Vec<u8>, Trail)>,
}

impl Text {
    fn new(escapes: Escapes) -> Self {
        Self { trail: Trail::default(), escapes, without: None }
    }

    fn next(&mut self, watch: &Watch, piece: &[u8]) -> Option<usize> {
        let (here, escaped) = match self.without {
            None => self.look(watch, piece),
            Some(_) => (watch.find(piece), false),
        };
        if escaped {
            let mut trail = Trail::default();
            let tail = self.trail.tail();
            let (before, cut) = tail.split_at(tail.len() - escape_cut_off(tail));
            trail.next(watch, before);
            self.without = Some((cut.to_vec(), trail));
        }
        let found = self.trail.next_searched(watch, piece, here);
        let Some((cut, trail)) = self.without.as_mut() else { return found };
        let joined = [&std::mem::take(cut)[..], piece].concat();
        let (whole, rest) = joined.split_at(joined.len() - escape_cut_off(&joined));
        cut.extend_from_slice(rest);
        found.or_else(|| trail.next(watch, &unescaped(whole)))
    }

    /// The first placeholder in this piece, and whether an escape that may be one of a placeholder's characters begins in it, or
    /// began before it.
    fn look(&self, watch: &Watch, piece: &[u8]) -> (Option<usize>, bool) {
        match self.escapes {
            Escapes::None => (watch.find(piece), false),
            Escapes::Percent => watch.find_beside(piece, |begin, end| memchr(b'%', &piece[begin..end]).is_some()),
            Escapes::Json => {
                let (tail, cut) = (self.trail.tail(), JSON_ESCAPE.len() - 1);
                let seam = [&tail[tail.len().saturating_sub(cut)..], &piece[..piece.len().min(cut)]].concat();
                let begins_before = memmem::find(&seam, JSON_ESCAPE).is_some();
                let mut escapes = JSON_ESCAPES.places(piece);
                let (found, begins) = watch.find_beside(piece, |_, end| escapes.next_before(end).is_some());
                (found, begins_before || begins)
            }
        }
    }
}

/// How many bytes at the end may be the beginning of an escape.
fn escape_cut_off(text: &[u8]) -> usize {
    let end = &text[text.len().saturating_sub(ESCAPE_CUT)..];
    let cut = |from: &&[u8]| match from {
        [b'%', ..] => from.len() < 3,
        [b'\\', ..] => JSON_ESCAPE.starts_with(&from[..from.len().min(JSON_ESCAPE.len())]),
        _ => false,
    };
    (0..end.len()).map(|at| &end[at..]).find(cut).map_or(0, <[u8]>::len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::Shape;
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    fn placeholder() -> String {
        Shape::OpenAi.placeholder("a", &[5; 96]).0
    }

    fn watch() -> Watch {
        Watch::new([placeholder().as_str()].into_iter()).unwrap()
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn screened(headers: &HeaderMap, body: &[u8], size: usize) -> Result<(), Stop> {
        let mut screen = Screen::new(headers)?;
        body.chunks(size).try_for_each(|piece| screen.next(&watch(), piece))
    }

    /// A gzip member that holds the text as it is.
    fn stored(text: &[u8]) -> Vec<u8> {
        let length = u16::try_from(text.len()).unwrap();
        let mut member = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01".to_vec();
        member.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
        [&member, text, &[0; 8]].concat()
    }

    #[test]
    fn a_placeholder_is_found_in_every_kind_of_body_however_it_is_cut() {
        let text = placeholder();
        let escaped = |form: fn(u8) -> String| text.bytes().map(form).collect::<String>();
        let (form, json) = ("application/x-www-form-urlencoded", "application/json; charset=utf-8");
        let part =
            format!("--b\r\ncontent-transfer-encoding: base64\r\n\r\n{}\r\n--b--", BASE64_STANDARD.encode(&text));
        let cases = [
            ("text/plain", format!("a {text} b")),
            (json, format!("{{\"a\":\"{text}\"}}")),
            (json, format!("{{\"a\":\"{}\"}}", escaped(|byte| format!("\\u{byte:04x}")))),
            (json, format!("{{\"a\":\"{}\"}}", text.replace("ZX", "\\u005aX"))),
            (form, format!("a=b&c={}", escaped(|byte| format!("%{byte:02X}")))),
            (form, format!("a=b%20&c={text}")),
            ("multipart/form-data; boundary=b", part),
        ];
        for (kind, body) in &cases {
            for size in [1, 5, 50, 4096] {
                let kind = [("content-type", *kind)];
                let found = Err(Stop::Placeholder(0));
                assert_eq!(screened(&headers(&kind), body.as_bytes(), size), found, "{size} {body}");
                let gzip = [kind[0], ("content-encoding", "gzip")];
                assert_eq!(screened(&headers(&gzip), &stored(body.as_bytes()), size), found, "gzip {size} {body}");
                // Compressed without saying so.
                assert_eq!(screened(&headers(&kind), &stored(body.as_bytes()), size), found, "silent {size} {body}");
                let cut = body.replace(&text[10..], "").replace("005a", "005b");
                if cut != *body && !cut.contains("ZX") {
                    assert_eq!(screened(&headers(&kind), cut.as_bytes(), size), Ok(()), "{size} {cut}");
                }
            }
        }
    }

    #[test]
    fn a_body_that_cannot_be_read_may_not_pass() {
        let stop = |pairs: &[_], body: &[u8]| screened(&headers(pairs), body, 10).unwrap_err();
        let unreadable = |stop| matches!(stop, Stop::Unreadable(_));
        assert!(unreadable(stop(&[("content-encoding", "compress")], b"")));
        assert!(unreadable(stop(&[("content-encoding", "gzip, br")], b"")));
        assert!(unreadable(stop(&[("content-encoding", "gzip")], b"this is no gzip")));
        for fine in ["identity", "aws-chunked", ""] {
            assert_eq!(screened(&headers(&[("content-encoding", fine)]), b"plain text", 3), Ok(()), "{fine}");
        }
        assert_eq!(screened(&headers(&[]), b"\x1f\x8b\x08 only begins like gzip", 2), Ok(()));
    }
}
