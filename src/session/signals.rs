//! The signals that the session takes over, read from a descriptor so that they can be waited for beside everything else.
//!
//! What each of them means for a harness is the relay's to know.

use super::error::SessionError;
use crate::sys;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Signals that are meant for the harness.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];
/// Signals about the terminal and the job.
const JOB: [Signal; 3] = [Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGCONT];
/// Signals that end what has not started yet.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// How long the proxy may take to say something, commands that fetch secrets included.
const READY_MAX: Duration = Duration::from_secs(120);

/// The signals that arrived and were not looked at yet.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Takes them over, before anything is forked, so that none is lost. What the caller ignores, as `nohup` does, stays
    /// ignored; blocked, it would arrive all the same.
    pub fn take() -> io::Result<Self> {
        Self::take_these(&[&PASSED_ON[..], &JOB].concat())
    }

    fn take_these(signals: &[Signal]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        signals.iter().filter(|signal| !sys::is_ignored(**signal)).for_each(|signal| set.add(*signal));
        // Not by pthread_sigmask(3), which says its errors in a way that nix takes for success.
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Takes over those alone that would end this process.
    pub fn take_ending() -> io::Result<Self> {
        Self::take_these(&ENDING)
    }

    /// The next one, if one arrived.
    pub fn next(&self) -> Option<Signal> {
        let info = self.0.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo.cast_signed()).ok()
    }

    /// Waits until there is something to read, while the session is being built.
    ///
    /// # Errors
    /// [`SessionError::CalledOff`] when a signal came that ends it first, [`SessionError::ProxyFailed`] when nothing comes.
    pub fn wait_for(&self, what: BorrowedFd<'_>) -> Result<(), SessionError> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let why = "it was not ready after two minutes: does a secret's command wait for something?";
                return Err(SessionError::ProxyFailed(why.to_owned()));
            }
            let mut waits = [PollFd::new(&what, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut waits, super::clock::timespec(left).as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(SessionError::preparing("wait for proxy and sandbox")(error)),
            }
            if !waits[0].revents().is_empty() {
                return Ok(());
            }
            while let Some(signal) = self.next() {
                if ENDING.contains(&signal) {
                    return Err(SessionError::CalledOff(signal));
                }
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
