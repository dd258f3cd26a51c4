//! The user's own message bus, as far as omni speaks to it (D-Bus specification).

use crate::model::percent_decode;
use rustix::net::SocketAddrUnix;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use zeroize::Zeroizing;

/// Kinds of messages (D-Bus specification, "Message Protocol"), and the flag of a call that wants no answer.
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
pub(super) const NO_REPLY_EXPECTED: u8 = 1;
/// How messages are called in which little ends come first, and their protocol's version.
const LITTLE: u8 = b'l';
const VERSION: u8 = 1;
/// Fields of a head: the name of an error, and to which call an answer is.
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
/// Bytes of the fixed part of a head.
const HEAD_BYTES: usize = 16;
/// Longest message that is read.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most messages that are passed over before the answer to a call comes.
const PASSED_OVER_MAX: usize = 64;
/// Longest line in which a bus says who it is.
const LINE_BYTES_MAX: usize = 256;
/// Room for what omni says at a time.
const WIRE_BYTES: usize = 1024;
/// How long a bus, and who is called on it, may take for one answer. Something may have to be started for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the bus that the environment names listens: `$DBUS_SESSION_BUS_ADDRESS`, else `$XDG_RUNTIME_DIR/bus`.
pub(super) fn address_from_env() -> Option<SocketAddrUnix> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match variable("DBUS_SESSION_BUS_ADDRESS") {
        Some(named) => address(&named),
        None => SocketAddrUnix::new(Path::new(&variable("XDG_RUNTIME_DIR")?).join("bus")).ok(),
    }
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
    let mut bytes = Vec::with_capacity(text.len());
    percent_decode(text.as_bytes(), &mut bytes).map(|()| bytes)
}

/// Who we are, which the kernel confirms, and the call that makes us a member of the bus. A bus reads all of it at once.
pub(super) fn hello() -> Vec<u8> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let hex: String = uid.bytes().map(|digit| format!("{digit:02x}")).collect();
    let mut bytes = format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").into_bytes();
    let call = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"];
    bytes.extend(message(1, 0, call, "", &Wire::default()));
    bytes
}

/// A connection to the bus on which calls are answered.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
}

impl Bus {
    /// Becomes a member of the user's bus.
    pub(super) fn join() -> io::Result<Self> {
        let address =
            address_from_env().ok_or_else(|| io::Error::other("there is no message bus of a desktop here"))?;
        let stream = super::desktop::reach(&address)?;
        let stream = UnixStream::from(stream);
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut bus = Self { stream, serial: 1 };
        bus.stream.write_all(&hello())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\n") && line.len() < LINE_BYTES_MAX {
            let mut byte = [0];
            bus.stream.read_exact(&mut byte)?;
            line.extend(byte);
        }
        if !line.starts_with(b"OK ") {
            return Err(io::Error::other("the message bus does not let this user in"));
        }
        bus.answer(1)?;
        Ok(bus)
    }

    /// Calls a method, and gives what it answers.
    pub(super) fn call(&mut self, call: [&str; 4], signature: &str, body: &Wire) -> io::Result<Answer> {
        self.serial += 1;
        let bytes = Zeroizing::new(message(self.serial, 0, call, signature, body));
        self.stream.write_all(&bytes)?;
        self.answer(self.serial)
    }

    fn answer(&mut self, serial: u32) -> io::Result<Answer> {
        for _ in 0..PASSED_OVER_MAX {
            let mut whole = Answer { bytes: Zeroizing::new(vec![0; HEAD_BYTES]), at: 0 };
            self.stream.read_exact(&mut whole.bytes)?;
            let broken = || io::Error::other("the message bus speaks otherwise than it is understood here");
            let kind = whole.bytes[1];
            let number =
                |at: usize| whole.bytes[at..at + 4].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            let (body, fields) = (number(4), number(12));
            let begin = (HEAD_BYTES + fields.min(MESSAGE_BYTES_MAX)).next_multiple_of(8);
            if whole.bytes[0] != LITTLE || fields > MESSAGE_BYTES_MAX || body > MESSAGE_BYTES_MAX {
                return Err(broken());
            }
            // In room of its own at once: what grew would leave a copy of a secret behind.
            let mut bytes = Zeroizing::new(vec![0; begin + body]);
            bytes[..HEAD_BYTES].copy_from_slice(&whole.bytes);
            self.stream.read_exact(&mut bytes[HEAD_BYTES..])?;
            whole = Answer { bytes, at: HEAD_BYTES };
            let (name, to) = whole.fields(HEAD_BYTES + fields).ok_or_else(broken)?;
            whole.at = begin;
            match kind {
                METHOD_RETURN if to == serial => return Ok(whole),
                ERROR if to == serial => {
                    let said = whole.string().unwrap_or_default();
                    return Err(io::Error::other(format!("{name}: {}", crate::model::printable(&said))));
                }
                _ => {}
            }
        }
        Err(io::Error::other("the message bus says too much else"))
    }
}

