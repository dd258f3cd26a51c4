//! The new root directory: everything that is written or mounted below it goes through here, by descriptors and without
//! ever following a symbolic link out of it.

use super::plan::{Access, EMPTY_BYTES_MAX, Mount};
use crate::sys::{MountAttributes, set_mount_attributes};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_string,
    fsmount, fsopen, move_mount, open_tree,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Connections of programs to their SSH agent that may wait.
const SSH_BACKLOG: i32 = 64;
/// Where covers are written before they are mounted; nothing is left there.
const SCRATCH: &str = ".cover";

/// Room for one file in a directory in memory, at the least: a page of its contents.
const BYTES_PER_FILE: u64 = 4096;

/// Flags of every mount of the sandbox: no set-user-id programs, no devices.
const HARMLESS: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// The new root directory while it is built.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    /// Makes an empty root directory in memory and attaches it out of the way: at `/tmp`, whose host contents every step
    /// that needs them has opened before.
    pub(super) fn create(bytes: u64) -> io::Result<Self> {
        let tree = in_memory(0o755, bytes)?;
        move_mount(&tree, "", CWD, "/tmp", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        let root = rustix::fs::open("/tmp", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self(root))
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Makes a directory and those above it, where they are missing.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<()> {
        let directory = OFlags::PATH | OFlags::DIRECTORY;
        if self.open_beneath(path, directory).is_ok() {
            return Ok(());
        }
        let mut place = self.open_beneath(Path::new("/"), directory)?;
        for part in relative(path).components() {
            match rustix::fs::mkdirat(&place, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::ROFS) => {}
                Err(error) => return Err(error.into()),
            }
            // Step by step, for the same reason as below: mkdirat(2) would go through a link that lies in the
            // workspace, and where that leads is still the host.
            let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            place = rustix::fs::openat2(&place, part.as_os_str(), directory | OFlags::CLOEXEC, Mode::empty(), how)?;
        }
        Ok(())
    }

    /// Mounts an empty directory that lives in memory.
    pub(super) fn mount_private(&self, path: &Path, mode: u32, bytes: u64) -> io::Result<()> {
        self.make_directory(path)?;
        self.attach(in_memory(mode, bytes)?.as_fd(), path)
    }

    /// Attaches a detached mount at a path that exists.
    pub(super) fn attach(&self, tree: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        // A link that stands there is covered, not followed.
        attach_at(tree, self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW)?.as_fd())
    }

    /// Attaches a tree of the host, making the mount point where it is missing.
    pub(super) fn bind(&self, tree: BorrowedFd<'_>, mount: &Mount, directory: bool) -> io::Result<()> {
        let read_only = if mount.access == Access::ReadOnly { libc::MOUNT_ATTR_RDONLY } else { 0 };
        // A clone of a shared mount is that mount's peer: a cover in front of a file in it would stand on the host too.
        let wanted =
            MountAttributes { set: HARMLESS | read_only, recursive: true, private: true, ..Default::default() };
        set_mount_attributes(tree, wanted)?;
        if directory {
            self.make_directory(&mount.target)?;
        } else {
            self.make_mount_point_file(&mount.target)?;
        }
        self.attach(tree, &mount.target)
    }

    /// Attaches one of the host's devices at a path that exists.
    pub(super) fn attach_device(&self, tree: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
        set_mount_attributes(tree, MountAttributes { set, private: true, ..Default::default() })?;
        self.attach(tree, path)
    }

    fn make_mount_point_file(&self, path: &Path) -> io::Result<()> {
        if self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW).is_ok() {
            return Ok(());
        }
        self.write(path, b"", 0o644)
    }

    /// Writes a new file, making the directories above it.
    pub(super) fn write(&self, path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
        self.make_file(path, mode)?.write_all(contents)
    }

    /// Makes a new file, and the directories above it.
    pub(super) fn make_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        if let Some(parent) = path.parent() {
            self.make_directory(parent)?;
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let mode = Mode::from_raw_mode(mode);
        let file = rustix::fs::openat2(&self.0, relative(path), flags | OFlags::CLOEXEC, mode, how)?;
        rustix::fs::fchmod(&file, mode)?;
        Ok(file.into())
    }

    /// Makes a socket that its owner's programs can connect to. The working directory is the root's from here on.
    pub(super) fn listen(&self, path: &Path) -> io::Result<OwnedFd> {
        if let Some(parent) = path.parent() {
            self.make_directory(parent)?;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // A socket is bound by a path, and nothing but omni's own was made on this one.
        rustix::process::fchdir(&self.0)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(relative(path))?)?;
        rustix::fs::chmodat(&self.0, relative(path), Mode::from_raw_mode(0o600), rustix::fs::AtFlags::empty())?;
        rustix::net::listen(&socket, SSH_BACKLOG)?;
        Ok(socket)
    }

    /// Puts a read-only file in front of one that is there.
    pub(super) fn cover(&self, path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
        let scratch = Path::new("/").join(SCRATCH);
        self.write(&scratch, contents, mode)?;
        self.cover_by(&scratch, path)?;
        // Only now: a file without a name cannot be attached.
        Ok(rustix::fs::unlinkat(&self.0, SCRATCH, rustix::fs::AtFlags::empty())?)
    }

    /// Puts a file of the root, read-only, in front of another that is there.
    pub(super) fn cover_by(&self, file: &Path, path: &Path) -> io::Result<()> {
        let cover = clone_file(self.open_beneath(file, OFlags::PATH | OFlags::NOFOLLOW)?.as_fd())?;
        // A link that stands there is covered, not followed.
        let target = self.open_beneath(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        cover_with(cover.as_fd(), target.as_fd())
    }

    /// Attaches a detached mount at a place that only the set-up sees.
    pub(super) fn lend(&self, tree: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
        let wanted = MountAttributes { set: HARMLESS, recursive: true, private: true, ..Default::default() };
        set_mount_attributes(tree, wanted)?;
        self.make_directory(place)?;
        self.attach(tree, place)
    }

    /// Takes away what [`Root::lend`] attached, and its mount point.
    pub(super) fn take_back(&self, place: &Path) -> io::Result<()> {
        rustix::process::fchdir(&self.0)?;
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(relative(place), flags)?;
        Ok(rustix::fs::unlinkat(&self.0, relative(place), rustix::fs::AtFlags::REMOVEDIR)?)
    }

    /// Makes a symbolic link.
    pub(super) fn link(&self, path: &Path, target: &Path) -> io::Result<()> {
        rustix::fs::symlinkat(target, &self.0, relative(path))?;
        Ok(())
    }

    /// Makes the root directory itself, not what is mounted below it, read-only.
    pub(super) fn seal(&self) -> io::Result<()> {
        let set = HARMLESS | libc::MOUNT_ATTR_RDONLY;
        set_mount_attributes(self.directory(), MountAttributes { set, ..Default::default() })
    }

    /// Makes it the root directory of this process and lets go of the old one.
    pub(super) fn enter(&self) -> io::Result<()> {
        rustix::process::fchdir(&self.0)?;
        rustix::process::pivot_root(".", ".")?;
        rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH)?;
        rustix::process::chdir("/")?;
        Ok(())
    }

    /// Opens a path of the new root; a symbolic link anywhere in it is an error, since the host may have put it there.
    fn open_beneath(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(&self.0, relative(path), flags | OFlags::CLOEXEC, Mode::empty(), how)?)
    }
}

