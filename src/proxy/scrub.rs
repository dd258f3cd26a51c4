//! Taking the session's secrets out of answers as they pass, so that no server can give one back.
//!
//! A secret is looked for as it is, as JSON and URLs write it, and in base64 wherever it begins in what was encoded. Of
//! the texts that are looked for, every run of four bytes that can stand at a sampled position is in one table of bits,
//! and only every so-many-th position of an answer is looked at. So it costs the same for one secret and for hundreds.

use super::watch::{ENCODINGS_MAX, percent_decoded};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use std::collections::HashMap;
use std::ops::Range;
use zeroize::Zeroize;

/// Shortest secret that is looked for in answers: a shorter one would be found by chance.
pub(super) const SECRET_BYTES_MIN: usize = 8;
/// How much of a long secret is looked for, and taken out.
const NEEDLE_BYTES_MAX: usize = 1024;
/// Bytes of a run.
const RUN: usize = 4;
/// Longest step from one sampled position to the next; longer ones gain nothing.
const STEP_MAX: usize = 24;
/// Bits of the table for each run, so that few others are taken for one.
const BITS_FOR_A_RUN: usize = 32;
/// What stands where a secret stood.
const MASK: u8 = b'*';

/// The texts that are looked for.
pub struct Scrub {
    needles: Vec<Vec<u8>>,
    /// Which runs may be one of a text's, by their hashes.
    bits: Vec<u64>,
    shift: u32,
    /// In which texts a run is, and where.
    runs: HashMap<u32, Vec<(usize, usize)>>,
    step: usize,
    longest: usize,
}

impl Scrub {
    /// Prepares to look for secrets; those too short to be known are left out.
    pub fn new<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        let known = secrets.filter(|secret| secret.len() >= SECRET_BYTES_MIN);
        let mut needles: Vec<Vec<u8>> = known.flat_map(forms).collect();
        needles.iter_mut().for_each(|needle| needle.truncate(NEEDLE_BYTES_MAX));
        needles.sort_unstable();
        needles.dedup();
        let shortest = needles.iter().map(Vec::len).min().unwrap_or(RUN);
        let step = (shortest + 1 - RUN).min(STEP_MAX);
        let mut runs: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
        for (index, needle) in needles.iter().enumerate() {
            for at in 0..step {
                runs.entry(run_at(needle, at)).or_default().push((index, at));
            }
        }
        let bits = (runs.len() * BITS_FOR_A_RUN).next_power_of_two().max(64);
        let shift = u32::BITS - bits.ilog2();
        let longest = needles.iter().map(Vec::len).max().unwrap_or(0);
        let mut scrub = Self { bits: vec![0; bits / 64], needles, shift, runs, step, longest };
        for run in scrub.runs.keys() {
            let hash = hash(*run, shift);
            scrub.bits[hash / 64] |= 1 << (hash % 64);
        }
        scrub
    }

    /// Whether there is nothing to look for.
    pub fn is_idle(&self) -> bool {
        self.needles.is_empty()
    }

    /// The first place from which on a secret stands there, and how far.
    pub fn find(&self, bytes: &[u8], from: usize) -> Option<Range<usize>> {
        if self.needles.is_empty() {
            return None;
        }
        let mut at = from;
        while at + RUN <= bytes.len() {
            let run = run_at(bytes, at);
            if self.may_be(run)
                && let Some(found) = self.around(bytes, at, run, from)
            {
                return Some(found);
            }
            at += self.step;
        }
        None
    }

    /// Whether a secret stands in a short text, also where it was percent-encoded over and over.
    pub(super) fn holds(&self, text: &[u8]) -> bool {
        let mut decoded = text.to_vec();
        for _ in 0..ENCODINGS_MAX {
            if self.find(&decoded, 0).is_some() {
                return true;
            }
            if !decoded.contains(&b'%') {
                return false;
            }
            decoded = percent_decoded(&decoded);
        }
        self.find(&decoded, 0).is_some()
    }

    fn may_be(&self, run: u32) -> bool {
        let hash = hash(run, self.shift);
        self.bits[hash / 64] >> (hash % 64) & 1 == 1
    }

    /// The longest text that has this run here.
    fn around(&self, bytes: &[u8], at: usize, run: u32, from: usize) -> Option<Range<usize>> {
        let texts = self.runs.get(&run)?.iter().filter_map(|(index, offset)| {
            let (needle, start) = (&self.needles[*index], at.checked_sub(*offset)?);
            (start >= from && bytes[start..].starts_with(needle)).then(|| start..start + needle.len())
        });
        texts.max_by_key(Range::len)
    }

    /// How many bytes at the end may be the beginning of a secret; fewer than a run are not told from others.
    fn begun(&self, bytes: &[u8]) -> usize {
        let from = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        let begins = |at: &usize| {
            let (run, rest) = (run_at(bytes, *at), &bytes[*at..]);
            let of_text = |(index, offset): &(usize, usize)| *offset == 0 && self.needles[*index].starts_with(rest);
            self.may_be(run) && self.runs.get(&run).is_some_and(|texts| texts.iter().any(of_text))
        };
        (from..(bytes.len() + 1).saturating_sub(RUN)).find(begins).map_or(0, |at| bytes.len() - at)
    }
}

