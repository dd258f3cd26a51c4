//! A home with records, and the programs of others that exports are held against.

use assert_cmd::cargo::CommandCargoExt as _;
use omni::model::{Event, SessionId, Timestamp, Writer};
use omni::store::{Home, Journal, Recorder};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// 2023-11-14T22:13:20Z in microseconds.
const START: i64 = 1_700_000_000_000_000;

/// Every event of docs/events.md, as its example has it.
pub fn documented() -> Vec<Event> {
    let text = include_str!("../../docs/events.md");
    let examples = text.lines().filter(|line| line.starts_with("{\"event\":"));
    let events: Vec<Event> = examples.map(|json| serde_json::from_str(json).expect(json)).collect();
    assert!(events.len() > 40, "docs/events.md has {} examples", events.len());
    events
}

pub struct World {
    place: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap() }
    }

    pub fn home(&self) -> PathBuf {
        self.place.path().join("home")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The program, on this home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::cargo_bin("omni").unwrap();
        command.env("OMNI_HOME", self.home()).args(arguments).stdin(Stdio::null());
        command
    }

    /// What the verb wrote to stdout and stderr, and how it exited.
    pub fn omni(&self, arguments: &[&str]) -> (String, String, i32) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code().unwrap())
    }

    /// What the verb printed; it must not fail.
    pub fn printed(&self, arguments: &[&str]) -> String {
        let (out, err, code) = self.omni(arguments);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out
    }

    /// Records these events as one session's, in its proxy's journal.
    pub fn record(&self, byte: u8, events: &[Event]) -> SessionId {
        let (mut journal, session) = self.journal(byte);
        Self::append(&mut journal, 0, events);
        session
    }

    /// A session's journal, with nothing in it yet.
    pub fn journal(&self, byte: u8) -> (Journal, SessionId) {
        let (session, home) = (SessionId::from_entropy([byte; 10]), Home::open(&self.home()).unwrap());
        (Journal::create(&home, &session, Writer::Proxy).unwrap(), session)
    }

    /// Records events, the first of which is the session's of this place, from 0.
    pub fn append(journal: &mut Journal, first: i64, events: &[Event]) {
        for (place, event) in (first..).zip(events) {
            journal.record(Timestamp(START + 1_000 * place), event).unwrap();
        }
    }
}

pub fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The Python with the packages that the exports are held against; none where it is not installed, which `scripts/test` forbids.
pub fn python() -> Option<PathBuf> {
    let harnesses = std::env::var_os("OMNI_TEST_HARNESS_DIR").map(PathBuf::from);
    let place = harnesses.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".harness/node_modules/.bin"));
    let python = place.parent()?.parent()?.join("agents/bin/python3");
    if python.exists() {
        return Some(python);
    }
    skip(&format!("{} is missing", python.display()));
    None
}

/// Passes over a test for want of somebody else's program.
pub fn skip(why: &str) {
    assert!(std::env::var_os("OMNI_REQUIRE_HARNESSES").is_none(), "{why}, and this run must not skip");
    eprintln!("skipped: {why}");
}

/// Runs a script of Python's with a text as its input, and returns what it printed; it must not fail.
pub fn run_python(python: &Path, script: &str, arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut command = Command::new(python);
    command
        .args(["-I", "-c", script])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    let text = input.to_owned();
    let writer = std::thread::spawn(move || to.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
