//! What a session may do in git's directories although their names are protected: begin a repository, and change settings
//! that name nothing to run.

/// A deed that a name's protection would forbid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryDeed {
    /// Making a directory that was not there.
    MakeDirectory,
    /// Making a file that was not there.
    MakeFile,
    /// Removing it.
    Remove,
    /// Giving it these permissions.
    Mode(u32),
}

/// Whose a git directory and what lies in it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WhoseRepository {
    /// The session made the directory.
    pub own: bool,
    /// The session made this very file.
    pub own_file: bool,
}

/// Permissions that let others write, or run with another's rights.
const MODES_NEVER: u32 = 0o7022;

impl RepositoryDeed {
    /// Whether the deed is let happen to a path, by its names below the git directory that it lies in.
    ///
    /// `hooks` and `branches` are made for a new repository, and its hooks that are samples, which git never runs. The
    /// lock of the settings is made in every repository: what becomes of it is judged when it is to take their place.
    #[must_use]
    pub fn is_let(self, below: &[String], whose: WhoseRepository) -> bool {
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        let harmless = |mode: u32| mode & MODES_NEVER == 0;
        match (self, below.as_slice()) {
            (Self::MakeFile, ["config.lock"]) => true,
            (Self::Remove, ["config.lock"]) => whose.own || whose.own_file,
            (Self::Mode(mode), ["config.lock"]) => whose.own_file && harmless(mode),
            (Self::Remove, _) | (Self::MakeDirectory, ["hooks" | "branches"]) => whose.own,
            (Self::MakeFile, ["hooks", sample]) => whose.own && sample.ends_with(".sample"),
            (Self::Mode(mode), ["config"]) => whose.own && harmless(mode),
            (Self::Mode(mode), ["hooks", sample]) => whose.own && sample.ends_with(".sample") && harmless(mode),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::protect::JudgedPath;
    use super::*;

    const THEIRS: WhoseRepository = WhoseRepository { own: false, own_file: false };
    const LOCK: WhoseRepository = WhoseRepository { own: false, own_file: true };
    const OWN: WhoseRepository = WhoseRepository { own: true, own_file: false };

    fn is_let(deed: RepositoryDeed, path: &str, whose: WhoseRepository) -> bool {
        let path = JudgedPath::new(path.as_bytes(), 1, Some(1));
        path.below_git().is_some_and(|(_, below)| deed.is_let(below, whose))
    }

    #[test]
    fn of_the_hosts_repositories_the_lock_alone() {
        use RepositoryDeed::{MakeDirectory, MakeFile, Mode, Remove};
        for deed in [MakeDirectory, MakeFile, Remove, Mode(0o644)] {
            for path in
                ["/w/.git", "/w/.git/hooks", "/w/.git/hooks/a.sample", "/w/.git/config", "/w/.git/info/attributes"]
            {
                assert!(!is_let(deed, path, THEIRS) && !is_let(deed, path, LOCK), "{deed:?} {path}");
            }
        }
        assert!(is_let(MakeFile, "/w/a/.git/config.lock", THEIRS));
        assert!(!is_let(MakeFile, "/w/a/.git/modules/b/config.lock", THEIRS));
        assert!(!is_let(Remove, "/w/.git/config.lock", THEIRS) && is_let(Remove, "/w/.git/config.lock", LOCK));
        assert!(
            !is_let(Mode(0o644), "/w/.git/config.lock", THEIRS) && is_let(Mode(0o644), "/w/.git/config.lock", LOCK)
        );
        assert!(!is_let(Mode(0o666), "/w/.git/config.lock", LOCK));
    }

    #[test]
    fn of_its_own_what_git_makes_and_nothing_that_runs() {
        use RepositoryDeed::{MakeDirectory, MakeFile, Mode, Remove};
        for path in ["/w/a/.git", "/w/a/.git/config", "/w/a/.git/hooks/x", "/w/a/.git/head"] {
            assert!(is_let(Remove, path, OWN), "{path}");
        }
        assert!(is_let(MakeDirectory, "/w/.git/hooks", OWN) && !is_let(MakeFile, "/w/.git/hooks", OWN));
        assert!(is_let(MakeFile, "/w/.git/hooks/update.sample", OWN) && !is_let(MakeFile, "/w/.git/hooks/update", OWN));
        assert!(!is_let(MakeDirectory, "/w/.git/hooks/update.sample", OWN));
        assert!(!is_let(MakeFile, "/w/.git/config", OWN) && !is_let(MakeDirectory, "/w/.git/config", OWN));
        assert!(is_let(Mode(0o755), "/w/.git/config", OWN) && !is_let(Mode(0o4644), "/w/.git/config", OWN));
        assert!(!is_let(MakeDirectory, "/w/.git/modules/x/hooks", OWN) && !is_let(MakeFile, "/w/.git/commondir", OWN));
    }
}
