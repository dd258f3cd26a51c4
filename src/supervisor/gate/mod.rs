//! The write gate: process 1 judges and performs what the harness does to names in places of the host.
//!
//! Landlock forbids the harness itself every way of writing there. Its system calls that would write wait for an answer
//! from here (seccomp_unotify(2)): the gate reads their operands once, finds where they lead, judges that and performs the
//! act on what it has open. What it hands back to the kernel can only succeed where Landlock allows it, in the sandbox's
//! own places, so it does not matter what the harness makes of its memory meanwhile. All acts come one after the other,
//! and those whose judgement looked at what is there come one after the other of all sessions that could change it, so that no
//! harness can swap what was judged.

mod act;
mod call;
mod caller;
mod callers;
mod git_links;
mod links;
mod lock;
mod place;
mod refusals;
mod repositories;

pub(super) use call::ASKED;

use super::place_locks::PlaceLocks;
use super::plan::WriteGate;
use crate::model::FileAct;
use crate::policy::RepositoryDeed;
use crate::sys::{self, CallAnswer, NotifiedCall};
use caller::Caller;
use callers::Callers;
use links::Links;
use lock::GateLock;
use refusals::Refusals;
use repositories::Repositories;
use rustix::event::Timespec;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The gate of one sandbox.
pub(super) struct Gate<'a> {
    listener: OwnedFd,
    plan: &'a WriteGate,
    refusals: Refusals,
    callers: Callers,
    repositories: Repositories,
    links: Links,
    lock: GateLock,
    /// When it took over.
    since: Timespec,
    /// Calls whose time has not come: opening a named pipe that nobody reads.
    waiting: Vec<NotifiedCall>,
}

/// What becomes of a call.
enum Answer {
    /// It was done, or came to nothing.
    Done,
    /// It gets this file.
    File { file: OwnedFd, close_on_exec: bool },
    /// The kernel may do it.
    Kernel,
    /// It is tried again.
    Later,
}

/// Most calls that are tried again; what comes beyond fails as if it had been asked not to wait.
const WAITING_MAX: usize = 64;
/// How often they are.
const WAITING_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Whose a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The sandbox's own, where Landlock lets the harness write.
    Free,
    /// The sandbox's own, or one where mounts forbid writing: nothing is judged, but the gate has to do it.
    Own,
    /// The host's.
    Hosts,
}

impl<'a> Gate<'a> {
    /// Takes over the answering of a filter's questions.
    pub(super) fn open(listener: OwnedFd, plan: &'a WriteGate, places: PlaceLocks) -> Self {
        // Permissions of new files are the caller's to reckon.
        rustix::process::umask(Mode::empty());
        // Only quicker.
        let _ = sys::wake_callers_in_place(listener.as_fd());
        let (refusals, callers) = (Refusals::default(), Callers::default());
        let (repositories, links) = (Repositories::default(), Links::default());
        // The clock that files are dated by.
        let since = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        let lock = GateLock::new(places);
        Self { listener, plan, refusals, callers, repositories, links, lock, since, waiting: Vec::new() }
    }

    /// Readable when a call waits.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Answers one call that waits.
    pub(super) fn answer(&mut self, wire: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(call) = sys::receive_notified_call(self.listener.as_fd())? {
            self.settle(call);
        }
        self.refusals.tell(wire)
    }

    /// After how long to try again what waits, if anything does.
    pub(super) fn look_again(&self) -> Option<Timespec> {
        (!self.waiting.is_empty()).then_some(WAITING_LOOK)
    }

    /// Tries again what waits.
    pub(super) fn try_again(&mut self) {
        for call in std::mem::take(&mut self.waiting) {
            self.settle(call);
        }
    }

    fn settle(&mut self, call: NotifiedCall) {
        let answer = self.perform(&call);
        // A caller that was killed waits no more, and nobody misses the answer.
        let _ = match answer {
            Ok(Answer::Later) if self.waiting.len() < WAITING_MAX => {
                self.waiting.push(call);
                Ok(())
            }
            Ok(Answer::Later) => self.say(&call, CallAnswer::Error(libc::ENXIO)),
            Ok(Answer::Done) => self.say(&call, CallAnswer::Value(0)),
            Ok(Answer::Kernel) => self.say(&call, CallAnswer::Kernel),
            Ok(Answer::File { file, close_on_exec }) => {
                match self.say(&call, CallAnswer::Descriptor { file: file.as_fd(), close_on_exec }) {
                    Err(error) => self.say(&call, CallAnswer::Error(error.raw_os_error().unwrap_or(libc::EMFILE))),
                    done => done,
                }
            }
            Err(error) => self.say(&call, CallAnswer::Error(error.raw_os_error())),
        };
    }

