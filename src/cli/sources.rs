//! Where the files are read from that a command line names: the disk, or what came from the user who typed it.

use super::{profile, secret};
use anyhow::Context;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where files come from.
pub(super) enum Sources {
    /// The disk, by this process's rights.
    Disk,
    /// What another user sent; the disk is not looked at.
    Sent(BTreeMap<String, String>),
}

impl Sources {
    /// A file that a person wrote.
    pub(super) fn text(&self, path: &Path) -> anyhow::Result<String> {
        match self {
            Self::Disk => profile::read(path),
            Self::Sent(files) => Ok(sent(files, path)?.to_owned()),
        }
    }

    /// A file of any kind.
    pub(super) fn bytes(&self, path: &Path) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Disk => std::fs::read(path).with_context(|| format!("cannot read {}", path.display())),
            Self::Sent(files) => Ok(sent(files, path)?.as_bytes().to_owned()),
        }
    }

    /// How a secret is declared that is asked for by its name.
    pub(super) fn secret(&self, name: &str) -> anyhow::Result<String> {
        match self {
            Self::Disk => secret::declared(name),
            Self::Sent(files) => Ok(sent(files, Path::new(&Self::of_secret(name)))?.to_owned()),
        }
    }

    /// What the declaration of a secret is called among files.
    pub(super) fn of_secret(name: &str) -> String {
        format!("the secret {name}")
    }

    /// Reads files to be sent.
    pub(super) fn gather<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> anyhow::Result<BTreeMap<String, String>> {
        paths.map(|path| Ok((path.display().to_string(), profile::read(path)?))).collect()
    }
}

fn sent<'a>(files: &'a BTreeMap<String, String>, path: &Path) -> anyhow::Result<&'a String> {
    let name = path.display().to_string();
    files.get(&name).with_context(|| format!("{name} did not come with the request"))
}
