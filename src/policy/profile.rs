//! A profile: what a harness may touch, as its file says. Parsed and checked, but nothing in it is looked up: paths are
//! as written, and no secret has a value.

use super::error::PolicyErrors;
use super::host_keys::HostKeys;
use super::read;
use super::rule::{Effect, WrittenRule};
use super::secret::{SecretSource, SecretSpec};
use super::secret_files::SecretFiles;
use super::ssh::SshAccess;
use super::terminal::Terminal;
use super::upstream_proxy::UpstreamProxySetting;
use crate::model::{Durability, ModelHost, Tier};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// A profile file, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// The program that the profile's name stands for on the command line.
    pub command: Option<String>,
    /// What it is for, in a line.
    pub description: String,
    /// What is known about the program beyond its profile.
    pub harness: Harness,
    /// The files it may touch.
    pub filesystem: Filesystem,
    /// The environment it gets.
    pub environment: Environment,
    /// The requests it may send.
    pub egress: Vec<WrittenRule>,
    /// The keys by which SSH servers are known.
    pub host_keys: HostKeys,
    /// By which proxy servers are reached, where it says so.
    pub upstream_proxy: Option<UpstreamProxySetting>,
    /// A file of further roots for verifying servers.
    pub upstream_ca: Option<String>,
    /// The secrets its requests may carry.
    pub secrets: Vec<SecretSpec>,
    /// Hosts where model calls go, beside the vendors'.
    pub model_hosts: Vec<ModelHost>,
    /// What it may use up.
    pub limits: Limits,
    /// What of its output reaches the user's terminal.
    pub terminal: Terminal,
    /// The weakest tier of isolation that it may run in, where the profile says so.
    pub minimum_isolation: Option<Tier>,
    /// Whether it may make sandboxes of its own within this one, which opens more of the kernel to it.
    pub nested_sandboxes: bool,
    /// Whether the bodies of its requests and of their answers are recorded.
    pub record_bodies: bool,
    /// Which facts wait for the disk before their effect.
    pub durability: Durability,
    /// Within which time records must have been shipped everywhere for it to start, where that matters.
    pub require_shipping: Option<Duration>,
    /// What it may have the user's SSH agent sign.
    pub ssh: Option<SshAccess>,
}

impl Profile {
    /// Adds a secret that was asked for beside the profile, over one of its name.
    ///
    /// # Errors
    /// For one whose placeholder another secret's, or a value, would be in the way of, and for a variable that is passed on
    /// and holds its value.
    pub fn add_secret(&mut self, secret: SecretSpec) -> Result<(), AddedSecret> {
        self.secrets.retain(|other| other.name != secret.name);
        if secret.login.is_some() {
            self.take_login(secret);
            return Ok(());
        }
        let failed = |variable: &String| AddedSecret { secret: secret.name.clone(), variable: variable.clone() };
        let holds = |name: &&String| self.environment.pass.iter().any(|passed| passed == *name);
        let sources = secret.sources().flat_map(SecretSource::variables).map(str::to_owned).collect::<Vec<_>>();
        let taken = |name: &&String| {
            let other = self.secrets.iter().any(|other| other.placeholder_env.contains(name));
            other || self.environment.set.contains_key(*name)
        };
        match secret.placeholder_env.iter().find(taken).or(sources.iter().find(holds)) {
            Some(variable) => Err(failed(variable)),
            None => {
                self.secrets.push(secret);
                Ok(())
            }
        }
    }
}

impl Profile {
    /// Adds a login: its tokens, and the rules that it needs. A key that its program would use instead is left out.
    pub(super) fn take_login(&mut self, secret: SecretSpec) {
        if let Some(login) = secret.begins_login() {
            let instead = |name: &String| login.instead_of.contains(&name.as_str());
            self.secrets.retain(|other| !other.placeholder_env.iter().any(instead));
            self.egress.extend(login.rules.iter().map(|rule| WrittenRule::alone(Effect::Allow, rule)));
        }
        let parts = secret.parts();
        self.secrets.retain(|other| !parts.iter().any(|part| part.name == other.name));
        self.secrets.extend(parts);
    }
}

