//! Where secrets come from. Values are read in the proxy process alone; here, before, only whether there is something.

use super::aws;
use super::credential_file;
use super::keyring::SystemKeyring;
use super::vault;
use crate::model::Secret;
use crate::policy::{SecretSource, SecretSpec, expand_home};
use crate::store::{Home, SecretStore, StoreError};
use crate::sys;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use zeroize::{Zeroize, Zeroizing};

/// Longest file of JSON that a value is looked for in.
const JSON_BYTES_MAX: usize = 256 * 1024;
/// Longest value; no vendor's key comes near.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Whether a source has something, without looking at what.
pub(super) fn is_there(spec: &SecretSpec, home: &Path) -> bool {
    let there = |source: &SecretSource| match source {
        SecretSource::Env(name) => sys::environment_has(name),
        SecretSource::File(path) | SecretSource::JsonFile(path, _) => expand_home(path, home).exists(),
        SecretSource::Credential(file, _) => expand_home(file.path, home).exists(),
        // Whether it is there is not asked before its value is wanted.
        SecretSource::Command(_) | SecretSource::Vault(_) => true,
        SecretSource::Aws(profile) => aws::is_there(profile.as_deref(), home),
        SecretSource::Store(name) => Home::path_from_env()
            .and_then(|home| Ok(SecretStore::read(&home)?.secrets().get(name).is_some_and(|secret| secret.has_value)))
            // What is wrong with the store is said when its value is wanted.
            .unwrap_or(true),
    };
    spec.from.iter().any(there)
}

/// Reads the value from the first source that has one.
///
/// The error is for a person and holds no part of a value.
pub(super) fn load(spec: &SecretSpec, home: &Path) -> Result<Secret, String> {
    first_value(spec, home).and_then(|value| check(spec, value))
}

/// As [`load`], but for a value that another process will make a secret of.
pub(super) fn first_value(spec: &SecretSpec, home: &Path) -> Result<String, String> {
    let value = first(&spec.from, spec, home)?;
    if spec.certificate.is_empty() {
        return Ok(value);
    }
    let (key, certificate) = (Zeroizing::new(value), first(&spec.certificate, spec, home)?);
    // In one piece, since pieces of it that grew would leave copies behind.
    let mut both = String::with_capacity(certificate.len() + key.len() + 1);
    both.extend([certificate.as_str(), "\n", &key]);
    Ok(both)
}

/// What the first of these sources has that has something of use.
fn first(sources: &[SecretSource], spec: &SecretSpec, home: &Path) -> Result<String, String> {
    let mut problems = Vec::new();
    for source in sources {
        match read(source, home).and_then(|value| fit(spec, value)) {
            Ok(value) => return Ok(value),
            Err(problem) => problems.push(format!("{source}: {problem}")),
        }
    }
    Err(problems.join("; "))
}

/// What the first of these sources has that has anything.
pub(super) fn first_text(sources: &[SecretSource], home: &Path) -> Result<String, String> {
    let mut problems = Vec::new();
    for source in sources {
        match read(source, home) {
            Ok(value) if !value.is_empty() => return Ok(value),
            Ok(_) => problems.push(format!("{source}: it is empty")),
            Err(problem) => problems.push(format!("{source}: {problem}")),
        }
    }
    Err(problems.join("; "))
}

fn read(source: &SecretSource, home: &Path) -> Result<String, String> {
    match source {
        SecretSource::Env(name) => std::env::var(name).map_err(|error| error.to_string()),
        SecretSource::File(path) => text(&mut File::open(expand_home(path, home)).map_err(|error| error.to_string())?),
        SecretSource::JsonFile(path, pointer) => {
            let file = File::open(expand_home(path, home)).map_err(|error| error.to_string())?;
            within(file, pointer)
        }
        SecretSource::Credential(file, key) => credential_file::value(file, key.as_deref(), home),
        SecretSource::Command(command) => run(command),
        SecretSource::Aws(profile) => aws::read(profile.as_deref(), home),
        SecretSource::Vault(field) => vault::read(field, home),
        SecretSource::Store(name) => stored(name).map_err(|error| error.to_string()),
    }
}

/// Reads a text no further than one byte beyond what a secret may have, where [`check_secret`] refuses it. The room is made at
/// once: a text that grew would leave copies of itself behind.
pub(super) fn text(from: &mut impl Read) -> Result<String, String> {
    let limit = SECRET_BYTES_MAX + 1;
    let mut text = String::with_capacity(limit + 1);
    match from.take(limit as u64).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => {
            text.zeroize();
            let no_text = error.kind() == std::io::ErrorKind::InvalidData;
            Err(if no_text { "it is no text".to_owned() } else { error.to_string() })
        }
    }
}

