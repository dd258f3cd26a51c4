//! One visitor's process: takes the request and the standard streams, forks the session, and stands between it and the
//! user as a shell stands before a job. The session itself knows nothing of this: it sees signals and a terminal.

use super::accept::{log, tell};
use super::descriptors;
use super::error::ServerError;
use super::message::{DESCRIPTORS, Kind, Request, Say, Word, unseal};
use super::peer::Peer;
use crate::model::ExitStatus;
use crate::supervisor::{Share, wire};
use crate::sys::{self, Forked, fork_single_threaded};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Gid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a visitor who was let in may take to hand the request over.
const REQUEST: Duration = Duration::from_secs(10);
/// What a session gets between SIGHUP and the end when its user is gone.
const GRACE: Duration = Duration::from_secs(2);
/// What a user may tell a session by signals, as they could one of their own.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTSTP,
];

/// What the session's process begins with.
#[derive(Debug)]
pub struct Visit {
    /// Who wants it.
    pub peer: Peer,
    /// What they want.
    pub request: Request,
    /// The values of the secrets they sent, unread.
    pub secrets: OwnedFd,
    /// Held as long as the session lives, in whichever process that goes on: what the one in front of it waits for.
    pub life: OwnedFd,
}

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The session's, which has the user's standard streams; what it exits with is told to the user.
    Session(Box<Visit>),
    /// The one in front of it; everything is over.
    Front,
}

/// Takes a visitor's request over the connection. Returns twice, as `fork` does.
///
/// # Errors
/// A [`ServerError`] when there will be no session. The visitor has been told.
pub fn receive(connection: OwnedFd, kind: Kind) -> Result<Side, ServerError> {
    let (lives, life) = match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
        Ok(pipe) => pipe,
        Err(error) => return Err(refuse(&connection, ServerError::calling("make a pipe")(error))),
    };
    let begun = take_request(&connection, life).and_then(|(visit, streams)| {
        if kind == Kind::Session
            && let Err(error) = Share::of(visit.peer.uid).join()
        {
            log(&format!("no equal share of the processors for user {}: {error}", visit.peer.uid));
        }
        let children = SigSet::from(Signal::SIGCHLD);
        children.thread_block().map_err(ServerError::calling("block signals"))?;
        match fork_single_threaded().map_err(ServerError::calling("fork the session"))? {
            Forked::Child => {
                drop(lives);
                take_stage(&visit, streams)?;
                tell(&connection, &Word::Begun);
                Ok(Side::Session(Box::new(visit)))
            }
            Forked::Parent { pid, .. } => {
                drop((visit, streams));
                let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
                let signals = signals.map_err(ServerError::calling("take signals over"))?;
                Front { connection: &connection, signals, session: pid, kind, user: User::There }.mind()?;
                outlast(&lives)?;
                Ok(Side::Front)
            }
        }
    });
    begun.map_err(|error| refuse(&connection, error))
}

fn refuse(connection: &OwnedFd, why: ServerError) -> ServerError {
    tell(connection, &Word::Refused(why.to_string()));
    why
}

/// Waits until nobody holds the other end: a session that was left, or never had a terminal, goes on in a process of its own,
/// and counts as its user's as long as this one is there.
fn outlast(lives: &OwnedFd) -> Result<(), ServerError> {
    loop {
        match poll(&mut [PollFd::new(lives, PollFlags::IN)], None) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map(drop).map_err(ServerError::calling("wait for a session that was left")),
        }
    }
}

type Streams = [OwnedFd; 3];

fn take_request(connection: &OwnedFd, life: OwnedFd) -> Result<(Visit, Streams), ServerError> {
    let mut waits = [PollFd::new(connection, PollFlags::IN)];
    let timeout = Timespec::try_from(REQUEST).ok();
    if poll(&mut waits, timeout.as_ref()).map_err(ServerError::calling("wait for the request"))? == 0 {
        return Err(ServerError::Request("the request did not come"));
    }
    let peer = Peer::of(connection.as_fd())?;
    let received = wire::receive::<Say>(connection.as_fd()).map_err(ServerError::calling("receive the request"))?;
    let Some((Say::Begin, descriptors)) = received else {
        return Err(ServerError::Request("the visit did not begin with its beginning"));
    };
    let Ok([document, secrets, stdin, stdout, stderr]) = <[OwnedFd; DESCRIPTORS]>::try_from(descriptors) else {
        return Err(ServerError::Request("the request is not whole"));
    };
    let request = unseal::<Request>(&document).and_then(Request::check);
    let request = request.map_err(ServerError::calling("read the request"))?;
    let streams = [stdin, stdout, stderr];
    streams.iter().try_for_each(descriptors::check)?;
    Ok((Visit { peer, request, secrets, life }, streams))
}

