//! Looking for the session's placeholders, in a header, in a URL, or in a body as it passes.
//!
//! Every placeholder holds a mark whose first two characters stand in its base64 too (`policy::shape`), so that one search
//! for two rare characters finds them all, however many there are. What it finds is then read: plain, with characters
//! percent-encoded or escaped as JSON does, or in base64. There are two marks, one of which has capitals and digits alone.

use super::rare::{Places, Rare};
use crate::policy::{
    PLACEHOLDER_MARK, PLACEHOLDER_MARK_CAPITAL, PLACEHOLDER_OWN, PLACEHOLDER_OWN_CAPITAL, PLACEHOLDER_PAIR,
};
use memchr::memmem::Finder;
use std::collections::HashMap;

/// Bytes of a mark.
const MARK: usize = PLACEHOLDER_MARK.len();
/// Bytes of the mark and what is the placeholder's own behind it.
const KNOWN: usize = MARK + PLACEHOLDER_OWN;
/// Longest form of so much of a placeholder: every character as `\u0041`.
const FORM_BYTES_MAX: usize = KNOWN * 6;
/// How much of what has passed is looked at again with what comes next.
const TAIL: usize = FORM_BYTES_MAX - 1;
/// How much is searched for one thing before it is for another: what a processor has nearest to it, half of it to be sure.
const STRETCH_BYTES: usize = 16 << 10;
/// How many times over a text may be percent-encoded and still be found.
pub(super) const ENCODINGS_MAX: usize = 3;

/// The marks, and how many characters behind each are the placeholder's own.
const MARKS: [(&[u8; MARK], usize); 2] =
    [(PLACEHOLDER_MARK, PLACEHOLDER_OWN), (PLACEHOLDER_MARK_CAPITAL, PLACEHOLDER_OWN_CAPITAL)];
/// How much of the mark of capitals there may be behind what ends a group of base64 with the pair.
const CAPITAL_ENDS: [usize; 3] = [4, 6, 8];

/// What is a placeholder's own, with zeros behind it where that is less.
type Own = [u8; PLACEHOLDER_OWN];

/// So many bytes of what is a placeholder's own; none where there are less.
fn own(bytes: &[u8], count: usize) -> Option<Own> {
    let mut own = [0; PLACEHOLDER_OWN];
    own[..count].copy_from_slice(bytes.get(..count)?);
    Some(own)
}

/// The session's placeholders, by what is their own.
#[derive(Debug)]
pub struct Watch {
    pair: Rare,
    placeholders: HashMap<Own, usize>,
    /// As they would stand in the name of a host or a header.
    lowered: HashMap<Own, usize>,
}

