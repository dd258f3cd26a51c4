//! Staging: a copy of everything that comes, complete and on the disk, on the file system of the workspace, before the
//! first thing is moved to its place.

use super::change::Change;
use super::dir::{Attributes, Dir};
use super::error::OverlayError;
use super::facts::{Facts, Kind};
use super::layer::Layer;
use super::operation::{MODE_DIRECTORY, Operation};
use super::path::RelPath;
use super::scan::Changes;
use rustix::fs::{AtFlags, Gid, Mode, SeekFrom, StatxFlags, Uid, XattrFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// The staging directory in the layer's own directory.
pub(super) const STAGING: &str = "staging";
/// How many files are brought to the disk one by one; beyond it, the whole file system is.
const SYNCED_MAX: usize = 256;
/// How much is copied by one call at most.
const COPY_BYTES_MAX: u64 = 1 << 30;

/// Where things are staged and kept aside.
#[derive(Debug)]
pub(super) struct Staging {
    pub(super) dir: Dir,
    /// The directory that holds it, and its name there, for removing it.
    parent: Dir,
    name: Vec<u8>,
}

/// The name that something staged has.
pub(super) fn new_name(number: u64) -> Vec<u8> {
    format!("new-{number}").into_bytes()
}

/// The name that something moved aside has.
pub(super) fn old_name(number: u64) -> Vec<u8> {
    format!("old-{number}").into_bytes()
}

impl Staging {
    /// The places where a layer's staging directory may lie: beside the layer, out of reach of everybody, where that is on
    /// the workspace's mount; else in the workspace.
    fn places(layer: &Layer) -> Result<[(Dir, Vec<u8>); 2], OverlayError> {
        let place = Dir::open(&layer.place).map_err(OverlayError::preparing("open the layer"))?;
        let hidden = format!(".omni-apply-{}", layer.session).into_bytes();
        Ok([(place, STAGING.into()), (layer.open_workspace()?, hidden)])
    }

    /// The staging directory that an earlier attempt left.
    pub(super) fn find(layer: &Layer) -> Result<Option<Self>, OverlayError> {
        for (parent, name) in Self::places(layer)? {
            match parent.enter(&name) {
                Ok(dir) => return Ok(Some(Self { dir, parent, name })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OverlayError::Prepare { step: "open the staging directory", error }),
            }
        }
        Ok(None)
    }

    fn create(layer: &Layer) -> Result<Self, OverlayError> {
        let failed = || OverlayError::preparing("make a staging directory");
        let [(beside, name), (workspace, hidden)] = Self::places(layer)?;
        let near = mount_of(&beside).map_err(failed())? == mount_of(&workspace).map_err(failed())?;
        let (parent, name) = if near { (beside, name) } else { (workspace, hidden) };
        parent.make_directory(&name, 0o700).map_err(failed())?;
        let dir = parent.enter(&name).map_err(failed())?;
        Ok(Self { dir, parent, name })
    }

    /// Removes it with everything in it.
    pub(super) fn remove(self) -> Result<(), OverlayError> {
        let removed = super::discard::remove_tree(&self.parent, &self.name);
        removed.map_err(OverlayError::preparing("remove the staging directory"))
    }

    /// Where it lies, for a person.
    pub(super) fn path(&self, layer: &Layer) -> std::path::PathBuf {
        let inside = layer.named.join(STAGING);
        if layer.place.join(STAGING).is_dir() {
            inside
        } else {
            layer.workspace().join(format!(".omni-apply-{}", layer.session))
        }
    }
}

/// The mount that a directory is on: moving from one to another is copying, even on one file system.
fn mount_of(dir: &Dir) -> io::Result<(u64, u32, u32)> {
    let found = rustix::fs::statx(dir.as_fd(), c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok((found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor))
}

/// Stages everything that comes, and notes in the steps by which inode it will be known.
pub(super) fn stage(
    layer: &Layer,
    changes: &Changes,
    chosen: &[&Change],
    steps: &mut [Operation],
) -> Result<Staging, OverlayError> {
    let staging = Staging::create(layer)?;
    match fill(layer, changes, chosen, steps, &staging) {
        Ok(()) => Ok(staging),
        Err(error) => {
            // What failed first is what a person must be told.
            let _ = staging.remove();
            Err(error)
        }
    }
}

fn fill(
    layer: &Layer,
    changes: &Changes,
    chosen: &[&Change],
    steps: &mut [Operation],
    staging: &Staging,
) -> Result<(), OverlayError> {
    let by_path: BTreeMap<&RelPath, &Change> = chosen.iter().map(|change| (&change.path, *change)).collect();
    let one_by_one = steps.len() <= SYNCED_MAX;
    for step in steps {
        let Operation::Put { path, number, inode, .. } = step else { continue };
        let Some(change) = by_path.get(path) else { continue };
        let source = Source { layer, changes, change, sync: one_by_one };
        *inode = source.copy(&staging.dir, &new_name(*number)).map_err(OverlayError::at("copy", path))?;
    }
    let synced = if one_by_one { staging.dir.sync() } else { staging.dir.sync_all() };
    synced.map_err(OverlayError::preparing("bring the copies to the disk"))
}

/// One thing that the sandbox left.
struct Source<'a> {
    layer: &'a Layer,
    changes: &'a Changes,
    change: &'a Change,
    sync: bool,
}

impl Source<'_> {
    /// Copies it, and tells the copy's inode.
    fn copy(&self, staging: &Dir, name: &[u8]) -> io::Result<u64> {
        let gone = || io::Error::other("it is gone");
        let after = self.change.after.ok_or_else(gone)?;
        let (parent, own_name) = self.change.path.split().ok_or_else(gone)?;
        let upper = self.changes.upper.descend(&parent)?;
        match after.kind {
            Kind::File => self.copy_file(&upper, own_name, &after, staging, name)?,
            Kind::Directory => {
                staging.make_directory(name, MODE_DIRECTORY)?;
                self.give_entry(&after, staging, name)?;
                staging.set_mode(name, MODE_DIRECTORY)?;
            }
            Kind::Link => {
                staging.link(name, self.change.target.as_deref().ok_or_else(gone)?)?;
                self.give_entry(&after, staging, name)?;
            }
            Kind::Fifo => {
                staging.make_fifo(name, after.mode)?;
                self.give_entry(&after, staging, name)?;
                staging.set_mode(name, after.mode)?;
            }
            Kind::Socket | Kind::Device => return Err(io::Error::other("it is never taken over")),
        }
        Ok(staging.look(name)?.ok_or_else(gone)?.inode)
    }

    fn copy_file(&self, upper: &Dir, own: &[u8], after: &Facts, staging: &Dir, name: &[u8]) -> io::Result<()> {
        let from = upper.read(own)?;
        let to = staging.create(name, 0o600)?;
        copy_data(&from, &to)?;
        for (key, value) in user_attributes(upper.attributes(own)?) {
            rustix::fs::fsetxattr(&to, &key[..], &value, XattrFlags::empty())?;
        }
        if let Some(list) = self.access_list()? {
            rustix::fs::fsetxattr(&to, super::dir::ACCESS_LIST, &list, XattrFlags::empty())?;
        }
        let (uid, gid) = self.owner(after);
        refused_is_fine(rustix::fs::fchown(&to, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(after.mode))?;
        if self.sync { Ok(rustix::fs::fsync(&to)?) } else { Ok(()) }
    }

    /// The host's own list of who may access the file stays with it.
    fn access_list(&self) -> io::Result<Option<Vec<u8>>> {
        let was_file = self.change.before.is_some_and(|before| before.kind == Kind::File);
        match self.change.path.split().filter(|_| was_file) {
            Some((parent, name)) => self.changes.workspace.descend(&parent)?.access_list(name),
            None => Ok(None),
        }
    }

    /// Whose it is on the host: whose it was there, or the harness's as the host counts it.
    fn owner(&self, after: &Facts) -> (u32, u32) {
        match self.change.before {
            Some(before) if before.kind == after.kind => (before.uid, before.gid),
            _ => self.layer.base.owner(after.uid, after.gid),
        }
    }

    fn give_entry(&self, after: &Facts, staging: &Dir, name: &[u8]) -> io::Result<()> {
        let (uid, gid) = self.owner(after);
        staging.give(name, uid, gid)
    }
}

/// An ordinary user may not give files away; theirs they are anyway.
pub(super) fn refused_is_fine(outcome: rustix::io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(rustix::io::Errno::PERM) if !rustix::process::geteuid().is_root() => Ok(()),
        other => Ok(other?),
    }
}

