//! Where control groups can be made: the hierarchies this process is in, read from `/proc` (cgroups(7)).
//!
//! A session's group is made below the group that omni itself is in, so that whatever limits omni limits the session too.

use rustix::fs::{Access, AtFlags, CWD};
use std::io;
use std::path::{Path, PathBuf};

/// The child of a delegated group that omni moves itself into, since a group of version 2 that hands controllers on may
/// hold no process (cgroups(7), "no internal processes").
pub(super) const OWN_LEAF: &str = "omni-supervisors";

/// Which interface a hierarchy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A hierarchy for one or a few controllers.
    V1,
    /// The unified one.
    V2,
}

/// One hierarchy, and the group in it that this process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub version: Version,
    /// Its controllers; of version 2 they are read from the group itself.
    pub controllers: Vec<String>,
    /// The directory of this process's group.
    pub own: PathBuf,
}

/// The kernel's controllers that hold limits of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Pids,
    Cpu,
}

impl Controller {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }
}

/// Why a controller cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// No hierarchy offers it to this process's group.
    Absent,
    /// The group is somebody else's, or mounted read-only.
    Foreign(PathBuf),
    /// Other processes are in the group, so that it cannot hand controllers on.
    Shared(PathBuf),
}

/// A group below which a session's can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub version: Version,
    pub directory: PathBuf,
    /// Whether omni must leave it first.
    pub leave: bool,
    /// Controllers that it must hand on first.
    pub enable: Vec<Controller>,
}

/// The hierarchies as `/proc/self/cgroup` and `/proc/self/mountinfo` tell (cgroups(7), proc(5)). Groups outside of what
/// is mounted here are left out.
pub(super) fn hierarchies(cgroup: &str, mounts: &str) -> Vec<Hierarchy> {
    cgroup.lines().filter_map(|line| hierarchy(line, mounts)).collect()
}

/// One line of `/proc/self/cgroup`: `id:controllers:path`, both empty and 0 for version 2.
fn hierarchy(line: &str, mounts: &str) -> Option<Hierarchy> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let version = if controllers.is_empty() { Version::V2 } else { Version::V1 };
    let controllers: Vec<String> = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let own = mounts.lines().find_map(|mount| group_directory(mount, version, controllers.first(), path))?;
    Some(Hierarchy { version, controllers, own })
}

/// Where a mount shows the group of this path, if it is a mount of the hierarchy wanted.
fn group_directory(mount: &str, version: Version, controller: Option<&String>, path: &str) -> Option<PathBuf> {
    let (fields, rest) = mount.split_once(" - ")?;
    let mut rest = rest.split(' ');
    let (kind, options) = (rest.next()?, rest.nth(1)?);
    let wanted = match version {
        Version::V2 => kind == "cgroup2",
        Version::V1 => {
            kind == "cgroup" && options.split(',').any(|option| Some(option) == controller.map(String::as_str))
        }
    };
    let mut fields = fields.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let below = Path::new(path).strip_prefix(root).ok()?;
    // Collected part by part: joining nothing would leave a slash at the end.
    (wanted && !path.contains("/..")).then(|| Path::new(point).components().chain(below.components()).collect())
}

/// What the directories of the hierarchies say.
pub(super) fn look() -> io::Result<Vec<Hierarchy>> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup")?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(hierarchies(&cgroup, &mounts))
}

/// The best parent for groups with this controller: version 2 where it offers it.
pub(super) fn parent(hierarchies: &[Hierarchy], controller: Controller) -> Result<Parent, Unusable> {
    let of = |version| hierarchies.iter().filter(move |hierarchy| hierarchy.version == version);
    let second = of(Version::V2).map(|hierarchy| parent_v2(&hierarchy.own, controller));
    let offers = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|name| name == controller.name());
    let first = of(Version::V1).filter(offers).map(|hierarchy| parent_v1(&hierarchy.own));
    let mut worst = Unusable::Absent;
    for found in second.chain(first) {
        match found {
            Ok(parent) => return Ok(parent),
            Err(Unusable::Absent) => {}
            Err(why) => worst = why,
        }
    }
    Err(worst)
}

fn parent_v1(own: &Path) -> Result<Parent, Unusable> {
    match is_writable(own) {
        true => Ok(Parent { version: Version::V1, directory: own.to_owned(), leave: false, enable: Vec::new() }),
        false => Err(Unusable::Foreign(own.to_owned())),
    }
}

