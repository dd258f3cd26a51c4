//! A descriptor put in the place of one that a waiting caller has (seccomp_unotify(2), SECCOMP_ADDFD_FLAG_SETFD).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Puts a copy of `file` where the waiting caller has its descriptor `number`, which is closed by that. The call still
/// waits for its answer.
///
/// # Errors
/// ENOENT when the caller is gone; EBADF for a number beyond what it may have open.
pub fn replace_descriptor_of(
    listener: BorrowedFd<'_>,
    id: u64,
    number: u32,
    file: BorrowedFd<'_>,
    close_on_exec: bool,
) -> io::Result<()> {
    let addition = libc::seccomp_notif_addfd {
        id,
        flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
        srcfd: file.as_raw_fd().unsigned_abs(),
        newfd: number,
        newfd_flags: if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 },
    };
    // SAFETY: the request is defined for this structure, which lives across the call and which the kernel reads. The
    // descriptors that change are another process's.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const addition) };
    if done >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
