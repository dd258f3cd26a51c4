//! Sessions whose places of the host are the same, or lie within each other, exclude each other while a write gate judges and then
//! does: meanwhile no other changes what was judged.
//!
//! The locks are in a file of omni's home, which no harness reaches. Every directory of the machine has a byte there: a
//! session locks those of its places for itself alone, and those of the directories above them with others (`F_OFD_SETLKW`, fcntl(2)).

use super::host::FileId;
use super::plan::{Access, Mount, Plan, Step};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Odd, and as near as that comes to 2⁶⁴ divided by the golden ratio: spreads numbers that are close to each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The locks of one session's places.
#[derive(Debug)]
pub struct PlaceLocks {
    file: File,
    /// In ascending order, so that no two sessions wait for each other.
    locks: Vec<Lock>,
}

/// A byte, and whether it is locked for this session alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lock {
    byte: i64,
    shared: bool,
}

impl PlaceLocks {
    /// Prepares a session's, by the file that all sessions of a home share; none where the plan has no write gate.
    ///
    /// # Errors
    /// When the file cannot be opened or locked, or a place of the plan not be looked at.
    pub fn open(plan: &Plan, path: &Path) -> io::Result<Option<Self>> {
        let Some(gate) = plan.gate() else { return Ok(None) };
        let is_changed = |mount: &&Mount| {
            mount.access == Access::ReadWrite && gate.hosts.iter().any(|host| mount.target.starts_with(host))
        };
        let changed = plan.steps.iter().filter_map(Step::shown).filter(is_changed);
        let locks = locks(changed.map(|mount| mount.source.as_path()))?;
        let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let mut file = OpenOptions::new();
        file.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
        let places = Self { file: file.open(path)?, locks };
        // A file system that has no locks says so now.
        places.set(libc::F_RDLCK, i64::MAX - 1, 1)?;
        places.unlock()?;
        Ok(Some(places))
    }

    /// Waits until it has the places to itself.
    pub(super) fn lock(&self) -> io::Result<()> {
        let taken = self.locks.iter().try_for_each(|lock| {
            let kind = if lock.shared { libc::F_RDLCK } else { libc::F_WRLCK };
            self.set(kind, lock.byte, 1)
        });
        if taken.is_err() {
            self.unlock()?;
        }
        taken
    }

    /// Lets others have them.
    pub(super) fn unlock(&self) -> io::Result<()> {
        self.set(libc::F_UNLCK, 0, 0)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn set(&self, kind: i32, start: i64, length: i64) -> io::Result<()> {
        let lock = range(kind, start, length)?;
        loop {
            match fcntl(&self.file, FcntlArg::F_OFD_SETLKW(&lock)) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }
}

/// A part of the file, as fcntl(2) takes it; a length of 0 is all that follows.
fn range(kind: i32, start: i64, length: i64) -> io::Result<libc::flock> {
    let short = |number: i32| i16::try_from(number).map_err(io::Error::other);
    Ok(libc::flock { l_type: short(kind)?, l_whence: short(libc::SEEK_SET)?, l_start: start, l_len: length, l_pid: 0 })
}

/// The locks for these places and what lies above them.
fn locks<'a>(places: impl Iterator<Item = &'a Path>) -> io::Result<Vec<Lock>> {
    let mut locks = Vec::new();
    for (shared, directory) in places.flat_map(|place| place.ancestors().enumerate()).map(|(up, path)| (up > 0, path)) {
        let byte = byte_of(FileId::of(&rustix::fs::lstat(directory)?));
        locks.push(Lock { byte, shared });
    }
    // What is locked for this session alone goes before.
    locks.sort_unstable();
    locks.dedup_by_key(|lock| lock.byte);
    Ok(locks)
}

/// Two directories that have the same byte merely wait for each other.
fn byte_of(file: FileId) -> i64 {
    let mixed = (file.device.wrapping_mul(SPREAD) ^ file.inode).wrapping_mul(SPREAD);
    // Not the last ones, where a lock would end beyond what an offset can be.
    (mixed >> 2).cast_signed()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(home: &Path, places: &[&Path]) -> PlaceLocks {
        let mut file = OpenOptions::new();
        let file = file.read(true).write(true).create(true).truncate(false).open(home.join("places.lock")).unwrap();
        PlaceLocks { file, locks: locks(places.iter().copied()).unwrap() }
    }

    /// Whether another could have its places now.
    fn is_free(places: &PlaceLocks) -> bool {
        let free = places.locks.iter().all(|lock| {
            let kind = if lock.shared { libc::F_RDLCK } else { libc::F_WRLCK };
            fcntl(&places.file, FcntlArg::F_OFD_SETLK(&range(kind, lock.byte, 1).unwrap())).is_ok()
        });
        places.unlock().unwrap();
        free
    }

    #[test]
    fn places_that_meet_exclude_each_other_and_others_do_not() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        for place in ["a/b", "a/c"] {
            std::fs::create_dir_all(home.join(place)).unwrap();
        }
        let at = |place: &str| of(&home, &[&home.join(place)]);
        let holder = at("a/b");
        holder.lock().unwrap();
        assert!(!is_free(&at("a/b")) && !is_free(&at("a")) && is_free(&at("a/c")));
        holder.unlock().unwrap();
        assert!(is_free(&at("a/b")) && is_free(&at("a")));
        let above = at("a");
        above.lock().unwrap();
        assert!(!is_free(&at("a/b")) && !is_free(&at("a/c")));
    }

    #[test]
    fn a_place_within_another_is_locked_once_and_in_order() {
        let home = tempfile::tempdir().unwrap();
        let inner = home.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let places = of(home.path(), &[&inner, home.path()]);
        assert!(places.locks.is_sorted() && places.locks.windows(2).all(|pair| pair[0].byte != pair[1].byte));
        assert_eq!(places.locks.iter().filter(|lock| !lock.shared).count(), 2);
    }
}
