//! Files that look like secrets and are shown to the harness all the same: which they are, and the kernel's word when one is
//! opened. The watch is set on what the sandbox shows, before the go; the proxy reads what it says (`proxy/secret_reads`).

use super::prepare::SessionRequest;
use super::secret_look::{Look, SHOWN_MAX, Seen};
use crate::policy::{Policy, SecretNames, WorkspaceMode, expand_home, fold};
use crate::proxy::{SecretFiles, Watched};
use crate::supervisor::{Plan, WayIn};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Most names that are looked at where a policy wants to know.
pub(super) const NAMES_WANTED_MAX: usize = 16 << 20;
/// What stands for a watch that could not be set.
const NO_WATCH: i32 = -1;

/// What is shown, by its paths in the sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShownSecrets {
    /// Whether a policy wants to know when one is read.
    wanted: bool,
    /// Whether nothing is left out.
    complete: bool,
    files: Vec<PathBuf>,
    /// Directories in which every file counts.
    directories: Vec<PathBuf>,
    /// Where the kernel shows files that are not those below, if it does.
    overlaid: Option<PathBuf>,
}

/// The names that matter in a directory; all where there are none.
type Names = Option<BTreeSet<Vec<u8>>>;

/// The numbers of the watches, in the order of what is shown.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Numbers {
    directories: Vec<i32>,
    files: Vec<i32>,
    complete: bool,
}

impl ShownSecrets {
    /// What the workspace's look found, and what else is given.
    pub(super) fn find(
        request: &SessionRequest,
        names: &SecretNames,
        seen: Seen,
        places: (&Path, &Path),
        plan: &Plan,
        policy: &Policy,
    ) -> Self {
        let covered = plan.covers().map(|(_, path)| path.to_owned()).collect();
        Self::of(request, names, seen, places, &covered, policy.asks_about_secret_files())
    }

    fn of(
        request: &SessionRequest,
        names: &SecretNames,
        seen: Seen,
        (home, workspace): (&Path, &Path),
        covered: &BTreeSet<PathBuf>,
        wanted: bool,
    ) -> Self {
        let overlay = request.profile.filesystem.workspace == WorkspaceMode::Overlay && !request.read_only;
        let mut shown = Self {
            wanted,
            complete: wanted && !seen.incomplete,
            overlaid: overlay.then(|| workspace.to_owned()),
            ..Self::default()
        };
        shown.take(seen.shown, Path::new(""), Path::new(""), covered);
        let filesystem = &request.profile.filesystem;
        let own = filesystem.read.iter().chain(&filesystem.write).map(|path| expand_home(path, home));
        let mounts = request.mounts.iter().map(|mount| (mount.source.clone(), mount.target.clone()));
        for (source, target) in own.map(|path| (path.clone(), path)).chain(mounts) {
            shown.look_at(names, &source, &target, covered);
        }
        // In a mount namespace of its own a harness can show itself the same files as others.
        shown.complete &= !(request.profile.nested_sandboxes && shown.is_any());
        shown
    }

    /// A place that is given: a secret itself, or one that holds some.
    fn look_at(&mut self, names: &SecretNames, source: &Path, target: &Path, covered: &BTreeSet<PathBuf>) {
        let Ok(metadata) = std::fs::metadata(source) else { return };
        let path: Vec<String> = target.components().skip(1).map(|part| fold(part.as_os_str().as_bytes())).collect();
        let secret =
            (1..=path.len()).any(|end| names.looks_secret(&path[..end], end < path.len() || metadata.is_dir()));
        if !metadata.is_dir() {
            return if secret {
                self.take(vec![(source.to_owned(), false)], source, target, covered)
            };
        }
        // Where nobody asks, nothing is walked through that is not secret as a whole.
        if !secret && !self.wanted {
            return;
        }
        let mut look = Look::of_given(names, source, path, secret);
        look.go_on(NAMES_WANTED_MAX);
        let mut seen = look.seen();
        self.complete &= !seen.incomplete;
        if secret {
            seen.shown.insert(0, (source.to_owned(), true));
        }
        self.take(seen.shown, source, target, covered);
    }

    fn take(&mut self, shown: Vec<(PathBuf, bool)>, source: &Path, target: &Path, covered: &BTreeSet<PathBuf>) {
        for (path, directory) in shown {
            let inside = path.strip_prefix(source).map_or_else(|_| path.clone(), |rest| target.join(rest));
            // What is covered shows nothing.
            if inside.ancestors().any(|above| covered.contains(above)) {
                continue;
            }
            if self.files.len() + self.directories.len() >= SHOWN_MAX {
                self.complete = false;
                return;
            }
            if directory { self.directories.push(inside) } else { self.files.push(inside) }
        }
    }

    fn is_any(&self) -> bool {
        !self.files.is_empty() || !self.directories.is_empty()
    }

    /// The directories to watch: those that count as a whole, and those that a file is in, which may be replaced.
    fn watched_directories(&self) -> BTreeMap<&Path, Names> {
        let mut all: BTreeMap<&Path, Names> = BTreeMap::new();
        for file in &self.files {
            if let (Some(above), Some(name)) = (file.parent(), file.file_name()) {
                let names = all.entry(above).or_insert_with(|| Some(BTreeSet::new()));
                names.as_mut().map(|names| names.insert(name.as_bytes().to_vec()));
            }
        }
        all.extend(self.directories.iter().map(|directory| (directory.as_path(), None)));
        all
    }

