//! Plays the recording of a session's terminal (asciicast, version 3), through the filter: what was recorded asks nothing
//! of the terminal that it is shown on. What else happened can be shown beside it, in the same time.

mod aside;
mod side_by_side;
mod text;

pub use aside::Aside;

use super::clock;
use super::filter::{Filter, Rules};
use super::signals::Signals;
use super::terminal::DEFAULT_SIZE;
use crate::model::{SessionId, Timestamp};
use crate::store::{Home, Sealed, SealedReader};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::Winsize;
use serde::Deserialize;
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// Longest line of a recording. One event holds at most one read of output, each byte of which takes at most six.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// How a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How many times as fast as it was.
    pub speed: f64,
    /// The longest pause, before the speed is taken into account.
    pub idle_limit: Option<Duration>,
    /// From when on, since the beginning, it is played as it was; what was before is shown at once.
    pub from: Duration,
}

/// How playing ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Played {
    /// To the end of what was recorded, with whatever the recording says of being cut off.
    Whole(Vec<String>),
    /// A signal came first.
    Interrupted(nix::sys::signal::Signal),
}

/// Why a recording cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is none.
    #[error("session {0} was not recorded: record one with `omni exec --record`, or `terminal: {{ record: true }}`")]
    NotRecorded(SessionId),
    /// There was one.
    #[error("what session {0} recorded was forgotten: its key was destroyed, and nobody can read it any more")]
    Forgotten(SessionId),
    /// It is there and cannot be read.
    #[error("cannot read the recording {path}: {error}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is something else.
    #[error("{0} is no recording of version 3")]
    Format(PathBuf),
    /// It cannot be shown.
    #[error("cannot show the recording: {0}")]
    Write(io::Error),
}

#[derive(Deserialize)]
struct Header {
    version: u64,
    #[serde(default)]
    term: Term,
    #[serde(default)]
    timestamp: i64,
    /// To the microsecond; older recordings do not have it.
    #[serde(default)]
    omni_started: Option<i64>,
}

#[derive(Deserialize)]
struct Term {
    cols: u16,
    rows: u16,
}

impl Default for Term {
    fn default() -> Self {
        Self { cols: DEFAULT_SIZE.ws_col, rows: DEFAULT_SIZE.ws_row }
    }
}

/// One session's recording.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    file: BufReader<Box<SealedReader>>,
}

/// A recording of which the head was read.
#[derive(Debug)]
pub struct Recorded {
    replay: Replay,
    started: Timestamp,
    size: Winsize,
    /// How long after the beginning the last moment was.
    at: Duration,
}

/// Something that a recording tells.
#[derive(Clone, Debug, PartialEq)]
struct Moment {
    /// How long after the beginning.
    at: Duration,
    /// How long after the moment before it.
    interval: Duration,
    what: Told,
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Output(String),
    Size(Winsize),
    Mark(String),
    Other,
}

impl Replay {
    /// Opens it.
    ///
    /// # Errors
    /// [`ReplayError::NotRecorded`], [`ReplayError::Forgotten`], or [`ReplayError::Read`].
    pub fn open(home: &Home, session: &SessionId) -> Result<Self, ReplayError> {
        let path = home.recording(session);
        match SealedReader::open_recording(home, session) {
            Ok(Sealed::There(file)) => Ok(Self { path, file: BufReader::new(file) }),
            Ok(Sealed::Missing) => Err(ReplayError::NotRecorded(session.clone())),
            Ok(Sealed::Forgotten) => Err(ReplayError::Forgotten(session.clone())),
            Err(error) => Err(ReplayError::Read { path, error }),
        }
    }

    /// Copies it as it is.
    ///
    /// # Errors
    /// [`ReplayError::Write`], also where it is the reading that fails.
    pub fn copy(mut self, to: &mut impl Write) -> Result<(), ReplayError> {
        io::copy(&mut self.file, to).and_then(|_| to.flush()).map_err(ReplayError::Write)
    }

    /// Reads its head.
    ///
    /// # Errors
    /// [`ReplayError::Read`] or [`ReplayError::Format`].
    pub fn begin(mut self) -> Result<Recorded, ReplayError> {
        let header = self.line()?.and_then(|line| serde_json::from_str::<Header>(&line).ok());
        let Some(header) = header.filter(|header| header.version == 3) else {
            return Err(ReplayError::Format(self.path));
        };
        let started = header.omni_started.unwrap_or_else(|| header.timestamp.saturating_mul(1_000_000));
        let size = Winsize { ws_col: header.term.cols, ws_row: header.term.rows, ..DEFAULT_SIZE };
        Ok(Recorded { replay: self, started: Timestamp(started), size, at: Duration::ZERO })
    }

