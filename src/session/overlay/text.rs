//! The difference of two texts, for a person: pure, but for a bound on its time.

use super::path::shown;
use crate::model::is_hostile;
use similar::{ChangeTag, TextDiff};
use std::fmt::Write as _;
use std::time::Duration;

/// Longest text that is compared line by line, in bytes.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;
/// How much of a file is looked at for deciding whether it is text, as git does.
const LOOK_BYTES: usize = 8000;
/// How long a difference is sought that is as small as can be; then a larger one is shown.
const SEEK_TIME: Duration = Duration::from_secs(2);
/// Lines shown around a change.
const CONTEXT_LINES: usize = 3;

/// Two contents compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both are text.
    Text {
        /// Lines that came.
        added: usize,
        /// Lines that went.
        removed: usize,
        /// The unified difference, without a head; nothing in it can steer a terminal.
        unified: String,
    },
    /// One of them is no text.
    Binary,
    /// One of them is longer than [`TEXT_BYTES_MAX`].
    TooLong,
}

/// Compares two contents, of which at most one byte more than [`TEXT_BYTES_MAX`] need be given.
#[must_use]
pub fn compare_text(before: &[u8], after: &[u8]) -> Comparison {
    let longest = before.len().max(after.len()) as u64;
    if is_binary(before) || is_binary(after) {
        return Comparison::Binary;
    }
    if longest > TEXT_BYTES_MAX {
        return Comparison::TooLong;
    }
    let (before, after) = (lossless(before), lossless(after));
    let difference = TextDiff::configure().timeout(SEEK_TIME).diff_lines(&before, &after);
    let (mut added, mut removed) = (0, 0);
    for change in difference.iter_all_changes() {
        match change.tag() {
            ChangeTag::Insert => added += 1,
            ChangeTag::Delete => removed += 1,
            ChangeTag::Equal => {}
        }
    }
    let mut unified = String::new();
    for hunk in difference.unified_diff().context_radius(CONTEXT_LINES).iter_hunks() {
        // Writing to a string does not fail.
        let _ = writeln!(unified, "{}", hunk.header());
        for change in hunk.iter_changes() {
            let _ = write!(unified, "{}{}", change.tag(), printable_line(change.value()));
            if change.missing_newline() {
                unified.push_str("\n\\ No newline at end of file\n");
            }
        }
    }
    Comparison::Text { added, removed, unified }
}

fn is_binary(contents: &[u8]) -> bool {
    contents.iter().take(LOOK_BYTES).any(|byte| *byte == 0)
}

/// Text as it is; bytes that are none, escaped.
fn lossless(contents: &[u8]) -> String {
    let mut text = String::with_capacity(contents.len());
    for chunk in contents.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push_str(shown(chunk.invalid()).trim_matches('"'));
        }
    }
    text
}

/// The line with everything escaped that could steer a terminal, but for tabs and its end.
fn printable_line(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    for character in line.chars() {
        if is_hostile(character) && !matches!(character, '\t' | '\n') {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_compared_line_by_line() {
        let unified = "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n".to_owned();
        assert_eq!(compare_text(b"a\nb\nc\n", b"a\nx\nc\n"), Comparison::Text { added: 1, removed: 1, unified });
        let unified = "@@ -1 +1 @@\n-a\n+a\n\\ No newline at end of file\n".to_owned();
        assert_eq!(compare_text(b"a\n", b"a"), Comparison::Text { added: 1, removed: 1, unified });
    }

    #[test]
    fn nothing_in_a_text_can_steer_the_terminal() {
        let Comparison::Text { unified, .. } = compare_text(b"", b"a\x1b[2J\tb\x07\r\n\xff\n") else { panic!("text") };
        assert_eq!(unified, "@@ -0,0 +1,2 @@\n+a\\u{1b}[2J\tb\\u{7}\\r\n+\\xff\n");
    }

    #[test]
    fn what_is_no_text_or_too_long_is_said_to_be() {
        assert_eq!(compare_text(b"a\0b", b"a"), Comparison::Binary);
        let long = vec![b'a'; usize::try_from(TEXT_BYTES_MAX).unwrap_or(usize::MAX) + 1];
        assert_eq!(compare_text(b"a", &long), Comparison::TooLong);
    }
}