impl Drop for Scrub {
    /// What is looked for are secrets.
    fn drop(&mut self) {
        self.needles.zeroize();
        self.runs.drain().for_each(|(mut run, _)| run.zeroize());
    }
}

fn run_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |run| u32::from_le_bytes(*run))
}

/// Spreads a run over the table (Knuth's multiplicative hashing).
fn hash(run: u32, shift: u32) -> usize {
    (run.wrapping_mul(0x9e37_79b1) >> shift) as usize
}

/// A secret in the forms in which it is looked for, each long enough to be known.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec()];
    if let Ok(text) = std::str::from_utf8(secret) {
        let quoted = serde_json::Value::from(text).to_string();
        forms.push(quoted.as_bytes()[1..quoted.len() - 1].to_vec());
        forms.push(text.replace('/', "\\/").into_bytes());
        let encoded = super::spot::percent_encoded(text);
        forms.push(lower_escapes(&encoded).into_bytes());
        forms.push(encoded.into_bytes());
    }
    for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
        // What comes before shifts the text by 0, 1 or 2 bytes, and spoils as many characters and one more.
        for (shift, spoiled) in [(0, 0), (1, 2), (2, 3)] {
            let mut whole = engine.encode([&[0; 2][..shift], secret].concat()).into_bytes();
            if !(shift + secret.len()).is_multiple_of(3) {
                whole.pop();
            }
            whole.drain(..spoiled);
            forms.push(whole);
        }
    }
    forms
}

/// The same with the digits of escapes as small letters.
fn lower_escapes(text: &str) -> String {
    let mut parts = text.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (digits, rest) = part.split_at(part.len().min(2));
        format!("{text}%{}{rest}", digits.to_ascii_lowercase())
    })
}

/// A body being scrubbed as it passes.
#[derive(Default)]
pub struct Scrubber {
    /// What may be the beginning of a secret, and waits for what comes next.
    held: Vec<u8>,
    /// The last bytes that went on, fewer than can be told to begin a secret.
    sent: Vec<u8>,
}

impl Scrubber {
    /// What of the next piece, and what was held back, may go on, with a mask of the same length for each secret.
    pub fn next(&mut self, scrub: &Scrub, piece: &Bytes) -> Bytes {
        if piece.is_empty() {
            return Bytes::new();
        }
        let before = self.sent.len();
        let seam_ends = piece.len().min(scrub.longest);
        let seam = [&self.sent[..], &self.held, &piece[..seam_ends]].concat();
        // Mostly there is nothing, and the piece goes on as it came.
        if self.held.is_empty() && scrub.find(&seam, 0).is_none() && scrub.find(piece, 0).is_none() {
            let short = piece.len() < scrub.longest;
            let begun = if short { scrub.begun(&seam).min(piece.len()) } else { scrub.begun(piece) };
            self.held.extend_from_slice(&piece[piece.len() - begun..]);
            let goes = piece.slice(..piece.len() - begun);
            self.remember(&goes);
            return goes;
        }
        let mut whole = [&seam[..], &piece[seam_ends..]].concat();
        let mut at = 0;
        while let Some(found) = scrub.find(&whole, at) {
            whole[found.start.max(before)..found.end].fill(MASK);
            at = found.end;
        }
        let begun = scrub.begun(&whole[at..]).min(whole.len() - before);
        let goes = whole.len() - begun;
        self.held.zeroize();
        self.held.extend_from_slice(&whole[goes..]);
        let goes = Bytes::copy_from_slice(&whole[before..goes]);
        whole.zeroize();
        self.remember(&goes);
        goes
    }

