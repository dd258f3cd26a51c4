//! What every verb owes to whoever runs it: help with an example, a manual, and manners on a closed stdout.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::File;
use std::process::{Command, Output, Stdio};

/// Every verb, as it is typed.
const VERBS: [&str; 49] = [
    "",
    "exec",
    "attach",
    "stop",
    "replay",
    "sessions",
    "show",
    "spend",
    "audit",
    "audit log",
    "audit export",
    "audit ship",
    "audit metrics",
    "audit verify",
    "audit rebuild",
    "audit prove",
    "audit checkpoint",
    "audit keys",
    "audit witness",
    "audit tiles",
    "audit forget",
    "audit report",
    "policy",
    "policy check",
    "policy explain",
    "policy allow",
    "policy ask",
    "policy deny",
    "policy limit",
    "profile",
    "profile list",
    "profile show",
    "secret",
    "secret set",
    "secret list",
    "secret remove",
    "secret presets",
    "secret unlock",
    "secret lock",
    "secret passphrase",
    "doctor",
    "sim",
    "prices",
    "prices show",
    "prices update",
    "store",
    "store show",
    "store copy",
    "completions",
];

fn omni(arguments: &[&str], stdout: Stdio) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
    command.args(arguments).env("OMNI_HOME", home.path()).current_dir(home.path()).stdin(Stdio::null()).stdout(stdout);
    command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = omni(arguments, Stdio::piped());
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_verb_has_help_with_an_example() {
    for verb in VERBS {
        let words: Vec<&str> = verb.split_whitespace().chain(["--help"]).collect();
        assert!(printed(&words).contains("Example"), "{verb}");
    }
}

#[test]
fn the_manual_tells_of_every_verb_and_of_no_page_that_there_is_not() {
    let manual = printed(&["completions", "man"]);
    for verb in VERBS.iter().filter(|verb| !verb.is_empty()) {
        let heading = format!("\n.SH OMNI {}\n", verb.to_uppercase());
        assert!(manual.contains(&heading), "{verb}");
    }
    assert!(!manual.contains("(1)") && manual.contains(".SH EXAMPLES\n"));
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    for words in [
        "exec --dry-run -- true",
        "profile show claude-code",
        "profile list",
        "policy explain GET https://example.com/",
        "prices",
        "completions bash",
        "completions man",
        "audit verify",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = omni(&words.split(' ').collect::<Vec<_>>(), writer.into());
        assert!(output.status.success() && output.stderr.is_empty(), "{words}: {output:?}");
    }
}

#[test]
fn what_cannot_be_written_is_a_failure_with_a_reason() {
    for words in ["completions bash", "prices", "exec --dry-run -- true"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = omni(&words.split(' ').collect::<Vec<_>>(), full.into());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.starts_with("omni: ") && told.contains("No space left"), "{told}");
    }
}

#[test]
fn no_message_steers_the_terminal_that_it_is_read_on() {
    for words in [
        &["exec", "--", "./\x1b]0;spoofed\x07"][..],
        &["exec", "--profile", "\x1b[2Jx", "--", "true"],
        &["exec", "--mount", "/\u{9b}31m\u{202e}", "--", "true"],
        &["policy", "check", "\x1b]52;c;YQ==\x07"],
    ] {
        let output = omni(words, Stdio::piped());
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.starts_with("omni: "), "{words:?}: {told:?}");
        assert!(!told.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{told:?}");
    }
}
