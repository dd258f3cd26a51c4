//! What of a harness's output may reach a terminal: an allow-list of what changes the screen, and nothing that reaches
//! beyond it (docs/terminal.md has the whole table).
//!
//! What passes is written anew from what was understood, so that no terminal can read it otherwise. Where a read ends
//! never matters. Knows nothing of descriptors.

mod command;
mod machine;
mod modes;
mod plain;
mod sequence;

use crate::policy::{Terminal, TerminalFilter};
use command::Verdict;
use machine::{BEL, ESC, Introducer, Machine, Sequence, Token};
pub(super) use modes::Modes;
pub(super) use plain::PlainText;
use sequence::Judgement;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// Controls of the first set that pass: bell, backspace, tabulator, line ends, and the shifts between character sets. ENQ,
/// which would have the terminal type its answerback, is not among them.
const CONTROLS: [u8; 9] = [BEL, 0x08, b'\t', b'\n', 0x0b, 0x0c, b'\r', 0x0e, 0x0f];
/// Stands for what is no character (U+FFFD).
const UNREADABLE: &[u8] = "\u{fffd}".as_bytes();

/// What passes besides what only changes the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Titles.
    title: bool,
    /// Writing the clipboard. It is never read.
    clipboard: bool,
    /// Notifications and progress.
    notifications: bool,
    /// Links to web pages.
    links: bool,
    /// Questions beyond where the cursor is and what kind of terminal this is.
    queries: bool,
    /// Questions at all.
    questions: bool,
    /// Modes by which a terminal sends more than keys.
    input_modes: bool,
}

impl Rules {
    /// Those of a profile.
    pub(super) fn of(terminal: &Terminal) -> Self {
        let standard = terminal.filter != TerminalFilter::Strict;
        Self {
            title: terminal.title,
            clipboard: terminal.clipboard,
            notifications: terminal.notifications,
            links: terminal.hyperlinks.unwrap_or(standard),
            queries: standard,
            questions: true,
            input_modes: true,
        }
    }

    /// For something that was recorded: nobody is there who could want an answer or a mouse.
    pub(super) const REPLAY: Self = Self {
        title: false,
        clipboard: false,
        notifications: false,
        links: false,
        queries: false,
        questions: false,
        input_modes: false,
    };

    /// For reading along, to know what is switched.
    pub(super) const READING_ALONG: Self = Self { input_modes: true, ..Self::REPLAY };
}

/// What was left out, as the session's record counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Reading or writing the clipboard.
    Clipboard,
    /// The title.
    Title,
    /// A link to something other than a web page.
    Link,
    /// A notification.
    Notification,
    /// A question whose answer would be typed.
    Query,
    /// The terminal's colours.
    Colours,
    /// Moving, resizing or asking about the window.
    Window,
    /// Printing on paper.
    Print,
    /// A mode of the terminal.
    Mode,
    /// A string to the device or to a program, such as an image.
    Device,
    /// Anything else.
    Other,
}

impl Kind {
    /// The name in the record.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Clipboard => "clipboard",
            Self::Title => "title",
            Self::Link => "hyperlinks",
            Self::Notification => "notifications",
            Self::Query => "queries",
            Self::Colours => "colours",
            Self::Window => "window",
            Self::Print => "printing",
            Self::Mode => "modes",
            Self::Device => "device strings",
            Self::Other => "other",
        }
    }
}

/// A question to the terminal, by who could answer it in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Where the cursor is (`CSI 6 n`).
    Cursor,
    /// Whether all is well (`CSI 5 n`).
    Status,
    /// What kind of terminal this is (`CSI c`).
    Attributes,
    /// Something that only a terminal knows.
    Other,
}

/// What passed of some output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// All of it.
    pub bytes: Vec<u8>,
    /// Where in it the terminal is asked something. One terminal alone must hear that, or the harness gets two answers.
    pub questions: Vec<(Range<usize>, Question)>,
}

impl Passed {
    /// Without the questions.
    pub(super) fn unasked(&self) -> Cow<'_, [u8]> {
        if self.questions.is_empty() {
            return Cow::Borrowed(&self.bytes);
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut from = 0;
        for (range, _) in &self.questions {
            bytes.extend_from_slice(&self.bytes[from..range.start]);
            from = range.end;
        }
        bytes.extend_from_slice(&self.bytes[from..]);
        Cow::Owned(bytes)
    }
}

