//! Sizes and durations as people write them.

use std::time::Duration;

/// The units of sizes, in bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// The units of durations, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Why a text is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not a size.
    #[error("`{0}` is not a size: write it like `512MiB` or `8GiB`")]
    Size(String),
    /// It is not a duration.
    #[error("`{0}` is not a duration: write it like `90s`, `30m`, `8h` or `1h30m`")]
    Duration(String),
}

/// Reads a size, such as `8GiB`, in bytes.
///
/// # Errors
/// [`QuantityError::Size`] for anything else, for nothing, and for more than fits.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let wrong = || QuantityError::Size(text.to_owned());
    let (number, unit) = split(text.trim()).ok_or_else(wrong)?;
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(wrong)?;
    number.checked_mul(*factor).filter(|size| *size > 0).ok_or_else(wrong)
}

/// Reads a duration, such as `1h30m`.
///
/// # Errors
/// [`QuantityError::Duration`] for anything else, for no time at all, and for more than fits.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let wrong = || QuantityError::Duration(text.to_owned());
    let mut rest = text.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest).ok_or_else(wrong)?;
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number.checked_mul(*factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
        rest = after;
    }
    if total == 0 { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

/// The whole number a text begins with, and what follows it.
fn split(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_and_durations() {
        assert_eq!(parse_size("8GiB"), Ok(8 << 30));
        assert_eq!(parse_size("1500"), Ok(1500));
        assert_eq!(parse_size("1 MB"), Ok(1_000_000));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn refuses_what_is_neither() {
        for text in ["", "0", "GiB", "8gib", "-1", "1.5GiB", "99999999999TiB"] {
            assert_eq!(parse_size(text), Err(QuantityError::Size(text.to_owned())), "{text}");
        }
        for text in ["", "0s", "5", "h", "1h30", "1 h", "99999999999999999999d"] {
            assert_eq!(parse_duration(text), Err(QuantityError::Duration(text.to_owned())), "{text}");
        }
    }
}
