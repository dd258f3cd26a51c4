//! The server as docs/shared-box.md tells a person to install it, under this machine's systemd.
//!
//! Installing changes a machine, so that these take one that is there for it, as scripts/test-vm's is.

use crate::fairness::share_with_busy_sessions;
use crate::machine::{Files, Machine, PATIENCE, ends, finish, harnesses};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde_json::{Value, json};
use std::fs;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

const GUIDE: &str = include_str!("../../docs/shared-box.md");
const UNITS: [&str; 2] = ["omni-server.service", "omni-sessions.service"];
pub const INSTALLED: &str = "/usr/local/bin/omni";
const RUNTIME: &str = "/run/omni";
/// Most that `systemd-analyze security` may find the server exposed, of 10.
const EXPOSURE_MAX: &str = "88";

/// Installs the server, and removes it after the test, whatever came of that.
pub fn on_an_installed_machine(files: Files<'_>, test: impl FnOnce(&mut Machine)) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if std::env::var("OMNI_TEST_MAY_INSTALL").as_deref() != Ok("1") || !Path::new("/run/systemd/system").is_dir() {
        println!("skipped: installs units, which takes systemd and OMNI_TEST_MAY_INSTALL=1");
        return;
    }
    // Whoever failed before has been removed.
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut machine = Machine::without_a_server();
    files.lay_down(Path::new("/etc/omni"));
    let removal = Removal;
    install(&machine);
    machine.find_installed(Path::new(INSTALLED));
    test(&mut machine);
    drop(removal);
}

/// Follows the guide, in a directory that is like a checkout after a build.
fn install(machine: &Machine) {
    let checkout = machine.path("checkout");
    fs::create_dir_all(checkout.join("target/release")).unwrap();
    fs::copy(machine.binary(), checkout.join("target/release/omni")).unwrap();
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("dist"), checkout.join("dist")).unwrap();
    let (_, steps) = GUIDE.split_once("## Installing it\n\n```sh\n").unwrap();
    let (steps, _) = steps.split_once("```").unwrap();
    let output = Command::new("sh").args(["-exc", steps]).current_dir(&checkout).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

struct Removal;

impl Drop for Removal {
    fn drop(&mut self) {
        let _ = Command::new("systemctl").args(["--quiet", "disable", "--now"]).args(UNITS).status();
        for unit in UNITS {
            let _ = fs::remove_file(Path::new("/etc/systemd/system").join(unit));
        }
        for directory in ["/etc/omni", "/var/lib/omni", RUNTIME] {
            let _ = fs::remove_dir_all(directory);
        }
        let _ = fs::remove_file(INSTALLED);
    }
}

fn systemctl(arguments: &[&str]) -> String {
    let output = Command::new("systemctl").args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn property(name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, UNITS[0]])
}

/// The server's process.
pub fn main_pid() -> u32 {
    property("MainPID").parse().unwrap()
}

pub fn restart() {
    systemctl(&["restart", UNITS[0]]);
}

/// The group of version 2 that a process is in.
fn group_of(pid: u32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// The groups of users who have sessions.
fn groups_of_users() -> Vec<PathBuf> {
    let place = Path::new("/sys/fs/cgroup/system.slice").join(UNITS[1]);
    let entries = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.to_string_lossy().contains("/omni-user-")).collect()
}

/// Processes of the installed program.
fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_ours = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(INSTALLED));
    pids.filter(is_ours).collect()
}

fn reached(machine: &Machine) -> Value {
    let log = machine.list(&machine.ada, &["audit", "log", "--session", "last"]);
    let limits = log.iter().filter(|line| line["event"] == "limit_reached");
    limits.map(|line| json!([line["limit"], line["held_by"]])).collect()
}

#[test]
fn users_have_sessions_of_their_own_below_the_unit() {
    on_an_installed_machine(Files { system: "default: true\n", ..Files::default() }, |machine| {
        assert_eq!(systemctl(&["is-active", UNITS[0]]), "active");
        assert_eq!(systemctl(&["is-enabled", UNITS[0]]), "enabled");
        let mut session = machine.start(&machine.ada, &["--name", "adas"], "id -u; read word; exit 3; : harness 40911");
        assert_eq!(session.line(), machine.ada.uid.to_string());
        let group = group_of(harnesses("harness 40911")[0]);
        let expected = format!("/system.slice/{}/omni-user-{}", UNITS[1], machine.ada.uid);
        assert!(group.starts_with(&expected), "{group}");
        let count = |user| machine.list(user, &["sessions"]).len();
        assert_eq!((count(&machine.ada), count(&machine.bob)), (1, 0));
        assert_eq!(machine.list(&machine.root(), &["sessions", "--system"]).len(), 1);
        let mut shown = machine.omni(&machine.bob);
        shown.args(["show", "adas"]);
        assert_eq!(finish(shown, b"").code(), Some(1));
        let mut looked = machine.command(&machine.bob, Path::new("/bin/sh"));
        looked.args(["-c", "ls /var/lib/omni /run/omni/running; cat /etc/omni/secrets.yaml; echo looked"]);
        assert_eq!(finish(looked, b"").stdout, "looked\n");
        session.say("\n");
        assert_eq!(session.end().code(), Some(3));
    });
}

