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
/// How long to wait after an error, so that one that stays does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
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
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        if !shared.quiet.begin() {
            return;
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proxy::dns::tests::question;
    use crate::store::Memory;
    use hickory_proto::op::Message;
    use hickory_proto::rr::RecordType;

    #[tokio::test]
    async fn questions_over_tcp_are_answered_one_after_the_other() {
        let memory = Memory::new();
        let (shared, _end) = Shared::rehearsal(&memory);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let served = tokio::spawn(serve_tcp(shared, stream));
        for (name, last) in [("a.example.", 1), ("b.example.", 2), ("a.example.", 1)] {
            let packet = question(name, RecordType::A);
            client.write_u16(packet.len().try_into().unwrap()).await.unwrap();
            client.write_all(&packet).await.unwrap();
            let reply = Message::from_vec(&read_framed(&mut client).await.unwrap()).unwrap();
            assert_eq!(reply.answers[0].data.ip_addr(), Some(IpAddr::from([198, 18, 0, last])));
        }
        drop(client);
        served.await.unwrap();
        let names: Vec<Event> = memory.events();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_recorded_has_no_address() {
        struct Broken;
        impl crate::store::Recorder for Broken {
            fn record(&mut self, _: crate::model::Timestamp, _: &Event) -> Result<(), crate::store::StoreError> {
                Err(crate::store::StoreError::JournalPoisoned { path: "j".into() })
            }
            fn sync(&mut self) -> Result<(), crate::store::StoreError> {
                Ok(())
            }
        }
        let (mut shared, _end) = Shared::rehearsal(&Memory::new());
        let clerk =
            super::super::record::Clerk::new(Box::new(Broken), None, crate::model::Durability::default()).unwrap();
        let (line, prices) = (super::super::line::Line::new().0, crate::meter::PriceTable::embedded());
        let books = super::super::settle::Books::ungoverned(Arc::new(clerk), prices, line);
        Arc::get_mut(&mut shared).unwrap().books = Arc::new(books);
        let reply = answer(&shared, &question("a.example.", RecordType::A)).await.unwrap();
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, hickory_proto::op::ResponseCode::ServFail);
    }
}
