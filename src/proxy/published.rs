//! Connections from the host to published ports of the sandbox: accepted outside, connected inside, bytes both ways, counted.
//!
//! What goes this way is not read and not judged: whoever started the session opened it, and whoever connects to it speaks
//! with the harness. The record has every connection.

use super::Shared;
use super::opaque::{Broken, both_ways};
use crate::model::{BodyEnd, Event, Port};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// Connections to published ports at the same time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long the sandbox's side may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after the system refused to give a connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The families in which a port is tried inside, as whoever dials there is asked for them.
const FAMILIES: [u8; 2] = [4, 6];

/// The ports of the sandbox that are published, and whoever reaches them.
#[derive(Debug)]
pub struct PublishedPorts {
    /// Where each is listened for outside, with the port inside; in the order in which the dialer knows them.
    pub listeners: Vec<(std::net::TcpListener, Port)>,
    /// Whoever makes connections inside. Asked by two bytes, the place of a port in the list and 4 or 6 for the family, it
    /// answers with the number of an error, or with 0 and a socket that is connecting. Each is one datagram.
    pub dialer: OwnedFd,
}

/// Listeners to accept on, each with the port inside.
type Opened = Vec<(TcpListener, Port)>;

/// Serves them.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    dialer: Mutex<UnixStream>,
    room: Arc<Semaphore>,
    count: AtomicU64,
}

impl Publisher {
    /// Begins with each listener; what comes back is to be accepted on.
    pub(super) fn open(shared: Arc<Shared>, ports: PublishedPorts) -> io::Result<(Arc<Self>, Opened)> {
        let dialer = std::os::unix::net::UnixStream::from(ports.dialer);
        dialer.set_nonblocking(true)?;
        let dialer = Mutex::new(UnixStream::from_std(dialer)?);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let opened = ports.listeners.into_iter().map(|(listener, port)| {
            listener.set_nonblocking(true)?;
            Ok((TcpListener::from_std(listener)?, port))
        });
        let listeners = opened.collect::<io::Result<_>>()?;
        Ok((Arc::new(Self { shared, dialer, room, count: AtomicU64::new(0) }), listeners))
    }

    /// Accepts connections for the port in this place, for ever.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener, place: u8, port: Port) {
        loop {
            let Ok(permit) = self.room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok(_) if !self.shared.quiet.begin() => return,
                Ok((stream, from)) => drop(tokio::spawn(self.clone().serve(stream, from, place, port, permit))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        from: SocketAddr,
        place: u8,
        port: Port,
        _permit: OwnedSemaphorePermit,
    ) {
        let clerk = self.shared.books.clerk.clone();
        let connection = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if clerk.record(Event::PublishedPortEntered { connection, port, from }).await.is_err() {
            return;
        }
        // Dropping it tells its end, also where the runtime ends first.
        let mut entered = Entered { shared: self.shared.clone(), connection, tally: Tally::default(), end: None };
        let _ = stream.set_nodelay(true);
        entered.end = match self.shared.unless_drained(self.connect(place)).await {
            None => None,
            Some(Err(error)) => Some(Err(format!("nothing took it at port {port} in the sandbox: {error}"))),
            Some(Ok(inside)) => {
                let carried = entered.tally.carry(stream, inside);
                self.shared.unless_drained(carried).await.map(Ok)
            }
        };
    }

    /// A connection to the port inside, in the first family in which there is somebody.
    async fn connect(&self, place: u8) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
        for family in FAMILIES {
            let connecting = async {
                let socket = self.ask([place, family]).await?;
                let stream = TcpStream::from_std(std::net::TcpStream::from(socket))?;
                stream.writable().await?;
                match stream.take_error()? {
                    Some(error) => Err(error),
                    None => Ok(stream),
                }
            };
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    /// Asks for a socket. One question at a time, since answers bear no names.
    async fn ask(&self, question: [u8; 2]) -> io::Result<OwnedFd> {
        let dialer = self.dialer.lock().await;
        let send = || Ok(rustix::net::send(dialer.as_fd(), &question, SendFlags::NOSIGNAL)?);
        dialer.async_io(Interest::WRITABLE, send).await?;
        dialer.async_io(Interest::READABLE, || receive(dialer.as_fd())).await
    }
}

fn receive(dialer: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut word = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(dialer, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let socket = control.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    match (socket, i32::from_ne_bytes(word)) {
        (Some(socket), _) => Ok(socket),
        (None, error) if received.bytes == word.len() => Err(Errno::from_raw_os_error(error).into()),
        (None, _) => Err(io::Error::other("whoever reaches into the sandbox is gone")),
    }
}

/// Bytes that went each way.
#[derive(Default)]
struct Tally {
    into: AtomicU64,
    out: AtomicU64,
}

impl Tally {
    async fn carry(&self, outside: TcpStream, inside: TcpStream) -> BodyEnd {
        let counting = |sum| move |bytes: &[u8]| count(sum, bytes);
        match both_ways(outside, inside, counting(&self.into), counting(&self.out)).await {
            Ok(()) => BodyEnd::Complete,
            Err(Broken::Client) => BodyEnd::ClientGone,
            Err(Broken::Upstream | Broken::Quota | Broken::Rule | Broken::Refused(_)) => BodyEnd::UpstreamBroke,
        }
    }
}

/// Counts bytes, of which any number may pass.
fn count(sum: &AtomicU64, bytes: &[u8]) -> Result<(), Broken> {
    sum.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    Ok(())
}

/// A connection whose end is to be told.
struct Entered {
    shared: Arc<Shared>,
    connection: u64,
    tally: Tally,
    /// How it ended, or why it got nowhere; none where the session ended first.
    end: Option<Result<BodyEnd, String>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let (end, reason) = match self.end.take() {
            None => (BodyEnd::SessionEnded, None),
            Some(Ok(end)) => (end, None),
            Some(Err(reason)) => (BodyEnd::UpstreamBroke, Some(reason)),
        };
        self.shared.books.clerk.record_done(&Event::PublishedPortLeft {
            connection: self.connection,
            bytes_in: self.tally.into.load(Ordering::Relaxed),
            bytes_out: self.tally.out.load(Ordering::Relaxed),
            end,
            reason,
        });
    }
}
