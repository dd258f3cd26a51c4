//! What a sandbox holds that omni wrote: certificates, accounts, resolver, the harness's seeds, and covers over credentials.

use super::{
    CA_BUNDLE, CA_CERTIFICATE, CA_KEY_STORE, Contents, EMPTY_BYTES_MAX, Identity, PlanRequest, Step, accounts,
};
use crate::harness::Seed;
use crate::policy::expand_home;
use crate::supervisor::GATEWAY_V4;
use crate::supervisor::host::{HOME_SOCKETS, HostFacts, SYSTEM_SOCKETS};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files that omni writes: accounts, resolver, certificates, the harness's seeds, and covers over credentials.
/// `shown` are the steps that show places of the host.
pub(super) fn files(request: &PlanRequest<'_>, identity: &Identity, shown: &[Step]) -> Vec<Step> {
    let facts = request.facts;
    let mut steps = vec![
        Step::File { path: CA_BUNDLE.into(), mode: 0o444, contents: Contents::CaBundle },
        Step::File { path: CA_CERTIFICATE.into(), mode: 0o444, contents: Contents::CaCertificate },
        Step::File { path: CA_KEY_STORE.into(), mode: 0o444, contents: Contents::CaKeyStore },
    ];
    steps.extend(facts.ca_bundles().into_iter().map(|path| Step::Cover { path, contents: Contents::CaBundle }));
    steps.extend(facts.key_stores().into_iter().map(|path| Step::Cover { path, contents: Contents::CaKeyStore }));
    for (path, text) in [
        ("/etc/passwd", accounts::users(facts, identity)),
        ("/etc/group", accounts::groups(facts, identity)),
        ("/etc/resolv.conf", format!("nameserver {}\noptions timeout:2 attempts:2\n", GATEWAY_V4)),
        ("/etc/hosts", "127.0.0.1 localhost omni\n::1 localhost ip6-localhost\n".to_owned()),
    ] {
        steps.extend(replace(facts, Path::new(path), text));
    }
    steps.extend(seeds(request));
    for (path, directory) in hidden_inside(request, shown) {
        let seeded = request.launch.seeds.iter().any(|seed| expand_home(&seed.path, &facts.home) == path);
        if !seeded {
            steps.push(hide(path, directory));
        }
    }
    let taken: BTreeSet<PathBuf> = steps.iter().filter_map(covered).cloned().collect();
    for secret in request.secret_files {
        let inside = shown_at(&secret.path, shown).filter(|path| !taken.contains(path));
        steps.extend(inside.map(|path| match secret.tracked {
            true if !secret.directory => Step::Cover { path, contents: Contents::Unreadable },
            _ => hide(path, secret.directory),
        }));
    }
    steps
}

/// The path that a step stands in front of.
fn covered(step: &Step) -> Option<&PathBuf> {
    match step {
        Step::Private { path, .. } | Step::Cover { path, .. } | Step::File { path, .. } => Some(path),
        _ => None,
    }
}

/// Where inside a place of the host is to be seen: once for each mount that shows it and is not itself covered there.
fn shown_at<'a>(real: &'a Path, shown: &'a [Step]) -> impl Iterator<Item = PathBuf> + 'a {
    let mounts = shown.iter().filter_map(Step::shown);
    mounts.filter_map(move |mount| {
        let rest = real.strip_prefix(&mount.source).ok()?;
        let target = if rest.as_os_str().is_empty() { return None } else { mount.target.join(rest) };
        let above = shown.iter().filter_map(Step::shown).filter(|other| target.starts_with(&other.target));
        let deepest = above.max_by_key(|other| other.target.components().count())?;
        real.starts_with(&deepest.source).then_some(target)
    })
}

/// An empty file in front of a file, an empty directory in front of a directory.
fn hide(path: PathBuf, directory: bool) -> Step {
    if directory {
        return Step::Private { path, mode: 0o555, bytes: EMPTY_BYTES_MAX };
    }
    Step::Cover { path, contents: Contents::Text(String::new()) }
}

