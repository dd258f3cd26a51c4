//! Many payloads in few bytes: what is no longer written to is kept in bundles, compressed (zlib, RFC 1950).
//!
//! Neighbouring events say the same things in nearly the same words, so that a bundle takes an eighth of what they take one by
//! one. Hashes cover the payloads as they were recorded and follow from them: none of them is in a bundle.

use super::PAYLOAD_BYTES_MAX;
use crate::model::Writer;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

/// How many payloads are in one bundle: more make it smaller by little, and finding one of them slower.
const RECORDS_MAX: usize = 128;
/// A bundle whose payloads come to so many bytes is full.
const BYTES_MIN: usize = 64 << 10;
/// What goes before each payload: its writer, and its length.
const PREFIX_BYTES: usize = 5;
/// Largest bundle, opened: all but the last payload are less than a full one.
const OPENED_BYTES_MAX: usize = BYTES_MIN + PAYLOAD_BYTES_MAX + RECORDS_MAX * PREFIX_BYTES;
/// Largest bundle, closed: what cannot be compressed grows by little.
pub(super) const CLOSED_BYTES_MAX: usize = OPENED_BYTES_MAX + OPENED_BYTES_MAX / 1_000 + 1_024;
/// How hard it is tried: more takes twice the time for a thirtieth of the bytes.
const LEVEL: u8 = 6;

/// A bundle that is being filled.
#[derive(Debug, Default)]
pub struct Bundle {
    opened: Vec<u8>,
    records: usize,
}

impl Bundle {
    /// Takes the next payload in.
    pub fn push(&mut self, writer: Writer, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.opened.push(writer.code());
        self.opened.extend(length.to_be_bytes());
        self.opened.extend(payload);
        self.records += 1;
    }

    /// How many payloads are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is none in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether the next payload belongs in another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.records >= RECORDS_MAX || self.opened.len() >= BYTES_MIN
    }

    /// Its bytes. It is empty afterwards.
    pub fn close(&mut self) -> Vec<u8> {
        let closed = compress_to_vec_zlib(&self.opened, LEVEL);
        self.opened.clear();
        self.records = 0;
        closed
    }
}

/// The payloads of a bundle, opened; none where it is damaged.
#[must_use]
pub fn open_bundle(closed: &[u8]) -> Option<Vec<u8>> {
    decompress_to_vec_zlib_with_limit(closed, OPENED_BYTES_MAX).ok()
}

/// The payloads in an opened bundle, in their order. What is damaged ends with none.
#[derive(Clone, Debug)]
pub struct Bundled<'a>(&'a [u8]);

impl<'a> Bundled<'a> {
    /// Those of what [`open_bundle`] gave.
    #[must_use]
    pub fn of(opened: &'a [u8]) -> Self {
        Self(opened)
    }

    fn take(&mut self) -> Option<(Writer, &'a [u8])> {
        let (prefix, rest) = self.0.split_first_chunk::<PREFIX_BYTES>()?;
        let [code, length @ ..] = *prefix;
        let writer = Writer::from_code(code)?;
        let (payload, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(length)).ok()?)?;
        self.0 = rest;
        Some((writer, payload))
    }
}

impl<'a> Iterator for Bundled<'a> {
    type Item = Option<(Writer, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_none() {
            self.0 = &[];
        }
        Some(taken)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_in_its_order_and_smaller() {
        let mut bundle = Bundle::default();
        let payloads: Vec<_> =
            (0..RECORDS_MAX).map(|number| format!("{{\"the same\":\"as ever\",\"n\":{number}}}")).collect();
        for payload in &payloads {
            assert!(!bundle.is_full());
            bundle.push(Writer::Proxy, payload.as_bytes());
        }
        assert!(bundle.is_full());
        let closed = bundle.close();
        assert!(closed.len() * 4 < payloads.iter().map(String::len).sum::<usize>());
        let opened = open_bundle(&closed).unwrap();
        let found: Vec<_> = Bundled::of(&opened).map(Option::unwrap).collect();
        let wanted: Vec<_> = payloads.iter().map(|payload| (Writer::Proxy, payload.as_bytes())).collect();
        assert_eq!(found, wanted);
        assert!(bundle.is_empty());
    }

    #[test]
    fn the_largest_payload_fits_and_fills() {
        let mut bundle = Bundle::default();
        bundle.push(Writer::Session, &vec![b'x'; BYTES_MIN - 2 * PREFIX_BYTES - 1]);
        assert!(!bundle.is_full());
        bundle.push(Writer::Session, &vec![b'y'; PAYLOAD_BYTES_MAX]);
        assert!(bundle.is_full());
        let opened = open_bundle(&bundle.close()).unwrap();
        assert_eq!(Bundled::of(&opened).map(|record| record.unwrap().1.len()).max(), Some(PAYLOAD_BYTES_MAX));
    }

    #[test]
    fn damage_is_none_and_ends() {
        let mut bundle = Bundle::default();
        bundle.push(Writer::Changes, b"{}");
        let closed = bundle.close();
        let mut flipped = closed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!((open_bundle(&flipped), open_bundle(&closed[..closed.len() - 1])), (None, None));
        let mut opened = open_bundle(&closed).unwrap();
        opened[4] = 9;
        assert_eq!(Bundled::of(&opened).collect::<Vec<_>>(), [None]);
    }
}
