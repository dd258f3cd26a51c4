//! The workspace behind a layer that takes its changes: overlayfs, made by the new mount calls in the sandbox's own
//! namespaces, so that the same calls do for root and for an ordinary user.

use super::plan::{Mount, OVERLAY_UPPER, OVERLAY_WORK};
use super::root::Root;
use super::trees::Trees;
use rustix::fs::StatVfsMountFlags;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Where the workspace's own tree lies while the two are put together; relative, for overlayfs looks its directories up
/// by name, and a name of ours holds none of the characters that mean something to it.
const LOWER: &str = ".overlay-lower";
/// Where the layer lies meanwhile.
const LAYER: &str = "/.overlay-layer";
/// Longest line of the kernel's explanations (fsopen(2)) that is read.
const EXPLANATION_BYTES_MAX: usize = 1024;

/// The name under which the layer's tree is opened: the place where it will lie.
pub(super) fn layer_place() -> &'static Path {
    Path::new(LAYER)
}

/// Mounts the workspace behind its layer. The layer is nowhere else to be seen afterwards: what lies in it is reached
/// through the mount alone.
pub(super) fn mount(root: &Root, trees: &mut Trees, mount: &Mount) -> io::Result<()> {
    let lower = Path::new("/").join(LOWER);
    // Attached, not by descriptor: kernels before 6.15 take no detached mount as a layer.
    root.lend(trees.take(&mount.target)?.as_fd(), &lower)?;
    root.lend(trees.take(layer_place())?.as_fd(), layer_place())?;
    let merged = merge(root).map_err(with_advice)?;
    root.take_back(&lower)?;
    root.take_back(layer_place())?;
    root.make_directory(&mount.target)?;
    root.attach(merged.as_fd(), &mount.target)
}

/// Puts two empty directories together, for trying whether the kernel does.
pub(super) fn rehearse(root: &Root) -> io::Result<()> {
    root.make_directory(&Path::new("/").join(LOWER))?;
    for name in [OVERLAY_UPPER, OVERLAY_WORK] {
        root.make_directory(&layer_place().join(name))?;
    }
    merge(root).map(drop)
}

/// Makes the mount. With `userxattr` the kernel keeps its notes where an ordinary user may write; without it, a
/// directory that was removed and made again would show its old contents.
fn merge(root: &Root) -> io::Result<OwnedFd> {
    rustix::process::fchdir(root.directory())?;
    let layer = LAYER.trim_start_matches('/');
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let made = fsconfig_set_string(&context, "source", "omni")
        .and_then(|()| fsconfig_set_string(&context, "lowerdir", LOWER))
        .and_then(|()| fsconfig_set_string(&context, "upperdir", format!("{layer}/{OVERLAY_UPPER}")))
        .and_then(|()| fsconfig_set_string(&context, "workdir", format!("{layer}/{OVERLAY_WORK}")))
        .and_then(|()| fsconfig_set_flag(&context, "userxattr"))
        .and_then(|()| fsconfig_create(&context));
    made.map_err(|error| refused(&error.into(), &context))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let merged = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // Where the layer cannot be written the kernel mounts all the same, for reading.
    if rustix::fs::fstatvfs(&merged)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(refused(&io::Error::from(io::ErrorKind::ReadOnlyFilesystem), &context));
    }
    Ok(merged)
}

/// The kernel's error with its own explanation.
fn refused(error: &io::Error, context: &OwnedFd) -> io::Error {
    let mut why = Vec::new();
    let mut line = [0u8; EXPLANATION_BYTES_MAX];
    // One line a read, until there is none; the kernel keeps eight.
    while let Ok(length @ 1..) = rustix::io::read(context, &mut line) {
        let text = String::from_utf8_lossy(&line[..length]);
        why.push(text.trim_start_matches(['e', 'w', 'i']).trim().to_owned());
    }
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
    io::Error::new(error.kind(), format!("{error}{why}"))
}

/// The error with what a person can do.
fn with_advice(error: io::Error) -> io::Error {
    let kind = error.kind();
    io::Error::new(
        kind,
        format!(
            "{error}: the file system that omni keeps changes on, or the workspace's, cannot be layered; set OMNI_HOME to a \
             directory on ext4, xfs or btrfs, or work without the overlay"
        ),
    )
}
