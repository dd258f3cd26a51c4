//! The plan of a sandbox without namespaces: a private directory in the place of home and temporary files, lists of what
//! may be read and written, and what of the profile that cannot hold.

use super::sources::{self, Way};
use super::{
    Access, Contents, Identity, LockdownStep, Mount, Plan, PlanRequest, Step, binds, check_workspace, restrictions,
};
use crate::harness::Seed;
use crate::model::{LimitKind, Tier};
use crate::policy::expand_home;
use crate::supervisor::error::PlanError;
use crate::supervisor::host::{HostFacts, PathFacts};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What every sandbox of this tier leaves open; docs/tiers.md says more.
const GAPS: [&str; 5] = [
    "names and command lines of the machine's other processes can be read",
    "names, sizes and times of files outside can be looked at, and times of your own be changed",
    "only programs that heed HTTP_PROXY reach anything, and none can listen",
    "no path of the workspace is protected, and no file in it hidden",
    "memory, shared with the machine, has no private file systems in it: temporary files are on the disk",
];
/// Devices that every program may use.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// The private directory, as the harness sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivatePlace {
    /// The directory that holds the others.
    pub root: PathBuf,
}

impl PrivatePlace {
    /// What stands for the home directory.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    /// Where temporary files go.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// As [`super::CA_BUNDLE`].
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.root.join("ca-bundle.pem")
    }

    /// As [`super::CA_CERTIFICATE`].
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.root.join("ca.pem")
    }

    /// As [`super::CA_KEY_STORE`].
    #[must_use]
    pub fn key_store(&self) -> PathBuf {
        self.root.join("ca-bundle.p12")
    }
}

/// Plans a sandbox of the tier `landlock`.
///
/// # Errors
/// As [`super::plan`], and for what this tier cannot do: a mount at another place, something hidden in the workspace, a
/// harness that would have to be user 0.
pub fn plan_enclosed(request: &PlanRequest<'_>, private: &PrivatePlace) -> Result<Plan, PlanError> {
    let facts = request.facts;
    if let Some((path, error)) = &facts.unknown {
        return Err(PlanError::Unknown { path: path.clone(), error: error.clone() });
    }
    check_workspace(request.workspace, &facts.home)?;
    if let Some(pattern) = request.profile.filesystem.protect.first() {
        let why = format!("`{pattern}` cannot be protected in it (`filesystem.protect`)");
        return Err(PlanError::NotHeld { path: request.workspace.to_owned(), why });
    }
    if request.layer.is_some() {
        let why = "an overlay takes a mount".to_owned();
        return Err(PlanError::NotHeld { path: request.workspace.to_owned(), why });
    }
    if request.profile.nested_sandboxes {
        let why = "sandboxes within it take namespaces (`nested_sandboxes`)".to_owned();
        return Err(PlanError::NotHeld { path: request.workspace.to_owned(), why });
    }
    if request.limits.held.iter().any(|held| held.limit == LimitKind::Tmp) {
        let why = "its size cannot be limited on the disk (`limits.tmp`)".to_owned();
        return Err(PlanError::NotHeld { path: private.temporary(), why });
    }
    let identity = identity(facts, request.workspace)?;
    let (given, mut gaps) = given(request)?;
    gaps.extend(GAPS.map(str::to_owned));
    let mut steps = foundations(private);
    let links = links(&given, &facts.home, private, &mut steps);
    for seed in &request.launch.seeds {
        steps.extend(seed_steps(seed, &facts.home, private, &links));
    }
    steps.push(Step::HandOver);
    let mut lockdown = restrictions(request.limits);
    lockdown.extend([
        LockdownStep::DropCapabilities,
        LockdownStep::NoNewPrivileges,
        enclosure(facts, &given, private),
        LockdownStep::SeccompNotifying,
    ]);
    Ok(Plan {
        tier: Tier::Landlock,
        gaps,
        identity,
        limits: request.limits.clone(),
        steps,
        lockdown,
        program: request.program.to_owned(),
        argv: request.launch.argv.clone(),
        environment: request.launch.env.clone(),
        directory: request.workspace.to_owned(),
        terminal: request.terminal,
    })
}

/// An ordinary user stays who they are. Root becomes the owner of the workspace, since no mount can translate owners here.
fn identity(facts: &HostFacts, workspace: &Path) -> Result<Identity, PlanError> {
    if facts.uid != 0 {
        let (uid, gid) = (facts.uid, facts.gid);
        return Ok(Identity { uid, gid, kernel_uid: uid, kernel_gid: gid });
    }
    match facts.paths.get(workspace) {
        Some(place) if place.uid != 0 && place.gid != 0 => {
            Ok(Identity { uid: place.uid, gid: place.gid, kernel_uid: place.uid, kernel_gid: place.gid })
        }
        _ => Err(PlanError::RootsWorkspace(workspace.to_owned())),
    }
}

type Given = Vec<(Mount, PathFacts)>;

