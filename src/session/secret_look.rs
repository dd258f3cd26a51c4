//! Looks for files of the workspace that look like secrets: breadth first, so many names at a time, following no link.

use super::tracked::tracked;
use crate::policy::{SecretNames, fold, is_unseen};
use crate::supervisor::SecretFile;
use std::collections::{BTreeSet, VecDeque};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Most names that are looked at before the start: what a project's first levels hold. They take a millisecond.
pub(super) const NAMES_AT_START_MAX: usize = 1024;
/// Most files that are hidden in one session, each of which takes a mount.
pub(super) const FOUND_MAX: usize = 512;
/// Most files and directories that are told to be shown, and are watched.
pub(super) const SHOWN_MAX: usize = 1024;
/// Largest index of git's that is read.
const INDEX_BYTES_MAX: u64 = 64 << 20;
/// Most directories that wait to be looked into.
pub(super) const AHEAD_MAX: usize = 1 << 20;
/// Most hidden files that the record names.
pub(super) const HIDDEN_TOLD_MAX: usize = 32;

/// What a look before the start came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// What was found, and is hidden.
    pub files: Vec<SecretFile>,
    /// Whether there is more than was looked at, which is visible until it is looked at while the harness runs.
    pub incomplete: bool,
}

/// What else a look came to: what looks like a secret and is shown, each with whether it is a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub shown: Vec<(PathBuf, bool)>,
    /// Whether there is more than was looked at.
    pub incomplete: bool,
}

impl Hidden {
    /// How many there are, and the first of them relative to the workspace, for the record.
    pub(super) fn told(&self, workspace: &Path) -> (u64, Vec<String>) {
        let relative =
            |file: &SecretFile| file.path.strip_prefix(workspace).unwrap_or(&file.path).display().to_string();
        (self.files.len() as u64, self.files.iter().take(HIDDEN_TOLD_MAX).map(relative).collect())
    }
}

/// A look that can be gone on with.
#[derive(Debug)]
pub(super) struct Look<'a> {
    names: &'a SecretNames,
    /// Whether what looks like a secret is hidden there, but for what the profile excepts.
    hides: bool,
    ahead: VecDeque<Ahead>,
    /// What was found.
    pub found: Vec<SecretFile>,
    /// What looks like a secret and is shown, each with whether it is a directory.
    shown: Vec<(PathBuf, bool)>,
    /// Whether there is more of that.
    more_shown: bool,
    /// Whether something was left out, by one of the bounds or since it could not be read.
    pub incomplete: bool,
}

impl<'a> Look<'a> {
    pub(super) fn begin(names: &'a SecretNames, workspace: &Path) -> Self {
        let ahead = VecDeque::from([Ahead { directory: workspace.to_owned(), names: Vec::new(), secret: false }]);
        Self { names, hides: true, ahead, found: Vec::new(), shown: Vec::new(), more_shown: false, incomplete: false }
    }

    /// A look at what is given to the sandbox by these names, where nothing is hidden by its own. `secret` says whether all of
    /// it counts as a secret.
    pub(super) fn of_given(names: &'a SecretNames, place: &Path, called: Vec<String>, secret: bool) -> Self {
        let ahead = VecDeque::from([Ahead { directory: place.to_owned(), names: called, secret }]);
        Self { hides: false, ahead, ..Self::begin(names, place) }
    }