/// The group itself, or the one above when omni moved down from there earlier.
fn parent_v2(own: &Path, controller: Controller) -> Result<Parent, Unusable> {
    let directory = match (own.ends_with(OWN_LEAF), own.parent()) {
        (true, Some(above)) => above,
        _ => own,
    };
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
    let lists = |file: &str| read(file).split_whitespace().any(|name| name == controller.name());
    if !lists("cgroup.controllers") {
        return Err(Unusable::Absent);
    }
    let handed_on = lists("cgroup.subtree_control");
    let files = ["cgroup.procs", "cgroup.subtree_control"];
    if !is_writable(directory) || !files.iter().all(|file| is_writable(&directory.join(file))) {
        return Err(Unusable::Foreign(directory.to_owned()));
    }
    let mut parent = Parent { version: Version::V2, directory: directory.to_owned(), leave: false, enable: Vec::new() };
    if !handed_on {
        parent.enable.push(controller);
        parent.leave = match only_me(&read("cgroup.procs"), std::process::id()) {
            // The group that has no type is the hierarchy's own root, which may hold processes.
            _ if !directory.join("cgroup.type").exists() => false,
            Some(there) => there,
            None => return Err(Unusable::Shared(directory.to_owned())),
        };
    }
    Ok(parent)
}

/// Whether this process is in a group, by the list of those that are; none when others are too.
fn only_me(list: &str, me: u32) -> Option<bool> {
    let me = me.to_string();
    list.lines().all(|pid| pid == me).then(|| !list.trim().is_empty())
}

fn is_writable(path: &Path) -> bool {
    rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 20 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 /docker/4f2 /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
29 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn own(cgroup: &str) -> Vec<(Version, Vec<String>, String)> {
        let found = hierarchies(cgroup, MOUNTS);
        found.into_iter().map(|each| (each.version, each.controllers, each.own.display().to_string())).collect()
    }

    #[test]
    fn each_hierarchy_is_found_where_it_is_mounted() {
        let found = own(
            "9:name=systemd:/\n4:memory:/user/ann\n2:cpu,cpuacct:/\n8:pids:/docker/4f2/x\n0::/user.slice/a.scope\n",
        );
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            found,
            [
                (Version::V1, names(&["memory"]), "/sys/fs/cgroup/memory/user/ann".to_owned()),
                (Version::V1, names(&["cpu", "cpuacct"]), "/sys/fs/cgroup/cpu,cpuacct".to_owned()),
                (Version::V1, names(&["pids"]), "/sys/fs/cgroup/pids/x".to_owned()),
                (Version::V2, names(&[]), "/sys/fs/cgroup/unified/user.slice/a.scope".to_owned()),
            ]
        );
    }

    #[test]
    fn a_group_that_no_mount_shows_is_left_out() {
        assert_eq!(own("8:pids:/elsewhere\n0::/../other\nnonsense\n"), []);
    }

    #[test]
    fn a_group_is_left_only_when_nobody_else_is_in_it() {
        assert_eq!(only_me("17\n", 17), Some(true));
        assert_eq!(only_me("", 17), Some(false));
        assert_eq!(only_me("17\n18\n", 17), None);
    }

    /// A group of version 2, as far as looking at it goes.
    fn delegated(procs: &str, handed_on: &str) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(place.path().join(file), text).unwrap();
        write("cgroup.controllers", "cpu memory pids\n");
        write("cgroup.subtree_control", handed_on);
        write("cgroup.procs", procs);
        write("cgroup.type", "domain\n");
        place
    }

    #[test]
    fn a_delegated_group_is_left_and_made_to_hand_controllers_on() {
        let me = format!("{}\n", std::process::id());
        let place = delegated(&me, "");
        let parent = parent_v2(place.path(), Controller::Memory).unwrap();
        let expected = Parent {
            version: Version::V2,
            directory: place.path().to_owned(),
            leave: true,
            enable: vec![Controller::Memory],
        };
        assert_eq!(parent, expected);
        // The next one starts in the leaf that this one moved to.
        let place = delegated("", "memory pids\n");
        let parent = parent_v2(&place.path().join(OWN_LEAF), Controller::Pids).unwrap();
        assert_eq!((parent.directory.as_path(), parent.leave, parent.enable.len()), (place.path(), false, 0));
    }

    #[test]
    fn a_group_with_others_in_it_is_left_alone() {
        let place = delegated("1\n2\n", "");
        assert_eq!(parent_v2(place.path(), Controller::Cpu), Err(Unusable::Shared(place.path().to_owned())));
        let place = delegated("1\n2\n", "cpu\n");
        assert!(parent_v2(place.path(), Controller::Cpu).is_ok(), "it hands the controller on already");
        let place = tempfile::tempdir().unwrap();
        assert_eq!(parent_v2(place.path(), Controller::Cpu), Err(Unusable::Absent));
    }
}
