//! Where a session is tried: a home, a workspace and a store of its own, for one of the users that may run omni.

use crate::host;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// An ordinary user's id that no account has.
const ORDINARY_ID: u32 = 12_345;

/// How long a session may take to end once a test has nothing more to do but wait for it.
const END_TIMEOUT: Duration = Duration::from_secs(1_200);
/// How long one that was killed may take to let go of what it said.
const SAID_TIMEOUT: Duration = Duration::from_secs(10);

/// Who runs omni.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Whoever runs the tests.
    Tester,
    /// An ordinary user, while root runs the tests.
    Ordinary,
}

impl Actor {
    /// Everybody the tests can run omni as.
    pub fn all() -> &'static [Self] {
        if host::is_root() { &[Self::Tester, Self::Ordinary] } else { &[Self::Tester] }
    }

    fn id(self) -> Option<u32> {
        (self == Self::Ordinary).then_some(ORDINARY_ID)
    }
}

/// The place of one trial, gone at its end.
pub struct Stage {
    pub actor: Actor,
    place: tempfile::TempDir,
    omni: PathBuf,
}

impl Stage {
    pub fn new(actor: Actor) -> Self {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut omni = PathBuf::from(env!("CARGO_BIN_EXE_omni"));
        if actor == Actor::Ordinary && !host::everybody_reaches(&omni) {
            let copy = place.path().join("omni");
            fs::copy(&omni, &copy).unwrap();
            omni = copy;
        }
        let stage = Self { actor, place, omni };
        for directory in ["home", "workspace", "tmp"] {
            fs::create_dir(stage.path(directory)).unwrap();
            stage.give(&stage.path(directory));
        }
        stage
    }

    /// A path of the stage that is not in the workspace.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn workspace(&self) -> PathBuf {
        self.path("workspace")
    }

    /// Writes a file that the actor can read.
    pub fn write(&self, path: &Path, contents: impl AsRef<[u8]>) {
        fs::write(path, contents).unwrap();
        self.give(path);
    }

    /// Makes the actor own a path.
    pub fn hand_over(&self, path: &Path) {
        self.give(path);
    }

    fn give(&self, path: &Path) {
        let id = self.actor.id();
        chown(path, id, id).unwrap();
    }

    /// An omni command of the actor's, in the workspace, with nothing of the tests' own environment.
    pub fn omni(&self, arguments: &[&str]) -> Command {
        self.command(&self.omni, arguments)
    }

    /// Another program's, in the same way.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.workspace()).env_clear().stdin(Stdio::null());
        command
            .env("PATH", host::search_path())
            .env("HOME", self.path("home"))
            .env("OMNI_HOME", self.path("home/state"));
        command.env("TMPDIR", self.path("tmp")).env("LANG", "C.UTF-8");
        if let Some(id) = self.actor.id() {
            command.uid(id).gid(id);
        }
        command
    }

    /// Runs omni to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.omni(arguments).output().unwrap()
    }

    /// Runs a script by the stage's own `profile.yaml` and `roots.pem`, with hosts led elsewhere (`HOST:PORT:ADDRESS`), and
    /// says what it said, all of it. It must succeed.
    pub fn run_script(&self, to: &[String], script: &str) -> String {
        let (profile, roots) = (self.path("profile.yaml"), self.path("roots.pem"));
        let mut command = self.omni(&["exec", "--profile"]);
        command.arg(profile).arg("--upstream-ca").arg(roots);
        command.args(to.iter().flat_map(|to| ["--connect-to", to]));
        let output = command.args(["--", "sh", "-c", script]).output().unwrap();
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{:?}: {said}", self.actor);
        said
    }

    /// Starts omni with pipes for its output.
    pub fn start(&self, command: &mut Command) -> Running {
        Running(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// The last session, as `omni show last --json` tells it.
    pub fn last_session(&self) -> Value {
        let output = self.run(&["show", "last", "--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// A running omni; a test that fails does not leave it behind.
pub struct Running(Option<Child>);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Waits for its end, which must come in time.
    pub fn finish(mut self) -> Output {
        let child = self.0.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(child.wait_with_output().unwrap()));
        told.recv_timeout(END_TIMEOUT).unwrap_or_else(|_| {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            panic!("still running after {END_TIMEOUT:?}: {:?}", told.recv_timeout(SAID_TIMEOUT))
        })
    }

    /// Ends it, and tells what it said until then.
    pub fn end(mut self) -> Output {
        let _ = self.0.as_mut().unwrap().kill();
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
