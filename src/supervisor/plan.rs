//! The plan of one sandbox: every step as data, printable, compared by golden tests, executed by one interpreter.
//!
//! Pure: everything about the host arrives as [`HostFacts`].

mod accounts;
mod display;
pub(super) mod enclosed;
mod files;
mod gate;
mod nested;
mod pins;
mod sources;

pub use self::gate::{WriteGate, repositories_above};
use self::sources::Way;
use super::error::PlanError;
use super::host::{FileId, HostFacts, PathFacts, SYSTEM_PATHS};
use super::limits::{LimitPlan, PIDS_DEFAULT};
use crate::harness::LaunchSpec;
use crate::model::Tier;
use crate::model::{LimitHolder, LimitKind};
use crate::policy::{Profile, expand_home};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Where the merged certificate bundle (the host's roots and the session's CA) lies inside.
pub const CA_BUNDLE: &str = "/run/omni/ca-bundle.pem";
/// Where the session's CA certificate alone lies inside.
pub const CA_CERTIFICATE: &str = "/run/omni/ca.pem";
/// Where the same bundle lies inside as Java reads it (PKCS #12, without a password).
pub const CA_KEY_STORE: &str = "/run/omni/ca-bundle.p12";

/// A file of which nothing can be read, to be put in front of what is found to look like a secret while the harness runs. It
/// lies in the root directory, in which the harness cannot change anything.
pub const LATE_COVER: &str = "/.hidden";
/// Room in a directory that shows nothing: the least that there is.
pub(super) const EMPTY_BYTES_MAX: u64 = 4096;

/// The directory of a layer in which changes lie (overlayfs's `upperdir`).
pub const OVERLAY_UPPER: &str = "upper";
/// The directory of a layer that the kernel works in (overlayfs's `workdir`).
pub const OVERLAY_WORK: &str = "work";

/// The namespaces of every sandbox, as the session record and `--dry-run` name them.
pub const NAMESPACES: [&str; 7] = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"];

/// Room in each private directory, in bytes; it is memory that is only used when filled.
const PRIVATE_BYTES_MAX: u64 = 2 << 30;
/// Room in shared memory, likewise.
const SHARED_MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Room in the root directory itself, which holds little more than mount points.
const ROOT_BYTES_MAX: u64 = 16 << 20;
/// The user and group that root's harnesses are inside: an ordinary one.
const ORDINARY_ID: u32 = 1000;
/// The kernel's id for them: outside every range that distributions hand out (systemd's doc/UIDS-GIDS.md), so that it
/// owns nothing on the host.
const KERNEL_ID: u32 = 1_900_001_000;

/// Places that nothing may be mounted over, since the sandbox puts its own files there.
const RESERVED: [&str; 2] = ["/", "/etc"];
/// Places that the sandbox builds itself, down to the last file.
const RESERVED_WHOLE: [&str; 5] = ["/proc", "/dev", "/sys", "/run/omni", LATE_COVER];
/// Places too wide to be a workspace.
const TOO_WIDE: [&str; 17] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/proc", "/root", "/run", "/sbin", "/sys",
    "/tmp", "/usr", "/var",
];

/// Whether the harness may change what is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may only look.
    ReadOnly,
    /// It may change it.
    ReadWrite,
}

/// A place of the host at a place of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The place on the host.
    pub source: PathBuf,
    /// The place inside.
    pub target: PathBuf,
    /// What the harness may do there.
    pub access: Access,
}

/// Which of the harness's standard streams lead to its own terminal. The others lead where they lead outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalStreams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl TerminalStreams {
    /// All three.
    pub const ALL: Self = Self { stdin: true, stdout: true, stderr: true };

    /// Whether none does, so that there is no use for a terminal.
    #[must_use]
    pub fn is_none(self) -> bool {
        !(self.stdin || self.stdout || self.stderr)
    }
}

/// Who the harness is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user id inside; never 0.
    pub uid: u32,
    /// The group id inside; never 0.
    pub gid: u32,
    /// The same user as the kernel counts it; never 0.
    pub kernel_uid: u32,
    /// The same group as the kernel counts it; never 0.
    pub kernel_gid: u32,
}

