//! Leaving a session at the terminal that it was started at: the shell gets its prompt, and the session goes on.

use crate::pty::Place;
use crate::screen::Screen;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;
use std::os::fd::OwnedFd;

/// Ctrl-\ and then d.
const LEAVE: &[u8] = b"\x1cd";
/// A shell whose prompt says that it waits.
const SHELL: &str = "-- env PS1='ready> ' bash --norc";

fn session_of(place: &Place) -> Value {
    serde_json::from_str(&place.output(&["show", "last", "--json"])).unwrap()
}

#[test]
fn a_session_is_left_at_its_own_terminal_and_goes_on_in_another_process() {
    let place = Place::new();
    let mut own = place.pty(&["exec", "--", "env", "PS1=ready> ", "bash", "--norc"]);
    own.wait_for("ready>");
    let before = place.events("session_started")[0]["pid"].as_u64().unwrap();
    own.write(b"printf '\\033[?1049h'; echo mar''ker\r");
    own.wait_for("marker");
    own.write(LEAVE);
    assert!(own.wait().success());
    own.wait_for("which goes on; omni attach");
    assert!(own.shows("\x1b[?1049l"), "the other screen is switched back");
    let story = session_of(&place);
    assert_eq!(story["status"], "running", "{story}");
    let detached = place.events("session_detached");
    let now = detached[0]["pid"].as_u64().unwrap();
    assert!(detached.len() == 1 && now != before, "{detached:?}");
    // Its terminal is nobody's: neither a terminal nor a session of the shell's.
    let stat = std::fs::read_to_string(format!("/proc/{now}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!((fields[3], fields[4]), (now.to_string().as_str(), "0"), "session and terminal: {stat}");
    // The first process is gone, not waiting somewhere.
    assert!(!std::path::Path::new(&format!("/proc/{before}")).exists());
    let goes_on = handle(now);
    let mut back = place.pty(&["attach", "last"]);
    back.wait_for("marker");
    back.write(b"echo $((40+2)); exit 7\r");
    assert_eq!(back.wait().code(), Some(7));
    back.wait_for("42");
    let story = session_of(&place);
    assert_eq!((&story["status"], &story["exit"]["code"]), (&"finished".into(), &7.into()), "{story}");
    ended(&goes_on);
    // The record is whole, across both processes.
    place.output(&["audit", "verify"]);
}

#[test]
fn the_shell_has_its_prompt_and_its_terminal_back_and_another_job_in_front() {
    let screen = Screen::open(80, 24);
    screen.run_omni(SHELL, "ready>");
    screen.line("echo mar\"\"ker; sleep 1000 & wait; echo awa\"\"ke");
    screen.wait_for("\nmarker");
    screen.keys("C-\\");
    screen.type_text("d");
    screen.wait_for("\nexit=0");
    // Ctrl-Z and Ctrl-C at the shell are the shell's: nothing of the session is among its jobs.
    screen.line("clear; jobs; stty -a | grep -ow icanon; echo jobs=$?");
    screen.wait_for("icanon\njobs=0");
    screen.keys("C-c");
    let mut viewer = screen.pty(&["attach", "last"]);
    viewer.wait_for("marker");
    viewer.write(b"\x03");
    viewer.write(b"echo ba''ck; kill %1; exit\r");
    viewer.wait_for("back");
    viewer.wait();
    assert_eq!(screen.wait_for_end()["status"], "finished");
}

#[test]
fn a_session_that_was_left_outlives_its_terminal() {
    let place = Place::new();
    let mut own = place.pty(&["exec", "--", "env", "PS1=ready> ", "bash", "--norc"]);
    own.wait_for("ready>");
    own.write(LEAVE);
    assert!(own.wait().success());
    // The terminal goes with it.
    drop(own);
    let mut back = place.pty(&["attach", "last"]);
    back.wait_for("ready>");
    back.write(b"kill -l HUP; echo al''ive\r");
    back.wait_for("alive");
    back.write(LEAVE);
    assert!(back.wait().success());
    place.output(&["stop", "last", "--grace", "100ms"]);
    assert_eq!(session_of(&place)["status"], "stopped");
}

#[test]
fn killing_the_process_that_goes_on_ends_everything_inside() {
    let place = Place::new();
    let mut own = place.pty(&["exec", "--", "sh", "-c", "echo up; exec sleep 86399"]);
    own.wait_for("up");
    own.write(LEAVE);
    assert!(own.wait().success());
    let pid = place.events("session_detached")[0]["pid"].as_u64().unwrap();
    // Process 1 of the sandbox ends with the wire, not with a parent, and the kernel ends the rest.
    let asleep = sleeping_for("86399");
    assert!(!asleep.is_empty());
    let handles: Vec<_> = asleep.iter().map(|pid| handle(*pid)).collect();
    pidfd_send_signal(handle(pid), Signal::KILL).unwrap();
    handles.iter().for_each(ended);
    assert_eq!(session_of(&place)["status"], "interrupted");
}

fn handle(pid: u64) -> OwnedFd {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Waits for a process's end.
fn ended(handle: &OwnedFd) {
    let patience = Timespec { tv_sec: 60, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&patience)).unwrap(), 1, "it lives on");
}

/// The processes, as the host sees them, that sleep for so long.
fn sleeping_for(seconds: &str) -> Vec<u64> {
    let line = format!("sleep\0{seconds}\0");
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    numbers.filter(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|own| own == line)).collect()
}

#[test]
fn ctrl_backslash_is_the_harnesss_when_pressed_twice_or_before_another_key() {
    let place = Place::new();
    let mut own = place.pty(&["exec", "--", "sh", "-c", "stty raw -echo; echo up; exec od -An -tx1 -w1 -v -N3"]);
    own.wait_for("up");
    own.write(b"\x1c\x1c");
    own.write(b"\x1cx");
    own.wait_for("78");
    let status = own.wait();
    assert!(status.success(), "{status:?}");
    let seen = String::from_utf8_lossy(own.seen()).replace(['\r', '\n'], "");
    assert!(seen.contains(" 1c 1c 78"), "{seen}");
}