    /// What was held back, now that nothing follows.
    pub fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    /// How much is held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn remember(&mut self, gone: &[u8]) {
        self.sent.extend_from_slice(&gone[gone.len().saturating_sub(RUN - 1)..]);
        let spare = self.sent.len().saturating_sub(RUN - 1);
        self.sent.drain(..spare);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_STANDARD;

    const SECRETS: [&str; 3] = ["sk-real/9876\"543210", "ghp_0123456789abcdef", "8 bytes."];

    fn scrub() -> Scrub {
        Scrub::new(SECRETS.iter().map(|secret| secret.as_bytes()))
    }

    fn scrubbed(text: &str, size: usize) -> String {
        let (scrub, mut scrubber) = (scrub(), Scrubber::default());
        let pieces = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        let mut out: Vec<u8> = pieces.iter().flat_map(|piece| scrubber.next(&scrub, piece)).collect();
        out.extend(scrubber.end());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_secret_is_taken_out_in_every_form_and_its_length_stays() {
        for secret in SECRETS {
            let quoted = serde_json::Value::from(secret).to_string();
            let mut forms = vec![
                secret.to_owned(),
                super::super::spot::percent_encoded(secret),
                quoted.trim_matches('"').to_owned(),
            ];
            forms.extend(["", "u", "us", "user"].map(|user| BASE64_STANDARD.encode(format!("{user}:{secret}:"))));
            for form in forms {
                let text = format!("before {form} between {form}{form} behind");
                let whole = scrubbed(&text, text.len());
                assert!(!whole.contains(&form) && whole.len() == text.len(), "{text} {whole}");
                assert!(whole.starts_with("before ") && whole.ends_with(" behind"), "{whole}");
                for size in [1, 2, 4, 5, 9, 31] {
                    // Of a secret that is cut the first three bytes can go on before they are known.
                    let cut = scrubbed(&text, size);
                    assert!(!cut.contains(&form[3..]) && cut.len() == text.len(), "{size} {cut}");
                    assert!(cut.starts_with("before ") && cut.ends_with(" behind"), "{size} {cut}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_secret_goes_on_as_it_is_and_at_once() {
        let text =
            "sk-real/9876, ghp_0123456789abcde, 8 bytes and other texts that only begin like it; sk-real/9876\"54321";
        for size in [1, 3, 8, 40, 200] {
            assert_eq!(scrubbed(text, size), text, "{size}");
        }
        let (scrub, mut scrubber) = (scrub(), Scrubber::default());
        let piece = Bytes::from_static(b"data: {\"text\": \"hello\"}\n\n");
        assert_eq!(scrubber.next(&scrub, &piece), piece);
        assert_eq!(scrubber.next(&scrub, &Bytes::from_static(b"x sk-real/98")), "x ");
        assert_eq!((scrubber.held(), scrubber.end()), (10, Bytes::from_static(b"sk-real/98")));
    }

    #[test]
    fn a_secret_too_short_to_be_known_is_not_looked_for() {
        assert!(Scrub::new([b"1234567".as_slice()].into_iter()).is_idle());
        assert_eq!(Scrub::new([b"12345678".as_slice()].into_iter()).find(b"a 12345678", 0), Some(2..10));
        assert_eq!(Scrub::new(std::iter::empty()).find(b"anything", 0), None);
    }
}
