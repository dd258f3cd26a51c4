//! A recording on a terminal, with what was beside it in a second pane: to the right where there is room, else below.

use super::aside::{Aside, Both, Next};
use super::{Pace, Played, Recorded, ReplayError, Told, show};
use crate::session::filter::{Filter, Rules};
use crate::session::picture::Picture;
use crate::session::signals::Signals;
use rustix::termios::Winsize;
use std::io::Write;

/// Fewest columns of a pane to the right.
const BESIDE_COLUMNS_MIN: u16 = 40;
/// Most of them: longer lines are harder to read.
const BESIDE_COLUMNS_MAX: u16 = 100;
/// Fewest rows of a pane below.
const BELOW_ROWS_MIN: u16 = 6;
/// Most lines that a pane can have to show.
const LINES_MAX: usize = 200;

/// Where the two panes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Beside each other: the columns of both.
    Beside { left: u16, right: u16, rows: u16 },
    /// One below the other: the rows of both.
    Below { above: u16, below: u16, columns: u16 },
}

impl Layout {
    /// How a picture and the pane fit a terminal. One column or row is between them.
    fn of(terminal: Winsize, picture: (u16, u16)) -> Self {
        let (columns, rows) = (terminal.ws_col.max(1), terminal.ws_row.max(3));
        let right = columns.saturating_sub(picture.1 + 1);
        if right >= BESIDE_COLUMNS_MIN {
            return Self::Beside { left: picture.1, right: right.min(BESIDE_COLUMNS_MAX), rows };
        }
        let below = rows.saturating_sub(picture.0 + 1).max(BELOW_ROWS_MIN.min(rows - 2));
        Self::Below { above: rows - 1 - below, below, columns }
    }

    /// Rows and columns of the pane.
    fn pane(self) -> Winsize {
        let (ws_row, ws_col) = match self {
            Self::Beside { right, rows, .. } => (rows, right),
            Self::Below { below, columns, .. } => (below, columns),
        };
        Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }
    }
}

/// What is on the user's terminal, so that only what changes is written.
struct Panes<'a, W: Write> {
    to: &'a mut W,
    size: &'a dyn Fn() -> Winsize,
    layout: Option<(Winsize, Layout)>,
    rows: Vec<String>,
}

impl<W: Write> Panes<'_, W> {
    fn draw(&mut self, picture: &Picture, lines: &[String]) -> Result<(), ReplayError> {
        let mut size = (self.size)();
        // The last row is the shell's, afterwards.
        size.ws_row = size.ws_row.saturating_sub(1);
        let layout = Layout::of(size, picture.size());
        if self.layout.is_none_or(|before| before != (size, layout)) {
            self.layout = Some((size, layout));
            self.rows.clear();
            show(self.to, b"\x1b[m\x1b[2J")?;
        }
        let rows = compose(layout, picture, lines);
        let mut changed = Vec::new();
        for (index, row) in rows.iter().enumerate().filter(|(index, row)| self.rows.get(*index) != Some(*row)) {
            changed.extend(format!("\x1b[{};1H\x1b[2K{row}", index + 1).into_bytes());
        }
        self.rows = rows;
        if changed.is_empty() { Ok(()) } else { show(self.to, &changed) }
    }
}

/// Every row of the terminal.
fn compose(layout: Layout, picture: &Picture, lines: &[String]) -> Vec<String> {
    let mut pane = Picture::new(layout.pane());
    // The pane breaks lines and scrolls as a terminal does, so that the newest are at its bottom and no line is too wide.
    pane.process(lines.join("\r\n").as_bytes());
    match layout {
        Layout::Beside { left, right, rows } => {
            let row = |row| format!("{}\u{2502}{}", picture.row(row, left), pane.row(row, right));
            (0..rows).map(row).collect()
        }
        Layout::Below { above, below, columns } => {
            // Of a picture that is too high, the rows that end where it is written.
            let first = picture.size().0.min(picture.cursor_row() + 1).saturating_sub(above);
            let upper = (first..first + above).map(|row| picture.row(row, columns));
            let border = std::iter::once("\u{2500}".repeat(usize::from(columns)));
            upper.chain(border).chain((0..below).map(|row| pane.row(row, columns))).collect()
        }
    }
}

