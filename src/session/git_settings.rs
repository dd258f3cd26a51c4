//! Where git's settings say that it finds more to run: directories of hooks, and further settings.
//!
//! Read as data, with bounds: git itself is never run, since its settings are what may be hostile. What cannot be read says
//! nothing, as it does to git.

use crate::policy::without_dots;
use std::io::Read;
use std::path::Path;

/// Longest file of settings that is read; what follows counts for nothing here.
const SETTINGS_BYTES_MAX: u64 = 256 * 1024;
/// Most places that are taken from settings.
const PLACES_MAX: usize = 32;
/// What git runs by itself (githooks(5)), where the hooks lie in the workspace itself.
const HOOKS: [&str; 20] = [
    "applypatch-msg",
    "pre-applypatch",
    "post-applypatch",
    "pre-commit",
    "pre-merge-commit",
    "prepare-commit-msg",
    "commit-msg",
    "post-commit",
    "pre-rebase",
    "post-checkout",
    "post-merge",
    "pre-push",
    "pre-receive",
    "update",
    "post-receive",
    "reference-transaction",
    "push-to-checkout",
    "pre-auto-gc",
    "post-rewrite",
    "fsmonitor-watchman",
];

/// The names in the workspace that git's settings have it run or read, as patterns that begin there. `repository` is the
/// git directory that is in use where it does not lie in the workspace.
pub(super) fn named_places(workspace: &Path, repository: Option<&Path>, home: &Path) -> Vec<String> {
    let own = repository.map_or_else(|| workspace.join(".git"), Path::to_owned);
    let files =
        [own.join("config"), own.join("config.worktree"), home.join(".gitconfig"), home.join(".config/git/config")];
    let mut patterns = Vec::new();
    for file in files {
        let Some(text) = read(&file) else { continue };
        let beside = file.parent().unwrap_or(workspace);
        for (what, written) in paths(&text) {
            let base = if what == What::Hooks { workspace } else { beside };
            let place = match written.strip_prefix("~/") {
                Some(rest) => home.join(rest),
                None => base.join(&written),
            };
            // Where it leads counts as well as what it is called; no file is opened for that.
            for place in [Some(without_dots(&place)), place.canonicalize().ok()].into_iter().flatten() {
                patterns
                    .extend(place.strip_prefix(workspace).ok().into_iter().flat_map(|inner| protected(what, inner)));
            }
            if patterns.len() >= PLACES_MAX {
                return patterns;
            }
        }
    }
    patterns.sort();
    patterns.dedup();
    patterns
}

/// What a setting names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// A directory of hooks.
    Hooks,
    /// A file of settings.
    Settings,
}

fn protected(what: What, inner: &Path) -> Vec<String> {
    let Some(inner) = inner.to_str() else { return Vec::new() };
    match (what, inner) {
        (What::Hooks, "") => HOOKS.iter().map(|hook| format!("/{hook}")).collect(),
        (What::Settings, "") => Vec::new(),
        (_, inner) => vec![format!("/{inner}")],
    }
}

/// The values of `core.hooksPath`, `include.path` and `includeIf.*.path` in a text of settings (git-config(1), "Syntax").
/// Sections and keys fold case. A condition is taken as met.
fn paths(text: &str) -> Vec<(What, String)> {
    let mut found = Vec::new();
    let mut section = String::new();
    let joined = text.replace("\\\n", "");
    for line in joined.lines() {
        let mut line = line.trim();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((head, after)) = rest.split_once(']') else { continue };
            section = head.split([' ', '\t', '.', '"']).next().unwrap_or_default().to_ascii_lowercase();
            line = after.trim();
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let what = match (section.as_str(), key.trim().to_ascii_lowercase().as_str()) {
            ("core", "hookspath") => What::Hooks,
            ("include" | "includeif", "path") => What::Settings,
            _ => continue,
        };
        found.push((what, value_of(value)));
    }
    found
}

/// A value without its quotes, escapes and comment.
fn value_of(written: &str) -> String {
    let (mut value, mut quoted) = (String::new(), false);
    let mut characters = written.trim().chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            '\\' => value.extend(characters.next()),
            '#' | ';' if !quoted => break,
            other => value.push(other),
        }
    }
    value.trim_end().to_owned()
}

/// A regular file's beginning; a link, a pipe and the like are not opened.
fn read(path: &Path) -> Option<String> {
    if !path.symlink_metadata().ok()?.is_file() {
        return None;
    }
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(SETTINGS_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_git_reads_them() {
        let text = "[CORE]\n\tHooksPath = \"my hooks\" ; mine\n[include] path = a\\\nb # c\n[includeIf \"gitdir:/x/\"]\npath=c\n[other]\npath = d\nhookspath = e\n";
        let wanted = [(What::Hooks, "my hooks"), (What::Settings, "ab"), (What::Settings, "c")];
        assert_eq!(paths(text), wanted.map(|(what, value)| (what, value.to_owned())));
    }

    #[test]
    fn what_settings_name_in_the_workspace_is_protected_by_its_name_and_where_it_leads() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let (work, home) = (place.join("work"), place.join("home"));
        std::fs::create_dir_all(work.join(".git")).unwrap();
        std::fs::create_dir_all(work.join("tools/real")).unwrap();
        std::fs::create_dir(&home).unwrap();
        std::os::unix::fs::symlink("tools/real", work.join("linked")).unwrap();
        let named = |text: &str| {
            std::fs::write(work.join(".git/config"), text).unwrap();
            named_places(&work, None, &home)
        };
        assert_eq!(
            named("[core]\nhooksPath = linked\n[include]\npath = ../settings.inc\n"),
            ["/linked", "/settings.inc", "/tools/real"]
        );
        assert_eq!(named("[core]\nhooksPath = ../../etc\n"), [""; 0]);
        assert!(named("[core]\nhooksPath = .\n").contains(&"/pre-commit".to_owned()));
        std::fs::write(home.join(".gitconfig"), "[core]\nhooksPath = scripts/hooks\n").unwrap();
        assert_eq!(named(""), ["/scripts/hooks"]);
    }
}
