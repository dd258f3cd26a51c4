//! What may be done to a name in a place of the host: a pure judgement of a path, with what is there asked of the caller.

use super::file_pattern::{FilePattern, Standing, fold};
use super::protected_names::{NAMES, Reach, Scope};
use crate::model::FileAct;
use std::collections::BTreeMap;

/// What git knows a directory of its own by (`is_git_directory` in its setup.c): a head and either objects and
/// references, or where to find those of another.
const HEAD: &str = "HEAD";
const OBJECTS: &str = "objects";
const REFERENCES: &str = "refs";
const COMMON: &str = "commondir";
/// The name of a repository's own directory.
const GIT: &str = ".git";
/// In it, the directories of its linked worktrees (git-worktree(1)), and those of its submodules, whose names may have slashes.
const WORKTREES: &str = "worktrees";
const MODULES: &str = "modules";
/// What lies in a submodule's directory, and is no part of its name.
const IN_A_MODULE: [&str; 7] = [OBJECTS, REFERENCES, "logs", "hooks", "info", "branches", WORKTREES];
/// The rule that keeps a directory from becoming a git directory, or ceasing to be one.
const GIT_DIRECTORY: &str = "git directory";
const GIT_DIRECTORY_REASON: &str = "a directory with these names is a repository, whose settings and hooks git runs";
/// The rule that keeps links out of git's directories.
const GIT_LINK: ProtectedBy<'static> =
    ProtectedBy { rule: "link in a git directory", reason: "git writes through links among its own files" };
/// Where the one link leads that git makes among its own files, and removes at once: it tries whether links can be made
/// (`create_default_files` in its setup.c). Nothing is called so.
const GIT_TRIES: &[u8] = b"testing";

/// Tells whether the directory that so many names of a path lead to has an entry of this name.
type Has<'a> = dyn FnMut(usize, &str) -> bool + 'a;

/// The protected names of a session, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    rules: Vec<Rule>,
    /// The rules that only a path with this name in it can break.
    by_name: BTreeMap<String, Vec<usize>>,
    /// Those that any path may break.
    others: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// What it is called: the pattern as a person would write it for the workspace.
    name: String,
    pattern: FilePattern,
    scope: Scope,
    reach: Reach,
    reason: String,
    /// Whether it begins at the workspace, rather than anywhere.
    workspace: bool,
}

/// A path that is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedPath {
    /// Its names from the root directory on, folded.
    names: Vec<String>,
    /// How many of them are the shared place's own: what was given by name is given.
    given: usize,
    /// How many are the workspace's, if it lies there.
    workspace: Option<usize>,
}

impl JudgedPath {
    /// An absolute path with every link followed, below a shared place that is so many names deep, and perhaps below the
    /// workspace.
    #[must_use]
    pub fn new(path: &[u8], given: usize, workspace: Option<usize>) -> Self {
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).map(fold).collect();
        Self { names, given, workspace }
    }

    /// The last `.git` in it: how many names there are up to and with it, and those below.
    #[must_use]
    pub fn below_git(&self) -> Option<(usize, &[String])> {
        let at = self.names.iter().rposition(|name| name == GIT)?;
        Some((at + 1, self.names.get(at + 1..)?))
    }

    /// The names from the one that is so many names into it.
    #[must_use]
    pub fn below(&self, depth: usize) -> &[String] {
        self.names.get(depth..).unwrap_or_default()
    }

    /// How many names there are.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.names.len()
    }

    /// Whether the name is one of those that make a directory a repository.
    #[must_use]
    pub fn may_make_a_git_directory(&self) -> bool {
        self.names.last().and_then(|name| piece(name)).is_some()
    }

    /// Whether it is the directory of a linked worktree.
    #[must_use]
    pub fn is_worktree(&self) -> bool {
        self.below_git().is_some_and(|(_, below)| matches!(below, [kind, _] if kind == WORKTREES))
    }

    /// Whether it may be the directory of a submodule.
    #[must_use]
    pub fn may_be_module(&self) -> bool {
        self.below_git().is_some_and(|(_, below)| is_module(below))
    }

    /// The outermost git directory that it lies in, by its names.
    fn git_directory_around(&self, has: &mut Has<'_>) -> Option<&[String]> {
        // What holds a shared place cannot be looked at from there.
        let mut has = |depth, name: &str| depth >= self.given && has(depth, name);
        let depth = (1..self.names.len()).find(|depth| is_git_directory(self, *depth, &mut has))?;
        self.names.get(..depth)
    }

    /// Whether a directory above the one that it lies in has an entry called `.git`, of those in the shared place.
    pub fn lies_in_repository(&self, has: &mut Has<'_>) -> bool {
        (self.given..self.names.len().saturating_sub(1)).any(|depth| has(depth, GIT))
    }
}

