//! Which escapes and control sequences (xterm's ctlseqs, ECMA-48, kitty's keyboard protocol) reach a terminal.

use super::machine::Sequence;
use super::modes::Modes;
use super::{Kind, Question, Rules};

/// What only changes what the screen shows, or which keys are sent and how: marker, intermediates, last bytes.
const SCREEN: [(Option<u8>, &[u8], &[u8]); 14] = [
    // Moving, erasing, inserting, scrolling, tabulators, repeating, attributes, margins, saving the cursor.
    (None, b"", b"@ABCDEFGHIJKLMPSXZ`abdefgmrsu"),
    (Some(b'?'), b"", b"JK"),
    // Columns and the cursor's shape.
    (None, b" ", b"@Aq"),
    (None, b"'", b"}~"),
    // Protecting characters, the soft reset.
    (None, b"\"", b"q"),
    (None, b"!", b"p"),
    // Rectangles.
    (None, b"$", b"rtvxz{"),
    (None, b"*", b"x"),
    // Attributes put by and taken back.
    (None, b"#", b"{}pq"),
    // How keys are reported: xterm's modified keys, kitty's flags.
    (Some(b'>'), b"", b"mn"),
    (Some(b'>'), b"", b"u"),
    (Some(b'<'), b"", b"u"),
    (Some(b'='), b"", b"u"),
    // Private modes that were saved.
    (Some(b'?'), b"", b"rs"),
];

/// Escapes: saving the cursor, keypads, moving by a line, tabulators, columns, the full reset.
const ESCAPES: &[u8] = b"78=>DEHMc69";
/// Escapes with one intermediate: characters to designate, double height, UTF-8.
const DESIGNATIONS: [(u8, &[u8]); 6] = [
    (b'(', b"0AB12"),
    (b')', b"0AB12"),
    (b'*', b"0AB12"),
    (b'+', b"0AB12"),
    (b'#', b"34568"),
    // Leaving UTF-8 (`ESC % @`) would let bytes within characters be controls.
    (b'%', b"G"),
];

/// Modes of ECMA-48: inserting, line ends. Not among them: locking the keyboard (2), the terminal's own echo (12).
const MODES: [u16; 2] = [4, 20];
/// Private modes of the screen: cursor keys, reverse video, origin, wrapping, the cursor and its blinking, margins, the
/// other screen, synchronised output, clusters of characters.
const SCREEN_MODES: [u16; 17] = [1, 5, 6, 7, 12, 25, 45, 47, 66, 69, 1047, 1048, 1049, 2026, 2027, 1034, 1036];
/// Private modes by which the terminal sends more than keys: mouse, focus, scrolling as keys, pasting in brackets, changes
/// of colours and of size.
const INPUT_MODES: [u16; 12] = [9, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 2004, 2031];
/// As [`INPUT_MODES`], reported in the same stream: the size.
const SIZE_REPORT_MODE: u16 = 2048;

/// Largest parameter. No sequence in use has a larger one.
const PARAMETER_MAX: u32 = 65_535;

/// What becomes of a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is shown.
    Show,
    /// It is shown with these parameters alone.
    ShowOnly(Vec<u16>),
    /// The terminal is asked.
    Ask(Question),
    /// It is left out.
    Refuse(Kind),
}

/// Judges an escape.
pub(super) fn judge_escape(intermediates: &[u8], last: u8, modes: &mut Modes) -> Judgement {
    match intermediates {
        [] if last == b'Z' => Judgement::Refuse(Kind::Query),
        [] if ESCAPES.contains(&last) => {
            if last == b'c' {
                *modes = Modes::default();
            }
            Judgement::Show
        }
        [one] if DESIGNATIONS.iter().any(|(known, lasts)| known == one && lasts.contains(&last)) => {
            if b"()*+".contains(one) {
                modes.set_characters(*one, last);
            }
            Judgement::Show
        }
        _ => Judgement::Refuse(Kind::Other),
    }
}

/// Judges a control sequence, and remembers the modes that it sets.
pub(super) fn judge(sequence: &Sequence<'_>, rules: &Rules, modes: &mut Modes) -> Judgement {
    let Some(numbers) = numbers(sequence.parameters) else { return Judgement::Refuse(Kind::Other) };
    let Sequence { marker, intermediates, last, .. } = *sequence;
    let first = numbers.first().copied().flatten();
    match (marker, intermediates, last) {
        (None | Some(b'?'), b"", b'h' | b'l' | b'r' | b's') if marker.is_some() || last == b'h' || last == b'l' => {
            switch(sequence, &numbers, rules, modes)
        }
        // With more parameters it follows the mouse, and a terminal that waits for an answer shows nothing more.
        (None, b"", b'T') if numbers.len() == 1 => Judgement::Show,
        (None, b"", b'i') | (Some(b'?'), b"", b'i') => Judgement::Refuse(Kind::Print),
        (None, b"", b't') => Judgement::Refuse(Kind::Window),
        (Some(b'>'), b"", b'm' | b'n' | b'u') | (Some(b'<' | b'='), b"", b'u') if !rules.input_modes => {
            Judgement::Refuse(Kind::Mode)
        }
        _ if is_screen(sequence) => {
            remember(sequence, first, modes);
            Judgement::Show
        }
        _ => ask(sequence, first, rules),
    }
}