impl Watch {
    /// Looks for these placeholders, each known by its place in the list.
    ///
    /// # Errors
    /// The place of one without a mark.
    pub fn new<'a>(placeholders: impl Iterator<Item = &'a str>) -> Result<Self, usize> {
        let mut by_own: HashMap<Own, usize> = HashMap::new();
        for (index, placeholder) in placeholders.enumerate() {
            let own = MARKS.iter().find_map(|(mark, count)| {
                let at = Finder::new(*mark).find(placeholder.as_bytes())?;
                own(&placeholder.as_bytes()[at + MARK..], *count)
            });
            by_own.insert(own.ok_or(index)?, index);
        }
        let lowered = by_own.iter().map(|(own, index)| (own.map(|byte| byte.to_ascii_lowercase()), *index)).collect();
        Ok(Self { pair: Rare::new(PLACEHOLDER_PAIR), placeholders: by_own, lowered })
    }

    /// Whether there is anything to look for.
    pub fn is_idle(&self) -> bool {
        self.placeholders.is_empty()
    }

    /// The first placeholder that begins here.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        self.find_before(&mut self.pair.places(bytes), bytes, bytes.len())
    }

    /// The same, and whether there is something else; both are looked for a stretch at a time, so that what the one search has read
    /// is at hand for the other. The latter is asked of each stretch, by where it begins and ends, until it is so.
    pub(super) fn find_beside(
        &self,
        bytes: &[u8],
        mut is_there: impl FnMut(usize, usize) -> bool,
    ) -> (Option<usize>, bool) {
        let (mut pairs, mut found, mut there) = (self.pair.places(bytes), None, false);
        for begin in (0..bytes.len()).step_by(STRETCH_BYTES) {
            let end = bytes.len().min(begin + STRETCH_BYTES);
            found = found.or_else(|| self.find_before(&mut pairs, bytes, end));
            there = there || is_there(begin, end);
        }
        (found, there)
    }

    fn find_before(&self, pairs: &mut Places<'_>, bytes: &[u8], end: usize) -> Option<usize> {
        std::iter::from_fn(|| pairs.next_before(end)).find_map(|at| self.read(&bytes[at..]))
    }

    /// Every placeholder in a short text, in order, also where it was percent-encoded over and over.
    pub(super) fn all(&self, text: &[u8]) -> Vec<usize> {
        let found = |text: &[u8]| self.pair.find_iter(text).filter_map(|at| self.read(&text[at..])).collect::<Vec<_>>();
        let mut most = found(text);
        let mut decoded = text.to_vec();
        for _ in 0..ENCODINGS_MAX {
            if !decoded.contains(&b'%') {
                break;
            }
            decoded = percent_decoded(&decoded);
            let here = found(&decoded);
            if here.len() > most.len() {
                most = here;
            }
        }
        most
    }

    /// A placeholder in the name of a host or a header, which has no capitals and, of a host, may be cut by dots.
    pub(super) fn in_lowered(&self, name: &str) -> Option<usize> {
        let joined: Vec<u8> = name.bytes().filter(|byte| *byte != b'.').map(|byte| byte.to_ascii_lowercase()).collect();
        MARKS.iter().find_map(|(mark, count)| {
            let at = Finder::new(&mark.map(|byte| byte.to_ascii_lowercase())).find(&joined)?;
            self.lowered.get(&own(&joined[at + MARK..], *count)?).copied()
        })
    }

    /// The placeholder whose mark begins here, or in whose base64 the pair stands here.
    fn read(&self, bytes: &[u8]) -> Option<usize> {
        if !bytes.get(PLACEHOLDER_PAIR.len()).copied().is_some_and(may_follow) {
            return None;
        }
        self.read_plain(bytes).or_else(|| self.read_coded(bytes)).or_else(|| self.read_coded_capital(bytes))
    }

    fn read_plain(&self, bytes: &[u8]) -> Option<usize> {
        if let Some(index) = self.read_marked(bytes) {
            return Some(index);
        }
        let near = &bytes[..bytes.len().min(FORM_BYTES_MAX)];
        if !near.contains(&b'%') && !near.contains(&b'\\') {
            return None;
        }
        let (mut known, mut length) = ([0; KNOWN], 0);
        for (byte, plain) in known.iter_mut().zip(Plain(near)) {
            (*byte, length) = (plain, length + 1);
        }
        self.read_marked(&known[..length])
    }

    /// The placeholder whose mark begins here, as it is.
    fn read_marked(&self, bytes: &[u8]) -> Option<usize> {
        let (_, count) = MARKS.iter().find(|(mark, _)| bytes.starts_with(*mark))?;
        self.placeholders.get(&own(&bytes[MARK..], *count)?).copied()
    }

    fn read_coded(&self, bytes: &[u8]) -> Option<usize> {
        let mut decoded = Decoded::of(bytes, 0);
        let (mut known, mut length, mut cut) = ([0; KNOWN], 0, 0);
        while length < KNOWN - cut {
            known[length] = decoded.next()?;
            length += 1;
            // The letter behind the `e` tells which of the three it is, and so how much of the mark came before.
            if length == 2 {
                cut = PLACEHOLDER_MARK.iter().position(|byte| *byte == known[1]).filter(|at| *at > 2)? - 1;
            }
        }
        let own = known[..length].strip_prefix(&PLACEHOLDER_MARK[cut..])?;
        self.placeholders.get(own).copied()
    }

    /// The same of the mark of capitals, of which the pair ends a group: the next begins right behind it.
    fn read_coded_capital(&self, bytes: &[u8]) -> Option<usize> {
        const WANTED: usize = MARK - CAPITAL_ENDS[0] + PLACEHOLDER_OWN_CAPITAL;
        let (mut known, mut length) = ([0; WANTED], 0);
        let capitals = Decoded::of(bytes, PLACEHOLDER_PAIR.len()).take_while(|byte| is_capital(*byte));
        for (byte, plain) in known.iter_mut().zip(capitals) {
            (*byte, length) = (plain, length + 1);
        }
        CAPITAL_ENDS.iter().find_map(|end| {
            let behind = known[..length].strip_prefix(&PLACEHOLDER_MARK_CAPITAL[*end..])?;
            self.placeholders.get(&own(behind, PLACEHOLDER_OWN_CAPITAL)?).copied()
        })
    }
}

/// Whether a character can stand behind the pair in any form of a placeholder, so that hardly anything else is read. As it is, each mark goes
/// on with its own; in base64, with what the next six bits of it and of what is behind it come to; otherwise there is an escape or the end of
/// a line.
fn may_follow(byte: u8) -> bool {
    matches!(byte, b'e' | b'V' | b'B' | b'F' | b'I' | b'J' | b'M' | b'N' | b'Q'..=b'W' | b'%' | b'\\' | b'\r' | b'\n')
}

