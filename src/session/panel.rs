//! The question as a person at the terminal sees it, and the keys that they answer with. Knows of no terminal, and is told the
//! time.
//!
//! Nobody is to say yes by what they were typing anyway: keys count only once there was quiet, and then as one letter with
//! Enter directly behind it. Anything else begins anew.

use super::desk::{Asked, Reply};
use super::panel_keys::{Key, Keys};
use crate::store::Longest;
use std::time::{Duration, Instant};

/// How long nothing may be typed before keys count.
const QUIET: Duration = Duration::from_secs(1);
/// Smallest screen that a question is drawn on.
const COLUMNS_MIN: usize = 40;
const ROWS_MIN: usize = 8;
/// Most rows for one of its parts.
const PART_ROWS_MAX: usize = 3;
/// Most rows of what is sent.
const PREVIEW_ROWS_MAX: usize = 8;
/// Longest reason that is typed, in characters.
const REASON_CHARACTERS_MAX: usize = 200;

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum Outcome {
    /// It is answered.
    Answer(Reply),
    /// It is left for another time, or to somebody else.
    Later,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Waits for quiet, since when there is some.
    Quieting(Instant),
    /// Takes a letter.
    Armed,
    /// Waits for Enter.
    Chosen(Reply),
    /// Takes a reason, then Enter.
    Denying(String),
}

/// A question on a screen of a fixed size.
#[derive(Debug)]
pub(in crate::session) struct Panel {
    asked: Asked,
    state: State,
    keys: Keys,
    columns: usize,
    /// What is drawn above the line about keys.
    lines: Vec<String>,
    rows: usize,
}

impl Panel {
    /// A question for a screen of this size; none where it is too small.
    pub(super) fn new(asked: Asked, (rows, columns): (usize, usize), now: Instant) -> Option<Self> {
        if columns < COLUMNS_MIN || rows < ROWS_MIN {
            return None;
        }
        let lines = lines(&asked, columns, rows - 1);
        let keys = Keys::default();
        Some(Self { asked, state: State::Quieting(now), keys, columns, lines, rows })
    }

    fn longest(&self) -> Longest {
        self.asked.approval.longest
    }

    /// The question.
    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    /// When it changes by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Quieting(since) => Some(since + QUIET),
            _ => None,
        }
    }

    /// Whether it changed by the time that passed.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let quiet = self.due().is_some_and(|due| due <= now);
        if quiet {
            self.state = State::Armed;
        }
        quiet
    }

    /// Takes what was typed; what came of it.
    pub(super) fn read(&mut self, typed: &[u8], now: Instant) -> Option<Outcome> {
        self.tick(now);
        for key in self.keys.read(typed) {
            let outcome = self.take(key, now);
            if outcome.is_some() {
                return outcome;
            }
        }
        None
    }

    fn take(&mut self, key: Key, now: Instant) -> Option<Outcome> {
        if matches!(key, Key::Escape | Key::Interrupt) {
            return Some(Outcome::Later);
        }
        self.state = match (std::mem::replace(&mut self.state, State::Quieting(now)), key) {
            (State::Armed, Key::Letter(letter)) => self.choice(letter).unwrap_or(State::Quieting(now)),
            (State::Chosen(reply), Key::Enter) => return Some(Outcome::Answer(reply)),
            (State::Denying(reason), Key::Enter) => {
                let reason = Some(reason.trim().to_owned()).filter(|reason| !reason.is_empty());
                return Some(Outcome::Answer(Reply::Deny(reason)));
            }
            (State::Denying(mut reason), Key::Letter(letter)) => {
                if reason.chars().count() < REASON_CHARACTERS_MAX {
                    reason.push(letter);
                }
                State::Denying(reason)
            }
            (State::Denying(mut reason), Key::Backspace) => {
                reason.pop();
                State::Denying(reason)
            }
            // What is no key of a person's, such as a terminal's answer, takes nothing back.
            (state, Key::Other) => state,
            _ => State::Quieting(now),
        };
        None
    }

    fn choice(&self, letter: char) -> Option<State> {
        match letter {
            'o' => Some(State::Chosen(Reply::Once)),
            's' if self.longest() >= Longest::Session => Some(State::Chosen(Reply::Session)),
            'a' if self.longest() >= Longest::Always => Some(State::Chosen(Reply::Always)),
            'd' => Some(State::Denying(String::new())),
            _ => None,
        }
    }

    /// What draws it in the last rows of a screen, without a trace in anything but cells, attributes and the cursor.
    pub(super) fn draw(&self) -> Vec<u8> {
        let mut bytes = b"\x1b[m\x1b[?25l".to_vec();
        let (hint, columns) = (self.hint_line(), self.columns);
        let first = self.rows - self.lines.len();
        for (index, line) in self.lines.iter().chain([&hint]).enumerate() {
            let style = if index == 0 || index == self.lines.len() { "\x1b[0;7m" } else { "\x1b[m" };
            bytes.extend(format!("\x1b[{};1H{style}{line:<columns$}", first + index).into_bytes());
        }
        bytes.extend(b"\x1b[m");
        bytes
    }

    fn hint_line(&self) -> String {
        let text = match &self.state {
            State::Quieting(_) => "stop typing for a moment to answer; the harness gets no keys now".to_owned(),
            State::Armed => {
                let session = if self.longest() >= Longest::Session { "  s session" } else { "" };
                let always = if self.longest() >= Longest::Always { "  a always" } else { "" };
                format!("o once{session}{always}  d deny, then Enter; Esc later")
            }
            State::Chosen(Reply::Session) => "yes, for the rest of the session: Enter".to_owned(),
            State::Chosen(Reply::Always) => "yes, from now on, in later sessions too: Enter".to_owned(),
            State::Chosen(_) => "yes, once: Enter".to_owned(),
            State::Denying(reason) => format!("no, since (may be empty): {}_ Enter", tail(reason, self.columns)),
        };
        cut(&format!(" {}", harmless(&text)), self.columns)
    }
}

