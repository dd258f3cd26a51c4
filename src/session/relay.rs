//! While the harness runs: keys and output between two terminals, signals, the clock, and word from inside, in one
//! `poll`.

use super::proxy_process::ProxyProcess;
use super::terminal::{self, UserTerminal};
use crate::model::{EndReason, ExitStatus};
use crate::supervisor::{Notice, Order, Sandbox, SupervisorError};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Bytes moved at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Keys that may wait for a harness that does not read.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// How often to look whether a job in the background has come to the foreground: no signal says so.
const FOREGROUND_LOOK: Duration = Duration::from_millis(200);
/// What a harness gets between SIGTERM and the end when its time is up.
const GRACE: Duration = Duration::from_secs(2);
/// Signals that are meant for the harness.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// How the harness ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub reason: EndReason,
    /// The harness's own end, when it came to one.
    pub status: Option<ExitStatus>,
    /// Why it never started: the error's number and text.
    pub not_started: Option<(i32, String)>,
}

/// Takes over the signals that the session handles, before anything is forked, so that none is lost.
pub(super) fn take_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    PASSED_ON
        .into_iter()
        .chain([Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGCONT])
        .for_each(|signal| set.add(signal));
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Whether one of the signals came that are meant for the harness: where there is none yet, it is meant for omni.
pub(super) fn called_off(signals: &SignalFd) -> Option<Signal> {
    while let Ok(Some(info)) = signals.read_signal() {
        let signal = Signal::try_from(info.ssi_signo.cast_signed()).ok();
        if let Some(signal) = signal.filter(|signal| PASSED_ON.contains(signal)) {
            return Some(signal);
        }
    }
    None
}

