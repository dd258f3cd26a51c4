//! Directories that stand still: between something that may be written and something below it that may not.
//!
//! A mount moves with the directory that it lies in. Were that one renamed, a file that is hidden or for reading only would
//! be somewhere else when the next session looks for it. A mount point itself cannot be renamed, so each directory on the
//! way is mounted onto itself.

use super::{Access, Mount, PlanRequest, expand_home};
use crate::policy::Profile;
use crate::supervisor::host::{HOME_SOCKETS, PathFacts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The directories that have to be looked at for this: above each path that is hidden or for reading only, up to the one
/// that may be written.
pub(super) fn candidates(profile: &Profile, home: &Path, workspace: &Path) -> BTreeSet<PathBuf> {
    let filesystem = &profile.filesystem;
    let expand = |path: &String| expand_home(path, home);
    let writable: Vec<_> = filesystem.write.iter().map(expand).chain([workspace.to_owned()]).collect();
    let kept = filesystem.read.iter().chain(&filesystem.hide).map(expand).chain(sockets(profile, home, workspace));
    kept.flat_map(|path| between(&path, &writable)).collect()
}

/// Where programs of the user's may listen within what is granted: hidden, if it is there.
pub(super) fn sockets(profile: &Profile, home: &Path, workspace: &Path) -> Vec<PathBuf> {
    let granted = profile.filesystem.read.iter().chain(&profile.filesystem.write).map(|path| expand_home(path, home));
    let granted: Vec<_> = granted.chain([workspace.to_owned()]).collect();
    let known = HOME_SOCKETS.map(|path| expand_home(path, home));
    known.into_iter().filter(|path| granted.iter().any(|grant| path != grant && path.starts_with(grant))).collect()
}

/// The directories strictly between a path and the deepest of `tops` above it.
fn between(path: &Path, tops: &[PathBuf]) -> Vec<PathBuf> {
    let deepest = tops.iter().filter(|top| path != top.as_path() && path.starts_with(top)).max();
    let Some(top) = deepest else { return Vec::new() };
    path.ancestors().skip(1).take_while(|above| *above != top).map(Path::to_owned).collect()
}

/// Adds the mounts that keep directories in place. Where there is nothing to keep, there is nothing to add.
pub(super) fn with_pins(request: &PlanRequest<'_>, found: Vec<(Mount, PathFacts)>) -> Vec<(Mount, PathFacts)> {
    let facts = request.facts;
    let pin = |path: PathBuf| {
        let place = facts.paths.get(&path).filter(|place| place.directory && place.link.is_none())?;
        let (above, _) = found.iter().rfind(|(mount, _)| path.starts_with(&mount.target))?;
        let loose = above.access == Access::ReadWrite && above.target != path;
        let mount = Mount { source: path.clone(), target: path, access: Access::ReadWrite };
        loose.then(|| (mount, place.clone()))
    };
    let pins = candidates(request.profile, &facts.home, request.workspace).into_iter().filter_map(pin);
    let by_target: BTreeMap<PathBuf, (Mount, PathFacts)> =
        pins.chain(found.clone()).map(|shown| (shown.0.target.clone(), shown)).collect();
    by_target.into_values().collect()
}
