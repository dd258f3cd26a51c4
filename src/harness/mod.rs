//! Harnesses: how each known program is set up so that it starts in the sandbox as it would outside.
//!
//! Pure: data in, a [`LaunchSpec`] out. It deliberately does not know where files are, what is installed, or what any
//! secret's value is; it handles placeholders only.

mod claude_code;
mod codex;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod fixture;
mod gemini;
mod plain;
mod program;
mod shipped;

pub use program::{install_hint, program_candidates, program_meant, program_needs};
pub use shipped::{shipped, shipped_for};

use crate::model::Placeholder;
use crate::policy::{CredentialFile, Harness, Profile};
use std::collections::BTreeMap;

/// Where programs find the SSH agent of a session that has one.
pub const SSH_AGENT: &str = "/run/omni/ssh-agent";

/// Permissions of a seed that only its owner may read.
const PRIVATE: u32 = 0o600;
/// Where OpenSSH keeps the keys of the servers that it knows (ssh(1)).
const KNOWN_HOSTS: &str = "~/.ssh/known_hosts";

/// Everything a launch is made of.
#[derive(Debug, Clone, Copy)]
pub struct LaunchRequest<'a> {
    /// The profile.
    pub profile: &'a Profile,
    /// The command line as the person gave it, the program first.
    pub argv: &'a [String],
    /// The program's full path, as it was found.
    pub program: &'a str,
    /// The home directory, the same inside and outside.
    pub home: &'a str,
    /// The workspace's full path, the same inside and outside.
    pub workspace: &'a str,
    /// The placeholders by the names of their secrets; a secret that has no value has none.
    pub placeholders: &'a BTreeMap<String, Placeholder>,
    /// What stands for the files of logins, by their paths as `~/…`.
    pub look_alikes: &'a BTreeMap<String, String>,
    /// Whether the harness talks to a person at a terminal.
    pub terminal: bool,
}

/// How to start a harness in its sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchSpec {
    /// The command line, the program's full path first.
    pub argv: Vec<String>,
    /// The variables to set. They win over those passed on from outside.
    pub env: BTreeMap<String, String>,
    /// Files to put into the private home *before* granted directories are bound over it, so that none of them ever
    /// replaces a file of the user's own.
    pub seeds: Vec<Seed>,
    /// Paths that stay hidden although a directory around them is granted, as written (`~/` not yet expanded).
    pub hide: Vec<String>,
}

/// A file of the sandbox's private home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Its path, as `~/…`.
    pub path: String,
    /// What it holds.
    pub contents: String,
    /// Its permissions.
    pub mode: u32,
}

impl Seed {
    fn private(path: &str, contents: &serde_json::Value) -> Self {
        Self { path: path.to_owned(), contents: format!("{contents:#}\n"), mode: PRIVATE }
    }
}

/// Makes the launch of a harness out of its profile.
#[must_use]
pub fn launch(request: &LaunchRequest<'_>) -> LaunchSpec {
    let mut spec = match request.profile.harness {
        Harness::ClaudeCode => claude_code::launch(request),
        Harness::Codex => codex::launch(request),
        Harness::Gemini => gemini::launch(request),
        Harness::Plain => plain::launch(request),
    };
    // Where a client of SSH looks first, by whatever name it is called; a user's own file that is granted stays.
    let known = request.profile.host_keys.known_hosts();
    spec.seeds.extend(known.map(|contents| Seed { path: KNOWN_HOSTS.to_owned(), contents, mode: PRIVATE }));
    for (path, contents) in placeholder_files(request) {
        // What a harness has in a file of its own is the harness's to say.
        if !spec.seeds.iter().any(|seed| seed.path == path) {
            spec.seeds.push(Seed { path, contents, mode: PRIVATE });
        }
    }
    if request.profile.ssh.is_some() {
        spec.env.insert("SSH_AUTH_SOCK".to_owned(), SSH_AGENT.to_owned());
    }
    for (path, contents) in request.look_alikes {
        let follows =
            |seed: &&mut Seed| seed.path == *path && (path == KNOWN_HOSTS || CredentialFile::takes_lines(path));
        if let Some(seed) = spec.seeds.iter_mut().find(follows) {
            seed.contents.push_str(contents);
            continue;
        }
        spec.seeds.retain(|seed| seed.path != *path);
        spec.seeds.push(Seed { path: path.clone(), contents: contents.clone(), mode: PRIVATE });
    }
    spec
}

/// The files that hold placeholders; what several secrets have in one file stands there one after the other.
fn placeholder_files(request: &LaunchRequest<'_>) -> BTreeMap<String, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for secret in &request.profile.secrets {
        let Some(placeholder) = request.placeholders.get(&secret.name) else { continue };
        for file in &secret.placeholder_files {
            files.entry(file.path.clone()).or_default().push_str(&file.contents(placeholder));
        }
    }
    files
}

/// The placeholder that stands in this variable, if its secret has a value.
fn placeholder_in<'a>(request: &LaunchRequest<'a>, variable: &str) -> Option<&'a Placeholder> {
    let holds = |names: &[String]| names.iter().any(|name| name == variable);
    let secret = request.profile.secrets.iter().find(|secret| holds(&secret.placeholder_env))?;
    request.placeholders.get(&secret.name)
}

/// What stays hidden: what the profile says, and every file that a secret is read from.
fn hidden(profile: &Profile) -> Vec<String> {
    let sources = profile.secrets.iter().flat_map(|secret| &secret.from);
    let files = sources.filter_map(|source| source.file().map(str::to_owned));
    let mut paths: Vec<String> = profile.filesystem.hide.iter().cloned().chain(files).collect();
    paths.sort();
    paths.dedup();
    paths
}
