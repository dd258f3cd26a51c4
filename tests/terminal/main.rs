//! The harness's terminal, used as a person would: a real terminal (tmux), keys typed, the screen read.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attach;
mod beside;
mod filter;
mod leave;
mod panel;
mod pty;
mod recording;
mod screen;
mod secrets;

use screen::Screen;

#[test]
fn a_shell_inside_has_a_terminal_of_its_own_with_the_size_of_the_users() {
    let screen = Screen::open(100, 30);
    screen.run_omni("-- /bin/sh", "\n$");
    screen.line("test -t 0 && test -t 1 && test -t 2 && tty && stty size");
    screen.wait_for("/dev/pts/0");
    screen.wait_for("30 100");
    screen.resize(80, 24);
    // The size arrives with a signal: ask until it has.
    screen.line("until [ \"$(stty size)\" = '24 80' ]; do :; done; echo resized");
    screen.wait_for("\nresized");
    screen.line("exit 5");
    screen.wait_for("exit=5");
}

#[test]
fn ctrl_c_interrupts_the_program_and_not_the_session() {
    let screen = Screen::open(80, 24);
    screen.run_omni("-- /bin/bash --norc", "$");
    screen.line("sh -c 'trap \"echo caught; exit 0\" INT; echo re\"\"ady; while :; do sleep 1; done'");
    screen.wait_for("\nready");
    screen.keys("C-c");
    screen.wait_for("caught\nbash");
    screen.line("exit 6");
    screen.wait_for("exit=6");
}

#[test]
fn ctrl_z_stops_the_whole_job_and_fg_brings_it_back() {
    let screen = Screen::open(80, 24);
    screen.run_omni("-- /bin/sh -c 'echo up; exec cat'", "up");
    screen.line("before");
    screen.wait_for("before\nbefore");
    screen.keys("C-z");
    screen.wait_for("Stopped");
    screen.line("echo shell\"\" here");
    screen.wait_for("\nshell here");
    screen.line("fg; echo ba\"\"ck=$?");
    screen.line("after");
    screen.wait_for("after\nafter");
    screen.keys("C-d");
    screen.wait_for("\nback=0");
}

#[test]
fn a_job_runs_in_the_background_and_gets_its_keys_in_the_foreground() {
    let screen = Screen::open(80, 24);
    let omni = env!("CARGO_BIN_EXE_omni");
    screen.line(&format!("clear; {omni} exec -q -- /bin/sh -c 'echo u\"\"p; exec cat' &"));
    screen.wait_for(" up");
    screen.line("fg");
    screen.line("before");
    screen.wait_for("before\nbefore");
    screen.keys("C-z");
    screen.wait_for("Stopped");
    screen.line("clear; bg; kill -0 %1 && jobs -r | wc -l");
    screen.wait_for("\n1\n");
    screen.line("fg; echo ba\"\"ck=$?");
    screen.line("after");
    screen.wait_for("after\nafter");
    screen.keys("C-d");
    screen.wait_for("\nback=0");
}

#[test]
fn a_shell_inside_controls_its_own_jobs() {
    let screen = Screen::open(80, 24);
    screen.run_omni("-- /bin/bash --norc", "$");
    screen.line("echo u\"\"p; cat");
    screen.wait_for("\nup");
    screen.line("echoed");
    screen.wait_for("echoed\nechoed");
    screen.keys("C-z");
    screen.wait_for("Stopped");
    screen.line("jobs; echo in\"\"ner");
    screen.wait_for("\ninner");
    // Not by `exit`, which objects to a job that is stopped still, or no longer: then a second `exit` is the outer shell's.
    screen.line("kill -9 %1; exec sh -c 'exit 4'");
    screen.wait_for("exit=4");
}

#[test]
fn the_users_terminal_is_as_before_when_the_harness_is_killed() {
    let screen = Screen::open(80, 24);
    screen.run_omni("-- /bin/sh", "\n$");
    screen.line("stty -echo; kill -9 $$");
    screen.wait_for("exit=137");
    screen.line("stty -a | grep -ow 'echo'; stty -a | grep -ow icanon");
    screen.wait_for("\necho\nicanon");
}

#[test]
fn only_what_leads_to_a_terminal_leads_to_the_harnesss_own() {
    let screen = Screen::open(80, 24);
    // Stdout is the pipe: no carriage returns, no terminal.
    screen
        .run_omni("-- /bin/sh -c 'test -t 0; echo $?; test -t 1; echo $?; test -t 2; echo $?' | cat -A", "0$\n1$\n0$");
}

#[test]
fn input_from_a_pipe_is_the_harnesss_alone() {
    let screen = Screen::open(80, 24);
    // The pipe's other end is closed long before the harness reads.
    screen.line(&format!("clear; echo from the pipe | {} exec -q -- tr a-z A-Z", env!("CARGO_BIN_EXE_omni")));
    screen.wait_for("\nFROM THE PIPE");
}

#[test]
fn what_the_terminal_echoes_does_not_go_where_the_output_goes() {
    let screen = Screen::open(80, 24);
    screen.line(&format!(
        "clear; {} exec -q -- sh -c 'echo up >/dev/tty; exec cat' >out 2>errors; cat out; wc -c <errors",
        env!("CARGO_BIN_EXE_omni")
    ));
    screen.wait_for("\nup");
    screen.line("typed");
    screen.wait_for("\ntyped");
    screen.keys("C-d");
    screen.wait_for("\ntyped\ntyped\n0");
}

#[test]
fn time_that_is_up_ends_a_harness_that_writes_without_end() {
    let screen = Screen::open(80, 24);
    screen.run_omni("--timeout 1s -- sh -c 'trap \"\" TERM HUP; echo up; exec yes'", "exit=121");
}

#[test]
fn a_job_with_its_input_from_a_pipe_is_stopped_once() {
    let screen = Screen::open(80, 24);
    let script = "trap \"echo ag\"\"ain\" CONT; echo u\"\"p; while :; do sleep 0.1; done";
    screen.line(&format!("clear; sleep 1000 | {} exec -q -- sh -c '{script}'", env!("CARGO_BIN_EXE_omni")));
    screen.wait_for("\nup");
    screen.keys("C-z");
    screen.wait_for("Stopped");
    screen.line("fg");
    screen.wait_for("\nagain");
    screen.keys("C-c");
    screen.line("echo status=$?");
    screen.wait_for("status=130");
}

#[test]
fn a_session_ends_with_the_users_terminal() {
    let screen = Screen::open(80, 24);
    screen.run_omni("-- sh -c 'echo up; while :; do echo more; done'", "more");
    screen.hang_up();
    let ended = screen.wait_for_end();
    assert_eq!(ended["exit"], serde_json::json!({ "signal": libc::SIGHUP }), "{ended}");
}

#[test]
fn claude_code_works_through_its_own_screen() {
    let Some(program) = screen::harness("claude") else { return };
    let screen = Screen::open(120, 40);
    let sim = screen.start_sim();
    let flags = sim.flags(&["api.anthropic.com", "platform.claude.com"]);
    screen.run_omni(&format!("{flags} -- {} --dangerously-skip-permissions", program.display()), "❯");
    screen.type_text("Write hello.txt");
    screen.wait_for("Write hello.txt");
    screen.keys("Enter");
    screen.wait_for("Done: hello.txt is written.");
    assert_eq!(std::fs::read_to_string(screen.workspace().join("hello.txt")).unwrap(), "Hello from the rehearsal.\n");
    screen.keys("C-c");
    screen.keys("C-c");
    screen.wait_for("exit=0");
}
