//! Which operating system commands (OSC, xterm's ctlseqs) reach a terminal: none but those named here.

use super::{Kind, Rules};

/// Longest title.
const TITLE_BYTES_MAX: usize = 256;
/// Longest address of a link, as browsers and terminals have it (the OSC 8 specification).
const ADDRESS_BYTES_MAX: usize = 2083;
/// Longest parameters of a link.
const LINK_PARAMETERS_BYTES_MAX: usize = 250;
/// Longest notification.
const NOTIFICATION_BYTES_MAX: usize = 1024;

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is passed on as it is.
    Show,
    /// A link that may not begin ends the one before.
    EndLink,
    /// The terminal is asked.
    Ask,
    /// It is left out.
    Refuse(Kind),
}

/// Judges a command, given without its introducer and its end.
pub(super) fn judge(payload: &[u8], rules: &Rules) -> Verdict {
    let (number, rest) = match payload.iter().position(|byte| *byte == b';') {
        Some(end) => (&payload[..end], &payload[end + 1..]),
        None => (payload, &b""[..]),
    };
    match number {
        b"0" | b"1" | b"2" => allow(rules.title && is_plain(rest, TITLE_BYTES_MAX), Kind::Title),
        b"8" => link(rest, rules),
        b"9" => allow(rules.notifications && is_notification(rest), Kind::Notification),
        b"777" => {
            let fits = rest.starts_with(b"notify;") && is_plain(rest, NOTIFICATION_BYTES_MAX);
            allow(rules.notifications && fits, Kind::Notification)
        }
        b"99" => Verdict::Refuse(Kind::Notification),
        b"52" => allow(rules.clipboard && is_clipboard_write(rest), Kind::Clipboard),
        b"10" | b"11" | b"12" if rest == b"?" => question(rules),
        b"4" if is_palette_question(rest) => question(rules),
        b"4" | b"5" | b"10" | b"11" | b"12" | b"13" | b"14" | b"17" | b"19" | b"21" => Verdict::Refuse(Kind::Colours),
        _ => Verdict::Refuse(Kind::Other),
    }
}

fn allow(allowed: bool, kind: Kind) -> Verdict {
    if allowed { Verdict::Show } else { Verdict::Refuse(kind) }
}

fn question(rules: &Rules) -> Verdict {
    if rules.queries && rules.questions { Verdict::Ask } else { Verdict::Refuse(Kind::Query) }
}

/// `parameters;address`; without an address it ends the link before, which is always allowed.
fn link(rest: &[u8], rules: &Rules) -> Verdict {
    let Some(end) = rest.iter().position(|byte| *byte == b';') else { return Verdict::Refuse(Kind::Link) };
    let (parameters, address) = (&rest[..end], &rest[end + 1..]);
    let simple = |byte: &u8| byte.is_ascii_alphanumeric() || b"=:._-/".contains(byte);
    let known = parameters.len() <= LINK_PARAMETERS_BYTES_MAX && parameters.iter().all(simple);
    if known && address.is_empty() {
        return Verdict::Show;
    }
    let web = [&b"https://"[..], b"http://"].iter().any(|scheme| address.starts_with(scheme));
    let fits = address.len() <= ADDRESS_BYTES_MAX && address.iter().all(u8::is_ascii_graphic);
    if rules.links && known && web && fits { Verdict::Show } else { Verdict::EndLink }
}

/// A text, or ConEmu's progress (`4;state;percent`). Its other commands begin with a number as well.
fn is_notification(rest: &[u8]) -> bool {
    let command = rest.iter().position(|byte| *byte == b';').map(|end| &rest[..end]);
    let numbered = command.is_some_and(|command| command.iter().all(u8::is_ascii_digit));
    match numbered {
        true => rest.starts_with(b"4;") && rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b';'),
        false => is_plain(rest, NOTIFICATION_BYTES_MAX),
    }
}

/// `selections;base64`. A `?` would have the terminal type the clipboard's contents.
fn is_clipboard_write(rest: &[u8]) -> bool {
    let Some(end) = rest.iter().position(|byte| *byte == b';') else { return false };
    let (selections, data) = (&rest[..end], &rest[end + 1..]);
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    selections.iter().all(|byte| b"cpqs01234567".contains(byte)) && data.iter().all(base64)
}

fn is_palette_question(rest: &[u8]) -> bool {
    let number = rest.strip_suffix(b";?").unwrap_or_default();
    !number.is_empty() && number.len() <= 3 && number.iter().all(u8::is_ascii_digit)
}

/// Text that holds no control of either set.
fn is_plain(text: &[u8], bytes_max: usize) -> bool {
    text.len() <= bytes_max && std::str::from_utf8(text).is_ok_and(|text| !text.chars().any(char::is_control))
}
