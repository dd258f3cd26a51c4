//! A session's control groups: made before the sandbox, entered by its first process, read when it has ended, removed.
//!
//! Nothing inside can reach them: no control group is mounted in the sandbox, and its cgroup namespace begins here.

use super::decide::{GroupPlan, LimitPlan, Setting};
use super::hierarchy::{OWN_LEAF, Version};
use super::victim::Victims;
use crate::model::{HeldLimit, LimitKind, ReachedLimit};
use crate::supervisor::SupervisorError;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the names of our groups begin with; the process id of the session follows.
const PREFIX: &str = "omni-";
/// Most entries of a parent that are looked at for what killed sessions left.
const SWEPT_MAX: usize = 4096;
/// Largest file of counters that is read.
const COUNTERS_BYTES_MAX: usize = 16 * 1024;

/// The control groups of one session. Dropping it removes them, which works once nothing is in them.
#[derive(Debug)]
pub struct Group {
    directories: Vec<Directory>,
    /// Readable when the kernel has no memory left for the session and does not end all of it by itself.
    alarm: Option<OwnedFd>,
    victims: Option<Victims>,
}

#[derive(Debug)]
struct Directory {
    version: Version,
    path: PathBuf,
    handle: OwnedFd,
    held: Vec<HeldLimit>,
}

impl Group {
    /// Makes the groups that the limits need; none where no limit needs one. Removes what sessions that were killed
    /// left in the same places.
    ///
    /// # Errors
    /// [`SupervisorError::Group`]; nothing of the session is left behind.
    pub fn make(plan: &LimitPlan) -> Result<Option<Self>, SupervisorError> {
        if plan.groups.is_empty() {
            return Ok(None);
        }
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{PREFIX}{}-{moment:x}", std::process::id());
        let mut group = Self { directories: Vec::new(), alarm: None, victims: None };
        for wanted in &plan.groups {
            let path = wanted.directory().join(&name);
            let failed = |error| SupervisorError::Group { path: path.clone(), error };
            sweep(wanted.directory());
            prepare_parent(wanted).map_err(failed)?;
            rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)).map_err(|error| failed(error.into()))?;
            let handle = rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let handle = handle.map_err(|error| {
                // What was just made is empty.
                let _ = rustix::fs::rmdir(&path);
                failed(error.into())
            })?;
            let version = wanted.parent.version;
            // Before anything else can fail, so that it is removed then.
            group.directories.push(Directory { version, path: path.clone(), handle, held: wanted.held.clone() });
            group.furnish(wanted, &name).map_err(failed)?;
        }
        Ok(Some(group))
    }

    /// Writes the settings of the group that was made last.
    fn furnish(&mut self, wanted: &GroupPlan, name: &str) -> io::Result<()> {
        let Some(directory) = self.directories.last() else { return Ok(()) };
        for setting in &wanted.settings {
            directory.set(setting)?;
        }
        if wanted.held.iter().any(|held| held.limit == LimitKind::Memory) {
            self.victims = Victims::watch(name);
            if directory.version == Version::V1 {
                self.alarm = Some(directory.alarm()?);
            }
        }
        Ok(())
    }

    /// Puts a process, and what it will start, into the groups.
    pub(in super::super) fn take_in(&self, pid: Pid) -> Result<(), SupervisorError> {
        let pid = pid.as_raw_nonzero().to_string();
        self.directories.iter().try_for_each(|directory| {
            let failed = |error| SupervisorError::Group { path: directory.path.clone(), error };
            directory.write("cgroup.procs", &pid).map_err(failed)
        })
    }

    /// Readable when the session has used up its memory and must be ended.
    #[must_use]
    pub fn alarm(&self) -> Option<BorrowedFd<'_>> {
        self.alarm.as_ref().map(AsFd::as_fd)
    }

    fn rang(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let rings = |alarm: &OwnedFd| poll(&mut [PollFd::new(alarm, PollFlags::IN)], Some(&now)) == Ok(1);
        self.alarm.as_ref().is_some_and(rings)
    }

    /// The limits that were reached so far.
    #[must_use]
    pub fn reached(&self) -> Vec<ReachedLimit> {
        let held =
            self.directories.iter().flat_map(|directory| directory.held.iter().map(move |held| (directory, *held)));
        let reached = held.filter_map(|(directory, held)| {
            let times = directory.times(held.limit, self.rang())?;
            let process = match held.limit {
                LimitKind::Memory => self.victims.as_ref().and_then(Victims::first),
                _ => None,
            };
            Some(ReachedLimit { held, times, process })
        });
        reached.collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for directory in &self.directories {
            // What is still in use is swept by a later start.
            let _ = rustix::fs::rmdir(&directory.path);
        }
    }
}

