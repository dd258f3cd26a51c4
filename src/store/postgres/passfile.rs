//! The password, out of the file that PostgreSQL's own programs read it from.

use super::address::{Server, StoreAddress};
use crate::store::StoreError;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Largest file of passwords that is read.
const BYTES_MAX: u64 = 1 << 20;
/// Others' permissions.
const MODE_OTHERS: u32 = 0o077;

/// The file that the environment names: `$PGPASSFILE`, else `~/.pgpass`.
pub(super) fn path_from_env() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("PGPASSFILE").or_else(|| named("HOME").map(|home| home.join(".pgpass")))
}

/// The password for an address in this file; none where the file is not there or has none.
///
/// # Errors
/// [`StoreError::Passwords`] when others could read the file, or it cannot be read.
pub(super) fn password(path: &Path, address: &StoreAddress) -> Result<Option<String>, StoreError> {
    let failed = |why: String| StoreError::Passwords { path: path.to_owned(), why };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed(error.to_string()))?,
    };
    let found = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !found.is_file() {
        return Err(failed("it is no file".to_owned()));
    }
    if found.mode() & MODE_OTHERS != 0 {
        return Err(failed(format!("others may use it (mode {:03o}); run `chmod 600` on it", found.mode() & 0o777)));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    Ok(find(&text, address))
}

/// The first line that fits: `HOST:PORT:DATABASE:USER:PASSWORD`, where `*` fits everything and `\` makes the next
/// character an ordinary one. A socket goes by its directory, and by `localhost`.
fn find(text: &str, address: &StoreAddress) -> Option<String> {
    let hosts: Vec<String> = match &address.server {
        Server::Socket(directory) => vec![directory.display().to_string(), "localhost".to_owned()],
        Server::Name(name) => vec![name.clone()],
    };
    let port = address.port.to_string();
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [host, wanted_port, database, user, password] = fields.as_slice() else { return None };
        let fits = |field: &str, value: &str| field == "*" || field == value;
        let all = hosts.iter().any(|known| fits(host, known))
            && fits(wanted_port, &port)
            && fits(database, &address.database)
            && fits(user, &address.user);
        all.then(|| password.clone())
    })
}

/// A line's fields, at most five: the last may have colons.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let last = fields.len() == 5;
        match character {
            ':' if !last => fields.push(String::new()),
            other => {
                let plain = if other == '\\' { characters.next().unwrap_or('\\') } else { other };
                fields.last_mut().into_iter().for_each(|field| field.push(plain));
            }
        }
    }
    fields
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn address(text: &str) -> StoreAddress {
        StoreAddress::parse(text, "ada").unwrap()
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# host:port:database:user:password\ndb:5432:omni:bob:no\ndb:*:omni:ada:a\\:b:c\n*:*:*:*:rest\n";
        assert_eq!(find(text, &address("postgres://db/omni")).as_deref(), Some("a:b:c"));
        assert_eq!(find(text, &address("postgres://other/omni")).as_deref(), Some("rest"));
        assert_eq!(find("localhost:*:omni:ada:s\n", &address("postgres:///omni?host=/run")).as_deref(), Some("s"));
        assert_eq!(find("db:1:omni:ada:s\n", &address("postgres://db/omni")), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("pass");
        let at = address("postgres://db/omni");
        assert_eq!(password(&path, &at).unwrap(), None);
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(password(&path, &at).unwrap_err().to_string().contains("chmod 600"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password(&path, &at).unwrap().as_deref(), Some("secret"));
    }
}
