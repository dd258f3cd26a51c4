//! Recordings: whole, private, and played back harmlessly.

use crate::pty::Place;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn cast(place: &Place) -> PathBuf {
    let sessions = std::fs::read_dir(place.omni_home().join("sessions")).unwrap();
    sessions.map(|entry| entry.unwrap().path().join("terminal.cast")).next().unwrap()
}

/// The recording, as it can be read as long as its key is there.
fn recorded(place: &Place) -> String {
    let output = place.omni(&["replay", "last", "--raw"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn events(text: &str) -> Vec<(String, String)> {
    let parse = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        (event[1].as_str().unwrap().to_owned(), event[2].as_str().unwrap().to_owned())
    };
    text.lines().skip(1).map(parse).collect()
}

#[test]
fn a_recording_holds_what_was_shown_and_none_of_the_keys() {
    let place = Place::new();
    let script = "stty -echo; echo up; read secret; printf '\\033]52;c;aGk=\\a\\033[6n\\033[1mdone'";
    let mut pty = place.pty(&["exec", "-q", "--record", "--name", "rehearsal", "--", "sh", "-c", script]);
    pty.wait_for("up");
    pty.resize(100, 30);
    pty.write(b"hunter2\r");
    assert!(pty.wait().success());
    let path = cast(&place);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let sealed = std::fs::read(&path).unwrap();
    assert!(!sealed.windows(4).any(|window| window == b"done"), "it is sealed");
    let text = recorded(&place);
    assert!(!text.contains("hunter2"), "{text}");
    let header: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let shape = (&header["version"], &header["term"]["cols"], &header["term"]["rows"], &header["title"]);
    assert_eq!(shape, (&json!(3), &json!(80), &json!(24), &json!("rehearsal")));
    let events = events(&text);
    let of = |code: &str| events.iter().filter(|(c, _)| c == code).map(|(_, data)| data.as_str()).collect::<Vec<_>>();
    assert_eq!(of("o").concat(), "up\r\n\x1b[1mdone");
    assert!(of("r").contains(&"100x30"), "{events:?}");
    assert_eq!(events.last().unwrap(), &("x".to_owned(), "0".to_owned()));
}

#[test]
fn nothing_is_recorded_unless_it_is_asked_for() {
    let place = Place::new();
    assert!(place.pty(&["exec", "-q", "--", "true"]).wait().success());
    assert!(!cast(&place).exists());
    let output = place.omni(&["replay", "last"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("was not recorded") && told.contains("--record"), "{told}");
}

#[test]
fn a_replay_shows_the_same_and_asks_nothing_of_the_terminal() {
    let place = Place::new();
    let script = "printf '\\033[?1000h\\033[?25l\\033[6n\\033[32mgreen\\033[0m\\r\\n'; sleep 2; printf 'later'";
    assert!(place.pty(&["exec", "-q", "--record", "--", "sh", "-c", script]).wait().success());
    let mut pty = place.pty(&["replay", "last", "--speed", "1000"]);
    assert!(pty.wait().success());
    assert!(pty.shows("\x1b[?25l\x1b[32mgreen\x1b[0m") && pty.shows("later"));
    assert!(pty.shows("\x1b[?25h") && !pty.shows("\x1b[?1000h") && !pty.shows("\x1b[6n"));
    // Into a pipe it is the file itself.
    assert_eq!(place.output(&["replay", "last"]), recorded(&place));
}

#[test]
fn a_recording_is_whole_up_to_where_omni_was_killed() {
    let place = Place::new();
    let mut pty = place.pty(&["exec", "-q", "--record", "--", "sh", "-c", "echo shown; exec sleep 1000"]);
    pty.wait_for("shown");
    let session: Value = serde_json::from_str(&place.output(&["sessions", "--json"])).unwrap();
    let story: Value = serde_json::from_str(&place.output(&["show", "last", "--json"])).unwrap();
    assert_eq!(session["status"], "running");
    let pid = story["events"][0]["pid"].as_i64().or(story["events"][1]["pid"].as_i64()).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    pty.wait();
    let text = recorded(&place);
    assert_eq!(events(&text).last().unwrap(), &("o".to_owned(), "shown\r\n".to_owned()));
    let mut replay = place.pty(&["replay", "last"]);
    replay.wait_for("shown");
    assert!(replay.wait().success());
}

#[test]
fn a_replay_that_is_interrupted_leaves_the_terminal_in_order() {
    let place = Place::new();
    let script = "printf '\\033[?1049h\\033[?25lup'; sleep 3; printf '\\033[?1049l\\033[?25h'";
    assert!(place.pty(&["exec", "-q", "--record", "--", "sh", "-c", script]).wait().success());
    let mut pty = place.pty(&["replay", "last", "--speed", "0.01"]);
    pty.wait_for("up");
    pty.write(b"\x03");
    assert_eq!(pty.wait().code(), Some(130));
    assert!(pty.shows("\x1b[?25h\x1b[?1049l"), "{:?}", String::from_utf8_lossy(pty.seen()));
}
