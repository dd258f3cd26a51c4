//! What a harness writes to its terminal, and what of it reaches the user's: a terminal that keeps every byte is the
//! witness.

use crate::pty::Place;
use serde_json::json;

/// Everything that reaches beyond the screen, then the word that says that it came through.
const ATTACK: &str = r"printf '\033]52;c;aGVsbG8=\a\033]52;c;?\a\033]0;spoofed\a\033k spoofed\033\\\033[21t\033[5i\005\033P$qm\033\\\033P+q544e\033\\\033]1337;File=inline=0:aGk=\a\033]777;notify;spoofed;x\a\033_Gspoofed\033\\\033Ptmux;\033\033]52;c;aGVsbG8=\a\033\\\302\23552;c;aGVsbG8=\a\235spoofed\033%%@'; printf 'thr''ough\n'";

#[test]
fn nothing_that_reaches_beyond_the_screen_reaches_the_users_terminal() {
    let place = Place::new();
    let mut pty = place.pty(&["exec", "-q", "--", "sh", "-c", ATTACK]);
    assert!(pty.wait().success());
    assert!(pty.shows("through"));
    for trace in [
        "\x1b]52",
        "\x1b]0;",
        "\x1bk",
        "\x1b[21t",
        "\x1b[5i",
        "\x05",
        "\x1bP",
        "\x1b]1337",
        "\x1b]777",
        "\x1b_",
        "\x1b%@",
    ] {
        assert!(!pty.shows(trace), "{trace:?} in {:?}", String::from_utf8_lossy(pty.seen()));
    }
    assert!(!pty.seen().iter().any(|byte| matches!(byte, 0x9d | 0xc2)), "{:?}", pty.seen());
    let events = place.events("output_filtered");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["refused"]["clipboard"], json!(3));
    assert_eq!(events[0]["refused"]["title"], json!(2));
}

/// The control: the same bytes do reach a terminal where the profile says so.
#[test]
fn without_a_filter_everything_reaches_the_users_terminal() {
    let place = Place::new();
    let profile = place.workspace().join("open.yaml");
    std::fs::write(&profile, "name: open\nterminal: { filter: off }\n").unwrap();
    let mut pty = place.pty(&["exec", "-q", "--profile", profile.to_str().unwrap(), "--", "sh", "-c", ATTACK]);
    assert!(pty.wait().success());
    for trace in [
        "\x1b]52;c;aGVsbG8=\x07",
        "\x1b]52;c;?\x07",
        "\x1b]0;spoofed\x07",
        "\x1b[21t",
        "\x05",
        "\x1b_Gspoofed",
        "through",
    ] {
        assert!(pty.shows(trace), "{trace:?} in {:?}", String::from_utf8_lossy(pty.seen()));
    }
    assert_eq!(place.events("output_filtered"), Vec::<serde_json::Value>::new());
}

#[test]
fn a_profile_that_allows_the_clipboard_lets_it_be_written_and_never_read() {
    let place = Place::new();
    let profile = place.workspace().join("copy.yaml");
    std::fs::write(&profile, "name: copy\nterminal: { clipboard: allow }\n").unwrap();
    let mut pty = place.pty(&["exec", "-q", "--profile", profile.to_str().unwrap(), "--", "sh", "-c", ATTACK]);
    assert!(pty.wait().success());
    assert!(pty.shows("\x1b]52;c;aGVsbG8=\x07") && !pty.shows("?") && !pty.shows("spoofed\x07"));
}

#[test]
fn a_pipe_is_not_filtered() {
    let place = Place::new();
    let output = place.omni(&["exec", "-q", "--", "sh", "-c", ATTACK]).output().unwrap();
    let outside = std::process::Command::new("sh").args(["-c", ATTACK]).output().unwrap();
    assert_eq!(output.stdout, outside.stdout);
}

#[test]
fn a_question_that_is_refused_is_never_answered_and_one_that_is_allowed_is() {
    let place = Place::new();
    // What is typed back is read by the harness: the answer to the last question shows that none came to the first.
    let script =
        "stty raw -echo min 1; printf '\\033[21t\\033P$qm\\033\\\\\\005\\033[6n'; head -c 6 | od -An -c | tr -d ' '";
    let mut pty = place.pty(&["exec", "-q", "--", "sh", "-c", script]);
    pty.wait_for("\x1b[6n");
    assert!(!pty.shows("\x1b[21t") && !pty.shows("\x1bP") && !pty.shows("\x05"));
    pty.write(b"\x1b[9;5R");
    pty.wait_for("033[9;5R");
    assert!(pty.wait().success());
}

#[test]
fn what_a_killed_harness_switched_is_switched_back() {
    let place = Place::new();
    let script = "printf '\\033[?1049h\\033[?25l\\033[?2004h\\033[?1000h\\033[>1uup'; kill -9 $$";
    let mut pty = place.pty(&["exec", "-q", "--", "sh", "-c", script]);
    pty.wait();
    pty.wait_for("up\x1b[<1u\x1b[?25h\x1b[?1000l\x1b[?2004l\x1b[?1049l\x1b[m");
}

#[test]
fn a_terminal_that_takes_nothing_stops_neither_clock_nor_signals() {
    let place = Place::new();
    // Nobody reads the master: the terminal is full after some thousand bytes. The clock goes on, and so does the end.
    let mut pty = place.pty(&["exec", "--timeout", "1s", "--", "sh", "-c", "trap '' TERM HUP; exec yes"]);
    let status = pty.wait_without_reading();
    assert_eq!(status.code(), Some(121));
}
