//! Telling the user's desktop that a question waits: a call of `Notify` on their own message bus (D-Bus specification; desktop
//! notifications specification 1.2). It is never waited for, and what it says names a host and nothing that is sent there.

use crate::model::printable;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Most bytes that are read and thrown away of what the bus says.
const UNREAD_BYTES_MAX: usize = 64 * 1024;
/// Longest text that is told, in characters.
const TEXT_CHARACTERS_MAX: usize = 200;
/// A method call (D-Bus specification, "Message Protocol"), and the flag of one that wants no answer.
const METHOD_CALL: u8 = 1;
const NO_REPLY_EXPECTED: u8 = 1;
/// How messages are called in which little ends come first, and their protocol's version.
const LITTLE: u8 = b'l';
const VERSION: u8 = 1;

/// The user's message bus, where there is one.
#[derive(Debug)]
pub(super) struct Desktop {
    address: Option<SocketAddrUnix>,
    connection: Option<OwnedFd>,
    serial: u32,
}

impl Desktop {
    /// The bus that the environment names: `$DBUS_SESSION_BUS_ADDRESS`, else `$XDG_RUNTIME_DIR/bus`.
    pub(super) fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let own = || SocketAddrUnix::new(Path::new(&variable("XDG_RUNTIME_DIR")?).join("bus")).ok();
        let address = match variable("DBUS_SESSION_BUS_ADDRESS") {
            Some(named) => address(&named),
            None => own(),
        };
        Self { address, connection: None, serial: 0 }
    }

    /// No desktop.
    pub(super) fn none() -> Self {
        Self { address: None, connection: None, serial: 0 }
    }

    /// Tells something, if there is somebody to tell. What fails is not tried again: the question stands elsewhere, too.
    pub(super) fn notify(&mut self, summary: &str, text: &str) {
        let Some(address) = &self.address else { return };
        let mut bytes = Vec::new();
        if self.connection.as_ref().is_none_or(|connection| !is_open(connection)) {
            let Ok(connection) = reach(address) else { return };
            self.connection = Some(connection);
            self.serial = 1;
            bytes.extend(hello());
        }
        self.serial = self.serial.wrapping_add(1).max(2);
        bytes.extend(notification(self.serial, summary, text));
        let sent = self.connection.as_ref().map(|connection| rustix::io::write(connection, &bytes));
        // Half a message would make nonsense of the next.
        if sent != Some(Ok(bytes.len())) {
            self.connection = None;
        }
    }
}

fn reach(address: &SocketAddrUnix) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, address)?;
    Ok(socket)
}

/// Throws away what the bus said; whether it is still there.
fn is_open(connection: &OwnedFd) -> bool {
    let mut chunk = [0; 4096];
    for _ in 0..UNREAD_BYTES_MAX / chunk.len() {
        match rustix::io::read(connection, &mut chunk) {
            Ok(0) => return false,
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return error == Errno::AGAIN,
        }
    }
    false
}

/// The first address of a list that is a socket's (D-Bus specification, "Server Addresses").
fn address(text: &str) -> Option<SocketAddrUnix> {
    text.split(';').find_map(|one| {
        let pairs = one.strip_prefix("unix:")?;
        pairs.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", path) => SocketAddrUnix::new(unescaped(path)?).ok(),
            ("abstract", name) => SocketAddrUnix::new_abstract_name(&unescaped(name)?).ok(),
            _ => None,
        })
    })
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        (bytes, rest) = match (byte, after) {
            (b'%', [high, low, more @ ..]) => {
                let code = std::str::from_utf8(&[*high, *low]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok())?;
                ([bytes, vec![code]].concat(), more)
            }
            _ => ([bytes, vec![*byte]].concat(), after),
        };
    }
    Some(bytes)
}

/// Who we are, which the kernel confirms, and the call that makes us a member of the bus. A bus reads all of it at once.
fn hello() -> Vec<u8> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
    let mut bytes = format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").into_bytes();
    let call = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"];
    bytes.extend(message(1, 0, call, "", &Wire::default()));
    bytes
}

fn notification(serial: u32, summary: &str, text: &str) -> Vec<u8> {
    let shown = |text: &str| -> String { printable(text).chars().take(TEXT_CHARACTERS_MAX).collect() };
    // Some desktops read the text as a little HTML.
    let text = shown(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut body = Wire::default();
    body.string("omni").number(0).string("").string(&shown(summary)).string(&text);
    // No actions and no hints: an empty array of structures is aligned as they would be.
    body.number(0).number(0).align(8).number(u32::MAX);
    let name = "org.freedesktop.Notifications";
    let call = [name, "/org/freedesktop/Notifications", name, "Notify"];
    message(serial, NO_REPLY_EXPECTED, call, "susssasa{sv}i", &body)
}

/// A method call: to whom, at which object, of which interface, which.
fn message(serial: u32, flags: u8, call: [&str; 4], signature: &str, body: &Wire) -> Vec<u8> {
    let [destination, path, interface, member] = call;
    let mut fields = Wire::default();
    for (code, kind, value) in [(1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", destination)] {
        fields.align(8).byte(code).signature(kind).string(value);
    }
    if !signature.is_empty() {
        fields.align(8).byte(8).signature("g").signature(signature);
    }
    let mut whole = Wire::default();
    whole.byte(LITTLE).byte(METHOD_CALL).byte(flags).byte(VERSION);
    whole.number(length(&body.0)).number(serial).number(length(&fields.0));
    whole.0.extend(&fields.0);
    whole.align(8);
    whole.0.extend(&body.0);
    whole.0
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Values as they are on the wire, each at a multiple of its own size.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Wire {
    fn align(&mut self, to: usize) -> &mut Self {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
        self
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn number(&mut self, number: u32) -> &mut Self {
        self.align(4).0.extend(number.to_le_bytes());
        self
    }

    fn string(&mut self, text: &str) -> &mut Self {
        self.number(length(text.as_bytes())).0.extend(text.as_bytes());
        self.byte(0)
    }

    fn signature(&mut self, text: &str) -> &mut Self {
        self.byte(u8::try_from(text.len()).unwrap_or(u8::MAX)).0.extend(text.as_bytes());
        self.byte(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_is_found_by_its_address() {
        let path = |path: &str| SocketAddrUnix::new(path).ok();
        assert_eq!(address("unix:path=/run/user/1000/bus,guid=00"), path("/run/user/1000/bus"));
        assert_eq!(address("tcp:host=x;unix:guid=0,path=/a%20b"), path("/a b"));
        assert_eq!(address("unix:abstract=/tmp/x"), SocketAddrUnix::new_abstract_name(b"/tmp/x").ok());
        assert_eq!((address("unix:tmpdir=/tmp"), address("unix:path=%zz"), address("")), (None, None, None));
    }
}
