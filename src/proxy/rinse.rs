//! What is done to one answer's body so that no secret comes back in it: read it, where it is compressed, and scrub it.

use super::decode::{Coding, Decoder, Unreadable};
use super::inject::Vault;
use super::scrub::{Scrub, Scrubber};
use crate::model::Host;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue};

/// What comes out of a piece at once, so that a slow client holds back what would come out of little.
const OUT_BYTES: usize = 256 * 1024;

/// An answer's body being scrubbed.
pub(super) struct Rinse {
    scrubber: Scrubber,
    /// What takes the compression off, for good.
    decoder: Option<Decoder>,
}

impl Rinse {
    /// Begins with an answer's head, from which a compression is struck that is taken off; none where there is nothing to
    /// look for. A host that no secret is for may compress as it likes.
    ///
    /// # Errors
    /// What is in the way, where a host that may know a secret answers so that it cannot be read.
    pub(super) fn begin(vault: &Vault, host: &Host, headers: &mut HeaderMap) -> Result<Option<Self>, &'static str> {
        if vault.scrub().is_idle() {
            return Ok(None);
        }
        let values: Vec<&str> = headers
            .get_all(CONTENT_ENCODING)
            .iter()
            .map(HeaderValue::to_str)
            .collect::<Result<_, _>>()
            .unwrap_or(vec!["?"]);
        let named = values.iter().flat_map(|value| value.split(',')).map(str::trim);
        let codings: Vec<&str> =
            named.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")).collect();
        let decoder = match codings.as_slice() {
            [] => None,
            _ if !vault.may_tell(host) => return Ok(None),
            [name] => Some(Coding::named(name).ok_or("it is compressed in a way that is not known here")?),
            _ => return Err("it is compressed more than once"),
        };
        if decoder.is_some() {
            headers.remove(CONTENT_ENCODING);
            headers.remove(CONTENT_LENGTH);
        }
        Ok(Some(Self {
            scrubber: Scrubber::default(),
            decoder: decoder.map(|coding| Decoder::new(coding).pausing(OUT_BYTES)),
        }))
    }

    /// What of the next piece may go on. An empty one goes on with the last, where [more](Self::has_more) comes out of it.
    pub(super) fn next(&mut self, scrub: &Scrub, piece: &Bytes) -> Result<Bytes, &'static str> {
        let Some(decoder) = &mut self.decoder else { return Ok(self.scrubber.next(scrub, piece)) };
        let mut out = Vec::new();
        let scrubber = &mut self.scrubber;
        let read = decoder.next(piece, &mut |bytes| out.extend(scrubber.next(scrub, &Bytes::copy_from_slice(bytes))));
        match read {
            Ok(()) => Ok(out.into()),
            Err(Unreadable::Broken) => Err("the answer is not compressed as it says"),
            Err(Unreadable::Bomb) => Err("too much comes out of the answer"),
        }
    }

    /// Whether more is to come out of the last piece.
    pub(super) fn has_more(&self) -> bool {
        self.decoder.as_ref().is_some_and(Decoder::is_paused)
    }

    /// What was held back, now that nothing follows.
    pub(super) fn end(&mut self) -> Bytes {
        self.scrubber.end()
    }

    /// How much is held back.
    pub(super) fn held(&self) -> usize {
        self.scrubber.held()
    }

    /// Whether more or less comes out than comes in.
    pub(super) fn changes_length(&self) -> bool {
        self.decoder.is_some()
    }
}
