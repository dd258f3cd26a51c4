//! A copy of an answer whose compression is taken off as it passes, for whoever reads it; what passes is not changed.

use super::decode::{Coding, Decoder, Unreadable};

/// How many bytes tell whether an answer is compressed that does not say so.
const MAGIC_BYTES: usize = 4;
/// Most bytes that are read of an answer that is compressed. No model says so much.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The copy, as it comes.
pub(super) enum Readable {
    /// Nothing was said of a compression, and how it begins tells.
    Unknown(Vec<u8>),
    Plain,
    Compressed(Box<Decoder>),
    /// Nothing more can be read.
    Lost,
}

impl Readable {
    /// For an answer with this `Content-Encoding`; none where it cannot be read.
    pub(super) fn of(encoding: Option<&str>) -> Option<Self> {
        let named = encoding.map(str::trim).filter(|coding| !coding.is_empty() && *coding != "identity");
        match named {
            None => Some(Self::Unknown(Vec::new())),
            Some(name) => Coding::named(name).map(Self::compressed),
        }
    }

    fn compressed(coding: Coding) -> Self {
        Self::Compressed(Box::new(Decoder::new(coding).up_to(ANSWER_BYTES_MAX)))
    }

    /// Takes the next bytes, and hands over what they say.
    ///
    /// # Errors
    /// Why nothing more can be read; told once.
    pub(super) fn next(&mut self, bytes: &[u8], on: &mut dyn FnMut(&[u8])) -> Result<(), Unreadable> {
        match self {
            Self::Plain => on(bytes),
            Self::Lost => {}
            Self::Unknown(begin) => {
                begin.extend_from_slice(bytes);
                if begin.len() < MAGIC_BYTES && !begin.is_empty() && Coding::may_begin(begin) {
                    return Ok(());
                }
                let begin = std::mem::take(begin);
                *self = Coding::of_magic(&begin).map_or(Self::Plain, Self::compressed);
                return self.next(&begin, on);
            }
            Self::Compressed(decoder) => {
                if let Err(unreadable) = decoder.next(bytes, &mut |plain| on(plain)) {
                    *self = Self::Lost;
                    return Err(unreadable);
                }
            }
        }
        Ok(())
    }
}
