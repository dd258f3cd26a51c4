//! Plays the recording of a session's terminal (asciicast, version 3), through the filter: what was recorded asks nothing
//! of the terminal that it is shown on.

use super::clock;
use super::filter::{Filter, Rules};
use super::signals::Signals;
use crate::model::SessionId;
use crate::store::{Home, Sealed, SealedReader};
use rustix::event::{PollFd, PollFlags, poll};
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
}

/// One session's recording.
#[derive(Debug)]
pub struct Replay {
    path: PathBuf,
    file: BufReader<Box<SealedReader>>,
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

    /// Plays it. Signals that would end this process end the playing, so that the terminal can be left in order.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn play(mut self, pace: Pace, to: &mut impl Write) -> Result<Played, ReplayError> {
        let signals = Signals::take_ending().map_err(ReplayError::Write)?;
        let header = self.line()?.and_then(|line| serde_json::from_str::<Header>(&line).ok());
        if header.is_none_or(|header| header.version != 3) {
            return Err(ReplayError::Format(self.path));
        }
        let mut filter = Filter::new(Rules::REPLAY);
        let mut marks = Vec::new();
        let mut interrupted = None;
        while let Some(line) = self.line()? {
            // The last line of a recording that ended suddenly may be half a line.
            let Ok((interval, code, data)) = serde_json::from_str::<(f64, String, Value)>(&line) else { break };
            interrupted = pause(&signals, pace.wait(interval)).map_err(ReplayError::Write)?;
            if interrupted.is_some() {
                break;
            }
            match (code.as_str(), data.as_str()) {
                ("o", Some(data)) => show(to, &filter.pass(data.as_bytes()).bytes)?,
                ("m", Some(mark)) => marks.push(mark.to_owned()),
                _ => {}
            }
        }
        show(to, &filter.modes().leave())?;
        show(to, b"\x1b[m\r\n")?;
        Ok(interrupted.map_or(Played::Whole(marks), Played::Interrupted))
    }

    /// The next line; none at the end.
    fn line(&mut self) -> Result<Option<String>, ReplayError> {
        let mut line = Vec::new();
        let failed = |error| ReplayError::Read { path: self.path.clone(), error };
        (&mut self.file).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)?;
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
    }
}

impl Pace {
    /// How long to wait where the recording waited this many seconds.
    fn wait(self, seconds: f64) -> Duration {
        let recorded = Duration::try_from_secs_f64(seconds).unwrap_or_default();
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

    #[test]
    fn pauses_are_cut_short_and_then_sped_up() {
        let pace = Pace { speed: 2.0, idle_limit: Some(Duration::from_secs(3)) };
        assert_eq!(pace.wait(1.0), Duration::from_millis(500));
        assert_eq!(pace.wait(100.0), Duration::from_millis(1500));
        assert_eq!(Pace { speed: 1.0, idle_limit: None }.wait(-1.0), Duration::ZERO);
    }
}
