//! Repositories that the session makes, and settings of git that name nothing to run.
//!
//! Git writes settings by a lock: it makes `config.lock`, writes that, and gives it the name `config`. A file that the harness
//! has open it could write to later, so it never gets that name: what it holds is read, judged, and written to a new file that
//! only the gate has had open.

use super::super::host::FileId;
use super::place::Place;
use super::{Answer, Gate, Whose, has, prefix};
use crate::model::FileAct;
use crate::policy::{GIT_SETTINGS_BYTES_MAX, GitSettings, JudgedPath, RepositoryDeed, WhoseRepository};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

const SETTINGS: &CStr = c"config";
const LOCK: &CStr = c"config.lock";
const GIT: &CStr = c".git";
/// The rule that is named where settings are refused.
const SETTINGS_RULE: &str = ".git/config";
/// Most repositories that a session makes, and most locks that it holds at a time; what comes beyond is refused.
pub(super) const OWN_MAX: usize = 128;

/// What the session made, held open so that nothing else can be taken for it.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    directories: Vec<Held>,
    locks: Vec<Held>,
}

impl Repositories {
    /// Whether the session may begin one more.
    pub(super) fn has_room(&self) -> bool {
        self.directories.len() < OWN_MAX
    }

    /// Locks that were removed, or whose contents took the settings' place, are none any more.
    fn forget_removed_locks(&mut self) {
        self.locks.retain(Held::is_there);
    }
}

/// Something that is held open, so that nothing else can get what it is known by.
#[derive(Debug)]
pub(super) struct Held {
    file: OwnedFd,
    id: FileId,
}

impl Held {
    pub(super) fn new(file: OwnedFd) -> Result<Self, Errno> {
        let id = FileId::of(&rustix::fs::fstat(&file)?);
        Ok(Self { file, id })
    }

    /// Whether it was not removed.
    pub(super) fn is_there(&self) -> bool {
        rustix::fs::fstat(&self.file).is_ok_and(|stat| stat.st_nlink > 0)
    }

    pub(super) fn is(&self, id: FileId) -> bool {
        self.id == id
    }
}

/// Which file is at a path now, if any is.
pub(super) fn file_at(path: &[u8]) -> Option<FileId> {
    rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok().as_ref().map(FileId::of)
}

/// Whether what is at a path now is one of these.
pub(super) fn is_among(held: &[Held], path: &[u8]) -> bool {
    !held.is_empty() && file_at(path).is_some_and(|there| holds(held, there))
}

fn holds(held: &[Held], id: FileId) -> bool {
    held.iter().any(|one| one.is(id))
}

/// Whose the settings are.
enum Owner {
    Host,
    Session,
    /// The session's, of a submodule whose files lie there from its directory.
    Module(String),
}

