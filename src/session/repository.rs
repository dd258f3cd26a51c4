//! The repository that a workspace belongs to without holding it: that of a linked worktree or of a submodule
//! (gitrepository-layout(5)).
//!
//! A `.git` file may have come with what was cloned or unpacked, and say what it likes. So the repository must name the
//! workspace as well, which only whoever may write there can have it do.

use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest file of git's that is read here.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The git directory outside of the workspace that git needs in it; none where there is no such, or it does not know the
/// workspace.
pub(super) fn outside(workspace: &Path) -> Option<PathBuf> {
    let link = workspace.join(".git");
    let named = read(&link)?;
    let own = resolve(workspace, named.trim().strip_prefix("gitdir:")?.trim())?;
    if own.starts_with(workspace) {
        return None;
    }
    match read(&own.join("gitdir")) {
        Some(back) => {
            // A linked worktree's directory lies in the one that all worktrees share.
            let common = resolve(&own, read(&own.join("commondir"))?.trim())?;
            let knows = resolve(&own, back.trim())? == link.canonicalize().ok()?;
            (knows && own.starts_with(common.join("worktrees")) && is_git_directory(&common)).then_some(common)
        }
        None => (is_git_directory(&own) && worktree(&own)? == workspace).then_some(own),
    }
    .filter(|found| !workspace.starts_with(found))
}

/// Where a submodule's own settings say that its files lie.
fn worktree(own: &Path) -> Option<PathBuf> {
    let settings = read(&own.join("config"))?;
    let mut values = settings.lines().filter_map(|line| line.trim().strip_prefix("worktree")?.trim().strip_prefix('='));
    resolve(own, values.next_back()?.trim())
}

fn is_git_directory(place: &Path) -> bool {
    place.join("HEAD").is_file() && place.join("objects").is_dir() && place.join("refs").is_dir()
}

fn resolve(base: &Path, path: &str) -> Option<PathBuf> {
    base.join(path).canonicalize().ok()
}

/// A small file, and no link to one.
fn read(path: &Path) -> Option<String> {
    let metadata = path.symlink_metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::process::Command;

    fn git(place: &Path, words: &[&str]) {
        let settings = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"];
        let done = Command::new("git").current_dir(place).args(settings).args(words).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    #[test]
    fn a_worktree_and_a_submodule_have_theirs_outside_if_it_knows_them() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let main = place.join("main");
        std::fs::create_dir(&main).unwrap();
        git(&main, &["init", "-q"]);
        git(&main, &["commit", "-q", "--allow-empty", "-m", "x"]);
        git(&main, &["worktree", "add", "-q", "../linked"]);
        git(&main, &["submodule", "--quiet", "add", &main.display().to_string(), "sub"]);
        assert_eq!(outside(&main), None, "its own is inside");
        assert_eq!(outside(&place.join("linked")), Some(main.join(".git")));
        assert_eq!(outside(&main.join("sub")), Some(main.join(".git/modules/sub")));
        let liar = place.join("liar");
        std::fs::create_dir(&liar).unwrap();
        for target in ["worktrees/linked", "modules/sub", ""] {
            std::fs::write(liar.join(".git"), format!("gitdir: {}/.git/{target}\n", main.display())).unwrap();
            assert_eq!(outside(&liar), None, "{target}");
        }
    }
}