/// The string at a place of a file of JSON. What is wrong with the file is not said in its words, which may be secret.
fn within(file: File, pointer: &str) -> Result<String, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(JSON_BYTES_MAX + 1));
    file.take(JSON_BYTES_MAX as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let mut document: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| "it is no JSON".to_owned())?;
    match document.pointer_mut(pointer).map(serde_json::Value::take) {
        Some(serde_json::Value::String(value)) => Ok(value),
        Some(_) => Err(format!("what stands at {pointer} is no text")),
        None => Err(format!("nothing stands at {pointer}")),
    }
}

fn stored(name: &str) -> Result<String, StoreError> {
    let home = Home::path_from_env()?;
    let value = SecretStore::read(&home)?.value(name, &SystemKeyring::of(&home))?;
    Ok(value.to_string())
}

/// What keeps a value from being this secret, for a person; it holds no part of the value.
#[must_use]
pub fn check_secret(spec: &SecretSpec, value: &str) -> Option<&'static str> {
    let is_printable = |byte: u8| (0x20..0x7f).contains(&byte);
    let breaks = |byte: u8| matches!(byte, b'\n' | b'\r' | b'\t') || byte >= 0x80;
    match spec.is_document() {
        _ if value.is_empty() => Some("it is empty"),
        _ if value.len() > SECRET_BYTES_MAX => Some("it is longer than any key"),
        false if !value.bytes().all(is_printable) => {
            Some("it holds a line break or another character that no header can carry")
        }
        true if !value.bytes().all(|byte| is_printable(byte) || breaks(byte)) => {
            Some("it holds a character that stands in no text")
        }
        _ => None,
    }
}

/// A value that could not stand in a header is refused here, where it can still be said whose it is.
pub(super) fn check(spec: &SecretSpec, value: String) -> Result<Secret, String> {
    fit(spec, value).map(Secret::new)
}

/// The value without the line breaks at its end, where it can be this secret.
fn fit(spec: &SecretSpec, value: String) -> Result<String, String> {
    let value = Zeroizing::new(value);
    let fit = value.trim_end_matches(['\n', '\r']);
    check_secret(spec, fit).map_or_else(|| Ok(fit.to_owned()), |problem| Err(problem.to_owned()))
}

fn run(command: &str) -> Result<String, String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = sys::end_with_parent(&mut shell).spawn().map_err(|error| error.to_string())?;
    // Closed when it has been read far enough, so that a command that never stops writing is told to.
    let read = child.stdout.take().map_or_else(|| Ok(String::new()), |mut stdout| text(&mut stdout));
    let status = child.wait().map_err(|error| error.to_string())?;
    match read {
        Ok(value) if value.len() > SECRET_BYTES_MAX || status.success() => Ok(value),
        Ok(value) => {
            drop(Zeroizing::new(value));
            Err(format!("the command failed ({status})"))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn told(command: &str) -> Result<usize, String> {
        let spec = SecretSpec::parse("test", "{name: a, from: 'env:A', host: a.example, bearer: true}").unwrap();
        run(command).and_then(|value| check(&spec, value)).map(|secret| secret.len())
    }

    #[test]
    fn a_value_is_read_up_to_its_limit_and_no_further() {
        assert_eq!(told(&format!("head -c {SECRET_BYTES_MAX} /dev/zero | tr '\\0' x")), Ok(SECRET_BYTES_MAX));
        assert_eq!(told("yes"), Err("it is longer than any key".to_owned()));
        let endless = SecretSource::File("/dev/zero".to_owned());
        assert_eq!(read(&endless, Path::new("/")).unwrap().len(), SECRET_BYTES_MAX + 1);
    }

    #[test]
    fn a_string_in_a_file_of_json_is_found_and_nothing_of_it_is_said() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("login.json");
        let read_at = |pointer: &str, contents: &str| {
            std::fs::write(&path, contents).unwrap();
            read(&SecretSource::JsonFile(path.display().to_string(), pointer.to_owned()), Path::new("/"))
        };
        let login = r#"{"login": {"token": "canary", "until": 7}}"#;
        assert_eq!(read_at("/login/token", login), Ok("canary".to_owned()));
        assert_eq!(read_at("/login/until", login), Err("what stands at /login/until is no text".to_owned()));
        assert_eq!(read_at("/token", login), Err("nothing stands at /token".to_owned()));
        assert_eq!(read_at("/login/token", &login[..20]), Err("it is no JSON".to_owned()));
    }

    #[test]
    fn a_command_that_fails_or_prints_no_text_says_so() {
        assert_eq!(told("echo key"), Ok(3));
        assert_eq!(told("echo key; exit 3"), Err("the command failed (exit status: 3)".to_owned()));
        assert_eq!(told("printf '\\377'"), Err("it is no text".to_owned()));
    }
}