/// Attaches a detached mount at what was opened.
fn attach_at(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", empty)?)
}

/// A file as a detached mount of its own, to be put in front of another.
pub(super) fn clone_file(file: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(open_tree(file, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?)
}

/// An empty directory as a detached mount, to be put in front of another.
pub(super) fn empty_directory() -> io::Result<OwnedFd> {
    in_memory(0o555, EMPTY_BYTES_MAX)
}

/// Puts a detached mount, read-only, in front of what was opened.
pub(super) fn cover_with(cover: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let set = HARMLESS | libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOEXEC;
    set_mount_attributes(cover, MountAttributes { set, ..Default::default() })?;
    attach_at(cover, target)
}

/// A detached, harmless tmpfs (tmpfs(5)).
fn in_memory(mode: u32, bytes: u64) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "mode", format!("{mode:o}"))?;
    fsconfig_set_string(&context, "size", bytes.to_string())?;
    // An empty file takes memory of the kernel that no size counts: one for each page that there is room for.
    fsconfig_set_string(&context, "nr_inodes", (bytes / BYTES_PER_FILE).to_string())?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// The path without its leading slash; the root itself is `.`.
fn relative(path: &Path) -> &Path {
    match path.strip_prefix("/") {
        Ok(rest) if rest.as_os_str().is_empty() => Path::new("."),
        Ok(rest) => rest,
        Err(_) => path,
    }
}
