//! The threads that asked lately. Each is held by a handle, so that nothing that is known of one is taken for another's that
//! has its number later, and its descriptors come by that handle: looking them up in `/proc` takes five times as long.

use super::caller::{Caller, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Most threads that are held at a time.
const HELD_MAX: usize = 16;
/// A handle for a thread that is not its process's first (pidfd_open(2), Linux 6.9).
const OF_A_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// A thread that asked.
#[derive(Debug)]
struct Held {
    caller: Caller,
    handle: OwnedFd,
    /// Its process's file mode mask, as long as nobody changed that.
    mask: Option<u32>,
}

/// Whoever asked lately.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// The latest at the end.
    held: VecDeque<Held>,
    /// A thread that is about to change its mask, and its process: the kernel does that at some time between the answer and
    /// the thread's next question. Two processes that both do so at once, with other threads writing meanwhile, may get
    /// the mask of a moment before, as they might from the kernel.
    changing: Option<(Caller, u32)>,
}

impl Callers {
    /// Hears that a thread asks: what it was about to do is done.
    pub(super) fn calls(&mut self, caller: Caller) {
        if self.changing.is_some_and(|(changing, _)| changing == caller) {
            self.changing = None;
        }
    }

    /// Hears that it will change its mask as soon as it is answered.
    pub(super) fn changes_mask(&mut self, caller: Caller) {
        for held in &mut self.held {
            held.mask = None;
        }
        // One that cannot be looked at is gone.
        self.changing = caller.status().ok().map(|status| (caller, status.process));
    }

    /// The permissions that a caller takes from every file it makes.
    pub(super) fn mask(&mut self, caller: Caller) -> Result<u32, Errno> {
        let changing = self.changing;
        let Some(held) = self.hold(caller) else { return Ok(caller.status()?.mask) };
        if let Some(mask) = held.mask {
            return Ok(mask);
        }
        let Status { process, mask } = caller.status()?;
        held.mask = Some(mask).filter(|_| changing.is_none_or(|(_, changing)| changing != process));
        Ok(mask)
    }

    /// What a caller has open under this number.
    pub(super) fn opened(&mut self, caller: Caller, number: i32) -> Result<OwnedFd, Errno> {
        let Some(held) = self.hold(caller).filter(|_| number >= 0) else { return caller.opened(number) };
        pidfd_getfd(&held.handle, number, PidfdGetfdFlags::empty())
    }

    /// The directory that a caller's relative paths start from. Under a number it may turn out to be none.
    pub(super) fn directory(&mut self, caller: Caller, number: i32) -> Result<OwnedFd, Errno> {
        if number >= 0 { self.opened(caller, number) } else { caller.directory(number) }
    }

    /// Holds a thread; nothing where the kernel gives no handle of it.
    fn hold(&mut self, caller: Caller) -> Option<&mut Held> {
        if let Some(at) = self.held.iter().rposition(|held| held.caller == caller) {
            if lives(&self.held[at].handle) {
                return self.held.get_mut(at);
            }
            self.held.remove(at);
        }
        let pid = Pid::from_raw(caller.0.cast_signed())?;
        let handle = match pidfd_open(pid, OF_A_THREAD) {
            Err(Errno::INVAL) => pidfd_open(pid, PidfdFlags::empty()),
            other => other,
        };
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(Held { caller, handle: handle.ok()?, mask: None });
        self.held.back_mut()
    }
}

/// Whether what a handle stands for has not ended.
fn lives(handle: &OwnedFd) -> bool {
    let mut waits = [PollFd::new(handle, PollFlags::IN)];
    poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};

    fn this() -> Caller {
        Caller(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned())
    }

    #[test]
    fn a_caller_s_descriptor_is_the_one_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let ours = std::fs::File::open(directory.path()).unwrap();
        let mut callers = Callers::default();
        let theirs = callers.directory(this(), ours.as_raw_fd()).unwrap();
        let of = |file: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(file).map(|stat| (stat.st_dev, stat.st_ino));
        assert_eq!(of(theirs.as_fd()), of(ours.as_fd()));
        assert_eq!(callers.opened(this(), i32::MAX).unwrap_err(), Errno::BADF);
        assert_eq!(callers.directory(this(), -7).unwrap_err(), Errno::BADF);
    }

    #[test]
    fn a_mask_is_known_until_somebody_of_the_process_changes_it() {
        let mut callers = Callers::default();
        let known = |callers: &Callers| callers.held.iter().filter(|held| held.mask.is_some()).count();
        let mask = this().status().unwrap().mask;
        assert_eq!((callers.mask(this()), known(&callers)), (Ok(mask), 1));
        callers.changes_mask(this());
        // Nobody knows yet whether the kernel has done it.
        assert_eq!((callers.mask(this()), known(&callers)), (Ok(mask), 0));
        callers.calls(this());
        assert_eq!((callers.mask(this()), known(&callers)), (Ok(mask), 1));
    }

    #[test]
    fn no_more_threads_are_held_than_there_is_room_for() {
        let mut callers = Callers::default();
        let mut children: Vec<_> =
            (0..HELD_MAX + 3).map(|_| std::process::Command::new("sleep").arg("600").spawn().unwrap()).collect();
        for child in &children {
            callers.mask(Caller(child.id())).unwrap();
        }
        assert_eq!(callers.held.len(), HELD_MAX);
        let latest = Caller(children.last().unwrap().id());
        assert!(callers.held.back().unwrap().mask.is_some() && callers.held.back().unwrap().caller == latest);
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // What is gone is not known any more, whoever has its number next.
        assert!(callers.mask(latest).is_err() && callers.held.iter().all(|held| held.caller != latest));
    }
}
