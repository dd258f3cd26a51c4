//! Output as lines of text, for where there is no terminal: what a program wrote, without how it was to look.

use super::machine::{BEL, Machine, Sequence, Token};

/// Longest line; what follows is the next one.
const LINE_CHARACTERS_MAX: usize = 4096;
/// Sequences that leave the cursor in its line: attributes, erasing, modes, and the like.
const STAYING: &[u8] = b"mKXPhlqgsu@";

/// The text between two reads.
#[derive(Debug, Default)]
pub(in crate::session) struct PlainText {
    machine: Machine,
    line: Line,
}

#[derive(Debug, Default)]
struct Line {
    text: String,
    /// Whether the cursor went back to the beginning: what comes next is written over what is there.
    returned: bool,
}

impl PlainText {
    /// The lines that this output completes. A program that moves the cursor begins a new one.
    pub(in crate::session) fn feed(&mut self, output: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        let Self { machine, line } = self;
        machine.feed(output, &mut |token| match token {
            Token::Text(text) => line.write(&String::from_utf8_lossy(text), &mut whole),
            Token::Unreadable => line.write("\u{fffd}", &mut whole),
            Token::Control(b'\t') => line.write(" ", &mut whole),
            Token::Control(b'\r') => line.returned = true,
            Token::Control(BEL | 0x08) => {}
            Token::Control(b'\n' | 0x0b | 0x0c) => line.end(&mut whole),
            Token::Sequence(Sequence { marker: None, last: b'C', .. }) => line.write(" ", &mut whole),
            Token::Sequence(Sequence { last, .. }) if !STAYING.contains(&last) => line.end(&mut whole),
            _ => {}
        });
        whole
    }

    /// What was written of a line that was not completed, if anything.
    pub(in crate::session) fn rest(&mut self) -> Option<String> {
        let mut whole = Vec::new();
        self.line.end(&mut whole);
        whole.pop()
    }
}

impl Line {
    fn write(&mut self, text: &str, whole: &mut Vec<String>) {
        if std::mem::take(&mut self.returned) {
            self.text.clear();
        }
        self.text.push_str(text);
        if self.text.chars().count() >= LINE_CHARACTERS_MAX {
            self.end(whole);
        }
    }

    fn end(&mut self, whole: &mut Vec<String>) {
        let text = std::mem::take(&mut self.text);
        self.returned = false;
        if !text.trim().is_empty() {
            whole.push(text.trim_end().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_stays_of_them_wherever_a_read_ends() {
        let output = b"one\r\n 10 %\r 99 %\r\n\x1b[31mre\x1b[0md\x1b[5;1Hthere \x1b]0;title\x07\x1b[2J";
        let whole = PlainText::default().feed(output);
        assert_eq!(whole, ["one", " 99 %", "red", "there"]);
        let mut text = PlainText::default();
        let pieces: Vec<String> = output.iter().flat_map(|byte| text.feed(&[*byte])).collect();
        assert_eq!(pieces, whole);
        assert_eq!((text.feed(b"$ "), text.rest(), text.rest()), (vec![], Some("$".to_owned()), None));
    }
}
