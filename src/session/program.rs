//! Finding the harness's program on the host, and what of the host it needs to run inside.

use super::caller::Caller;
use crate::harness;
use crate::policy::{Profile, nearest};
use crate::supervisor::SYSTEM_PATHS;
use rustix::fs::{AtFlags, CWD};
use std::path::{Path, PathBuf};

/// Where programs are looked for when PATH says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file by which a virtual environment of Python is known (PEP 405).
const VIRTUAL_ENVIRONMENT: &str = "pyvenv.cfg";

/// A program as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// As found, possibly a symbolic link: what the program sees as its own name.
    pub path: PathBuf,
    /// With every link followed: what is executed.
    pub real: PathBuf,
    /// What the sandbox must show of the host besides the system's directories.
    pub trees: Vec<PathBuf>,
}

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Nowhere on the search path.
    #[error("`{name}` was not found on PATH: {hint}")]
    NotFound {
        /// What was looked for.
        name: String,
        /// How to get it.
        hint: String,
    },
    /// Not where the path says.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// There, but not a program.
    #[error("{0} cannot be executed: it is a directory, or lacks the permission (`chmod +x`)")]
    NotExecutable(PathBuf),
}

/// Finds `name`: a path if it has a slash, else a program on the search path. There the first that lies where the sandbox
/// shows what is around it, in `shown` or among the system's, goes before the first of all: the stand-ins that version
/// managers put in front (pyenv, asdf, rustup) are nothing without their trees.
pub(super) fn find(
    name: &str,
    profile: &Profile,
    search: &str,
    directory: &Path,
    shown: &[PathBuf],
) -> Result<Program, ProgramError> {
    if name.contains('/') {
        let path = directory.join(name);
        let real = path.canonicalize().map_err(|_| ProgramError::Missing(path.clone()))?;
        return match is_executable(&real) {
            true => Ok(Program { trees: trees(&path, &real, shown), path, real }),
            false => Err(ProgramError::NotExecutable(real)),
        };
    }
    let not_found = || ProgramError::NotFound { name: name.to_owned(), hint: hint(name, profile) };
    // A directory joined with no name is the directory, which is not what was looked for.
    let names = harness::program_candidates(profile, name).into_iter().filter(|name| !name.is_empty());
    let mut unusable = None;
    for candidate in names {
        let (programs, others): (Vec<Program>, Vec<Program>) =
            on_path(&candidate, search, shown).partition(|program| is_executable(&program.real));
        let whole = programs.iter().position(|program| has_its_tree(program, shown));
        if let Some(program) = programs.into_iter().nth(whole.unwrap_or(0)) {
            return Ok(program);
        }
        unusable = unusable.or_else(|| others.into_iter().next());
    }
    Err(unusable.map_or_else(not_found, |program| ProgramError::NotExecutable(program.real)))
}

/// What has this name on the search path, whether it can be executed or not.
fn on_path(name: &str, search: &str, shown: &[PathBuf]) -> impl Iterator<Item = Program> {
    let places = std::env::split_paths(search).map(move |place| place.join(name)).filter(|path| path.is_absolute());
    places.filter_map(|path| {
        path.canonicalize().ok().map(|real| Program { trees: trees(&path, &real, shown), path, real })
    })
}

/// Whether the sandbox shows what lies around a program: it is the system's, in a place shown anyway, or in a package
/// that is shown as a whole for its sake.
fn has_its_tree(program: &Program, shown: &[PathBuf]) -> bool {
    let Program { real, trees, .. } = program;
    is_shown(real, shown) || trees.iter().any(|tree| tree != real)
}

/// Whether a place is among the system's, or among those that this sandbox shows besides.
fn is_shown(place: &Path, shown: &[PathBuf]) -> bool {
    SYSTEM_PATHS.iter().any(|system| place.starts_with(system)) || shown.iter().any(|tree| place.starts_with(tree))
}

