//! A replay with the session's requests beside what its terminal showed.

use crate::pty::{Place, Pty};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::num::NonZeroU16;

/// Records a session that writes, asks a server that answers and one that it may not ask, and writes more. Nothing of what it
/// writes may reach whoever looks: it asks the terminal, sets the title, switches the mouse on, and turns text around.
fn record(place: &Place) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let answering = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut asked = [0; 4096];
        let count = client.read(&mut asked).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").unwrap();
        String::from_utf8_lossy(&asked[..count]).into_owned()
    });
    let script = "printf 'first\\r\\n\\033[6n\\033]0;owned\\a\\033[?1000h\\342\\200\\256'; curl -s http://served.example/x; \
                  curl -s http://refused.example/y > /dev/null; printf '\\r\\nlast\\r\\n'";
    let to = format!("served.example:80:127.0.0.1:{port}");
    let rule = "GET http://served.example/**";
    let words = ["exec", "-q", "--record", "--allow", rule, "--connect-to", &to, "--", "sh", "-c", script];
    assert!(place.pty(&words).wait().success());
    assert!(answering.join().unwrap().starts_with("GET /x "));
}

/// What a terminal of this size shows in the end, row by row.
fn shown(pty: &Pty, columns: u16, rows: u16) -> Vec<String> {
    let size = |count| NonZeroU16::new(count).unwrap();
    let mut terminal = vt100::Parser::new(size(rows), size(columns), 0);
    terminal.process(pty.seen());
    terminal.screen().rows(0, columns).collect()
}

#[test]
fn a_wide_terminal_shows_the_requests_beside_what_was_written() {
    let place = Place::new();
    record(&place);
    let mut pty = place.pty_of(&["replay", "last", "--requests", "--speed", "1000"], 150, 30);
    assert!(pty.wait().success());
    let rows = shown(&pty, 150, 30);
    let (left, right): (Vec<String>, Vec<String>) = rows
        .iter()
        .filter_map(|row| row.split_once('\u{2502}'))
        .map(|(left, right)| (left.trim_end().to_owned(), right.trim_end().to_owned()))
        .unzip();
    let written: Vec<_> = left.iter().filter(|row| !row.is_empty()).collect();
    assert_eq!(written, ["first", "hello", "last"], "{rows:?}");
    let told = right.join("\n");
    let at = |words: &str| told.find(words).unwrap_or_else(|| panic!("{words:?} is not in\n{told}"));
    assert!(at("#1 allowed GET http://served.example/x") < at("200, 0 B out, 5 B in"));
    assert!(at("rule `GET http://served.example/**`") < at("#2 DENIED GET http://refused.example/y"));
    for harm in ["\x1b[6n", "\x1b]0;", "\x1b[?1000h", "\u{202e}"] {
        assert!(!pty.shows(harm), "{harm:?} reached the terminal");
    }
    assert!(pty.shows("\x1b[?25h"), "the cursor is shown again");
}

#[test]
fn a_narrow_terminal_shows_them_below() {
    let place = Place::new();
    record(&place);
    let mut pty = place.pty(&["replay", "last", "--side-by-side", "--at", "#2", "--speed", "1000"]);
    assert!(pty.wait().success());
    let rows = shown(&pty, 80, 24);
    let border = rows.iter().position(|row| row.starts_with('\u{2500}')).unwrap();
    let find = |words: &str| rows.iter().position(|row| row.contains(words)).unwrap_or_else(|| panic!("{rows:?}"));
    assert!(find("first") < find("last") && find("last") < border, "{rows:?}");
    assert!(border < find("#2 DENIED GET http://refused.example/y"), "{rows:?}");
}

#[test]
fn into_a_pipe_both_are_text_in_the_order_of_time() {
    let place = Place::new();
    record(&place);
    let text = place.output(&["replay", "last", "--requests"]);
    let lines: Vec<_> = text.lines().map(|line| line.trim_start().split_once("  ").unwrap()).collect();
    let times: Vec<f64> = lines.iter().map(|(time, _)| time.parse().unwrap()).collect();
    assert!(times.is_sorted(), "{text}");
    let place_of = |whose: &str, words: &str| {
        let found = lines.iter().position(|(_, told)| told.starts_with(whose) && told.contains(words));
        found.unwrap_or_else(|| panic!("{words:?} is not in\n{text}"))
    };
    let order = [
        place_of("terminal", "first"),
        place_of("request", "#1 GET http://served.example/x, allowed by"),
        place_of("request", "#2 DENIED GET http://refused.example/y"),
        place_of("terminal", "last"),
    ];
    assert!(order.is_sorted(), "{text}");
    assert!(text.contains("hello"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\u{202e}'), "{text}");
    let late = place.output(&["replay", "last", "--requests", "--at", "#2"]);
    assert!(!late.contains("first") && late.contains("#2 ") && text.ends_with(&late), "{late}");
    let output = place.omni(&["replay", "last", "--requests", "--at", "#9"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("no request 9"), "{told}");
}
