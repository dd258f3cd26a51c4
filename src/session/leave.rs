//! Leaving a session at the terminal that it was started at: the process that the shell waits for ends, and another, forked
//! from it, goes on with all that it held.
//!
//! Nobody can become the parent of another's children. So process 1 is asked first not to end with the process that made
//! it; from then on the end of the wire tells it that nobody supervises it any more. Proxy and process 1 are waited for by
//! descriptors, which need no kinship.

use super::clock;
use super::detach::{Starter, leave_terminal};
use super::error::SessionError;
use super::finish::EXIT_OMNI_FAILED;
use crate::model::Event;
use crate::store::{Journal, Recorder, process_start_ticks};
use crate::sys::fork_without_handle;
use std::fs::File;
use std::io::{Read, Write};

/// What is said when the session goes on without this process.
const GONE_ON: [u8; 1] = [0];

/// Who is there when a session starts.
pub(super) enum Company<'a> {
    /// Whoever waits until it was started, and for no more.
    Starter(Starter),
    /// Whoever sits at the terminal, if there is one. They can leave where they are told how to come back.
    User(Option<&'a dyn Fn()>),
}

/// Goes on in a process of its own, of no terminal. The process that calls it says farewell, how to come back, and ends,
/// successfully.
///
/// Whether it could: where the machine makes no process, the session is as it was.
///
/// # Errors
/// In the new process, which cannot go on then.
pub(super) fn part(farewell: &dyn Fn(), journal: &mut Journal) -> Result<bool, SessionError> {
    let Ok((hears, tells)) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) else { return Ok(false) };
    let Ok(forked) = fork_without_handle() else { return Ok(false) };
    if forked.is_some() {
        drop(tells);
        let mut told = [0; GONE_ON.len()];
        // Only once it is in the record under its new process, where whoever looks for it next finds it.
        if File::from(hears).read_exact(&mut told).is_ok() {
            farewell();
            std::process::exit(0);
        }
        std::process::exit(EXIT_OMNI_FAILED);
    }
    drop(hears);
    leave_terminal().map_err(SessionError::preparing("leave the terminal"))?;
    let pid = std::process::id();
    let pid_started_ticks = process_start_ticks(pid).unwrap_or_default();
    journal.record(clock::now(), &Event::SessionDetached { pid, pid_started_ticks })?;
    // Whoever waited may have been killed meanwhile: the session goes on all the same.
    let _ = File::from(tells).write_all(&GONE_ON);
    Ok(true)
}
