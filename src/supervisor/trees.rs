//! The places of the host that a sandbox shows, opened as detached mounts before anything else changes.
//!
//! Opening them once, by descriptor, is what keeps a path from being swapped under the set-up. Root opens them outside,
//! where it may also translate owners, and passes them in; an ordinary user may only inside their own new namespaces.

use super::error::SupervisorError;
use super::host::FileId;
use super::overlay;
use super::plan::{Identity, Plan, Step};
use super::wire::{self, DESCRIPTORS_MAX, Order};
use crate::sys::{MountAttributes, NamespaceHolder, set_mount_attributes};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Detached mounts by the path inside where they will be attached.
#[derive(Debug, Default)]
pub(super) struct Trees(BTreeMap<PathBuf, OwnedFd>);

impl Trees {
    /// Opens every place that the plan shows.
    pub(super) fn open(plan: &Plan) -> Result<Self, SupervisorError> {
        Self::open_own(plan)?.and_others(plan)
    }

    /// Opens what lies in omni's own directory, which is out of reach of the user on whose behalf root runs a session.
    pub(super) fn open_own(plan: &Plan) -> Result<Self, SupervisorError> {
        let own = places(plan).filter(|place| matches!(place.known, Known::Ours));
        let opened = own.map(|place| Ok((place.target.clone(), place.open()?)));
        Ok(Self(opened.collect::<Result<_, _>>()?))
    }

    /// And all the others.
    pub(super) fn and_others(mut self, plan: &Plan) -> Result<Self, SupervisorError> {
        for place in places(plan).filter(|place| !matches!(place.known, Known::Ours)) {
            let tree = place.open()?;
            self.0.insert(place.target, tree);
        }
        Ok(self)
    }

    /// Passes all of them on.
    pub(super) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let all: Vec<_> = self.0.values().map(AsFd::as_fd).collect();
        all.chunks(DESCRIPTORS_MAX).try_for_each(|some| wire::send(socket, &Order::Trees, some))
    }

    /// Takes over what [`Trees::send`] passed on for the same plan: both sides count in the order of the places inside.
    pub(super) fn receive(plan: &Plan, socket: BorrowedFd<'_>) -> io::Result<Self> {
        let targets: BTreeSet<_> = places(plan).map(|place| place.target).collect();
        let mut descriptors = Vec::with_capacity(targets.len());
        while descriptors.len() < targets.len() {
            match wire::receive::<Order>(socket)? {
                Some((Order::Trees, some)) if !some.is_empty() => descriptors.extend(some),
                _ => return Err(io::Error::other("the host's places were not opened")),
            }
        }
        Ok(Self(targets.into_iter().zip(descriptors).collect()))
    }

    /// Translates owners where the plan says so, such that the harness's files land on the disk as the place's owner's.
    /// What comes back is of no further use, and takes the kernel a moment to end.
    pub(super) fn translate_owners(&self, plan: &Plan) -> Result<Vec<NamespaceHolder>, SupervisorError> {
        let mut namespaces: BTreeMap<(u32, u32), OwnedFd> = BTreeMap::new();
        let mut holders = Vec::new();
        for step in &plan.steps {
            let (Step::Bind { mount, owner: Some(owner), .. } | Step::Overlay { mount, owner: Some(owner), .. }) = step
            else {
                continue;
            };
            let failed = |error| SupervisorError::Owner { path: mount.source.clone(), error };
            if !namespaces.contains_key(owner) {
                let (map, holder) = id_map(*owner, &plan.identity).map_err(failed)?;
                namespaces.insert(*owner, map);
                holders.push(holder);
            }
            let (Some(tree), Some(map)) = (self.0.get(&mount.target), namespaces.get(owner)) else { continue };
            let wanted = MountAttributes { id_map: Some(map.as_fd()), recursive: true, ..Default::default() };
            set_mount_attributes(tree.as_fd(), wanted).map_err(failed)?;
        }
        Ok(holders)
    }

    /// Takes the mount for a path inside.
    pub(super) fn take(&mut self, target: &Path) -> io::Result<OwnedFd> {
        self.0.remove(target).ok_or_else(|| io::Error::other(format!("{} was not opened", target.display())))
    }
}

/// What a plan shows of the host: where inside, where it is outside, and how it is known again.
struct Place {
    target: PathBuf,
    source: PathBuf,
    known: Known,
}

/// By what a place is known again between the plan and the opening.
enum Known {
    /// It is the file that was looked at.
    File(FileId),
    /// It is the device of this number.
    Device(u32, u32),
    /// It lies in omni's own directory, where nobody else may change anything.
    Ours,
}

impl Place {
    /// Opens it. What stands there now in place of what was planned, be it behind a link, is not shown.
    fn open(&self) -> Result<OwnedFd, SupervisorError> {
        let tree = clone_tree(&self.source)?;
        let found = rustix::fs::fstat(&tree)
            .map_err(|error| SupervisorError::Open { path: self.source.clone(), error: error.into() })?;
        let same = match self.known {
            Known::File(id) => id == FileId::of(&found),
            Known::Ours => true,
            Known::Device(major, minor) => {
                let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
                kind == rustix::fs::FileType::CharacterDevice && found.st_rdev == rustix::fs::makedev(major, minor)
            }
        };
        if same { Ok(tree) } else { Err(SupervisorError::Replaced(self.source.clone())) }
    }
}

fn places(plan: &Plan) -> impl Iterator<Item = Place> {
    let binds = plan.steps.iter().filter_map(|step| match step {
        Step::Bind { mount, id, .. } | Step::Overlay { mount, id, .. } => {
            Some(Place { target: mount.target.clone(), source: mount.source.clone(), known: Known::File(*id) })
        }
        _ => None,
    });
    let layers = plan.steps.iter().filter_map(|step| match step {
        Step::Overlay { layer, .. } => {
            Some(Place { target: overlay::layer_place().to_owned(), source: layer.clone(), known: Known::Ours })
        }
        _ => None,
    });
    let devices = super::apply::DEVICES.map(|(name, major, minor)| {
        let path = Path::new("/dev").join(name);
        Place { target: path.clone(), source: path, known: Known::Device(major, minor) }
    });
    binds.chain(layers).chain(devices)
}

pub(super) fn clone_tree(path: &Path) -> Result<OwnedFd, SupervisorError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).map_err(|error| SupervisorError::Open { path: path.to_owned(), error: error.into() })
}

/// A user namespace whose map says "the disk's owner is the harness's user": what an id-mapped mount is told by. It
/// lives as long as the descriptor; the process it takes to make one comes with it, and is ending.
pub(super) fn id_map(owner: (u32, u32), identity: &Identity) -> io::Result<(OwnedFd, NamespaceHolder)> {
    let holder = NamespaceHolder::start()?;
    let map = write_maps(holder.pid(), owner, identity)?;
    holder.let_go()?;
    Ok((map, holder))
}

fn write_maps(pid: rustix::process::Pid, owner: (u32, u32), identity: &Identity) -> io::Result<OwnedFd> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    std::fs::write(process.join("uid_map"), format!("{} {} 1", owner.0, identity.kernel_uid))?;
    std::fs::write(process.join("gid_map"), format!("{} {} 1", owner.1, identity.kernel_gid))?;
    Ok(std::fs::File::open(process.join("ns/user"))?.into())
}
