//! The user's side: hands request and standard streams over, and stays as the foreground job of the user's shell, which
//! stops, goes on and ends as the session does.
//!
//! Where a standard stream is a terminal, the session gets a new one instead, shown on the user's: root's processes never
//! touch the terminal that the user's shell has.

use super::error::ServerError;
use super::message::{Hello, Kind, Request, Say, Word, seal};
use crate::model::ExitStatus;
use crate::session::{Screen, SentSecrets, Signals, Source};
use crate::supervisor::wire;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// How often to look whether a job in the background has come to the foreground: no signal says so.
const FOREGROUND_LOOK: Duration = Duration::from_millis(200);
/// Signals that end a visit that has no session yet.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// A visit to the machine's server.
#[derive(Debug)]
pub struct Call {
    /// The socket.
    pub socket: PathBuf,
    /// What for.
    pub kind: Kind,
    /// What is wanted.
    pub request: Request,
    /// The values of the user's own secrets.
    pub secrets: SentSecrets,
    /// Whether to say nothing oneself.
    pub quiet: bool,
}

/// Makes a visit, to its end: what the session's process exited with.
///
/// # Errors
/// A [`ServerError`] when there was no session, or nobody told how it ended.
pub fn call(call: Call) -> Result<ExitStatus, ServerError> {
    let signals = Signals::take().map_err(ServerError::calling("take signals over"))?;
    let connection = connect(&call.socket)?;
    let mut user = User { connection, signals, begun: false, quiet: call.quiet };
    user.say(&Hello { version: env!("CARGO_PKG_VERSION").to_owned(), kind: call.kind }, &[])?;
    let request = seal("request", &call.request).map_err(ServerError::calling("write the request"))?;
    let secrets = seal("secrets", &call.secrets).map_err(ServerError::calling("write the request"))?;
    drop(call);
    let terminal = Pair::open().map_err(ServerError::calling("open a terminal"))?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let theirs = |stream: BorrowedFd<'static>, is_terminal: bool| match &terminal {
        Some(terminal) if is_terminal => terminal.slave.as_fd(),
        _ => stream,
    };
    let streams = [
        theirs(rustix::stdio::stdin(), stdin.is_terminal()),
        theirs(rustix::stdio::stdout(), stdout.is_terminal()),
        theirs(rustix::stdio::stderr(), stderr.is_terminal()),
    ];
    user.say(&Say::Begin, &[request.as_fd(), secrets.as_fd(), streams[0], streams[1], streams[2]])?;
    // What is left of the other side here would keep it open.
    let master = terminal.map(|terminal| terminal.master);
    drop((request, secrets));
    user.wait_for_begin()?;
    let mut screen = Screen::mirror(master).map_err(ServerError::calling("take the terminal over"))?;
    let ended = user.stay(&mut screen);
    screen.drain();
    ended
}

/// Connects, to root alone: whoever else has a socket there would get secrets and keys.
fn connect(path: &std::path::Path) -> Result<OwnedFd, ServerError> {
    let absent = |error: io::Error| ServerError::Absent { path: path.to_owned(), error };
    let kind = SocketType::SEQPACKET;
    let connection = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    let connection = connection.map_err(ServerError::calling("make a socket"))?;
    let address = SocketAddrUnix::new(path).map_err(|error| absent(error.into()))?;
    rustix::net::connect(&connection, &address).map_err(|error| absent(error.into()))?;
    let server = getsockopt(&connection, PeerCredentials).map_err(ServerError::calling("see who answers"))?;
    match server.uid() {
        0 => Ok(connection),
        uid => Err(ServerError::Impostor { path: path.to_owned(), uid }),
    }
}

