//! A place to attack from: a user, a home, a workspace and a state directory of their own, and the binary.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The ordinary user that root tries attacks as.
const ORDINARY_USER: &str = "omni-test";
/// Longest that one run may take.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);
/// The search path of every run, unless this variable has another: to try another git with it, say.
const PATH_VARIABLE: &str = "OMNI_TEST_PATH";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PYTHON: &str = "/usr/bin/python3";
/// What every Python probe starts with.
pub const PRELUDE: &str = include_str!("prelude.py");

/// Declares an attack, which is tried by root and by an ordinary user.
macro_rules! attack {
    ($(#[$about:meta])* fn $name:ident($world:ident) $body:block) => {
        $(#[$about])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            fn attempt($world: &$crate::support::World) $body

            #[test]
            fn as_root() {
                $crate::support::try_as($crate::support::Who::Root, attempt);
            }

            #[test]
            fn as_an_ordinary_user() {
                $crate::support::try_as($crate::support::Who::Ordinary, attempt);
            }
        }
    };
}

/// Who starts omni.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Root,
    Ordinary,
}

/// One user's hermetic surroundings.
#[derive(Debug)]
pub struct World {
    pub who: Who,
    place: tempfile::TempDir,
    /// The ids to become, where the test itself is root and the user is not.
    switch_to: Option<(u32, u32)>,
    omni: PathBuf,
}

/// Waits until the clock that files are stamped by has moved: what the host changes in the very moment in which a session
/// begins counts as changed since.
fn let_the_moment_pass() {
    use rustix::time::{ClockId, clock_gettime};
    let now = clock_gettime(ClockId::Realtime);
    while clock_gettime(ClockId::RealtimeCoarse) <= now {
        std::hint::spin_loop();
    }
}

/// How a run ended and what it wrote.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// Tries an attack as this user, where that is possible.
pub fn try_as(who: Who, attempt: fn(&World)) {
    let Some(world) = World::new(who) else {
        println!("skipped: only root can try this as root");
        return;
    };
    match machine(&world) {
        Ok(()) => attempt(&world),
        Err(why) if std::env::var("OMNI_REQUIRE_SANDBOX").is_ok_and(|value| value == "1") => {
            panic!("this machine cannot sandbox, and OMNI_REQUIRE_SANDBOX=1 says that it must: {why}");
        }
        Err(why) => println!("skipped: this machine cannot sandbox: {why}"),
    }
}

/// Whether the machine gives this user the namespaces that a sandbox is made of. That omni works is for the attacks to
/// find out.
fn machine(world: &World) -> Result<(), String> {
    static FOUND: [OnceLock<Result<(), String>>; 2] = [OnceLock::new(), OnceLock::new()];
    let found = FOUND[usize::from(world.who == Who::Root)].get_or_init(|| {
        let mut command = world.command(Path::new("unshare"));
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "true"]);
        let outcome = finish(command, b"");
        if outcome.status.success() { Ok(()) } else { Err(outcome.stderr) }
    });
    found.clone()
}

