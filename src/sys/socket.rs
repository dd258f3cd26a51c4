//! Socket options that rustix lacks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets the socket accept and answer for addresses that are not its own (`IP_TRANSPARENT`, ip(7)).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the socket's network namespace.
pub fn set_ip_transparent(socket: BorrowedFd<'_>) -> io::Result<()> {
    enable(socket, libc::IPPROTO_IP, libc::IP_TRANSPARENT)
}

/// As [`set_ip_transparent`], for IPv6 (`IPV6_TRANSPARENT`, ipv6(7)).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the socket's network namespace.
pub fn set_ipv6_transparent(socket: BorrowedFd<'_>) -> io::Result<()> {
    enable(socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT)
}

/// Makes received datagrams carry the address they were sent to (`IPV6_RECVPKTINFO`, ipv6(7)).
///
/// # Errors
/// The call's error.
pub fn set_ipv6_receive_packet_info(socket: BorrowedFd<'_>) -> io::Result<()> {
    enable(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
}

fn enable(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives across the call, and its size is passed with it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
