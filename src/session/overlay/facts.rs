//! What is known of one file without reading it.

use rustix::fs::{FileType, Stat};

/// Bits that make a program run as somebody else: set-user-id and set-group-id (chmod(2)).
pub(super) const MODE_SET_ID: u32 = 0o6000;
/// Bits that let anybody execute.
pub(super) const MODE_EXECUTE: u32 = 0o111;

/// What kind of thing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device, or something that this program does not know.
    Device,
}

impl Kind {
    /// The name, as listings have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Link => "link",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::Device => "device",
        }
    }
}

/// A moment as a file system keeps it: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Moment {
    /// Whole seconds.
    pub seconds: i64,
    /// The rest.
    pub nanoseconds: u32,
}

/// What is known of one file without reading it (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Its twelve permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Its number in its file system.
    pub inode: u64,
    /// The device that it stands for, 0 for most.
    pub device: u64,
    /// How many names it has.
    pub links: u64,
    /// When its contents changed last, as whoever changed them says.
    pub modified: Moment,
    /// When anything about it changed last, as only the kernel can set it.
    pub changed: Moment,
}

impl From<Stat> for Facts {
    fn from(stat: Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Link,
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => Kind::Device,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size.unsigned_abs(),
            inode: stat.st_ino,
            device: stat.st_rdev,
            links: stat.st_nlink,
            modified: moment(stat.st_mtime, stat.st_mtime_nsec),
            changed: moment(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

fn moment(seconds: i64, nanoseconds: u64) -> Moment {
    Moment { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or_default() }
}

impl Facts {
    /// Whether it stands for a name that was removed (overlayfs's whiteout): a character device of number 0.
    #[must_use]
    pub fn is_whiteout(&self) -> bool {
        self.kind == Kind::Device && self.device == 0
    }
}

/// When the session began, as the workspace's file system would say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning(pub Moment);

/// Seconds that the coarsest file system's clock may be behind.
const COARSE_SECONDS: i64 = 2;

impl Beginning {
    /// Whether the host changed the file since. Where a file system keeps whole seconds only, one that changed in the
    /// session's first moment counts too: asking once too often is better than losing a change.
    #[must_use]
    pub fn precedes(&self, facts: &Facts) -> bool {
        if facts.changed.nanoseconds == 0 {
            return facts.changed.seconds >= self.0.seconds - COARSE_SECONDS;
        }
        facts.changed >= self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(seconds: i64, nanoseconds: u32) -> Facts {
        let changed = Moment { seconds, nanoseconds };
        Facts {
            kind: Kind::File,
            mode: 0o644,
            uid: 1,
            gid: 1,
            size: 1,
            inode: 1,
            device: 0,
            links: 1,
            modified: changed,
            changed,
        }
    }

    #[test]
    fn a_change_in_the_same_moment_counts_as_later() {
        let beginning = Beginning(Moment { seconds: 100, nanoseconds: 500 });
        assert!(!beginning.precedes(&changed(100, 499)));
        assert!(beginning.precedes(&changed(100, 500)) && beginning.precedes(&changed(101, 1)));
    }

    #[test]
    fn whole_seconds_are_taken_with_care() {
        let beginning = Beginning(Moment { seconds: 100, nanoseconds: 500 });
        assert!(beginning.precedes(&changed(98, 0)) && !beginning.precedes(&changed(97, 0)));
    }

    #[test]
    fn only_the_device_of_number_zero_is_a_whiteout() {
        let device = Facts { kind: Kind::Device, ..changed(1, 1) };
        assert!(device.is_whiteout() && !Facts { device: 259, ..device }.is_whiteout() && !changed(1, 1).is_whiteout());
    }
}