impl World {
    fn new(who: Who) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if who == Who::Root && !root {
            return None;
        }
        let switch_to = (root && who == Who::Ordinary).then(ordinary_user);
        let place = tempfile::Builder::new().prefix("omni-attack-").tempdir().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let omni = reachable_binary(place.path());
        let world = Self { who, place, switch_to, omni };
        for directory in [world.home(), world.workspace()] {
            std::fs::create_dir(&directory).unwrap();
            world.give(&directory);
        }
        world.give(world.place());
        Some(world)
    }

    /// The directory that holds everything, the user's own.
    pub fn place(&self) -> &Path {
        self.place.path()
    }

    pub fn home(&self) -> PathBuf {
        self.place().join("home")
    }

    pub fn workspace(&self) -> PathBuf {
        self.place().join("work")
    }

    pub fn omni_home(&self) -> PathBuf {
        self.place().join("state")
    }

    /// Makes the user own a path.
    pub fn give(&self, path: &Path) {
        if let Some((uid, gid)) = self.switch_to {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Writes a file of the user's below their own place, with the directories above it.
    pub fn write(&self, path: &Path, contents: &str) {
        let mut missing = Vec::new();
        let mut directory = path.parent().unwrap();
        while !directory.exists() {
            missing.push(directory);
            directory = directory.parent().unwrap();
        }
        for directory in missing.into_iter().rev() {
            std::fs::create_dir(directory).unwrap();
            self.give(directory);
        }
        std::fs::write(path, contents).unwrap();
        self.give(path);
    }

    /// A program as the user, outside, with an environment of nothing but where they live.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = match self.switch_to {
            None => Command::new("env"),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).args(["--clear-groups", "env"]);
                command
            }
        };
        // Who runs these tests may ignore signals, as nohup(1) does, and no shell can trap what was ignored when it began.
        command.arg("--default-signal").arg(program);
        let path = std::env::var(PATH_VARIABLE).unwrap_or_else(|_| PATH.to_owned());
        command.env_clear().env("PATH", path).env("HOME", self.home()).env("OMNI_HOME", self.omni_home());
        command.current_dir(self.workspace());
        command
    }

    /// The binary under attack, as the user.
    pub fn omni(&self) -> Command {
        self.command(&self.omni)
    }

    /// The binary's own path, for wrappers.
    pub fn binary(&self) -> &Path {
        &self.omni
    }

    /// `omni exec FLAGS -- ARGV`.
    pub fn exec(&self, flags: &[&str], argv: &[&str]) -> Command {
        let_the_moment_pass();
        let mut command = self.omni();
        command.arg("exec").args(flags).arg("--").args(argv);
        command
    }

    /// Runs a shell script inside.
    pub fn shell(&self, flags: &[&str], script: &str) -> Outcome {
        finish(self.exec(flags, &["sh", "-c", script]), b"")
    }

    /// Runs a Python probe inside and reads the value that it said.
    pub fn probe(&self, code: &str, arguments: &[&str]) -> Value {
        self.probe_with(&[], code, arguments)
    }

    /// As [`World::probe`], with flags for `omni exec`.
    pub fn probe_with(&self, flags: &[&str], code: &str, arguments: &[&str]) -> Value {
        let source = format!("{PRELUDE}\n{code}");
        let mut argv = vec![PYTHON, "-I", "-c", &source];
        argv.extend(arguments);
        finish(self.exec(flags, &argv), b"").json()
    }

    /// Runs the same probe outside, as the same user.
    pub fn probe_outside(&self, code: &str, arguments: &[&str]) -> Value {
        let mut command = self.command(Path::new(PYTHON));
        command.arg("-I").arg("-c").arg(format!("{PRELUDE}\n{code}")).args(arguments);
        finish(command, b"").json()
    }

    /// What `omni VERB… --json` lists.
    pub fn list(&self, verb: &[&str]) -> Vec<Value> {
        let mut command = self.omni();
        command.args(verb).arg("--json");
        let outcome = finish(command, b"");
        assert!(outcome.status.success(), "{outcome:?}");
        String::from_utf8(outcome.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The value that a probe said last.
    pub fn json(&self) -> Value {
        let text = self.text();
        let last = text.lines().last().unwrap_or_else(|| panic!("the probe said nothing: {self:?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// Runs a command to its end, which must come in time.
pub fn finish(mut command: Command, input: &[u8]) -> Outcome {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    collect(child, input)
}

/// Feeds a running child, and waits for its end, which must come in time.
pub fn collect(mut child: Child, input: &[u8]) -> Outcome {
    let mut stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            if let Some(stdin) = &mut stdin {
                // A child that does not read ends the pipe early.
                let _ = stdin.write_all(input);
            }
        });
        let output = scope.spawn(move || read_all(stdout));
        let errors = scope.spawn(move || read_all(stderr));
        let status = wait(&mut child, RUN_TIMEOUT);
        feeding.join().unwrap();
        let stdout = output.join().unwrap();
        let stderr = String::from_utf8_lossy(&errors.join().unwrap()).into_owned();
        Outcome { status, stdout, stderr }
    })
}

/// Waits for a child, which must end in time.
pub fn wait(child: &mut Child, timeout: Duration) -> ExitStatus {
    if !ends_within(child.id(), timeout) {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("still running after {timeout:?}");
    }
    child.wait().unwrap()
}

/// Whether a process is gone, or a corpse, before the time is up.
pub fn ends_within(pid: u32, timeout: Duration) -> bool {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return true };
    let fd = handle.as_fd();
    let mut waits = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let timeout =
        rustix::event::Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
    rustix::event::poll(&mut waits, Some(&timeout)).unwrap() == 1
}

fn read_all(stream: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).unwrap();
    }
    bytes
}

/// A listener of the host on loopback that counts who came.
#[derive(Debug)]
pub struct Witness(TcpListener);

impl Witness {
    pub fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// How many connections came since the last question. A connection that was made is here: loopback has no delay.
    pub fn visitors(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

/// The ordinary user's ids; the user is made where there is none.
fn ordinary_user() -> (u32, u32) {
    static IDS: OnceLock<(u32, u32)> = OnceLock::new();
    *IDS.get_or_init(|| {
        let find = || nix::unistd::User::from_name(ORDINARY_USER).unwrap();
        if find().is_none() {
            // Another run of these tests may be making the same user; what counts is that there is one.
            let _ = Command::new("useradd").args(["--no-create-home", "--shell", "/bin/sh", ORDINARY_USER]).output();
        }
        let user = find().expect("useradd makes the ordinary user");
        (user.uid.as_raw(), user.gid.as_raw())
    })
}

/// The binary where everybody can reach it: where it is, or linked or copied next to the user's home.
fn reachable_binary(place: &Path) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_omni"));
    let open = |directory: &Path| directory.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 != 0);
    if built.ancestors().skip(1).all(open) {
        return built.to_owned();
    }
    let near = place.join("omni");
    if std::fs::hard_link(built, &near).is_err() {
        std::fs::copy(built, &near).unwrap();
    }
    near
}

/// The same outcome, so many times.
pub fn each(outcome: &str, times: usize) -> Value {
    Value::from(vec![outcome; times])
}
