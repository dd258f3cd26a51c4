//! The rest of the look for files that look like secrets, while the harness runs: what the look before the start had no time
//! for is covered in the sandbox as it is found.
//!
//! A process of its own does it, since it enters the sandbox's namespaces. The harness may move things about meanwhile; it
//! gains no more by that than it could have read at once.

use super::cover_watch::LateHidden;
use super::prepare::Prepared;
use super::secret_look::{AHEAD_MAX, FOUND_MAX, HIDDEN_TOLD_MAX};
use crate::model::Event;
use crate::policy::{SecretNames, fold, is_unseen};
use crate::supervisor::{LateCover, wire};
use crate::sys::{self, Forked, fork_single_threaded};
use rustix::fs::FileType;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How often everything is looked at where directories are moved about.
const PASSES_MAX: usize = 8;
/// Most names that are looked at in all: the harness can make ever more of them, and this process is not held to its limits.
const NAMES_MAX: u64 = 16 << 20;

/// What the look came to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Found {
    count: u64,
    /// The first of them, relative to the workspace.
    paths: Vec<String>,
    /// Whether something was left out, by one of the bounds or since it could not be covered.
    incomplete: bool,
}

/// What the process that looks waits for.
#[derive(Debug, Serialize, Deserialize)]
struct Enter;

/// What the process that looks says first: it has entered the sandbox, or why it could not.
type Entered = Result<(), String>;

/// What it says then.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// It covered this, by its path below the workspace; the directory that it lies in comes beside.
    Hidden(Vec<u8>),
    /// That is all.
    Over(Found),
}

/// What is heard of it.
pub(super) enum Looked {
    /// Something was covered.
    Hidden(LateHidden),
    /// The look is over, and came to this.
    Over(Box<Event>),
}

/// The process that looks.
#[derive(Debug)]
pub(super) struct LateLook {
    pidfd: OwnedFd,
    told: OwnedFd,
    /// What was hidden before the start.
    before: Found,
    workspace: PathBuf,
}

impl LateLook {
    /// Makes the process while the sandbox is built, if the look before the start left anything to look at. `init` is the
    /// sandbox's process 1. It waits outside until [`LateLook::enter`].
    pub(super) fn make(prepared: &Prepared, init: BorrowedFd<'_>) -> io::Result<Option<Self>> {
        if !prepared.hidden.incomplete {
            return Ok(None);
        }
        let (told, tell) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        match fork_single_threaded()? {
            Forked::Parent { pidfd, .. } => {
                drop(tell);
                let (count, paths) = prepared.hidden.told(&prepared.plan.directory);
                let (before, workspace) = (Found { count, paths, incomplete: false }, prepared.plan.directory.clone());
                Ok(Some(Self { pidfd, told, before, workspace }))
            }
            Forked::Child => {
                let done = live(prepared, init, &tell);
                std::process::exit(i32::from(done.is_err()));
            }
        }
    }

    /// Has it enter the sandbox, which stands, and begin. Before the go, after which process 1 lets nobody in.
    pub(super) fn enter(&self) -> io::Result<()> {
        wire::send(self.told.as_fd(), &Enter, &[])?;
        match wire::receive::<Entered>(self.told.as_fd())? {
            Some((Ok(()), _)) => Ok(()),
            Some((Err(why), _)) => Err(io::Error::other(why)),
            None => Err(io::Error::other("the process that does it ended")),
        }
    }

    /// Readable when there is something to hear.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// What it says next; in the end what it came to, together with what was hidden before the start.
    pub(super) fn hear(&self) -> Looked {
        let found = match wire::receive::<Said>(self.told.as_fd()) {
            Ok(Some((Said::Hidden(below), descriptors))) => match descriptors.into_iter().next() {
                Some(directory) => {
                    let path = self.workspace.join(OsStr::from_bytes(&below));
                    return Looked::Hidden(LateHidden { path, directory });
                }
                None => Found { incomplete: true, ..Found::default() },
            },
            Ok(Some((Said::Over(found), _))) => found,
            _ => Found { incomplete: true, ..Found::default() },
        };
        let paths = self.before.paths.iter().chain(&found.paths).take(HIDDEN_TOLD_MAX).cloned().collect();
        let incomplete = found.incomplete || self.before.incomplete;
        let count = self.before.count + found.count;
        Looked::Over(Box::new(Event::SecretFilesHidden { count, paths, incomplete }))
    }

    /// Notes that something which it covered cannot be watched.
    pub(super) fn leave_out(&mut self) {
        self.before.incomplete = true;
    }
}