/// Whether a byte can be of the mark of capitals or behind it (base32, RFC 4648).
fn is_capital(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'2'..=b'7')
}

/// What a character of base64 stands for: none outside of it for one that ends it, and nothing at all for a line break.
fn sextet(byte: u8) -> Option<Option<u8>> {
    Some(match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        b'\r' | b'\n' => return None,
        _ => None,
    })
}

/// What base64 stands for, byte by byte, up to what is none; escaped or broken into lines as it may be.
struct Decoded<'a> {
    text: Plain<'a>,
    bits: u32,
    count: u32,
}

impl<'a> Decoded<'a> {
    /// What so many characters into a text stands for, as far as a placeholder reaches.
    fn of(text: &'a [u8], skipped: usize) -> Self {
        Self { text: Plain(&text[skipped..text.len().min(FORM_BYTES_MAX).max(skipped)]), bits: 0, count: 0 }
    }
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        while self.count < 8 {
            self.bits = self.bits << 6 | u32::from(self.text.find_map(sextet)??);
            self.count += 6;
        }
        self.count -= 8;
        Some((self.bits >> self.count).to_be_bytes()[3])
    }
}

/// A text with its escapes taken out: `%41`, `\u0041`, and those of one character.
struct Plain<'a>(&'a [u8]);

impl Iterator for Plain<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, taken) = match self.0 {
            [b'%', high, low, ..] => match hex(&[*high, *low]) {
                Some(byte) => (byte, 3),
                None => (b'%', 1),
            },
            [b'\\', b'u', b'0', b'0', high, low, ..] => match hex(&[*high, *low]) {
                Some(byte) => (byte, 6),
                None => (b'\\', 1),
            },
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', byte @ (b'/' | b'\\' | b'"'), ..] => (*byte, 2),
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        self.0 = &self.0[taken..];
        Some(byte)
    }
}

/// A text with its escapes taken out.
pub(super) fn unescaped(text: &[u8]) -> Vec<u8> {
    Plain(text).collect()
}

