//! A session by the server as a job of a shell at a real terminal (tmux).

use crate::machine::{Files, Machine, on_a_machine};
use crate::screen::Screen;

/// Types the start of a session of Ada's; the shell then prints `exit=` and its status.
pub fn start(machine: &Machine, screen: &Screen, words: &str, ready: &str) {
    visit(machine, screen, &format!("exec -q {words}"));
    screen.wait_for(ready);
}

/// Types a command line of omni's as Ada.
pub fn visit(machine: &Machine, screen: &Screen, words: &str) {
    let ada = &machine.ada;
    screen.line(&format!(
        "cd {} && clear && setpriv --reuid={} --regid={} --clear-groups env HOME={} OMNI_SYSTEM_SOCKET={} {} {words}; \
         echo ex\"\"it=$?",
        ada.work().display(),
        ada.uid,
        ada.gid,
        ada.home.display(),
        machine.socket().display(),
        machine.binary().display()
    ));
}

#[test]
fn the_terminal_has_the_users_size_and_follows_it() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        start(machine, &screen, "-- /bin/sh", "\n$");
        screen.line("clear; test -t 0 && test -t 1 && test -t 2 && tty && stty size");
        screen.wait_for("/dev/pts/0");
        screen.wait_for("30 200");
        screen.resize(160, 24);
        screen.line("until [ \"$(stty size)\" = '24 160' ]; do :; done; echo re\"\"sized");
        // Behind the prompt, where that came after what was typed.
        screen.wait_for("resized");
        screen.line("exit 5");
        screen.wait_for("exit=5");
    });
}

#[test]
fn ctrl_c_is_the_harnesss() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        start(
            machine,
            &screen,
            "-- sh -c 'trap \"echo caught; exit 6\" INT; echo lis\"\"tening; while :; do sleep 1; done'",
            // Not the word that the screen itself begins with.
            "\nlistening",
        );
        screen.keys("C-c");
        screen.wait_for("caught");
        screen.wait_for("exit=6");
    });
}

#[test]
fn ctrl_z_stops_the_job_and_fg_brings_it_back() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        start(machine, &screen, "-- sh -c 'echo u\"\"p; exec cat'", "\nup");
        screen.line("before");
        screen.wait_for("before\nbefore");
        screen.keys("C-z");
        screen.wait_for("Stopped");
        screen.line("echo shell\"\" here");
        screen.wait_for("\nshell here");
        screen.line("clear; fg; echo ba\"\"ck=$?");
        screen.line("after");
        screen.wait_for("after\nafter");
        screen.keys("C-d");
        screen.wait_for("\nback=0");
    });
}

#[test]
fn a_job_with_its_input_from_a_pipe_is_stopped_and_goes_on() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        screen.line("sleep_on() { sleep 1000; }");
        let script = "-- sh -c 'trap \"echo ag\"\"ain\" CONT; echo u\"\"p; while :; do sleep 0.1; done' < <(sleep_on)";
        start(machine, &screen, script, "\nup");
        screen.keys("C-z");
        screen.wait_for("Stopped");
        screen.line("fg");
        screen.wait_for("\nagain");
        screen.keys("C-c");
        screen.line("echo status=$?");
        screen.wait_for("status=130");
    });
}

#[test]
fn the_terminal_is_given_back_when_the_harness_is_killed() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        start(machine, &screen, "-- /bin/sh", "\n$");
        screen.line("stty -echo; kill -9 $$");
        screen.wait_for("exit=137");
        screen.line("clear; stty -a | grep -ow 'echo'; stty -a | grep -ow icanon");
        screen.wait_for("\necho\nicanon");
    });
}

#[test]
fn a_session_ends_with_the_terminal() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        start(machine, &screen, "-- sh -c 'echo u\"\"p; read word; : harness 40911'", "\nup");
        let inside = crate::machine::harnesses("harness 40911");
        assert!(!inside.is_empty());
        screen.hang_up();
        assert!(inside.into_iter().all(crate::machine::ends));
    });
}

#[test]
fn a_second_terminal_of_the_users_attaches_to_the_session() {
    on_a_machine(Files::default(), |machine| {
        let screen = Screen::open(200, 30);
        start(machine, &screen, "-- sh -c 'echo u\"\"p; exec cat'", "\nup");
        screen.line("typed");
        screen.wait_for("typed\ntyped");
        let second = Screen::open(200, 30);
        visit(machine, &second, "attach last");
        second.wait_for("typed\ntyped");
        second.line("from the second");
        screen.wait_for("from the second\nfrom the second");
        screen.keys("C-d");
        screen.wait_for("exit=0");
        second.wait_for("exit=0");
    });
}
