//! What lives and what ends with what.

use crate::machine::{Files, Machine, ends, finish, harnesses, on_a_machine};
use nix::sys::signal::Signal;
use serde_json::json;

/// Waits until the newest session is over, and says what is known of it. Its process has ended: what is left is to be
/// written down by it or by whoever looks.
fn end_of(machine: &Machine) -> serde_json::Value {
    machine.list(&machine.ada, &["sessions"])[0].clone()
}

/// The process ids of the session's process and of the one in front of it.
fn session_processes(machine: &Machine) -> (u32, u32) {
    let log = machine.list(&machine.ada, &["audit", "log", "--session", "last"]);
    let started = log.iter().find(|line| line["event"] == "session_started");
    let pid = u32::try_from(started.unwrap()["pid"].as_u64().unwrap()).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    (pid, parent)
}

#[test]
fn a_session_outlives_the_server_and_the_next_one_counts_it() {
    on_a_machine(Files { system: "sessions_per_user: 1\n", ..Files::default() }, |machine| {
        let mut first = machine.start(&machine.ada, &[], "echo up; read word; echo $word; exit 9");
        assert_eq!(first.line(), "up");
        machine.kill_server();
        machine.start_server();
        let mut second = machine.start(&machine.ada, &[], "echo second");
        assert!(second.error_line().contains("1 of your sessions run"), "the new server counts the old session");
        first.say("still here\n");
        assert_eq!(first.line(), "still here");
        assert_eq!(first.end().code(), Some(9));
        assert_eq!(second.line(), "second");
        assert_eq!(second.end().code(), Some(0));
        let sessions = machine.list(&machine.ada, &["sessions"]);
        let exits: Vec<_> =
            sessions.iter().map(|session| (session["status"].clone(), session["exit"].clone())).collect();
        let finished = |code: i32| (json!("finished"), json!({ "code": code }));
        assert_eq!(exits, [finished(0), finished(9)], "recorded whole");
    });
}

#[test]
fn a_session_ends_with_the_users_process() {
    on_a_machine(Files::default(), |machine| {
        for (script, number) in [
            ("echo up; read word; : harness 40711", 40711),
            ("trap '' HUP TERM; echo up; while :; do sleep 1; : harness 40712; done", 40712),
        ] {
            let mut session = machine.start(&machine.ada, &[], script);
            session.line();
            let (process, _) = session_processes(machine);
            session.signal(Signal::SIGKILL);
            assert_eq!(session.child.wait().unwrap().code(), None);
            assert!(ends(process), "{script}");
            let inside = harnesses(&format!("harness {number}"));
            assert!(inside.into_iter().all(ends), "{script}");
            assert!(
                ["finished", "interrupted"].contains(&end_of(machine)["status"].as_str().unwrap()),
                "{}",
                end_of(machine)
            );
        }
    });
}

#[test]
fn a_session_ends_with_the_process_in_front_of_it() {
    on_a_machine(Files::default(), |machine| {
        let mut session = machine.start(&machine.ada, &[], "echo up; read word; : harness 40721");
        session.line();
        let (process, front) = session_processes(machine);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(front.cast_signed()), Signal::SIGKILL).unwrap();
        assert!(ends(process));
        assert!(harnesses("harness 40721").into_iter().all(ends));
        let outcome = session.child.wait().unwrap();
        assert_eq!(outcome.code(), Some(125));
        assert_eq!(end_of(machine)["status"], "interrupted");
    });
}

#[test]
fn signals_to_the_users_process_reach_the_harness() {
    on_a_machine(Files::default(), |machine| {
        let script = "trap 'echo usr1' USR1; trap 'echo term; exit 4' TERM; echo up; while :; do sleep 0.1; done";
        let mut session = machine.start(&machine.ada, &[], script);
        session.line();
        session.signal(Signal::SIGUSR1);
        assert_eq!(session.line(), "usr1");
        session.signal(Signal::SIGTERM);
        assert_eq!(session.line(), "term");
        assert_eq!(session.end().code(), Some(4));
    });
}

#[test]
fn a_user_has_no_hold_over_roots_processes() {
    on_a_machine(Files::default(), |machine| {
        let mut session = machine.start(&machine.ada, &[], "echo up; read word; echo $word");
        session.line();
        let (process, front) = session_processes(machine);
        let script = format!(
            "kill -9 {process} {front}; kill -STOP {process}; cat /proc/{process}/environ; ls /proc/{process}/fd"
        );
        let mut command = machine.command(&machine.ada, std::path::Path::new("/bin/sh"));
        let tried = finish(
            {
                command.args(["-c", &script]);
                command
            },
            b"",
        );
        assert_eq!(tried.stdout, "", "{tried:?}");
        let refusals = ["Operation not permitted", "not permitted", "Permission denied"];
        assert!(refusals.iter().any(|refusal| tried.stderr.contains(refusal)), "{tried:?}");
        session.say("alive\n");
        assert_eq!(session.line(), "alive");
        assert_eq!(session.end().code(), Some(0));
    });
}

#[test]
fn a_visitor_who_leaves_the_line_leaves_nothing() {
    on_a_machine(Files { system: "sessions_per_user: 1\n", ..Files::default() }, |machine| {
        let mut first = machine.start(&machine.ada, &[], "echo up; read word");
        first.line();
        let mut second = machine.start(&machine.ada, &[], "touch second");
        assert!(second.error_line().contains("waiting"));
        second.signal(Signal::SIGINT);
        assert!(second.end().code().is_none(), "it died by the signal");
        let mut third = machine.start(&machine.ada, &[], "echo third");
        assert!(third.error_line().contains("waiting"));
        first.say("\n");
        first.end();
        assert_eq!(third.line(), "third");
        third.end();
        assert!(!machine.ada.work().join("second").exists());
        assert!(machine.server_lives());
    });
}
