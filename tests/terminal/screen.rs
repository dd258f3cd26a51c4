//! A terminal with a shell in it, driven by keys and read as a picture of characters.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take to show.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at the screen.
const LOOK: Duration = Duration::from_millis(40);

/// One tmux server of its own, with one window.
pub struct Screen {
    place: tempfile::TempDir,
}

impl Screen {
    pub fn open(columns: u16, rows: u16) -> Self {
        let place = tempfile::Builder::new().prefix("omni-terminal-").tempdir().unwrap();
        std::fs::create_dir(place.path().join("work")).unwrap();
        std::fs::create_dir(place.path().join("home")).unwrap();
        let screen = Self { place };
        let size = [columns.to_string(), rows.to_string()];
        let shell = "env -i PATH=\"$PATH\" TERM=\"$TERM\" LANG=C.UTF-8 PS1='outer> ' bash --norc --noprofile";
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-s", "t", "-x", &size[0], "-y", &size[1], shell]);
        let work = screen.workspace();
        let home = screen.place.path().join("home");
        screen.line(&format!(
            "cd {} && export HOME={} OMNI_HOME={}/omni ANTHROPIC_API_KEY=sk-ant-of-the-test && clear && echo re\"\"ady",
            work.display(),
            home.display(),
            home.display()
        ));
        screen.wait_for("ready");
        screen
    }

    pub fn workspace(&self) -> PathBuf {
        self.place.path().join("work")
    }

    /// Starts `omni exec` with these words and waits until it shows `ready`; the shell then prints `exit=` and its
    /// status.
    pub fn run_omni(&self, words: &str, ready: &str) {
        self.line(&format!("clear; {} exec -q {words}; echo exit=$?", env!("CARGO_BIN_EXE_omni")));
        self.wait_until(ready, |screen| !screen.contains("exec -q") && screen.contains(ready));
    }

    /// omni with these words on another terminal, with the same home.
    pub fn pty(&self, words: &[&str]) -> crate::pty::Pty {
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_omni")]).args(words);
        let home = self.place.path().join("home");
        command.current_dir(self.workspace()).env("OMNI_HOME", home.join("omni")).env("HOME", home);
        crate::pty::Pty::start(command, 80, 24)
    }

    pub fn line(&self, text: &str) {
        self.type_text(text);
        self.keys("Enter");
    }

    pub fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-t", "t", "-l", text]);
    }

    pub fn keys(&self, key: &str) {
        self.tmux(&["send-keys", "-t", "t", key]);
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-t", "t", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    pub fn wait_for(&self, text: &str) {
        self.wait_until(text, |screen| screen.contains(text));
    }

    pub fn wait_until(&self, what: &str, seen: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.tmux(&["capture-pane", "-t", "t", "-p"]);
            if seen(&format!("\n{screen}")) {
                return;
            }
            assert!(Instant::now() < deadline, "waited for {what:?}; the screen shows:\n{screen}");
            std::thread::sleep(LOOK);
        }
    }

    /// Takes the terminal away, as closing its window does.
    pub fn hang_up(&self) {
        self.tmux(&["kill-server"]);
    }

    /// Waits until the newest session is over, and says what is known of it.
    pub fn wait_for_end(&self) -> serde_json::Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut omni = Command::new(env!("CARGO_BIN_EXE_omni"));
            omni.args(["sessions", "--json"]).env("OMNI_HOME", self.place.path().join("home/omni"));
            let text = omni.output().unwrap().stdout;
            let newest: serde_json::Value = serde_json::from_slice(&text).unwrap();
            if newest["status"] != "running" {
                return newest;
            }
            assert!(Instant::now() < deadline, "the session goes on: {newest}");
            std::thread::sleep(LOOK);
        }
    }

    fn tmux(&self, words: &[&str]) -> String {
        let socket = self.place.path().join("tmux");
        let output = Command::new("tmux").arg("-S").arg(socket).args(words).output().expect("tmux is installed");
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A simulated model provider of this test's own.
    pub fn start_sim(&self) -> Sim {
        let ca = self.place.path().join("ca.pem");
        let mut child = Command::new(env!("CARGO_BIN_EXE_omni"))
            .args(["sim", "--ca-out"])
            .arg(&ca)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut first).unwrap();
        let port = first.trim().rsplit(':').next().unwrap().parse().unwrap();
        Sim { child, port, ca }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let socket = self.place.path().join("tmux");
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
    }
}

/// Ends with the test.
pub struct Sim {
    child: Child,
    port: u16,
    ca: PathBuf,
}

impl Sim {
    /// The words that send what is meant for these hosts here.
    pub fn flags(&self, hosts: &[&str]) -> String {
        let words = hosts.iter().map(|host| format!("--connect-to {host}:443:127.0.0.1:{} ", self.port));
        words.collect::<String>() + &format!("--upstream-ca {}", self.ca.display())
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a real harness is installed, if it is.
pub fn harness(name: &str) -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".harness/node_modules/.bin");
    let place = std::env::var_os("OMNI_TEST_HARNESS_DIR").map_or(installed, PathBuf::from);
    let program = place.join(name);
    if program.exists() {
        return Some(program);
    }
    assert!(std::env::var_os("OMNI_REQUIRE_HARNESSES").is_none(), "{name} is not installed in {}", place.display());
    eprintln!("skipped: {name} is not installed in {}", place.display());
    None
}
