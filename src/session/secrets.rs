//! Where secrets come from. Values are read in the proxy process alone; here, before, only whether there is something.

use crate::model::Secret;
use crate::policy::{SecretSource, SecretSpec};
use crate::sys;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Longest value; no vendor's key comes near.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Whether a source has something, without looking at what.
pub(super) fn is_there(spec: &SecretSpec, home: &Path) -> bool {
    spec.from.iter().any(|source| match source {
        SecretSource::Env(name) => sys::environment_has(name),
        SecretSource::File(path) => expand(path, home).exists(),
        SecretSource::Command(_) => true,
    })
}

/// Reads the value from the first source that has one.
///
/// The error is for a person and holds no part of a value.
pub(super) fn load(spec: &SecretSpec, home: &Path) -> Result<Secret, String> {
    let mut problems = Vec::new();
    for source in &spec.from {
        match read(source, home).and_then(check) {
            Ok(secret) => return Ok(secret),
            Err(problem) => problems.push(format!("{source}: {problem}")),
        }
    }
    Err(problems.join("; "))
}

fn read(source: &SecretSource, home: &Path) -> Result<String, String> {
    match source {
        SecretSource::Env(name) => std::env::var(name).map_err(|error| error.to_string()),
        SecretSource::File(path) => std::fs::read_to_string(expand(path, home)).map_err(|error| error.to_string()),
        SecretSource::Command(command) => run(command),
    }
}

/// A value that could not stand in a header is refused here, where it can still be said whose it is.
fn check(value: String) -> Result<Secret, String> {
    let secret = Secret::new(value.trim_end_matches(['\n', '\r']).to_owned());
    drop(zeroize::Zeroizing::new(value));
    match inspect(&secret) {
        None => Ok(secret),
        Some(problem) => Err(problem.to_owned()),
    }
}

fn inspect(secret: &Secret) -> Option<&'static str> {
    match (secret.len(), secret.is_printable()) {
        (0, _) => Some("it is empty"),
        (length, _) if length > SECRET_BYTES_MAX => Some("it is longer than any key"),
        (_, false) => Some("it holds a line break or another character that no header can carry"),
        _ => None,
    }
}

fn run(command: &str) -> Result<String, String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = sys::end_with_parent(&mut shell).spawn().map_err(|error| error.to_string())?;
    let mut printed = Vec::new();
    // One more than may be, so that what is too long is seen to be.
    let limit = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = child.stdout.take().map_or(Ok(0), |stdout| stdout.take(limit).read_to_end(&mut printed));
    let status = read.and_then(|_| child.wait()).map_err(|error| error.to_string())?;
    // A pipe that is closed early may be what ended it.
    if !status.success() && printed.len() <= SECRET_BYTES_MAX {
        return Err(format!("the command failed ({status})"));
    }
    String::from_utf8(printed).map_err(|_| "the command printed no text".to_owned())
}

fn expand(path: &str, home: &Path) -> PathBuf {
    path.strip_prefix("~/").map_or_else(|| PathBuf::from(path), |rest| home.join(rest))
}