/// What a method answered.
pub(super) struct Answer {
    bytes: Zeroizing<Vec<u8>>,
    at: usize,
}

impl Answer {
    /// The name of an error, and the call that it is the answer to.
    fn fields(&mut self, end: usize) -> Option<(String, u32)> {
        let (mut name, mut to) = (String::new(), 0);
        while self.at < end {
            self.align(8)?;
            let (code, kind) = (self.byte()?, self.signature()?);
            match (code, kind.as_str()) {
                (ERROR_NAME, "s") => name = self.string()?,
                (REPLY_SERIAL, "u") => to = self.number()?,
                (_, "s" | "o") => drop(self.string()?),
                (_, "g") => drop(self.signature()?),
                (_, "u") => drop(self.number()?),
                _ => return None,
            }
        }
        Some((name, to))
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.next_multiple_of(to);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let begin = self.at;
        self.at = begin.checked_add(count)?;
        self.bytes.get(begin..self.at)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A number of four bytes.
    pub(super) fn number(&mut self) -> Option<u32> {
        self.align(4)?;
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A text, or the path of an object.
    pub(super) fn string(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.byte()?;
        Some(text)
    }

    /// The types of what follows.
    pub(super) fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        self.byte()?;
        Some(text)
    }

    /// Bytes.
    pub(super) fn bytes(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let length = self.number()? as usize;
        self.take(length).map(|bytes| Zeroizing::new(bytes.to_vec()))
    }

    /// Texts, or paths of objects.
    pub(super) fn strings(&mut self) -> Option<Vec<String>> {
        let end = self.number()? as usize + self.at;
        let mut all = Vec::new();
        while self.at < end {
            all.push(self.string()?);
        }
        Some(all)
    }

    /// The beginning of a structure.
    pub(super) fn structure(&mut self) -> Option<()> {
        self.align(8)
    }
}

/// A method call: to whom, at which object, of which interface, which.
pub(super) fn message(serial: u32, flags: u8, call: [&str; 4], signature: &str, body: &Wire) -> Vec<u8> {
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
    whole.0.extend(fields.0.iter());
    whole.align(8);
    whole.0.extend(body.0.iter());
    std::mem::take(&mut whole.0)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Values as they are on the wire, each at a multiple of its own size. They may be secret, and are wiped.
pub(super) struct Wire(Zeroizing<Vec<u8>>);

impl Default for Wire {
    fn default() -> Self {
        // At once: what grew would leave a copy of a secret behind.
        Self(Zeroizing::new(Vec::with_capacity(WIRE_BYTES)))
    }
}

impl Wire {
    pub(super) fn align(&mut self, to: usize) -> &mut Self {
        let length = self.0.len().next_multiple_of(to);
        self.0.resize(length, 0);
        self
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub(super) fn number(&mut self, number: u32) -> &mut Self {
        self.align(4).0.extend(number.to_le_bytes());
        self
    }

    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        self.number(length(text.as_bytes())).0.extend(text.as_bytes());
        self.byte(0)
    }

    /// Bytes, with their number before them.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(length(bytes)).0.extend(bytes);
        self
    }

    /// Elements that are aligned so, as `fill` writes them.
    pub(super) fn array(&mut self, to: usize, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.number(0);
        let at = self.0.len() - 4;
        self.align(to);
        let begin = self.0.len();
        fill(self);
        let bytes = length(&self.0[begin..]).to_le_bytes();
        self.0[at..at + 4].copy_from_slice(&bytes);
        self
    }

    pub(super) fn signature(&mut self, text: &str) -> &mut Self {
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

    #[test]
    fn an_answer_is_read_whatever_it_is_cut_to() {
        let mut body = Wire::default();
        body.string("a")
            .array(4, |array| {
                array.string("/b").string("/c");
            })
            .bytes(b"d")
            .number(7);
        let bytes = message(9, 0, ["x", "/y", "z", "Do"], "saoayu", &body);
        let begin = bytes.len() - body.0.len();
        for end in 0..=body.0.len() {
            let mut answer = Answer { bytes: Zeroizing::new(body.0[..end].to_vec()), at: 0 };
            let read = (answer.string(), answer.strings(), answer.bytes().map(|bytes| bytes.to_vec()), answer.number());
            let whole = (Some("a".into()), Some(vec!["/b".into(), "/c".into()]), Some(b"d".to_vec()), Some(7));
            assert_eq!(read == whole, end == body.0.len(), "{end}");
        }
        assert_eq!(bytes[begin..], body.0[..]);
        let fields = bytes[12..16].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        assert_eq!((HEAD_BYTES + fields).next_multiple_of(8), begin);
        let mut head = Answer { bytes: Zeroizing::new(bytes), at: HEAD_BYTES };
        assert_eq!(head.fields(HEAD_BYTES + fields), Some((String::new(), 0)));
    }
}
