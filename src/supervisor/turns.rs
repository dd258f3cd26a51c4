//! Sessions whose places of the host are the same, or lie within each other, take turns at what their write gates judge and then do:
//! meanwhile no other changes what was judged.
//!
//! A turn is held by locks in a file of omni's home, which no harness reaches. Every directory of the machine has a byte there: a
//! session locks those of its places for itself alone, and those of the directories above them with others (`F_OFD_SETLKW`, fcntl(2)).

use super::host::FileId;
use super::plan::{Access, Mount, Plan, Step};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Odd, and as near as that comes to 2⁶⁴ divided by the golden ratio: spreads numbers that are close to each other.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The turns of one session.
#[derive(Debug)]
pub struct Turns {
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

impl Turns {
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
        let turns = Self { file: file.open(path)?, locks };
        // A file system that has no locks says so now.
        turns.set(libc::F_RDLCK, i64::MAX - 1, 1)?;
        turns.end()?;
        Ok(Some(turns))
    }

    /// Waits for a turn.
    pub(super) fn take(&self) -> io::Result<()> {
        let taken = self.locks.iter().try_for_each(|lock| {
            let kind = if lock.shared { libc::F_RDLCK } else { libc::F_WRLCK };
            self.set(kind, lock.byte, 1)
        });
        if taken.is_err() {
            self.end()?;
        }
        taken
    }

    /// Lets the others have theirs.
    pub(super) fn end(&self) -> io::Result<()> {
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
        let found = std::fs::symlink_metadata(directory)?;
        let byte = byte_of(FileId { device: found.dev(), inode: found.ino() });
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

    fn of(home: &Path, places: &[&Path]) -> Turns {
        let mut file = OpenOptions::new();
        let file = file.read(true).write(true).create(true).truncate(false).open(home.join("turns")).unwrap();
        Turns { file, locks: locks(places.iter().copied()).unwrap() }
    }

    /// Whether another could have its turn now.
    fn is_free(turns: &Turns) -> bool {
        let free = turns.locks.iter().all(|lock| {
            let kind = if lock.shared { libc::F_RDLCK } else { libc::F_WRLCK };
            fcntl(&turns.file, FcntlArg::F_OFD_SETLK(&range(kind, lock.byte, 1).unwrap())).is_ok()
        });
        turns.end().unwrap();
        free
    }

    #[test]
    fn places_that_meet_take_turns_and_others_do_not() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        for place in ["a/b", "a/c"] {
            std::fs::create_dir_all(home.join(place)).unwrap();
        }
        let at = |place: &str| of(&home, &[&home.join(place)]);
        let holder = at("a/b");
        holder.take().unwrap();
        assert!(!is_free(&at("a/b")) && !is_free(&at("a")) && is_free(&at("a/c")));
        holder.end().unwrap();
        assert!(is_free(&at("a/b")) && is_free(&at("a")));
        let above = at("a");
        above.take().unwrap();
        assert!(!is_free(&at("a/b")) && !is_free(&at("a/c")));
    }

    #[test]
    fn a_place_within_another_is_locked_once_and_in_order() {
        let home = tempfile::tempdir().unwrap();
        let inner = home.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let turns = of(home.path(), &[&inner, home.path()]);
        assert!(turns.locks.is_sorted() && turns.locks.windows(2).all(|pair| pair[0].byte != pair[1].byte));
        assert_eq!(turns.locks.iter().filter(|lock| !lock.shared).count(), 2);
    }
}
