//! Finding the harness's program on the host, and what of the host it needs to run inside.

use crate::harness;
use crate::policy::{Profile, nearest};
use crate::supervisor::SYSTEM_PATHS;
use std::path::{Path, PathBuf};

/// Where programs are looked for when PATH says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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

/// Finds `name`: a path if it has a slash, else the first of its candidates on the search path.
pub(super) fn find(name: &str, profile: &Profile, search: &str, directory: &Path) -> Result<Program, ProgramError> {
    let names = if name.contains('/') { vec![name.to_owned()] } else { harness::program_candidates(profile, name) };
    let mut unusable = None;
    for candidate in &names {
        let places: Vec<PathBuf> = match candidate.contains('/') {
            true => vec![directory.join(candidate)],
            false => std::env::split_paths(search).map(|place| place.join(candidate)).collect(),
        };
        for path in places.into_iter().filter(|path| path.is_absolute()) {
            match path.canonicalize() {
                Ok(real) if is_executable(&real) => return Ok(Program { trees: trees(&real), path, real }),
                Ok(real) => unusable = Some(real),
                Err(_) => {}
            }
        }
    }
    match unusable {
        Some(path) => Err(ProgramError::NotExecutable(path)),
        None if name.contains('/') => Err(ProgramError::Missing(directory.join(name))),
        None => Err(ProgramError::NotFound { name: name.to_owned(), hint: hint(name, profile) }),
    }
}

/// The search path: the caller's, or the customary one.
pub(super) fn search_path() -> String {
    std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned())
}

fn hint(name: &str, profile: &Profile) -> String {
    let install = harness::install_hint(profile.harness);
    let known = harness::shipped().iter().map(|(known, _)| *known);
    match nearest(name, known) {
        Some(meant) if meant != name => format!("did you mean `{meant}`? Else {install}"),
        _ => install.to_owned(),
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// What to show for a program outside the system's directories.
fn trees(real: &Path) -> Vec<PathBuf> {
    if SYSTEM_PATHS.iter().any(|place| real.starts_with(place)) {
        return Vec::new();
    }
    vec![PathBuf::from(harness::program_needs(&real.display().to_string()))]
}

/// The search path inside: what the caller has, as far as the sandbox shows it, then the customary places.
pub(super) fn inner_path(search: &str, shown: &[PathBuf]) -> String {
    let visible = |place: &Path| {
        SYSTEM_PATHS.iter().any(|system| place.starts_with(system)) || shown.iter().any(|tree| place.starts_with(tree))
    };
    let mut places: Vec<PathBuf> = Vec::new();
    for place in std::env::split_paths(search).chain(std::env::split_paths(DEFAULT_PATH)) {
        if place.is_absolute() && visible(&place) && !places.contains(&place) {
            places.push(place);
        }
    }
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(":")
}
