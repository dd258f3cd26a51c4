//! The directory that holds everything omni keeps, and where in it things lie.

use super::{HomeFault, StoreAddress, StoreError};
use crate::model::{SessionId, Writer};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The directory of a person's own profiles.
const PROFILES: &str = "profiles";
/// The variable that names the store.
const STORE_VARIABLE: &str = "OMNI_STORE";
/// Most that is read of the file that names the store.
const STORE_BYTES_MAX: u64 = 4096;
/// Group and others' permission to write.
const MODE_WRITE_OTHERS: u32 = 0o022;

/// A directory that was found to be ours alone to write: `sessions/ID/{session,proxy}.journal`,
/// `sessions/ID/terminal.cast` of those that were recorded, `omni.db`, and a person's own `profiles/NAME.yaml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
    /// The store that its records are kept in, where that is not the one embedded in it.
    store: Option<StoreAddress>,
}

/// What the command line says of the store, which goes before the environment.
static CHOSEN: OnceLock<String> = OnceLock::new();

/// Has [`Home::from_env`] use the store at this address, whatever the environment says. Once for a process.
pub fn choose_store(address: String) {
    // Whoever was first stays: a command line says it once.
    let _ = CHOSEN.set(address);
}

impl Home {
    /// Opens the home that the environment names: `$OMNI_HOME`, else `$XDG_DATA_HOME/omni`, else `~/.local/share/omni`.
    ///
    /// # Errors
    /// [`StoreError::HomeUnknown`] when nothing names one, and whatever [`Home::open`] finds.
    pub fn from_env() -> Result<Self, StoreError> {
        let path = locate(|name| std::env::var_os(name)).ok_or(StoreError::HomeUnknown)?;
        let home = Self::open(&path)?;
        let named = || std::env::var_os(STORE_VARIABLE).filter(|value| !value.is_empty());
        match CHOSEN.get().cloned().map(OsString::from).or_else(named) {
            Some(text) => {
                let not_text = |_| StoreError::Address { why: "it is not UTF-8".to_owned() };
                home.with_store(&text.into_string().map_err(not_text)?)
            }
            None => Ok(home),
        }
    }

    /// The same home with its records in the store at this address.
    ///
    /// # Errors
    /// [`StoreError::Address`].
    pub fn with_store(self, text: &str) -> Result<Self, StoreError> {
        let store = Some(StoreAddress::parse(text.trim(), &login())?);
        Ok(Self { store, ..self })
    }

    /// The same home with its records in the store that is embedded in it, whatever else was said.
    #[must_use]
    pub fn embedded(self) -> Self {
        Self { store: None, ..self }
    }

    /// The store that its records are kept in, where that is not the one embedded in it.
    #[must_use]
    pub fn store(&self) -> Option<&StoreAddress> {
        self.store.as_ref()
    }