#[test]
fn limits_are_held_by_groups_below_the_unit() {
    let files = Files { system: "default: true\nlimits: { memory: 200MiB, pids: 64 }\n", ..Files::default() };
    on_an_installed_machine(files, |machine| {
        let limits = |flags: &[&str], argv: &[&str]| finish(machine.exec(&machine.ada, flags, argv), b"").code();
        assert_eq!(limits(&[], &["python3", "-c", "bytearray(50 << 20)"]), Some(0));
        assert_eq!(limits(&[], &["python3", "-c", "bytearray(400 << 20)"]), Some(123));
        assert_eq!(reached(machine), json!([["memory", "cgroup_v2"]]));
        let forks = "import os, sys, time\ntry:\n    for _ in range(200):\n        if os.fork() == 0:\n            \
                     time.sleep(60)\n            os._exit(0)\nexcept BlockingIOError:\n    sys.exit(7)\n";
        assert_eq!(limits(&[], &["python3", "-c", forks]), Some(7));
        assert_eq!(reached(machine), json!([["pids", "cgroup_v2"]]));
        assert_eq!(limits(&["--cpus", "0.5"], &["true"]), Some(0));
    });
}

#[test]
fn stopping_the_server_ends_no_session_and_another_finds_it() {
    let files =
        Files { system: "default: true\nsessions_per_user: 1\nlimits: { memory: 200MiB }\n", ..Files::default() };
    on_an_installed_machine(files, |machine| {
        let mut first = machine.start(&machine.ada, &[], "echo up; read word; echo $word; exit 9");
        assert_eq!(first.line(), "up");
        systemctl(&["stop", UNITS[0]]);
        assert_eq!(systemctl(&["is-active", UNITS[0]]), "inactive");
        assert_eq!(property("Result"), "success");
        systemctl(&["start", UNITS[0]]);
        assert_eq!(systemctl(&["is-active", UNITS[0]]), "active", "{}", systemctl(&["status", UNITS[0]]));
        let mut second = machine.start(&machine.ada, &[], "echo second");
        assert!(second.error_line().contains("1 of your sessions run"), "the new server counts the old session");
        first.say("still here\n");
        assert_eq!(first.line(), "still here");
        assert_eq!(first.end().code(), Some(9));
        assert_eq!(second.line(), "second");
        assert_eq!(second.end().code(), Some(0));
    });
}

#[test]
fn stopping_the_unit_of_the_sessions_ends_them_and_nothing_is_left() {
    on_an_installed_machine(Files { system: "default: true\n", ..Files::default() }, |machine| {
        let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
        let before = mounts();
        let script = "trap '' HUP TERM; echo up; while :; do sleep 1; done; : harness 40921";
        let mut session = machine.start(&machine.ada, &["--memory", "200MiB"], script);
        assert_eq!(session.line(), "up");
        assert_eq!(groups_of_users().len(), 1);
        systemctl(&["stop", UNITS[0], UNITS[1]]);
        assert!(session.end().code().is_none_or(|code| code != 0));
        assert!(harnesses("harness 40921").into_iter().all(ends));
        assert!(processes().into_iter().all(ends));
        assert_eq!(groups_of_users(), Vec::<PathBuf>::new());
        assert!(mounts().lines().all(|mount| before.contains(mount)), "{}", mounts());
        systemctl(&["start", UNITS[0]]);
        assert_eq!(machine.shell(&machine.ada, &[], "echo again").stdout, "again\n");
        assert_eq!(machine.list(&machine.ada, &["sessions"]).len(), 2);
    });
}

#[test]
fn a_server_that_is_killed_is_started_again() {
    on_an_installed_machine(Files { system: "default: true\n", ..Files::default() }, |machine| {
        let mut session = machine.start(&machine.ada, &["--memory", "200MiB"], "echo up; read word; echo $word");
        assert_eq!(session.line(), "up");
        let pid = main_pid();
        let opened = watch_the_door();
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        opened();
        assert_ne!(main_pid(), pid);
        assert_eq!(property("NRestarts"), "1");
        assert_eq!(machine.shell(&machine.bob, &[], "echo served").stdout, "served\n");
        session.say("still here\n");
        assert_eq!(session.line(), "still here");
        assert_eq!(session.end().code(), Some(0));
    });
}

/// What waits until a new server has put its socket in place.
fn watch_the_door() -> impl FnOnce() {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, RUNTIME, inotify::WatchFlags::MOVED_TO).unwrap();
    move || {
        let timeout = Timespec::try_from(PATIENCE).unwrap();
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut look = || {
            assert_eq!(poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)), Ok(1), "no new server");
            let mut events = inotify::Reader::new(&watch, &mut buffer);
            let event = events.next().unwrap();
            match event.file_name().is_some_and(|name| name.to_bytes() == b"omni.sock") {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        while look().is_continue() {}
    }
}

#[test]
fn one_users_many_busy_sessions_leave_another_half_of_the_processors() {
    on_an_installed_machine(Files { system: "default: true\n", ..Files::default() }, |machine| {
        share_with_busy_sessions(machine, 8, 5);
    });
}

#[test]
fn the_unit_is_no_more_exposed_than_it_says() {
    on_an_installed_machine(Files::default(), |_| {
        let looked = |threshold: &str| {
            let mut command = Command::new("systemd-analyze");
            command.args(["security", "--no-pager", "--threshold", threshold, UNITS[0]]).output().unwrap()
        };
        let output = looked(EXPOSURE_MAX);
        let text = String::from_utf8_lossy(&output.stdout);
        println!("{}", text.lines().last().unwrap_or_default());
        assert!(output.status.success(), "{text}");
        assert!(!looked("10").status.success(), "the control");
    });
}
