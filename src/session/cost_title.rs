//! What a session spends, in a line for the terminal's title.

use crate::model::{NanoUsd, printable};
use crate::proxy::Happened;

/// Longest line, in characters: what window managers show of a title.
const LINE_CHARACTERS_MAX: usize = 140;

/// The line. `held` is set aside for calls under way.
pub(super) fn line(happened: &Happened, held: NanoUsd) -> String {
    let Happened { spent, usage, refused, last_refused } = happened;
    let prompt = [usage.cache_read, usage.cache_write, usage.cache_write_long]
        .iter()
        .fold(usage.input, |sum, n| sum.saturating_add(*n));
    let mut line = format!("omni: {spent} spent");
    if held > NanoUsd::ZERO {
        line.push_str(&format!(", {held} held"));
    }
    line.push_str(&format!(", {} in, {} out", tokens(prompt), tokens(usage.output)));
    if let Some(last) = last_refused {
        line.push_str(&format!(", {refused} refused: {last}"));
    }
    printable(&line).chars().take(LINE_CHARACTERS_MAX).collect()
}

/// A number of tokens, as far as it can be taken in at a glance.
fn tokens(count: u64) -> String {
    match count {
        0..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}.{}k", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usage;

    #[test]
    fn the_line_says_what_matters_and_nothing_that_steers_a_terminal() {
        let usage = Usage { input: 900, cache_read: 11_400, output: 4_560, ..Usage::default() };
        let last_refused = Some("POST evil.example/\u{1b}]0;x\u{7}".to_owned());
        let happened = Happened { spent: NanoUsd(1_230_000_000), usage, refused: 2, last_refused };
        let line = line(&happened, NanoUsd(400_000_000));
        assert!(
            line.starts_with("omni: $1.23 spent, $0.40 held, 12.3k in, 4.5k out, 2 refused: POST evil.example/"),
            "{line}"
        );
        assert!(!line.chars().any(char::is_control), "{line}");
    }
}