impl Identity {
    /// Whether it is that of a harness that root started for itself.
    #[must_use]
    pub fn is_roots(&self) -> bool {
        self.kernel_uid == KERNEL_ID
    }
}

/// Something of the workspace that looks like a secret and is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it lies on the host.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub directory: bool,
    /// Whether git keeps it. Such a file must not look empty, or its emptiness would be committed.
    pub tracked: bool,
}

/// What a file of the sandbox holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// This text.
    Text(String),
    /// The certificate bundle, which the proxy makes while the sandbox is built.
    CaBundle,
    /// The session's CA certificate alone.
    CaCertificate,
    /// The certificate bundle as Java reads it.
    CaKeyStore,
    /// Nothing that may be read.
    Unreadable,
}

/// One step of building the sandbox, before the harness is let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Name the host.
    Hostname(String),
    /// Cut the mount namespace off, so that no mount of ours reaches the host.
    PrivateMounts,
    /// Make the new root directory.
    Root {
        /// Its room.
        bytes: u64,
    },
    /// Make a directory that lives in memory.
    Private {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its room.
        bytes: u64,
    },
    /// Make a symbolic link.
    Link {
        /// Where.
        path: PathBuf,
        /// What it points to.
        target: PathBuf,
    },
    /// Show a place of the host.
    Bind {
        /// What, where and how.
        mount: Mount,
        /// Whether it is a directory.
        directory: bool,
        /// Which file it was when it was looked at.
        id: FileId,
        /// The owner on the disk that the harness stands for there, when that is not who it is in the kernel.
        owner: Option<(u32, u32)>,
    },
    /// Show a place of the host below a layer that takes every change, so that the place itself stays as it is.
    Overlay {
        /// What and where.
        mount: Mount,
        /// The host's directory that holds the layer, as [`OVERLAY_UPPER`] and [`OVERLAY_WORK`].
        layer: PathBuf,
        /// The place as it was looked at.
        id: FileId,
        /// The owner on the disk that the harness stands for there, when that is not who it is in the kernel.
        owner: Option<(u32, u32)>,
    },
    /// Write a file into a place that lives in memory.
    File {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What it holds.
        contents: Contents,
    },
    /// Put a read-only file in front of one that is there.
    Cover {
        /// Which.
        path: PathBuf,
        /// What shows instead.
        contents: Contents,
    },
    /// Make `/dev`: six harmless devices, terminals of its own, shared memory.
    Devices {
        /// Room in shared memory.
        bytes: u64,
    },
    /// Make `/proc` for the new process namespace.
    Processes,
    /// Make the root directory read-only.
    SealRoot,
    /// Enter the new root and let go of the old one.
    Enter,
    /// Bring up loopback, on which every address is local.
    Loopback,
    /// Hand every new TCP connection to the proxy's listeners.
    Capture,
    /// Make the listeners and pass them out.
    Listen,
    /// Make a directory of the sandbox's own on the disk.
    Directory {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Make the way by which connections are handed to the proxy one by one.
    HandOver,
    /// Listen for programs that want an SSH agent, for the proxy.
    SshAgent,
}

impl Step {
    /// Whether it makes the network, which is done first.
    #[must_use]
    pub fn is_of_network(&self) -> bool {
        matches!(self, Self::Loopback | Self::Capture | Self::Listen)
    }

    /// The place of the host that it shows, directly or behind a layer.
    #[must_use]
    pub fn shown(&self) -> Option<&Mount> {
        match self {
            Self::Bind { mount, .. } | Self::Overlay { mount, .. } => Some(mount),
            _ => None,
        }
    }
}

