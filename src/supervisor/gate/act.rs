//! The acts: each finds where its operands lead, has that judged, and does on open descriptors what the kernel would have
//! done for the caller. Process 1 has the harness's ids and no capability over files, so the kernel's own checks apply.

use super::call::{At, Call, On};
use super::caller::Caller;
use super::place::{self, Place};
use super::{Answer, Gate, Whose, reopen};
use crate::model::FileAct;
use crate::policy::RepositoryDeed;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most links that one path may lead through (path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Largest value of an extended attribute (XATTR_SIZE_MAX, limits.h).
const ATTRIBUTE_BYTES_MAX: usize = 65_536;
/// The flag that asks for a file without a name, without the one for directories that is part of it.
const NAMELESS: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// A place that was found for a caller: with the path as it read it.
struct Found {
    place: Place,
    whose: Whose,
}

impl Gate<'_> {
    pub(super) fn act(&mut self, id: u64, caller: Caller, call: Call) -> Result<Answer, Errno> {
        match call {
            Call::Open { at, flags, mode } => match self.open_file(id, caller, at, flags, mode) {
                Ok(Answer::Kernel) if empties_unwritten(flags) => Err(Errno::ACCESS),
                opened => opened,
            },
            Call::MakeDirectory { at, mode } => self.make_directory(id, caller, at, mode),
            Call::MakeNode { at, mode, device } => self.make_node(id, caller, at, mode, device),
            Call::Rename { from, to, flags } => self.rename(id, caller, (from, to), flags),
            Call::Link { from, to, flags } => self.link(id, caller, (from, to), flags),
            Call::Symlink { target, at } => self.symlink(id, caller, target, at),
            Call::Remove { at, directory } => self.remove(id, caller, at, directory),
            Call::Truncate { at, length } => self.truncate(id, caller, at, length),
            Call::Mode { on, mode } => {
                let file = self.opened(id, caller, on)?;
                self.judge_deed(FileAct::Attributes, &place::path_of(file.as_fd())?, Some(RepositoryDeed::Mode(mode)))?;
                let set_group = mode & libc::S_ISGID != 0 && !is_directory(file.as_fd())?;
                if set_group && matches!(self.whose(&place::path_of(file.as_fd())?), Whose::Hosts) {
                    return Err(Errno::PERM);
                }
                done(rustix::fs::chmod(place::own(file.as_fd()), Mode::from_raw_mode(mode)))
            }
            Call::Owner { on, uid, gid } => {
                let file = self.attributes_of(id, caller, on)?;
                let id = |number: u32| (number != u32::MAX).then_some(number);
                let (uid, gid) = (id(uid).map(Uid::from_raw), id(gid).map(Gid::from_raw));
                done(rustix::fs::chownat(&file, c"", uid, gid, AtFlags::EMPTY_PATH))
            }
            Call::SetAttribute { on, name, value, size, flags } => {
                let name = caller.text(name)?;
                let size =
                    usize::try_from(size).ok().filter(|size| *size <= ATTRIBUTE_BYTES_MAX).ok_or(Errno::TOOBIG)?;
                let mut bytes = vec![0; size];
                if size > 0 && caller.memory(value, &mut bytes)? < size {
                    return Err(Errno::FAULT);
                }
                let file = self.attributes_of(id, caller, on)?;
                let flags = XattrFlags::from_bits(flags.cast_unsigned()).ok_or(Errno::INVAL)?;
                done(rustix::fs::setxattr(place::own(file.as_fd()), &name, &bytes, flags))
            }
            Call::Mask => {
                self.callers.changes_mask(caller);
                Ok(Answer::Kernel)
            }
            Call::RemoveAttribute { on, name } => {
                let name = caller.text(name)?;
                let file = self.attributes_of(id, caller, on)?;
                done(rustix::fs::removexattr(place::own(file.as_fd()), &name))
            }
        }
    }

    /// Reads a path and finds where it leads, its last name left alone.
    fn find(&mut self, id: u64, caller: Caller, at: At) -> Result<Found, Errno> {
        let (base, path) = self.start(caller, at, caller.text(at.path)?)?;
        let place = Place::find(base, &path)?;
        self.still(id)?;
        let whose = self.whose(&place.whole());
        Ok(Found { place, whose })
    }

    /// Where something new is to be made, judged, and whether a protected name is let be; none where it is the kernel's to do.
    fn place_for(
        &mut self,
        id: u64,
        caller: Caller,
        at: At,
        deed: Option<RepositoryDeed>,
    ) -> Result<Option<(Place, bool)>, Errno> {
        let Some(Found { place, whose }) = handed_back(self.find(id, caller, at))? else { return Ok(None) };
        if whose == Whose::Free {
            return Ok(None);
        }
        let is_let = self.judge_deed_at(FileAct::Make, &place, deed)?;
        Ok(Some((place, is_let)))
    }

    fn make_directory(&mut self, id: u64, caller: Caller, at: At, mode: u32) -> Result<Answer, Errno> {
        let Some((place, is_let)) = self.place_for(id, caller, at, Some(RepositoryDeed::MakeDirectory))? else {
            return Ok(Answer::Kernel);
        };
        let mask = self.callers.mask(caller)?;
        rustix::fs::mkdirat(&place.directory, &place.name, Mode::from_raw_mode(mode & !mask))?;
        self.made_for_git(caller, &place)?;
        done(if is_let { self.began(&place) } else { Ok(()) })
    }

    fn make_node(&mut self, id: u64, caller: Caller, at: At, mode: u32, device: u64) -> Result<Answer, Errno> {
        let kind = FileType::from_raw_mode(mode);
        // The kernel takes no kind for a file.
        let kind = if mode & libc::S_IFMT == 0 { FileType::RegularFile } else { kind };
        if mode & libc::S_ISGID != 0 {
            return Err(Errno::PERM);
        }
        let Some((place, _)) = self.place_for(id, caller, at, None)? else { return Ok(Answer::Kernel) };
        let mode = Mode::from_raw_mode(mode & 0o7777 & !self.callers.mask(caller)?);
        done(rustix::fs::mknodat(&place.directory, &place.name, kind, mode, device))
    }

    fn rename(&mut self, id: u64, caller: Caller, (from, to): (At, At), flags: u32) -> Result<Answer, Errno> {
        let Some(source) = handed_back(self.find(id, caller, from))? else { return Ok(Answer::Kernel) };
        let Some(target) = handed_back(self.find(id, caller, to))? else { return Ok(Answer::Kernel) };
        if source.whose == Whose::Free && target.whose == Whose::Free {
            return Ok(Answer::Kernel);
        }
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let settings = flags.is_empty().then(|| self.take_settings(&source.place, &target.place)).flatten();
        if let Some(taken) = settings {
            return taken;
        }
        self.judge_name(FileAct::MoveAway, &source.place)?;
        self.judge_name(FileAct::MoveHere, &target.place)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            self.judge_name(FileAct::MoveHere, &source.place)?;
            self.judge_name(FileAct::MoveAway, &target.place)?;
            self.judge_move(&target.place, &source.place)?;
        }
        let (source, target) = (source.place, target.place);
        self.judge_move(&source, &target)?;
        done(rustix::fs::renameat_with(&source.directory, &source.name, &target.directory, &target.name, flags))
    }

    fn link(&mut self, id: u64, caller: Caller, (from, to): (At, At), flags: i32) -> Result<Answer, Errno> {
        if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return Err(Errno::INVAL);
        }
        let Some(target) = handed_back(self.find(id, caller, to))? else { return Ok(Answer::Kernel) };
        if target.whose == Whose::Free {
            return Ok(Answer::Kernel);
        }
        let on = On::Path { at: from, follow: flags & libc::AT_SYMLINK_FOLLOW != 0 };
        let source = self.opened(id, caller, on)?;
        let from = place::path_of(source.as_fd())?;
        self.judge(FileAct::Link, &from)?;
        self.judge_name(FileAct::Link, &target.place)?;
        let place = target.place;
        self.judge_coming(FileAct::Link, kind_of(source.as_fd())?, &from, &place.whole())?;
        let source = place::own(source.as_fd());
        done(rustix::fs::linkat(CWD, source, &place.directory, &place.name, AtFlags::SYMLINK_FOLLOW))
    }

    fn symlink(&mut self, id: u64, caller: Caller, target: u64, at: At) -> Result<Answer, Errno> {
        let target = caller.text(target)?;
        let Some(Found { place, whose }) = handed_back(self.find(id, caller, at))? else { return Ok(Answer::Kernel) };
        if whose == Whose::Free {
            return Ok(Answer::Kernel);
        }
        self.judge_name(FileAct::Link, &place)?;
        self.judge_symlink(&target, &place)?;
        done(rustix::fs::symlinkat(&target, &place.directory, &place.name))
    }

    fn remove(&mut self, id: u64, caller: Caller, at: At, directory: bool) -> Result<Answer, Errno> {
        let Some(Found { place, whose }) = handed_back(self.find(id, caller, at))? else { return Ok(Answer::Kernel) };
        if whose == Whose::Free {
            return Ok(Answer::Kernel);
        }
        self.judge_deed_at(FileAct::Remove, &place, Some(RepositoryDeed::Remove))?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        done(rustix::fs::unlinkat(&place.directory, &place.name, flags))
    }

    fn truncate(&mut self, id: u64, caller: Caller, at: At, length: u64) -> Result<Answer, Errno> {
        let file = self.opened(id, caller, On::Path { at, follow: true })?;
        self.judge(FileAct::Write, &place::path_of(file.as_fd())?)?;
        if over_size_limit(caller, length)? {
            return Err(Errno::FBIG);
        }
        if is_directory(file.as_fd())? {
            return Err(Errno::ISDIR);
        }
        if !is_regular(file.as_fd())? {
            return Err(Errno::INVAL);
        }
        let file = reopen(file.as_fd(), OFlags::WRONLY)?;
        done(rustix::fs::ftruncate(&file, length))
    }

    /// Judges the name that an act is about, where it is one.
    fn judge_name(&mut self, act: FileAct, place: &Place) -> Result<(), Errno> {
        self.judge_deed_at(act, place, None).map(drop)
    }

    /// The same of what may be let happen to a protected name. Says whether it was.
    fn judge_deed_at(&mut self, act: FileAct, place: &Place, deed: Option<RepositoryDeed>) -> Result<bool, Errno> {
        if place.is_named() { self.judge_deed(act, &place.whole(), deed) } else { Ok(false) }
    }

    /// What an act on attributes is about, judged. The gate does these everywhere, since Landlock would keep the harness
    /// from none of them.
    fn attributes_of(&mut self, id: u64, caller: Caller, on: On) -> Result<OwnedFd, Errno> {
        let file = self.opened(id, caller, on)?;
        self.judge(FileAct::Attributes, &place::path_of(file.as_fd())?)?;
        Ok(file)
    }

    /// Opens as a path what is there already.
    fn opened(&mut self, id: u64, caller: Caller, on: On) -> Result<OwnedFd, Errno> {
        let file = match on {
            On::Descriptor(number) => self.callers.opened(caller, number)?,
            On::Path { at, follow } => {
                let path = caller.text(at.path)?;
                match place::descriptor_in(&path) {
                    Some(number) if follow => self.callers.opened(caller, number)?,
                    // An empty path is the descriptor itself, for the calls whose flags allow it; the others fail for it
                    // outside, and here mean something that the caller could have said otherwise.
                    _ if path.is_empty() => self.callers.opened(caller, at.directory)?,
                    _ => {
                        let (base, path) = self.start(caller, at, path)?;
                        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
                        place::open(base.as_ref().map(AsFd::as_fd), path.to_bytes(), flags)?
                    }
                }
            }
        };
        self.still(id)?;
        Ok(file)
    }

    /// Where a path starts, if not at the root, and what is left of it from there. A path through the caller's own links in
    /// `/proc` starts where they lead, since to this process they would be links of its own; through those of others it is
    /// refused as a link that is not followed.
    fn start(&mut self, caller: Caller, at: At, path: CString) -> Result<(Option<OwnedFd>, CString), Errno> {
        if let Some((number, rest)) = place::through_own_link(path.to_bytes()) {
            let rest = CString::new(rest).map_err(|_| Errno::INVAL)?;
            return Ok((Some(self.callers.directory(caller, number)?), rest));
        }
        match path.to_bytes() {
            path if path.starts_with(b"/proc/") => Err(Errno::LOOP),
            [b'/', ..] => Ok((None, path)),
            _ => Ok((Some(self.callers.directory(caller, at.directory)?), path)),
        }
    }

    fn open_file(&mut self, id: u64, caller: Caller, at: At, flags: i32, mode: u32) -> Result<Answer, Errno> {
        let path = caller.text(at.path)?;
        if let Some(number) = place::descriptor_in(&path) {
            return self.open_again(id, caller, number, flags);
        }
        let Some((mut base, mut path)) = handed_back(self.start(caller, at, path))? else { return Ok(Answer::Kernel) };
        self.still(id)?;
        if flags & NAMELESS == NAMELESS {
            return self.open_nameless(caller, base.as_ref().map(AsFd::as_fd), &path, flags, mode);
        }
        if flags & libc::O_CREAT != 0 && mode & libc::S_ISGID != 0 {
            return Err(Errno::PERM);
        }
        let follows =
            flags & libc::O_NOFOLLOW == 0 && flags & (libc::O_CREAT | libc::O_EXCL) != libc::O_CREAT | libc::O_EXCL;
        for _ in 0..LINKS_MAX {
            let found = handed_back(Place::find(base.take(), &path))?;
            let Some(place) = found else { return Ok(Answer::Kernel) };
            match self.open_at(caller, &place, flags, mode) {
                // A link is there: where it leads is judged anew.
                Err(Errno::LOOP) if follows => {
                    path = rustix::fs::readlinkat(&place.directory, &place.name, Vec::new())?;
                    base = Some(place.directory);
                }
                other => return other,
            }
        }
        Err(Errno::LOOP)
    }

    /// Opens a name that is no link; ELOOP if it is one.
    fn open_at(&mut self, caller: Caller, place: &Place, flags: i32, mode: u32) -> Result<Answer, Errno> {
        let whole = place.whole();
        let proc = whole.starts_with(b"/proc/");
        if self.whose(&whole) == Whose::Free && (proc || !empties_unwritten(flags)) {
            let linked = !proc
                && rustix::fs::statat(&place.directory, &place.name, AtFlags::SYMLINK_NOFOLLOW)
                    .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            return if linked { Err(Errno::LOOP) } else { Ok(Answer::Kernel) };
        }
        if let Some(answer) = self.write_link(caller, place, flags)? {
            return Ok(answer);
        }
        // What makes a new file, and follows no link.
        let exclusive = flags & (libc::O_CREAT | libc::O_EXCL) == libc::O_CREAT | libc::O_EXCL;
        let is_let = self.judge_deed_at(FileAct::Write, place, exclusive.then_some(RepositoryDeed::MakeFile))?;
        let mask = if flags & libc::O_CREAT != 0 { self.callers.mask(caller)? } else { 0 };
        // Never waits: what is to be waited for is not known yet.
        let wanted = OFlags::from_bits_retain(flags.cast_unsigned());
        let how = wanted | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        match rustix::fs::openat(&place.directory, &place.name, how, Mode::from_raw_mode(mode & 0o7777 & !mask)) {
            // A named pipe that nobody reads yet (fifo(7)).
            Err(Errno::NXIO) if !wanted.contains(OFlags::NONBLOCK) => Ok(Answer::Later),
            opened => {
                let file = opened?;
                if is_let {
                    self.locked(place, &file)?;
                }
                as_asked(file, wanted)
            }
        }
    }

    /// Opens anew what the caller has open: what `/dev/stdout` and its like mean.
    fn open_again(&mut self, id: u64, caller: Caller, number: i32, flags: i32) -> Result<Answer, Errno> {
        let file = self.callers.opened(caller, number)?;
        self.still(id)?;
        let path = place::path_of(file.as_fd())?;
        if self.whose(&path) == Whose::Free || !is_regular(file.as_fd())? {
            return Ok(Answer::Kernel);
        }
        self.judge(FileAct::Write, &path)?;
        let wanted = OFlags::from_bits_retain(flags.cast_unsigned());
        let how = wanted - OFlags::CREATE - OFlags::EXCL - OFlags::NOFOLLOW;
        as_asked(reopen(file.as_fd(), how | OFlags::NONBLOCK)?, wanted)
    }

    /// Opens a file without a name. Giving it one is an act of its own.
    fn open_nameless(
        &mut self,
        caller: Caller,
        base: Option<BorrowedFd<'_>>,
        path: &CStr,
        flags: i32,
        mode: u32,
    ) -> Result<Answer, Errno> {
        let Some(directory) = handed_back(place::open(base, path.to_bytes(), OFlags::PATH | OFlags::DIRECTORY))? else {
            return Ok(Answer::Kernel);
        };
        let inside = [&place::path_of(directory.as_fd())?[..], b"/."].concat();
        if self.whose(&inside) == Whose::Free {
            return Ok(Answer::Kernel);
        }
        if mode & libc::S_ISGID != 0 {
            return Err(Errno::PERM);
        }
        let mode = Mode::from_raw_mode(mode & 0o7777 & !self.callers.mask(caller)?);
        let wanted = OFlags::from_bits_retain(flags.cast_unsigned());
        as_asked(rustix::fs::openat(&directory, c".", wanted | OFlags::CLOEXEC, mode)?, wanted)
    }
}

