//! On whose behalf a session runs: by default this process's own user, with this process's environment.
//!
//! Where it is another's, what they may be asked is what they sent, and their secrets lie in a file in memory that only
//! the proxy reads.

use super::error::SessionError;
use super::secrets;
use crate::model::Secret;
use crate::policy::{Limits, SecretSpec};
use crate::store::{Home, StoreError};
use crate::supervisor::{LimitPlan, plan_limits};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Who asks for a session.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    sent: Option<Arc<Sent>>,
    /// The machine's own secrets that this session may use, and whether each has a value.
    granted: BTreeMap<String, bool>,
    limits: Option<LimitPlan>,
}

/// What another user sent.
#[derive(Debug)]
struct Sent {
    environment: BTreeMap<String, String>,
    secrets: BTreeSet<String>,
    values: OwnedFd,
    read: fn(&OwnedFd) -> io::Result<SentSecrets>,
    records: PathBuf,
}

/// The secrets that a user sends with a request, by name: the value, or why there is none.
pub type SentSecrets = BTreeMap<String, Result<String, String>>;

impl Caller {
    /// Another user, with the environment and the names of the secrets that they sent, whose session is recorded in the home
    /// `records`. `read` reads the secrets' values from `values`, in the proxy.
    #[must_use]
    pub fn other(
        environment: BTreeMap<String, String>,
        secrets: Vec<String>,
        values: OwnedFd,
        read: fn(&OwnedFd) -> io::Result<SentSecrets>,
        records: PathBuf,
    ) -> Self {
        let secrets = secrets.into_iter().collect();
        Self {
            sent: Some(Arc::new(Sent { environment, secrets, values, read, records })),
            granted: BTreeMap::new(),
            limits: None,
        }
    }

    /// Whether it is another user than this process's.
    #[must_use]
    pub fn is_another(&self) -> bool {
        self.sent.is_some()
    }

    /// The home that the session is recorded in, and that its layer lies in.
    pub(super) fn records(&self) -> Result<PathBuf, StoreError> {
        self.sent.as_ref().map_or_else(Home::path_from_env, |sent| Ok(sent.records.clone()))
    }

    /// Lets the session use a secret of the machine's, which has a value or has none.
    pub fn grant(&mut self, secret: &str, has_value: bool) {
        self.granted.insert(secret.to_owned(), has_value);
    }

    /// Has the session held to its profile's limits by the means of this process, which may have more than the caller. Some
    /// count where its workspace lies behind an `overlay`.
    ///
    /// # Errors
    /// For a limit that nothing here can hold.
    pub fn hold(&mut self, limits: &Limits, overlay: bool, duration: Option<Duration>) -> Result<(), SessionError> {
        self.limits = Some(plan_limits(limits, overlay, duration)?);
        Ok(())
    }

    /// What holds the session's limits, where that was found out before.
    pub(super) fn limits(&self) -> Option<&LimitPlan> {
        self.limits.as_ref()
    }

    /// A variable of the caller's environment, if it is set and text.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        match &self.sent {
            Some(sent) => sent.environment.get(name).cloned(),
            None => std::env::var(name).ok(),
        }
    }

    /// The caller's home directory.
    pub(super) fn home(&self) -> Option<PathBuf> {
        match &self.sent {
            Some(sent) => sent.environment.get("HOME").map(PathBuf::from),
            None => std::env::home_dir(),
        }
    }

    /// Whether a secret has a value, without looking at which.
    pub(super) fn has(&self, spec: &SecretSpec, home: &Path) -> bool {
        match (self.granted.get(&spec.name), &self.sent) {
            (Some(has_value), _) => *has_value,
            (None, Some(sent)) => sent.secrets.contains(&spec.name),
            (None, None) => secrets::is_there(spec, home),
        }
    }

    /// Where the values of secrets are that were sent, which only the proxy may have.
    pub(super) fn values(&self) -> Option<BorrowedFd<'_>> {
        self.sent.as_ref().map(|sent| sent.values.as_fd())
    }

    /// Reads the values of secrets. For the proxy alone.
    pub(super) fn secrets(&self) -> Result<Vault<'_>, String> {
        let sent = self.sent.as_ref().map(|sent| (sent.read)(&sent.values)).transpose();
        Ok(Vault {
            caller: self,
            sent: sent.map_err(|error| format!("the secrets that came cannot be read: {error}"))?,
        })
    }
}

/// The values, in the proxy.
pub(super) struct Vault<'a> {
    caller: &'a Caller,
    sent: Option<SentSecrets>,
}

impl Vault<'_> {
    /// Takes the value of a secret. The error is for a person and holds no part of a value.
    pub(super) fn take(&mut self, spec: &SecretSpec, home: &Path) -> Result<Secret, String> {
        match &mut self.sent {
            Some(sent) if !self.caller.granted.contains_key(&spec.name) => {
                let value = sent.remove(&spec.name).unwrap_or_else(|| Err("it did not come".to_owned()))?;
                secrets::check(spec, value)
            }
            _ => secrets::load(spec, home),
        }
    }
}

/// Reads, as the user whose they are, the values of the secrets that have any, to be sent to a process that is the proxy of
/// their session but not theirs.
#[must_use]
pub fn gather_secrets(specs: &[SecretSpec]) -> SentSecrets {
    let home = std::env::home_dir().unwrap_or_default();
    let present = specs.iter().filter(|spec| secrets::is_there(spec, &home));
    present.map(|spec| (spec.name.clone(), secrets::first_value(spec, &home))).collect()
}

/// Whether a secret of the machine's, which names full paths alone, has a value that this process could read.
#[must_use]
pub fn has_value(spec: &SecretSpec) -> bool {
    secrets::is_there(spec, Path::new("/"))
}

/// This process's variables with these names, where they are set and text.
#[must_use]
pub fn own_variables<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect()
}
