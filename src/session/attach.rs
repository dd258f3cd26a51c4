//! A person's side of a running session: its terminal shown on theirs, their keys passed to it; or its end asked for.

use super::control::{self, PIECE_BYTES_MAX, Packet, Said, Told};
use super::filter::{Filter, Rules};
use super::leave_key::LeaveKey;
use super::signals::Signals;
use super::terminal::UserTerminal;
use crate::model::{ExitStatus, SessionId};
use crate::policy::Effect;
use crate::store::Home;
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Output that waits for the terminal before no more is taken from the session.
const BACKLOG_BYTES_MAX: usize = 256 * 1024;
/// How long a terminal may take nothing when it is left.
const STUCK_MAX: Duration = Duration::from_secs(2);

/// How a person's look at a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// They left; the session goes on.
    Left,
    /// The session ended; its harness like this, unless it had to be ended.
    Ended(Option<ExitStatus>),
}

/// Why a session cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It does not run.
    #[error("session {0} does not run (any more): `omni show {0}` says what became of it")]
    NotRunning(SessionId),
    /// It cannot be reached.
    #[error("cannot reach session {session}: {error}")]
    Connect {
        /// Which.
        session: SessionId,
        /// Why.
        error: io::Error,
    },
    /// It says no.
    #[error("session {session} cannot be attached to: {why}")]
    Refused {
        /// Which.
        session: SessionId,
        /// Why.
        why: String,
    },
    /// It does not take a rule.
    #[error("session {session} does not take the rule: {why}")]
    Rule {
        /// Which.
        session: SessionId,
        /// Why.
        why: String,
    },
    /// It does not take an answer.
    #[error("session {session} does not take the answer: {why}")]
    Answer {
        /// Which.
        session: SessionId,
        /// Why.
        why: String,
    },
    /// There is nothing to show it on.
    #[error("attaching takes a terminal, and standard input or output leads to none")]
    NoTerminal,
    /// The connection or the terminal broke.
    #[error("lost the session: {0}")]
    Lost(io::Error),
}

fn connect(home: &Home, session: &SessionId) -> Result<OwnedFd, AttachError> {
    control::connect(home, session).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AttachError::NotRunning(session.clone()),
        _ => AttachError::Connect { session: session.clone(), error },
    })
}

