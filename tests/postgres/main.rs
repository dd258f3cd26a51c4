//! omni with its records on a real PostgreSQL, as a person runs it: every verb that tells of records as with the embedded
//! store, sessions of several machines, the server's death, and the way over.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../ledger_cli.rs"]
mod ledger_cli;
mod server;

use omni::model::{EndReason, Event, ExitStatus, RequestNumber, SessionId, Timestamp, Writer};
use omni::store::{Home, Journal, Recorder};
use serde_json::Value;
use server::Server;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A new store for each world of the tests that run with both; they are skipped where PostgreSQL is not installed.
pub fn new_store() -> Option<String> {
    Server::shared().map(Server::database)
}

/// Whether the tests of the embedded store's own files make sense.
pub const EMBEDDED: bool = false;

struct World {
    place: tempfile::TempDir,
    server: &'static Server,
    store: String,
}

impl World {
    fn new() -> Option<Self> {
        let server = Server::shared()?;
        Some(Self { place: tempfile::tempdir().unwrap(), server, store: server.database() })
    }

    fn path(&self, name: &str) -> PathBuf {
        let path = self.place.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A machine's omni, with nothing of the tests' own environment.
    fn command(&self, machine: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
        command.args(arguments).env_clear().current_dir(self.path("workspace")).stdin(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", self.path("home")).env("OMNI_HOME", self.home(machine)).env("LANG", "C.UTF-8");
        command
    }

    fn home(&self, machine: &str) -> PathBuf {
        self.place.path().join(machine)
    }

    fn omni(&self, machine: &str, arguments: &[&str]) -> Output {
        self.command(machine, arguments).env("OMNI_STORE", &self.store).output().unwrap()
    }

    fn said(&self, machine: &str, arguments: &[&str]) -> String {
        let output = self.omni(machine, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Records a session that is over.
    fn record(&self, machine: &str, byte: u8) -> SessionId {
        let session = SessionId::from_entropy([byte; 10]);
        let home = Home::open(&self.home(machine)).unwrap();
        let mut proxy = Journal::create(&home, &session, Writer::Proxy).unwrap();
        let mut supervisor = Journal::create(&home, &session, Writer::Session).unwrap();
        let failed = Event::RequestFailed { request: RequestNumber(1), reason: "no answer".to_owned() };
        proxy.record(Timestamp(1), &failed).unwrap();
        let ended = Event::SessionEnded { reason: EndReason::Finished, exit: ExitStatus::Code(0) };
        supervisor.record(Timestamp(2), &ended).unwrap();
        session
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether this machine makes sandboxes at all; CI must.
fn has_sandboxes(world: &World) -> bool {
    let output = world.command("probe", &["exec", "--", "true"]).output().unwrap();
    let required = std::env::var_os("OMNI_REQUIRE_SANDBOX").is_some_and(|value| value == "1");
    assert!(output.status.success() || !required, "{}", text(&output.stderr));
    output.status.success()
}

#[test]
fn a_session_is_recorded_there_and_every_machine_tells_of_it() {
    let Some(world) = World::new() else { return };
    if !has_sandboxes(&world) {
        return;
    }
    let output = world
        .command("one", &["exec", "--store", &world.store, "--name", "try", "--", "sh", "-c", "exit 3"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    for machine in ["one", "other"] {
        let sessions = lines(&world.said(machine, &["sessions", "--json"]));
        let told: Vec<_> = sessions.iter().map(|session| (&session["name"], &session["status"])).collect();
        assert_eq!(told, [(&Value::from("try"), &Value::from("finished"))]);
        assert!(world.said(machine, &["show", "last"]).contains("finished"));
        let kinds: Vec<_> =
            lines(&world.said(machine, &["audit", "log", "--json"])).iter().map(|line| line["event"].clone()).collect();
        for kind in ["proxy_started", "session_started", "session_ended"] {
            assert!(kinds.contains(&Value::from(kind)), "{kinds:?}");
        }
        world.said(machine, &["audit", "verify"]);
    }
    // Nothing of it went into a database of the home's.
    assert!(!world.home("one").join("omni.db").exists());
}

#[test]
fn nothing_starts_where_the_store_is_away_or_within_the_harnesss_reach() {
    let Some(world) = World::new() else { return };
    let away = format!("postgres://omni@/omni?host={}", world.path("nowhere").display());
    let output = world.command("one", &["exec", "--store", &away, "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("cannot be reached"), "{}", text(&output.stderr));
    let socket = world.server.place().display().to_string();
    let output = world.omni("one", &["exec", "--workspace", &socket, "--", "true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("server listens in"), "{}", text(&output.stderr));
}

#[test]
fn a_password_on_the_command_line_is_warned_of_and_shown_nowhere() {
    let Some(world) = World::new() else { return };
    let address = world.store.replace("omni@", "omni:hunter2@");
    let output = world.command("one", &["--store", &address, "store", "show"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("~/.pgpass"));
    assert!(!text(&output.stdout).contains("hunter2") && !text(&output.stderr).contains("hunter2"));
    let output =
        world.command("one", &["--store", "postgres://db.example/omni?sslmode=prefer", "sessions"]).output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("verify-full"), "{}", text(&output.stderr));
}

#[test]
fn a_home_is_taken_over_and_goes_on_there_by_itself() {
    let Some(world) = World::new() else { return };
    world.record("one", 1);
    let own = |arguments: &[&str]| world.command("one", arguments).output().unwrap();
    assert!(own(&["audit", "checkpoint"]).status.success());
    let before = own(&["audit", "log", "--json"]).stdout;
    let copied = own(&["store", "copy", &world.home("one").display().to_string(), &world.store]);
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    assert!(text(&copied.stderr).contains("1 sessions, 2 events"), "{}", text(&copied.stderr));
    // Without a word about the store, its file names it.
    world.record("one", 2);
    assert_eq!(lines(&text(&own(&["sessions", "--json"]).stdout)).len(), 2);
    assert!(text(&own(&["audit", "log", "--json"]).stdout).starts_with(&text(&before)));
    for arguments in [&["audit", "checkpoint"][..], &["audit", "verify"], &["audit", "prove", "--entry", "0"]] {
        let output = own(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    }
    assert_eq!(lines(&world.said("other", &["sessions", "--json"])).len(), 2);
    let files = world.place.path().join("files").display().to_string();
    world.said("other", &["store", "copy", &world.store, &files]);
    world.said("other", &["audit", "verify", "--files", &files]);
    world.record("third", 3);
    let again = own(&["store", "copy", &world.home("third").display().to_string(), &world.store]);
    assert!(!again.status.success() && text(&again.stderr).contains("nothing was copied"), "{}", text(&again.stderr));
}
