//! Finding a text in the disguises in which requests carry such texts: percent-encoded, or in base64.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroize;

/// How many times over a text may be percent-encoded and still be found.
const ENCODINGS_MAX: usize = 3;

/// A text that is looked for.
pub(super) struct Needle {
    plain: Vec<u8>,
    /// The text in base64, wherever it begins in what was encoded, without the characters that its neighbours share.
    coded: Vec<Vec<u8>>,
}

impl Needle {
    /// Prepares to look for a text.
    pub(super) fn new(text: &[u8]) -> Self {
        let mut coded = Vec::new();
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            // What comes before shifts the text by 0, 1 or 2 bytes, and spoils as many characters and one more.
            for (shift, spoiled) in [(0, 0), (1, 2), (2, 3)] {
                let mut whole = engine.encode([&[0; 2][..shift], text].concat()).into_bytes();
                if !(shift + text.len()).is_multiple_of(3) {
                    whole.pop();
                }
                whole.drain(..spoiled.min(whole.len()));
                if !whole.is_empty() && !coded.contains(&whole) {
                    coded.push(whole);
                }
            }
        }
        Self { plain: text.to_vec(), coded }
    }

    /// Whether the text stands there in a disguise.
    pub(super) fn hides_in(&self, bytes: &[u8]) -> bool {
        let coded = |bytes: &[u8]| self.coded.iter().any(|text| position(bytes, text).is_some());
        if coded(bytes) {
            return true;
        }
        let mut decoded = bytes.to_vec();
        for _ in 0..ENCODINGS_MAX {
            if !decoded.contains(&b'%') {
                return false;
            }
            decoded = percent_decoded(&decoded);
            if position(&decoded, &self.plain).is_some() || coded(&decoded) {
                return true;
            }
        }
        false
    }
}

impl Drop for Needle {
    /// What is looked for may be a secret.
    fn drop(&mut self) {
        self.plain.zeroize();
        self.coded.zeroize();
    }
}

/// Where a text begins within another; an empty one is nowhere.
pub(super) fn position(bytes: &[u8], text: &[u8]) -> Option<usize> {
    let first = text.first()?;
    let mut from = 0;
    while bytes.len() - from >= text.len() {
        let at = from + bytes[from..=bytes.len() - text.len()].iter().position(|byte| byte == first)?;
        if bytes[at..].starts_with(text) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// A text with every percent-encoded character plain, for finding what hides in it.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter().copied();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(byte));
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_it_begins_in_what_was_encoded() {
        let text = b"sk-\xfa\xfb\xfc0123456789";
        let needle = Needle::new(text);
        for before in 0..8 {
            for after in 0..4 {
                let whole = [&vec![b'a'; before][..], text, &vec![b'z'; after][..]].concat();
                assert!(needle.hides_in(BASE64_STANDARD_NO_PAD.encode(&whole).as_bytes()), "{before} {after}");
                assert!(needle.hides_in(BASE64_URL_SAFE_NO_PAD.encode(&whole).as_bytes()), "{before} {after}");
                let cut = [&vec![b'a'; before][..], &text[..text.len() - 1]].concat();
                assert!(!needle.hides_in(BASE64_STANDARD_NO_PAD.encode(&cut).as_bytes()), "{before}");
            }
        }
    }

    #[test]
    fn a_text_encoded_over_and_over_is_found_up_to_the_limit() {
        let needle = Needle::new(b"a-b");
        let mut text = "a%2Db".to_owned();
        for times in 1..=ENCODINGS_MAX + 1 {
            assert_eq!(needle.hides_in(text.as_bytes()), times <= ENCODINGS_MAX, "{times}");
            text = text.replace('%', "%25");
        }
    }

    #[test]
    fn an_empty_text_is_nowhere() {
        assert!(position(b"abc", b"").is_none() && !Needle::new(b"").hides_in(b"abc%41"));
        assert_eq!(position(b"", b"a"), None);
        assert_eq!(position(b"aab", b"ab"), Some(1));
    }
}
