//! Answers the calls that a harness without namespaces may not make by itself: connecting and changing permissions.
//!
//! Nothing that is read from the harness's memory is trusted to stay: a connection that is handed out always leads to the
//! proxy, whatever was asked for, and permissions are changed on the very file whose place was judged.

use super::lockdown::enclosure;
use super::plan::LockdownStep;
use crate::sys::{self, CallAnswer, NotifiedCall};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest address that is looked at (`struct sockaddr_in6`).
const ADDRESS_BYTES_MAX: usize = 28;
/// Longest path (PATH_MAX).
const PATH_BYTES_MAX: usize = 4096;
/// Connections of others that may come before ours on the listener that both ends of one are made by.
const STRANGERS_MAX: usize = 16;

/// Who answers.
#[derive(Debug)]
pub(super) struct Warden {
    listener: OwnedFd,
    /// Where connections go to the proxy.
    lane: OwnedFd,
    /// Where the harness may write.
    writable: Vec<PathBuf>,
}

impl Warden {
    /// `lockdown` says where the harness may write.
    pub(super) fn new(listener: OwnedFd, lane: OwnedFd, lockdown: &[LockdownStep]) -> Self {
        // Without it, answers are only slower.
        let _ = sys::wake_callers_in_place(listener.as_fd());
        let writable = lockdown.iter().find_map(|step| match step {
            LockdownStep::Enclose { write, .. } => Some(write.clone()),
            _ => None,
        });
        Self { listener, lane, writable: writable.unwrap_or_default() }
    }

    /// Readable when a call waits.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers one call. Whoever is gone before its answer needs none.
    pub(super) fn answer(&self) -> io::Result<()> {
        let Some(call) = sys::receive_notified_call(self.listener.as_fd())? else { return Ok(()) };
        let done = match i64::from(call.number) {
            libc::SYS_connect => self.connect(&call),
            _ => self.change_mode(&call),
        };
        let answer = match done {
            Ok(()) => CallAnswer::Value(0),
            Err(error) => CallAnswer::Error(error.raw_os_error().unwrap_or(libc::EPERM)),
        };
        match sys::answer_call(self.listener.as_fd(), call.id, answer) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(()),
        }
    }

    fn waits(&self, call: &NotifiedCall) -> io::Result<()> {
        match sys::notified_call_waits(self.listener.as_fd(), call.id) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(libc::EINTR)),
        }
    }

    /// Puts a connection to the proxy where the caller's socket is, or refuses.
    fn connect(&self, call: &NotifiedCall) -> io::Result<()> {
        let [number, address, length, ..] = call.arguments;
        let mut bytes = [0; ADDRESS_BYTES_MAX];
        let wanted = usize::try_from(length).unwrap_or(0).min(ADDRESS_BYTES_MAX);
        let read = sys::read_memory_of(call.thread, address, &mut bytes[..wanted])?;
        let number = u32::try_from(number).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
        let flags = descriptor_flags(call.thread, number)?;
        self.waits(call)?;
        let target = address_of(&bytes[..read]);
        if !target.is_some_and(|target| enclosure::is_gateway(target.ip())) {
            self.report(target);
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let (ours, theirs) = connected_pair()?;
        if flags.contains(OFlags::NONBLOCK) {
            rustix::io::ioctl_fionbio(&theirs, true)?;
        }
        self.hand_over(ours.as_fd())?;
        let close_on_exec = flags.contains(OFlags::CLOEXEC);
        sys::replace_descriptor_of(self.listener.as_fd(), call.id, number, theirs.as_fd(), close_on_exec)
    }

    /// Gives the proxy its end of a connection. A proxy that does not keep up refuses it.
    fn hand_over(&self, connection: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let connection = [connection];
        control.push(SendAncillaryMessage::ScmRights(&connection));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::sendmsg(&self.lane, &[IoSlice::new(b"c")], &mut control, flags) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::from_raw_os_error(libc::ECONNREFUSED)),
        }
    }

    /// Tells the proxy, which keeps the record, what was refused. Where it has no room for that, it has heard enough.
    fn report(&self, target: Option<SocketAddr>) {
        let text = target.map_or_else(|| "no address of the internet".to_owned(), |target| target.to_string());
        let _ = rustix::net::send(&self.lane, text.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    /// chmod(2) and its kin, where the harness may write.
    fn change_mode(&self, call: &NotifiedCall) -> io::Result<()> {
        let (directory, address, mode, flags) = match (i64::from(call.number), call.arguments) {
            (libc::SYS_chmod, [path, mode, ..]) => (libc::AT_FDCWD, path, mode, 0),
            (libc::SYS_fchmodat, [directory, path, mode, ..]) => (as_descriptor(directory), path, mode, 0),
            (libc::SYS_fchmodat2, [directory, path, mode, flags, ..]) => (as_descriptor(directory), path, mode, flags),
            _ => return Err(io::Error::from_raw_os_error(libc::ENOSYS)),
        };
        let mode = u32::try_from(mode & 0o7777).map_err(io::Error::other)?;
        if mode & libc::S_ISUID != 0 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let path = read_path(call.thread, address)?;
        let flags = AtFlags::from_bits_retain(u32::try_from(flags).map_err(io::Error::other)?);
        let file = open_as(call.thread, directory, &path, flags)?;
        self.waits(call)?;
        let itself = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let place = std::fs::read_link(&itself)?;
        if !self.writable.iter().any(|writable| place.starts_with(writable)) {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        Ok(rustix::fs::chmod(itself, Mode::from_raw_mode(mode))?)
    }
}

/// An argument that is an `int`: its upper half means nothing.
fn as_descriptor(argument: u64) -> i32 {
    let low = u32::try_from(argument & 0xffff_ffff).unwrap_or_default();
    low.cast_signed()
}

/// Opens what a path means to a thread, without any right to its contents.
fn open_as(thread: u32, directory: i32, path: &Path, flags: AtFlags) -> io::Result<OwnedFd> {
    let follow = if flags.contains(AtFlags::SYMLINK_NOFOLLOW) { OFlags::NOFOLLOW } else { OFlags::empty() };
    let how = OFlags::PATH | OFlags::CLOEXEC | follow;
    let base = match directory {
        libc::AT_FDCWD => format!("/proc/{thread}/cwd"),
        number if number >= 0 => format!("/proc/{thread}/fd/{number}"),
        _ => return Err(io::Error::from_raw_os_error(libc::EBADF)),
    };
    if path.as_os_str().is_empty() {
        return match flags.contains(AtFlags::EMPTY_PATH) {
            true => Ok(rustix::fs::open(base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
            false => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        };
    }
    // Links of proc(5) would mean this process's own.
    let resolve = ResolveFlags::NO_MAGICLINKS;
    if path.is_absolute() {
        return Ok(rustix::fs::openat2(CWD, path, how, Mode::empty(), resolve)?);
    }
    let base = rustix::fs::open(base, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::openat2(&base, path, how, Mode::empty(), resolve)?)
}

fn read_path(thread: u32, address: u64) -> io::Result<PathBuf> {
    let mut bytes = vec![0; PATH_BYTES_MAX];
    let read = sys::read_memory_of(thread, address, &mut bytes)?;
    let end = bytes[..read].iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[..end])))
}

/// The flags of a descriptor of a thread's, close-on-exec among them (proc_pid_fdinfo(5)).
fn descriptor_flags(thread: u32, number: u32) -> io::Result<OFlags> {
    let text = std::fs::read_to_string(format!("/proc/{thread}/fdinfo/{number}"))?;
    let flags = text.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    flags.map(OFlags::from_bits_retain).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
}

/// The address of the internet in a `struct sockaddr`, if it is one.
fn address_of(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), port))
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)), port))
        }
        _ => None,
    }
}

