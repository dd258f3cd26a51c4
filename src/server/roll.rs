//! The roll of the sessions that run: one small file each, by which a server that follows another knows whom to count.

use super::error::ServerError;
use crate::store::process_start_ticks;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Most sessions of an earlier server that are looked at.
const ADOPTED_MAX: usize = 4096;

/// The directory with the files.
#[derive(Clone, Debug)]
pub(super) struct Roll(PathBuf);

/// A session's process that an earlier server started.
#[derive(Debug)]
pub(super) struct Adopted {
    pub pid: u32,
    pub uid: u32,
    pub process: OwnedFd,
}

impl Roll {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Notes a process that serves a user's session: its start time tells it from a later one of the same id.
    pub(super) fn enter(&self, pid: u32, uid: u32) -> Result<(), ServerError> {
        let path = self.file(pid);
        let ticks = process_start_ticks(pid).unwrap_or_default();
        fs::write(&path, format!("{uid} {ticks}")).map_err(ServerError::at("write", &path))
    }

    /// Strikes a process off.
    pub(super) fn strike(&self, pid: u32) {
        // Whatever is left is found out to be nobody's by the next server.
        let _ = fs::remove_file(self.file(pid));
    }

    /// The processes on the roll that still live; the others are struck off.
    pub(super) fn adopt(&self) -> Result<Vec<Adopted>, ServerError> {
        let entries = fs::read_dir(&self.0).map_err(ServerError::at("read", &self.0))?;
        let names = entries.take(ADOPTED_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let pids: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
        let adopted = pids.into_iter().filter_map(|pid| {
            let found = adopt(&self.file(pid), pid);
            if found.is_none() {
                self.strike(pid);
            }
            found
        });
        Ok(adopted.collect())
    }

    fn file(&self, pid: u32) -> PathBuf {
        self.0.join(pid.to_string())
    }
}

fn adopt(path: &Path, pid: u32) -> Option<Adopted> {
    let text = fs::read_to_string(path).ok()?;
    let (uid, ticks) = text.split_once(' ')?;
    let process = pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    // Only now: the descriptor stays with the process that is looked at here.
    (process_start_ticks(pid)? == ticks.parse::<u64>().ok()?).then_some(Adopted {
        pid,
        uid: uid.parse().ok()?,
        process,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_lives_is_adopted_and_who_does_not_is_struck_off() {
        let place = tempfile::tempdir().unwrap();
        let roll = Roll::new(place.path().to_owned());
        let own = std::process::id();
        roll.enter(own, 1234).unwrap();
        fs::write(place.path().join("1"), "1234 7").unwrap();
        fs::write(place.path().join("999999999"), "1234 1").unwrap();
        let adopted: Vec<_> = roll.adopt().unwrap().iter().map(|found| (found.pid, found.uid)).collect();
        assert_eq!(adopted, [(own, 1234)]);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
