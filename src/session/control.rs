//! How a running session is spoken to: a socket in its directory (unix(7), SOCK_SEQPACKET), one message a packet.
//!
//! The sandbox has no way to it: no directory of omni's is ever shown inside. Outside, the session's user and root alone
//! are heard.

use crate::model::{ExitStatus, SessionId};
use crate::store::Home;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The socket's name in the session's directory.
const NAME: &str = "control";
/// Connections that may wait to be looked at.
const WAITING_MAX: i32 = 16;
/// Most bytes of output or keys in one packet.
pub(super) const PIECE_BYTES_MAX: usize = 16 * 1024;
/// What a packet of bytes begins with; messages are JSON, which never does.
const BYTES: u8 = b'=';

/// What a person's omni says to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Said {
    /// Show me the terminal, which mine is so large.
    Attach {
        /// Whether keys are not meant to come.
        read_only: bool,
        /// Columns of the terminal to show it on.
        columns: u16,
        /// Its rows.
        rows: u16,
    },
    /// My terminal has another size now.
    Resize {
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// End.
    Stop {
        /// What the harness gets between the polite signal and the end, in milliseconds.
        grace_ms: u64,
    },
    /// This is a person's answer to a question.
    Answer {
        /// The question's number.
        question: u64,
        /// The answer, as a word.
        answer: String,
        /// Why, where it is no.
        reason: Option<String>,
        /// In whose name root answers.
        on_behalf_of: Option<String>,
    },
    /// Let this file count in place of the one of its name.
    Replace {
        /// What it is called, as whoever sends it does.
        file: String,
        /// Where it is.
        path: String,
        /// Its text.
        text: String,
    },
    /// Let this rule count from now on.
    Amend {
        /// Its effect, as a word.
        effect: String,
        /// Its text.
        rule: String,
        /// In whose name root adds it.
        on_behalf_of: Option<String>,
    },
}

/// What a session says to a person's omni.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Told {
    /// What was asked for is done, or under way.
    Accepted,
    /// It is not, for this reason.
    Refused(String),
    /// The harness ended like this; none when it had to be ended.
    Ended(Option<ExitStatus>),
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet<M> {
    /// Output, or keys.
    Bytes(Vec<u8>),
    /// A message.
    Message(M),
}

/// A session's own end of it. Dropping it takes the socket away.
#[derive(Debug)]
pub(super) struct Listener {
    pub socket: OwnedFd,
    directory: OwnedFd,
}

impl Listener {
    /// Makes the socket.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let directory = open_directory(directory)?;
        let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = rustix::net::bind(&socket, &address(&directory)?);
        rustix::process::umask(before);
        bound?;
        rustix::net::listen(&socket, WAITING_MAX)?;
        Ok(Self { socket, directory })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // What is left over is refused by the kernel, and goes with the session's directory.
        let _ = rustix::fs::unlinkat(&self.directory, NAME, AtFlags::empty());
    }
}

/// Reaches a running session.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when it does not run.
pub(super) fn connect(home: &Home, session: &SessionId) -> io::Result<OwnedFd> {
    let directory = open_directory(&home.session(session))?;
    let socket = new_socket(SocketFlags::CLOEXEC)?;
    rustix::net::connect(&socket, &address(&directory)?)?;
    Ok(socket)
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// By way of an open directory, since an address has room for 107 bytes, and paths do not stop there.
fn address(directory: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd()))?)
}

/// Sends bytes, at most [`PIECE_BYTES_MAX`].
///
/// # Errors
/// EAGAIN where the socket does not wait and has no room.
pub(super) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8]) -> rustix::io::Result<()> {
    let mut packet = Vec::with_capacity(bytes.len() + 1);
    packet.push(BYTES);
    packet.extend_from_slice(bytes);
    rustix::net::send(socket, &packet, SendFlags::NOSIGNAL).map(drop)
}

/// Sends a message.
///
/// # Errors
/// As [`send_bytes`].
pub(super) fn send(socket: BorrowedFd<'_>, message: &impl Serialize) -> io::Result<()> {
    let packet = serde_json::to_vec(message)?;
    rustix::net::send(socket, &packet, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a packet; none when the other side is gone.
///
/// # Errors
/// `WouldBlock` where the socket does not wait and nothing came; `InvalidData` for what is neither bytes nor a message.
pub(super) fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<Packet<M>>> {
    let mut packet = vec![0; PIECE_BYTES_MAX + 1];
    let (count, whole) = loop {
        match rustix::net::recv(socket, &mut packet, RecvFlags::TRUNC) {
            // The other side ended with something unread, which the kernel says once, ahead of what was said before.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    if whole > count {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    match &packet[..count] {
        [] => Ok(None),
        [BYTES, bytes @ ..] => Ok(Some(Packet::Bytes(bytes.to_vec()))),
        message => Ok(Some(Packet::Message(serde_json::from_slice(message)?))),
    }
}
