//! Telling the user's desktop that a question waits: a call of `Notify` on their own message bus (D-Bus specification; desktop
//! notifications specification 1.2). It is never waited for, and what it says names a host and nothing that is sent there.

use super::bus::{self, NO_REPLY_EXPECTED, Wire, hello, message};
use crate::model::printable;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::os::fd::OwnedFd;

/// Most bytes that are read and thrown away of what the bus says.
const UNREAD_BYTES_MAX: usize = 64 * 1024;
/// Longest text that is told, in characters.
const TEXT_CHARACTERS_MAX: usize = 200;

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
        Self { address: bus::address_from_env(), connection: None, serial: 0 }
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

pub(super) fn reach(address: &SocketAddrUnix) -> rustix::io::Result<OwnedFd> {
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