/// Makes this process the leader of a session whose terminal, if there is one, is the user's, with the user's streams, groups
/// and mask.
fn take_stage(visit: &Visit, streams: Streams) -> Result<(), ServerError> {
    SigSet::empty().thread_set_mask().map_err(ServerError::calling("unblock signals"))?;
    // What the server's caller had it ignore is no word of the user's, whose harness would be deaf to it.
    let mut ignored = PASSED_ON.into_iter().filter(|which| sys::is_ignored(*which));
    ignored.try_for_each(sys::reset_signal).map_err(ServerError::calling("hear signals"))?;
    rustix::process::setsid().map_err(ServerError::calling("begin a session"))?;
    let terminal = streams.iter().find(|stream| rustix::termios::isatty(stream));
    if let Some(terminal) = terminal {
        // A terminal that another session has already stays theirs; the harness then does without job control.
        let _ = rustix::process::ioctl_tiocsctty(terminal);
    }
    let taking = "take the standard streams over";
    let [stdin, stdout, stderr] = streams;
    rustix::stdio::dup2_stdin(&stdin).map_err(ServerError::calling(taking))?;
    rustix::stdio::dup2_stdout(&stdout).map_err(ServerError::calling(taking))?;
    rustix::stdio::dup2_stderr(&stderr).map_err(ServerError::calling(taking))?;
    let groups: Vec<Gid> = visit.peer.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    nix::unistd::setgroups(&groups).map_err(ServerError::calling("take the user's groups"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(visit.request.umask & 0o777));
    Ok(())
}

/// The process in front of a session.
struct Front<'a> {
    connection: &'a OwnedFd,
    signals: SignalFd,
    session: Pid,
    kind: Kind,
    user: User,
}

/// Whether the user's process is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    There,
    /// It is gone, and until then the session may end by itself.
    Gone(Instant),
    /// It is gone, and the session was ended for it.
    Over,
}

impl Front<'_> {
    /// Passes on what the user says to the session and what becomes of the session to the user, to the session's end.
    fn mind(&mut self) -> Result<(), ServerError> {
        loop {
            let (child, word) = self.wait()?;
            if child {
                while self.signals.read_signal().ok().flatten().is_some() {}
                if self.look_after()? {
                    return Ok(());
                }
            }
            if word {
                self.hear();
            }
            if matches!(self.user, User::Gone(until) if Instant::now() >= until) {
                self.user = User::Over;
                self.signal(Signal::SIGKILL);
            }
        }
    }

    fn wait(&self) -> Result<(bool, bool), ServerError> {
        let mut waits = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let timeout = match self.user {
            User::There => {
                waits.push(PollFd::new(self.connection, PollFlags::IN));
                None
            }
            User::Gone(until) => Timespec::try_from(until.saturating_duration_since(Instant::now())).ok(),
            User::Over => None,
        };
        match poll(&mut waits, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ServerError::calling("wait for the session")(error)),
        }
        let happened = |index: usize| waits.get(index).is_some_and(|wait| !wait.revents().is_empty());
        Ok((happened(0), happened(1)))
    }

    /// Sees how the session fares; true when it ended.
    fn look_after(&self) -> Result<bool, ServerError> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        loop {
            match rustix::process::waitid(WaitId::Pid(self.session), options) {
                Ok(Some(status)) if status.stopped() => tell(self.connection, &Word::Stopped),
                Ok(Some(status)) => {
                    let code = status.exit_status().map(ExitStatus::Code);
                    let ended = code.or_else(|| status.terminating_signal().map(ExitStatus::Signal));
                    tell(self.connection, &Word::Ended(ended.unwrap_or(ExitStatus::Code(1))));
                    return Ok(true);
                }
                Ok(None) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(ServerError::calling("look after the session")(error)),
            }
        }
    }

    /// Does what the user says.
    fn hear(&mut self) {
        match wire::receive::<Say>(self.connection.as_fd()) {
            Ok(Some((Say::Signal(number), _))) => {
                let signal = Signal::try_from(number).ok().filter(|signal| PASSED_ON.contains(signal));
                signal.into_iter().for_each(|signal| self.signal(signal));
            }
            Ok(Some((Say::Continue, _))) => self.signal(Signal::SIGCONT),
            // The user's process is gone, or talks nonsense: both end the session as the end of a terminal would.
            Ok(Some((Say::Begin, _)) | None) | Err(_) => {
                self.signal(Signal::SIGHUP);
                self.signal(Signal::SIGCONT);
                let grace = if self.kind == Kind::Session { GRACE } else { Duration::ZERO };
                self.user = User::Gone(Instant::now() + grace);
            }
        }
    }

    /// Nobody else reaps the session's process, so that its id is its own.
    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.session.as_raw_nonzero().get());
        if let Err(error) = nix::sys::signal::kill(pid, signal) {
            log(&format!("cannot send {signal} to a session: {error}"));
        }
    }
}
