//! A recording and what was beside it as plain text, in the order of time.

use super::aside::{Aside, Both, Next};
use super::{Recorded, ReplayError, Told, show};
use crate::model::printable;
use crate::session::filter::PlainText;
use std::io::Write;
use std::time::Duration;

impl Recorded {
    /// Prints it with what was beside it: for each line when it was, and whether it stood in the terminal. What was before
    /// `from` is left out.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn print(self, from: Duration, aside: &mut impl Aside, to: &mut impl Write) -> Result<(), ReplayError> {
        let mut both = Both::new(self, aside);
        let mut text = PlainText::default();
        let mut last = Duration::ZERO;
        while let Some(next) = both.next(None)? {
            match next {
                Next::Moment(moment) => {
                    last = moment.at;
                    match moment.what {
                        Told::Output(output) => {
                            let whole = text.feed(output.as_bytes());
                            whole.iter().try_for_each(|line| put(to, from, last, "terminal", line))?;
                        }
                        Told::Mark(mark) => put(to, from, last, "recording", &mark)?,
                        Told::Size(_) | Told::Other => {}
                    }
                }
                Next::Beside(at, line) => {
                    // What stood in the terminal before is told before.
                    text.rest().map_or(Ok(()), |rest| put(to, from, last.min(at), "terminal", &rest))?;
                    put(to, from, at, "request", &line)?;
                }
                Next::Signal(_) => {}
            }
        }
        text.rest().map_or(Ok(()), |rest| put(to, from, last, "terminal", &rest))
    }
}

fn put(to: &mut impl Write, from: Duration, at: Duration, whose: &str, line: &str) -> Result<(), ReplayError> {
    if at < from {
        return Ok(());
    }
    let (seconds, thousandths) = (at.as_secs(), at.subsec_millis());
    show(to, format!("{seconds:>6}.{thousandths:03}  {whose:<9}  {}\n", printable(line)).as_bytes())
}
