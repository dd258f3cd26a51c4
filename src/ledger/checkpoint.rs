//! What a ledger says of itself: its name, its size and its root (c2sp.org/tlog-checkpoint).

use super::{FormatError, Hash};
use std::fmt;

/// A ledger at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger's name, unlike every other's.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The tree's root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads the text of a note. Lines after the third mean nothing to us.
    ///
    /// # Errors
    /// [`FormatError::Checkpoint`].
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let all = text.strip_suffix('\n').ok_or(FormatError::Checkpoint("its last line does not end"))?;
        let mut lines = all.split('\n');
        let mut line =
            || lines.next().filter(|line| !line.is_empty()).ok_or(FormatError::Checkpoint("a line is missing"));
        let origin = line()?.to_owned();
        let size = parse_number(line()?).ok_or(FormatError::Checkpoint("its size is not a plain number"))?;
        let root = Hash::from_base64(line()?).ok_or(FormatError::Checkpoint("its root is not a hash"))?;
        if lines.any(str::is_empty) {
            return Err(FormatError::Checkpoint("it has an empty line"));
        }
        Ok(Self { origin, size, root })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64())
    }
}

/// A decimal number as C2SP writes them: without leading zeroes. None is larger than 2^63, so that sums cannot overflow.
pub(super) fn parse_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|number| plain && *number <= u64::MAX >> 1)
}