fn hex(digits: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

/// A text with every percent-encoded character plain.
pub(super) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        match after {
            [high, low, ..] if *byte == b'%' => match hex(&[*high, *low]) {
                Some(byte) => {
                    out.push(byte);
                    rest = &after[2..];
                }
                None => {
                    out.push(b'%');
                    rest = after;
                }
            },
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// A text that comes in pieces, with the end of what has come kept, so that nothing is missed where it was cut.
#[derive(Debug, Default)]
pub(super) struct Trail {
    tail: Vec<u8>,
}

impl Trail {
    /// The first placeholder that ends in the next piece. No more than all but its last byte has come before, so that
    /// whoever stops here lets none pass whole.
    pub(super) fn next(&mut self, watch: &Watch, piece: &[u8]) -> Option<usize> {
        self.next_searched(watch, piece, watch.find(piece))
    }

    /// The same, where the piece was searched already, or otherwise than by [`Watch::find`].
    pub(super) fn next_searched(&mut self, watch: &Watch, piece: &[u8], within: Option<usize>) -> Option<usize> {
        let seam = [&self.tail[..], &piece[..piece.len().min(TAIL)]].concat();
        let found = if self.tail.is_empty() { None } else { watch.find(&seam) };
        let found = found.or(within);
        if piece.len() >= TAIL {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - TAIL..]);
        } else {
            self.tail.extend_from_slice(piece);
            let spare = self.tail.len().saturating_sub(TAIL);
            self.tail.drain(..spare);
        }
        found
    }

    /// The end of what has come.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::Shape;
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD, Engine as _};

    fn placeholder(name: &str) -> String {
        Shape::Anthropic.placeholder(name, &[5; 96]).0
    }

    fn watch() -> Watch {
        let texts = ["a", "b", "c"].map(placeholder).into_iter().chain([capital()]).collect::<Vec<_>>();
        Watch::new(texts.iter().map(String::as_str)).unwrap()
    }

    /// The fourth, of capitals and digits.
    fn capital() -> String {
        Shape::AwsKey.placeholder("d", &[5; 96]).0
    }

    /// A placeholder in every form in which it is found.
    fn forms(text: &str) -> Vec<String> {
        let escaped = |form: fn(u8) -> String| text.bytes().map(form).collect::<String>();
        let mut forms = vec![text.to_owned()];
        for (plain, code) in [('e', "65"), ('W', "57")] {
            forms.extend([text.replace(plain, &format!("%{code}")), text.replace(plain, &format!("\\u00{code}"))]);
        }
        // Where the pair itself is in disguise, the whole is decoded first.
        assert!(!escaped(|byte| format!("%{byte:02x}")).contains("ZX"));
        for user in ["", "u", "us", "user", "x-access-token"] {
            let whole = format!("{user}:{text}");
            let coded = BASE64_STANDARD.encode(&whole);
            let lines: Vec<&str> = coded.as_bytes().chunks(19).map(|line| std::str::from_utf8(line).unwrap()).collect();
            forms.extend([BASE64_STANDARD_NO_PAD.encode(&whole), BASE64_URL_SAFE_NO_PAD.encode(&whole)]);
            forms.push(coded.replace('a', "%61"));
            if lines.iter().any(|line| line.contains("ZX")) {
                forms.extend([lines.join("\r\n"), lines.join("\\n")]);
            }
        }
        forms
    }

    #[test]
    fn a_placeholder_is_found_in_every_form_and_however_it_is_cut() {
        let watch = watch();
        let all = [(placeholder("b"), Some(1)), (capital(), Some(3))];
        for (form, index) in
            all.iter().flat_map(|(text, index)| forms(text).into_iter().map(move |form| (form, *index)))
        {
            let text = format!("some text before {form} and behind");
            assert_eq!(watch.find(text.as_bytes()), index, "{text}");
            for size in [1, 2, 7, 64, 119, 120] {
                let mut trail = Trail::default();
                let found = text.as_bytes().chunks(size).find_map(|piece| trail.next(&watch, piece));
                assert_eq!(found, index, "{size}: {text}");
            }
        }
    }

    #[test]
    fn it_is_found_before_its_last_byte_has_passed() {
        let (watch, text) = (watch(), placeholder("c"));
        let (first, last) = text.split_at(text.len() - 1);
        let mut trail = Trail::default();
        assert_eq!(trail.next(&watch, first.as_bytes()).or_else(|| trail.next(&watch, last.as_bytes())), Some(2));
        let (text, mut trail) = (capital(), Trail::default());
        let (first, last) = text.split_at(text.len() - 1);
        assert_eq!(trail.next(&watch, first.as_bytes()), None);
        assert_eq!(trail.next(&watch, last.as_bytes()), Some(3));
    }

    #[test]
    fn what_is_no_placeholder_of_this_session_is_none() {
        let watch = watch();
        let other = Shape::Anthropic.placeholder("a", &[6; 96]).0;
        let own = placeholder("a");
        let cut = &own[..own.find("ZX").unwrap() + KNOWN - 1];
        let others = Shape::AwsKey.placeholder("d", &[6; 96]).0;
        let short = capital()[..19].to_owned();
        let more = [others.as_str(), &short, "ZXVWFW6W", "ZXFW6W"];
        for text in more.into_iter().chain([
            other.as_str(),
            cut,
            "ZX",
            "ZXZXZXepeqer",
            "ZXAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "ZXE=",
            "ZX\\u00",
        ]) {
            assert_eq!(watch.find(text.as_bytes()), None, "{text}");
            assert_eq!(watch.find(BASE64_STANDARD.encode(text).as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_short_text_is_decoded_over_and_over() {
        let watch = watch();
        let mut text = placeholder("a").replace('Z', "%5A");
        for times in 1..=ENCODINGS_MAX + 1 {
            let found = watch.all(text.as_bytes());
            assert_eq!(found, if times <= ENCODINGS_MAX { vec![0] } else { vec![] }, "{times}");
            text = text.replace('%', "%25");
        }
        let two = format!("a={}&b={}", placeholder("b"), placeholder("a"));
        assert_eq!(watch.all(two.as_bytes()), [1, 0]);
    }

    #[test]
    fn a_hosts_name_is_read_without_capitals_and_dots() {
        let watch = watch();
        let host = format!("{}.evil.example", placeholder("b").to_lowercase().replace('_', "-"));
        let (first, rest) = host.split_at(30);
        let cut = format!("{first}.{rest}");
        let plain = placeholder("b").to_lowercase();
        let own = &plain[plain.find("zx").unwrap() + MARK..][..PLACEHOLDER_OWN];
        assert_eq!(watch.in_lowered(&cut), (!own.contains('_')).then_some(1), "{cut}");
        assert_eq!(watch.in_lowered("api.example.com"), None);
        assert_eq!(watch.in_lowered(&format!("{}.evil.example", capital().to_lowercase())), Some(3));
    }

    #[test]
    fn a_text_without_a_mark_cannot_be_watched_for() {
        assert_eq!(Watch::new(["sk-plain"].into_iter()).err(), Some(0));
        assert!(Watch::new([].into_iter()).unwrap().is_idle());
    }
}
