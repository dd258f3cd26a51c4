//! System calls that another process answers (seccomp_unotify(2)).

use seccompiler::sock_filter;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifiedCall {
    /// What the answer refers to.
    pub id: u64,
    /// The calling thread, as the receiver's process namespace counts it; 0 when it is in none below.
    pub thread: u32,
    /// The call's number.
    pub number: i32,
    /// Its arguments, as they stood in the registers.
    pub arguments: [u64; 6],
}

/// Loads a filter for this thread and gives the descriptor on which its questions arrive (seccomp(2),
/// SECCOMP_FILTER_FLAG_NEW_LISTENER).
///
/// # Errors
/// EBUSY where a filter with a listener is loaded already, by whoever started this process; EACCES without
/// no-new-privileges.
pub fn load_notifying_filter(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let newest = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match load(program, newest) {
        // Kernels before 5.19, where a signal makes the caller ask again.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            load(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)
        }
        other => other,
    }
}

fn load(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    // `sock_filter` of the crate is the kernel's, field by field, and the kernel only reads it.
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `filter` and the program that it points to live across the call, and its length is passed with it.
    let listener = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    if listener < 0 {
        return Err(io::Error::last_os_error());
    }
    let listener = i32::try_from(listener).map_err(io::Error::other)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// Takes the next question; none when whoever asked is gone again.
///
/// # Errors
/// The call's error.
pub fn receive_notified_call(listener: BorrowedFd<'_>) -> io::Result<Option<NotifiedCall>> {
    // SAFETY: an all-zero `seccomp_notif` is what the call wants to be given.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request is defined for this structure, which lives across the call and which the kernel fills.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut call) };
    if done == 0 {
        let (number, arguments) = (call.data.nr, call.data.args);
        return Ok(Some(NotifiedCall { id: call.id, thread: call.pid, number, arguments }));
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        error => Err(error),
    }
}

/// Whether the call still waits: what was read of its process before was its, and not that of a later one of the same id.
#[must_use]
pub fn notified_call_waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the request is defined for a number of this size, which lives across the call and which the kernel reads.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// How a call is answered.
#[derive(Clone, Copy, Debug)]
pub enum CallAnswer<'fd> {
    /// With this value.
    Value(i64),
    /// With this error.
    Error(i32),
    /// With a copy of this descriptor among the caller's own.
    Descriptor {
        /// The descriptor.
        file: BorrowedFd<'fd>,
        /// Whether the copy is closed when the caller executes a program.
        close_on_exec: bool,
    },
    /// By the kernel, which reads the caller's memory anew: safe only where it may do no harm whatever stands there.
    Kernel,
}

/// Answers a call.
///
/// # Errors
/// ENOENT when the caller is gone; EMFILE when it has no room for a descriptor, and then it still waits.
pub fn answer_call(listener: BorrowedFd<'_>, id: u64, answer: CallAnswer<'_>) -> io::Result<()> {
    let done = match answer {
        CallAnswer::Descriptor { file, close_on_exec } => {
            let addition = libc::seccomp_notif_addfd {
                id,
                flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
                srcfd: file.as_raw_fd().unsigned_abs(),
                newfd: 0,
                newfd_flags: if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 },
            };
            // SAFETY: the request is defined for this structure, which lives across the call and which the kernel reads.
            unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const addition) }
        }
        _ => {
            let (val, error, flags) = match answer {
                CallAnswer::Value(value) => (value, 0, 0),
                CallAnswer::Error(number) => (0, -number, 0),
                _ => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            };
            let response = libc::seccomp_notif_resp { id, val, error, flags };
            // SAFETY: the request is defined for this structure, which lives across the call and which the kernel reads.
            unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) }
        }
    };
    if done >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a caller and whoever answers it hand the processor to each other (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6).
///
/// # Errors
/// EINVAL or ENOTTY on an older kernel, where it is only slower.
pub fn wake_callers_in_place(listener: BorrowedFd<'_>) -> io::Result<()> {
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the request takes a number and no memory.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads memory of another process (process_vm_readv(2)), as far as it is there: up to the end of a page that is followed
/// by none.
///
/// # Errors
/// EFAULT where nothing is there, EPERM where the process may not be looked into, ESRCH when it is gone.
pub fn read_memory_of(process: u32, address: u64, into: &mut [u8]) -> io::Result<usize> {
    let pid = i32::try_from(process).map_err(io::Error::other)?;
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let start = usize::try_from(address).map_err(io::Error::other)?;
    let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: into.len() };
    // SAFETY: the kernel writes at most `into.len()` bytes to `into`, which is borrowed for the call; the other address
    // is of another process and is not followed here.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}
