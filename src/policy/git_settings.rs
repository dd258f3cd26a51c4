//! Which changes of a repository's settings leave git running what it ran before: a reading of git-config(1)'s syntax that
//! knows few keys, and no spelling of them but git's own.

use super::git_remote::{self, Server};
use std::collections::BTreeSet;

/// Longest file of settings that is looked at, in bytes.
pub const GIT_SETTINGS_BYTES_MAX: usize = 65_536;

const BRANCH: &str = "branch";
const SUBMODULE: &str = "submodule";
const REMOTE: &str = "remote";

/// Whose repository it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitSettings<'a> {
    /// The host's, with what stands in its file now.
    Hosts(&'a [u8]),
    /// One that the session made.
    Own,
    /// A submodule's, which the session made, with where its files lie as git writes that.
    Module(&'a str),
}

impl GitSettings<'_> {
    /// Whether they may become these. In a repository of the session's own all are known and name nothing to run. In one of
    /// the host's, branches that had no upstream get one of the remotes that are there, and what is said of a branch goes as a whole;
    /// submodules of which nothing was said get where they come from, and are active; remotes are added on the servers of those that
    /// are there. All else stays as it is, line by line: a remote that led elsewhere would be pushed to by whoever trusts its name.
    #[must_use]
    pub fn may_become(self, after: &[u8]) -> bool {
        let Some(after) = read(after) else { return false };
        match self {
            Self::Own => after.iter().all(Line::is_known),
            Self::Module(worktree) => after.iter().all(|line| {
                let own = line.section == "[core]" && line.entry() == Some(("worktree", worktree));
                own || line.is_known()
            }),
            Self::Hosts(before) => read(before).is_some_and(|before| only_additions(&before, &after)),
        }
    }
}

/// A line, and the header of the section that it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line<'a> {
    section: &'a str,
    text: &'a str,
}

/// The lines with their sections; none where git could read them otherwise than line by line.
fn read(settings: &[u8]) -> Option<Vec<Line<'_>>> {
    let settings = std::str::from_utf8(settings).ok().filter(|text| text.len() <= GIT_SETTINGS_BYTES_MAX)?;
    let mut section = "";
    let mut lines = Vec::new();
    for text in settings.lines() {
        // A value that goes on would hide what the next line is, as would a line that ends as others do.
        if text.ends_with('\\') || text.contains(['\r', '\0', '\u{feff}']) {
            return None;
        }
        if text.trim_start().starts_with('[') {
            section = text;
        }
        lines.push(Line { section, text });
    }
    Some(lines)
}

impl<'a> Line<'a> {
    /// The name in a header such as `[branch "main"]`, written as git writes it.
    fn name_in(self, kind: &str) -> Option<&'a str> {
        let name = self.section.strip_prefix('[')?.strip_prefix(kind)?.strip_prefix(" \"")?.strip_suffix("\"]")?;
        is_name(name).then_some(name)
    }

    /// The key and the value of a line as git writes it.
    fn entry(self) -> Option<(&'a str, &'a str)> {
        let (key, value) = self.text.strip_prefix('\t')?.split_once(" = ")?;
        let plain = !value.is_empty() && !value.contains(['"', '\\', '#', ';']) && !value.chars().any(char::is_control);
        (plain && key.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some((key, value))
    }

    /// Whether it is a header, or a setting that names nothing which git would run.
    fn is_known(&self) -> bool {
        let is_header = self.text == self.section && !self.text.is_empty();
        if let Some(name) = self.name_in(REMOTE) {
            return is_header || (name != "." && self.entry().is_some_and(|(key, value)| of_remote(key, value)));
        }
        if self.name_in(BRANCH).is_some() {
            return is_header || self.entry().is_some_and(|(key, value)| of_branch(key, value));
        }
        if self.name_in(SUBMODULE).is_some() {
            return is_header || self.entry().is_some_and(|(key, value)| of_submodule(key, value));
        }
        let known = ["[core]", "[extensions]", "[user]", "[init]", "[pull]", "[push]"];
        known.contains(&self.section)
            && (is_header || self.entry().is_some_and(|(key, value)| of_section(self.section, key, value)))
    }
}

fn of_section(section: &str, key: &str, value: &str) -> bool {
    let key = key.to_ascii_lowercase();
    match (section, key.as_str()) {
        ("[core]", "repositoryformatversion") => matches!(value, "0" | "1"),
        ("[core]", "filemode" | "bare" | "logallrefupdates" | "ignorecase" | "symlinks" | "precomposeunicode") => {
            matches!(value, "true" | "false")
        }
        ("[extensions]", "objectformat") => matches!(value, "sha1" | "sha256"),
        ("[user]", "name" | "email") => true,
        ("[init]", "defaultbranch") => is_name(value),
        ("[pull]", "rebase" | "ff") | ("[push]", "default" | "autosetupremote") => is_word(value),
        _ => false,
    }
}

fn of_remote(key: &str, value: &str) -> bool {
    match key {
        "url" | "pushurl" => is_location(value),
        "fetch" | "push" => value.split(':').all(|part| is_name(part.trim_start_matches('+').trim_end_matches('*'))),
        "tagOpt" => matches!(value, "--tags" | "--no-tags"),
        _ => false,
    }
}

