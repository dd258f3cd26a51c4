//! Whether this machine can isolate: each thing that a plan needs, tried in a process that is gone afterwards, so that
//! nothing of the host changes.
//!
//! It tells what was found. What to do about it, which depends on distributions and containers, it does not know.

mod deeds;
mod laboratory;

use super::plan;
use super::{HostFacts, Identity};
use crate::model::Tier;
use laboratory::{Fault, Place};
use std::io;
use std::path::Path;

/// Something of the kernel that a sandbox is made of, in the order in which one thing needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A user namespace by itself.
    UserNamespaces,
    /// All seven namespaces in one clone3(2).
    Namespaces,
    /// The maps between ids inside and outside.
    IdMaps,
    /// A root directory of its own: tmpfs, bind mounts, their attributes, pivot_root(2).
    Mounts,
    /// A fresh `/proc`.
    Processes,
    /// Terminals of its own.
    Terminals,
    /// Loopback, on which every address is local.
    Loopback,
    /// The packet filter that hands new connections to the proxy.
    Capture,
    /// Sockets that are made inside and served outside.
    Listeners,
    /// Id-mapped mounts, by which files of root's sandboxes keep their owners.
    Owners,
    /// overlayfs in a user namespace.
    Overlays,
    /// Landlock.
    Landlock,
    /// A Landlock that guards signals and abstract sockets too.
    LandlockWhole,
    /// System call filters.
    Seccomp,
    /// Filters that have another process answer, and put a descriptor in the place of the caller's.
    Notifications,
    /// Having process 1 judge and do what the harness writes on the host.
    WriteGate,
    /// close_range(2).
    CloseRange,
    /// openat2(2).
    OpenBeneath,
    /// Files in memory.
    MemoryFiles,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It works; what exactly was seen.
    Works(String),
    /// It was tried and failed.
    Missing {
        /// The system's error, in words.
        error: String,
        /// Its number, when it came from the kernel.
        errno: Option<i32>,
    },
    /// It was not tried, since this is missing.
    Untried(Feature),
    /// Nothing needs it here, for this reason.
    Unneeded(&'static str),
}

