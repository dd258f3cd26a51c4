//! What the two sides of a sandbox say to each other: one message a datagram, descriptors beside it.

use crate::model::{ExitStatus, FileAct};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Largest message: a failed step is told by its own words, in which many paths may stand.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most descriptors beside one message.
pub(super) const DESCRIPTORS_MAX: usize = 32;

/// What the supervisor tells the process inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The id maps are written.
    Mapped,
    /// Places of the host, opened by root outside, come with it.
    Trees,
    /// The merged certificate bundle can be read from the shared descriptor.
    BundleReady,
    /// Start the harness.
    Go,
    /// Send this signal to the harness's process group.
    Signal(i32),
    /// The harness was stopped by its terminal and shall go on in the foreground.
    Continue,
    /// Go on when the process that started this one ends: another supervises from then on.
    Outlive,
}

/// What the process inside tells the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// Everything before the start is built; the listeners (and the terminal's master) come with it.
    Built {
        /// Whether one of them is for programs that want an SSH agent.
        ssh: bool,
    },
    /// A step failed; nothing was started.
    Failed {
        /// The step, as `--dry-run` prints it.
        step: String,
        /// The system's error.
        error: String,
    },
    /// The filter is loaded, and the listener for what it asks about comes with this.
    Listening,
    /// The program could not be executed: the error's number.
    NotExecuted(i32),
    /// The harness was stopped by its terminal (Ctrl-Z).
    Stopped,
    /// The sandbox ends with the wire alone, no more with the process that started it.
    Outlives,
    /// The write gate refused something.
    FileRefused {
        /// What was tried.
        act: FileAct,
        /// On which path.
        path: String,
        /// The protected name that it would have changed.
        rule: String,
    },
    /// So many more refusals were not told one by one.
    FileRefusalsUntold(u64),
    /// The harness ended; everything it left behind dies next.
    Exited(ExitStatus),
}

/// Sends one message, with descriptors.
///
/// # Errors
/// The call's error; EPIPE when the other side is gone.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_with(socket, message, descriptors, SendFlags::NOSIGNAL)
}

/// Sends one message if that needs no waiting; false where it would.
///
/// # Errors
/// As [`send`].
pub fn offer(socket: BorrowedFd<'_>, message: &impl Serialize) -> io::Result<bool> {
    match send_with(socket, message, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        other => other.map(|()| true),
    }
}

fn send_with(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message too long for the wire"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for the wire"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags)?;
    Ok(())
}

/// Waits for one message; `None` when the other side is gone.
///
/// # Errors
/// The call's error, or a message that is none.
pub fn receive<M: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0u8; length_of_next(socket)?.min(MESSAGE_BYTES_MAX)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = insisting(|| {
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    let message = serde_json::from_slice(&bytes[..received.bytes])?;
    Ok(Some((message, descriptors)))
}

/// Waits for one message, and says how long it is: memory for the longest would be cleared, page by page, for each.
fn length_of_next(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let (_, whole) = insisting(|| rustix::net::recv(socket, &mut [0u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC))?;
    Ok(whole)
}

/// Calls again where the call was interrupted, or the other side ended with something unread. The kernel says so once, ahead of
/// what it said before it ended, which may be why.
fn insisting<T>(mut receive: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match receive() {
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    #[test]
    fn the_last_word_arrives_from_a_side_that_ended_without_reading_ours() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let last = Notice::Failed { step: "capture".to_owned(), error: "refused".to_owned() };
        send(ours.as_fd(), &Order::BundleReady, &[]).unwrap();
        send(theirs.as_fd(), &last, &[]).unwrap();
        drop(theirs);
        assert_eq!(receive(ours.as_fd()).unwrap().map(|(notice, _)| notice), Some(last));
        assert!(receive::<Notice>(ours.as_fd()).unwrap().is_none());
    }
}
