//! Answering the sandbox's questions for names, over UDP and TCP.

use super::Shared;
use super::dns::{Answer, Asked, Family, Wanted, loopback};
use super::names::Synthetic;
use crate::model::{Event, HostName, RefusalKind};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};

/// Longest question that is read; questions are short.
const QUESTION_BYTES_MAX: usize = 1500;
/// How long a TCP connection may wait for its next question.
const TCP_TIMEOUT: Duration = Duration::from_secs(30);
/// How many questions one TCP connection may ask.
const TCP_QUESTIONS_MAX: usize = 1000;

/// A question as it came, with the address it was sent to, from which the answer must come.
struct Packet {
    bytes: Vec<u8>,
    from: SockaddrStorage,
    asked_at: Option<libc::in6_pktinfo>,
}

/// Answers questions on one socket, for ever.
pub(super) async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) {
    loop {
        let packet = match socket.async_io(Interest::READABLE, || receive(&socket)).await {
            Ok(packet) => packet,
            // An error here belongs to an earlier answer, such as one whose asker is gone.
            Err(_) => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        if let Some(reply) = answer(&shared, &packet.bytes).await {
            // An answer that cannot be sent is asked for again.
            let _ = socket.async_io(Interest::WRITABLE, || send(&socket, &packet, &reply)).await;
        }
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Packet> {
    let mut bytes = vec![0; QUESTION_BYTES_MAX];
    let mut space = nix::cmsg_space!(libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_DONTWAIT)?;
    let asked_at = message.cmsgs()?.find_map(|control| match control {
        // The way in is no concern of the way back.
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(libc::in6_pktinfo { ipi6_ifindex: 0, ..info }),
        _ => None,
    });
    let from = message.address.ok_or(io::ErrorKind::InvalidData)?;
    let length = message.bytes;
    bytes.truncate(length);
    Ok(Packet { bytes, from, asked_at })
}

fn send(socket: &UdpSocket, packet: &Packet, reply: &[u8]) -> io::Result<()> {
    let info = packet.asked_at.as_ref().map(ControlMessage::Ipv6PacketInfo);
    let slices = [IoSlice::new(reply)];
    sendmsg(socket.as_raw_fd(), &slices, info.as_slice(), MsgFlags::MSG_DONTWAIT, Some(&packet.from))?;
    Ok(())
}

/// Answers questions on one TCP connection, each with its length before it (RFC 1035, section 4.2.2).
pub(super) async fn serve_tcp(shared: Arc<Shared>, mut stream: TcpStream) {
    for _ in 0..TCP_QUESTIONS_MAX {
        let question = tokio::time::timeout(TCP_TIMEOUT, read_framed(&mut stream)).await;
        let Ok(Ok(question)) = question else { return };
        let Some(reply) = answer(&shared, &question).await else { return };
        let Ok(length) = u16::try_from(reply.len()) else { return };
        let framed = [&length.to_be_bytes()[..], &reply].concat();
        if stream.write_all(&framed).await.is_err() {
            return;
        }
    }
}

async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The packet that answers a packet, if it is a question at all.
pub(super) async fn answer(shared: &Shared, packet: &[u8]) -> Option<Vec<u8>> {
    let asked = Asked::parse(packet)?;
    let answer = match asked.wanted() {
        Wanted::Address(name, family) => assign(shared, &name, family).await,
        Wanted::Localhost(family) => Answer::Address(loopback(family)),
        Wanted::Nothing => Answer::Empty,
        Wanted::NoSuchName => Answer::NoSuchName,
        Wanted::Invalid(reason) => {
            shared.refuse(RefusalKind::Name, asked.name(), reason).await;
            Answer::NoSuchName
        }
        Wanted::NotImplemented => Answer::NotImplemented,
    };
    asked.reply(answer)
}

async fn assign(shared: &Shared, name: &HostName, family: Family) -> Answer {
    let assigned = shared.names.lock().unwrap_or_else(PoisonError::into_inner).assign(name);
    let Some(Synthetic { v4, v6, fresh }) = assigned else {
        let reason = "the session has asked for more names than one session may".to_owned();
        shared.refuse(RefusalKind::Limit, name.to_string(), reason).await;
        return Answer::Failed;
    };
    let address = match family {
        Family::V4 => IpAddr::V4(v4),
        Family::V6 => IpAddr::V6(v6),
    };
    let resolved = Event::NameResolved { name: name.to_string(), address };
    if fresh && shared.books.clerk.record(resolved).await.is_err() {
        return Answer::Failed;
    }
    Answer::Address(address)
}