/// A filter between two reads.
#[derive(Debug)]
pub(super) struct Filter {
    rules: Rules,
    machine: Machine,
    modes: Modes,
    refused: BTreeMap<Kind, u64>,
}

impl Filter {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules, machine: Machine::default(), modes: Modes::default(), refused: BTreeMap::new() }
    }

    /// What may be shown of the next output. What is not whole yet comes with what completes it.
    pub(super) fn pass(&mut self, output: &[u8]) -> Passed {
        let mut passed = Passed { bytes: Vec::with_capacity(output.len()), questions: Vec::new() };
        let Self { rules, machine, modes, refused } = self;
        machine.feed(output, &mut |token| {
            if let Some(kind) = judge(token, rules, modes, &mut passed) {
                *refused.entry(kind).or_default() += 1;
            }
        });
        passed
    }

    /// What the harness switched and did not switch back.
    pub(super) fn modes(&self) -> &Modes {
        &self.modes
    }

    /// How much of which kind was left out.
    pub(super) fn refused(&self) -> &BTreeMap<Kind, u64> {
        &self.refused
    }
}

/// Adds what may pass of a token; what kind of thing it is, if it may not.
fn judge(token: Token<'_>, rules: &Rules, modes: &mut Modes, passed: &mut Passed) -> Option<Kind> {
    match token {
        Token::Text(text) => passed.bytes.extend_from_slice(text),
        Token::Unreadable => passed.bytes.extend_from_slice(UNREADABLE),
        Token::Control(control) if CONTROLS.contains(&control) => {
            if matches!(control, 0x0e | 0x0f) {
                modes.set_shifted(control == 0x0e);
            }
            passed.bytes.push(control);
        }
        Token::Control(0x05) => return Some(Kind::Query),
        // The rest do nothing, or would end a sequence of the terminal's that is none of ours.
        Token::Control(_) => {}
        Token::Escape(intermediates, last) => {
            let judgement = sequence::judge_escape(intermediates, last, modes);
            return put(&judgement, &Sequence { marker: None, parameters: b"", intermediates, last }, b"", passed);
        }
        Token::Sequence(sequence) => {
            let judgement = sequence::judge(&sequence, rules, modes);
            return put(&judgement, &sequence, b"[", passed);
        }
        Token::Command(payload, bell) => return put_command(payload, bell, rules, passed),
        Token::Dropped(Introducer::Title) => return Some(Kind::Title),
        Token::Dropped(_) => return Some(Kind::Device),
        Token::Malformed => return Some(Kind::Other),
    }
    None
}

/// Writes a sequence anew.
fn put(judgement: &Judgement, sequence: &Sequence<'_>, introducer: &[u8], passed: &mut Passed) -> Option<Kind> {
    let only;
    let (parameters, question) = match judgement {
        Judgement::Refuse(kind) => return Some(*kind),
        Judgement::Show => (sequence.parameters, None),
        Judgement::Ask(question) => (sequence.parameters, Some(*question)),
        Judgement::ShowOnly(numbers) => {
            only = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(";");
            (only.as_bytes(), None)
        }
    };
    let start = passed.bytes.len();
    passed.bytes.push(ESC);
    passed.bytes.extend_from_slice(introducer);
    passed.bytes.extend(sequence.marker);
    passed.bytes.extend_from_slice(parameters);
    passed.bytes.extend_from_slice(sequence.intermediates);
    passed.bytes.push(sequence.last);
    passed.questions.extend(question.map(|question| (start..passed.bytes.len(), question)));
    matches!(judgement, Judgement::ShowOnly(_)).then_some(Kind::Mode)
}

fn put_command(payload: &[u8], bell: bool, rules: &Rules, passed: &mut Passed) -> Option<Kind> {
    let (payload, question, refused) = match command::judge(payload, rules) {
        Verdict::Refuse(kind) => return Some(kind),
        Verdict::Show => (payload, None, None),
        Verdict::EndLink => (&b"8;;"[..], None, Some(Kind::Link)),
        Verdict::Ask => (payload, Some(Question::Other), None),
    };
    let start = passed.bytes.len();
    passed.bytes.extend_from_slice(b"\x1b]");
    passed.bytes.extend_from_slice(payload);
    // The answer ends as the question does, which is how some programs read it.
    passed.bytes.extend_from_slice(if bell { b"\x07" } else { b"\x1b\\" });
    passed.questions.extend(question.map(|question| (start..passed.bytes.len(), question)));
    refused
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
