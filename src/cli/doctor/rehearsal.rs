//! Running programs as `omni exec` does, with this very binary, in a home and a workspace that are gone afterwards.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long one run may take; a harness made of scripts takes a second or two for its version.
const RUN_SECONDS_MAX: i64 = 30;

/// A home and a workspace for rehearsals.
#[derive(Debug)]
pub(super) struct Rehearsal(PathBuf);

/// How a run went.
#[derive(Debug)]
pub(super) struct Ran {
    /// Whether it succeeded.
    pub ok: bool,
    /// The first line of its output, or of what was said about its failure.
    pub said: String,
    /// How long it took.
    pub took: Duration,
}

impl Rehearsal {
    /// Makes the directories.
    pub(super) fn new() -> io::Result<Self> {
        let place = nix::unistd::mkdtemp(&std::env::temp_dir().join("omni-doctor-XXXXXX"))?;
        let rehearsal = Self(place);
        fs::create_dir(rehearsal.0.join("workspace"))?;
        Ok(rehearsal)
    }

    /// Runs a program by the default profile.
    pub(super) fn run(&self, command: &[&str]) -> io::Result<Ran> {
        let started = Instant::now();
        let workspace = self.0.join("workspace");
        let options = ["exec", "--quiet", "--profile", "default", "--workspace"].map(OsStr::new);
        // The program's name may be another by now, or nobody's; this link is what runs.
        let child = Command::new("/proc/self/exe")
            .args(options.into_iter().chain([workspace.as_os_str(), OsStr::new("--")]))
            .args(command)
            .env("OMNI_HOME", self.0.join("home"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        end_in_time(child.id())?;
        let output = child.wait_with_output()?;
        let ok = output.status.success();
        let said = String::from_utf8_lossy(if ok { &output.stdout } else { &output.stderr }).into_owned();
        let first = said.lines().find(|line| !line.trim().is_empty()).map(str::to_owned);
        let said = first.unwrap_or_else(|| if ok { String::new() } else { output.status.to_string() });
        Ok(Ran { ok, said: said.trim_start_matches("omni: ").to_owned(), took: started.elapsed() })
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        // What cannot be removed is an empty directory of ours in a place for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until the process has ended, and ends it when it takes too long.
fn end_in_time(id: u32) -> io::Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec { tv_sec: RUN_SECONDS_MAX, tv_nsec: 0 };
    if poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit))? == 0 {
        pidfd_send_signal(&pidfd, Signal::KILL)?;
    }
    Ok(())
}
