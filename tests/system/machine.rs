//! A machine of its own for each test: a server, two users with homes and workspaces, and the binary.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Longest that anything may take.
pub const PATIENCE: Duration = Duration::from_secs(90);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The users' accounts; another of the tests' directories uses the first too.
const ACCOUNTS: [&str; 2] = ["omni-test", "omni-test-2"];

/// What root lays down.
#[derive(Clone, Copy, Default)]
pub struct Files<'a> {
    pub system: &'a str,
    pub secrets: &'a str,
    pub policy: &'a str,
}

/// A machine with a server.
pub struct Machine {
    pub place: tempfile::TempDir,
    omni: PathBuf,
    server: Option<Child>,
    group: Option<Delegated>,
    /// Whether the server is the one that users find without being told where.
    is_installed: bool,
    pub ada: User,
    pub bob: User,
}

/// A control group of version 2 that the server may divide, as systemd's `Delegate=yes` gives one: the group that the
/// tests are in holds others too. Dropping removes it.
struct Delegated(PathBuf);

/// One user of it.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    /// Supplementary groups, as setpriv(1) is told.
    pub groups: String,
}

/// How a run ended and what it wrote.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a test on a machine, where there can be one.
pub fn on_a_machine(files: Files<'_>, test: impl FnOnce(&mut Machine)) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can serve a machine's users");
        return;
    }
    let mut machine = Machine::new(files);
    test(&mut machine);
}

impl Files<'_> {
    pub fn lay_down(&self, directory: &Path) {
        std::fs::create_dir_all(directory.join("policies")).unwrap();
        let write = |name: &str, text: &str, mode| {
            if !text.is_empty() {
                std::fs::write(directory.join(name), text).unwrap();
                std::fs::set_permissions(directory.join(name), PermissionsExt::from_mode(mode)).unwrap();
            }
        };
        write("system.yaml", self.system, 0o644);
        write("secrets.yaml", self.secrets, 0o600);
        write("policies/machine.yaml", self.policy, 0o644);
    }
}

impl Machine {
    fn new(files: Files<'_>) -> Self {
        let mut machine = Self::without_a_server();
        machine.group = Delegated::make();
        files.lay_down(&machine.path("etc"));
        std::fs::create_dir(machine.path("run")).unwrap();
        machine.start_server();
        machine
    }

    /// Two users, with homes and workspaces.
    pub fn without_a_server() -> Self {
        let place = tempfile::Builder::new().prefix("omni-machine-").tempdir().unwrap();
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let omni = reachable_binary(place.path());
        let [ada, bob] = ACCOUNTS.map(|name| user(name, place.path()));
        Self { place, omni, server: None, group: None, is_installed: false, ada, bob }
    }

    /// From now on, users take the program and the server that everybody has.
    pub fn find_installed(&mut self, program: &Path) {
        self.is_installed = true;
        program.clone_into(&mut self.omni);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("run/omni.sock")
    }

    /// `omni server --system` of this machine, not started.
    pub fn server(&self) -> Command {
        let mut command = Command::new("env");
        // As a shell has it that starts something in the background: no session's user asked for that.
        command.args(["--ignore-signal=INT", "--ignore-signal=QUIT"]).arg(&self.omni);
        command.args(["server", "--system", "--socket"]).arg(self.socket());
        command.arg("--config").arg(self.path("etc")).arg("--home").arg(self.path("records"));
        as_a_server(&mut command);
        command
    }