/// One step of locking the harness's process down, after the go and before its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockdownStep {
    /// Hold this process and what it starts to so much (setrlimit(2)).
    Limit {
        /// Of what.
        limit: LimitKind,
        /// How much.
        amount: u64,
    },
    /// Drop every capability from every set.
    DropCapabilities,
    /// Never gain privileges by executing (PR_SET_NO_NEW_PRIVS).
    NoNewPrivileges,
    /// Allow writing below these places alone, and signals and abstract sockets inside alone.
    Landlock {
        /// Where writing is allowed.
        write: Vec<PathBuf>,
        /// Where sockets may be made and nothing else.
        sockets: Vec<PathBuf>,
    },
    /// Have process 1 judge and do what writes elsewhere.
    Gate(Box<WriteGate>),
    /// Signals and abstract sockets inside alone, and no bounds on files: what is left where mounting must be possible.
    LandlockScopes,
    /// Load the system call filter.
    Seccomp,
    /// Load the filter that lets the harness make user namespaces, and mount in them.
    SeccompNesting,
    /// Allow reading and executing, using devices and writing below these places alone, signals inside alone, and no TCP.
    Enclose {
        /// Where reading and executing is allowed.
        read: Vec<PathBuf>,
        /// The devices that may be used.
        devices: Vec<PathBuf>,
        /// Where everything is allowed.
        write: Vec<PathBuf>,
    },
    /// Load the system call filter that has connecting and changing permissions answered by process 1.
    SeccompNotifying,
}

/// Everything that makes one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How strongly it isolates.
    pub tier: Tier,
    /// What a better tier would hold and this one does not, in words for a person.
    pub gaps: Vec<String>,
    /// Who the harness is.
    pub identity: Identity,
    /// What the session may use up, and what holds it to that.
    pub limits: LimitPlan,
    /// The steps before the go, in order.
    pub steps: Vec<Step>,
    /// The steps after the go, in order.
    pub lockdown: Vec<LockdownStep>,
    /// The program's full path.
    pub program: PathBuf,
    /// The command line.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// The working directory.
    pub directory: PathBuf,
    /// The harness's terminal of its own, if it gets one.
    pub terminal: Option<TerminalStreams>,
}

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct PlanRequest<'a> {
    /// The host.
    pub facts: &'a HostFacts,
    /// The profile, for what it grants and hides.
    pub profile: &'a Profile,
    /// The workspace, with every symbolic link followed.
    pub workspace: &'a Path,
    /// Whether the harness may change the workspace.
    pub workspace_access: Access,
    /// The directory that takes the harness's changes of the workspace; none where they land in the workspace itself.
    pub layer: Option<&'a Path>,
    /// What of the workspace looks like a secret, by its path on the host.
    pub secret_files: &'a [SecretFile],
    /// Whether more of it is looked for, and hidden, while the harness runs.
    pub covers_late: bool,
    /// Further mounts that the user asked for.
    pub mounts: &'a [Mount],
    /// The program's full path, with every symbolic link followed.
    pub program: &'a Path,
    /// Directories and files that the harness's program needs besides the system's.
    pub program_trees: &'a [PathBuf],
    /// What the session may use up.
    pub limits: &'a LimitPlan,
    /// What to start.
    pub launch: &'a LaunchSpec,
    /// The harness's terminal of its own, if it gets one.
    pub terminal: Option<TerminalStreams>,
}

