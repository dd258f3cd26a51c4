//! Connections that are handed over one by one, from a sandbox that has no network of its own: somebody outside of it made
//! each to the gateway in the harness's stead.

use super::Shared;
use super::explicit;
use crate::model::RefusalKind;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

/// Longest word beside or instead of a connection: an address with its port.
const WORD_BYTES_MAX: usize = 64;

/// Where they come from.
pub(super) struct Lane(UnixStream);

/// One datagram of the lane.
enum Handed {
    Connection(std::net::TcpStream),
    Refused(String),
    End,
}

impl Lane {
    /// Takes over the receiving end.
    pub(super) fn open(lane: OwnedFd) -> io::Result<Self> {
        let lane = std::os::unix::net::UnixStream::from(lane);
        lane.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(lane)?))
    }

    async fn next(&self) -> io::Result<Handed> {
        self.0.async_io(Interest::READABLE, || receive(self.0.as_fd())).await
    }
}

fn receive(lane: BorrowedFd<'_>) -> io::Result<Handed> {
    let mut word = [0; WORD_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut word)];
    let received = rustix::net::recvmsg(lane, slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Ok(match rights {
        Some(connection) => Handed::Connection(connection.into()),
        None if received.bytes == 0 => Handed::End,
        None => Handed::Refused(String::from_utf8_lossy(&word[..received.bytes]).into_owned()),
    })
}

/// Serves what is handed over, until nobody is left who could, or the session is over and nothing more waits here: what was
/// refused at the very end is told too.
pub(super) async fn take(shared: Arc<Shared>, lane: Lane, room: Arc<Semaphore>) {
    loop {
        let next = tokio::select! {
            biased;
            next = lane.next() => next,
            () = shared.drained() => return,
        };
        match next {
            _ if !shared.quiet.begin() => return,
            Ok(Handed::Connection(connection)) => serve(&shared, connection, &room).await,
            Ok(Handed::Refused(target)) => {
                let reason = "nothing but the proxy can be connected to without a network namespace: heed HTTP_PROXY";
                shared.refuse(RefusalKind::Protocol, target, reason.to_owned()).await;
            }
            Ok(Handed::End) | Err(_) => return,
        }
    }
}

async fn serve(shared: &Arc<Shared>, connection: std::net::TcpStream, room: &Arc<Semaphore>) {
    let stream = connection.set_nonblocking(true).and_then(|()| TcpStream::from_std(connection));
    // A connection that is broken already is nobody's.
    let Ok(stream) = stream else { return };
    // Without this, small writes wait for acknowledgements. A socket that refuses it still works.
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    match room.clone().try_acquire_owned() {
        Ok(permit) => drop(tokio::spawn(explicit::connection(shared.clone(), stream, local, Arc::new(permit)))),
        Err(_) => {
            let reason = "the session has as many connections as it may".to_owned();
            shared.refuse(RefusalKind::Limit, local.to_string(), reason).await;
        }
    }
}
