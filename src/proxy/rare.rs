//! Looking for a short text that hardly ever occurs, in as little time as the bytes around it allow.
//!
//! A search for one byte is twice as fast as one for two, as long as that byte is rare. Which bytes are is not known ahead: a text has
//! few `Z` and many backslashes, a picture in base64 the other way round. So the search begins with the first byte alone, and takes
//! more of the text in where it is stopped too often.

use memchr::memmem::Finder;

/// What one stop costs, in bytes that are searched meanwhile.
const STOP_BYTES: usize = 1024;
/// For how many bytes' worth of stops nothing is concluded.
const GRACE_BYTES: usize = 4 * STOP_BYTES;

/// A short text that is looked for.
#[derive(Debug)]
pub(super) struct Rare {
    text: &'static [u8],
    /// What of its beginning is looked for, from one byte to all.
    begins: Vec<Finder<'static>>,
}

impl Rare {
    /// Looks for this text, of two bytes or more.
    pub(super) fn new(text: &'static [u8]) -> Self {
        let mut lengths = vec![1, 2, text.len()];
        lengths.dedup();
        Self { text, begins: lengths.into_iter().map(|length| Finder::new(&text[..length])).collect() }
    }

    /// Every place at which it stands.
    pub(super) fn find_iter<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let (mut begins, mut at, mut since, mut stops) = (&self.begins[..], 0, 0, 0);
        std::iter::from_fn(move || {
            loop {
                if begins.len() > 1 && stops * STOP_BYTES > at - since + GRACE_BYTES {
                    (begins, since, stops) = (&begins[1..], at, 0);
                }
                let here = at + begins.first()?.find(bytes.get(at..)?)?;
                (at, stops) = (here + 1, stops + 1);
                if bytes[here..].starts_with(self.text) {
                    return Some(here);
                }
            }
        })
    }

    /// Whether it stands somewhere.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        self.find_iter(bytes).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_place_is_found_whatever_is_around_it(
            text in proptest::collection::vec(prop::sample::select(&b"ZX\\u0a"[..]), 0..400),
            quiet in 0_usize..3,
        ) {
            // Now and then a stretch in which nothing stops the search.
            let bytes: Vec<u8> = text.iter().flat_map(|byte| std::iter::once(*byte).chain(vec![b'-'; quiet * 40])).collect();
            for wanted in [&b"ZX"[..], b"\\u00"] {
                let plain: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(wanted)).collect();
                prop_assert_eq!(Rare::new(wanted).find_iter(&bytes).collect::<Vec<_>>(), plain);
            }
        }
    }

    #[test]
    fn it_is_found_at_the_very_end_of_what_stops_the_search_all_the_time() {
        for (around, wanted) in [(&b"Z"[..], &b"ZX"[..]), (b"\\", b"\\u00"), (b"\\u", b"\\u00")] {
            let bytes = [&around.repeat(20_000), wanted].concat();
            assert_eq!(Rare::new(wanted).find_iter(&bytes).collect::<Vec<_>>(), [bytes.len() - wanted.len()]);
            assert!(!Rare::new(wanted).is_in(&bytes[..bytes.len() - 1]));
        }
        assert!(!Rare::new(b"ZX").is_in(b""));
    }
}