fn of_branch(key: &str, value: &str) -> bool {
    match key {
        "remote" => value == "." || is_name(value),
        "merge" => is_name(value),
        "rebase" => is_word(value),
        _ => false,
    }
}

fn of_submodule(key: &str, value: &str) -> bool {
    match key {
        "url" => is_location(value),
        "active" => matches!(value, "true" | "false"),
        _ => false,
    }
}

/// A name of a branch, a remote or a reference that is nothing else to any program (git-check-ref-format(1)).
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/+@-".contains(&byte);
    !text.is_empty() && text.bytes().all(plain) && !text.starts_with(['-', '.', '/']) && !text.contains("..")
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !text.starts_with('-')
}

/// Where a repository lies, by the ways that take nothing but a place (git-fetch(1), "GIT URLS"): no remote helper's, and
/// nothing that a program on the way could take for an option.
fn is_location(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~/@:+%=&?-".contains(&byte);
    if !text.bytes().all(plain) || text.contains("::") {
        return false;
    }
    let schemes = ["https://", "http://", "ssh://", "git://"];
    let begins_well = |rest: &str| rest.starts_with(|first: char| first.is_ascii_alphanumeric());
    if let Some(rest) = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        return begins_well(rest) && !rest.contains("@-");
    }
    if text.starts_with('/') {
        return true;
    }
    // user@host:path, as scp has it.
    text.split_once('@').and_then(|(user, rest)| Some((user, rest.split_once(':')?))).is_some_and(
        |(user, (host, path))| begins_well(user) && begins_well(host) && !host.contains('/') && !path.starts_with('-'),
    )
}

/// What may be added to settings of the host's, with what stands there.
struct Additions<'a> {
    /// What is said already stays; git writes one key at a time.
    said: BTreeSet<(Subject<'a>, &'a str)>,
    remotes: BTreeSet<&'a str>,
    servers: Vec<Server<'a>>,
}

/// A branch, a submodule or a remote, by name.
type Subject<'a> = (&'static str, &'a str);

impl<'a> Line<'a> {
    fn subject(self) -> Option<Subject<'a>> {
        [BRANCH, SUBMODULE, REMOTE].into_iter().find_map(|kind| Some((kind, self.name_in(kind)?)))
    }

    /// The URL of a remote, if that is what it says.
    fn url(self) -> Option<&'a str> {
        self.name_in(REMOTE)?;
        self.entry().filter(|(key, _)| *key == "url").map(|(_, url)| url)
    }
}

impl<'a> Additions<'a> {
    fn to(before: &[Line<'a>]) -> Self {
        let said = before.iter().filter_map(|line| Some((line.subject()?, line.entry()?.0))).collect();
        let remotes = before.iter().filter_map(|line| line.name_in(REMOTE)).collect();
        let servers = before.iter().filter_map(|line| Server::of(line.url()?)).collect();
        Self { said, remotes, servers }
    }

    fn may_have(&self, line: Line<'_>) -> bool {
        let Some(subject) = line.subject() else { return false };
        let Some((key, value)) = line.entry() else { return line.text == line.section };
        let is_new = !self.said.contains(&(subject, key));
        is_new
            && match subject {
                (BRANCH, _) if key == "remote" => value == "." || self.remotes.contains(value),
                (BRANCH, _) => of_branch(key, value),
                (REMOTE, name) => self.of_added_remote(name, key, value),
                _ => of_submodule(key, value),
            }
    }

    /// A remote comes into being by its URL, and gets what else git says of it right after.
    fn of_added_remote(&self, name: &str, key: &str, value: &str) -> bool {
        let is_there = self.remotes.contains(name);
        git_remote::may_be_added(name)
            && of_remote(key, value)
            && match key {
                "url" => {
                    let server = Server::of(value);
                    !is_there
                        && server.is_some_and(|server| self.servers.iter().any(|known| server.is_known_by(*known)))
                }
                "fetch" => is_there && git_remote::fetches_its_own(name, value),
                _ => false,
            }
    }
}

/// Whether all stays as it is, line by line, but for what may be added; a branch may go as a whole.
fn only_additions(before: &[Line<'_>], after: &[Line<'_>]) -> bool {
    let left: BTreeSet<&str> = after.iter().filter_map(|line| line.name_in(BRANCH)).collect();
    let stays = |line: &&Line<'_>| line.name_in(BRANCH).is_none_or(|name| left.contains(name));
    let mut kept = before.iter().filter(stays).peekable();
    let additions = Additions::to(before);
    // One without a URL would be taken for a path of its name.
    let has_url = |name: &str| after.iter().any(|line| line.name_in(REMOTE) == Some(name) && line.url().is_some());
    let named =
        |line: &Line<'_>| line.name_in(REMOTE).is_none_or(|name| additions.remotes.contains(name) || has_url(name));
    after.iter().all(named)
        && after.iter().all(|line| kept.next_if(|kept| *kept == line).is_some() || additions.may_have(*line))
        && kept.peek().is_none()
}

#[cfg(test)]
#[path = "git_settings_tests.rs"]
mod tests;