impl Feature {
    /// All of them, each after those it needs.
    pub const ALL: [Self; 19] = [
        Self::UserNamespaces,
        Self::Namespaces,
        Self::IdMaps,
        Self::Mounts,
        Self::Processes,
        Self::Terminals,
        Self::Loopback,
        Self::Capture,
        Self::Listeners,
        Self::Owners,
        Self::Overlays,
        Self::Landlock,
        Self::LandlockWhole,
        Self::Seccomp,
        Self::Notifications,
        Self::WriteGate,
        Self::CloseRange,
        Self::OpenBeneath,
        Self::MemoryFiles,
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UserNamespaces => "user namespaces",
            Self::Namespaces => "all namespaces",
            Self::IdMaps => "id maps",
            Self::Mounts => "mounts",
            Self::Processes => "fresh /proc",
            Self::Terminals => "devpts",
            Self::Loopback => "loopback",
            Self::Capture => "nft tproxy",
            Self::Listeners => "listeners",
            Self::Owners => "id-mapped mounts",
            Self::Overlays => "overlayfs",
            Self::Landlock => "landlock",
            Self::LandlockWhole => "landlock 6",
            Self::Seccomp => "seccomp",
            Self::Notifications => "seccomp answers",
            Self::WriteGate => "write gate",
            Self::CloseRange => "close_range",
            Self::OpenBeneath => "openat2",
            Self::MemoryFiles => "memfd",
        }
    }

    /// What a sandbox needs it for.
    #[must_use]
    pub fn needed_for(self) -> &'static str {
        match self {
            Self::UserNamespaces => "any sandbox, and making one without being root",
            Self::Namespaces => "mounts, processes, network, IPC, host name and cgroups of the sandbox's own",
            Self::IdMaps => "a harness that is nobody special to the kernel",
            Self::Mounts => "a root directory that holds only what was granted",
            Self::Processes => "a process list without the host's processes",
            Self::Terminals => "a terminal of the harness's own, so that it cannot type into yours",
            Self::Loopback => "a network that leads nowhere but to the proxy",
            Self::Capture => "catching every connection, whatever address and port it is made to",
            Self::Listeners => "a proxy outside the sandbox that serves connections inside",
            Self::Owners => "files that root's sandboxes write and their owners keep",
            Self::Overlays => "workspaces whose changes are kept apart (`--fs overlay`)",
            Self::Landlock => "a second lock on files, signals and abstract sockets",
            Self::LandlockWhole => "files, signals and TCP where there are no namespaces",
            Self::Seccomp => "refusing system calls that no harness needs",
            Self::WriteGate => "a workspace that can be changed while what runs on the host later cannot",
            Self::Notifications => "handing connections to the proxy where there is no network namespace",
            Self::CloseRange => "closing what the harness must not inherit",
            Self::OpenBeneath => "paths that cannot lead out of the new root directory",
            Self::MemoryFiles => "handing certificates over without a file on the disk",
        }
    }

    /// Whether a sandbox of this tier cannot be built without it.
    #[must_use]
    pub fn is_required(self, tier: Tier) -> bool {
        match tier {
            Tier::Full => !matches!(
                self,
                Self::Overlays | Self::Landlock | Self::LandlockWhole | Self::Notifications | Self::WriteGate
            ),
            Tier::Landlock => matches!(
                self,
                Self::Landlock
                    | Self::LandlockWhole
                    | Self::Seccomp
                    | Self::Notifications
                    | Self::CloseRange
                    | Self::OpenBeneath
                    | Self::MemoryFiles
            ),
        }
    }

    /// What it cannot be tried without.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Namespaces => &[Self::UserNamespaces],
            Self::IdMaps => &[Self::Namespaces],
            Self::Mounts | Self::Loopback | Self::Owners => &[Self::IdMaps],
            Self::Capture => &[Self::Loopback],
            Self::Processes | Self::Terminals | Self::Overlays => &[Self::Mounts],
            Self::Listeners => &[Self::Loopback, Self::Capture],
            Self::LandlockWhole => &[Self::Landlock],
            Self::Notifications => &[Self::Seccomp],
            Self::WriteGate => &[Self::Landlock, Self::Seccomp],
            _ => &[],
        }
    }
}

impl Outcome {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        matches!(self, Self::Works(_) | Self::Unneeded(_))
    }
}

/// The best tier of which nothing is missing.
#[must_use]
pub fn reached(found: &[(Feature, Outcome)]) -> Option<Tier> {
    let whole = |tier: &Tier| found.iter().all(|(feature, outcome)| !feature.is_required(*tier) || outcome.is_sound());
    Tier::ALL.into_iter().rev().find(whole)
}

/// Tries what a tier needs, and says what of it is missing. Must be called while the process has one thread.
#[must_use]
pub fn probe_tier(tier: Tier, directory: &Path) -> Vec<(Feature, Outcome)> {
    let mut found = probe(directory, |feature| feature.is_required(tier));
    found.retain(|(_, outcome)| !outcome.is_sound());
    found
}

/// Tries everything. Must be called while the process has one thread.
///
/// `directory` is where owners would be translated; nothing happens to it.
#[must_use]
pub fn probe_all(directory: &Path) -> Vec<(Feature, Outcome)> {
    probe(directory, |_| true)
}

/// Tries what is wanted, of which nothing may need what is not.
fn probe(directory: &Path, wanted: impl Fn(Feature) -> bool) -> Vec<(Feature, Outcome)> {
    let identity = plan::identity(&HostFacts::gather(Path::new("/"), "", &[]));
    let mut found: Vec<(Feature, Outcome)> = Vec::new();
    for feature in Feature::ALL.into_iter().filter(|feature| wanted(*feature)) {
        let fails = |needed: &&Feature| {
            let works =
                |(known, outcome): &(Feature, Outcome)| known == *needed && matches!(outcome, Outcome::Works(_));
            !found.iter().any(works)
        };
        let outcome = match feature.needs().iter().find(fails) {
            Some(missing) => Outcome::Untried(*missing),
            None => try_out(feature, &identity, directory),
        };
        found.push((feature, outcome));
    }
    found
}