    /// The next line; none at the end.
    fn line(&mut self) -> Result<Option<String>, ReplayError> {
        let mut line = Vec::new();
        let failed = |error| ReplayError::Read { path: self.path.clone(), error };
        (&mut self.file).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)?;
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
    }
}

impl Recorded {
    /// When it began.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// What it tells next; none at its end, which may be sudden: its last line may be half a line.
    fn next(&mut self) -> Result<Option<Moment>, ReplayError> {
        let Some(line) = self.replay.line()? else { return Ok(None) };
        let Ok((seconds, code, data)) = serde_json::from_str::<(f64, String, Value)>(&line) else { return Ok(None) };
        let interval = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        self.at = self.at.saturating_add(interval);
        let what = match (code.as_str(), data) {
            ("o", Value::String(data)) => Told::Output(data),
            ("m", Value::String(mark)) => Told::Mark(mark),
            ("r", Value::String(size)) => read_size(&size).map_or(Told::Other, Told::Size),
            _ => Told::Other,
        };
        Ok(Some(Moment { at: self.at, interval, what }))
    }

    /// Plays it. Signals that would end this process end the playing, so that the terminal can be left in order.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn play(mut self, pace: Pace, to: &mut impl Write) -> Result<Played, ReplayError> {
        let signals = Signals::take_ending().map_err(ReplayError::Write)?;
        let mut filter = Filter::new(Rules::REPLAY);
        let mut marks = Vec::new();
        let mut interrupted = None;
        while let Some(moment) = self.next()? {
            interrupted = pause(&signals, pace.wait(&moment)).map_err(ReplayError::Write)?;
            if interrupted.is_some() {
                break;
            }
            match moment.what {
                Told::Output(data) => show(to, &filter.pass(data.as_bytes()).bytes)?,
                Told::Mark(mark) => marks.push(mark),
                Told::Size(_) | Told::Other => {}
            }
        }
        show(to, &filter.modes().leave())?;
        show(to, b"\x1b[m\r\n")?;
        Ok(interrupted.map_or(Played::Whole(marks), Played::Interrupted))
    }
}

/// Columns and rows, as in `100x30`.
fn read_size(text: &str) -> Option<Winsize> {
    let (columns, rows) = text.split_once('x')?;
    Some(Winsize { ws_col: columns.parse().ok()?, ws_row: rows.parse().ok()?, ..DEFAULT_SIZE })
}

impl Pace {
    /// How long to wait before a moment.
    fn wait(self, moment: &Moment) -> Duration {
        self.between(moment.at.saturating_sub(moment.interval), moment.at)
    }

    /// How long to wait between two times.
    fn between(self, before: Duration, at: Duration) -> Duration {
        let recorded = at.saturating_sub(before.max(self.from));
        let limited = self.idle_limit.map_or(recorded, |limit| recorded.min(limit));
        Duration::try_from_secs_f64(limited.as_secs_f64() / self.speed).unwrap_or_default()
    }
}

fn show(to: &mut impl Write, bytes: &[u8]) -> Result<(), ReplayError> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(ReplayError::Write)
}

/// Waits, unless a signal comes first.
fn pause(signals: &Signals, wait: Duration) -> io::Result<Option<nix::sys::signal::Signal>> {
    if wait.is_zero() {
        return Ok(signals.next());
    }
    let fd = signals.as_fd();
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], clock::timespec(wait).as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(signals.next()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(speed: f64, idle_limit: Option<Duration>, from: u64) -> Pace {
        Pace { speed, idle_limit, from: Duration::from_secs(from) }
    }

    #[test]
    fn pauses_are_cut_short_and_then_sped_up() {
        let seconds = Duration::from_secs;
        let limited = pace(2.0, Some(seconds(3)), 0);
        assert_eq!(limited.between(seconds(1), seconds(2)), Duration::from_millis(500));
        assert_eq!(limited.between(seconds(1), seconds(101)), Duration::from_millis(1500));
        assert_eq!(pace(1.0, None, 0).between(seconds(2), seconds(1)), Duration::ZERO);
    }

    #[test]
    fn what_was_before_the_time_that_is_asked_for_is_shown_at_once() {
        let seconds = Duration::from_secs;
        let late = pace(1.0, None, 10);
        assert_eq!(late.between(seconds(2), seconds(9)), Duration::ZERO);
        assert_eq!(late.between(seconds(9), seconds(12)), seconds(2));
        assert_eq!(late.between(seconds(12), seconds(13)), seconds(1));
    }

    #[test]
    fn a_size_is_columns_and_rows() {
        assert_eq!(read_size("100x30").map(|size| (size.ws_col, size.ws_row)), Some((100, 30)));
        assert_eq!(read_size("100"), None);
    }
}