/// Everything the relay waits for.
pub(super) struct Relay<'a> {
    pub sandbox: &'a Sandbox,
    pub proxy: &'a ProxyProcess,
    pub signals: &'a SignalFd,
    /// The harness's terminal.
    pub master: Option<OwnedFd>,
    /// The user's, while this job is in its foreground.
    pub user: Option<UserTerminal>,
    /// Whether keys may still come from there.
    keys_end: bool,
    pub deadline: Option<Instant>,
    pending: Vec<u8>,
    timed_out: bool,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        sandbox: &'a Sandbox,
        proxy: &'a ProxyProcess,
        signals: &'a SignalFd,
        master: Option<OwnedFd>,
        timeout: Option<Duration>,
    ) -> Self {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        Self {
            sandbox,
            proxy,
            signals,
            master,
            user: None,
            keys_end: !io::stdin().is_terminal(),
            deadline,
            pending: Vec::new(),
            timed_out: false,
        }
    }

    /// Runs until the harness ended or has to be ended.
    pub(super) fn run(&mut self) -> Result<Ended, SupervisorError> {
        let lost = SupervisorError::Wire;
        if let Some(master) = &self.master {
            rustix::io::ioctl_fionbio(master, true).map_err(|error| lost(error.into()))?;
        }
        loop {
            self.take_terminal();
            let ready = self.wait().map_err(SupervisorError::Wire)?;
            if ready.output {
                self.show().map_err(SupervisorError::Wire)?;
            }
            if ready.keys {
                self.read_keys();
            }
            if ready.room || ready.keys {
                self.pass_keys();
            }
            if ready.signal {
                self.handle_signals()?;
            }
            if ready.notice
                && let Some(ended) = self.hear()?
            {
                return Ok(ended);
            }
            if ready.proxy_gone {
                return Ok(Ended { reason: EndReason::ProxyLost, status: None, not_started: None });
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
                && let Some(ended) = self.time_is_up()?
            {
                return Ok(ended);
            }
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let none = PollFlags::empty();
        let notices = self.sandbox.as_fd();
        let proxy = self.proxy.as_fd();
        let mut waits = vec![
            PollFd::new(&notices, PollFlags::IN),
            PollFd::new(&proxy, PollFlags::IN),
            PollFd::new(self.signals, PollFlags::IN),
        ];
        let stdin = rustix::stdio::stdin();
        if let Some(master) = &self.master {
            let room = if self.pending.is_empty() { none } else { PollFlags::OUT };
            waits.push(PollFd::new(master, PollFlags::IN | room));
            let wants_keys = self.user.is_some() && self.pending.len() < PENDING_BYTES_MAX;
            waits.push(PollFd::new(&stdin, if wants_keys { PollFlags::IN } else { none }));
        }
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let look = self.awaits_terminal().then_some(FOREGROUND_LOOK);
        let timeout = left
            .into_iter()
            .chain(look)
            .min()
            .map(|wait| Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() });
        match poll(&mut waits, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = |index: usize| waits.get(index).map_or(none, PollFd::revents);
        Ok(Ready {
            notice: !happened(0).is_empty(),
            proxy_gone: !happened(1).is_empty(),
            signal: !happened(2).is_empty(),
            output: happened(3).intersects(PollFlags::IN | PollFlags::HUP),
            room: happened(3).contains(PollFlags::OUT),
            keys: happened(4).intersects(PollFlags::IN | PollFlags::HUP),
        })
    }

    /// Whether there is a terminal whose keys go to somebody else for now: this job is in the background.
    fn awaits_terminal(&self) -> bool {
        self.master.is_some() && self.user.is_none() && !self.keys_end
    }

    /// Takes the user's terminal as soon as this job is in its foreground. Before, that would stop the job.
    fn take_terminal(&mut self) {
        if self.awaits_terminal()
            && let Some(mut user) = UserTerminal::find()
        {
            match user.make_raw() {
                Ok(()) => self.user = Some(user),
                // A terminal that cannot be set is as good as gone.
                Err(_) => self.keys_end = true,
            }
            self.resize();
        }
    }

    /// Shows what the harness wrote to its terminal.
    fn show(&mut self) -> io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        let mut chunk = vec![0; CHUNK_BYTES];
        match rustix::io::read(master, &mut chunk) {
            Ok(0) | Err(rustix::io::Errno::IO) => self.master = None,
            Ok(count) => print(&chunk[..count])?,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn read_keys(&mut self) {
        let mut chunk = [0; 4096];
        match rustix::io::read(rustix::stdio::stdin(), &mut chunk) {
            Ok(0) => self.end_keys(),
            Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // A terminal that vanished: the harness hears of it by SIGHUP, as it would outside.
            Err(_) => self.end_keys(),
        }
    }

    fn end_keys(&mut self) {
        self.user = None;
        self.keys_end = true;
    }

    fn pass_keys(&mut self) {
        if let Some(master) = &self.master
            && let Ok(count) = rustix::io::write(master, &self.pending)
        {
            self.pending.drain(..count);
        }
    }

    fn handle_signals(&mut self) -> Result<(), SupervisorError> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let Ok(signal) = Signal::try_from(info.ssi_signo.cast_signed()) else { continue };
            match signal {
                Signal::SIGWINCH => self.resize(),
                Signal::SIGTSTP => {
                    self.sandbox.order(&Order::Signal(libc::SIGSTOP))?;
                    self.suspend();
                    self.sandbox.order(&Order::Signal(libc::SIGCONT))?;
                }
                Signal::SIGCONT => {}
                other => self.sandbox.order(&Order::Signal(other as i32))?,
            }
        }
        Ok(())
    }

    fn resize(&self) {
        if let (Some(master), Some(size)) = (&self.master, terminal::size()) {
            // A size that cannot be set is no reason to end anything.
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// Stops this job, as Ctrl-Z would have without us; returns when it goes on.
    fn suspend(&mut self) {
        self.user = None;
        // Our own group stops as a whole, as the shell expects of a job. The call returns once we are continued, in the
        // foreground or the background.
        let _ = nix::sys::signal::killpg(nix::unistd::getpgrp(), Signal::SIGSTOP);
        self.take_terminal();
        self.resize();
    }

    /// Word from inside; an end if it is one.
    fn hear(&mut self) -> Result<Option<Ended>, SupervisorError> {
        let reason = if self.timed_out { EndReason::Timeout } else { EndReason::Finished };
        match self.sandbox.notice()? {
            Some((Notice::Exited(status), _)) => Ok(Some(Ended { reason, status: Some(status), not_started: None })),
            Some((Notice::Stopped, _)) => {
                if self.master.is_some() {
                    self.suspend();
                    self.sandbox.order(&Order::Continue)?;
                }
                Ok(None)
            }
            Some((Notice::NotExecuted(number), _)) => {
                let text = io::Error::from_raw_os_error(number).to_string();
                let not_started = Some((number, text));
                Ok(Some(Ended { reason: EndReason::NotStarted, status: None, not_started }))
            }
            Some((Notice::Failed { step, error }, _)) => Err(SupervisorError::Step { step, error }),
            Some((Notice::Built, _)) => Ok(None),
            None => Ok(Some(Ended { reason: EndReason::Interrupted, status: None, not_started: None })),
        }
    }

    /// First a polite signal, then the end.
    fn time_is_up(&mut self) -> Result<Option<Ended>, SupervisorError> {
        if self.timed_out {
            return Ok(Some(Ended { reason: EndReason::Timeout, status: None, not_started: None }));
        }
        self.timed_out = true;
        self.deadline = Some(Instant::now() + GRACE);
        self.sandbox.order(&Order::Signal(libc::SIGTERM))?;
        Ok(None)
    }

    /// Shows what is left in the harness's terminal once everything inside is dead.
    pub(super) fn drain(&mut self) {
        while self.master.is_some() {
            let before = self.master.as_ref().map(AsFd::as_fd).map(rustix::io::ioctl_fionread);
            if !matches!(before, Some(Ok(1..))) || self.show().is_err() {
                self.master = None;
            }
        }
        self.user = None;
    }
}

struct Ready {
    notice: bool,
    proxy_gone: bool,
    signal: bool,
    output: bool,
    room: bool,
    keys: bool,
}

/// Writes to whichever standard stream is the terminal.
fn print(bytes: &[u8]) -> io::Result<()> {
    if io::stdout().is_terminal() {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    } else {
        io::stderr().write_all(bytes)
    }
}