impl Recorded {
    /// Plays it with what was beside it. `size` tells how large the terminal is at the moment.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn play_beside(
        self,
        pace: Pace,
        aside: &mut impl Aside,
        size: &dyn Fn() -> Winsize,
        to: &mut impl Write,
    ) -> Result<Played, ReplayError> {
        let signals = Signals::take_ending().map_err(ReplayError::Write)?;
        let mut picture = Picture::new(self.size);
        let mut filter = Filter::new(Rules::REPLAY);
        let mut panes = Panes { to, size, layout: None, rows: Vec::new() };
        let (mut marks, mut played) = (Vec::new(), None);
        let mut both = Both::new(self, aside);
        show(panes.to, b"\x1b[?25l")?;
        while let Some(at) = both.when()? {
            if at >= pace.from {
                panes.draw(&picture, &both.aside().lines(LINES_MAX))?;
            }
            let Some(next) = both.next(Some((pace, &signals)))? else { break };
            match next {
                Next::Moment(moment) => match moment.what {
                    Told::Output(output) => picture.process(&filter.pass(output.as_bytes()).bytes),
                    Told::Size(size) => picture.resize(size),
                    Told::Mark(mark) => marks.push(mark),
                    Told::Other => {}
                },
                Next::Beside(..) => {}
                Next::Signal(signal) => {
                    played = Some(Played::Interrupted(signal));
                    break;
                }
            }
        }
        panes.draw(&picture, &both.aside().lines(LINES_MAX))?;
        let end = format!("\x1b[m\x1b[{};1H\x1b[?25h", panes.rows.len() + 1);
        show(panes.to, end.as_bytes())?;
        Ok(played.unwrap_or(Played::Whole(marks)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn size(columns: u16, rows: u16) -> Winsize {
        Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
    }

    #[test]
    fn a_wide_terminal_has_two_columns_and_a_narrow_one_two_rows() {
        let of = |terminal| Layout::of(terminal, (24, 80));
        assert_eq!(of(size(121, 50)), Layout::Beside { left: 80, right: 40, rows: 50 });
        assert_eq!(of(size(300, 24)), Layout::Beside { left: 80, right: 100, rows: 24 });
        assert_eq!(of(size(120, 50)), Layout::Below { above: 24, below: 25, columns: 120 });
        assert_eq!(of(size(80, 24)), Layout::Below { above: 17, below: 6, columns: 80 });
        assert_eq!(of(size(80, 3)), Layout::Below { above: 1, below: 1, columns: 80 });
        assert_eq!(of(size(0, 0)), Layout::Below { above: 1, below: 1, columns: 1 });
    }

    #[test]
    fn each_row_has_both_panes_and_neither_reaches_into_the_other() {
        let mut picture = Picture::new(size(5, 2));
        picture.process("ab\u{202e}\r\n\x1b[7mtoo long".as_bytes());
        let lines = ["one that is broken".to_owned()];
        let rows = compose(Layout::Beside { left: 5, right: 10, rows: 3 }, &picture, &lines);
        assert_eq!(
            rows,
            [
                "\x1b[0;7mtoo l\x1b[m\u{2502}one that i\x1b[m",
                "\x1b[0;7mong\x1b[0m  \x1b[m\u{2502}s broken  \x1b[m",
                "\x1b[m     \u{2502}          \x1b[m",
            ]
        );
        let rows = compose(Layout::Below { above: 1, below: 1, columns: 4 }, &picture, &["x".to_owned()]);
        assert_eq!(rows, ["\x1b[0;7mong\x1b[0m \x1b[m", "\u{2500}\u{2500}\u{2500}\u{2500}", "x   \x1b[m"]);
    }
}
