//! Sessions that no terminal holds, and looking at a session from several.

use crate::pty::{Place, Pty};
use crate::screen::Screen;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

/// Ctrl-\ and then d.
const LEAVE: &[u8] = b"\x1cd";

/// Starts a session that nobody holds; its id.
fn detach(place: &Place, flags: &[&str], argv: &[&str]) -> String {
    let id = place.output(&[&["exec", "--detach"], flags, &["--"], argv].concat());
    id.trim().to_owned()
}

fn status(place: &Place, id: &str) -> Value {
    let story: Value = serde_json::from_str(&place.output(&["show", id, "--json"])).unwrap();
    story["status"].clone()
}

/// A shell whose prompt says that it waits.
const SHELL: [&str; 4] = ["env", "PS1=ready> ", "bash", "--norc"];

#[test]
fn a_detached_session_goes_on_is_attached_to_left_and_stopped() {
    let place = Place::new();
    let id = detach(&place, &["--name", "long"], &SHELL);
    assert_eq!(status(&place, &id), "running");
    let mut first = place.pty(&["attach", "last"]);
    first.wait_for("ready>");
    first.write(b"echo mar''ker $((40+2))\r");
    first.wait_for("marker 42");
    first.write(LEAVE);
    assert!(first.wait().success());
    first.wait_for("goes on");
    assert_eq!(status(&place, &id), "running");
    // Whoever comes later sees the screen as it is.
    let mut second = place.pty(&["attach", &id[..8]]);
    second.wait_for("marker 42");
    second.write(b"exit 7\r");
    assert_eq!(second.wait().code(), Some(7));
    assert_eq!(status(&place, &id), "finished");
    let attached = place.events("viewer_attached");
    let seen: Vec<_> = attached.iter().map(|event| (&event["viewer"], &event["read_only"])).collect();
    assert_eq!(seen, [(&json!(1), &json!(false)), (&json!(2), &json!(false))]);
    assert!(!attached[0]["user"].as_str().unwrap().is_empty());
    assert_eq!(place.events("viewer_left")[0]["viewer"], json!(1));
    assert_eq!(std::fs::read_dir(place.session(&id)).unwrap().filter(is_socket).count(), 0);
}

fn is_socket(entry: &std::io::Result<std::fs::DirEntry>) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&entry.as_ref().unwrap().file_type().unwrap())
}

#[test]
fn the_control_socket_is_its_users_alone() {
    let place = Place::new();
    let id = detach(&place, &[], &SHELL);
    let mode = |name: &str| std::fs::metadata(place.session(&id).join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("control"), mode(".")), (0o600, 0o700));
    place.output(&["stop", &id]);
}

#[test]
fn a_session_is_stopped_politely_and_ended_if_it_does_not_listen() {
    let place = Place::new();
    let id = detach(
        &place,
        &[],
        &["sh", "-c", "trap 'echo politely >told; exit 5' TERM; echo up; while :; do sleep 0.1; done"],
    );
    place.pty(&["attach", "last"]).wait_for("up");
    place.output(&["stop", "last"]);
    assert_eq!(status(&place, &id), "stopped");
    assert_eq!(std::fs::read_to_string(place.workspace().join("told")).unwrap(), "politely\n");
    assert_eq!(place.events("session_ended")[0]["exit"], json!({ "code": 5 }));
    assert_eq!(place.events("stop_requested").len(), 1);

    let id = detach(&place, &[], &["sh", "-c", "trap '' TERM HUP; echo deaf; while :; do sleep 0.1; done"]);
    place.pty(&["attach", "last"]).wait_for("deaf");
    place.output(&["stop", "last", "--grace", "100ms"]);
    assert_eq!(status(&place, &id), "stopped");
    assert_eq!(place.events("session_ended")[0]["exit"], json!({ "signal": libc::SIGTERM }));
    let again = place.omni(&["stop", "last"]).output().unwrap();
    let told = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && told.contains("does not run"), "{told}");
}

#[test]
fn a_session_with_pipes_is_stopped_as_well_and_not_attached_to() {
    let place = Place::new();
    let mut omni = place.omni(&["exec", "--", "sh", "-c", "echo up; exec sleep 1000"]);
    let mut child = omni.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
    let mut pty = place.pty(&["attach", "last"]);
    assert_eq!(pty.wait().code(), Some(1));
    pty.wait_for("it has no terminal");
    place.output(&["stop", "last"]);
    child.wait().unwrap();
    assert_eq!(place.events("session_ended")[0]["reason"], "stopped");
}