    /// Goes on for so many names, to the end of the directory that the last of them is in.
    pub(super) fn go_on(&mut self, names_max: usize) {
        let mut seen = 0;
        while seen < names_max
            && let Some(Ahead { directory, names: mut above, secret }) = self.ahead.pop_front()
        {
            // What omni may not read, its harness may not either.
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                seen += 1;
                // One directory of a million names must not hold the start up.
                if seen > 2 * names_max {
                    self.incomplete = true;
                    break;
                }
                self.consider(&entry, &mut above, secret);
            }
        }
        self.incomplete |= !self.ahead.is_empty();
    }

    /// What it came to beside what is hidden.
    pub(super) fn seen(self) -> Seen {
        Seen { shown: self.shown, incomplete: self.incomplete || self.more_shown }
    }

    fn show(&mut self, path: PathBuf, directory: bool) {
        if self.shown.len() < SHOWN_MAX {
            self.shown.push((path, directory));
        } else {
            self.more_shown = true;
        }
    }

    /// `path` is the directory's, and so again afterwards.
    fn consider(&mut self, entry: &std::fs::DirEntry, path: &mut Vec<String>, within: bool) {
        let Ok(kind) = entry.file_type() else { return };
        let name = entry.file_name();
        path.push(fold(name.as_bytes()));
        let secret = within || self.names.looks_secret(path, kind.is_dir());
        if self.hides && self.names.hides(path, kind.is_dir()) {
            if self.found.len() < FOUND_MAX {
                self.found.push(SecretFile { path: entry.path(), directory: kind.is_dir(), tracked: false });
            } else {
                self.incomplete = true;
            }
            path.pop();
            return;
        }
        if secret {
            self.show(entry.path(), kind.is_dir());
        }
        if kind.is_dir() && (secret || !is_unseen(name.as_bytes())) {
            if self.ahead.len() < AHEAD_MAX {
                self.ahead.push_back(Ahead { directory: entry.path(), names: path.clone(), secret });
            } else {
                self.incomplete = true;
            }
        }
        path.pop();
    }
}

/// A directory to look into.
#[derive(Debug)]
struct Ahead {
    directory: PathBuf,
    /// Its path, as names are compared.
    names: Vec<String>,
    /// Whether it is a secret as a whole.
    secret: bool,
}

/// Looks before the start, at so many names. What git keeps is told from what it does not, where there is something to tell.
pub(super) fn look(names: &SecretNames, workspace: &Path, names_max: usize) -> (Hidden, Seen) {
    let mut look = Look::begin(names, workspace);
    look.go_on(names_max);
    let (mut found, incomplete) = (std::mem::take(&mut look.found), look.incomplete);
    let seen = look.seen();
    if !found.is_empty() {
        let relative = |file: &SecretFile| {
            file.path.strip_prefix(workspace).map(|path| path.as_os_str().as_bytes().to_vec()).unwrap_or_default()
        };
        let paths: BTreeSet<_> = found.iter().filter(|file| !file.directory).map(relative).collect();
        let tracked = kept_by_git(workspace, &paths);
        for file in &mut found {
            file.tracked = tracked.contains(&relative(file));
        }
    }
    (Hidden { files: found, incomplete }, seen)
}

/// Those of the paths that git keeps; all where its index cannot be understood.
fn kept_by_git(workspace: &Path, paths: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
    let index = workspace.join(".git/index");
    match std::fs::metadata(&index) {
        Ok(metadata) if metadata.len() <= INDEX_BYTES_MAX && metadata.is_file() => {}
        Ok(_) => return paths.clone(),
        // A workspace that is no repository's top: what is above it is not looked at.
        Err(_) => return BTreeSet::new(),
    }
    let index = std::fs::read(index).unwrap_or_default();
    tracked(&index, paths).unwrap_or_else(|| paths.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::SecretFiles;

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for path in paths {
            let path = place.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        place
    }

    fn look(place: &Path, names_max: usize) -> (Vec<String>, bool) {
        let names = SecretNames::compile(&SecretFiles::default()).unwrap();
        let mut look = Look::begin(&names, place);
        look.go_on(names_max);
        let relative = |file: &SecretFile| file.path.strip_prefix(place).unwrap().display().to_string();
        let mut found: Vec<_> = look.found.iter().map(relative).collect();
        found.sort();
        (found, look.incomplete)
    }

    #[test]
    fn finds_what_is_hidden_and_follows_no_link() {
        let place = tree(&[".env", "a/b/c/.env", ".aws/credentials", "node_modules/x/.env", "src/main.rs"]);
        let other = tree(&["id_rsa"]);
        std::os::unix::fs::symlink(other.path(), place.path().join("link")).unwrap();
        let found = [".aws", ".env", "a/b/c/.env"].map(str::to_owned).to_vec();
        assert_eq!(look(place.path(), 1000), (found, false));
    }

    #[test]
    fn stops_where_it_is_told_and_says_so() {
        let paths: Vec<String> = (0..50).map(|number| format!("d{number}/e/f/.env")).collect();
        let place = tree(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let (found, incomplete) = look(place.path(), 60);
        assert!(found.is_empty() && incomplete);
        assert_eq!(look(place.path(), 1000).0.len(), 50);
    }
}
