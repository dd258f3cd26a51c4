//! Who can say yes by which keys, and what a panel leaves on a screen.

use super::*;
use crate::model::{NanoUsd, SessionId, Timestamp};
use crate::store::{Approval, Longest};
use std::num::NonZeroU16;

fn asked() -> Asked {
    let approval = Approval {
        session: SessionId::from_entropy([1; 10]),
        question: 1,
        user: "ada".to_owned(),
        asked: Timestamp(0),
        expires: Timestamp(1),
        what: "POST https://a.example/x\x1b[2J".to_owned(),
        why: "the rule `ask * a.example` wants a person's answer ".repeat(8),
        rule: Some("POST a.example/x".to_owned()),
        preview: "{\"key\":\"o\\r\u{9b}31m\u{202e}\"}\nmore\n".repeat(20),
        digest: String::new(),
        cost: NanoUsd(2_000_000_000),
        longest: Longest::Always,
    };
    Asked { approval, waiters: 2, questions: 3, place: "codex in /w".to_owned() }
}

/// A panel on a screen, and the moment in which it was drawn.
fn panel() -> (Panel, Instant) {
    let now = Instant::now();
    (Panel::new(asked(), (24, 80), now).unwrap(), now)
}

#[test]
fn a_letter_and_enter_say_yes_once_nobody_typed_for_a_moment() {
    for (keys, reply) in [
        (&b"o\r"[..], Reply::Once),
        (b"s\r", Reply::Session),
        (b"a\r", Reply::Always),
        (b"d\r", Reply::Deny(None)),
        (b"dnot on a Fryd\x7f\x7fiday\r", Reply::Deny(Some("not on a Friday".to_owned()))),
    ] {
        let (mut panel, now) = panel();
        assert_eq!(panel.read(keys, now + QUIET), Some(Outcome::Answer(reply)));
    }
}

#[test]
fn what_somebody_was_typing_says_nothing() {
    let (mut early, now) = panel();
    assert_eq!(early.read(b"o\r", now + QUIET / 2), None);
    assert_eq!(early.read(b"s\r", now + QUIET), None, "the quiet begins anew");
    for typed in [&b"yes\r"[..], b"was\r", b"oo\r", b"\ro\r", b"o \r", b"rm -rf o\r", b"\x1b[200~o\r\x1b[201~"] {
        let (mut panel, now) = panel();
        assert_eq!(panel.read(typed, now + QUIET), None, "{typed:?}");
    }
    let (mut slow, now) = panel();
    assert_eq!(slow.read(b"o", now + QUIET), None);
    assert_eq!(slow.read(b"\x1b[12;40R\r", now + QUIET), Some(Outcome::Answer(Reply::Once)), "an answer is no key");
}

#[test]
fn what_cannot_be_said_is_no_choice() {
    let now = Instant::now();
    for (longest, letter) in [(Longest::Once, "s\r"), (Longest::Once, "a\r"), (Longest::Session, "a\r")] {
        let asked = Asked { approval: Approval { longest, ..asked().approval }, ..asked() };
        let mut panel = Panel::new(asked, (24, 80), now).unwrap();
        assert_eq!(panel.read(letter.as_bytes(), now + QUIET), None);
    }
    let (mut panel, now) = panel();
    assert_eq!(panel.read(b"\x1b", now), Some(Outcome::Later));
}

#[test]
fn a_panel_draws_in_its_rows_alone_and_nothing_in_it_steers_the_terminal() {
    let (panel, _) = panel();
    let size = |count| NonZeroU16::new(count).unwrap();
    let mut screen = vt100::Parser::new(size(24), size(80), 0);
    screen.process(b"\x1b[H\x1b[1;31mabove\x1b[5;7H");
    screen.process(&panel.draw());
    let rows: Vec<String> = screen.screen().rows(0, 80).collect();
    assert!(rows[0].starts_with("above") && rows[23].starts_with(" stop typing"), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("POST https://a.example/x\\u{1b}[2J")), "{rows:?}");
    assert!(rows.iter().any(|row| row.contains("\\u{9b}31m\\u{202e}")), "{rows:?}");
    assert!(Panel::new(asked(), (7, 80), Instant::now()).is_none());
    for (rows, columns) in [(8, 40), (9, 41), (60, 300)] {
        let panel = Panel::new(asked(), (rows, columns), Instant::now()).unwrap();
        let drawn = String::from_utf8(panel.draw()).unwrap();
        assert!(drawn.matches("H\x1b[").count() <= rows, "{drawn:?}");
    }
}
