//! Equal shares of the processors for users who share a machine: one group for each, below one of omni's own, with the
//! kernel's default weight. However many sessions somebody has, together they get what one of another's gets when both want
//! all.

use super::group;
use super::hierarchy::{self, Controller, Hierarchy, OWN_LEAF, Version};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The controller that deals processors out.
const CPU: &str = Controller::Cpu.name();
/// What a user's sessions need to be held to limits of their own.
const HANDED_ON: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];
/// What the names of users' groups begin with.
const PREFIX: &str = "omni-user-";
/// The group beside the server's own that users' groups are made in, where there is one (`dist/omni-sessions.service`). A
/// group of version 2 that is divided takes no process: below its own, no new server could start while sessions go on.
const SESSIONS: &str = "omni-sessions.service";
/// Most entries that are looked at for groups of users who have no session any more.
const SWEPT_MAX: usize = 4096;

/// The group of one user, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share(String);

impl Share {
    /// The group of this user.
    #[must_use]
    pub fn of(user: u32) -> Self {
        Self(format!("{PREFIX}{user}"))
    }

    /// Puts this process, and what it will start, into the group.
    ///
    /// # Errors
    /// Where no hierarchy deals processors out to omni's own group, or it is somebody else's to divide.
    pub fn join(&self) -> io::Result<()> {
        let place = place()?.ok_or_else(|| io::Error::other("no control group of omni's deals processors out"))?;
        let group = place.directory.join(&self.0);
        make(&group)?;
        if place.version == Version::V1 {
            return enter(&group);
        }
        hand_on(&place.directory)?;
        // Sessions' own groups will be beside this one, since a group that hands controllers on may hold no process.
        let leaf = group.join(OWN_LEAF);
        make(&leaf)?;
        enter(&leaf)?;
        hand_on(&group)
    }

    /// Removes the group, if nobody is in it any more.
    pub fn remove(&self) {
        if let Ok(Some(place)) = place() {
            remove(&place.directory.join(&self.0));
        }
    }
}

/// Prepares the place of users' groups: moves this process out of the way where its own group will have to be divided, while
/// nobody else is in it, and removes groups whose users have no session any more.
///
/// # Errors
/// Where the group cannot be changed.
pub fn make_room_for_shares() -> io::Result<()> {
    let hierarchies = hierarchy::look()?;
    if let Some(place) = place_among(&hierarchies) {
        let entries = fs::read_dir(&place.directory)?.take(SWEPT_MAX).flatten();
        entries.filter(|entry| is_share(&entry.path())).for_each(|entry| remove(&entry.path()));
    }
    let second = hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2);
    let Some(Hierarchy { own, .. }) = second.filter(|second| offers_cpu(&second.own)) else { return Ok(()) };
    // The hierarchy's own root may hold processes beside groups, and what was settled is.
    if own.ends_with(OWN_LEAF) || !own.join("cgroup.type").exists() || divided(own) != *own {
        return Ok(());
    }
    let leaf = own.join(OWN_LEAF);
    make(&leaf)?;
    enter(&leaf)
}

/// Removes a user's group and what dead sessions left in it. What is still in use stays, for the next time.
fn remove(group: &Path) {
    group::sweep(group);
    let _ = fs::remove_dir(group.join(OWN_LEAF));
    let _ = fs::remove_dir(group);
}

/// Where users' groups are.
struct Place {
    version: Version,
    directory: PathBuf,
}

fn place() -> io::Result<Option<Place>> {
    Ok(place_among(&hierarchy::look()?))
}

fn place_among(hierarchies: &[Hierarchy]) -> Option<Place> {
    let second =
        hierarchies.iter().filter(|hierarchy| hierarchy.version == Version::V2).map(|hierarchy| &hierarchy.own);
    let second = second.map(|own| divided(own)).find(|own| offers_cpu(own));
    let by_name = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|name| name == CPU);
    let first = hierarchies.iter().find(by_name).map(|hierarchy| divided(&hierarchy.own));
    let place = |version| move |directory: PathBuf| Place { version, directory };
    second.map(place(Version::V2)).or_else(|| first.map(place(Version::V1)))
}

/// The group that is divided, seen from one of its parts or from the server's own group beside it.
fn divided(own: &Path) -> PathBuf {
    let base = base(own);
    match base.parent().map(|above| above.join(SESSIONS)) {
        Some(sessions) if sessions.is_dir() => sessions,
        _ => base,
    }
}

/// The group that a part is of.
fn base(own: &Path) -> PathBuf {
    let own = if own.ends_with(OWN_LEAF) { own.parent().unwrap_or(own) } else { own };
    if is_share(own) { own.parent().unwrap_or(own).to_owned() } else { own.to_owned() }
}

fn is_share(group: &Path) -> bool {
    group.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

fn offers_cpu(group: &Path) -> bool {
    offered(group).contains(&Controller::Cpu)
}

/// Those of the controllers that a group of version 2 has to hand on.
fn offered(group: &Path) -> Vec<Controller> {
    let list = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let is_offered = |controller: &Controller| list.split_whitespace().any(|name| name == controller.name());
    HANDED_ON.into_iter().filter(is_offered).collect()
}

fn make(group: &Path) -> io::Result<()> {
    match fs::create_dir(group) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// 0 is the process that writes it (cgroups(7)).
fn enter(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), "0")
}

fn hand_on(group: &Path) -> io::Result<()> {
    let list: Vec<_> = offered(group).into_iter().map(|controller| format!("+{}", controller.name())).collect();
    fs::write(group.join("cgroup.subtree_control"), list.join(" "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_divided_group_is_found_from_each_of_its_parts() {
        let divided = Path::new("/sys/fs/cgroup/system.slice/omni.service");
        for part in ["", OWN_LEAF, "omni-user-7", "omni-user-7/omni-supervisors"] {
            assert_eq!(base(&divided.join(part)), divided.join(""), "{part}");
        }
    }

    #[test]
    fn the_group_of_the_sessions_is_found_from_the_servers_and_from_its_own_parts() {
        let slice = tempfile::tempdir().unwrap();
        let server = slice.path().join("omni-server.service");
        assert_eq!(divided(&server), server, "there is none");
        let sessions = slice.path().join(SESSIONS);
        fs::create_dir(&sessions).unwrap();
        let parts = ["", OWN_LEAF, "omni-user-7", "omni-user-7/omni-supervisors"].map(|part| sessions.join(part));
        for part in parts.iter().chain([&server]) {
            assert_eq!(divided(part), sessions, "{}", part.display());
        }
    }

    #[test]
    fn what_is_not_offered_is_not_handed_on() {
        let group = tempfile::tempdir().unwrap();
        fs::write(group.path().join("cgroup.controllers"), "cpuset cpu io pids\n").unwrap();
        hand_on(group.path()).unwrap();
        assert_eq!(fs::read_to_string(group.path().join("cgroup.subtree_control")).unwrap(), "+cpu +pids");
    }
}
