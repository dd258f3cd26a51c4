//! Connections to the sandbox's own ports, from outside: a process of omni's enters the sandbox's network, makes sockets
//! there, and hands them out. A socket stays in the network that it was made in.
//!
//! It is made where ports are published, and dials those and no others. Inside it is not to be seen, signalled or traced:
//! it is in the host's process namespace.

use super::apply::become_user;
use super::lockdown::confine_proxy;
use super::plan::Identity;
use crate::sys;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What stands for IPv6 in a question; anything else is IPv4.
const BY_IPV6: u8 = 6;

/// This process, in the sandbox's network.
#[derive(Debug)]
pub struct PortDialer<'a> {
    /// Whoever asks.
    line: BorrowedFd<'a>,
    ports: &'a [u16],
}

impl<'a> PortDialer<'a> {
    /// Enters the network of the sandbox whose process 1 is `init`, and gives everything up but making connections. The
    /// calling process has one thread, and goes no further after an error.
    ///
    /// # Errors
    /// The call's error.
    pub fn enter(
        init: BorrowedFd<'_>,
        identity: &Identity,
        line: BorrowedFd<'a>,
        ports: &'a [u16],
    ) -> io::Result<Self> {
        sys::set_file_size_of_core(0)?;
        move_into_thread_name_spaces(init, ThreadNameSpaceType::USER | ThreadNameSpaceType::NETWORK)?;
        become_user(identity)?;
        sys::close_inherited_except(&[line])?;
        confine_proxy()?;
        Ok(Self { line, ports })
    }

    /// Answers until nobody asks any more. A question is two bytes: which of the ports, and the family. The answer has a
    /// socket beside it that is connecting, or is the number of the error.
    ///
    /// # Errors
    /// The error of the line.
    pub fn answer(&self) -> io::Result<()> {
        let mut question = [0; 2];
        loop {
            match rustix::net::recv(self.line, &mut question, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Ok((2, _)) => self.say(self.dial(question))?,
                other => return other.map(drop).map_err(Into::into),
            }
        }
    }

    fn dial(&self, [index, family]: [u8; 2]) -> Result<OwnedFd, Errno> {
        let port = *self.ports.get(usize::from(index)).ok_or(Errno::INVAL)?;
        let (domain, target) = match family {
            BY_IPV6 => (AddressFamily::INET6, SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port)),
            _ => (AddressFamily::INET, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(domain, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &target) {
            // Whoever gets it waits for it, so that nobody here waits for one while another is asked for.
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    fn say(&self, dialled: Result<OwnedFd, Errno>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let word = match &dialled {
            Ok(_) => 0,
            Err(error) => error.raw_os_error(),
        };
        let sockets = dialled.as_ref().map(AsFd::as_fd).into_iter().collect::<Vec<_>>();
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        rustix::net::sendmsg(self.line, &[IoSlice::new(&word.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}
