//! What a harness switched in its terminal and did not switch back: to give to a terminal that joins, and to take back
//! from one that leaves.

use std::collections::BTreeSet;
use std::io::Write as _;

/// Deepest stack of keyboard flags, as kitty's own is.
const KEYBOARD_STACK_MAX: usize = 16;
/// The private modes that are on until they are switched off: wrapping, the cursor.
const ON_AT_FIRST: [u16; 2] = [7, 25];
/// The private mode in which rows are counted from the top of those that scroll.
const ORIGIN: u16 = 6;
/// The private modes that show the other screen.
const OTHER_SCREEN: [u16; 3] = [47, 1047, 1049];

/// Everything that differs from a terminal that was just switched on, screen and colours apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::session) struct Modes {
    /// Private modes that are not as at first.
    private: BTreeSet<u16>,
    /// Flags of the keyboard that were pushed: on the first screen, on the other.
    keyboard: [Vec<u16>; 2],
    /// Flags that were set without a push.
    keyboard_set: bool,
    /// How keys with modifiers are reported (xterm's `modifyOtherKeys`).
    modified_keys: Option<u16>,
    /// The cursor's shape.
    cursor: Option<u16>,
    /// Whether lines to scroll were chosen.
    region: bool,
    /// Whether other characters were designated.
    characters: bool,
    /// The character set that was designated first of all (G0), where it is not ASCII.
    first_set: Option<u8>,
    /// Whether the second one (G1) is in use.
    shifted: bool,
}

impl Modes {
    pub(super) fn set_private(&mut self, mode: u16, on: bool) {
        if on == ON_AT_FIRST.contains(&mode) {
            self.private.remove(&mode);
        } else {
            self.private.insert(mode);
        }
    }

    pub(super) fn set_cursor(&mut self, shape: u16) {
        self.cursor = (shape != 0).then_some(shape);
    }

    pub(super) fn set_modified_keys(&mut self, value: Option<u16>) {
        self.modified_keys = value.filter(|value| *value != 0);
    }

    pub(super) fn set_region(&mut self, whole: bool) {
        self.region = !whole;
    }

    pub(super) fn set_characters(&mut self, slot: u8, set: u8) {
        self.characters = true;
        if slot == b'(' {
            self.first_set = (set != b'B').then_some(set);
        }
    }

    pub(super) fn set_shifted(&mut self, shifted: bool) {
        self.shifted = shifted;
    }

    /// What chooses the character sets that are in use, where a moment ago it was ASCII.
    pub(in crate::session) fn choose_characters(&self) -> Vec<u8> {
        let mut bytes = self.first_set.map_or_else(Vec::new, |set| vec![0x1b, b'(', set]);
        bytes.extend(self.shifted.then_some(0x0e));
        bytes
    }

    /// Whether rows are counted from the top of the screen, so that anything can be drawn anywhere.
    pub(in crate::session) fn draws_anywhere(&self) -> bool {
        !self.private.contains(&ORIGIN)
    }

    pub(super) fn push_keyboard(&mut self, flags: u16) {
        let stack = &mut self.keyboard[usize::from(self.on_other_screen())];
        if stack.len() == KEYBOARD_STACK_MAX {
            stack.remove(0);
        }
        stack.push(flags);
    }

    pub(super) fn pop_keyboard(&mut self, count: u16) {
        let stack = &mut self.keyboard[usize::from(self.on_other_screen())];
        stack.truncate(stack.len().saturating_sub(usize::from(count)));
    }

    pub(super) fn set_keyboard(&mut self) {
        self.keyboard_set = true;
    }

    /// Whether the other screen shows, as full-screen programs have it.
    pub(in crate::session) fn on_other_screen(&self) -> bool {
        OTHER_SCREEN.iter().any(|mode| self.private.contains(mode))
    }

    /// What brings a terminal that was just switched on here, without the screen's contents: the other screen comes first,
    /// so that what is drawn next is drawn there.
    pub(in crate::session) fn enter(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (other, modes): (Vec<u16>, Vec<u16>) = self.private.iter().partition(|mode| OTHER_SCREEN.contains(mode));
        for mode in other.iter().chain(&modes) {
            put(&mut bytes, format_args!("\x1b[?{mode}{}", if ON_AT_FIRST.contains(mode) { 'l' } else { 'h' }));
        }
        if let Some(flags) = self.keyboard[usize::from(self.on_other_screen())].last() {
            put(&mut bytes, format_args!("\x1b[>{flags}u"));
        }
        if let Some(value) = self.modified_keys {
            put(&mut bytes, format_args!("\x1b[>4;{value}m"));
        }
        if let Some(shape) = self.cursor {
            put(&mut bytes, format_args!("\x1b[{shape} q"));
        }
        bytes
    }

    /// What switches everything back; nothing, after a program that did so itself.
    pub(in crate::session) fn leave(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.keyboard_set {
            put(&mut bytes, format_args!("\x1b[=0u"));
        }
        let [first, other] = &self.keyboard;
        if self.on_other_screen() && !other.is_empty() {
            put(&mut bytes, format_args!("\x1b[<{}u", other.len()));
        }
        if self.modified_keys.is_some() {
            put(&mut bytes, format_args!("\x1b[>4;0m"));
        }
        if self.cursor.is_some() {
            put(&mut bytes, format_args!("\x1b[0 q"));
        }
        if self.region {
            // Choosing the whole screen moves the cursor.
            put(&mut bytes, format_args!("\x1b7\x1b[r\x1b8"));
        }
        if self.characters {
            put(&mut bytes, format_args!("\x1b(B\x0f"));
        }
        let (screens, modes): (Vec<u16>, Vec<u16>) = self.private.iter().partition(|mode| OTHER_SCREEN.contains(mode));
        for mode in modes.iter().chain(&screens) {
            put(&mut bytes, format_args!("\x1b[?{mode}{}", if ON_AT_FIRST.contains(mode) { 'h' } else { 'l' }));
        }
        if !first.is_empty() {
            put(&mut bytes, format_args!("\x1b[<{}u", first.len()));
        }
        if !bytes.is_empty() {
            put(&mut bytes, format_args!("\x1b[m"));
        }
        bytes
    }
}

/// Writing into memory cannot fail.
fn put(bytes: &mut Vec<u8>, what: std::fmt::Arguments<'_>) {
    let _ = bytes.write_fmt(what);
}
