//! The user's terminal while a harness has it: raw, and given back whatever happens.

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;

/// The user's terminal, if there is one and it is ours to read.
#[derive(Debug)]
pub(super) struct UserTerminal {
    before: Option<Termios>,
}

impl UserTerminal {
    /// Looks for it; it is given back when this is dropped. In the background there is none: reading it would stop the whole job.
    pub(super) fn find() -> Option<Self> {
        let foreground = tcgetpgrp(stdin()).is_ok_and(|group| group == rustix::process::getpgrp());
        (io::stdin().is_terminal() && foreground).then_some(Self { before: None })
    }

    /// Passes every key on as it is. Output is left as it is too where the harness's goes to the terminal; where it goes
    /// into a pipe, the program behind the pipe still counts on line ends being completed.
    pub(super) fn make_raw(&mut self) -> io::Result<()> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        if !io::stdout().is_terminal() {
            raw.output_modes = before.output_modes;
        }
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        self.before = Some(before);
        Ok(())
    }

    /// Gives it back as it was.
    fn restore(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing better can be done for a terminal that is gone.
            let _ = tcsetattr(stdin(), OptionalActions::Drain, &before);
        }
    }
}

impl Drop for UserTerminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The size of whichever standard stream is a terminal.
pub(super) fn size() -> Option<Winsize> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    tcgetwinsize(&stdin).or_else(|_| tcgetwinsize(&stdout)).or_else(|_| tcgetwinsize(&stderr)).ok()
}

/// Whichever standard stream is a terminal, to write to: a shell opens its terminal once, for both directions.
pub(super) fn screen() -> BorrowedFd<'static> {
    match () {
        () if io::stdout().is_terminal() => rustix::stdio::stdout(),
        () if io::stderr().is_terminal() => rustix::stdio::stderr(),
        () => stdin(),
    }
}

fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}