impl Directory {
    fn set(&self, setting: &Setting) -> io::Result<()> {
        match self.write(setting.file, &setting.value) {
            Err(error) if setting.optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), format!("{} = {}: {error}", setting.file, setting.value))),
            Ok(()) => Ok(()),
        }
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let file = rustix::fs::openat(&self.handle, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        match rustix::io::write(&file, value.as_bytes())? {
            written if written == value.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// An event counter that the kernel raises when the group is out of memory (the kernel's admin-guide/cgroup-v1,
    /// memory.rst, section 10).
    fn alarm(&self) -> io::Result<OwnedFd> {
        let alarm = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control =
            rustix::fs::openat(&self.handle, "memory.oom_control", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        self.write("cgroup.event_control", &format!("{} {}", alarm.as_raw_fd(), control.as_raw_fd()))?;
        Ok(alarm)
    }

    /// How often a limit of the group took effect; none when it did not. Of version 1, only the alarm says that it was
    /// this group's memory that was used up.
    fn times(&self, limit: LimitKind, rang: bool) -> Option<u64> {
        let count = |file: &str, key: &str| counter(&self.read(file), key);
        let times = match (self.version, limit) {
            // A process may also be killed because the machine has no memory left, which is not this limit's doing.
            (Version::V1, LimitKind::Memory) if rang => count("memory.oom_control", "oom_kill").max(1),
            (Version::V2, LimitKind::Memory) if count("memory.events", "oom") > 0 => {
                count("memory.events", "oom_kill").max(1)
            }
            (_, LimitKind::Pids) => count("pids.events", "max"),
            (_, LimitKind::Cpus) => count("cpu.stat", "nr_throttled"),
            _ => 0,
        };
        (times > 0).then_some(times)
    }

    /// A file of the group; what cannot be read says nothing.
    fn read(&self, file: &str) -> String {
        let mut bytes = vec![0; COUNTERS_BYTES_MAX];
        let opened = rustix::fs::openat(&self.handle, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let read = opened.and_then(|file| rustix::io::read(&file, &mut bytes)).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }
}

/// A number in a file of `key value` lines.
fn counter(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

/// Gets out of the way where omni's own group has to hand controllers on, and has it do so.
fn prepare_parent(wanted: &GroupPlan) -> io::Result<()> {
    let directory = wanted.directory();
    if wanted.parent.leave {
        let leaf = directory.join(OWN_LEAF);
        match rustix::fs::mkdir(&leaf, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // 0 is the process that writes it (cgroups(7)).
        std::fs::write(leaf.join("cgroup.procs"), "0")?;
    }
    for controller in &wanted.parent.enable {
        std::fs::write(directory.join("cgroup.subtree_control"), format!("+{}", controller.name()))?;
    }
    Ok(())
}

/// Removes groups whose session is gone. What the kernel does not let go, or who cannot be looked at, stays.
pub(super) fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.take(SWEPT_MAX).flatten() {
        if entry.file_name().to_str().and_then(owner).is_some_and(is_gone) {
            let _ = rustix::fs::rmdir(entry.path());
        }
    }
}

/// The session's process that made a group, by the group's name.
fn owner(name: &str) -> Option<Pid> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    Pid::from_raw(pid.parse().ok()?)
}

fn is_gone(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_their_whole_name() {
        let text = "low 0\nhigh 3\nmax 12\noom 2\noom_kill 1\noom_group_kill 7\n";
        assert_eq!((counter(text, "oom"), counter(text, "oom_kill"), counter(text, "none")), (2, 1, 0));
    }

    #[test]
    fn a_group_tells_whose_it_was() {
        assert_eq!(owner("omni-17-4f2"), Pid::from_raw(17));
        for other in ["omni-17", "omni-x-1", "omni-0-1", "omni--1-1", OWN_LEAF, "user.slice"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn only_groups_of_the_dead_are_swept() {
        let place = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("true").spawn().unwrap();
        dead.wait().unwrap();
        let names = [format!("omni-{}-1", dead.id()), format!("omni-{}-1", std::process::id()), "other".to_owned()];
        for name in &names {
            std::fs::create_dir(place.path().join(name)).unwrap();
        }
        sweep(place.path());
        let left = names.map(|name| place.path().join(name).exists());
        assert_eq!(left, [false, true, true]);
    }
}
