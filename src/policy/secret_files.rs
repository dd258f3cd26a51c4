//! Files of the workspace that look like secrets by their names: what is hidden unless a profile says otherwise.

use super::file_pattern::{FilePattern, fold};

/// What is hidden. A slash at the end is for directories alone.
const HIDDEN: &[&str] = &[
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ecdsa_sk",
    "id_ed25519",
    "id_ed25519_sk",
    ".aws/",
    ".ssh/",
    ".gnupg/",
    ".kube/",
    ".netrc",
    ".pgpass",
    ".pypirc",
    ".git-credentials",
    ".vault-token",
    "**/.docker/config.json",
    "credentials.json",
    "service-account*.json",
    "*.tfstate",
];
/// What has such a name and is there to be read.
const VISIBLE: &[&str] = &[
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    ".env.defaults",
    ".env.*.example",
    ".env.*.sample",
    ".env.*.template",
];

/// Directories that are not looked into: git's own, and what tools put there by the thousand and can fetch again.
const UNSEEN: &[&str] = &[".git", "node_modules", "target", ".venv", "venv", "__pycache__", ".tox"];

/// The `secret_files:` of a profile, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretFiles {
    /// Patterns of further files that are hidden.
    pub hide: Vec<String>,
    /// Patterns of files that stay visible, whatever hides them.
    pub allow: Vec<String>,
    /// Whether the harness waits until everything is hidden, however large the workspace.
    pub wait: bool,
}

/// Which files of a workspace are hidden, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretNames {
    hidden: Vec<FilePattern>,
    visible: Vec<FilePattern>,
    hidden_by_profile: Vec<FilePattern>,
    visible_by_profile: Vec<FilePattern>,
}

impl SecretNames {
    /// The built-in patterns, and what a profile says beside them.
    ///
    /// # Errors
    /// The pattern that is none, and what to do about it.
    pub fn compile(written: &SecretFiles) -> Result<Self, (String, &'static str)> {
        let parse = |text: &str| FilePattern::parse(text).map_err(|hint| (text.to_owned(), hint));
        let all = |texts: &[&str]| texts.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>();
        let written_ones = |texts: &[String]| texts.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            hidden: all(HIDDEN)?,
            visible: all(VISIBLE)?,
            hidden_by_profile: written_ones(&written.hide)?,
            visible_by_profile: written_ones(&written.allow)?,
        })
    }

    /// Whether a file or directory of the workspace is hidden; its names are folded and start there.
    #[must_use]
    pub fn hides(&self, path: &[String], directory: bool) -> bool {
        // What is in a directory that stays visible stays so.
        let allowed =
            (1..=path.len()).any(|end| self.visible_by_profile.iter().any(|pattern| pattern.matches(&path[..end])));
        !allowed && self.looks_secret(path, directory)
    }

    /// Whether a file or directory looks like a secret by its name, hidden or not.
    #[must_use]
    pub fn looks_secret(&self, path: &[String], directory: bool) -> bool {
        let meant = |patterns: &[FilePattern]| {
            patterns.iter().any(|pattern| (directory || !pattern.is_of_directories()) && pattern.matches(path))
        };
        meant(&self.hidden_by_profile) || (meant(&self.hidden) && !meant(&self.visible))
    }

    /// Every pattern that hides and every one that does not, for a person.
    pub fn listed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let hidden = self.hidden.iter().chain(&self.hidden_by_profile).map(|pattern| ("hide", pattern.as_str()));
        hidden.chain(self.visible.iter().chain(&self.visible_by_profile).map(|pattern| ("show", pattern.as_str())))
    }
}

/// Whether a directory of this name is not looked into.
#[must_use]
pub fn is_unseen(name: &[u8]) -> bool {
    UNSEEN.contains(&fold(name).as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hides(written: &SecretFiles, path: &str) -> bool {
        let directory = path.ends_with('/');
        let names: Vec<_> = path.trim_end_matches('/').split('/').map(|name| fold(name.as_bytes())).collect();
        SecretNames::compile(written).unwrap().hides(&names, directory)
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden_at_any_depth() {
        let none = SecretFiles::default();
        for path in [
            ".env",
            "a/b/.env",
            ".env.local",
            ".ENV",
            "certs/server.pem",
            "x.key",
            ".aws/",
            "a/.ssh/",
            "id_ed25519",
            "credentials.json",
            "infra/prod.tfstate",
            ".docker/config.json",
        ] {
            assert!(hides(&none, path), "{path}");
        }
        for path in [
            ".env.example",
            ".env.production.sample",
            ".envrc",
            "env",
            ".aws",
            "id_ed25519.pub",
            "config.json",
            "src/",
            "key.rs",
            "keys/",
        ] {
            assert!(!hides(&none, path), "{path}");
        }
    }

    #[test]
    fn a_profile_adds_and_excepts() {
        let written = SecretFiles {
            hide: vec!["*.secret".into(), "vault/".into(), ".env.example".into()],
            wait: false,
            allow: vec!["tests/**/*.pem".into(), ".env.test".into(), "fixtures".into()],
        };
        for (path, expected) in [
            ("a.secret", true),
            ("vault/", true),
            (".env.example", true),
            ("tests/tls/a.pem", false),
            ("a.pem", true),
            (".env.test", false),
            ("fixtures/deep/id_rsa", false),
        ] {
            assert_eq!(hides(&written, path), expected, "{path}");
        }
        let all = SecretFiles { allow: vec!["**".into()], ..SecretFiles::default() };
        assert!(!hides(&all, ".env"), "one pattern switches it off");
    }
}