#[test]
fn a_session_that_cannot_start_says_why_where_it_was_started() {
    let place = Place::new();
    std::fs::write(place.workspace().join("p.yaml"), PROFILE_WITH_A_COMMAND_THAT_FAILS).unwrap();
    let omni = place.omni(&["exec", "--detach", "--profile", "p.yaml", "--", "true"]).output().unwrap();
    let told = String::from_utf8(omni.stderr).unwrap();
    assert_eq!((omni.status.code(), omni.stdout.len()), (Some(125), 0));
    assert!(told.contains("secret `key`"), "{told}");
}

const PROFILE_WITH_A_COMMAND_THAT_FAILS: &str = "\
name: p
secrets: [{ name: key, from: 'command:false', host: example.com, header: x-key, placeholder: { env: KEY } }]
";

#[test]
fn viewers_see_the_same_and_whoever_only_looks_types_nothing() {
    let place = Place::new();
    detach(&place, &[], &SHELL);
    let mut types = place.pty(&["attach", "last"]);
    types.wait_for("ready>");
    let mut looks = place.pty(&["attach", "last", "--read-only"]);
    looks.wait_for("ready>");
    looks.write(b"echo never\r");
    types.write(b"echo al''ways\r");
    types.wait_for("always");
    looks.wait_for("always");
    assert!(!looks.shows("never") && !types.shows("never"));
    looks.write(b"q");
    assert!(looks.wait().success());
    types.write(b"exit\r");
    assert!(types.wait().success());
}

#[test]
fn the_terminal_has_the_smallest_size_of_those_who_type() {
    let place = Place::new();
    detach(&place, &[], &SHELL);
    let mut asked = 0;
    let mut asks_for = |pty: &mut Pty, size: &str| {
        // Every answer reaches all who look: by its number it is known for this question's.
        asked += 1;
        // The size comes with a message of its own: ask until it has come.
        pty.write(format!("until [ \"$(stty size)\" = '{size}' ]; do :; done; echo si''ze {asked}\r").as_bytes());
        pty.wait_for(&format!("size {asked}"));
    };
    let mut large = place.pty_of(&["attach", "last"], 120, 40);
    asks_for(&mut large, "40 120");
    let mut small = place.pty_of(&["attach", "last"], 100, 50);
    asks_for(&mut large, "40 100");
    small.resize(90, 20);
    asks_for(&mut large, "20 90");
    let mut looks = place.pty_of(&["attach", "last", "--read-only"], 10, 5);
    looks.wait_for("size 3");
    asks_for(&mut small, "20 90");
    small.write(LEAVE);
    small.wait();
    asks_for(&mut large, "40 120");
    large.write(b"exit\r");
    assert!(large.wait().success());
}

