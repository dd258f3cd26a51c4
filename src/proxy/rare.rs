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
        let mut places = self.places(bytes);
        std::iter::from_fn(move || places.next_before(bytes.len()))
    }

    /// The same, as far as they are asked for.
    pub(super) fn places<'a>(&'a self, bytes: &'a [u8]) -> Places<'a> {
        Places { text: self.text, begins: &self.begins, bytes, at: 0, since: 0, stops: 0 }
    }
}

/// The places at which a text stands in another, one after the other.
#[derive(Debug)]
pub(super) struct Places<'a> {
    text: &'static [u8],
    begins: &'a [Finder<'static>],
    bytes: &'a [u8],
    /// What is before was searched.
    at: usize,
    /// Since where so much of the text's beginning is looked for, and how often that stopped the search.
    since: usize,
    stops: usize,
}

impl Places<'_> {
    /// The next place, if it is before this one.
    pub(super) fn next_before(&mut self, end: usize) -> Option<usize> {
        loop {
            if self.begins.len() > 1 && self.stops * STOP_BYTES > self.at - self.since + GRACE_BYTES {
                (self.begins, self.since, self.stops) = (&self.begins[1..], self.at, 0);
            }
            let begin = self.begins.first()?;
            let until = (end + begin.needle().len() - 1).min(self.bytes.len());
            let Some(ahead) = begin.find(self.bytes.get(self.at..until)?) else {
                self.at = self.at.max(end);
                return None;
            };
            let here = self.at + ahead;
            (self.at, self.stops) = (here + 1, self.stops + 1);
            if self.bytes[here..].starts_with(self.text) {
                return Some(here);
            }
        }
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
            stretch in 1_usize..100,
        ) {
            // Now and then a stretch in which nothing stops the search.
            let bytes: Vec<u8> = text.iter().flat_map(|byte| std::iter::once(*byte).chain(vec![b'-'; quiet * 40])).collect();
            for wanted in [&b"ZX"[..], b"\\u00"] {
                let plain: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(wanted)).collect();
                let rare = Rare::new(wanted);
                prop_assert_eq!(&rare.find_iter(&bytes).collect::<Vec<_>>(), &plain);
                // A stretch at a time, each place in the stretch in which it begins.
                let (mut places, mut found) = (rare.places(&bytes), Vec::new());
                for end in (1..=bytes.len().div_ceil(stretch)).map(|count| bytes.len().min(count * stretch)) {
                    while let Some(at) = places.next_before(end) {
                        prop_assert!(at < end && end - at <= stretch);
                        found.push(at);
                    }
                }
                prop_assert_eq!(found, plain);
            }
        }
    }

    #[test]
    fn it_is_found_at_the_very_end_of_what_stops_the_search_all_the_time() {
        for (around, wanted) in [(&b"Z"[..], &b"ZX"[..]), (b"\\", b"\\u00"), (b"\\u", b"\\u00")] {
            let bytes = [&around.repeat(20_000), wanted].concat();
            assert_eq!(Rare::new(wanted).find_iter(&bytes).collect::<Vec<_>>(), [bytes.len() - wanted.len()]);
            assert_eq!(Rare::new(wanted).find_iter(&bytes[..bytes.len() - 1]).next(), None);
        }
        assert_eq!(Rare::new(b"ZX").find_iter(b"").next(), None);
    }
}
