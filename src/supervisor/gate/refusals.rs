//! What the gate refused, on its way to the record: each once, and not without end.

use super::super::wire::{self, Notice};
use crate::model::FileAct;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;

/// Most refusals that are told one by one; a harness that tries more names is told of by their number.
const TOLD_MAX: usize = 256;

/// An act, a path, and the rule that refused it.
type Refusal = (FileAct, String, String);

/// The refusals of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: BTreeSet<Refusal>,
    untold: u64,
    next: Option<Refusal>,
}

impl Refusals {
    /// Remembers one.
    pub(super) fn note(&mut self, act: FileAct, path: &[u8], rule: &str) {
        let refusal = (act, String::from_utf8_lossy(path).into_owned(), rule.to_owned());
        if self.told.contains(&refusal) {
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.untold += 1;
            return;
        }
        self.next = Some(refusal);
    }

    /// Tells of what is new. A session that does not listen must not hold the harness up: then it is only counted.
    pub(super) fn tell(&mut self, wire: BorrowedFd<'_>) -> io::Result<()> {
        let Some((act, path, rule)) = self.next.take() else { return Ok(()) };
        let notice = Notice::FileRefused { act, path: path.clone(), rule: rule.clone() };
        if wire::offer(wire, &notice)? {
            self.told.insert((act, path, rule));
        } else {
            self.untold += 1;
        }
        Ok(())
    }

    /// Tells how many were not told.
    pub(super) fn tell_rest(self, wire: BorrowedFd<'_>) -> io::Result<()> {
        match self.untold {
            0 => Ok(()),
            count => wire::send(wire, &Notice::FileRefusalsUntold(count), &[]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsFd;

    #[test]
    fn each_refusal_is_told_once_and_the_rest_counted() {
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (ours, theirs) = pair();
        let mut refusals = Refusals::default();
        for attempt in 0..TOLD_MAX + 7 {
            for _ in 0..2 {
                refusals.note(FileAct::Write, format!("/w/{attempt}/.envrc").as_bytes(), ".envrc");
                refusals.tell(theirs.as_fd()).unwrap();
            }
            // Read as it comes, so that there is room.
            if attempt < TOLD_MAX {
                let told = wire::receive::<Notice>(ours.as_fd()).unwrap().unwrap().0;
                let path = format!("/w/{attempt}/.envrc");
                assert_eq!(told, Notice::FileRefused { act: FileAct::Write, path, rule: ".envrc".to_owned() });
            }
        }
        refusals.tell_rest(theirs.as_fd()).unwrap();
        assert_eq!(wire::receive::<Notice>(ours.as_fd()).unwrap().unwrap().0, Notice::FileRefusalsUntold(14));
    }

    #[test]
    fn a_session_that_does_not_listen_holds_nobody_up() {
        let (_ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut refusals = Refusals::default();
        for attempt in 0..TOLD_MAX * 8 {
            refusals.note(FileAct::Write, format!("/{}/{attempt}", "x".repeat(4000)).as_bytes(), ".envrc");
            refusals.tell(theirs.as_fd()).unwrap();
        }
        assert!(refusals.untold > 0);
    }
}