/// The search path: the caller's, or the customary one.
pub(super) fn search_path(caller: &Caller) -> String {
    caller.variable("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned())
}

fn hint(name: &str, profile: &Profile) -> String {
    let install = harness::install_hint(harness::program_meant(profile, name));
    let known = harness::shipped().iter().map(|(known, _)| *known);
    match nearest(name, known) {
        Some(meant) if meant != name && meant != profile.name => format!("did you mean `{meant}`? Else {install}"),
        _ => install.to_owned(),
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::accessat(CWD, path, rustix::fs::Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// What to show for a program besides what is shown anyway: what its file needs, and the virtual environment of Python
/// that it was found in, whose interpreter is a link to one elsewhere.
fn trees(path: &Path, real: &Path, shown: &[PathBuf]) -> Vec<PathBuf> {
    let own = (!is_shown(real, shown)).then(|| PathBuf::from(harness::program_needs(&real.display().to_string())));
    let around = path.parent().and_then(Path::parent).filter(|place| place.join(VIRTUAL_ENVIRONMENT).is_file());
    let around = around.filter(|place| !is_shown(place, shown)).and_then(|place| place.canonicalize().ok());
    own.into_iter().chain(around).collect()
}

/// The search path inside: what the caller has, as far as the sandbox shows it, then the customary places.
pub(super) fn inner_path(search: &str, shown: &[PathBuf]) -> String {
    let mut places: Vec<PathBuf> = Vec::new();
    for place in std::env::split_paths(search).chain(std::env::split_paths(DEFAULT_PATH)) {
        if place.is_absolute() && is_shown(&place, shown) && !places.contains(&place) {
            places.push(place);
        }
    }
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Directories of programs, outside of the system's.
    struct Disk(tempfile::TempDir);

    impl Disk {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(path)
        }

        fn with(self, path: &str, mode: u32) -> Self {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            self
        }

        fn find(&self, name: &str, search: &[&str], shown: &[&str]) -> Result<PathBuf, ProgramError> {
            let profile = Profile::parse("x", "name: x").unwrap();
            let search: Vec<String> = search.iter().map(|place| self.path(place).display().to_string()).collect();
            let shown: Vec<PathBuf> = shown.iter().map(|place| self.path(place)).collect();
            find(name, &profile, &search.join(":"), &self.path(""), &shown).map(|program| program.path)
        }
    }

    #[test]
    fn a_stand_in_whose_tree_is_not_shown_comes_after_the_system() {
        let disk = Disk::new().with("shims/sh", 0o755).with("shims/only-here", 0o755);
        assert_eq!(disk.find("sh", &["shims", "/usr/bin"], &[]).unwrap(), Path::new("/usr/bin/sh"));
        assert_eq!(disk.find("sh", &["shims", "/usr/bin"], &["shims"]).unwrap(), disk.path("shims/sh"));
        assert_eq!(disk.find("only-here", &["shims", "/usr/bin"], &[]).unwrap(), disk.path("shims/only-here"));
        let written = disk.path("shims/sh").display().to_string();
        assert_eq!(disk.find(&written, &["/usr/bin"], &[]).unwrap(), disk.path("shims/sh"));
    }

    #[test]
    fn a_package_is_shown_whole_and_so_comes_in_its_turn() {
        let disk = Disk::new().with("a/node_modules/.bin/sh", 0o755);
        let found = disk.find("sh", &["a/node_modules/.bin", "/usr/bin"], &[]).unwrap();
        assert_eq!(found, disk.path("a/node_modules/.bin/sh"));
    }

    #[test]
    fn a_virtual_environment_comes_with_its_interpreter() {
        let disk = Disk::new().with("venv/pyvenv.cfg", 0o644).with("venv/bin/data", 0o644);
        std::os::unix::fs::symlink("/usr/bin/env", disk.path("venv/bin/python3")).unwrap();
        let profile = Profile::parse("x", "name: x").unwrap();
        let search = disk.path("venv/bin").display().to_string();
        let found = find("python3", &profile, &search, &disk.path(""), &[]).unwrap();
        assert_eq!(found.trees, [disk.path("venv")]);
        assert_eq!(inner_path(&search, &found.trees).split(':').next().unwrap(), search);
    }

    #[test]
    fn says_whether_it_is_missing_or_no_program() {
        let disk = Disk::new().with("bin/data", 0o644);
        for (name, missing) in [("nowhere", true), ("", true), ("data", false)] {
            match disk.find(name, &["bin"], &[]) {
                Err(ProgramError::NotFound { .. }) => assert!(missing, "{name}"),
                Err(ProgramError::NotExecutable(_)) => assert!(!missing, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(matches!(disk.find("./nowhere", &[], &[]), Err(ProgramError::Missing(_))));
    }
}
