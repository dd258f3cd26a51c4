//! A question drawn over what a full-screen program shows, answered there, and taken away without a trace. What a terminal
//! shows is read by a model of one.

use crate::pty::{Place, Pty};
use crate::screen;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a file.
const LOOK: Duration = Duration::from_millis(20);

/// A server that answers every request, and how many came.
struct Upstream {
    to: String,
    came: Arc<AtomicUsize>,
}

impl Upstream {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = format!("asked.example:80:127.0.0.1:{}", listener.local_addr().unwrap().port());
        let came = Arc::new(AtomicUsize::new(0));
        let count = came.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                if head.ends_with(b"\r\n\r\n") {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                }
            }
        });
        Self { to, came }
    }

    fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

/// What a terminal that got these bytes shows: every cell with its colours, the cursor, the modes.
fn shown(bytes: &[u8]) -> (String, (u16, u16)) {
    let size = |count| NonZeroU16::new(count).unwrap();
    let mut terminal = vt100::Parser::new(size(24), size(80), 0);
    terminal.process(bytes);
    (terminal.screen().state_formatted(), terminal.screen().cursor_position())
}

fn text(bytes: &[u8]) -> String {
    let size = |count| NonZeroU16::new(count).unwrap();
    let mut terminal = vt100::Parser::new(size(24), size(80), 0);
    terminal.process(bytes);
    terminal.screen().contents()
}

/// A harness that asks once it is told to by a file, beside a program that has the screen.
fn start(place: &Place, upstream: &Upstream, front: &str) -> Pty {
    let ask = "(until [ -e go ]; do sleep 0.02; done; \
               curl -s -o /dev/null -w '%{http_code}' -d 'a body' http://asked.example/x >code.new; mv code.new code) &";
    let script = format!("{ask} {front}");
    let flags = ["exec", "-q", "--connect-to", &upstream.to, "--ask", "* http://asked.example/**", "--"];
    let words: Vec<&str> = flags.into_iter().chain(["sh", "-c", &script]).collect();
    place.pty(&words)
}

/// Waits for what the harness wrote into a file.
fn written(path: &Path) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = std::fs::read_to_string(path) {
            return text;
        }
        assert!(Instant::now() < deadline, "nothing was written to {}", path.display());
        std::thread::sleep(LOOK);
    }
}

#[test]
fn a_question_over_a_pager_is_answered_there_and_leaves_no_trace() {
    let (place, upstream) = (Place::new(), Upstream::start());
    let lines: String = (1..400).map(|line| format!("\x1b[3{}mline {line} of a text\x1b[m\n", line % 8)).collect();
    std::fs::write(place.workspace().join("text"), lines).unwrap();
    let mut terminal = start(&place, &upstream, "exec less -R +100 text");
    terminal.wait_until("the pager", |seen| text(seen).contains("line 122 of a text"));
    terminal
        .wait_until("the prompt", |seen| text(seen).lines().last().is_some_and(|line| line.starts_with(['t', ':'])));
    let before = shown(terminal.seen());
    std::fs::write(place.workspace().join("go"), "").unwrap();
    terminal.wait_until("the question", |seen| text(seen).contains("o once  s session  a always"));
    let asked = text(terminal.seen());
    for part in ["POST http://asked.example/x", "ask * http://asked.example/**", "covers", "| a body", "line 101 of"] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    // A key that would end the pager is not its key now, and says nothing.
    terminal.write(b"q");
    terminal.wait_until("the quiet", |seen| text(seen).contains("stop typing"));
    terminal.wait_until("the question again", |seen| text(seen).contains("o once  s session  a always"));
    assert_eq!(upstream.came(), 0, "nothing goes before somebody said yes");
    terminal.write(b"o\r");
    assert_eq!(written(&place.workspace().join("code")), "200");
    terminal.wait_until("the screen as it was", |seen| shown(seen) == before);
    assert_eq!(upstream.came(), 1);
    // The pager goes on where it was, and has the keys again.
    terminal.write(b"50g");
    terminal.wait_until("another page", |seen| text(seen).starts_with("line 50 of a text"));
    terminal.write(b"q");
    assert!(terminal.wait().success());
    let answered = place.events("approval_answered");
    assert_eq!(answered[0]["answer"], "once", "{answered:?}");
}

