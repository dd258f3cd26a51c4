//! The room that a session's changes take on the disk, looked at from time to time while the harness runs.
//!
//! No file system gives an ordinary user a quota for a directory, so the layer is walked: a bounded piece at each look, in
//! the session's own process, and nothing at all where no limit was set. What was written between two looks is over the
//! limit by then. Everything in the layer is hostile: nothing is followed, and what cannot be seen is taken for full.

use crate::model::{HeldLimit, LimitKind, ReachedLimit};
use crate::supervisor::{OVERLAY_UPPER, Plan, Step};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Most entries that one look takes in.
const LOOK_ENTRIES_MAX: usize = 2048;
/// Deepest directory that is walked.
const DEPTH_MAX: usize = 200;
/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The watch over one layer.
pub(super) struct DiskWatch {
    upper: OwnedFd,
    held: HeldLimit,
    /// Free bytes of the file system when the session began.
    free: u64,
    /// The directories that are being read, the deepest last.
    open: Vec<Dir>,
    /// Bytes counted in this walk.
    counted: u64,
    next: Instant,
}

impl DiskWatch {
    /// The watch that a plan asks for, if it does.
    pub(super) fn of(plan: &Plan) -> io::Result<Option<Self>> {
        let held = plan.limits.held.iter().find(|held| held.limit == LimitKind::Disk);
        let layer = plan.steps.iter().find_map(|step| match step {
            Step::Overlay { layer, .. } => Some(layer),
            _ => None,
        });
        let (Some(held), Some(layer)) = (held, layer) else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = rustix::fs::openat(CWD, layer.join(OVERLAY_UPPER), flags, Mode::empty())?;
        let free = free_bytes(&upper)?;
        Ok(Some(Self { upper, held: *held, free, open: Vec::new(), counted: 0, next: Instant::now() + LOOK_EVERY }))
    }

    /// When to look next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Looks at the next piece, if it is time to; whether the limit is reached.
    pub(super) fn is_full(&mut self) -> bool {
        if Instant::now() < self.next {
            return false;
        }
        // What cannot be looked at may hold all that the file system has lost meanwhile.
        let full = match self.look() {
            Ok(()) => self.counted > self.held.amount,
            Err(_) => free_bytes(&self.upper).map_or(true, |free| self.free.saturating_sub(free) > self.held.amount),
        };
        self.next = Instant::now() + LOOK_EVERY;
        full
    }

    /// What is said of it when it was.
    pub(super) fn reached(&self) -> ReachedLimit {
        ReachedLimit { held: self.held, times: 1, process: None }
    }

    /// Goes on with the walk, or begins anew when it came to its end.
    fn look(&mut self) -> io::Result<()> {
        if self.open.is_empty() {
            self.counted = 0;
            self.open.push(Dir::read_from(&self.upper)?);
        }
        for _ in 0..LOOK_ENTRIES_MAX {
            let Some(directory) = self.open.last_mut() else { break };
            match directory.read() {
                Some(entry) => {
                    let entry = entry?;
                    self.take_in(entry.file_name())?;
                }
                None => drop(self.open.pop()),
            }
        }
        Ok(())
    }

    fn take_in(&mut self, name: &CStr) -> io::Result<()> {
        if name == c"." || name == c".." {
            return Ok(());
        }
        let Some(directory) = self.open.last() else { return Ok(()) };
        let place = directory.fd()?;
        let stat = match rustix::fs::statat(place, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It was removed meanwhile.
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            other => other?,
        };
        // A file with several names is counted once in all.
        self.counted += stat.st_blocks.unsigned_abs() * BLOCK_BYTES / u64::from(stat.st_nlink as u32).max(1);
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
            if self.open.len() >= DEPTH_MAX {
                return Err(io::Error::other("too deep"));
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below = rustix::fs::openat(place, name, flags, Mode::empty());
            self.open.push(Dir::new(below?)?);
        }
        Ok(())
    }
}

fn free_bytes(place: &OwnedFd) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(place)?;
    Ok(stat.f_bfree * stat.f_frsize)
}