/// The end of what was typed, as far as there is room.
fn tail(text: &str, columns: usize) -> String {
    let room = columns.saturating_sub(COLUMNS_MIN - 4);
    text.chars().skip(text.chars().count().saturating_sub(room)).collect()
}

/// What a question says, at most so many rows.
fn lines(asked: &Asked, columns: usize, rows: usize) -> Vec<String> {
    let approval = &asked.approval;
    let more = if asked.questions > 1 { format!(" (1 of {})", asked.questions) } else { String::new() };
    let mut lines = vec![cut(&format!(" omni asks{more}: {}", approval.id()), columns)];
    let until = approval.expires.to_rfc3339();
    let until = until.get(11..19).unwrap_or_default();
    let waits = if asked.waiters > 1 { format!(", {} requests wait", asked.waiters) } else { String::new() };
    let facts = format!("${} spent; denied at {until} UTC{waits}", approval.cost.to_decimal());
    let mut parts = vec![
        ("what", approval.what.clone()),
        ("why", approval.why.clone()),
        ("where", asked.place.clone()),
        ("cost", facts),
    ];
    if approval.longest >= Longest::Session {
        let covers = approval.rule.iter().flat_map(|rules| rules.lines());
        parts.extend(covers.map(|rule| ("covers", rule.to_owned())));
    }
    for (name, text) in parts {
        lines.extend(wrapped(name, &text, columns).into_iter().take(PART_ROWS_MAX));
    }
    let preview = approval.preview.lines().filter(|line| !line.is_empty()).take(PREVIEW_ROWS_MAX);
    lines.extend(preview.map(|line| cut(&format!(" | {}", harmless(line)), columns)));
    lines.truncate(rows);
    lines
}

fn wrapped(name: &str, text: &str, columns: usize) -> Vec<String> {
    let characters: Vec<char> = harmless(text).chars().collect();
    let pieces = characters.chunks(columns.saturating_sub(9).max(1));
    let name = |index| if index == 0 { name } else { "" };
    pieces
        .enumerate()
        .map(|(index, piece)| format!(" {:<7} {}", name(index), piece.iter().collect::<String>()))
        .collect()
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

/// Printable ASCII alone: how wide anything else is drawn is for each terminal to say.
fn harmless(text: &str) -> String {
    let shown = |character: char| match character {
        ' '..='~' => character.to_string(),
        '\t' => " ".to_owned(),
        other => other.escape_default().to_string(),
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