#[test]
fn a_harness_neither_answers_nor_sees_the_question() {
    let (place, upstream) = (Place::new(), Upstream::start());
    // It writes what a person would type and what makes terminals answer, and keeps all that it can read.
    let front = "stty raw -echo; printf ready; (until [ -e write ]; do sleep 0.02; done; \
                 printf 'o\\r\\n\\033[6n\\033[c\\033]52;c;bwo=\\007\\033[21to\\r'; printf 'wrote all' ; touch wrote) & exec cat >read";
    let mut terminal = start(&place, &upstream, front);
    terminal.wait_for("ready");
    std::fs::write(place.workspace().join("go"), "").unwrap();
    terminal.wait_until("the question", |seen| text(seen).contains("o once"));
    let before = terminal.seen().len();
    std::fs::write(place.workspace().join("write"), "").unwrap();
    written(&place.workspace().join("wrote"));
    // The control: the question is still there for a person, who leaves it for later and sees what was written meanwhile.
    assert_eq!((upstream.came(), place.events("approval_answered").len()), (0, 0));
    terminal.write(b"\x1b");
    terminal.wait_until("what was written", |seen| text(seen).contains("wrote all"));
    assert!(!text(terminal.seen()).contains("o once"));
    let after = &terminal.seen()[before..];
    assert!(!after.windows(4).any(|window| window == b"\x1b[6n"), "omni answered in the terminal's place");
    assert_eq!((upstream.came(), place.events("approval_answered").len()), (0, 0));
    place.output(&["deny", "last", "--reason", "not now"]);
    assert_eq!(written(&place.workspace().join("code")), "403");
    let read = std::fs::read_to_string(place.workspace().join("read")).unwrap();
    assert!(!read.contains("asked.example") && !read.contains('o') && read.contains("\x1b[?62;22c"), "{read:?}");
    assert_eq!(upstream.came(), 0);
}

#[test]
fn a_question_that_is_answered_elsewhere_goes_away_and_a_line_is_enough_where_that_is_wanted() {
    let (place, upstream) = (Place::new(), Upstream::start());
    let mut terminal = start(&place, &upstream, "printf ready; exec sleep 1000");
    terminal.wait_for("ready");
    let before = shown(terminal.seen());
    std::fs::write(place.workspace().join("go"), "").unwrap();
    terminal.wait_until("the question", |seen| text(seen).contains("omni asks"));
    place.output(&["approve", "last"]);
    terminal.wait_until("the screen as it was", |seen| shown(seen) == before);
    assert_eq!(written(&place.workspace().join("code")), "200");
    place.output(&["stop", "last", "--grace", "100ms"]);
    let profile = place.workspace().join("line.yaml");
    std::fs::write(
        &profile,
        "name: line\negress: [{ ask: '* http://asked.example/**' }]\nterminal: { ask_in_a_line: true }\n",
    )
    .unwrap();
    let words =
        ["exec", "-q", "--profile", profile.to_str().unwrap(), "--connect-to", &upstream.to, "--", "curl", "-sd", "x"];
    let mut terminal = place.pty(&[&words[..], &["http://asked.example/x"]].concat());
    terminal.wait_for("\x07\x1b7");
    terminal.wait_for("omni: POST http://asked.example/x");
    assert!(!text(terminal.seen()).contains("omni asks"));
    place.output(&["approve", "last"]);
    assert!(terminal.wait().success());
}

#[test]
fn claude_code_is_asked_about_over_its_own_screen_and_goes_on() {
    let Some(program) = screen::harness("claude") else { return };
    let screen = screen::Screen::open(120, 40);
    let sim = screen.start_sim();
    let flags = sim.flags(&["api.anthropic.com", "platform.claude.com"]);
    let ask = "--ask 'POST api.anthropic.com/v1/messages'";
    screen.run_omni(&format!("{flags} {ask} -- {} --dangerously-skip-permissions", program.display()), "❯");
    screen.type_text("Write hello.txt");
    screen.wait_for("Write hello.txt");
    screen.keys("Enter");
    screen.wait_for("o once  s session  a always");
    screen.type_text("s");
    screen.wait_for("yes, for the rest of the session: Enter");
    screen.keys("Enter");
    screen.wait_for("Done: hello.txt is written.");
    screen.wait_until("the question to go", |shown| !shown.contains("omni asks"));
    screen.keys("C-c");
    screen.keys("C-c");
    screen.wait_for("exit=0");
}