impl Gate<'_> {
    /// Whether a protected name is let be changed all the same.
    pub(super) fn lets(&self, deed: RepositoryDeed, act: FileAct, path: &[u8], judged: &JudgedPath) -> bool {
        if self.plan.protection.judge_beside_git(act, judged).is_err() {
            return false;
        }
        match judged.below_git() {
            Some((_, [])) if deed == RepositoryDeed::MakeDirectory => self.may_begin(path, judged),
            Some((_, [])) if deed == RepositoryDeed::Remove && self.links.has_file(path) => true,
            // The directory of a worktree lies two names below.
            Some((depth, [_, ..]))
                if deed == RepositoryDeed::Remove
                    && file_at(&prefix(path, depth + 2)).is_some_and(|there| self.links.has_worktree(there)) =>
            {
                true
            }
            Some((depth, _)) => {
                let own = self.own_above(path, judged);
                let whose = WhoseRepository { own: own.is_some(), own_file: is_among(&self.repositories.locks, path) };
                deed.is_let(judged.below(own.map_or(depth, |(depth, _)| depth)), whose)
            }
            None => false,
        }
    }

    /// The innermost git directory of the session's own that a path lies in: how many names into it, and whose it is.
    fn own_above(&self, path: &[u8], judged: &JudgedPath) -> Option<(usize, Owner)> {
        let (first, _) = judged.below_git()?;
        (first..=judged.depth()).rev().find_map(|depth| {
            let there = file_at(&prefix(path, depth))?;
            if let Some(worktree) = self.links.worktree_of(there) {
                return Some((depth, Owner::Module(worktree.to_owned())));
            }
            holds(&self.repositories.directories, there).then_some((depth, Owner::Session))
        })
    }

    /// Whether a repository may begin here: where it is part of no other, or where nothing lies that could be another's.
    pub(super) fn may_begin(&self, path: &[u8], judged: &JudgedPath) -> bool {
        let may_become_one = path.ends_with(b"/.git") && self.repositories.has_room();
        may_become_one && (!self.may_be_part(path, judged) || self.may_begin_as_part(path))
    }

    /// Whether what begins here may be part of a repository above it.
    pub(super) fn may_be_part(&self, path: &[u8], judged: &JudgedPath) -> bool {
        // What lies above a further place that was given is not known.
        self.plan.in_repository
            || !super::as_path(path).starts_with(&self.plan.workspace)
            || judged.lies_in_repository(&mut |depth, name| has(path, depth, name))
    }

    /// Whether something may begin here that is part of a repository: nothing lies there that could be that one's.
    pub(super) fn may_begin_as_part(&self, path: &[u8]) -> bool {
        path.strip_suffix(b"/.git").is_some_and(|above| is_empty(above) || self.is_younger(above))
    }

    /// Whether a directory was made since the session began, where its file system remembers. One that came in the same tick of the
    /// clock that files are dated by is taken for the session's, as one is that somebody else makes outside while it runs.
    fn is_younger(&self, directory: &[u8]) -> bool {
        let wanted = rustix::fs::StatxFlags::BTIME;
        let stat = rustix::fs::statx(CWD, directory, AtFlags::SYMLINK_NOFOLLOW, wanted);
        stat.is_ok_and(|stat| {
            let known = stat.stx_mask & wanted.bits() != 0;
            known
                && (stat.stx_btime.tv_sec, i64::from(stat.stx_btime.tv_nsec)) >= (self.since.tv_sec, self.since.tv_nsec)
        })
    }

    /// Remembers the directory of a repository that was just made.
    pub(super) fn began(&mut self, place: &Place) -> Result<(), Errno> {
        if place.name.as_c_str() != GIT && place.name.to_bytes() != b".git/" {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&place.directory, GIT, flags, Mode::empty())?;
        self.repositories.directories.push(Held::new(made)?);
        Ok(())
    }

    /// Remembers a lock that was just made for the harness.
    pub(super) fn locked(&mut self, place: &Place, file: &OwnedFd) -> Result<(), Errno> {
        if place.name.as_c_str() != LOCK {
            return Ok(());
        }
        self.repositories.forget_removed_locks();
        if self.repositories.locks.len() >= OWN_MAX {
            return Err(Errno::MFILE);
        }
        self.repositories.locks.push(Held::new(rustix::io::fcntl_dupfd_cloexec(file, 0)?)?);
        Ok(())
    }

    /// Has the settings in a lock of the session's take the place of a repository's; none where that is not what is asked.
    pub(super) fn take_settings(&mut self, source: &Place, target: &Place) -> Option<Result<Answer, Errno>> {
        // Nearly every change of names is another.
        if source.name.as_c_str() != LOCK || target.name.as_c_str() != SETTINGS || source.path != target.path {
            return None;
        }
        let to = target.whole();
        if self.whose(&to) != Whose::Hosts || !is_among(&self.repositories.locks, &source.whole()) {
            return None;
        }
        let judged = self.plan.judged(super::as_path(&to))?;
        let (depth, _) = judged.below_git()?;
        let (depth, owner) = self.own_above(&to, &judged).unwrap_or((depth, Owner::Host));
        if judged.below(depth).len() != 1 {
            return None;
        }
        self.plan.protection.judge_beside_git(FileAct::MoveHere, &judged).ok()?;
        let taken = replace(target, &owner);
        self.repositories.forget_removed_locks();
        if taken == Err(Errno::ACCESS) {
            self.refusals.note(FileAct::MoveHere, &to, SETTINGS_RULE);
        }
        Some(taken.map(|()| Answer::Done))
    }
}

/// Writes what the lock holds to a file of the gate's own, under the lock's name, and gives that the settings' name. What may
/// not be taken is left as it is.
fn replace(place: &Place, owner: &Owner) -> Result<(), Errno> {
    let (after, of_lock) = read(place, LOCK)?.ok_or(Errno::NOENT)?;
    judged(place, owner, &after)?;
    rustix::fs::unlinkat(&place.directory, LOCK, AtFlags::empty())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Whoever else wants to change the settings waits for this name from here on.
    let made = rustix::fs::openat(&place.directory, LOCK, flags, Mode::from_raw_mode(0o600))?;
    let written = judged(place, owner, &after).and_then(|mode| {
        rustix::fs::fchmod(&made, Mode::from_raw_mode(mode.unwrap_or(of_lock & 0o755) & 0o777))?;
        File::from(made).write_all(&after).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        rustix::fs::renameat(&place.directory, LOCK, &place.directory, SETTINGS)
    });
    if written.is_err() {
        let _ = rustix::fs::unlinkat(&place.directory, LOCK, AtFlags::empty());
    }
    written
}

/// Judges what is to become of the settings; says what mode their file has, if there is one.
fn judged(place: &Place, owner: &Owner, after: &[u8]) -> Result<Option<u32>, Errno> {
    let before = read(place, SETTINGS)?;
    let settings = match (owner, &before) {
        (Owner::Session, _) => GitSettings::Own,
        (Owner::Module(worktree), _) => GitSettings::Module(worktree),
        (Owner::Host, Some((before, _))) => GitSettings::Hosts(before),
        (Owner::Host, None) => return Err(Errno::ACCESS),
    };
    if settings.may_become(after) { Ok(before.map(|(_, mode)| mode)) } else { Err(Errno::ACCESS) }
}

/// A regular file's contents and its mode; none where there is no file. One that is longer than settings may be is refused.
fn read(place: &Place, name: &CStr) -> Result<Option<(Vec<u8>, u32)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&place.directory, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(|_| Errno::ACCESS)?,
    };
    let stat = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    let mut contents = Vec::new();
    let bound = GIT_SETTINGS_BYTES_MAX as u64 + 1;
    let read = File::from(file).take(bound).read_to_end(&mut contents);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if contents.len() > GIT_SETTINGS_BYTES_MAX { Err(Errno::ACCESS) } else { Ok(Some((contents, stat.st_mode))) }
}

/// Whether nothing is in a directory.
fn is_empty(path: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, path, flags, Mode::empty());
    let Ok(mut entries) = directory.and_then(|directory| Dir::read_from(directory.as_fd())) else { return false };
    entries.all(|entry| entry.is_ok_and(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
}