/// Both ends of a TCP connection over loopback. That it is ours and not that of somebody else on this machine who found
/// the listener in the moment that it is there, its port says.
fn connected_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let socket = || rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let listener = socket()?;
    rustix::net::bind(&listener, &any)?;
    rustix::net::listen(&listener, STRANGERS_MAX as i32)?;
    let client = socket()?;
    rustix::net::connect(&client, &rustix::net::getsockname(&listener)?)?;
    let own = rustix::net::getsockname(&client)?;
    for _ in 0..=STRANGERS_MAX {
        let server = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC)?;
        if rustix::net::getpeername(&server)?.is_some_and(|peer| peer == own) {
            return Ok((server, client));
        }
    }
    Err(io::Error::from_raw_os_error(libc::ECONNREFUSED))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let mut v4 = vec![0; 16];
        v4[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        v4[2..8].copy_from_slice(&[0x0c, 0x38, 10, 77, 0, 1]);
        assert_eq!(address_of(&v4), Some("10.77.0.1:3128".parse().unwrap()));
        assert_eq!(address_of(&v4[..7]), None);
        let mut v6 = vec![0; 28];
        v6[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        v6[2..4].copy_from_slice(&443u16.to_be_bytes());
        v6[8 + 15] = 1;
        assert_eq!(address_of(&v6), Some("[::1]:443".parse().unwrap()));
        assert_eq!(address_of(&(libc::AF_UNIX as u16).to_ne_bytes()), None);
        assert_eq!(address_of(&[]), None);
    }

    #[test]
    fn both_ends_of_a_connection_are_connected_to_each_other() {
        let (server, client) = connected_pair().unwrap();
        rustix::io::write(&client, b"x").unwrap();
        let mut byte = [0; 1];
        assert_eq!(rustix::io::read(&server, &mut byte).unwrap(), 1);
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn the_upper_half_of_a_descriptor_means_nothing() {
        assert_eq!(as_descriptor(0xffff_ff9c), libc::AT_FDCWD);
        assert_eq!(as_descriptor(0xffff_ffff_ffff_ff9c), libc::AT_FDCWD);
        assert_eq!(as_descriptor(7), 7);
    }
}