/// What is taken along of a file's attributes: the harness's own, not the kernel's notes on the layer.
fn user_attributes(all: Attributes) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    all.into_iter().filter(|(name, _)| !name.starts_with(b"user.overlay."))
}

/// Copies a file's data; holes stay holes.
fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let end = from.metadata()?.len();
    to.set_len(end)?;
    let mut position = 0;
    while position < end {
        let data = match rustix::fs::seek(from, SeekFrom::Data(position)) {
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            // A file system that knows no holes has nothing but data.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => position,
            other => other?,
        };
        let hole = rustix::fs::seek(from, SeekFrom::Hole(data)).unwrap_or(end).min(end);
        copy_range(from, to, data, hole)?;
        position = hole;
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let length = usize::try_from((end - read).min(COPY_BYTES_MAX)).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), length) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
                return copy_by_hand(from.as_fd(), to.as_fd(), read, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(
    from: std::os::fd::BorrowedFd<'_>,
    to: std::os::fd::BorrowedFd<'_>,
    start: u64,
    end: u64,
) -> io::Result<()> {
    let mut piece = vec![0u8; 256 * 1024];
    let mut position = start;
    while position < end {
        let wanted = usize::try_from(end - position).unwrap_or(usize::MAX).min(piece.len());
        let length = rustix::io::pread(from, &mut piece[..wanted], position)?;
        if length == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let mut done = 0;
        while done < length {
            done += rustix::io::pwrite(to, &piece[done..length], position + done as u64)?;
        }
        position += length as u64;
    }
    Ok(())
}
