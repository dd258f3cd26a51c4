//! What becomes of a path inside a sandbox, read off its plan: the same steps that are executed say what would be found.
//!
//! Pure. It says what the plan shows; whether the host has a file there, and what its permissions are, is the host's.

use super::plan::{Access, LockdownStep, Plan, Step};
use std::path::{Path, PathBuf};

/// Most links of the plan's own that are followed, as the kernel does (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What a sandbox has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing: the path leads into no place of the sandbox.
    Absent,
    /// An empty directory on the way to a place of the sandbox.
    Way,
    /// The host's own, in a mount.
    Shown,
    /// A place of the sandbox's own, in memory, gone at the end.
    Private,
    /// A file or directory that stands in front of the host's, so that it is not seen.
    Covered,
    /// A file that omni wrote for the sandbox.
    Made,
    /// Devices or processes: what the kernel makes.
    Kernel,
}

/// What becomes of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The path, with the plan's own links followed.
    pub path: PathBuf,
    /// What is there.
    pub presence: Presence,
    /// Where on the host it is, if it is the host's.
    pub source: Option<PathBuf>,
    /// Whether it may be changed.
    pub writable: bool,
    /// The place of the plan that decides, the root directory of a mount; none for what is absent.
    pub place: Option<PathBuf>,
    /// The step that decides, as `--dry-run` prints it.
    pub step: Option<String>,
}

/// What a plan makes of an absolute path without `.` and `..`.
#[must_use]
pub fn reach(plan: &Plan, path: &Path) -> Reach {
    let path = follow(plan, path);
    let decides = plan.steps.iter().rev().find_map(|step| at(step, &path).map(|found| (step, found)));
    let Some((step, (place, presence))) = decides else {
        let on_the_way = plan.steps.iter().filter_map(place).any(|place| place.starts_with(&path));
        let presence = if on_the_way { Presence::Way } else { Presence::Absent };
        return Reach { path, presence, source: None, writable: false, place: None, step: None };
    };
    let source = match step {
        Step::Bind { mount, .. } | Step::Overlay { mount, .. } => {
            path.strip_prefix(&mount.target).ok().map(|rest| mount.source.join(rest))
        }
        _ => None,
    };
    let writable = may_write(step) && landlock_lets(plan, &path);
    Reach { source, presence, writable, place: Some(place.to_owned()), step: Some(step.to_string()), path }
}

/// The path with the links that the plan makes replaced by what they point to.
fn follow(plan: &Plan, path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let link = plan.steps.iter().find_map(|step| match step {
            Step::Link { path: from, target } => path.strip_prefix(from).ok().map(|rest| (from, target, rest)),
            _ => None,
        });
        let Some((from, target, rest)) = link else { break };
        // A link of the root directory's: what it points to is relative to there.
        let base = from.parent().unwrap_or(Path::new("/"));
        path = base.join(target).join(rest).components().collect();
    }
    path
}

/// Where a step puts something.
fn place(step: &Step) -> Option<&Path> {
    match step {
        Step::Private { path, .. } | Step::File { path, .. } | Step::Cover { path, .. } => Some(path),
        Step::Bind { mount, .. } | Step::Overlay { mount, .. } => Some(&mount.target),
        Step::Devices { .. } => Some(Path::new("/dev")),
        Step::Processes => Some(Path::new("/proc")),
        _ => None,
    }
}

/// What a step puts at a path, if anything: mounts hold everything below them, files themselves alone.
fn at<'a>(step: &'a Step, path: &Path) -> Option<(&'a Path, Presence)> {
    let place = place(step)?;
    let within = path.starts_with(place);
    let presence = match step {
        Step::Private { mode, .. } if within && mode & 0o222 == 0 => Presence::Covered,
        Step::Private { .. } if within => Presence::Private,
        Step::Bind { .. } | Step::Overlay { .. } if within => Presence::Shown,
        Step::Devices { .. } | Step::Processes if within => Presence::Kernel,
        Step::File { .. } if path == place => Presence::Made,
        Step::Cover { .. } if within => Presence::Covered,
        _ => return None,
    };
    Some((place, presence))
}

fn may_write(step: &Step) -> bool {
    match step {
        Step::Bind { mount, .. } | Step::Overlay { mount, .. } => mount.access == Access::ReadWrite,
        Step::Private { mode, .. } => mode & 0o222 != 0,
        Step::File { mode, .. } => mode & 0o222 != 0,
        Step::Devices { .. } | Step::Processes => true,
        _ => false,
    }
}

