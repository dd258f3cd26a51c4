//! The user's terminal: where keys come from and output goes. Raw while a harness has it, and given back whatever happens.
//!
//! Output never waits: a terminal that takes nothing more must not stop the clock and the signals.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetpgrp, tcgetsid, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Device number of `/dev/ptmx`, which makes a new terminal each time it is opened (Linux's devices.txt).
const PTMX: (u32, u32) = (5, 2);
/// The size of a terminal that nobody looks at.
pub(super) const DEFAULT_SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
/// The terminal of whoever opens it (tty(4)).
const OWN_TERMINAL: &str = "/dev/tty";

/// The user's terminal, as far as the standard streams lead to one.
#[derive(Debug)]
pub(super) struct UserTerminal {
    /// Keys come from here.
    input: Option<OwnedFd>,
    /// Output goes here.
    output: Option<OwnedFd>,
    /// Whether output goes to standard output, so that line ends are the harness's alone. Where that is a pipe, the program
    /// behind it still counts on the terminal to complete them.
    complete: bool,
    /// How it was, while it is raw.
    before: Option<Termios>,
}

impl UserTerminal {
    /// None: nobody is there.
    pub(super) fn none() -> Self {
        Self { input: None, output: None, complete: false, before: None }
    }

    /// Whatever the standard streams lead to: a shell opens its terminal once, for both directions.
    pub(super) fn standard() -> io::Result<Self> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let streams = [stdout.as_fd(), stderr.as_fd(), stdin.as_fd()];
        let screen = streams.into_iter().find(IsTerminal::is_terminal);
        let double = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        let output = screen.map(|screen| reopen(screen).map_or_else(|| double(screen), Ok)).transpose()?;
        let input = stdin.is_terminal().then(|| double(stdin.as_fd())).transpose()?;
        Ok(Self { input, output, complete: stdout.is_terminal(), before: None })
    }

    /// Whether there is one to type at.
    pub(super) fn has_keys(&self) -> bool {
        self.input.is_some()
    }

    /// Whether it is raw: its keys are the harness's.
    pub(super) fn is_raw(&self) -> bool {
        self.before.is_some()
    }

    /// Whether this job is in its foreground. In the background, reading or setting it would stop the job.
    pub(super) fn is_foreground(&self) -> bool {
        let group = self.input.as_ref().map(tcgetpgrp);
        matches!(group, Some(Ok(group)) if group == rustix::process::getpgrp())
    }

    /// Where keys come from.
    pub(super) fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    /// Where output goes.
    pub(super) fn output(&self) -> Option<BorrowedFd<'_>> {
        self.output.as_ref().map(AsFd::as_fd)
    }

    /// Passes every key on as it is.
    pub(super) fn make_raw(&mut self) -> io::Result<()> {
        let Some(input) = &self.input else { return Ok(()) };
        let before = tcgetattr(input)?;
        let mut raw = before.clone();
        raw.make_raw();
        if !self.complete {
            raw.output_modes = before.output_modes;
        }
        tcsetattr(input, OptionalActions::Drain, &raw)?;
        self.before = Some(before);
        Ok(())
    }

    /// Gives it back as it was.
    pub(super) fn restore(&mut self) {
        if let (Some(input), Some(before)) = (&self.input, self.before.take()) {
            // Nothing better can be done for a terminal that is gone. It is not waited for: one that is stuck stays so.
            let _ = tcsetattr(input, OptionalActions::Now, &before);
        }
    }

    /// Writes what it takes at once; zero when it takes nothing now. Where there is none, all is taken.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        let Some(output) = &self.output else { return Ok(bytes.len()) };
        match rustix::io::write(output, bytes) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
            other => other,
        }
    }

    /// Waits until it takes more, at most this long; whether it does.
    pub(super) fn wait_for_room(&self, wait: Duration) -> bool {
        let Some(output) = &self.output else { return true };
        let mut waits = [PollFd::new(output, PollFlags::OUT)];
        // An error is found out by the write that follows.
        !matches!(poll(&mut waits, super::clock::timespec(wait).as_ref()), Ok(0))
    }

    /// Its size.
    pub(super) fn size(&self) -> Option<Winsize> {
        self.input.iter().chain(&self.output).find_map(|fd| tcgetwinsize(fd).ok())
    }
}

impl Drop for UserTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The same terminal through a description of our own, so that not waiting is our own affair: everybody shares the one
/// that was inherited. None where it cannot be opened again; then the inherited one is written to.
fn reopen(terminal: BorrowedFd<'_>) -> Option<OwnedFd> {
    let device = rustix::fs::fstat(terminal).ok()?.st_rdev;
    if (rustix::fs::major(device), rustix::fs::minor(device)) == PTMX {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = |path: &str| rustix::fs::open(path, flags, Mode::empty()).ok();
    let again = open(&format!("/proc/self/fd/{}", terminal.as_raw_fd()));
    // After `su`, the terminal's file is another user's; whose terminal this is may still open it by this name.
    again.or_else(|| tcgetsid(terminal).ok().and_then(|_| open(OWN_TERMINAL)))
}

/// The size of whichever standard stream is a terminal.
pub(super) fn size() -> Option<Winsize> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    tcgetwinsize(&stdin).or_else(|_| tcgetwinsize(&stdout)).or_else(|_| tcgetwinsize(&stderr)).ok()
}
