//! The network of the sandbox, as netlink messages: a loopback interface and nothing else, on which every address is
//! local ("AnyIP"), and the listeners that connections are handed to.
//!
//! The listeners are made inside, and their descriptors go out to the proxy: a socket stays in the network it was made
//! in, so nothing has to connect the two networks.

use super::spawn::Listeners;
use crate::sys::{self, Attributes, Netlink, NetlinkMessage};
use rustix::net::{AddressFamily, SocketAddrV4, SocketAddrV6, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};

/// Where the sandbox's resolver and explicit proxy answer; an address that only exists inside.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// As [`GATEWAY_V4`], for IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The sandbox's own address: something other than loopback, so that resolvers think there is a network (RFC 3493,
/// `AI_ADDRCONFIG`).
pub(super) const OWN_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub(super) const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// Where the listeners are bound: addresses nobody else would choose, so that the sandbox's own ports stay free.
pub(super) const LISTENER_V4: Ipv4Addr = Ipv4Addr::new(127, 255, 77, 1);
pub(super) const LISTENER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x77);
pub(super) const LISTENER_PORT: u16 = 15001;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

const LOOPBACK_INDEX: u32 = 1;
pub(super) const CREATE: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE) as u16;
const ACKNOWLEDGED: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;

/// Brings loopback up, gives it the sandbox's addresses, and makes every address local.
pub(super) fn bring_up() -> io::Result<()> {
    Netlink::route()?.request(&[
        link_up(),
        address(libc::AF_INET, 32, &OWN_V4.octets()),
        address(libc::AF_INET6, 128, &OWN_V6.octets()),
        every_address_is_local(libc::AF_INET, &OWN_V4.octets()),
        every_address_is_local(libc::AF_INET6, &OWN_V6.octets()),
    ])
}

/// Makes the sockets that the proxy will accept on.
pub(super) fn listen() -> io::Result<Listeners> {
    let v4 = socket(AddressFamily::INET, SocketType::STREAM)?;
    sys::set_ip_transparent(v4.as_fd())?;
    rustix::net::bind(&v4, &SocketAddrV4::new(LISTENER_V4, LISTENER_PORT))?;
    rustix::net::listen(&v4, BACKLOG)?;

    let v6 = socket(AddressFamily::INET6, SocketType::STREAM)?;
    sockopt::set_ipv6_v6only(&v6, true)?;
    sys::set_ipv6_transparent(v6.as_fd())?;
    rustix::net::bind(&v6, &SocketAddrV6::new(LISTENER_V6, LISTENER_PORT, 0, 0))?;
    rustix::net::listen(&v6, BACKLOG)?;

    let dns = socket(AddressFamily::INET6, SocketType::DGRAM)?;
    sockopt::set_ipv6_v6only(&dns, false)?;
    sys::set_ip_transparent(dns.as_fd())?;
    sys::set_ipv6_transparent(dns.as_fd())?;
    sys::set_ipv6_receive_packet_info(dns.as_fd())?;
    rustix::net::bind(&dns, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 53, 0, 0))?;
    Ok(Listeners { tcp: vec![v4, v6], dns: vec![dns], handed: None, ssh: None })
}

fn socket(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

/// `struct ifinfomsg` (rtnetlink(7)) that sets IFF_UP.
fn link_up() -> NetlinkMessage {
    let up = libc::IFF_UP.cast_unsigned();
    let mut body = vec![0u8; 4];
    body.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    body.extend_from_slice(&up.to_ne_bytes());
    body.extend_from_slice(&up.to_ne_bytes());
    NetlinkMessage { kind: libc::RTM_NEWLINK, flags: ACKNOWLEDGED, body }
}

/// `struct ifaddrmsg` (rtnetlink(7)).
fn address(family: i32, prefix: u8, octets: &[u8]) -> NetlinkMessage {
    let mut body = vec![family as u8, prefix, libc::IFA_F_NODAD as u8, libc::RT_SCOPE_UNIVERSE];
    body.extend_from_slice(&LOOPBACK_INDEX.to_ne_bytes());
    let attributes = Attributes::default().with(libc::IFA_LOCAL, octets).with(libc::IFA_ADDRESS, octets);
    body.extend_from_slice(attributes.bytes());
    NetlinkMessage { kind: libc::RTM_NEWADDR, flags: CREATE, body }
}

/// `struct rtmsg` (rtnetlink(7)) for `local default dev lo table local`.
fn every_address_is_local(family: i32, source: &[u8]) -> NetlinkMessage {
    let mut body =
        vec![family as u8, 0, 0, 0, libc::RT_TABLE_LOCAL, libc::RTPROT_STATIC, libc::RT_SCOPE_HOST, libc::RTN_LOCAL];
    body.extend_from_slice(&0u32.to_ne_bytes());
    let attributes =
        Attributes::default().with(libc::RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes()).with(libc::RTA_PREFSRC, source);
    body.extend_from_slice(attributes.bytes());
    NetlinkMessage { kind: libc::RTM_NEWROUTE, flags: CREATE, body }
}