/// Why an act is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtectedBy<'a> {
    /// The pattern, as it stands in the list; within a git directory it begins with `.git/`, whatever that is called.
    pub rule: &'a str,
    /// Why it is there.
    pub reason: &'a str,
}

impl ProtectedBy<'_> {
    /// Whether it is since a directory would become one of git's, or cease to be one.
    #[must_use]
    pub fn is_about_a_git_directory(&self) -> bool {
        self.rule == GIT_DIRECTORY
    }
}

impl Protection {
    /// The built-in names, and those that a profile adds: patterns relative to the workspace. One with a slash in front is
    /// about a name in the workspace itself.
    ///
    /// # Errors
    /// The pattern that is none, and what to do about it.
    pub fn compile(added: &[String]) -> Result<Self, (String, &'static str)> {
        let built_in = NAMES.iter().flat_map(|names| {
            let rule = |text: &&str| ((*text).to_owned(), names.scope, names.reach, names.reason.to_owned(), false);
            names.patterns.iter().map(rule)
        });
        let by_profile = "the profile, or git's own settings, have it run or protected".to_owned();
        let added = added.iter().map(|text| (text.clone(), Scope::Anywhere, Reach::Tree, by_profile.clone(), true));
        let mut protection = Self { rules: Vec::new(), by_name: BTreeMap::new(), others: Vec::new() };
        for (text, scope, reach, reason, workspace) in built_in.chain(added) {
            let pattern = match (scope, text.strip_prefix('/')) {
                (Scope::Anywhere, None) => FilePattern::parse(&text),
                (Scope::Anywhere, Some(from_workspace)) => FilePattern::parse_anchored(from_workspace),
                (Scope::GitDirectory, _) => FilePattern::parse_anchored(&text),
            };
            let pattern = pattern.map_err(|hint| (text, hint))?;
            let index = protection.rules.len();
            match pattern.first_name() {
                Some(name) => protection.by_name.entry(name.to_owned()).or_default().push(index),
                None => protection.others.push(index),
            }
            let text = pattern.as_str();
            let name = match scope {
                Scope::GitDirectory => format!(".git/{text}"),
                Scope::Anywhere => text.strip_prefix("**/").unwrap_or(text).to_owned(),
            };
            protection.rules.push(Rule { name, pattern, scope, reach, reason, workspace });
        }
        Ok(protection)
    }

    /// Every pattern with where it applies and why, for a person.
    pub fn listed(&self) -> impl Iterator<Item = ProtectedBy<'_>> {
        self.rules.iter().map(|rule| ProtectedBy { rule: &rule.name, reason: &rule.reason })
    }

    /// Judges one act. `has` says whether the directory that is so many names into the path has an entry of this name.
    pub fn judge(&self, act: FileAct, path: &JudgedPath, has: &mut Has<'_>) -> Result<(), ProtectedBy<'_>> {
        self.judge_names(act, path, has, |_| true)?;
        if changes_a_git_directory(act, path, has) {
            return Err(ProtectedBy { rule: GIT_DIRECTORY, reason: GIT_DIRECTORY_REASON });
        }
        Ok(())
    }

    /// Judges a symbolic link that is to be made. Among git's own files there are none: git outside would write through it, in
    /// whatever file it names, what the harness had it say. `has` is as for [`Protection::judge`].
    pub fn judge_link(target: &[u8], path: &JudgedPath, has: &mut Has<'_>) -> Result<(), ProtectedBy<'static>> {
        if target == GIT_TRIES || path.git_directory_around(has).is_none() { Ok(()) } else { Err(GIT_LINK) }
    }

    /// Judges a symbolic link, or a directory that may hold such, that gets another name, or one more. A directory stays in the git
    /// directory that it is in; so it holds none that was made elsewhere.
    pub fn judge_coming(
        is_link: bool,
        (from, has_from): (&JudgedPath, &mut Has<'_>),
        (to, has_to): (&JudgedPath, &mut Has<'_>),
    ) -> Result<(), ProtectedBy<'static>> {
        let Some(around) = to.git_directory_around(has_to) else { return Ok(()) };
        let stays = !is_link && from.git_directory_around(has_from) == Some(around);
        if stays { Ok(()) } else { Err(GIT_LINK) }
    }

    /// The same as [`Protection::judge`], by all rules but those about git's directories.
    pub fn judge_beside_git(&self, act: FileAct, path: &JudgedPath) -> Result<(), ProtectedBy<'_>> {
        let is_beside = |rule: &Rule| rule.scope != Scope::GitDirectory && rule.name != GIT;
        self.judge_names(act, path, &mut |_, _| false, is_beside)
    }

    fn judge_names(
        &self,
        act: FileAct,
        path: &JudgedPath,
        has: &mut Has<'_>,
        counts: impl Fn(&Rule) -> bool,
    ) -> Result<(), ProtectedBy<'_>> {
        let mut candidates: Vec<usize> = self.others.clone();
        candidates.extend(path.names.iter().filter_map(|name| self.by_name.get(name)).flatten());
        candidates.sort_unstable();
        candidates.dedup();
        for rule in candidates.into_iter().filter_map(|index| self.rules.get(index)).filter(|rule| counts(rule)) {
            let broken = match rule.scope {
                Scope::Anywhere if rule.workspace => path.workspace.is_some_and(|start| rule.breaks(act, path, start)),
                Scope::Anywhere => rule.breaks(act, path, 0),
                Scope::GitDirectory => rule.breaks_in_git(act, path, has),
            };
            if broken {
                return Err(ProtectedBy { rule: &rule.name, reason: &rule.reason });
            }
        }
        Ok(())
    }
}