/// A file of `/etc` in the sandbox's own version: in front of the host's, or where a link of the host's points.
fn replace(facts: &HostFacts, path: &Path, text: String) -> Option<Step> {
    let place = facts.paths.get(path)?;
    let contents = Contents::Text(text);
    if place.real.starts_with("/run") {
        return Some(Step::File { path: place.real.clone(), mode: 0o644, contents });
    }
    Some(Step::Cover { path: place.real.clone(), contents })
}

/// Credential files that must not be seen although a directory around them is.
pub(super) fn hidden(request: &PlanRequest<'_>) -> BTreeSet<PathBuf> {
    let written = request.profile.filesystem.hide.iter().chain(&request.launch.hide);
    let written = written.map(|path| expand_home(path, &request.facts.home));
    let sockets = HOME_SOCKETS.map(|path| expand_home(path, &request.facts.home));
    written.chain(sockets).chain(SYSTEM_SOCKETS.map(PathBuf::from)).collect()
}

/// Where inside the hidden places are, by whichever grant shows them, and whether they are directories. A link among
/// them is hidden itself, and what it leads to.
fn hidden_inside(request: &PlanRequest<'_>, shown: &[Step]) -> BTreeMap<PathBuf, bool> {
    let facts = request.facts;
    let deepest = |path: &Path| {
        let above = shown.iter().filter_map(Step::shown).filter(|mount| path.starts_with(&mount.target));
        above.max_by_key(|mount| mount.target.components().count())
    };
    let mut inside = BTreeMap::new();
    for (path, place) in hidden(request).iter().filter_map(|path| Some((path, facts.paths.get(path)?))) {
        for mount in shown.iter().filter_map(Step::shown) {
            let Ok(rest) = place.real.strip_prefix(&mount.source) else { continue };
            let target = if rest.as_os_str().is_empty() { mount.target.clone() } else { mount.target.join(rest) };
            if deepest(&target).is_some_and(|deepest| place.real.starts_with(&deepest.source)) {
                inside.insert(target, place.directory);
            }
        }
        if place.link.is_some() && place.followed.len() == 1 && deepest(path).is_some() {
            inside.insert(path.clone(), false);
        }
    }
    inside
}

/// Seeds land in the sandbox's own home. In a directory of the user's, the user's own files count: there a seed only
/// stands in front of a file that is to be hidden.
fn seeds(request: &PlanRequest<'_>) -> Vec<Step> {
    let home = &request.facts.home;
    let hidden = hidden(request);
    let step = |seed: &Seed| {
        let path = expand_home(&seed.path, home);
        let contents = Contents::Text(seed.contents.clone());
        if !granted(request, &path) {
            return Some(Step::File { path, mode: seed.mode, contents });
        }
        let replaces = visible(request, &path) && hidden.contains(&path);
        replaces.then_some(Step::Cover { path, contents })
    };
    request.launch.seeds.iter().filter_map(step).collect()
}

/// Whether a path lies in something of the user's that the harness sees.
fn granted(request: &PlanRequest<'_>, path: &Path) -> bool {
    let facts = request.facts;
    let filesystem = &request.profile.filesystem;
    let profile = filesystem.read.iter().chain(&filesystem.write).map(|grant| expand_home(grant, &facts.home));
    let present = profile.filter(|grant| facts.paths.contains_key(grant));
    let mounted = request.mounts.iter().map(|mount| mount.target.clone());
    let mut roots =
        present.chain(mounted).chain(request.program_trees.iter().cloned()).chain([request.workspace.to_owned()]);
    roots.any(|root| path.starts_with(root))
}

fn visible(request: &PlanRequest<'_>, path: &Path) -> bool {
    request.facts.paths.contains_key(path) && granted(request, path)
}