/// A path through links of `/proc` is the kernel's to follow, which does it for the caller: nothing comes of it where only
/// the gate may write.
fn handed_back<T>(found: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Err(Errno::LOOP) => Ok(None),
        other => other.map(Some),
    }
}

/// Whether opening empties a file and does not open it for writing: Landlock has no say on that, so that it never is the kernel's to
/// do, which reads the path anew.
fn empties_unwritten(flags: i32) -> bool {
    flags & libc::O_TRUNC != 0 && !matches!(flags & libc::O_ACCMODE, libc::O_WRONLY | libc::O_RDWR)
}

fn done(result: Result<(), Errno>) -> Result<Answer, Errno> {
    result.map(|()| Answer::Done)
}

/// Hands a file over in the way that it was asked for.
fn as_asked(file: OwnedFd, wanted: OFlags) -> Result<Answer, Errno> {
    if !wanted.contains(OFlags::NONBLOCK) {
        let flags = rustix::fs::fcntl_getfl(&file)?;
        rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    }
    Ok(Answer::File { file, close_on_exec: wanted.contains(OFlags::CLOEXEC) })
}

fn kind_of(file: BorrowedFd<'_>) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

fn is_directory(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(kind_of(file)? == FileType::Directory)
}

fn is_regular(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(kind_of(file)? == FileType::RegularFile)
}

/// Whether a file of this length is longer than the caller may make one (RLIMIT_FSIZE, getrlimit(2)).
fn over_size_limit(caller: Caller, length: u64) -> Result<bool, Errno> {
    let pid = i32::try_from(caller.0).ok().and_then(rustix::process::Pid::from_raw).ok_or(Errno::SRCH)?;
    let limits =
        crate::sys::file_size_limit_of(pid).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::SRCH))?;
    Ok(limits.is_some_and(|limit| length > limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_of_proc_are_handed_back() {
        assert_eq!(handed_back::<()>(Err(Errno::LOOP)), Ok(None));
        assert_eq!(handed_back::<()>(Err(Errno::NOENT)), Err(Errno::NOENT));
        assert_eq!(handed_back(Ok(1)), Ok(Some(1)));
    }
}