impl Rule {
    /// Whether an act on the path, read from its `start`-th name on, breaks the rule.
    fn breaks(&self, act: FileAct, path: &JudgedPath, start: usize) -> bool {
        let Some(names) = path.names.get(start..) else { return false };
        match self.pattern.standing(names) {
            Standing::Apart => false,
            Standing::Above => act.moves_what_is_below() && path.names.len() > path.given,
            Standing::Within(depth) => {
                let depth = start + depth;
                depth > path.given && (self.reach == Reach::Tree || depth == path.names.len())
            }
        }
    }

    /// The same in every git directory that the path leads through.
    fn breaks_in_git(&self, act: FileAct, path: &JudgedPath, has: &mut Has<'_>) -> bool {
        let first = self.pattern.first_name();
        let starts = (0..path.names.len()).filter(|at| path.names.get(*at).map(String::as_str) == first);
        let starts: Vec<usize> = starts.collect();
        starts.into_iter().any(|at| self.breaks(act, path, at) && is_git_directory(path, at, has))
    }
}

/// Whether the directory that is so many names into the path is one of git's: by its name, by the place that git makes such in, so
/// that it is one before it is whole, or by what it holds.
fn is_git_directory(path: &JudgedPath, depth: usize, has: &mut Has<'_>) -> bool {
    let above = path.names.get(..depth).unwrap_or_default();
    let named = above.last().is_some_and(|name| name == GIT);
    let within = above.iter().rposition(|name| name == GIT).and_then(|at| above.get(at + 1..)).unwrap_or_default();
    let placed = matches!(within, [kind, _] if kind == WORKTREES) || is_module(within);
    named || placed || makes_git_directory(&mut |name| has(depth, name))
}

/// Whether these names below a `.git` may be those of a submodule's directory.
fn is_module(below: &[String]) -> bool {
    let named = |names: &[String]| !names.is_empty() && !names.iter().any(|name| IN_A_MODULE.contains(&name.as_str()));
    matches!(below, [kind, names @ ..] if kind == MODULES && named(names))
}

/// What git knows a directory of its own by, of this name.
fn piece(name: &str) -> Option<&'static str> {
    [HEAD, OBJECTS, REFERENCES, COMMON].into_iter().find(|piece| piece.eq_ignore_ascii_case(name))
}

fn makes_git_directory(has: &mut dyn FnMut(&str) -> bool) -> bool {
    has(HEAD) && (has(COMMON) || (has(OBJECTS) && has(REFERENCES)))
}

/// Whether an act makes a directory one of git's, or takes from one what it is known by, or puts one elsewhere: what it says of
/// where its settings are would mean another place there.
fn changes_a_git_directory(act: FileAct, path: &JudgedPath, has: &mut Has<'_>) -> bool {
    let Some((name, above)) = path.names.split_last() else { return false };
    let depth = above.len();
    if act.moves_what_is_below() && path.names.len() > path.given && places_git_directories(path, has) {
        return true;
    }
    let Some(piece) = piece(name).filter(|_| depth >= path.given) else { return false };
    match act {
        FileAct::Remove | FileAct::MoveAway => is_git_directory(path, depth, has),
        _ if above.last().is_some_and(|name| name == GIT) => false,
        _ => {
            let before = makes_git_directory(&mut |name| has(depth, name));
            !before && makes_git_directory(&mut |name| name == piece || has(depth, name))
        }
    }
}

/// Whether a name is a git directory's, or holds those of linked worktrees or submodules.
fn places_git_directories(path: &JudgedPath, has: &mut Has<'_>) -> bool {
    let length = path.names.len();
    let holds = |at: usize| path.names.get(at).is_some_and(|name| name == WORKTREES || name == MODULES);
    let mut in_git = |at: usize| holds(at) && is_git_directory(path, at, has);
    let placed = [1, 2].iter().filter_map(|back| length.checked_sub(*back)).any(&mut in_git);
    placed || makes_git_directory(&mut |name| has(length, name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "protect_tests.rs"]
mod tests;