/// Plans a sandbox.
///
/// # Errors
/// A [`PlanError`] for a workspace or mount that would give away more than a project, or that is not there.
pub fn plan(request: &PlanRequest<'_>) -> Result<Plan, PlanError> {
    let facts = request.facts;
    if let Some((path, error)) = &facts.unknown {
        return Err(PlanError::Unknown { path: path.clone(), error: error.clone() });
    }
    check_home(&facts.home)?;
    check_workspace(request.workspace, &facts.home)?;
    let identity = identity(facts);
    let binds = binds(request)?;
    sources::check_names(&files::hidden(request), facts, &binds)?;
    let mut steps = vec![Step::Loopback, Step::Capture, Step::Listen, Step::Hostname("omni".into())];
    steps.extend([Step::PrivateMounts, Step::Root { bytes: ROOT_BYTES_MAX }]);
    let bytes = tmp_bytes(request.limits, PRIVATE_BYTES_MAX);
    steps.extend(private_places(bytes));
    steps.extend(system(facts));
    // After the system's directories: the homes of services lie among them.
    steps.push(private(facts.home.clone(), 0o700, bytes));
    steps.push(Step::Devices { bytes: tmp_bytes(request.limits, SHARED_MEMORY_BYTES_MAX) });
    steps.push(Step::Processes);
    for (mount, place) in &binds {
        steps.extend(bind(mount, place, &binds, &identity)?.map(|step| behind_layer(step, request)));
    }
    refuse_ways_around(&steps)?;
    let files = files::files(request, &identity, &steps);
    steps.extend(files);
    if request.covers_late || covers(&steps).next().is_some() {
        steps.push(Step::File { path: LATE_COVER.into(), mode: 0, contents: Contents::Unreadable });
    }
    steps.extend(request.profile.ssh.is_some().then_some(Step::SshAgent));
    steps.extend([Step::SealRoot, Step::Enter]);
    let mounts: Vec<&Mount> = binds.iter().map(|(mount, _)| mount).collect();
    if request.profile.nested_sandboxes {
        nested::check(request, mounts.iter().copied())?;
    }
    let mut lockdown = vec![LockdownStep::DropCapabilities, LockdownStep::NoNewPrivileges];
    lockdown.extend(gate::steps(request, &mounts)?);
    // After the gate's listener was passed on: how many descriptors may be under way is bounded by how many may be open.
    lockdown.extend(restrictions(request.limits));
    lockdown.push(LockdownStep::Seccomp);
    let mut gaps = Vec::new();
    if request.profile.nested_sandboxes {
        (lockdown, gaps) = nested::relax(lockdown);
    }
    Ok(Plan {
        tier: Tier::Full,
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

impl Plan {
    /// What stands in front of a name of the user's own places, so that whoever puts something else in that name's place
    /// outside takes it away. What stands in front of the system's files hides no secret.
    ///
    /// Each with the path inside of what is shown as a whole and holds it.
    pub fn covers(&self) -> impl Iterator<Item = (&Path, &Path)> {
        covers(&self.steps)
    }

    /// The same of something in the workspace that is covered later: what is shown as a whole and holds it; none where it lies
    /// behind a layer, into which nothing comes from outside.
    #[must_use]
    pub fn shown_directly(&self, path: &Path) -> Option<&Path> {
        shown_directly(&self.steps, path).map(|mount| mount.target.as_path())
    }

    /// What the write gate goes by, where there is one.
    #[must_use]
    pub fn gate(&self) -> Option<&WriteGate> {
        self.lockdown.iter().find_map(|step| match step {
            LockdownStep::Gate(gate) => Some(&**gate),
            _ => None,
        })
    }
}

fn covers(steps: &[Step]) -> impl Iterator<Item = (&Path, &Path)> {
    let of_users = |path| {
        let within = shown_directly(steps, path)?;
        (path != within.target && !SYSTEM_PATHS.iter().any(|system| within.source.starts_with(system)))
            .then_some((within.target.as_path(), path))
    };
    let path = |step| match step {
        &Step::Cover { ref path, .. } | &Step::Private { ref path, .. } => Some(path.as_path()),
        _ => None,
    };
    steps.iter().filter_map(path).filter_map(of_users)
}

/// The directory of the host that a path inside lies in as it is there, not behind a layer.
fn shown_directly<'a>(steps: &'a [Step], path: &Path) -> Option<&'a Mount> {
    let above = steps.iter().filter(|step| step.shown().is_some_and(|mount| path.starts_with(&mount.target)));
    match above.max_by_key(|step| step.shown().map_or(0, |mount| mount.target.components().count())) {
        Some(Step::Bind { mount, directory: true, .. }) => Some(mount),
        _ => None,
    }
}

/// The host paths that planning for this profile will ask about.
#[must_use]
pub fn granted_paths(profile: &Profile, home: &Path) -> Vec<PathBuf> {
    let granted = [&profile.filesystem.read, &profile.filesystem.write, &profile.filesystem.hide];
    granted.into_iter().flatten().map(|path| expand_home(path, home)).collect()
}

/// Further host paths that planning asks about: those that keep others in place, and where programs of the user's listen.
#[must_use]
pub fn pinned_paths(profile: &Profile, home: &Path, workspace: &Path) -> Vec<PathBuf> {
    let sockets = pins::sockets(profile, home, workspace);
    pins::candidates(profile, home, workspace).into_iter().chain(sockets).collect()
}

/// The sandbox has a home of its own where the user's is; it must not stand in front of what it needs itself.
fn check_home(home: &Path) -> Result<(), PlanError> {
    let holds = SYSTEM_PATHS.iter().chain(&RESERVED_WHOLE).any(|place| Path::new(place).starts_with(home));
    let within = RESERVED_WHOLE.iter().any(|place| home.starts_with(place));
    if holds || within { Err(PlanError::Home(home.to_owned())) } else { Ok(()) }
}

fn check_workspace(workspace: &Path, home: &Path) -> Result<(), PlanError> {
    if !workspace.is_absolute() {
        return Err(PlanError::Relative(workspace.to_owned()));
    }
    let too_wide = TOO_WIDE.iter().any(|wide| workspace == Path::new(wide));
    if too_wide || home.starts_with(workspace) {
        return Err(PlanError::Workspace(workspace.to_owned()));
    }
    Ok(())
}

/// An ordinary user keeps their own ids, the only ones they may map. Root becomes an ordinary user, since a process that
/// the kernel counts as user 0 may write the host's files and `/proc/sys` even without a capability.
pub(super) fn identity(facts: &HostFacts) -> Identity {
    let ordinary = |id: u32| if id == 0 { ORDINARY_ID } else { id };
    let kernel = |id: u32| if id == 0 { KERNEL_ID } else { id };
    match facts.uid {
        0 => Identity { uid: ORDINARY_ID, gid: ORDINARY_ID, kernel_uid: KERNEL_ID, kernel_gid: KERNEL_ID },
        _ => {
            Identity { uid: facts.uid, gid: ordinary(facts.gid), kernel_uid: facts.uid, kernel_gid: kernel(facts.gid) }
        }
    }
}

fn private_places(bytes: u64) -> [Step; 3] {
    [private("/tmp", 0o1777, bytes), private("/run", 0o755, bytes), private("/var/tmp", 0o1777, bytes)]
}

fn private(path: impl Into<PathBuf>, mode: u32, bytes: u64) -> Step {
    Step::Private { path: path.into(), mode, bytes }
}

/// What each process is held to. Whose number nobody limits has a limit all the same, for the machine's sake.
fn restrictions(limits: &LimitPlan) -> Vec<LockdownStep> {
    let asked = limits.held.iter().any(|held| held.limit == LimitKind::Pids);
    let default = (!asked).then_some((LimitKind::Pids, PIDS_DEFAULT));
    let by_rlimit = limits.held.iter().filter(|held| held.held_by == LimitHolder::Rlimit);
    let restrictions = by_rlimit.map(|held| (held.limit, held.amount)).chain(default);
    restrictions.map(|(limit, amount)| LockdownStep::Limit { limit, amount }).collect()
}

/// Room in a directory in memory.
fn tmp_bytes(limits: &LimitPlan, default: u64) -> u64 {
    limits.amount(LimitKind::Tmp, LimitHolder::Tmpfs).unwrap_or(default)
}

/// The system's directories, read-only; those that are links stay links.
fn system(facts: &HostFacts) -> Vec<Step> {
    let step = |(path, place): (PathBuf, &PathFacts)| match &place.link {
        Some(target) => Step::Link { path, target: target.clone() },
        None => {
            let mount = Mount { source: path.clone(), target: path, access: Access::ReadOnly };
            Step::Bind { mount, directory: place.directory, id: place.id, owner: None }
        }
    };
    facts.system().map(step).collect()
}

/// Everything of the host that this harness sees besides the system, ordered so that what is below comes after.
fn binds(request: &PlanRequest<'_>) -> Result<Vec<(Mount, PathFacts)>, PlanError> {
    let facts = request.facts;
    let same = |path: PathBuf, access| Mount { source: path.clone(), target: path, access };
    let granted = |paths: &[String], access| {
        let present =
            paths.iter().map(|path| expand_home(path, &facts.home)).filter(|path| facts.paths.contains_key(path));
        present.map(|path| same(path, access)).collect::<Vec<_>>()
    };
    let filesystem = &request.profile.filesystem;
    let mut mounts = granted(&filesystem.read, Access::ReadOnly);
    mounts.extend(request.program_trees.iter().map(|path| same(path.clone(), Access::ReadOnly)));
    mounts.extend(granted(&filesystem.write, Access::ReadWrite));
    mounts.push(same(request.workspace.to_owned(), request.workspace_access));
    mounts.extend(request.mounts.iter().cloned());
    let mut by_target = BTreeMap::new();
    for mount in mounts {
        check_target(&mount.target, &facts.home)?;
        let place = facts.paths.get(&mount.source).ok_or_else(|| PlanError::Missing(mount.source.clone()))?.clone();
        sources::check(&mount, &place, &facts.home)?;
        by_target.insert(mount.target.clone(), (mount, place));
    }
    let found: Vec<_> = by_target.into_values().collect();
    Ok(pins::with_pins(request, found))
}

fn check_target(target: &Path, home: &Path) -> Result<(), PlanError> {
    let climbs = target.components().any(|part| matches!(part, Component::ParentDir));
    if !target.is_absolute() || climbs {
        return Err(PlanError::Relative(target.to_owned()));
    }
    let reserved = RESERVED.iter().any(|place| target == Path::new(place));
    let within = RESERVED_WHOLE.iter().any(|place| target.starts_with(place));
    if reserved || within || home.starts_with(target) { Err(PlanError::Reserved(target.to_owned())) } else { Ok(()) }
}

/// How a place is shown. A link to a directory that lies in another grant is covered instead: a directory cannot be
/// mounted on a link, and left alone it could be replaced. So is a link that a harness may have made; where there is
/// nothing to cover, it shows nothing.
fn bind(
    mount: &Mount,
    place: &PathFacts,
    all: &[(Mount, PathFacts)],
    identity: &Identity,
) -> Result<Option<Step>, PlanError> {
    let above =
        |(other, _): &(Mount, PathFacts)| other.target != mount.target && mount.target.starts_with(&other.target);
    let in_grant = all.iter().any(above);
    let planted = sources::way(mount, place, all) == Way::Planted;
    if planted && place.link.is_none() {
        return Err(PlanError::Planted { path: mount.target.clone(), real: place.real.clone() });
    }
    if place.link.is_some() && (planted || place.directory) && in_grant {
        return Ok(Some(Step::Cover { path: mount.target.clone(), contents: Contents::Text(String::new()) }));
    }
    if planted {
        return Ok(None);
    }
    let mount = Mount { source: place.real.clone(), ..mount.clone() };
    let owner = owner_to_translate(place, identity);
    Ok(Some(Step::Bind { mount, directory: place.directory, id: place.id, owner }))
}

/// The workspace behind its layer, in place of the workspace itself. The layer's own files belong to the harness as the
/// kernel counts it; only what lies below needs its owner translated.
fn behind_layer(step: Step, request: &PlanRequest<'_>) -> Step {
    match (step, request.layer) {
        (Step::Bind { mount, id, owner, .. }, Some(layer)) if mount.target == request.workspace => {
            Step::Overlay { mount, layer: layer.to_owned(), id, owner }
        }
        (step, _) => step,
    }
}

/// A writable mount that shows the workspace at another place too would be a way around its overlay. One that shows a part
/// of it is what somebody asked for by name.
fn refuse_ways_around(steps: &[Step]) -> Result<(), PlanError> {
    let overlay = steps.iter().find_map(|step| match step {
        Step::Overlay { mount, .. } => Some(mount),
        _ => None,
    });
    let Some(overlay) = overlay else { return Ok(()) };
    let binds = steps.iter().filter_map(|step| match step {
        Step::Bind { mount, .. } if mount.access == Access::ReadWrite => Some(mount),
        _ => None,
    });
    for mount in binds {
        let Ok(below) = overlay.source.strip_prefix(&mount.source) else { continue };
        // Where the overlay itself stands in front of it, there is no way.
        let hidden = mount.target.components().chain(below.components()).eq(overlay.target.components());
        if !hidden {
            let (target, place) = (mount.target.clone(), mount.source.clone());
            return Err(PlanError::AroundOverlay { target, place });
        }
    }
    Ok(())
}

fn owner_to_translate(place: &PathFacts, identity: &Identity) -> Option<(u32, u32)> {
    let differs = (place.uid, place.gid) != (identity.kernel_uid, identity.kernel_gid);
    (identity.is_roots() && differs).then_some((place.uid, place.gid))
}

#[cfg(test)]
#[allow(clippy::expect_used)]
#[path = "plan_tests.rs"]
mod tests;
