//! Equal shares of the processors for users who share a machine: one group for each, below omni's own, with the kernel's
//! default weight. However many sessions somebody has, together they get what one of another's gets when both want all.

use super::hierarchy::{self, Hierarchy, OWN_LEAF, Version};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The controller that deals processors out.
const CPU: &str = "cpu";

/// The group of one user, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share(String);

impl Share {
    /// The group of this user.
    #[must_use]
    pub fn of(user: u32) -> Self {
        Self(format!("omni-user-{user}"))
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
            let group = place.directory.join(&self.0);
            // What is still in use stays, for the next time.
            let _ = fs::remove_dir(group.join(OWN_LEAF));
            let _ = fs::remove_dir(group);
        }
    }
}

/// Moves this process out of the way where its group will have to be divided, while nobody else is in it.
///
/// # Errors
/// Where the group cannot be changed.
pub fn make_room_for_shares() -> io::Result<()> {
    let hierarchies = hierarchy::look()?;
    let second = hierarchies.iter().find(|hierarchy| hierarchy.version == Version::V2);
    let Some(Hierarchy { own, .. }) = second.filter(|second| offers_cpu(&second.own)) else { return Ok(()) };
    // The hierarchy's own root may hold processes beside groups, and what was settled is.
    if own.ends_with(OWN_LEAF) || !own.join("cgroup.type").exists() {
        return Ok(());
    }
    let leaf = own.join(OWN_LEAF);
    make(&leaf)?;
    enter(&leaf)
}

/// Where users' groups are.
struct Place {
    version: Version,
    directory: PathBuf,
}

fn place() -> io::Result<Option<Place>> {
    let hierarchies = hierarchy::look()?;
    let second =
        hierarchies.iter().filter(|hierarchy| hierarchy.version == Version::V2).map(|hierarchy| &hierarchy.own);
    let second = second.map(|own| base(own)).find(|own| offers_cpu(own));
    let by_name = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|name| name == CPU);
    let first = hierarchies.iter().find(by_name).map(|hierarchy| base(&hierarchy.own));
    let place = |version| move |directory: PathBuf| Place { version, directory };
    Ok(second.map(place(Version::V2)).or_else(|| first.map(place(Version::V1))))
}

/// The group that is divided, seen from one of its parts.
fn base(own: &Path) -> PathBuf {
    let own = if own.ends_with(OWN_LEAF) { own.parent().unwrap_or(own) } else { own };
    let is_share = own.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"omni-user-"));
    if is_share { own.parent().unwrap_or(own).to_owned() } else { own.to_owned() }
}

fn offers_cpu(group: &Path) -> bool {
    let list = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    list.split_whitespace().any(|name| name == CPU)
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
    fs::write(group.join("cgroup.subtree_control"), format!("+{CPU}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divided_group_is_found_from_each_of_its_parts() {
        let divided = Path::new("/sys/fs/cgroup/system.slice/omni.service");
        for part in ["", OWN_LEAF, "omni-user-7", "omni-user-7/omni-supervisors"] {
            assert_eq!(base(&divided.join(part)), divided.join(""), "{part}");
        }
    }
}