/// Asks for a session's end, and waits for it. The harness gets `grace` after the polite signal.
///
/// # Errors
/// When it cannot be reached.
pub fn stop(home: &Home, session: &SessionId, grace: Duration) -> Result<Option<ExitStatus>, AttachError> {
    let socket = connect(home, session)?;
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let _ = control::send(socket.as_fd(), &Said::Stop { grace_ms });
    loop {
        match control::receive::<Told>(socket.as_fd()).map_err(AttachError::Lost)? {
            Some(Packet::Message(Told::Ended(status))) => return Ok(status),
            Some(Packet::Message(Told::Refused(why))) => {
                return Err(AttachError::Refused { session: session.clone(), why });
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Lets a rule count in a running session, from its next request on. Root can do so in another user's name.
///
/// # Errors
/// When the session cannot be reached, or the rule is not sound.
pub fn amend(
    home: &Home,
    session: &SessionId,
    (effect, rule): (Effect, &str),
    on_behalf_of: Option<&str>,
) -> Result<(), AttachError> {
    let socket = connect(home, session)?;
    let said = Said::Amend {
        effect: effect.as_str().to_owned(),
        rule: rule.to_owned(),
        on_behalf_of: on_behalf_of.map(str::to_owned),
    };
    control::send(socket.as_fd(), &said).map_err(AttachError::Lost)?;
    accepted(&socket, session, |session, why| AttachError::Rule { session, why })
}

/// Answers a session's question: `once`, `session` or `deny`. Root can do so in another user's name.
///
/// # Errors
/// When the session cannot be reached, or another answer was first.
pub fn answer(
    home: &Home,
    session: &SessionId,
    question: u64,
    (answer, reason): (&str, Option<&str>),
    on_behalf_of: Option<&str>,
) -> Result<(), AttachError> {
    let socket = connect(home, session)?;
    let said = Said::Answer {
        question,
        answer: answer.to_owned(),
        reason: reason.map(str::to_owned),
        on_behalf_of: on_behalf_of.map(str::to_owned),
    };
    control::send(socket.as_fd(), &said).map_err(AttachError::Lost)?;
    accepted(&socket, session, |session, why| AttachError::Answer { session, why })
}

/// Longest policy file that a running session takes, in bytes: it comes in one packet.
const CHANGED_BYTES_MAX: usize = 12 * 1024;

/// Has a running session held to a policy file in place of the one of its name.
///
/// # Errors
/// When the session cannot be reached, knows no such file, or does not take it.
pub fn change_policy(
    home: &Home,
    session: &SessionId,
    (file, path, text): (&str, &str, &str),
) -> Result<(), AttachError> {
    if text.len() > CHANGED_BYTES_MAX {
        let why = format!("it is longer than {CHANGED_BYTES_MAX} bytes, which is too long to change while it runs");
        return Err(AttachError::Rule { session: session.clone(), why });
    }
    let socket = connect(home, session)?;
    let said = Said::Replace { file: file.to_owned(), path: path.to_owned(), text: text.to_owned() };
    control::send(socket.as_fd(), &said).map_err(AttachError::Lost)?;
    accepted(&socket, session, |session, why| AttachError::Rule { session, why })
}

/// Waits until a session has said yes or no.
fn accepted(
    socket: &OwnedFd,
    session: &SessionId,
    refused: impl FnOnce(SessionId, String) -> AttachError,
) -> Result<(), AttachError> {
    loop {
        match control::receive::<Told>(socket.as_fd()).map_err(AttachError::Lost)? {
            Some(Packet::Message(Told::Accepted)) => return Ok(()),
            Some(Packet::Message(Told::Refused(why))) => return Err(refused(session.clone(), why)),
            Some(Packet::Bytes(_)) => {}
            Some(Packet::Message(Told::Ended(_))) | None => return Err(AttachError::NotRunning(session.clone())),
        }
    }
}

/// Shows a session's terminal on this one until the person leaves or the session ends.
///
/// # Errors
/// When there is no terminal, or the session cannot be reached or says no.
pub fn attach(home: &Home, session: &SessionId, read_only: bool) -> Result<Parting, AttachError> {
    let terminal = UserTerminal::standard().map_err(AttachError::Lost)?;
    let size = terminal.size().filter(|_| terminal.has_keys() && terminal.output().is_some());
    let size = size.ok_or(AttachError::NoTerminal)?;
    let signals = Signals::take().map_err(AttachError::Lost)?;
    let socket = connect(home, session)?;
    let (columns, rows) = (size.ws_col, size.ws_row);
    // A session that refuses may have gone before it was asked; then it said why.
    let _ = control::send(socket.as_fd(), &Said::Attach { read_only, columns, rows });
    match control::receive::<Told>(socket.as_fd()).map_err(AttachError::Lost)? {
        Some(Packet::Message(Told::Accepted)) => {}
        Some(Packet::Message(Told::Refused(why))) => {
            return Err(AttachError::Refused { session: session.clone(), why });
        }
        _ => return Err(AttachError::NotRunning(session.clone())),
    }
    let modes = Filter::new(Rules::READING_ALONG);
    let leave = LeaveKey::default();
    let mut look = Look { socket, signals, terminal, read_only, modes, leave, backlog: Vec::new() };
    let parting = look.run();
    look.part();
    parting.map_err(AttachError::Lost)
}

/// One person looking.
struct Look {
    socket: OwnedFd,
    signals: Signals,
    terminal: UserTerminal,
    read_only: bool,
    /// Reads along, to know what is to be switched back.
    modes: Filter,
    leave: LeaveKey,
    /// Output on its way.
    backlog: Vec<u8>,
}

impl Look {
    fn run(&mut self) -> io::Result<Parting> {
        self.terminal.make_raw()?;
        loop {
            let [session, signal, keys, room] = self.wait()?;
            if room {
                self.flush()?;
            }
            if session && let Some(parting) = self.receive()? {
                return Ok(parting);
            }
            if (keys && !self.pass_keys()?) || (signal && !self.heed_signals()?) {
                return Ok(Parting::Left);
            }
        }
    }

    /// Waits; what happened to session, signals, keys, terminal.
    fn wait(&self) -> io::Result<[bool; 4]> {
        let signals = self.signals.as_fd();
        let (Some(input), Some(output)) = (self.terminal.input(), self.terminal.output()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let want = |flag, wanted| if wanted { flag } else { PollFlags::empty() };
        let mut waits = [
            PollFd::new(&self.socket, want(PollFlags::IN, self.backlog.len() < BACKLOG_BYTES_MAX)),
            PollFd::new(&signals, PollFlags::IN),
            PollFd::new(&input, PollFlags::IN),
            PollFd::new(&output, want(PollFlags::OUT, !self.backlog.is_empty())),
        ];
        match poll(&mut waits, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(waits.map(|wait| !wait.revents().is_empty())),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self) -> io::Result<Option<Parting>> {
        match control::receive::<Told>(self.socket.as_fd())? {
            Some(Packet::Bytes(output)) => {
                self.modes.pass(&output);
                self.backlog.extend(output);
                self.flush()?;
                Ok(None)
            }
            Some(Packet::Message(Told::Ended(status))) => Ok(Some(Parting::Ended(status))),
            Some(Packet::Message(_)) => Ok(None),
            None => Ok(Some(Parting::Ended(None))),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            match self.terminal.write(&self.backlog)? {
                0 => return Ok(()),
                count => drop(self.backlog.drain(..count)),
            }
        }
        Ok(())
    }

    /// Passes keys on; false when the person leaves.
    fn pass_keys(&mut self) -> io::Result<bool> {
        let Some(input) = self.terminal.input() else { return Ok(false) };
        let mut keys = [0; 4096];
        let count = match rustix::io::read(input, &mut keys) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
            // The terminal is gone: so is the person.
            Ok(0) | Err(_) => return Ok(false),
            Ok(count) => count,
        };
        let Some(passed) = self.leave.read(&keys[..count]) else { return Ok(false) };
        if self.read_only {
            return Ok(!leaves_a_look(&passed));
        }
        for piece in passed.chunks(PIECE_BYTES_MAX) {
            control::send_bytes(self.socket.as_fd(), piece)?;
        }
        Ok(true)
    }

    /// Heeds signals; false when one says to leave.
    fn heed_signals(&self) -> io::Result<bool> {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::SIGWINCH => {
                    if let Some(size) = self.terminal.size() {
                        let resize = Said::Resize { columns: size.ws_col, rows: size.ws_row };
                        control::send(self.socket.as_fd(), &resize)?;
                    }
                }
                Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT => return Ok(false),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Gives the terminal back as it was, below what was shown.
    fn part(&mut self) {
        self.backlog.extend(self.modes.modes().leave());
        self.backlog.extend_from_slice(b"\x1b[m\r\n");
        while self.flush().is_ok() && !self.backlog.is_empty() && self.terminal.wait_for_room(STUCK_MAX) {}
        self.terminal.restore();
    }
}

/// Who cannot type leaves by `q` or Ctrl-C as well.
fn leaves_a_look(keys: &[u8]) -> bool {
    keys.iter().any(|key| b"q\x03".contains(key)) || keys.windows(7).any(|keys| keys == b"\x1b[99;5u")
}