/// What is given of the host, and why the rest is not.
fn given(request: &PlanRequest<'_>) -> Result<(Given, Vec<String>), PlanError> {
    let facts = request.facts;
    let all = binds(request)?;
    let hidden: Vec<PathBuf> =
        hidden(request).iter().filter_map(|path| Some(facts.paths.get(path)?.real.clone())).collect();
    let (mut given, mut gaps) = (Vec::new(), Vec::new());
    for (mount, place) in &all {
        if mount.source != mount.target {
            return Err(PlanError::Elsewhere(mount.target.clone()));
        }
        let asked = mount.target == request.workspace || request.mounts.contains(mount);
        let withheld = if sources::way(mount, place, &all) == Way::Planted {
            Some("a link on the way to it may be a harness's".to_owned())
        } else {
            hidden
                .iter()
                .find(|hidden| hidden.starts_with(&place.real))
                .map(|hidden| format!("{} in it cannot be hidden", hidden.display()))
        };
        match withheld {
            Some(why) if asked => return Err(PlanError::NotHeld { path: mount.target.clone(), why }),
            Some(why) => gaps.push(format!("{} is withheld, since {why}", mount.target.display())),
            None => {
                if mount.access == Access::ReadOnly && lies_in_writable(place, &all) {
                    gaps.push(format!("{} can be written, since it lies in what can", mount.target.display()));
                }
                given.push((mount.clone(), place.clone()));
            }
        }
    }
    Ok((given, gaps))
}

fn lies_in_writable(place: &PathFacts, all: &Given) -> bool {
    all.iter().any(|(other, outer)| {
        other.access == Access::ReadWrite && place.real != outer.real && place.real.starts_with(&outer.real)
    })
}

fn hidden(request: &PlanRequest<'_>) -> BTreeSet<PathBuf> {
    let written = request.profile.filesystem.hide.iter().chain(&request.launch.hide);
    written.map(|path| expand_home(path, &request.facts.home)).collect()
}

fn foundations(private: &PrivatePlace) -> Vec<Step> {
    let directory = |path: PathBuf| Step::Directory { path, mode: 0o700 };
    let file = |path: PathBuf, contents| Step::File { path, mode: 0o444, contents };
    vec![
        directory(private.root.clone()),
        directory(private.home()),
        directory(private.temporary()),
        file(private.bundle(), Contents::CaBundle),
        file(private.certificate(), Contents::CaCertificate),
        file(private.key_store(), Contents::CaKeyStore),
    ]
}

/// Links in the private home to what is given of the real one. Of two, one in the other, the outer has the link.
fn links(given: &Given, home: &Path, private: &PrivatePlace, steps: &mut Vec<Step>) -> Vec<PathBuf> {
    let mut links: Vec<PathBuf> = Vec::new();
    for (mount, place) in given {
        let Ok(rest) = mount.target.strip_prefix(home) else { continue };
        if links.iter().any(|link| mount.target.starts_with(link)) {
            continue;
        }
        let path = private.home().join(rest);
        make_parents(&path, private, steps);
        steps.push(Step::Link { path, target: place.real.clone() });
        links.push(mount.target.clone());
    }
    links
}

fn seed_steps(seed: &Seed, home: &Path, private: &PrivatePlace, links: &[PathBuf]) -> Vec<Step> {
    let path = expand_home(&seed.path, home);
    let Ok(rest) = path.strip_prefix(home) else { return Vec::new() };
    // In a directory of the user's, the user's own files count.
    if links.iter().any(|link| path.starts_with(link)) {
        return Vec::new();
    }
    let path = private.home().join(rest);
    let mut steps = Vec::new();
    make_parents(&path, private, &mut steps);
    steps.push(Step::File { path, mode: seed.mode, contents: Contents::Text(seed.contents.clone()) });
    steps
}

/// The directories between the private home and a path in it; one that is there already stays.
fn make_parents(path: &Path, private: &PrivatePlace, steps: &mut Vec<Step>) {
    let home = private.home();
    let between = path.ancestors().skip(1).take_while(|above| *above != home);
    let mut between: Vec<_> = between.map(Path::to_owned).collect();
    between.reverse();
    for path in between {
        let step = Step::Directory { path, mode: 0o700 };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
}

fn enclosure(facts: &HostFacts, given: &Given, private: &PrivatePlace) -> LockdownStep {
    let reals =
        |access| given.iter().filter(move |(mount, _)| mount.access == access).map(|(_, place)| place.real.clone());
    let system: BTreeSet<PathBuf> = facts.system().map(|(_, place)| place.real.clone()).collect();
    LockdownStep::Enclose {
        read: system.into_iter().chain([PathBuf::from("/proc")]).chain(reals(Access::ReadOnly)).collect(),
        devices: DEVICES.iter().map(|device| Path::new("/dev").join(device)).collect(),
        write: std::iter::once(private.root.clone()).chain(reals(Access::ReadWrite)).collect(),
    }
}
