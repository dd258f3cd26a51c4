//! Ending everything that a harness left behind, where no process namespace does it.
//!
//! This process is what orphans of its own descendants fall to (PR_SET_CHILD_SUBREAPER), so whoever the harness started
//! becomes its child sooner or later, and is killed then.

use rustix::process::{Pid, Signal, WaitOptions};
use std::io;

/// Rounds of killing. Each ends a generation; a harness that forks faster than this is ended by its limits, if any.
const ROUNDS_MAX: usize = 10_000;

/// Makes orphans fall to this process.
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// Kills and reaps every child, and those that become children by that, until there are none.
pub(super) fn end_all() {
    for _ in 0..ROUNDS_MAX {
        for child in children() {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// The processes whose parent this one is (proc_pid_stat(5), field 4).
fn children() -> Vec<Pid> {
    let me = rustix::process::getpid();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|number| parent_of(*number) == Some(me.as_raw_nonzero().get())).filter_map(Pid::from_raw).collect()
}

fn parent_of(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}