fn is_screen(sequence: &Sequence<'_>) -> bool {
    SCREEN.iter().any(|(marker, intermediates, lasts)| {
        *marker == sequence.marker && *intermediates == sequence.intermediates && lasts.contains(&sequence.last)
    })
}

/// Modes are judged one by one; what is allowed of several is shown.
fn switch(sequence: &Sequence<'_>, numbers: &[Option<u16>], rules: &Rules, modes: &mut Modes) -> Judgement {
    let private = sequence.marker.is_some();
    let allowed = |mode: u16| match private {
        false => MODES.contains(&mode),
        true if INPUT_MODES.contains(&mode) || mode == SIZE_REPORT_MODE => rules.input_modes,
        true => SCREEN_MODES.contains(&mode),
    };
    let kept: Vec<u16> = numbers.iter().flatten().copied().filter(|mode| allowed(*mode)).collect();
    if private && matches!(sequence.last, b'h' | b'l') {
        kept.iter().for_each(|mode| modes.set_private(*mode, sequence.last == b'h'));
    }
    match kept.len() {
        0 => Judgement::Refuse(Kind::Mode),
        all if all == numbers.len() => Judgement::Show,
        _ => Judgement::ShowOnly(kept),
    }
}

/// Remembers what a sequence that is shown leaves behind.
fn remember(sequence: &Sequence<'_>, first: Option<u16>, modes: &mut Modes) {
    match (sequence.marker, sequence.intermediates, sequence.last) {
        (None, b" ", b'q') => modes.set_cursor(first.unwrap_or(0)),
        (None, b"", b'r') => modes.set_region(sequence.parameters.is_empty()),
        (None, b"!", b'p') => modes.set_private(25, true),
        (Some(b'>'), b"", b'u') => modes.push_keyboard(first.unwrap_or(0)),
        (Some(b'<'), b"", b'u') => modes.pop_keyboard(first.unwrap_or(1)),
        (Some(b'='), b"", b'u') => modes.set_keyboard(),
        (Some(b'>'), b"", b'm') if first == Some(4) => {
            let value = super::sequence::numbers(sequence.parameters).and_then(|all| all.get(1).copied().flatten());
            modes.set_modified_keys(value);
        }
        (Some(b'>'), b"", b'n') if first == Some(4) => modes.set_modified_keys(None),
        _ => {}
    }
}

/// Questions, whose answers the terminal types. Those that may be asked have answers of a fixed form in which nothing that
/// a program chose can stand, and no line ends.
fn ask(sequence: &Sequence<'_>, first: Option<u16>, rules: &Rules) -> Judgement {
    let first = first.unwrap_or(0);
    let question = match (sequence.marker, sequence.intermediates, sequence.last) {
        (None, b"", b'n') if first == 6 => Some(Question::Cursor),
        (None, b"", b'n') if first == 5 => Some(Question::Status),
        (None, b"", b'c') if first == 0 => Some(Question::Attributes),
        _ if !rules.queries => None,
        (Some(b'?'), b"", b'n') if matches!(first, 6 | 996) => Some(Question::Other),
        (Some(b'>'), b"", b'c' | b'q') if first == 0 => Some(Question::Other),
        (Some(b'?'), b"", b'u') => Some(Question::Other),
        (None | Some(b'?'), b"$", b'p') => Some(Question::Other),
        _ => None,
    };
    match question {
        Some(question) if rules.questions => Judgement::Ask(question),
        _ => Judgement::Refuse(if b"cnqupySR".contains(&sequence.last) { Kind::Query } else { Kind::Other }),
    }
}

/// The parameters, of which each may be left out; none when one is out of bounds. What stands after a `:` belongs to the
/// parameter before.
pub(super) fn numbers(parameters: &[u8]) -> Option<Vec<Option<u16>>> {
    let mut numbers = Vec::new();
    for part in parameters.split(|byte| *byte == b';') {
        for (index, digits) in part.split(|byte| *byte == b':').enumerate() {
            let number = digits.iter().try_fold(0u32, |number, digit| {
                let number = number * 10 + u32::from(digit - b'0');
                (number <= PARAMETER_MAX).then_some(number)
            })?;
            if index == 0 {
                numbers.push(u16::try_from(number).ok().filter(|_| !digits.is_empty()));
            }
        }
    }
    Some(numbers)
}
