//! `mount_setattr(2)`, which neither rustix nor nix offers.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What to change about a mount and, with `recursive`, all mounts below it.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttributes<'fd> {
    /// `MOUNT_ATTR_*` flags to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` flags to clear.
    pub clear: u64,
    /// A user namespace whose id map the mount shall translate owners by (`MOUNT_ATTR_IDMAP`).
    pub id_map: Option<BorrowedFd<'fd>>,
    /// Whether mounts below change too.
    pub recursive: bool,
    /// Whether to take the mount out of its peer group (mount_namespaces(7)), so that what is mounted on it appears nowhere
    /// else, and what is mounted elsewhere does not appear on it.
    pub private: bool,
}

/// Changes the attributes of the mount that `mount` refers to (mount_setattr(2), Linux 5.12).
///
/// # Errors
/// The call's error: EPERM without CAP_SYS_ADMIN over the mount, EINVAL where the file system cannot be id-mapped.
pub fn set_mount_attributes(mount: BorrowedFd<'_>, wanted: MountAttributes<'_>) -> io::Result<()> {
    let idmap = wanted.id_map.map_or(0, |_| libc::MOUNT_ATTR_IDMAP);
    let attributes = libc::mount_attr {
        attr_set: wanted.set | idmap,
        attr_clr: wanted.clear,
        propagation: if wanted.private { libc::MS_PRIVATE } else { 0 },
        userns_fd: wanted.id_map.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs())),
    };
    let recursive = if wanted.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty string, `attributes` lives across the call and its size is passed with it;
    // the kernel writes to neither.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