    /// Tells how many refusals could not be told one by one.
    pub(super) fn close(self, wire: BorrowedFd<'_>) -> io::Result<()> {
        self.refusals.tell_rest(wire)
    }

    fn say(&self, call: &NotifiedCall, answer: CallAnswer<'_>) -> io::Result<()> {
        sys::answer_call(self.listener.as_fd(), call.id, answer)
    }

    fn perform(&mut self, call: &NotifiedCall) -> Result<Answer, Errno> {
        let Some(act) = call::decode(call) else { return Ok(Answer::Kernel) };
        // Whoever is in no process namespace below this one is not the harness's.
        if call.thread == 0 {
            return Err(Errno::PERM);
        }
        let caller = Caller(call.thread);
        self.callers.calls(caller);
        let begun = if act.changes_what_others_judge() { self.lock.take() } else { Ok(()) };
        let mut answer = begun.and_then(|()| self.act(call.id, caller, act));
        if self.lock.is_wanted() {
            answer = self.lock.take().and_then(|()| self.act(call.id, caller, act));
        }
        self.lock.release()?;
        answer
    }

    /// Fails when the call does not wait any more, so that what was read of its process may be another's.
    fn still(&self, id: u64) -> Result<(), Errno> {
        if sys::notified_call_waits(self.listener.as_fd(), id) { Ok(()) } else { Err(Errno::INTR) }
    }

    /// Whose a path is.
    fn whose(&self, path: &[u8]) -> Whose {
        let path = as_path(path);
        if self.plan.hosts.iter().any(|place| path.starts_with(place)) {
            return Whose::Hosts;
        }
        let free = self.plan.free.iter().any(|place| path.starts_with(place) && path != place);
        if free { Whose::Free } else { Whose::Own }
    }

    /// Remembers a refusal for the record.
    fn refused(&mut self, act: FileAct, path: &[u8], rule: &str) -> Errno {
        self.refusals.note(act, path, rule);
        Errno::ACCESS
    }

    /// Judges an act on a path; a refusal is remembered for the record.
    fn judge(&mut self, act: FileAct, path: &[u8]) -> Result<(), Errno> {
        self.judge_deed(act, path, None).map(drop)
    }

    /// The same of an act that may be let happen to a protected name. Says whether it was.
    fn judge_deed(&mut self, act: FileAct, path: &[u8], deed: Option<RepositoryDeed>) -> Result<bool, Errno> {
        let Some(judged) = self.plan.judged(as_path(path)) else { return Ok(false) };
        if judged.may_make_a_git_directory() {
            self.lock.require()?;
        }
        let Err(by) = self.plan.protection.judge(act, &judged, &mut |depth, name| has(path, depth, name)) else {
            return Ok(false);
        };
        if deed.is_some() || by.is_about_a_git_directory() {
            self.lock.require()?;
        }
        if deed.is_some_and(|deed| self.lets(deed, act, path, &judged)) {
            return Ok(true);
        }
        if by.is_about_a_git_directory() && self.is_piece_of_own(act, path, &judged) {
            return Ok(false);
        }
        // Nothing is made over what is there, so that this is what the caller would hear outside: git(1) makes its directory twice.
        if act == FileAct::Make && repositories::file_at(path).is_some() {
            return Err(Errno::EXIST);
        }
        Err(self.refused(act, path, by.rule))
    }
}

/// Whether the directory that is so many names into a path has an entry of this name, a dangling link included. What
/// cannot be looked at is taken for having it.
fn has(path: &[u8], depth: usize, name: &str) -> bool {
    let entry = [&prefix(path, depth)[..], b"/", name.as_bytes()].concat();
    let found = rustix::fs::statat(CWD, entry, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
    !matches!(found, Err(Errno::NOENT | Errno::NOTDIR))
}

/// The path as far as so many names into it.
fn prefix(path: &[u8], depth: usize) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).take(depth);
    parts.flat_map(|part| [b"/", part].concat()).collect()
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path))
}

/// Opens for good what is open as a path alone.
fn reopen(path: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, place::own(path), flags | OFlags::CLOEXEC, Mode::empty())
}