    pub fn start_server(&mut self) {
        let mut server = self.server();
        if let Some(group) = &self.group {
            server = group.start(&server);
        }
        let mut server = server.spawn().unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains("serving at"), "{line}");
        // Read to its end, so that nobody who writes there is ever stopped; it ends with the last session.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::stderr()));
        self.server = Some(server);
    }

    /// Kills the server, which gets no word out.
    pub fn kill_server(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    pub fn server_lives(&mut self) -> bool {
        self.server.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// A program as a user, in their workspace, with an environment of nothing but where they live.
    pub fn command(&self, user: &User, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .arg(&user.groups)
            .arg(program);
        command.env_clear().env("PATH", PATH).env("HOME", &user.home).current_dir(user.work());
        if !self.is_installed {
            command.env("OMNI_SYSTEM_SOCKET", self.socket());
        }
        command
    }

    pub fn omni(&self, user: &User) -> Command {
        self.command(user, &self.omni)
    }

    pub fn binary(&self) -> &Path {
        &self.omni
    }

    /// `omni exec FLAGS -- ARGV` as a user.
    pub fn exec(&self, user: &User, flags: &[&str], argv: &[&str]) -> Command {
        let mut command = self.omni(user);
        command.arg("exec").args(flags).arg("--").args(argv);
        command
    }

    /// Runs `omni WORDS` as a user.
    pub fn told(&self, user: &User, words: &[&str]) -> Outcome {
        let mut command = self.omni(user);
        command.args(words);
        finish(command, b"")
    }

    /// Runs a shell script in a session of a user's.
    pub fn shell(&self, user: &User, flags: &[&str], script: &str) -> Outcome {
        finish(self.exec(user, flags, &["sh", "-c", script]), b"")
    }

    /// Starts a session that says when it is up, and goes on until something is written to it.
    pub fn start(&self, user: &User, flags: &[&str], script: &str) -> Running {
        let mut command = self.exec(user, flags, &["sh", "-c", script]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }

    /// What `omni VERB… --json` lists for a user.
    pub fn list(&self, user: &User, verb: &[&str]) -> Vec<Value> {
        let mut command = self.omni(user);
        command.args(verb).arg("--json");
        let outcome = finish(command, b"");
        assert!(outcome.status.success(), "{outcome:?}");
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The user that root is.
    pub fn root(&self) -> User {
        let home = self.path("root");
        std::fs::create_dir_all(home.join("work")).unwrap();
        User { name: "root".to_owned(), uid: 0, gid: 0, home, groups: "--clear-groups".to_owned() }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        self.end_sessions();
    }
}

impl Machine {
    /// Sessions outlive their server, and what a failed test left would hold on to what the test was given.
    fn end_sessions(&self) {
        let home = self.path("records").display().to_string();
        let is_of_it = |line: &[u8]| line.windows(home.len()).any(|part| part == home.as_bytes());
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid =
                process.file_name().to_str().and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid
                && std::fs::read(process.path().join("cmdline")).is_ok_and(|line| is_of_it(&line))
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Delegated {
    /// None where no version 2 deals processors out, or only root's own groups may be made.
    fn make() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let root = Path::new("/sys/fs/cgroup");
        let handed_on = std::fs::read_to_string(root.join("cgroup.subtree_control")).unwrap_or_default();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = root.join(format!("omni-machine-{}-{number}", std::process::id()));
        (handed_on.contains("cpu") && std::fs::create_dir(&group).is_ok()).then_some(Self(group))
    }

    /// The server, starting in the group or in the part of it that the one before went to.
    fn start(&self, server: &Command) -> Command {
        let own = self.0.join("omni-supervisors");
        let place = if own.exists() { &own } else { &self.0 };
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("echo $$ >{}/cgroup.procs && exec \"$@\"", place.display())).arg("sh");
        command.arg(server.get_program()).args(server.get_args());
        as_a_server(&mut command);
        command
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        remove_groups(&self.0);
    }
}

/// Groups within others first. What is still in use stays.
fn remove_groups(group: &Path) {
    let below = std::fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.is_dir()).for_each(|path| remove_groups(&path));
    let _ = std::fs::remove_dir(group);
}

fn as_a_server(command: &mut Command) {
    command.env_clear().env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
}

impl User {
    pub fn work(&self) -> PathBuf {
        self.home.join("work")
    }

    /// Writes a file of the user's.
    pub fn write(&self, path: &Path, contents: &str) {
        std::fs::write(path, contents).unwrap();
        chown(path, Some(self.uid), Some(self.gid)).unwrap();
    }
}

/// A session that runs.
pub struct Running {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// The next line that it writes; what it says instead, if that is nothing.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        if line.is_empty() {
            let mut errors = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("it wrote nothing more: {errors}");
        }
        line.trim_end().to_owned()
    }

    /// The next line for people.
    pub fn error_line(&mut self) -> String {
        let mut line = String::new();
        let mut byte = [0];
        let errors = self.child.stderr.as_mut().unwrap();
        while errors.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(char::from(byte[0]));
        }
        line
    }

    /// Where lines come from, to wait for the first of either.
    pub fn outputs(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.stdout.get_ref().as_fd(), self.child.stderr.as_ref().unwrap().as_fd())
    }

    pub fn say(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub fn end(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        wait(&mut self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// Runs a command to its end, which must come.
pub fn finish(mut command: Command, input: &[u8]) -> Outcome {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = scope.spawn(move || text(&mut stdout));
        let errors = scope.spawn(move || text(&mut stderr));
        let status = wait(&mut child);
        Outcome { status, stdout: output.join().unwrap(), stderr: errors.join().unwrap() }
    })
}

fn text(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn wait(child: &mut Child) -> ExitStatus {
    assert!(ends(child.id()), "process {} goes on", child.id());
    child.wait().unwrap()
}

/// Waits until a process is gone, or a corpse; whether that came.
pub fn ends(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return true };
    let fd = handle.as_fd();
    let mut waits = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec::try_from(PATIENCE).unwrap();
    rustix::event::poll(&mut waits, Some(&timeout)).unwrap() == 1
}

/// The harnesses of [`Machine::start`] whose script holds a text.
pub fn harnesses(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"/usr/bin/sh\0-c\0") && String::from_utf8_lossy(&line).contains(text)
    };
    pids.filter(holds).collect()
}

fn user(name: &str, place: &Path) -> User {
    let (uid, gid) = account(name);
    let home = place.join(name);
    for directory in [home.clone(), home.join("work")] {
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o700)).unwrap();
        chown(&directory, Some(uid), Some(gid)).unwrap();
    }
    User { name: name.to_owned(), uid, gid, home, groups: "--clear-groups".to_owned() }
}

/// A user's ids; the account is made where there is none.
fn account(name: &str) -> (u32, u32) {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        for name in ACCOUNTS {
            if nix::unistd::User::from_name(name).unwrap().is_none() {
                // Another run of these tests may be making it too; what counts is that there is one.
                let _ = Command::new("useradd").args(["--no-create-home", "--shell", "/bin/sh", name]).output();
            }
        }
    });
    let user = nix::unistd::User::from_name(name).unwrap().expect("useradd makes the account");
    (user.uid.as_raw(), user.gid.as_raw())
}

/// The binary where everybody can reach it: where it is, or linked or copied to the machine.
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
