//! The room that a session's changes take on the disk, and what they leave, looked at from time to time while the harness
//! runs.
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
use std::path::Path;
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Most entries that one look takes in.
const LOOK_ENTRIES_MAX: usize = 2048;
/// Deepest directory that is walked.
const DEPTH_MAX: usize = 200;
/// The unit of `st_blocks` (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The watch over one session's disk.
pub(super) struct DiskWatch {
    layer: Option<LayerWatch>,
    floor: Option<Floor>,
    next: Instant,
    /// The limit that is reached.
    reached: Option<HeldLimit>,
}

/// What must stay free on the file system that changes go to.
struct Floor {
    place: OwnedFd,
    held: HeldLimit,
}

impl Floor {
    /// Whether less is left for ordinary users. A file system that cannot be asked has none left.
    fn is_passed(&self) -> bool {
        rustix::fs::fstatvfs(&self.place).map_or(true, |stat| stat.f_bavail * stat.f_frsize < self.held.amount)
    }
}

/// The watch over one layer.
struct LayerWatch {
    upper: OwnedFd,
    held: HeldLimit,
    /// Free bytes of the file system when the session began.
    free: u64,
    /// The directories that are being read, the deepest last.
    open: Vec<Dir>,
    /// Bytes counted in this walk.
    counted: u64,
}

impl DiskWatch {
    /// The watch that a plan asks for, if it does.
    pub(super) fn of(plan: &Plan) -> io::Result<Option<Self>> {
        let held = |limit| plan.limits.held.iter().find(|held| held.limit == limit).copied();
        let layer = plan.steps.iter().find_map(|step| match step {
            Step::Overlay { layer, .. } => Some(layer),
            _ => None,
        });
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = layer.map(|layer| layer.join(OVERLAY_UPPER));
        let open = |place: &Path| rustix::fs::openat(CWD, place, flags, Mode::empty());
        let floor = match held(LimitKind::DiskFree) {
            Some(held) => Some(Floor { place: open(upper.as_deref().unwrap_or(&plan.directory))?, held }),
            None => None,
        };
        if let Some(floor) = floor.as_ref().filter(|floor| floor.is_passed()) {
            let asked = floor.held.limit.amount(floor.held.amount);
            return Err(io::Error::other(format!(
                "less than the {asked} of `disk_free` is left: make room, or ask for less"
            )));
        }
        let layer = match (held(LimitKind::Disk), upper) {
            (Some(held), Some(upper)) => {
                let upper = open(&upper)?;
                let free = free_bytes(&upper)?;
                Some(LayerWatch { upper, held, free, open: Vec::new(), counted: 0 })
            }
            _ => None,
        };
        let watched = layer.is_some() || floor.is_some();
        Ok(watched.then(|| Self { layer, floor, next: Instant::now() + LOOK_EVERY, reached: None }))
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
        let layer = self.layer.as_mut().and_then(|layer| layer.is_full().then_some(layer.held));
        let floor = self.floor.as_ref().filter(|floor| floor.is_passed()).map(|floor| floor.held);
        self.reached = layer.or(floor);
        self.next = Instant::now() + LOOK_EVERY;
        self.reached.is_some()
    }

    /// What is said of the limit that was reached, if one was.
    pub(super) fn reached(&self) -> Option<ReachedLimit> {
        self.reached.map(|held| ReachedLimit { held, times: 1, process: None })
    }
}

impl LayerWatch {
    /// Looks at the next piece; whether it takes more room than it may.
    fn is_full(&mut self) -> bool {
        // What cannot be looked at may hold all that the file system has lost meanwhile.
        match self.look() {
            Ok(()) => self.counted > self.held.amount,
            Err(_) => free_bytes(&self.upper).map_or(true, |free| self.free.saturating_sub(free) > self.held.amount),
        }
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
