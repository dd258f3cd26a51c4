//! Covers that are put in front of files once the sandbox stands: of what was found too late for its plan.
//!
//! A process of omni's enters the sandbox's user and mount namespaces, and nothing else of it. Inside it is not to be seen,
//! signalled or traced: it is in the host's process namespace. It holds capabilities over the sandbox's mounts until it ends.

use super::apply::become_user;
use super::plan::{Identity, LATE_COVER};
use super::root::{clone_file, cover_with, empty_directory};
use crate::sys;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Everything that is opened here is opened below what was opened before, through no link and into no other mount: the
/// harness may put whatever it likes there meanwhile.
const WITHIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// A way into a sandbox that stays open when its process 1 lets nobody in any more.
#[derive(Debug)]
pub struct WayIn {
    user: OwnedFd,
    mounts: OwnedFd,
    root: OwnedFd,
}

impl WayIn {
    /// Opens it, of process 1 `init`, before the go.
    ///
    /// # Errors
    /// The call's error.
    pub fn open(init: BorrowedFd<'_>) -> io::Result<Self> {
        let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", init.as_raw_fd()))?;
        let pid = told.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
        let pid = pid.ok_or_else(|| io::Error::other("the kernel does not say whose a pidfd is"))?;
        let place = |name: &str, flags| open(format!("/proc/{pid}/{name}"), flags | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            user: place("ns/user", OFlags::RDONLY)?,
            mounts: place("ns/mnt", OFlags::RDONLY)?,
            root: place("root", OFlags::PATH | OFlags::DIRECTORY)?,
        })
    }

    /// Opens a directory as the sandbox shows it, by its path there.
    ///
    /// # Errors
    /// The call's error.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat2(&self.root, path.strip_prefix("/").unwrap_or(path), flags, Mode::empty(), how)?)
    }

    /// Takes a file or directory as the sandbox shows it, by its path there and through links, without opening it.
    ///
    /// # Errors
    /// The call's error.
    pub fn place(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = path.strip_prefix("/").unwrap_or(path);
        Ok(openat2(&self.root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)?)
    }
}

/// Whether there is something of this name in a directory with nothing mounted in front of it. What cannot be looked at may be.
#[must_use]
pub fn is_exposed(directory: BorrowedFd<'_>, name: &CStr) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    !matches!(openat2(directory, name, flags, Mode::empty(), WITHIN), Err(Errno::XDEV | Errno::NOENT))
}

/// This process, with a hand in the sandbox's mounts.
#[derive(Debug)]
pub struct LateCover {
    /// The file that stands in front of others, of which nothing can be read.
    unreadable: OwnedFd,
}

impl LateCover {
    /// Enters the sandbox of process 1 `init`, as its user. The calling process has one thread, and goes no further after
    /// an error.
    ///
    /// # Errors
    /// The call's error.
    pub fn enter(init: BorrowedFd<'_>, identity: &Identity) -> io::Result<Self> {
        sys::set_file_size_of_core(0)?;
        move_into_thread_name_spaces(init, ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT)?;
        Self::entered(identity)
    }

    /// The same, by a way that was opened before the go.
    ///
    /// # Errors
    /// The call's error.
    pub fn enter_by(way: &WayIn, identity: &Identity) -> io::Result<Self> {
        sys::set_file_size_of_core(0)?;
        move_into_link_name_space(way.user.as_fd(), Some(LinkNameSpaceType::User))?;
        move_into_link_name_space(way.mounts.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Self::entered(identity)
    }

    fn entered(identity: &Identity) -> io::Result<Self> {
        become_user(identity)?;
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        let how = ResolveFlags::NO_SYMLINKS;
        let unreadable = openat2(CWD, LATE_COVER, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)?;
        Ok(Self { unreadable })
    }

    /// Opens the directory to look in, by its path inside.
    ///
    /// # Errors
    /// The call's error.
    pub fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?)
    }

    /// Opens a directory below another.
    ///
    /// # Errors
    /// EXDEV for what is covered already or another mount, ELOOP for a link, ENOENT where it is gone, EACCES where its user
    /// may not read.
    pub fn open_below(&self, directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat2(directory, path, flags, Mode::empty(), WITHIN)?)
    }

    /// What a directory holds.
    ///
    /// # Errors
    /// The call's error.
    pub fn list(&self, directory: BorrowedFd<'_>) -> io::Result<Dir> {
        Ok(Dir::read_from(directory)?)
    }

    /// Hides what has this name in a directory: a file can no longer be read, a directory is empty. Neither can be moved or
    /// removed. False where there is nothing to hide: it is gone, a link, or covered already.
    ///
    /// # Errors
    /// The errors of opening and mounting.
    pub fn hide(&self, directory: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = match openat2(directory, name, flags, Mode::empty(), WITHIN) {
            Err(Errno::NOENT | Errno::XDEV) => return Ok(false),
            other => other?,
        };
        let cover = match FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode) {
            FileType::Directory => empty_directory()?,
            FileType::Symlink => return Ok(false),
            _ => clone_file(self.unreadable.as_fd())?,
        };
        cover_with(cover.as_fd(), target.as_fd())?;
        Ok(true)
    }
}
