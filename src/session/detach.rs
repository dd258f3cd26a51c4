//! Starting a session that no terminal holds: it runs in a process of its own, and its harness on a terminal that anybody
//! of the user's can attach to.

use super::error::SessionError;
use super::finish::EXIT_OMNI_FAILED;
use super::leave::Company;
use super::prepare::Prepared;
use super::run::run_with;
use crate::store::Home;
use crate::sys::{Forked, fork_single_threaded};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

/// Longest reason for which a session did not start, in bytes.
const REASON_BYTES_MAX: u64 = 64 * 1024;
/// What is said when it did.
const STARTED: [u8; 1] = [0];

/// Says once, to whoever started a session, that its harness was let go.
#[derive(Debug)]
pub(super) struct Starter(File);

impl Starter {
    /// Says so. Where nobody hears it any more, nobody would know of the session: it must not go on.
    pub(super) fn tell_started(mut self) -> io::Result<()> {
        self.0.write_all(&STARTED)
    }
}

/// Starts a prepared session in a process of its own. Must be called while this process has one thread.
///
/// # Errors
/// Why the harness was not let go.
pub fn run_detached(prepared: &Prepared, home: &Home) -> Result<(), SessionError> {
    let (hears, tells) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(SessionError::preparing("make a pipe"))?;
    match fork_single_threaded().map_err(SessionError::preparing("fork the session"))? {
        Forked::Parent { .. } => {
            drop(tells);
            wait_for_start(hears)
        }
        Forked::Child => {
            drop(hears);
            std::process::exit(live(prepared, home, tells));
        }
    }
}

fn wait_for_start(hears: OwnedFd) -> Result<(), SessionError> {
    let mut hears = File::from(hears).take(REASON_BYTES_MAX);
    let mut told = [0; STARTED.len()];
    let failed = SessionError::preparing("hear from the session");
    match hears.read(&mut told).map_err(failed)? {
        0 => Err(SessionError::NotDetached("the session's process ended without a word".to_owned())),
        _ if told == STARTED => Ok(()),
        _ => {
            let mut why = told.to_vec();
            hears.read_to_end(&mut why).map_err(SessionError::preparing("hear from the session"))?;
            Err(SessionError::NotDetached(String::from_utf8_lossy(&why).into_owned()))
        }
    }
}

/// The session's whole life; the exit code.
fn live(prepared: &Prepared, home: &Home, tells: OwnedFd) -> i32 {
    let mut tells = File::from(tells);
    let told = tells.try_clone();
    let lived = leave_terminal()
        .and(told)
        .map_err(SessionError::preparing("leave the terminal"))
        .and_then(|told| run_with(prepared, home, Company::Starter(Starter(told))));
    match lived {
        Ok(_) => 0,
        Err(error) => {
            // Whoever started it hears this only before the start; later it stands in the record.
            let _ = write!(tells, "{error}");
            EXIT_OMNI_FAILED
        }
    }
}

/// A session of the kernel's own (setsid(2)), without a terminal and without a directory that it would keep in use.
pub(super) fn leave_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}
