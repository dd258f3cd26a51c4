//! Entries as syslog messages: RFC 5424, framed for a stream by RFC 5425 (octet counting).

use super::{Installation, Record};
use std::fmt::Write as _;

/// Facility 13, log audit (RFC 5424, table 1).
const FACILITY: u32 = 13;
/// Severities (table 2).
const WARNING: u32 = 4;
const INFORMATIONAL: u32 = 6;
/// Most characters of a host's name, a process's and a message's id (section 6).
const HOST_MAX: usize = 255;
const PROCESS_MAX: usize = 128;
const MESSAGE_MAX: usize = 32;
/// The largest `sequenceId`, after which it begins again at 1 (section 7.3.1).
const SEQUENCE_MAX: u64 = 2_147_483_647;

/// One framed message whose text is `json`, in plain ASCII.
///
/// `PROCID` is the session and `MSGID` the event's name; `sequenceId` is the entry's index and one, so that a receiver sees
/// what it misses.
#[must_use]
pub fn syslog_frame(record: &Record, from: &Installation, json: &str) -> Vec<u8> {
    let severity = if record.is_warning() { WARNING } else { INFORMATIONAL };
    let priority = FACILITY * 8 + severity;
    let at = record.at().map_or_else(|| "-".to_owned(), |at| at.to_rfc3339());
    let host = name(&from.host, HOST_MAX);
    let session = record.frame().map_or("-", |frame| frame.session.as_str());
    let (session, kind) = (name(session, PROCESS_MAX), name(record.kind(), MESSAGE_MAX));
    let mut data = format!("[origin software=\"omni\" swVersion=\"{}\"]", parameter(&from.omni_version));
    if let Some(entry) = record.entry {
        // Writing to a string cannot fail.
        let _ = write!(data, "[meta sequenceId=\"{}\"]", entry % SEQUENCE_MAX + 1);
    }
    let message =
        format!("<{priority}>1 {at} {host} omni {session} {kind} {data} {}", ascii(json.trim_end_matches('\n')));
    let mut framed = format!("{} ", message.len()).into_bytes();
    framed.extend(message.into_bytes());
    framed
}

/// What a header's field may hold: visible ASCII, and not nothing.
fn name(text: &str, most: usize) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// A parameter's value, in which three characters are escaped (section 6.3.3).
fn parameter(text: &str) -> String {
    text.chars().fold(String::new(), |mut safe, character| {
        if matches!(character, '"' | '\\' | ']') {
            safe.push('\\');
        }
        safe.push(character);
        safe
    })
}

/// JSON without a character beyond ASCII, so that no receiver has to guess an encoding. Outside of strings it has none.
fn ascii(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            plain.push(character);
        } else {
            let _ = character.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(plain, "\\u{unit:04x}"));
        }
    }
    plain
}
