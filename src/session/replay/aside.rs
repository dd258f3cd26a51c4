//! What is told beside a recording: things that happened elsewhere at known times.

use super::{Moment, Pace, Recorded, ReplayError, pause};
use crate::session::signals::Signals;
use nix::sys::signal::Signal;
use std::time::Duration;

/// Things that happened beside what a terminal showed, in the order of time.
pub trait Aside {
    /// When the next of them was, since the recording's beginning; none when all were told.
    fn next(&self) -> Option<Duration>;

    /// Takes the next of them in, and tells it in one line, in which nothing steers a terminal.
    fn advance(&mut self) -> String;

    /// How things stand, in lines of which the last is the newest; at most so many. Colours may stand in them, and else
    /// nothing that steers a terminal.
    fn lines(&self, most: usize) -> Vec<String>;
}

/// What happens next in one of the two.
pub(super) enum Next {
    /// In the recording.
    Moment(Moment),
    /// Beside it, told in a line.
    Beside(Duration, String),
    /// A signal came first.
    Signal(Signal),
}

/// A recording and what was beside it as one story.
pub(super) struct Both<'a, A: Aside> {
    recorded: Recorded,
    aside: &'a mut A,
    /// What was read of the recording and not told yet.
    ahead: Option<Moment>,
    /// When the last thing was.
    at: Duration,
}

impl<'a, A: Aside> Both<'a, A> {
    pub(super) fn new(recorded: Recorded, aside: &'a mut A) -> Self {
        Self { recorded, aside, ahead: None, at: Duration::ZERO }
    }

    pub(super) fn aside(&self) -> &A {
        self.aside
    }

    /// When the next thing is; none at the end of both.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub(super) fn when(&mut self) -> Result<Option<Duration>, ReplayError> {
        if self.ahead.is_none() {
            self.ahead = self.recorded.next()?;
        }
        let moment = self.ahead.as_ref().map(|moment| moment.at);
        Ok(moment.into_iter().chain(self.aside.next()).min())
    }

    /// Waits for the next thing and tells it; none at the end of both.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub(super) fn next(&mut self, pace: Option<(Pace, &Signals)>) -> Result<Option<Next>, ReplayError> {
        let Some(at) = self.when()? else { return Ok(None) };
        if let Some((pace, signals)) = pace {
            let waited = pause(signals, pace.between(self.at, at)).map_err(ReplayError::Write)?;
            if let Some(signal) = waited {
                return Ok(Some(Next::Signal(signal)));
            }
        }
        self.at = self.at.max(at);
        if self.aside.next() == Some(at) {
            return Ok(Some(Next::Beside(at, self.aside.advance())));
        }
        Ok(self.ahead.take().map(Next::Moment))
    }
}