/// A terminal to be shown on the user's: it has the user's size and settings.
struct Pair {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Pair {
    /// Opens one, if any of the standard streams is a terminal.
    fn open() -> io::Result<Option<Self>> {
        let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
        let Some(own) = [stdin, stdout, stderr].into_iter().find(|stream| rustix::termios::isatty(stream)) else {
            return Ok(None);
        };
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        let settings = rustix::termios::tcgetattr(own)?;
        rustix::termios::tcsetattr(&slave, rustix::termios::OptionalActions::Now, &settings)?;
        rustix::termios::tcsetwinsize(&master, rustix::termios::tcgetwinsize(own)?)?;
        Ok(Some(Self { master, slave }))
    }
}

/// The user's process while it stays.
struct User {
    connection: OwnedFd,
    signals: Signals,
    begun: bool,
    quiet: bool,
}

/// What there is to attend to.
struct Ready {
    word: bool,
    sources: Vec<(Source, PollFlags)>,
}

impl User {
    fn say(&self, what: &impl serde::Serialize, descriptors: &[BorrowedFd<'_>]) -> Result<(), ServerError> {
        match wire::send(self.connection.as_fd(), what, descriptors) {
            // Why they hung up is what they said last.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(ServerError::calling("speak to the machine's server")),
        }
    }

    fn next_word(&self) -> Result<Word, ServerError> {
        match wire::receive::<Word>(self.connection.as_fd()) {
            Ok(Some((Word::Refused(why), _))) => Err(ServerError::Refused(why)),
            Ok(Some((word, _))) => Ok(word),
            Ok(None) => Err(ServerError::Lost),
            Err(error) => Err(ServerError::calling("hear from the machine's server")(error)),
        }
    }

    /// Waits until the session's process has the streams. Until then the terminal stays as it is, and signals are ours.
    fn wait_for_begin(&mut self) -> Result<(), ServerError> {
        while !self.begun {
            let ready = self.wait(None)?;
            while let Some(signal) = self.signals.next() {
                match signal {
                    Signal::SIGTSTP => suspend(),
                    signal if ENDING.contains(&signal) => return Err(ServerError::CalledOff(signal)),
                    _ => {}
                }
            }
            if !ready.word {
                continue;
            }
            match self.next_word()? {
                Word::Waiting(why) if !self.quiet => {
                    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("omni: waiting: {why}\n"));
                }
                Word::Begun => self.begun = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Shows the session's terminal and passes on what happens to this job, until the session ended.
    fn stay(&mut self, screen: &mut Screen) -> Result<ExitStatus, ServerError> {
        loop {
            screen.take_terminal();
            let ready = self.wait(Some(screen))?;
            // Nobody else looks at a mirror, so that nothing happens there.
            ready.sources.into_iter().for_each(|(source, flags)| drop(screen.serve(source, flags)));
            while let Some(signal) = self.signals.next() {
                match signal {
                    Signal::SIGWINCH => screen.resize(),
                    Signal::SIGCONT => {}
                    other => self.say(&Say::Signal(other as i32), &[])?,
                }
            }
            if !ready.word {
                continue;
            }
            match self.next_word()? {
                Word::Ended(status) => return Ok(status),
                Word::Stopped => {
                    screen.leave(suspend);
                    self.say(&Say::Continue, &[])?;
                }
                _ => {}
            }
        }
    }

    fn wait(&self, screen: Option<&Screen>) -> Result<Ready, ServerError> {
        let sources = screen.map(Screen::sources).unwrap_or_default();
        let mut waits = vec![PollFd::new(&self.connection, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        waits.extend(sources.iter().map(|(_, fd, flags)| PollFd::new(fd, *flags)));
        let look = screen.is_some_and(Screen::awaits_terminal).then_some(FOREGROUND_LOOK);
        let timeout = look.and_then(|look| Timespec::try_from(look).ok());
        match poll(&mut waits, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ServerError::calling("wait for the session")(error)),
        }
        let happened: Vec<PollFlags> = waits.iter().map(PollFd::revents).collect();
        let ready = sources.iter().zip(happened.iter().skip(2)).filter(|(_, flags)| !flags.is_empty());
        let sources = ready.map(|((source, _, _), flags)| (*source, *flags)).collect();
        Ok(Ready { word: happened.first().is_some_and(|flags| !flags.is_empty()), sources })
    }
}

/// Stops this job, as Ctrl-Z would have without us; returns when it goes on. The group stops as a whole, as the shell
/// expects of a job.
fn suspend() {
    let _ = nix::sys::signal::killpg(nix::unistd::getpgrp(), Signal::SIGSTOP);
}
