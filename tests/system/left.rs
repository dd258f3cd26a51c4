//! Sessions of the server that go on without a terminal, and what is learned from one.

use crate::jobs::{start, visit};
use crate::machine::{Files, Machine, PATIENCE, ends, finish, harnesses, on_a_machine};
use crate::screen::Screen;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

/// How often is looked whether a session has come as far as it shall.
const GLANCE: Duration = Duration::from_millis(20);

/// Starts a session of Ada's that holds no terminal; its id.
fn detached(machine: &Machine, script: &str) -> String {
    let outcome = machine.shell(&machine.ada, &["--detach"], script);
    assert_eq!(outcome.code(), Some(0), "{outcome:?}");
    outcome.stdout.trim().to_owned()
}

#[test]
fn a_detached_session_goes_on_and_counts_until_its_user_ends_it() {
    on_a_machine(Files { system: "sessions_per_user: 1\n", ..Files::default() }, |machine| {
        // Once it has said who it is, it reads from its terminal, and makes no process any more.
        let mark = format!("harness 41011 of {}", std::process::id());
        let script = format!("id -u >whoever; mv whoever who; while :; do read line || sleep 60; : {mark}; done");
        let session = detached(machine, &script);
        let who = machine.ada.work().join("who");
        let deadline = Instant::now() + PATIENCE;
        while !who.exists() && Instant::now() < deadline {
            std::thread::sleep(GLANCE);
        }
        let inside = harnesses(&mark);
        assert_eq!(inside.len(), 1, "{inside:?}");
        assert_eq!(machine.list(&machine.ada, &["sessions"])[0]["status"], "running");
        // Neither the server's end nor another user ends it, and the next server counts it.
        machine.kill_server();
        machine.start_server();
        let mut second = machine.start(&machine.ada, &[], "echo second");
        assert!(second.error_line().contains("1 of your sessions run"));
        for verb in ["stop", "attach"] {
            let other = machine.told(&machine.bob, &[verb, &session]);
            assert!(!other.status.success() && other.stderr.contains("no session"), "{verb}: {other:?}");
        }
        assert_eq!(harnesses(&mark), inside);
        let stopped = machine.told(&machine.ada, &["stop", &session]);
        assert!(inside.into_iter().all(ends), "{stopped:?}");
        assert_eq!(second.line(), "second", "there is room again");
        assert_eq!(second.end().code(), Some(0));
        let who = fs::read_to_string(who).unwrap();
        assert_eq!(who.trim(), machine.ada.uid.to_string());
    });
}

#[test]
fn why_a_detached_session_did_not_start_is_told_and_nothing_is_left_of_it() {
    on_a_machine(Files { system: "sessions_per_user: 1\n", ..Files::default() }, |machine| {
        let mut command = machine.exec(&machine.ada, &["--detach"], &["no-such-program"]);
        command.stdin(std::process::Stdio::null());
        let outcome = finish(command, b"");
        assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(127), ""), "{outcome:?}");
        assert_eq!(machine.shell(&machine.ada, &[], "echo next").stdout, "next\n", "it holds no seat");
    });
}

#[test]
fn a_session_is_left_at_its_terminal_and_found_again() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        start(machine, &screen, "-- sh -c 'echo u\"\"p; exec cat'", "\nup");
        screen.line("typed");
        screen.wait_for("typed\ntyped");
        screen.keys("C-\\");
        screen.keys("d");
        screen.wait_for("exit=0");
        screen.line("clear");
        visit(machine, &screen, "attach last");
        screen.wait_for("typed\ntyped");
        screen.line("again");
        screen.wait_for("again\nagain");
        screen.keys("C-d");
        screen.wait_for("exit=0");
        assert_eq!(machine.list(&machine.ada, &["sessions"])[0]["status"], "finished");
    });
}

#[test]
fn what_is_learned_goes_where_its_user_could_write_and_the_harness_cannot() {
    on_a_machine(Files::default(), |machine| {
        let ask = "curl -s http://refused.example/page >page; true";
        let outcome = machine.shell(&machine.ada, &["--learn"], ask);
        assert!(outcome.stderr.contains("allow: GET http://refused.example/page"), "{outcome:?}");
        let shown = machine.ada.home.join(".local").display().to_string();
        assert!(
            outcome.stderr.contains(&shown) || outcome.stderr.contains(".config"),
            "the user's own profile: {outcome:?}"
        );
        let learn = |out: &std::path::Path| machine.shell(&machine.ada, &["--learn-out", out.to_str().unwrap()], ask);
        let out = machine.ada.home.join("learned.diff");
        assert_eq!(learn(&out).code(), Some(0));
        let written = fs::metadata(&out).unwrap();
        assert_eq!((written.uid(), written.mode() & 0o777), (machine.ada.uid, 0o600));
        let roots = machine.path("roots");
        fs::create_dir(&roots).unwrap();
        for mode in [0o700, 0o755] {
            fs::set_permissions(&roots, PermissionsExt::from_mode(mode)).unwrap();
            let refused = learn(&roots.join("learned.diff"));
            assert!(refused.stderr.contains("cannot write"), "{mode:o}: {refused:?}");
            assert_eq!(fs::read_dir(&roots).unwrap().count(), 0);
        }
        let inside = learn(&machine.ada.work().join("learned.diff"));
        assert!(inside.code() == Some(125) && inside.stderr.contains("lies where the harness can write"), "{inside:?}");
    });
}
