//! What the harness's terminal shows now, kept so that whoever joins later sees it, and so that the harness is answered
//! where no terminal is there to answer it.

use super::filter::{Passed, Question};
use crate::model::is_hostile;
use rustix::termios::Winsize;
use std::num::NonZeroU16;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Largest size that is kept; what lies beyond is not seen by whoever joins.
const COLUMNS_MAX: u16 = 1000;
const ROWS_MAX: u16 = 500;

/// The screen of the harness's terminal.
pub(super) struct Picture {
    terminal: vt100::Parser,
    size: (NonZeroU16, NonZeroU16),
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picture").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Picture {
    /// An empty screen.
    pub(super) fn new(size: Winsize) -> Self {
        let size = bounded(size);
        Self { terminal: vt100::Parser::new(size.0, size.1, 0), size }
    }

    /// Draws output. The questions in it are answered if `answers`, each as things stood when it was asked.
    pub(super) fn draw(&mut self, passed: &Passed, answers: bool) -> Vec<u8> {
        let mut answered = Vec::new();
        let mut from = 0;
        for (range, question) in passed.questions.iter().filter(|_| answers) {
            self.process(&passed.bytes[from..range.start]);
            answered.extend(self.answer(*question));
            from = range.end;
        }
        self.process(&passed.bytes[from..]);
        answered
    }

    /// Gives it another size.
    pub(super) fn resize(&mut self, size: Winsize) {
        self.size = bounded(size);
        let (rows, columns) = self.size;
        self.guard(|terminal| terminal.screen_mut().set_size(rows, columns));
    }

    /// The screen as it is.
    pub(super) fn screen(&self) -> &vt100::Screen {
        self.terminal.screen()
    }

    /// What draws it anew on a terminal that shows something else.
    pub(super) fn contents(&self) -> Vec<u8> {
        self.terminal.screen().contents_formatted().into_bytes()
    }

    /// Its rows and columns.
    pub(super) fn size(&self) -> (u16, u16) {
        (self.size.0.get(), self.size.1.get())
    }

    /// In which row the cursor is, from 0.
    pub(super) fn cursor_row(&self) -> u16 {
        self.terminal.screen().cursor_position().0
    }

    /// One row in so many columns, from 0, with its colours, and with nothing in it but characters and their attributes: it
    /// can stand beside something else.
    pub(super) fn row(&self, row: u16, columns: u16) -> String {
        let (screen, mut text, mut pen, mut column) = (self.terminal.screen(), String::new(), Pen::default(), 0);
        while column < columns {
            let Some(cell) = screen.cell(row, column) else { break };
            let wide = cell.is_wide() && column + 1 < columns;
            let now = Pen::of(cell);
            if now != pen {
                text.push_str(&now.sequence());
                pen = now;
            }
            match cell.contents() {
                "" => text.push(' '),
                _ if cell.is_wide() && !wide => text.push(' '),
                contents => text.extend(contents.chars().filter(|character| !is_hostile(*character))),
            }
            column += if wide { 2 } else { 1 };
        }
        text.push_str("\x1b[m");
        text.extend(std::iter::repeat_n(' ', usize::from(columns.saturating_sub(column))));
        text
    }

    pub(super) fn process(&mut self, bytes: &[u8]) {
        self.guard(|terminal| terminal.process(bytes));
    }

    /// A picture that cannot be drawn is begun anew: it is the harness's bytes that it chokes on, and they must not end
    /// the session.
    fn guard(&mut self, act: impl FnOnce(&mut vt100::Parser)) {
        if catch_unwind(AssertUnwindSafe(|| act(&mut self.terminal))).is_err() {
            self.terminal = vt100::Parser::new(self.size.0, self.size.1, 0);
        }
    }

    /// As a VT220 would: where the cursor is, that all is well, what it is. What only a real terminal knows stays without
    /// an answer, as with one that does not know the question.
    fn answer(&self, question: Question) -> Vec<u8> {
        match question {
            Question::Cursor => {
                let (row, column) = self.terminal.screen().cursor_position();
                format!("\x1b[{};{}R", row.saturating_add(1), column.saturating_add(1)).into_bytes()
            }
            Question::Status => b"\x1b[0n".to_vec(),
            Question::Attributes => b"\x1b[?62;22c".to_vec(),
            Question::Other => Vec::new(),
        }
    }
}

