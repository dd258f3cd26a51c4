//! Where the harness may write by itself, and where the write gate does it.

use super::{Access, LockdownStep, Mount, PlanRequest};
use crate::model::FileAct;
use crate::policy::{JudgedPath, ProtectedBy, Protection};
use crate::supervisor::error::PlanError;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Places of the sandbox's own in every sandbox, besides the home.
const OWN: [&str; 5] = ["/tmp", "/run", "/var/tmp", "/dev", "/proc"];

/// What the write gate goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteGate {
    /// The places of the host that may be changed, but for what is protected in them. Of places within each other the
    /// outermost stands here: an inner one may be there only to keep what lies in it where it is.
    pub hosts: Vec<PathBuf>,
    /// The workspace, which a profile's own protected names are relative to.
    pub workspace: PathBuf,
    /// Whether the workspace is part of a repository that begins above it.
    pub in_repository: bool,
    /// The sandbox's own places where the harness writes by itself.
    pub free: Vec<PathBuf>,
    /// The names that may not be changed.
    pub protection: Protection,
}

impl WriteGate {
    /// A path as it is judged; none where it does not lie in a place of the host.
    pub(in crate::supervisor) fn judged(&self, path: &Path) -> Option<JudgedPath> {
        let place = self.hosts.iter().find(|place| path.starts_with(place))?;
        // The root directory is a component, and no name.
        let names = |place: &Path| place.components().count() - 1;
        let workspace = path.starts_with(&self.workspace).then(|| names(&self.workspace));
        Some(JudgedPath::new(path.as_os_str().as_bytes(), names(place), workspace))
    }

    /// Why a file may not be written, as far as its path alone tells.
    #[must_use]
    pub fn refuses(&self, path: &Path) -> Option<ProtectedBy<'_>> {
        let judged = self.judged(path)?;
        self.protection.judge(FileAct::Write, &judged, &mut |_, _| false).err()
    }
}

/// The steps that bound writing.
pub(super) fn steps(request: &PlanRequest<'_>, mounts: &[&Mount]) -> Result<Vec<LockdownStep>, PlanError> {
    let home = &request.facts.home;
    let layered = |mount: &Mount| request.layer.is_some() && mount.target == request.workspace;
    let changed = mounts.iter().filter(|mount| mount.access == Access::ReadWrite);
    let (own, hosts): (Vec<&&Mount>, Vec<&&Mount>) = changed.partition(|mount| layered(mount));
    let own = own.into_iter().map(|mount| mount.target.clone());
    let own: Vec<PathBuf> = OWN.iter().map(PathBuf::from).chain([home.clone()]).chain(own).collect();
    // Landlock's rules go for everything below a place, whatever is mounted there.
    let above = |place: &Path| hosts.iter().any(|mount| mount.target.starts_with(place));
    let (mixed, free): (Vec<PathBuf>, Vec<PathBuf>) = own.into_iter().partition(|place| above(place));
    if hosts.is_empty() {
        return Ok(vec![LockdownStep::Landlock { write: free, sockets: Vec::new() }]);
    }
    let protection = Protection::compile(&request.profile.filesystem.protect);
    let protection = protection.map_err(|(pattern, hint)| PlanError::Pattern { pattern, hint })?;
    let hosts: Vec<PathBuf> = hosts.into_iter().map(|mount| mount.target.clone()).collect();
    let hosts = outermost(hosts);
    let sockets = outermost(hosts.iter().cloned().chain(mixed).collect());
    let (workspace, free_too) = (request.workspace.to_owned(), free.clone());
    let in_repository = repositories_above(&workspace).any(|place| request.facts.paths.contains_key(&place));
    let gate = WriteGate { hosts, workspace, in_repository, free: free_too, protection };
    Ok(vec![LockdownStep::Landlock { write: free, sockets }, LockdownStep::Gate(Box::new(gate))])
}

/// Where the repositories would be that the workspace could be a part of.
pub fn repositories_above(workspace: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    workspace.ancestors().skip(1).map(|above| above.join(".git"))
}

/// The places that lie in none of the others.
fn outermost(places: Vec<PathBuf>) -> Vec<PathBuf> {
    let inner = |place: &PathBuf| places.iter().any(|other| place != other && place.starts_with(other));
    places.iter().filter(|place| !inner(place)).cloned().collect()
}