    /// Watches it, of a sandbox that stands, before the go; none where nobody asks, and there is nothing or it cannot be
    /// watched: to a policy that asks later one was read, then.
    pub(super) fn watch(&self, init: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Numbers)>> {
        match (self.wanted, self.is_any()) {
            (true, _) => self.begin(init).map(Some),
            (false, true) => Ok(self.begin(init).ok()),
            (false, false) => Ok(None),
        }
    }

    fn begin(&self, init: BorrowedFd<'_>) -> io::Result<(OwnedFd, Numbers)> {
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (mut directories, mut files, mut complete) = (Vec::new(), Vec::new(), self.complete);
        let way = WayIn::open(init)?;
        for path in self.watched_directories().keys() {
            let set = way.directory(path).and_then(|place| set(&notices, &place, WatchFlags::OPEN));
            complete &= set.is_ok();
            directories.push(set.unwrap_or(NO_WATCH));
        }
        for path in &self.files {
            let (watch, known) = match way.place(path).and_then(|place| self.watch_file(&notices, &place, path)) {
                Ok((watch, alone)) => (watch, alone),
                // What cannot be opened cannot be read; what takes its place is seen in its directory.
                Err(error) => (NO_WATCH, is_out_of_reach(&error)),
            };
            complete &= known;
            files.push(watch);
        }
        Ok((notices, Numbers { directories, files, complete }))
    }

    /// The watch of a file, and whether it holds for each of its names. Behind an overlay a further name is another file to
    /// the kernel, and one that was moved may become another: there both count as reading it.
    fn watch_file(&self, notices: &OwnedFd, place: &OwnedFd, path: &Path) -> io::Result<(i32, bool)> {
        if !self.overlaid.as_ref().is_some_and(|overlaid| path.starts_with(overlaid)) {
            return Ok((set(notices, place, WatchFlags::OPEN)?, true));
        }
        let watch = set(notices, place, WatchFlags::OPEN | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF)?;
        Ok((watch, rustix::fs::fstat(place)?.st_nlink == 1))
    }

    /// What the proxy is told: what the watches of these numbers are about.
    pub(super) fn told(&self, notices: OwnedFd, numbers: &Numbers, workspace: &Path) -> SecretFiles {
        let called = |path: &Path| path.strip_prefix(workspace).unwrap_or(path).display().to_string();
        let mut watched: BTreeMap<i32, Watched> = BTreeMap::new();
        for ((path, names), number) in self.watched_directories().into_iter().zip(&numbers.directories) {
            let before = called(path);
            let before = if before.is_empty() { before } else { format!("{before}/") };
            match watched.get_mut(number) {
                // One directory by two paths.
                Some(Watched::Directory(_, Some(others))) if names.is_some() => {
                    others.extend(names.into_iter().flatten())
                }
                Some(Watched::Directory(_, others)) => *others = None,
                _ => _ = watched.insert(*number, Watched::Directory(before, names)),
            }
        }
        watched
            .extend(self.files.iter().zip(&numbers.files).map(|(path, number)| (*number, Watched::File(called(path)))));
        watched.remove(&NO_WATCH);
        SecretFiles { notices, watched, complete: numbers.complete, wanted: self.wanted }
    }
}

/// Watches a place for what is done to it.
fn set(notices: &OwnedFd, place: &OwnedFd, acts: WatchFlags) -> io::Result<i32> {
    Ok(inotify::add_watch(notices, format!("/proc/self/fd/{}", place.as_raw_fd()), acts)?)
}

fn is_out_of_reach(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::NOENT, Errno::ACCESS].iter().any(|known| number == Some(known.raw_os_error()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::{Profile, SecretFiles as Written};

    fn profile(place: &Path) -> SessionRequest {
        let mut profile = Profile::parse("test", "name: test").unwrap();
        profile.filesystem.read =
            ["keys", "notes", ".netrc"].map(|name| place.join(name).display().to_string()).to_vec();
        SessionRequest::plain(profile, vec!["true".to_owned()], place.to_owned())
    }

    fn find(place: &Path, wanted: bool) -> ShownSecrets {
        let names = SecretNames::compile(&Written::default()).unwrap();
        ShownSecrets::of(&profile(place), &names, Seen::default(), (place, place), &BTreeSet::new(), wanted)
    }

    #[test]
    fn what_is_given_and_looks_like_a_secret_is_watched_and_more_where_somebody_asks() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for name in ["keys/.ssh/a/config", "notes/x.pem", "notes/plain", ".netrc"] {
            std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            std::fs::write(path(name), "").unwrap();
        }
        let found = find(place.path(), false);
        assert_eq!((found.files, found.directories, found.complete), (vec![path(".netrc")], Vec::new(), false));
        let found = find(place.path(), true);
        let files = [path("keys/.ssh/a/config"), path("notes/x.pem"), path(".netrc")];
        assert_eq!(found.files, files);
        assert_eq!(found.directories, [path("keys/.ssh"), path("keys/.ssh/a")]);
        assert!(found.complete);
    }
}
