//! Linked worktrees and submodules that the session makes (gitrepository-layout(5)).
//!
//! They are tied together by small files that say where the other part lies: whoever wrote one could have git take settings and
//! hooks from anywhere. So the gate writes them, with the one thing that each may say, and gives whoever opened one a file that
//! nobody reads. Which parts belong together is known by who makes them: git makes them in one process.

use super::super::host::FileId;
use super::caller::Caller;
use super::place::{self, Place};
use super::repositories::{Held, OWN_MAX, file_at, is_among};
use super::{Answer, Gate, Whose, as_path, prefix};
use crate::model::FileAct;
use crate::policy::JudgedPath;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

const GIT: &CStr = c".git";
/// In a worktree's directory, where the file called `.git` of the worktree is.
const BACK: &CStr = c"gitdir";
/// In a worktree's directory, where the repository is that it is one of, and what it says.
const COMMON: (&CStr, &[u8]) = (c"commondir", b"../..\n");
/// Most files that the gate writes, each of which it holds, and most that wait for what they are to say.
const FILES_MAX: usize = 2 * OWN_MAX;
const WAITING_MAX: usize = 16;
/// What is written into is forgotten here.
const NOWHERE: &CStr = c"/dev/null";
/// What a directory of git's is known by, beside what the gate writes.
const PIECES: [&[u8]; 3] = [b"HEAD", b"objects", b"refs"];

/// What the session made.
#[derive(Debug, Default)]
pub(super) struct Links {
    worktrees: Vec<Worktree>,
    modules: Vec<Module>,
    /// The files that the gate wrote.
    files: Vec<Held>,
    /// Those called `.git` that say nothing yet.
    waiting: Vec<Waiting>,
}

/// The directory of a linked worktree, in its repository.
#[derive(Debug)]
struct Worktree {
    held: Held,
    path: Vec<u8>,
    maker: u32,
    /// The file that says where the worktree is.
    back: Option<OwnedFd>,
    /// The worktree's own file that says where the directory is.
    link: Option<OwnedFd>,
}

impl Worktree {
    /// Writes where the worktree is, which may have been moved.
    fn say_where(&self) -> Result<(), Errno> {
        let (Some(back), Some(link)) = (&self.back, &self.link) else { return Ok(()) };
        rustix::fs::ftruncate(back, 0)?;
        write(back, &[&place::path_of(link.as_fd())?[..], b"\n"].concat())
    }
}

/// The directory of a submodule, in the repository above, and where its files lie from there.
#[derive(Debug)]
struct Module {
    held: Held,
    worktree: String,
}

/// A file that will say where a submodule's directory is, once that was made.
#[derive(Debug)]
struct Waiting {
    file: OwnedFd,
    path: Vec<u8>,
    maker: u32,
}

impl Links {
    /// Whether something is a file that the gate wrote.
    pub(super) fn has_file(&self, path: &[u8]) -> bool {
        is_among(&self.files, path)
    }

    /// Whether something is the directory of a worktree that the session made.
    pub(super) fn has_worktree(&self, there: FileId) -> bool {
        self.worktrees.iter().any(|worktree| worktree.held.is(there))
    }

    /// Where the files of a submodule lie that the session made, from its directory; none where that is none.
    pub(super) fn worktree_of(&self, there: FileId) -> Option<&str> {
        self.modules.iter().find(|module| module.held.is(there)).map(|module| module.worktree.as_str())
    }

    /// Makes room for more; false where there is none.
    fn has_room(&mut self) -> bool {
        self.worktrees.retain(|worktree| worktree.held.is_there());
        self.modules.retain(|module| module.held.is_there());
        self.files.retain(Held::is_there);
        self.worktrees.len() < OWN_MAX && self.modules.len() < OWN_MAX && self.files.len() < FILES_MAX
    }
}

