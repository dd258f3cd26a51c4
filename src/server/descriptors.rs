//! The standard streams that a user passes: what root's processes write to them must not mean more than if the user wrote.

use super::error::ServerError;
use rustix::fs::{FileType, fcntl_getfl, fstat, fstatfs};
use std::os::fd::OwnedFd;

/// File systems whose files are the kernel's ears: some ask who writes, not who opened (linux/magic.h).
const KERNEL_FILE_SYSTEMS: [u32; 12] = [
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0xcafe_4a11, // bpf
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
];

/// Refuses a stream that is more than a stream.
pub(super) fn check(stream: &OwnedFd) -> Result<(), ServerError> {
    let looking = "look at the standard streams";
    let flags = fcntl_getfl(stream).map_err(ServerError::calling(looking))?;
    let stat = fstat(stream).map_err(ServerError::calling(looking))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let harmless = match kind {
        _ if flags.contains(rustix::fs::OFlags::PATH) => false,
        FileType::Fifo | FileType::Socket => true,
        FileType::CharacterDevice => rustix::termios::isatty(stream) || is_memory_device(stat.st_rdev),
        FileType::RegularFile => {
            let found = fstatfs(stream).map_err(ServerError::calling(looking))?;
            !KERNEL_FILE_SYSTEMS.iter().any(|known| i128::from(*known) == i128::from(found.f_type))
        }
        _ => false,
    };
    let refused = "a standard stream must be a file, a pipe, a socket or a terminal: redirect it, such as `</dev/null`";
    if harmless { Ok(()) } else { Err(ServerError::Request(refused)) }
}

/// Whether a character device is one of null, zero, full, random and urandom (the kernel's admin-guide/devices.txt, 1 char).
fn is_memory_device(device: u64) -> bool {
    rustix::fs::major(device) == 1 && matches!(rustix::fs::minor(device), 3 | 5 | 7 | 8 | 9)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};

    fn is_let_through(stream: impl Into<OwnedFd>) -> bool {
        check(&stream.into()).is_ok()
    }

    #[test]
    fn files_pipes_and_nothing_are_streams() {
        assert!(is_let_through(tempfile::tempfile().unwrap()));
        assert!(is_let_through(rustix::pipe::pipe().unwrap().0));
        assert!(is_let_through(OpenOptions::new().read(true).write(true).open("/dev/null").unwrap()));
        assert!(is_let_through(std::os::unix::net::UnixStream::pair().unwrap().0));
    }

    #[test]
    fn the_kernels_files_and_directories_are_none() {
        assert!(!is_let_through(OpenOptions::new().write(true).open("/proc/self/oom_score_adj").unwrap()));
        assert!(!is_let_through(File::open("/sys/kernel/uevent_seqnum").unwrap()));
        assert!(!is_let_through(File::open("/").unwrap()));
        let path = rustix::fs::OFlags::PATH;
        assert!(!is_let_through(rustix::fs::open("/dev/null", path, rustix::fs::Mode::empty()).unwrap()));
    }
}