/// A secret that a profile has no room for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret `{secret}` cannot be added: the profile uses the variable `{variable}` for something else")]
pub struct AddedSecret {
    /// Its name.
    pub secret: String,
    /// The variable.
    pub variable: String,
}

/// A path as profiles and harnesses write it, with `~` replaced.
#[must_use]
pub fn expand_home(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None if path == "~" => home.to_owned(),
        None => PathBuf::from(path),
    }
}

/// A path with its `.` and `..` taken by the word, as a person means them.
#[must_use]
pub fn without_dots(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

/// The programs that are known well enough to be set up, rather than just run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Harness {
    /// Anthropic's Claude Code.
    ClaudeCode,
    /// OpenAI's Codex.
    Codex,
    /// Google's Gemini CLI.
    Gemini,
    /// Any other program.
    #[default]
    Plain,
}

impl Harness {
    /// Every harness by the name it is written as.
    pub(super) const ALL: [(&'static str, Self); 4] =
        [("claude-code", Self::ClaudeCode), ("codex", Self::Codex), ("gemini", Self::Gemini), ("plain", Self::Plain)];

    /// The name it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Plain => "plain",
        }
    }
}

/// The files a harness may touch. Paths begin with `/` or `~/`, but for those of `protect`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// How the workspace is given.
    pub workspace: WorkspaceMode,
    /// What it may read beyond the system and the workspace; what is not there is skipped.
    pub read: Vec<String>,
    /// What it may write beyond the workspace; what is not there is skipped.
    pub write: Vec<String>,
    /// What stays hidden within what is granted, such as a file of credentials.
    pub hide: Vec<String>,
    /// What may not be written in the workspace: patterns relative to it, added to the built-in list.
    pub protect: Vec<String>,
    /// Which files of the workspace are hidden since they look like secrets, besides the built-in rule.
    pub secret_files: SecretFiles,
}

/// How the workspace is given to the harness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WorkspaceMode {
    /// As it is: what the harness writes is there at once.
    #[default]
    Direct,
    /// Behind a layer that keeps what the harness writes until a person takes it over.
    Overlay,
    /// For reading only.
    ReadOnly,
}

impl WorkspaceMode {
    /// Every mode by the name it is written as.
    pub(super) const ALL: [(&'static str, Self); 3] =
        [("direct", Self::Direct), ("overlay", Self::Overlay), ("read-only", Self::ReadOnly)];

    /// The name it is written as.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Overlay => "overlay",
            Self::ReadOnly => "read-only",
        }
    }
}

/// The environment variables a harness gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Those passed on from omni's own environment, where they are set.
    pub pass: Vec<String>,
    /// Those set to these values.
    pub set: BTreeMap<String, String>,
}

/// What a session may use up; nothing written is no limit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads at a time.
    pub pids: Option<u64>,
    /// Processors' worth of time, such as 1.5.
    pub cpus: Option<f64>,
    /// Time from start to end.
    pub duration: Option<Duration>,
    /// Open files of each process.
    pub files: Option<u64>,
    /// Room in each directory that lives in memory, in bytes.
    pub tmp: Option<u64>,
    /// Room for the changes to an overlay workspace, in bytes.
    pub disk: Option<u64>,
    /// Room that must stay free on the file system that the workspace's changes go to, in bytes.
    pub disk_free: Option<u64>,
}

impl Profile {
    /// Reads a profile. `file_label` is what errors call it.
    ///
    /// # Errors
    /// Everything that is wrong with it, its rules included, each with its place and a hint. A text that is not YAML
    /// has one error, the parser's first.
    pub fn parse(file_label: &str, text: &str) -> Result<Self, PolicyErrors> {
        read::profile(file_label, text)
    }
}