fn try_out(feature: Feature, identity: &Identity, directory: &Path) -> Outcome {
    let root = rustix::process::geteuid().is_root();
    let inside = Place::Sandbox(identity);
    let told = match feature {
        Feature::UserNamespaces => laboratory::run(Place::User, || Ok("made one".to_owned())),
        Feature::Namespaces => laboratory::run(Place::Unmapped, || Ok("all seven in one clone3".to_owned())),
        Feature::IdMaps => laboratory::run(inside, || deeds::ids(identity)),
        Feature::Mounts => laboratory::run(inside, deeds::mounts),
        Feature::Processes => laboratory::run(inside, deeds::processes),
        Feature::Terminals => laboratory::run(inside, deeds::terminals),
        Feature::Loopback => laboratory::run(inside, deeds::loopback),
        Feature::Capture => laboratory::run(inside, deeds::capture),
        Feature::Listeners => laboratory::listeners(inside),
        Feature::Owners if !root => return Outcome::Unneeded("you keep your own ids in the sandbox"),
        Feature::Owners => deeds::owners(identity, directory).map_err(Fault::from),
        Feature::Overlays => laboratory::run(inside, deeds::overlays),
        Feature::Landlock => laboratory::run(Place::Here, deeds::landlock),
        Feature::LandlockWhole => laboratory::run(Place::Here, deeds::landlock_whole),
        Feature::Seccomp => laboratory::run(Place::Here, deeds::seccomp),
        Feature::Notifications => laboratory::run(Place::Here, deeds::notifications),
        Feature::WriteGate => laboratory::run(Place::Here, deeds::write_gate),
        Feature::CloseRange => laboratory::run(Place::Here, deeds::close_range),
        Feature::OpenBeneath => laboratory::run(Place::Here, deeds::open_beneath),
        Feature::MemoryFiles => laboratory::run(Place::Here, deeds::memory_files),
    };
    match told {
        Ok(detail) => Outcome::Works(detail),
        Err(Fault { error, errno }) => Outcome::Missing { error, errno },
    }
}

/// An error of the probe itself: what was to be seen was not.
fn unexpected(what: impl Into<String>) -> io::Error {
    io::Error::other(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_after_what_it_needs() {
        for (at, feature) in Feature::ALL.iter().enumerate() {
            assert!(feature.needs().iter().all(|needed| Feature::ALL[..at].contains(needed)), "{feature:?}");
        }
    }

    #[test]
    fn no_tier_needs_a_thing_without_what_that_needs() {
        for tier in Tier::ALL {
            for feature in Feature::ALL.into_iter().filter(|feature| feature.is_required(tier)) {
                assert!(feature.needs().iter().all(|needed| needed.is_required(tier)), "{feature:?} for {tier}");
            }
        }
    }

    #[test]
    fn the_tier_reached_is_the_best_of_which_nothing_is_missing() {
        let found = |missing: &[Feature]| {
            let outcome = |feature: Feature| match missing.contains(&feature) {
                true => Outcome::Missing { error: "no".to_owned(), errno: None },
                false => Outcome::Works(String::new()),
            };
            reached(&Feature::ALL.map(|feature| (feature, outcome(feature))))
        };
        assert_eq!(found(&[]), Some(Tier::Full));
        assert_eq!(found(&[Feature::Landlock]), Some(Tier::Full));
        assert_eq!(found(&[Feature::UserNamespaces, Feature::Capture]), Some(Tier::Landlock));
        assert_eq!(found(&[Feature::UserNamespaces, Feature::Landlock]), None);
        assert_eq!(found(&[Feature::Seccomp]), None);
    }
}
