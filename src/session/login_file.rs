//! The files of logins. What stands for one inside is made by a process of its own, so that none that goes on has read a
//! token; what a renewal changed is written back by the process that reads secrets anew.

use super::caller::Caller;
use super::error::SessionError;
use crate::model::Placeholder;
use crate::policy::{Login, SecretSpec, apply_renewal, expand_home};
use crate::supervisor::reap;
use crate::sys::{Forked, fork_single_threaded};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest file of a login that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Largest look-alike of one.
const LOOK_ALIKE_BYTES_MAX: u64 = 64 * 1024;

/// What stands for the files of the session's logins, by their paths as `~/…`.
pub(super) fn look_alikes(
    caller: &Caller,
    present: &[(SecretSpec, Placeholder)],
    home: &Path,
) -> Result<BTreeMap<String, String>, SessionError> {
    let mut made = BTreeMap::new();
    for (login, name) in present.iter().filter_map(|(spec, _)| Some((spec.begins_login()?, &spec.name))) {
        if caller.is_another() {
            return Err(SessionError::LoginOfAnother { secret: name.clone() });
        }
        let of_login =
            present.iter().filter(|(spec, _)| spec.login.is_some_and(|token| token.login.name == login.name));
        let placeholders: Vec<&Placeholder> = of_login.map(|(_, placeholder)| placeholder).collect();
        let text = apart(|| look_alike(login, &placeholders, home));
        let text =
            text.and_then(|text| if text.is_empty() { Err(io::ErrorKind::InvalidData.into()) } else { Ok(text) });
        let text = text.map_err(|error| SessionError::Login { secret: name.clone(), file: login.file, error })?;
        made.insert(login.file.to_owned(), text);
    }
    Ok(made)
}

/// The look-alike of a login's file.
fn look_alike(login: &Login, placeholders: &[&Placeholder], home: &Path) -> io::Result<String> {
    let (real, _) = read(&expand_home(login.file, home))?;
    Ok(format!("{:#}\n", login.look_alike(&real, placeholders)))
}

/// Has a process of its own make a text; where it cannot, the text is empty.
pub(super) fn apart(make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    let (reading, writing) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match fork_single_threaded()? {
        Forked::Child => {
            drop(reading);
            let made = make().and_then(|text| File::from(writing).write_all(text.as_bytes()));
            std::process::exit(i32::from(made.is_err()));
        }
        Forked::Parent { pidfd, .. } => {
            drop(writing);
            let mut text = String::new();
            let read = File::from(reading).take(LOOK_ALIKE_BYTES_MAX).read_to_string(&mut text);
            reap(pidfd.as_fd());
            read.map(|_| text)
        }
    }
}

/// A login's file, and where it really is. What is wrong with it is not said in its words.
fn read(path: &Path) -> io::Result<(Value, PathBuf)> {
    let path = path.canonicalize()?;
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(&path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let document = serde_json::from_slice(&bytes).map_err(|_| io::Error::other("it is no JSON"))?;
    Ok((document, path))
}

/// Writes into a login's file what a renewal changed of it, for its owner alone. It stays the very file that it is: in front of
/// another of its name the sandbox's cover would not stand. A whole copy lies beside it meanwhile, in case this is cut off.
pub(super) fn write_back(login: &str, changes: BTreeMap<String, Value>, home: &Path) -> io::Result<()> {
    let login = Login::named(login).ok_or(io::ErrorKind::NotFound)?;
    let (mut document, path) = read(&expand_home(login.file, home))?;
    apply_renewal(&mut document, changes);
    let text = Zeroizing::new(format!("{document:#}\n"));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let copy = path.with_file_name(format!("{name}.omni-{}", std::process::id()));
    let copied = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let written = copied.and_then(|()| {
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    });
    // It holds tokens, and nobody looks there; where the file is torn it is all there is.
    if written.is_ok() || read(&path).is_ok() {
        let _ = std::fs::remove_file(&copy);
    }
    written
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn a_renewal_is_written_whole_where_the_file_really_is_and_keeps_the_rest() {
        let place = tempfile::tempdir().unwrap();
        let (home, real) = (place.path().join("home"), place.path().join("real.json"));
        std::fs::create_dir_all(home.join(".codex")).unwrap();
        std::fs::write(
            &real,
            json!({"tokens": {"access_token": "old", "account_id": "a"}, "other": "longer"}).to_string(),
        )
        .unwrap();
        symlink(&real, home.join(".codex/auth.json")).unwrap();
        let before = std::fs::metadata(&real).unwrap();
        let change = || BTreeMap::from([("/tokens/access_token".to_owned(), json!("new"))]);
        write_back("codex-login", change(), &home).unwrap();
        let written: Value = serde_json::from_slice(&std::fs::read(&real).unwrap()).unwrap();
        assert_eq!(written, json!({"tokens": {"access_token": "new", "account_id": "a"}, "other": "longer"}));
        let after = std::fs::metadata(&real).unwrap();
        assert_eq!((after.mode() & 0o777, after.ino()), (0o600, before.ino()));
        assert!(home.join(".codex/auth.json").is_symlink());
        write_back("codex-login", BTreeMap::from([("/other".to_owned(), Value::Null)]), &home).unwrap();
        let shorter = json!({"tokens": {"access_token": "new", "account_id": "a"}, "other": null});
        assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&real).unwrap()).unwrap(), shorter);
        std::fs::write(&real, "{").unwrap();
        assert!(write_back("codex-login", change(), &home).is_err());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