/// Whether the plan's Landlock rules and its write gate leave a path writable; a plan without rules does.
fn landlock_lets(plan: &Plan, path: &Path) -> bool {
    let mut rules = plan.lockdown.iter().filter_map(|step| match step {
        // Where sockets alone may be made, the gate writes.
        LockdownStep::Landlock { write, sockets } => Some(write.iter().chain(sockets)),
        _ => None,
    });
    let lets = rules.next().is_none_or(|mut places| places.any(|place| path.starts_with(place)));
    lets && plan.gate().is_none_or(|gate| gate.refuses(path).is_none())
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::super::host::FileId;
    use super::super::plan::{Contents, Identity, Mount};
    use super::*;
    use std::collections::BTreeMap;

    /// A plan of steps alone, with writing allowed by Landlock below `write`.
    fn plan(steps: Vec<Step>, write: &[&str]) -> Plan {
        let write = write.iter().map(PathBuf::from).collect();
        Plan {
            limits: crate::supervisor::LimitPlan::default(),
            tier: crate::model::Tier::Full,
            gaps: Vec::new(),
            identity: Identity { uid: 1000, gid: 1000, kernel_uid: 1000, kernel_gid: 1000 },
            steps,
            lockdown: vec![LockdownStep::Landlock { write, sockets: Vec::new() }],
            program: "/usr/bin/true".into(),
            argv: Vec::new(),
            environment: BTreeMap::new(),
            directory: "/home/ann/project".into(),
            terminal: None,
        }
    }

    fn bind(source: &str, target: &str, access: Access) -> Step {
        let mount = Mount { source: source.into(), target: target.into(), access };
        Step::Bind { mount, directory: true, id: FileId::default(), owner: None }
    }

    fn home() -> Plan {
        let hidden = Step::Cover { path: "/home/ann/project/.env".into(), contents: Contents::Text(String::new()) };
        let steps = vec![
            Step::Private { path: "/home/ann".into(), mode: 0o700, bytes: 1 },
            bind("/usr", "/usr", Access::ReadOnly),
            Step::Link { path: "/bin".into(), target: "usr/bin".into() },
            Step::Processes,
            bind("/home/ann/dotfiles/config", "/home/ann/.config", Access::ReadOnly),
            bind("/home/ann/project", "/home/ann/project", Access::ReadWrite),
            hidden,
            Step::File { path: "/home/ann/.seed".into(), mode: 0o600, contents: Contents::Text(String::new()) },
        ];
        plan(steps, &["/home/ann", "/home/ann/project", "/proc"])
    }

    fn told(plan: &Plan, path: &str) -> (Presence, bool) {
        let found = reach(plan, Path::new(path));
        (found.presence, found.writable)
    }

    #[test]
    fn the_innermost_place_decides() {
        let plan = home();
        let expected = [
            ("/home/ann/.ssh/id_rsa", (Presence::Private, true)),
            ("/home/ann/.config/git", (Presence::Shown, false)),
            ("/home/ann/project/src/main.rs", (Presence::Shown, true)),
            ("/home/ann/project/.env", (Presence::Covered, false)),
            ("/home/ann/projects", (Presence::Private, true)),
            ("/home/ann/.seed", (Presence::Made, true)),
            ("/home", (Presence::Way, false)),
            ("/srv/secrets", (Presence::Absent, false)),
            ("/proc/1/environ", (Presence::Kernel, true)),
        ];
        assert_eq!(expected.map(|(path, _)| (path, told(&plan, path))), expected);
    }

    #[test]
    fn a_mount_says_where_on_the_host_a_file_is() {
        let found = reach(&home(), Path::new("/home/ann/.config/git"));
        assert_eq!(found.source.expect("a source"), Path::new("/home/ann/dotfiles/config/git"));
        assert_eq!(found.place.expect("a place"), Path::new("/home/ann/.config"));
        let step = "bind /home/ann/.config from /home/ann/dotfiles/config read-only";
        assert_eq!(found.step.expect("a step"), step);
    }

    #[test]
    fn links_of_the_root_directory_lead_where_they_say() {
        let found = reach(&home(), Path::new("/bin/sh"));
        assert_eq!((found.path.as_path(), found.presence), (Path::new("/usr/bin/sh"), Presence::Shown));
        let looped = plan(vec![Step::Link { path: "/a".into(), target: "a".into() }], &[]);
        assert_eq!(reach(&looped, Path::new("/a")).presence, Presence::Absent);
    }

    #[test]
    fn what_landlock_forbids_is_not_writable_whatever_the_mount_says() {
        let open = plan(vec![bind("/data", "/data", Access::ReadWrite)], &["/data"]);
        assert_eq!(told(&open, "/data/x"), (Presence::Shown, true));
        let shut = plan(vec![bind("/data", "/data", Access::ReadWrite)], &["/tmp"]);
        assert_eq!(told(&shut, "/data/x"), (Presence::Shown, false));
    }
}