#[test]
fn the_harness_is_answered_once_whoever_looks() {
    let place = Place::new();
    // With nobody there, the terminal that omni keeps answers.
    let script = "stty raw -echo; printf 'ab\\033[6n'; head -c 6 >first; \
        stty sane; echo asked; read go; stty raw -echo; printf '\\033[6n'; head -c 6 >second; stty sane; echo again; read go";
    let first = place.workspace().join("first");
    nix::unistd::mkfifo(&first, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    std::fs::set_permissions(&first, PermissionsExt::from_mode(0o666)).unwrap();
    detach(&place, &[], &["bash", "-c", script]);
    assert_eq!(std::fs::read(first).unwrap(), b"\x1b[1;3R");
    let mut one = place.pty(&["attach", "last"]);
    one.wait_for("asked");
    let mut two = place.pty(&["attach", "last"]);
    two.wait_for("asked");
    // Whoever came or typed last is asked, and nobody else.
    two.write(b"\r");
    two.wait_for("\x1b[6n");
    two.write(b"\x1b[9;9R");
    one.wait_for("again");
    assert!(!one.shows("\x1b[6n"));
    assert_eq!(std::fs::read(place.workspace().join("second")).unwrap(), b"\x1b[9;9R");
    one.write(b"\r");
    one.wait();
}

#[test]
fn a_viewer_that_does_not_keep_up_slows_nobody_and_then_sees_the_screen_as_it_is() {
    let place = Place::new();
    let script = "echo up; read go; seq 1 400000; echo finished >file; echo the end; read go";
    let id = detach(&place, &[], &["bash", "-c", script]);
    let mut slow = place.pty(&["attach", "last"]);
    slow.wait_for("up");
    let mut quick = place.pty(&["attach", "last"]);
    quick.wait_for("up");
    quick.write(b"\r");
    quick.wait_for("the end");
    assert_eq!(std::fs::read_to_string(place.workspace().join("file")).unwrap(), "finished\n");
    slow.wait_for("the end");
    quick.write(b"\r");
    quick.wait();
    slow.wait();
    assert_eq!(status(&place, &id), "finished");
}

#[test]
fn a_viewers_terminal_that_vanishes_ends_nothing() {
    let place = Place::new();
    let id = detach(&place, &[], &SHELL);
    let mut gone = place.pty(&["attach", "last"]);
    gone.wait_for("ready>");
    gone.hang_up();
    let mut still = place.pty(&["attach", "last"]);
    still.wait_for("ready>");
    assert_eq!(status(&place, &id), "running");
    // Nobody's shell has it as a job: what is stopped goes on.
    still.write(b"(echo st''arted; exec cat)\r");
    // Before, the shell reads the keys, to which they are nothing but keys.
    still.wait_for("started");
    still.write(b"ec\x1aho\r");
    still.write(b"kill %%; echo on''ward\r");
    still.wait_for("onward");
    // Where it has not heard yet that its job ended, the shell refuses the first.
    still.write(b"exit\rexit\r");
    still.wait();
}

#[test]
fn a_viewers_terminal_is_left_as_it_was() {
    let place = Place::new();
    detach(
        &place,
        &[],
        &["bash", "-c", "printf '\\033[?1049h\\033[?25l\\033[?1000;1006h\\033[>1uup'; read go; printf '\\033[<u'"],
    );
    let mut pty = place.pty(&["attach", "last"]);
    pty.wait_for("up");
    // As the harness says it, if it does so only now, or as what it said before is drawn.
    let shown = |seen: &[u8], text: &str| seen.windows(text.len()).any(|window| window == text.as_bytes());
    pty.wait_until("the modes", |seen| {
        let mouse = shown(seen, "\x1b[?1000h") || shown(seen, "\x1b[?1000;1006h");
        mouse && shown(seen, "\x1b[?1049h") && shown(seen, "\x1b[>1u")
    });
    pty.write(LEAVE);
    assert!(pty.wait().success());
    for back in ["\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l", "\x1b[?1006l", "\x1b[<1u"] {
        assert!(pty.shows(back), "{back:?} in {:?}", String::from_utf8_lossy(pty.seen()));
    }
    place.output(&["stop", "last"]);
}

#[test]
fn a_job_that_is_stopped_and_goes_on_keeps_its_viewers() {
    let screen = Screen::open(80, 24);
    screen.run_omni("-- /bin/sh -c 'echo up; exec cat'", "up");
    let mut viewer = screen.pty(&["attach", "last"]);
    viewer.wait_for("up");
    screen.keys("C-z");
    screen.wait_for("Stopped");
    screen.line("fg; echo ba\"\"ck=$?");
    viewer.write(b"from the viewer\r");
    screen.wait_for("from the viewer\nfrom the viewer");
    screen.line("from the job");
    viewer.wait_for("from the job\r\nfrom the job");
    screen.keys("C-d");
    screen.wait_for("\nback=0");
    assert!(viewer.wait().success());
}

#[test]
fn there_are_so_many_viewers_and_no_more() {
    let place = Place::new();
    detach(&place, &[], &SHELL);
    let mut viewers: Vec<Pty> = (0..16).map(|_| place.pty(&["attach", "last", "--read-only"])).collect();
    viewers.iter_mut().for_each(|viewer| viewer.wait_for("ready>"));
    let mut one_more = place.pty(&["attach", "last"]);
    assert_eq!(one_more.wait().code(), Some(1));
    one_more.wait_for("as many as it takes");
    place.output(&["stop", "last", "--grace", "100ms"]);
    assert!(viewers.iter_mut().all(|viewer| viewer.wait().code().is_some()));
}