/// How characters look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pen {
    fore: vt100::Color,
    back: vt100::Color,
    /// Bold, dim, italic, underlined, inverse: numbers 1, 2, 3, 4 and 7 of SGR (ECMA-48 §8.3.117).
    styles: [bool; 5],
}

impl Pen {
    fn of(cell: &vt100::Cell) -> Self {
        let styles = [cell.bold(), cell.dim(), cell.italic(), cell.underline(), cell.inverse()];
        Self { fore: cell.fgcolor(), back: cell.bgcolor(), styles }
    }

    /// What makes a terminal write so.
    fn sequence(self) -> String {
        let mut sequence = "\x1b[0".to_owned();
        for (number, _) in [1, 2, 3, 4, 7].into_iter().zip(self.styles).filter(|(_, on)| *on) {
            sequence.push_str(&format!(";{number}"));
        }
        for (ground, colour) in [(38, self.fore), (48, self.back)] {
            match colour {
                vt100::Color::Default => {}
                vt100::Color::Idx(index) => sequence.push_str(&format!(";{ground};5;{index}")),
                vt100::Color::Rgb(red, green, blue) => {
                    sequence.push_str(&format!(";{ground};2;{red};{green};{blue}"));
                }
            }
        }
        sequence.push('m');
        sequence
    }
}

/// Rows and columns, neither none nor too many.
fn bounded(size: Winsize) -> (NonZeroU16, NonZeroU16) {
    let within = |count: u16, most: u16| NonZeroU16::new(count.min(most)).unwrap_or(NonZeroU16::MIN);
    (within(size.ws_row, ROWS_MAX), within(size.ws_col, COLUMNS_MAX))
}

#[cfg(test)]
mod tests {
    use super::super::filter::{Filter, Rules};
    use super::*;
    use crate::policy::Terminal;
    use proptest::prelude::*;

    fn size(columns: u16, rows: u16) -> Winsize {
        Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
    }

    fn passed(output: &[u8]) -> Passed {
        Filter::new(Rules::of(&Terminal::default())).pass(output)
    }

    #[test]
    fn each_question_is_answered_as_things_stood() {
        let mut picture = Picture::new(size(80, 24));
        let answered = picture.draw(&passed(b"ab\x1b[6n\r\n\x1b[6n\x1b[c\x1b[>c"), true);
        assert_eq!(String::from_utf8_lossy(&answered), "\x1b[1;3R\x1b[2;1R\x1b[?62;22c");
        assert_eq!(picture.draw(&passed(b"\x1b[6n"), false), b"");
    }

    #[test]
    fn what_is_drawn_anew_is_what_was_shown() {
        let mut first = Picture::new(size(40, 10));
        first.draw(&passed("one\r\n\x1b[31mred \u{4e16}\x1b[m\x1b[5;10Hthere".as_bytes()), false);
        let mut second = Picture::new(size(40, 10));
        second.process(&first.contents());
        assert_eq!(first.contents(), second.contents());
    }

    #[test]
    fn a_row_is_as_wide_as_it_is_to_be_and_steers_nothing() {
        let mut picture = Picture::new(size(6, 2));
        picture.process("\x1b[1;31mab\x1b[m\u{202e}\u{4e16}\u{4e16}\r\n\x1b[44mx".as_bytes());
        assert_eq!(picture.row(0, 6), "\x1b[0;1;38;5;1mab\x1b[0m\u{4e16}\u{4e16}\x1b[m");
        assert_eq!(picture.row(0, 5), "\x1b[0;1;38;5;1mab\x1b[0m\u{4e16} \x1b[m");
        assert_eq!(picture.row(1, 8), "\x1b[0;48;5;4mx\x1b[0m     \x1b[m  ");
        assert_eq!(picture.row(9, 3), "\x1b[m   ");
    }

    proptest! {
        #[test]
        fn no_output_ends_the_session(output in prop::collection::vec(any::<u8>(), 0..400), columns in 0u16..12, rows in 0u16..6) {
            let mut picture = Picture::new(size(80, 24));
            picture.draw(&passed(&output), true);
            picture.resize(size(columns, rows));
            picture.draw(&passed(&output), true);
            picture.contents();
        }
    }
}