impl Drop for LateLook {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, only to reap.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

/// The whole life of the process that looks.
fn live(prepared: &Prepared, init: BorrowedFd<'_>, tell: &OwnedFd) -> io::Result<()> {
    sys::close_inherited_except(&[init, tell.as_fd()])?;
    if wire::receive::<Enter>(tell.as_fd())?.is_none() {
        // There will be no session.
        return Ok(());
    }
    let entered = LateCover::enter(init, &prepared.plan.identity);
    let said: Entered = entered.as_ref().map(drop).map_err(ToString::to_string);
    wire::send(tell.as_fd(), &said, &[])?;
    let cover = entered?;
    // Only now: becoming another user cleared it (prctl(2), PR_SET_PDEATHSIG).
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut walk = Walk {
        workspace: cover.open(&prepared.plan.directory)?,
        cover,
        names: &prepared.names,
        ahead: VecDeque::new(),
        missed: false,
        seen: 0,
        found: Found::default(),
        tell: tell.as_fd(),
    };
    walk.go_through();
    wire::send(tell.as_fd(), &Said::Over(walk.found), &[])
}

struct Walk<'a> {
    cover: LateCover,
    workspace: OwnedFd,
    names: &'a SecretNames,
    /// Directories that were not looked into yet, by their paths and those as names are compared.
    ahead: VecDeque<(PathBuf, Vec<String>)>,
    /// Whether a directory was no longer where it had been seen.
    missed: bool,
    /// How many names were looked at.
    seen: u64,
    found: Found,
    tell: BorrowedFd<'a>,
}

impl Walk<'_> {
    /// Looks at everything, and again where something was moved meanwhile.
    fn go_through(&mut self) {
        for _ in 0..PASSES_MAX {
            self.missed = false;
            self.ahead.push_back((PathBuf::from("."), Vec::new()));
            while self.seen < NAMES_MAX
                && let Some((path, mut above)) = self.ahead.pop_front()
            {
                self.look_into(&path, &mut above);
            }
            if self.seen >= NAMES_MAX {
                break;
            }
            if !self.missed {
                return;
            }
        }
        self.found.incomplete = true;
    }

    fn look_into(&mut self, path: &Path, above: &mut Vec<String>) {
        let directory = match self.cover.open_below(self.workspace.as_fd(), path) {
            Ok(directory) => directory,
            // What is covered, or may not be read, shows nothing to anybody.
            Err(error) => return self.missed |= error.kind() == io::ErrorKind::NotFound || is_link(&error),
        };
        let Ok(entries) = self.cover.list(directory.as_fd()) else { return };
        for entry in entries.flatten() {
            if self.seen >= NAMES_MAX {
                return;
            }
            self.seen += 1;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(directory.as_fd(), name),
                known => known,
            };
            self.consider(directory.as_fd(), path, above, name, kind);
        }
    }

    /// `names` are the directory's, and so again afterwards.
    fn consider(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &Path,
        names: &mut Vec<String>,
        name: &CStr,
        kind: FileType,
    ) {
        let is_directory = kind == FileType::Directory;
        names.push(fold(name.to_bytes()));
        if self.names.hides(names, is_directory) {
            self.hide(directory, path, name);
        } else if is_directory && !is_unseen(name.to_bytes()) {
            if self.ahead.len() < AHEAD_MAX {
                self.ahead.push_back((path.join(OsStr::from_bytes(name.to_bytes())), names.clone()));
            } else {
                self.found.incomplete = true;
            }
        }
        names.pop();
    }

    fn hide(&mut self, directory: BorrowedFd<'_>, path: &Path, name: &CStr) {
        if self.found.count >= FOUND_MAX as u64 {
            self.found.incomplete = true;
            return;
        }
        match self.cover.hide(directory, name) {
            Ok(true) => {
                self.found.count += 1;
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                let below = path.strip_prefix(".").unwrap_or(&path);
                if self.found.paths.len() < HIDDEN_TOLD_MAX {
                    self.found.paths.push(below.to_string_lossy().into_owned());
                }
                let said = Said::Hidden(below.as_os_str().as_bytes().to_vec());
                self.found.incomplete |= wire::send(self.tell, &said, &[directory]).is_err();
            }
            Ok(false) => {}
            Err(_) => self.found.incomplete = true,
        }
    }
}

/// Whether a link stands where there was none.
fn is_link(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR))
}

fn kind_of(directory: BorrowedFd<'_>, name: &CStr) -> FileType {
    let found = rustix::fs::statat(directory, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    found.map_or(FileType::Unknown, |found| FileType::from_raw_mode(found.st_mode))
}