impl Gate<'_> {
    /// Writes what a file of git's is to say that ties directories together, where whoever opens it may make it; none where it is
    /// judged like others.
    pub(super) fn write_link(&mut self, caller: Caller, place: &Place, flags: i32) -> Result<Option<Answer>, Errno> {
        let name = place.name.as_c_str();
        if name != GIT && name != BACK && name != COMMON.0 {
            return Ok(None);
        }
        let whole = place.whole();
        if self.whose(&whole) != Whose::Hosts || flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Ok(None);
        }
        self.lock.require()?;
        if self.links.has_file(&whole) {
            if let Some(worktree) =
                self.links.worktrees.iter().find(|worktree| name == BACK && worktree.path == place.path)
            {
                worktree.say_where()?;
            }
            return forgotten(flags).map(Some);
        }
        let Some(judged) = self.plan.judged(as_path(&whole)).filter(|_| flags & libc::O_CREAT != 0) else {
            return Ok(None);
        };
        let beside = self.plan.protection.judge_beside_git(FileAct::Write, &judged).is_ok();
        let lets = beside
            && match name == GIT {
                true => {
                    self.repositories.has_room() && self.may_be_part(&whole, &judged) && self.may_begin_as_part(&whole)
                }
                false => file_at(&place.path).is_some_and(|there| self.links.has_worktree(there)),
            };
        if !lets || !self.links.has_room() {
            return Ok(None);
        }
        let mode = Mode::from_raw_mode(0o666 & !self.callers.mask(caller)?);
        let how = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&place.directory, name, how, mode) {
            // Whatever is there is not the session's.
            Err(Errno::EXIST) => return Ok(None),
            other => other?,
        };
        self.links.files.push(Held::new(rustix::io::fcntl_dupfd_cloexec(&file, 0)?)?);
        match name == GIT {
            true => self.link_worktree(caller, whole, file)?,
            false => self.describe_worktree(name, &place.path, file)?,
        }
        forgotten(flags).map(Some)
    }

    /// Ties a worktree to the directory that its maker made for it; without one, it is to be a submodule's.
    fn link_worktree(&mut self, caller: Caller, path: Vec<u8>, file: OwnedFd) -> Result<(), Errno> {
        let own = |worktree: &&mut Worktree| {
            worktree.maker == caller.0 && worktree.link.is_none() && worktree.held.is_there()
        };
        match self.links.worktrees.iter_mut().rev().find(own) {
            Some(worktree) => {
                write(&file, &[b"gitdir: ", &worktree.path[..], b"\n"].concat())?;
                worktree.link = Some(file);
                worktree.say_where()
            }
            None => {
                self.links.waiting.retain(|waiting| waiting.maker != caller.0);
                if self.links.waiting.len() >= WAITING_MAX {
                    self.links.waiting.remove(0);
                }
                self.links.waiting.push(Waiting { file, path, maker: caller.0 });
                Ok(())
            }
        }
    }

    fn describe_worktree(&mut self, name: &CStr, directory: &[u8], file: OwnedFd) -> Result<(), Errno> {
        if name == COMMON.0 {
            return write(&file, COMMON.1);
        }
        let is_it = |worktree: &&mut Worktree| worktree.path == directory && worktree.held.is_there();
        if let Some(worktree) = self.links.worktrees.iter_mut().rev().find(is_it) {
            worktree.back = Some(file);
        }
        Ok(())
    }

    /// Remembers a directory that was just made, where it is one for a worktree or a submodule.
    pub(super) fn made_for_git(&mut self, caller: Caller, place: &Place) -> Result<(), Errno> {
        let whole = place.whole();
        if !whole.windows(6).any(|part| part == b"/.git/") {
            return Ok(());
        }
        let Some(judged) = self.plan.judged(as_path(&whole)) else { return Ok(()) };
        let Some((depth, _)) = judged.below_git() else { return Ok(()) };
        // A submodule lies in what its repository is about: then the way from one to the other is the same wherever both go.
        let about = [&prefix(&whole, depth - 1)[..], b"/"].concat();
        let is_meant = |waiting: &Waiting| waiting.maker == caller.0 && waiting.path.starts_with(&about);
        let waits = self.links.waiting.iter().position(is_meant);
        let is_module = waits.is_some() && judged.may_be_module();
        if !(is_module || judged.is_worktree()) || !self.links.has_room() {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = Held::new(rustix::fs::openat(CWD, &whole, flags, Mode::empty())?)?;
        match waits.filter(|_| is_module) {
            Some(waits) => {
                let Waiting { file, path, .. } = self.links.waiting.remove(waits);
                let worktree = path.strip_suffix(b"/.git").unwrap_or(&path);
                write(&file, &[b"gitdir: ", &from(worktree, &whole)[..], b"\n"].concat())?;
                let worktree = String::from_utf8(from(&whole, worktree)).map_err(|_| Errno::ILSEQ)?;
                self.links.modules.push(Module { held, worktree });
            }
            None => {
                let worktree = Worktree { held, path: whole, maker: caller.0, back: None, link: None };
                self.links.worktrees.push(worktree);
            }
        }
        Ok(())
    }

    /// Whether a directory of the session's own becomes git's by this name in it.
    pub(super) fn is_piece_of_own(&self, act: FileAct, path: &[u8], judged: &JudgedPath) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        matches!(act, FileAct::Write | FileAct::Make | FileAct::MoveHere)
            && PIECES.contains(&name)
            && file_at(&prefix(path, judged.depth().saturating_sub(1)))
                .is_some_and(|above| self.links.has_worktree(above) || self.links.worktree_of(above).is_some())
    }
}

/// A file for whoever writes what the gate has written already.
fn forgotten(flags: i32) -> Result<Answer, Errno> {
    let file = rustix::fs::open(NOWHERE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Answer::File { file, close_on_exec: flags & libc::O_CLOEXEC != 0 })
}

fn write(file: &OwnedFd, contents: &[u8]) -> Result<(), Errno> {
    let written = rustix::io::pwrite(file.as_fd(), contents, 0)?;
    if written == contents.len() { Ok(()) } else { Err(Errno::NOSPC) }
}

/// The way from one directory to another, by their paths.
fn from(place: &[u8], to: &[u8]) -> Vec<u8> {
    let names = |path| <[u8]>::split(path, |byte| *byte == b'/').filter(|name| !name.is_empty()).collect::<Vec<_>>();
    let (place, to) = (names(place), names(to));
    let same = place.iter().zip(&to).take_while(|(one, other)| one == other).count();
    let up = std::iter::repeat_n(&b".."[..], place.len() - same);
    up.chain(to.iter().skip(same).copied()).collect::<Vec<_>>().join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_as_git_writes_it() {
        for (place, to, way) in [
            ("/w/libs/sub", "/w/.git/modules/libs/sub", "../../.git/modules/libs/sub"),
            ("/w/.git/modules/libs/sub", "/w/libs/sub", "../../../../libs/sub"),
            ("/w", "/w/.git/modules/a", ".git/modules/a"),
        ] {
            assert_eq!(from(place.as_bytes(), to.as_bytes()), way.as_bytes(), "{place} {to}");
        }
    }
}
