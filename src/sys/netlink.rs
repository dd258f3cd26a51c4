//! Netlink messages (netlink(7)): the wire form that routes and packet filters are set up with.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use std::io;
use std::os::fd::OwnedFd;

/// Bytes of a message header (`struct nlmsghdr`).
const HEADER_BYTES: usize = 16;
/// Bytes of an attribute header (`struct nlattr`).
const ATTRIBUTE_BYTES: usize = 4;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 1 << 15;
/// Largest answer read at once.
const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// The message type of an acknowledgement or error (`NLMSG_ERROR`).
const TYPE_ERROR: u16 = 2;

/// A socket to one of the kernel's netlink families.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

/// Attributes in a row, as they stand in a message or in another attribute.
#[derive(Clone, Debug, Default)]
pub struct Attributes(Vec<u8>);

/// One message: a type, flags, the family's fixed header, attributes.
#[derive(Clone, Debug)]
pub struct NetlinkMessage {
    /// The message type.
    pub kind: u16,
    /// `NLM_F_*` flags.
    pub flags: u16,
    /// The family's own fixed header followed by the attributes.
    pub body: Vec<u8>,
}

impl Attributes {
    /// Adds an attribute with these bytes.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_BYTES + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a number in network byte order, as nftables wants it.
    #[must_use]
    pub fn with_be32(self, kind: u16, value: u32) -> Self {
        self.with(kind, &value.to_be_bytes())
    }

    /// Adds a null-terminated string.
    #[must_use]
    pub fn with_text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.with(kind, &bytes)
    }

    /// Adds an attribute that holds attributes.
    #[must_use]
    pub fn with_nested(self, kind: u16, inner: &Self) -> Self {
        self.with(kind | NESTED, &inner.0)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl NetlinkMessage {
    fn encode(&self, sequence: u32, into: &mut Vec<u8>) {
        let length = u32::try_from(HEADER_BYTES + self.body.len()).unwrap_or(u32::MAX);
        into.extend_from_slice(&length.to_ne_bytes());
        into.extend_from_slice(&self.kind.to_ne_bytes());
        into.extend_from_slice(&self.flags.to_ne_bytes());
        into.extend_from_slice(&sequence.to_ne_bytes());
        into.extend_from_slice(&0u32.to_ne_bytes());
        into.extend_from_slice(&self.body);
        into.resize(into.len().next_multiple_of(4), 0);
    }
}

impl Netlink {
    /// A socket for links, addresses and routes (rtnetlink(7)).
    ///
    /// # Errors
    /// The call's error.
    pub fn route() -> io::Result<Self> {
        Self::open(None)
    }

    /// A socket for packet filters.
    ///
    /// # Errors
    /// EPROTONOSUPPORT where the kernel has none.
    pub fn netfilter() -> io::Result<Self> {
        Self::open(Some(netlink::NETFILTER))
    }

    fn open(protocol: Option<rustix::net::Protocol>) -> io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        Ok(Self(socket))
    }

    /// Sends all messages in one write and waits until the kernel acknowledged each that asked for it with `NLM_F_ACK`.
    ///
    /// # Errors
    /// The first error that the kernel answered.
    pub fn request(&self, messages: &[NetlinkMessage]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(4096);
        for (sequence, message) in (1u32..).zip(messages) {
            message.encode(sequence, &mut bytes);
        }
        rustix::net::send(&self.0, &bytes, SendFlags::empty())?;
        let wants_answer = |message: &&NetlinkMessage| message.flags & libc::NLM_F_ACK as u16 != 0;
        let mut expected = messages.iter().filter(wants_answer).count();
        let mut answer = vec![0u8; ANSWER_BYTES_MAX];
        while expected > 0 {
            let (filled, _) = rustix::net::recv(&self.0, &mut answer, RecvFlags::empty())?;
            expected = expected.saturating_sub(acknowledgements(&answer[..filled])?);
        }
        Ok(())
    }
}

/// Counts the acknowledgements in an answer; an error in it is an error.
fn acknowledgements(answer: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    let mut rest = answer;
    while let Some((head, body)) = rest.split_at_checked(HEADER_BYTES) {
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let kind = u16::from_ne_bytes([head[4], head[5]]);
        if kind == TYPE_ERROR && body.len() >= 4 {
            match i32::from_ne_bytes([body[0], body[1], body[2], body[3]]) {
                0 => count += 1,
                error => return Err(io::Error::from_raw_os_error(-error)),
            }
        }
        let step = length.next_multiple_of(4).max(HEADER_BYTES);
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(count)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_to_four_bytes() {
        let attributes = Attributes::default().with(1, b"abc").with_be32(2, 7);
        assert_eq!(attributes.bytes(), [7, 0, 1, 0, b'a', b'b', b'c', 0, 8, 0, 2, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn an_error_in_an_answer_is_an_error() {
        let mut answer = Vec::new();
        NetlinkMessage { kind: TYPE_ERROR, flags: 0, body: (-libc::EPERM).to_ne_bytes().to_vec() }
            .encode(1, &mut answer);
        assert_eq!(acknowledgements(&answer).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_short_answer_is_no_panic() {
        for length in 0..HEADER_BYTES + 4 {
            let _ = acknowledgements(&vec![2; length]);
        }
    }
}
