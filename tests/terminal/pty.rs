//! A terminal that keeps every byte that reaches it, and types what it is told: the witness of what a person's terminal
//! would have been asked to do.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A place with a home and a workspace of its own.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = tempfile::Builder::new().prefix("omni-pty-").tempdir().unwrap();
        std::fs::create_dir(place.path().join("work")).unwrap();
        std::fs::create_dir(place.path().join("home")).unwrap();
        Self(place)
    }

    pub fn workspace(&self) -> PathBuf {
        self.0.path().join("work")
    }

    pub fn omni_home(&self) -> PathBuf {
        self.0.path().join("home/omni")
    }

    /// omni with these words, and nothing else of this process's environment.
    pub fn omni(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
        command.args(words);
        self.surround(&mut command);
        command
    }

    fn surround(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap();
        command.env_clear().env("PATH", path).env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        command.env("HOME", self.0.path().join("home")).env("OMNI_HOME", self.omni_home());
        command.current_dir(self.workspace());
    }

    /// One session's directory.
    pub fn session(&self, id: &str) -> PathBuf {
        self.omni_home().join("sessions").join(id)
    }

    /// omni on a terminal of its own.
    pub fn pty(&self, words: &[&str]) -> Pty {
        self.pty_of(words, 80, 24)
    }

    /// As [`Place::pty`], with so many columns and rows.
    pub fn pty_of(&self, words: &[&str], columns: u16, rows: u16) -> Pty {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_omni")]).args(words);
        self.surround(&mut command);
        Pty::start(command, columns, rows)
    }

    /// What a verb prints, which must succeed.
    pub fn output(&self, words: &[&str]) -> String {
        let output = self.omni(words).output().unwrap();
        assert!(output.status.success(), "omni {words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The newest session's events of this kind.
    pub fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let story: serde_json::Value = serde_json::from_str(&self.output(&["show", "last", "--json"])).unwrap();
        let events = story["events"].as_array().unwrap();
        events.iter().filter(|event| event["event"] == kind).cloned().collect()
    }
}

/// A test that fails leaves no session behind that nobody holds.
impl Drop for Place {
    fn drop(&mut self) {
        let sessions = std::fs::read_dir(self.omni_home().join("sessions")).into_iter().flatten().flatten();
        for session in sessions.filter(|session| session.path().join("control").exists()) {
            let id = session.file_name();
            let _ = self.omni(&["stop", id.to_str().unwrap_or_default(), "--grace", "100ms"]).output();
        }
    }
}

/// A terminal with a program on it.
pub struct Pty {
    master: Option<OwnedFd>,
    /// Held so that what was written last can be read after the program's end.
    slave: Option<OwnedFd>,
    child: Child,
    seen: Vec<u8>,
}

impl Pty {
    /// Starts a command on a terminal of so many columns and rows.
    pub fn start(mut command: Command, columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        tcsetwinsize(&master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        let other = || slave.try_clone().unwrap();
        let child = command.stdin(other()).stdout(other()).stderr(other()).spawn().unwrap();
        Self { master: Some(master), slave: Some(slave), child, seen: Vec::new() }
    }

    /// Takes the terminal away, as closing its window does, and waits for the program's end.
    pub fn hang_up(&mut self) {
        (self.master, self.slave) = (None, None);
        self.wait_without_reading();
    }

    fn master(&self) -> BorrowedFd<'_> {
        self.master.as_ref().expect("the terminal is there").as_fd()
    }

    /// Everything that reached the terminal so far.
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub fn shows(&self, text: &str) -> bool {
        self.seen.windows(text.len()).any(|window| window == text.as_bytes())
    }

    pub fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = rustix::io::write(self.master(), bytes).unwrap();
            bytes = &bytes[count..];
        }
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(self.master(), Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    }

    /// Reads until this text has come.
    pub fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.shows(text) {
            assert!(
                self.read_by(deadline),
                "waited for {text:?}; what came:\n{}",
                String::from_utf8_lossy(&self.seen).escape_debug()
            );
        }
    }

    /// Reads until what has come satisfies.
    pub fn wait_until(&mut self, what: &str, satisfies: impl Fn(&[u8]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !satisfies(&self.seen) {
            assert!(
                self.read_by(deadline),
                "waited for {what}; what came:\n{}",
                String::from_utf8_lossy(&self.seen).escape_debug()
            );
        }
    }

    /// Reads until the program has ended, and what it wrote last.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let pid = rustix::process::Pid::from_child(&self.child);
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        loop {
            let (master, ended) = (self.master(), handle.as_fd());
            let mut waits = [PollFd::new(&master, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
            poll(&mut waits, Some(&left(deadline))).unwrap();
            let (output, end) = (!waits[0].revents().is_empty(), !waits[1].revents().is_empty());
            if output {
                self.read();
            } else if end {
                return self.child.wait().unwrap();
            }
            assert!(Instant::now() < deadline, "still running; what came:\n{}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Waits for the program's end while nobody takes what it writes.
    pub fn wait_without_reading(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&left(Instant::now() + PATIENCE))).unwrap();
        assert_eq!(ended, 1, "still running");
        self.child.wait().unwrap()
    }

    /// Reads once; false when nothing came in time.
    fn read_by(&mut self, deadline: Instant) -> bool {
        let master = self.master();
        let mut waits = [PollFd::new(&master, PollFlags::IN)];
        let came = poll(&mut waits, Some(&left(deadline))).unwrap() == 1;
        if came {
            self.read();
        }
        came
    }

    fn read(&mut self) {
        let mut chunk = [0; 65536];
        if let Ok(count) = rustix::io::read(self.master(), &mut chunk) {
            self.seen.extend_from_slice(&chunk[..count]);
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn left(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
}
