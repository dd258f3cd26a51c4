//! Asking for what nobody else shall see: on the terminal, which does not show it, or from standard input.

use crate::policy::SecretSpec;
use crate::session::check_secret;
use anyhow::{Context, bail, ensure};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use zeroize::Zeroizing;

/// Most bytes that are read of a value; longer ones are refused.
const VALUE_BYTES_MAX: usize = 64 * 1024 + 2;

/// Whether what is typed is what comes in.
pub(super) fn is_on_a_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Reads a value, from the terminal or from standard input to its end.
pub(super) fn value(spec: &SecretSpec, what: &str) -> anyhow::Result<Zeroizing<String>> {
    let value = if is_on_a_terminal() {
        ensure!(
            !spec.is_document(),
            "it has several lines: give its file, as in `omni secret set {} < FILE`",
            spec.name
        );
        line(&format!("{what}: "))?
    } else {
        let mut bytes = Zeroizing::new(Vec::with_capacity(VALUE_BYTES_MAX + 1));
        std::io::stdin().take(VALUE_BYTES_MAX as u64).read_to_end(&mut bytes).context("cannot read standard input")?;
        let text = std::str::from_utf8(&bytes).context("the value is no text")?;
        Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())
    };
    match check_secret(spec, &value) {
        Some(problem) => bail!("this value cannot be a secret: {problem}"),
        None => Ok(value),
    }
}

/// Reads a line: from the terminal where that is what comes in, else from standard input.
pub(super) fn line(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if is_on_a_terminal() {
        return Terminal::open().context("there is no terminal to ask on")?.ask(prompt);
    }
    first_line(std::io::stdin(), VALUE_BYTES_MAX).context("cannot read standard input")
}

/// Reads a line of so many bytes at most, without its end, and leaves no copy of it behind.
///
/// # Errors
/// When it cannot be read, or is no text.
pub(super) fn first_line(from: impl Read, most: usize) -> std::io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(most + 1));
    BufReader::new(from.take(most as u64)).read_line(&mut line)?;
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

/// The terminal that this was started on, wherever what comes in is from.
pub(super) struct Terminal(File);

impl Terminal {
    /// Opens it, where there is one.
    pub(super) fn open() -> Option<Self> {
        File::options().read(true).write(true).open("/dev/tty").ok().map(Self)
    }

    /// Says something there.
    pub(super) fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.0.write_all(text.as_bytes()).context("cannot write to the terminal")
    }

    /// Reads a line, which is not shown.
    pub(super) fn ask(&mut self, prompt: &str) -> anyhow::Result<Zeroizing<String>> {
        // Before the question: who answers at once is not shown either, and nothing of the answer is dropped.
        let quiet = Quiet::begin(&self.0)?;
        (&self.0).write_all(prompt.as_bytes()).context("cannot write to the terminal")?;
        let read = first_line(&self.0, VALUE_BYTES_MAX);
        drop(quiet);
        self.say("\n")?;
        read.context("cannot read from the terminal")
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: rustix::termios::Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a File) -> anyhow::Result<Self> {
        let before = tcgetattr(terminal.as_fd()).context("this is no terminal")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &quiet)
            .context("the terminal cannot be kept from showing it")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Flush, &self.before);
    }
}
