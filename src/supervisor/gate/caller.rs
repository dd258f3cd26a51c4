//! The process that asked: its memory, its directories and descriptors, its file mode mask.
//!
//! What is read of a process is its only while its call still waits: the gate looks at that before it acts.

use crate::sys::read_memory_of;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// Longest path, with its end (PATH_MAX, limits.h).
const PATH_BYTES_MAX: usize = 4096;
/// What is read at first: few paths are longer.
const PATH_BYTES_USUAL: usize = 256;
const PAGE_BYTES: u64 = 4096;
/// Longest status file of a process that is looked at.
const STATUS_BYTES_MAX: usize = 4096;

/// A thread that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller(pub u32);

impl Caller {
    /// A null-terminated string of its memory, of at most [`PATH_BYTES_MAX`].
    pub(super) fn text(self, address: u64) -> Result<CString, Errno> {
        let mut bytes = vec![0; PATH_BYTES_USUAL];
        let mut filled = 0;
        loop {
            let next = address.checked_add(filled as u64).ok_or(Errno::FAULT)?;
            // Up to the end of a page, since what follows may not be there.
            let in_page = usize::try_from(PAGE_BYTES - next % PAGE_BYTES).map_err(|_| Errno::FAULT)?;
            let wanted = in_page.min(bytes.len() - filled);
            let read = self.memory(next, &mut bytes[filled..filled + wanted])?;
            filled += read;
            if let Ok(text) = CStr::from_bytes_until_nul(&bytes[..filled]) {
                return Ok(text.to_owned());
            }
            if read == 0 {
                return Err(Errno::FAULT);
            }
            if filled == PATH_BYTES_MAX {
                return Err(Errno::NAMETOOLONG);
            }
            if filled == bytes.len() {
                bytes.resize(PATH_BYTES_MAX, 0);
            }
        }
    }

    /// Fills a buffer from its memory, as far as it is there.
    pub(super) fn memory(self, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
        read_memory_of(self.0, address, into).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::FAULT))
    }

    /// The directory that its relative paths start from.
    pub(super) fn directory(self, number: i32) -> Result<OwnedFd, Errno> {
        let (path, absent) = match number {
            libc::AT_FDCWD => (format!("/proc/{}/cwd", self.0), Errno::NOENT),
            number if number >= 0 => (format!("/proc/{}/fd/{number}", self.0), Errno::BADF),
            _ => return Err(Errno::BADF),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => absent,
            other => other,
        })
    }

    /// What it has open under this number, as a path.
    pub(super) fn opened(self, number: i32) -> Result<OwnedFd, Errno> {
        let path = format!("/proc/{}/fd/{number}", self.0);
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| match error {
            Errno::NOENT => Errno::BADF,
            other => other,
        })
    }

    /// Its process and the permissions that it takes from every file it makes (umask(2)), as proc_pid_status(5) tells them.
    pub(super) fn status(self) -> Result<Status, Errno> {
        let path = format!("/proc/{}/status", self.0);
        let status = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = [0; STATUS_BYTES_MAX];
        let read = rustix::io::read(&status, &mut bytes)?;
        Status::read(&bytes[..read]).ok_or(Errno::ACCESS)
    }
}

/// What is known of a thread by its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// The process that it is a thread of.
    pub process: u32,
    /// Its file mode mask.
    pub mask: u32,
}

impl Status {
    fn read(status: &[u8]) -> Option<Self> {
        let line = |name: &[u8]| {
            let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name))?;
            std::str::from_utf8(line).ok().map(str::trim)
        };
        let mask = u32::from_str_radix(line(b"Umask:")?, 8).ok()?;
        Some(Self { process: line(b"Tgid:")?.parse().ok()?, mask })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_process_and_mask() {
        let told = Status::read(b"Name:\tUmask:\nUmask:\t0027\nState:\tR\nTgid:\t41\nPid:\t42");
        assert_eq!(told, Some(Status { process: 41, mask: 0o027 }));
        assert_eq!(Status::read(b"Name:\tx\nUmask:\t0022\n"), None);
    }

    #[test]
    fn reads_texts_of_every_length_from_memory() {
        let own = Caller(std::process::id());
        for length in [0, 1, 255, 256, 257, 4095] {
            let text = CString::new(vec![b'x'; length]).unwrap_or_default();
            assert_eq!(own.text(text.as_ptr().expose_provenance() as u64), Ok(text), "{length}");
        }
        let long = CString::new(vec![b'x'; 5000]).unwrap_or_default();
        assert_eq!(own.text(long.as_ptr().expose_provenance() as u64), Err(Errno::NAMETOOLONG));
        assert_eq!(own.text(8), Err(Errno::FAULT));
    }
}