    /// The file that names the store, for all that run with this home.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.path.join("store")
    }

    /// What the file names.
    fn read_store(path: &Path) -> Result<Option<StoreAddress>, StoreError> {
        let file = path.join("store");
        let wrong = |why: String| StoreError::Address { why: format!("{}: {why}", file.display()) };
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let opened = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&file);
        let opened = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| wrong(error.to_string()))?,
        };
        let mut text = String::new();
        opened.take(STORE_BYTES_MAX).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
        match text.trim() {
            "" => Ok(None),
            text => StoreAddress::parse(text, &login()).map(Some).map_err(|error| wrong(error.to_string())),
        }
    }

    /// Opens a home, making the directory with mode 0700 when it is missing.
    ///
    /// # Errors
    /// [`StoreError::HomeUnsafe`] for a symbolic link, another's directory or one that others can write to;
    /// [`StoreError::HomeOpen`] when it cannot be made.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |cause| StoreError::HomeOpen { path: path.to_owned(), cause };
        let path = &std::path::absolute(path).map_err(failed)?;
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(path, true).map_err(failed)?;
                fs::symlink_metadata(path).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        match fault(&found) {
            Some(fault) => Err(StoreError::HomeUnsafe { path: path.clone(), fault }),
            None => Ok(Self { path: path.clone(), store: Self::read_store(path)? }),
        }
    }

    /// A home that is there already, for reading: whoever it belongs to, and whoever may write to it.
    ///
    /// # Errors
    /// [`StoreError::HomeOpen`] when it is no directory.
    pub fn find(path: &Path) -> Result<Self, StoreError> {
        let failed = |cause| StoreError::HomeOpen { path: path.to_owned(), cause };
        let whole = std::path::absolute(path).map_err(failed)?;
        match fs::metadata(&whole).map_err(failed)?.is_dir() {
            true => Ok(Self { path: whole, store: None }),
            false => Err(failed(io::ErrorKind::NotADirectory.into())),
        }
    }

    /// The file of a person's own profile of that name, whether it is there or not; none when nothing names a home, or
    /// for a name that is no file's. It lies where no sandbox reaches, so that no harness can widen its own profile.
    #[must_use]
    pub fn profile_from_env(name: &str) -> Option<PathBuf> {
        let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        let home = locate(|name| std::env::var_os(name)).filter(|_| plain)?;
        Some(home.join(PROFILES).join(format!("{name}.yaml")))
    }

    /// Where [`Home::from_env`] would be, whether it is there or not. Nothing is made.
    ///
    /// # Errors
    /// [`StoreError::HomeUnknown`] when nothing names one.
    pub fn path_from_env() -> Result<PathBuf, StoreError> {
        let path = locate(|name| std::env::var_os(name)).ok_or(StoreError::HomeUnknown)?;
        std::path::absolute(&path).map_err(|cause| StoreError::HomeOpen { path, cause })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database's file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join("omni.db")
    }

    /// The file of the consents that people gave beyond one session.
    #[must_use]
    pub fn consents(&self) -> PathBuf {
        self.path.join("consents.jsonl")
    }

    /// The directory with one directory for each session.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.path.join("sessions")
    }

    /// One session's directory.
    #[must_use]
    pub fn session(&self, session: &SessionId) -> PathBuf {
        self.sessions().join(session.as_str())
    }

    /// One journal's file.
    #[must_use]
    pub fn journal(&self, session: &SessionId, writer: Writer) -> PathBuf {
        self.session(session).join(format!("{}.journal", writer.as_str()))
    }

    /// The file by which the write gates of sessions in one place exclude each other.
    #[must_use]
    pub fn place_locks(&self) -> PathBuf {
        self.path.join("places.lock")
    }

    /// The directory with the ledger: its entries, hashes, checkpoint and key.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger")
    }

    /// The directory of this home's witness: its key, and what it signed last of each ledger.
    #[must_use]
    pub fn witness(&self) -> PathBuf {
        self.path.join("witness")
    }

    /// The directory with how far each place has got that records are shipped to.
    #[must_use]
    pub fn shipping(&self) -> PathBuf {
        self.path.join("shipping")
    }

    /// The file with what one session's terminal showed.
    #[must_use]
    pub fn recording(&self, session: &SessionId) -> PathBuf {
        self.session(session).join("terminal.cast")
    }

    /// The file with the bodies that one session recorded.
    #[must_use]
    pub fn bodies(&self, session: &SessionId) -> PathBuf {
        self.session(session).join("bodies")
    }

    /// The directory with a key for each session that has private parts. What leaves it out copies none of them.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.path.join("keys")
    }

    /// The key of one session's private parts.
    #[must_use]
    pub fn private_key(&self, session: &SessionId) -> PathBuf {
        self.keys().join(session.as_str())
    }

    /// What is there once one session's private parts were destroyed.
    #[must_use]
    pub fn forgotten(&self, session: &SessionId) -> PathBuf {
        self.session(session).join("forgotten")
    }

    /// Makes a session's directory, unless another of its processes did already.
    pub(super) fn create_session(&self, session: &SessionId) -> io::Result<()> {
        for path in [self.sessions(), self.session(session)] {
            match create(&path, false) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !fs::symlink_metadata(&path)?.is_dir() {
                        return Err(error);
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }
}

/// The name that this process's user logs in by, as PostgreSQL's own programs take it.
fn login() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    user.map(|user| user.name).unwrap_or_default()
}

/// Makes a directory that is ours alone.
fn create(path: &Path, parents: bool) -> io::Result<()> {
    DirBuilder::new().recursive(parents).mode(0o700).create(path)
}

/// Where the home is, as the environment has it. A relative XDG directory does not count, as its standard says.
fn locate(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let xdg = || path("XDG_DATA_HOME").filter(|data| data.is_absolute()).map(|data| data.join("omni"));
    path("OMNI_HOME").or_else(xdg).or_else(|| path("HOME").map(|home| home.join(".local/share/omni")))
}

/// What speaks against keeping sessions in this directory.
fn fault(found: &fs::Metadata) -> Option<HomeFault> {
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    let mode = found.permissions().mode() & 0o7777;
    if found.is_symlink() {
        Some(HomeFault::Symlink)
    } else if !found.is_dir() {
        Some(HomeFault::NotDirectory)
    } else if owner != user {
        Some(HomeFault::Owner { owner, user })
    } else if mode & MODE_WRITE_OTHERS != 0 {
        Some(HomeFault::Mode { mode })
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> HomeFault {
        match Home::open(path) {
            Err(StoreError::HomeUnsafe { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_home_is_made_for_us_alone() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("a/b")).unwrap();
        assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(Home::open(home.path()).unwrap(), home);
    }

    #[test]
    fn refuses_a_link_a_file_and_a_directory_others_can_write_to() {
        let place = tempfile::tempdir().unwrap();
        let (link, file, open) = (place.path().join("link"), place.path().join("file"), place.path().join("open"));
        std::os::unix::fs::symlink(place.path(), &link).unwrap();
        fs::write(&file, "").unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(refusal(&link), HomeFault::Symlink);
        assert_eq!(refusal(&file), HomeFault::NotDirectory);
        assert_eq!(refusal(&open), HomeFault::Mode { mode: 0o770 });
    }

    #[test]
    fn the_environment_names_the_home() {
        let located = |pairs: &[(&str, &str)]| {
            locate(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value)))
        };
        let all = [("OMNI_HOME", "/o"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(located(&all), Some("/o".into()));
        assert_eq!(located(&all[1..]), Some("/x/omni".into()));
        assert_eq!(located(&all[2..]), Some("/h/.local/share/omni".into()));
        assert_eq!(located(&[("XDG_DATA_HOME", "x"), ("HOME", "/h")]), Some("/h/.local/share/omni".into()));
        assert_eq!(located(&[("OMNI_HOME", "")]), None);
    }
}
