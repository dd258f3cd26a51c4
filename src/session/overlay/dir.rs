//! Directories by descriptor: everything is opened one name at a time beneath one that is open, and no link is followed,
//! so that whatever lies there, or is put there meanwhile, leads nowhere else.

use super::facts::{Facts, Kind};
use super::path::RelPath;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Longest list of attribute names, and longest value, that a file can have (xattr(7)).
const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;
/// The attributes that a user may set, and that are taken along.
const USER: &[u8] = b"user.";
/// A file's list of who may access it, beyond its permission bits (acl(5)).
pub(super) const ACCESS_LIST: &str = "system.posix_acl_access";

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

/// The attributes of one file by name (xattr(7)), of the `user.` kind.
pub(super) type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

fn name_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

impl Dir {
    /// Opens a directory by its path, which is one of the user's or of omni's; its last name must not be a link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// The descriptor.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn open_entry(&self, name: &[u8], flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
        // Longer than a name can be, or a path: neither is an entry.
        if name.contains(&b'/') || matches!(name, b"" | b"..") {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let how =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(rustix::fs::openat2(&self.0, name_of(name), flags, Mode::from_raw_mode(mode), how)?)
    }

    /// Opens a directory of this one.
    pub(super) fn enter(&self, name: &[u8]) -> io::Result<Self> {
        self.open_entry(name, OFlags::PATH | OFlags::DIRECTORY, 0).map(Self)
    }

    /// Opens a directory below this one, name by name.
    pub(super) fn descend(&self, path: &RelPath) -> io::Result<Self> {
        let mut place = self.open_entry(b".", OFlags::PATH | OFlags::DIRECTORY, 0).map(Self)?;
        for name in path.names() {
            place = place.enter(name)?;
        }
        Ok(place)
    }

    /// What an entry is; none when there is none.
    pub(super) fn look(&self, name: &[u8]) -> io::Result<Option<Facts>> {
        match rustix::fs::statat(&self.0, name_of(name), AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What this directory itself is.
    pub(super) fn facts(&self) -> io::Result<Facts> {
        Ok(rustix::fs::fstat(&self.0)?.into())
    }

    /// The names of all entries, in order.
    pub(super) fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let list = self.open_entry(b".", OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(list)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether there is no entry.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        let list = self.open_entry(b".", OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        for entry in rustix::fs::Dir::new(list)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens a regular file for reading. Whatever else stands there is an error, and is not waited for.
    pub(super) fn read(&self, name: &[u8]) -> io::Result<File> {
        let file = self.open_entry(name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, 0)?;
        match Facts::from(rustix::fs::fstat(&file)?).kind {
            Kind::File => Ok(file.into()),
            _ => Err(io::Error::other("it is not a regular file any more")),
        }
    }

    /// Makes a new file for writing.
    pub(super) fn create(&self, name: &[u8], mode: u32) -> io::Result<File> {
        Ok(self.open_entry(name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, mode)?.into())
    }

    /// Where a symbolic link points.
    pub(super) fn target(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.0, name_of(name), Vec::new())?.into_bytes())
    }

    /// The attributes of an entry that is a file or a directory. On a file system without any there are none.
    pub(super) fn attributes(&self, name: &[u8]) -> io::Result<Attributes> {
        let entry = self.open_entry(name, OFlags::PATH, 0)?;
        let place = magic_path(entry.as_fd());
        let mut list = vec![0u8; ATTRIBUTE_BYTES_MAX];
        let length = match rustix::fs::listxattr(&place, &mut list[..]) {
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => return Ok(Attributes::new()),
            other => other?,
        };
        let mut attributes = Attributes::new();
        for key in list[..length].split(|byte| *byte == 0).filter(|key| key.starts_with(USER)) {
            let mut value = vec![0u8; ATTRIBUTE_BYTES_MAX];
            let length = rustix::fs::getxattr(&place, key, &mut value[..])?;
            value.truncate(length);
            attributes.insert(key.to_vec(), value);
        }
        Ok(attributes)
    }

    /// Gives an entry of omni's own other permission bits, whatever its present ones; never what a link points to.
    pub(super) fn set_mode(&self, name: &[u8], mode: u32) -> io::Result<()> {
        let entry = self.open_entry(name, OFlags::PATH, 0)?;
        Ok(rustix::fs::chmodat(CWD, magic_path(entry.as_fd()), Mode::from_raw_mode(mode), AtFlags::empty())?)
    }

    /// Makes a directory.
    pub(super) fn make_directory(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(&self.0, name_of(name), Mode::from_raw_mode(mode))?)
    }

    /// Removes an entry that is no directory.
    pub(super) fn unlink(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name_of(name), AtFlags::empty())?)
    }

    /// Removes an empty directory.
    pub(super) fn remove_directory(&self, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.0, name_of(name), AtFlags::REMOVEDIR)?)
    }

    /// Makes a symbolic link.
    pub(super) fn link(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(name_of(target), &self.0, name_of(name))?)
    }

    /// Makes a named pipe.
    pub(super) fn make_fifo(&self, name: &[u8], mode: u32) -> io::Result<()> {
        Ok(rustix::fs::mknodat(&self.0, name_of(name), FileType::Fifo, Mode::from_raw_mode(mode), 0)?)
    }

    /// Gives an entry to an owner, where this user may; never what a link points to.
    pub(super) fn give(&self, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let given = rustix::fs::chownat(&self.0, name_of(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        super::stage::refused_is_fine(given)
    }

    /// The entry's list of who may access it, if it has one.
    pub(super) fn access_list(&self, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let entry = self.open_entry(name, OFlags::PATH, 0)?;
        let mut value = vec![0u8; ATTRIBUTE_BYTES_MAX];
        match rustix::fs::getxattr(magic_path(entry.as_fd()), ACCESS_LIST, &mut value[..]) {
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
        }
    }

    /// Moves an entry to a name of another directory that is free.
    pub(super) fn move_to(&self, name: &[u8], other: &Self, other_name: &[u8]) -> io::Result<()> {
        match self.rename(name, other, other_name, RenameFlags::NOREPLACE) {
            // A file system that cannot promise it; nobody but the user could come in between.
            Err(error) if lacks(&error) => match other.look(other_name)? {
                Some(_) => Err(io::Error::from(io::ErrorKind::AlreadyExists)),
                None => self.rename(name, other, other_name, RenameFlags::empty()),
            },
            other => other,
        }
    }

    /// Swaps two entries in one step; `false` where the file system cannot.
    pub(super) fn exchange(&self, name: &[u8], other: &Self, other_name: &[u8]) -> io::Result<bool> {
        match self.rename(name, other, other_name, RenameFlags::EXCHANGE) {
            Err(error) if lacks(&error) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn rename(&self, name: &[u8], other: &Self, other_name: &[u8], flags: RenameFlags) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(&self.0, name_of(name), &other.0, name_of(other_name), flags)?)
    }

    /// Brings the directory's entries to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.open_entry(b".", OFlags::RDONLY | OFlags::DIRECTORY, 0)?)?)
    }

    /// Brings everything on the directory's file system to the disk.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.open_entry(b".", OFlags::RDONLY | OFlags::DIRECTORY, 0)?)?)
    }
}

/// Whether the file system has no such way of renaming.
fn lacks(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP].iter().any(|known| number == Some(*known))
}

/// A path that leads to what an O_PATH descriptor stands for, for calls that take no such descriptor.
fn magic_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
