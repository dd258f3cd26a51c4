//! What of the host may be shown at all, and which grants are followed to where they lead.

use super::{Access, Mount, TOO_WIDE};
use crate::supervisor::error::PlanError;
use crate::supervisor::host::{HostFacts, PathFacts, SYSTEM_PATHS};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Kernel interfaces: files that are no files, through which the machine and other processes are reached.
const INTERFACES: [&str; 3] = ["/proc", "/sys", "/dev"];
/// Where daemons listen. What answers there acts outside, for whoever asks.
const DAEMONS: &str = "/run";
/// What else lies there: file systems that a person plugged in.
const MEDIA: &str = "/run/media";

/// Fails for a place of the host that no sandbox is shown, whoever asks for it.
pub(super) fn check(mount: &Mount, place: &PathFacts, home: &Path) -> Result<(), PlanError> {
    let path = place.real.clone();
    let within = |above: &str| place.real.starts_with(above);
    if let Some(kind) = place.special {
        return Err(PlanError::Special { path, kind });
    }
    if INTERFACES.into_iter().any(within) {
        return Err(PlanError::Interface(path));
    }
    if within(DAEMONS) && !(within(MEDIA) && place.real != Path::new(MEDIA)) {
        return Err(PlanError::Daemons(path));
    }
    let system = mount.access == Access::ReadOnly && SYSTEM_PATHS.iter().any(|system| place.real == Path::new(system));
    let wide = TOO_WIDE.iter().any(|wide| place.real == Path::new(wide)) && !system;
    if wide || home.starts_with(&place.real) { Err(PlanError::TooWide(path)) } else { Ok(()) }
}

/// Fails where something would be kept from the harness under one of its names alone.
pub(super) fn check_names(
    hidden: &BTreeSet<PathBuf>,
    facts: &HostFacts,
    all: &[(Mount, PathFacts)],
) -> Result<(), PlanError> {
    let loose = |path: &Path| {
        let above = all.iter().rfind(|(mount, _)| path != mount.target && path.starts_with(&mount.target));
        above.is_some_and(|(mount, _)| mount.access == Access::ReadWrite)
    };
    let visible = |path: &PathBuf| all.iter().any(|(mount, _)| path.starts_with(&mount.target));
    let hidden = hidden.iter().filter(|path| visible(path)).filter_map(|path| Some((path, facts.paths.get(path)?)));
    let kept = all.iter().filter(|(mount, _)| mount.access == Access::ReadOnly && loose(&mount.target));
    let mut names = hidden.chain(kept.map(|(mount, place)| (&mount.target, place)));
    let folded = names.find(|(_, place)| place.folded);
    folded.map_or(Ok(()), |(path, _)| Err(PlanError::Folded(path.clone())))
}

/// What becomes of a grant that leads elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is shown where it leads.
    Follow,
    /// It leads out of what is granted, by a link where a harness may write: an earlier session may have left it there.
    Planted,
}

/// Judges how the grant `mount` is found. Links in places that no harness may change are the user's own.
pub(super) fn way(mount: &Mount, place: &PathFacts, all: &[(Mount, PathFacts)]) -> Way {
    let others = || all.iter().filter(|(other, _)| other.target != mount.target);
    let writable = |link: &Path| {
        others().any(|(other, above)| {
            other.access == Access::ReadWrite && above.directory && link != above.real && link.starts_with(&above.real)
        })
    };
    let granted = others().any(|(_, other)| other.directory && place.real.starts_with(&other.real));
    let planted = place.followed.iter().any(|link| writable(link)) && !granted;
    if planted { Way::Planted } else { Way::Follow }
}
