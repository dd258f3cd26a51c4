//! Text that came from outside, made harmless for a terminal and its reader.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Control characters, and those that turn the direction of text around, break lines or are not seen.
#[must_use]
pub fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with everything escaped that could steer a terminal or deceive its reader.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hostile(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    Cow::Owned(safe)
}

/// JSON with everything escaped that could steer a terminal or deceive its reader.
#[must_use]
pub fn harmless_json(json: &str) -> String {
    let mut harmless = String::with_capacity(json.len());
    for character in json.chars() {
        // Outside of strings JSON is plain ASCII and line breaks, so that each of these stands in a string.
        if is_hostile(character) && character != '\n' {
            // Writing to a string cannot fail.
            let _ = character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(harmless, "\\u{unit:04x}"));
        } else {
            harmless.push(character);
        }
    }
    harmless
}
