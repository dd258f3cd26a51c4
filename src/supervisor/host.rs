//! What a plan has to know about the host, read in one go so that planning itself is pure.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// System directories that every sandbox sees read-only, where the host has them.
pub const SYSTEM_PATHS: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix"];

/// Files by which distributions let programs find the trusted certificates.
const CA_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Files by which distributions let every Java they bring find them: Debian's and Arch's, Fedora's, SUSE's.
const CA_KEY_STORES: [&str; 4] = [
    "/etc/ssl/certs/java/cacerts",
    "/etc/pki/ca-trust/extracted/java/cacerts",
    "/etc/pki/java/cacerts",
    "/var/lib/ca-certificates/java-cacerts",
];

/// Where programs of the user's listen in the home: whoever reaches one acts with the user's keys, or as root.
pub(super) const HOME_SOCKETS: [&str; 13] = [
    "~/.docker/run",
    "~/.docker/desktop",
    "~/.colima/docker.sock",
    "~/.colima/default/docker.sock",
    "~/.rd/docker.sock",
    "~/.orbstack/run",
    "~/.local/share/containers/podman/machine/podman.sock",
    "~/.1password/agent.sock",
    "~/.ssh/agent",
    "~/.gnupg/S.gpg-agent",
    "~/.gnupg/S.gpg-agent.extra",
    "~/.gnupg/S.gpg-agent.ssh",
    "~/.gnupg/S.gpg-agent.browser",
];

/// Most links on the way to a place.
const LINKS_MAX: usize = 40;

/// Where daemons listen in the system's directories: Nix's builds what it is asked to, outside.
pub(super) const SYSTEM_SOCKETS: [&str; 1] = ["/nix/var/nix/daemon-socket"];

/// Files of `/etc` that the sandbox replaces.
const REPLACED: [&str; 4] = ["/etc/passwd", "/etc/group", "/etc/resolv.conf", "/etc/hosts"];

/// Which file it is, however it is called (inode(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileId {
    /// The file system's device number.
    pub device: u64,
    /// The number within it.
    pub inode: u64,
}

impl FileId {
    /// That of a file that was looked at.
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// One place on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathFacts {
    /// The place itself, with every symbolic link followed.
    pub real: PathBuf,
    /// Whether it is a directory.
    pub directory: bool,
    /// The owner on the disk.
    pub uid: u32,
    /// The group on the disk.
    pub gid: u32,
    /// Where the path itself points, when it is a symbolic link.
    pub link: Option<PathBuf>,
    /// Where the links lie that were followed on the way to the place.
    pub followed: Vec<PathBuf>,
    /// Which file was looked at, so that another in its place is noticed.
    pub id: FileId,
    /// Whether it is found under a name in other letters too, by a file system that this kernel does not fold names for:
    /// to the kernel they are two files, and a mount in front of the one leaves the other as it is.
    pub folded: bool,
    /// What it is, where it is neither a file nor a directory.
    pub special: Option<&'static str>,
}

/// The host as far as a plan cares.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// The caller's effective user id.
    pub uid: u32,
    /// The caller's effective group id.
    pub gid: u32,
    /// The caller's login name.
    pub user: String,
    /// The caller's home directory.
    pub home: PathBuf,
    /// The host's `/etc/passwd`, for the names of others.
    pub passwd: String,
    /// The host's `/etc/group`.
    pub group: String,
    /// Everything that was looked at and exists.
    pub paths: BTreeMap<PathBuf, PathFacts>,
    /// A place of which it could not be found out whether it is there, and why not: with it, nothing can be planned.
    pub unknown: Option<(PathBuf, String)>,
}

impl HostFacts {
    /// Reads the facts; `candidates` are further paths that the plan will ask about.
    #[must_use]
    pub fn gather(home: &Path, user: &str, candidates: &[PathBuf]) -> Self {
        let known = SYSTEM_PATHS
            .iter()
            .chain(&CA_BUNDLES)
            .chain(&CA_KEY_STORES)
            .chain(&REPLACED)
            .chain(&SYSTEM_SOCKETS)
            .map(PathBuf::from);
        let (mut paths, mut unknown) = (BTreeMap::new(), None);
        for path in known.chain(candidates.iter().cloned()) {
            match look_at(&path) {
                Ok(Some(facts)) => drop(paths.insert(path, facts)),
                Ok(None) => {}
                Err(error) => unknown = Some((path, error.to_string())),
            }
        }
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            user: user.to_owned(),
            home: home.to_owned(),
            passwd: std::fs::read_to_string("/etc/passwd").unwrap_or_default(),
            group: std::fs::read_to_string("/etc/group").unwrap_or_default(),
            paths,
            unknown,
        }
    }

    /// The system directories the host has, in mounting order.
    pub(super) fn system(&self) -> impl Iterator<Item = (PathBuf, &PathFacts)> {
        SYSTEM_PATHS.iter().map(PathBuf::from).filter_map(|path| self.paths.get(&path).map(|facts| (path, facts)))
    }

    /// Where the host keeps its trusted certificates, each real file once.
    pub(super) fn ca_bundles(&self) -> Vec<PathBuf> {
        self.real_files(&CA_BUNDLES)
    }

    /// Where the host keeps them for Java, likewise.
    pub(super) fn key_stores(&self) -> Vec<PathBuf> {
        self.real_files(&CA_KEY_STORES)
    }

    fn real_files(&self, paths: &[&str]) -> Vec<PathBuf> {
        let found = paths.iter().filter_map(|path| self.paths.get(Path::new(path))).map(|facts| facts.real.clone());
        // What lies elsewhere is not to be seen, so that there is nothing to stand in front of.
        let mut real: Vec<_> =
            found.filter(|real| SYSTEM_PATHS.iter().any(|system| real.starts_with(system))).collect();
        real.sort();
        real.dedup();
        real
    }
}

/// What is at a path. Where nothing is, and where nothing can be reached, there is nothing to show or to hide; any other
/// answer leaves open whether there is.
fn look_at(path: &Path) -> io::Result<Option<PathFacts>> {
    let found = path.canonicalize().and_then(|real| Ok((real.metadata()?, real)));
    let (metadata, real) = match found {
        Err(error) if is_absence(&error) => return Ok(None),
        other => other?,
    };
    let followed = if real == path { Some(Vec::new()) } else { links(path)? };
    let Some(followed) = followed else { return Ok(None) };
    let link = if followed.is_empty() { None } else { link_at(path)? };
    Ok(Some(PathFacts {
        directory: metadata.is_dir(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        link,
        followed,
        id: FileId { device: metadata.dev(), inode: metadata.ino() },
        folded: is_folded(&real)?,
        special: special(metadata.file_type()),
        real,
    }))
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ELOOP))
}

/// File systems that fold the names of some directories in the kernel itself (linux/magic.h), so that a name in other letters
/// is the same file to it.
const FOLDED_BY_THE_KERNEL: [i64; 3] = [libc::EXT4_SUPER_MAGIC, libc::F2FS_SUPER_MAGIC, libc::TMPFS_MAGIC];

/// Whether a file is found under its name with the letters' case exchanged, without being listed under it.
fn is_folded(real: &Path) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (real.parent(), real.file_name().and_then(|name| name.to_str())) else {
        return Ok(false);
    };
    let exchange = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
    let other: String = name.chars().map(exchange).collect();
    if other == name || parent.join(&other).symlink_metadata().is_err() {
        return Ok(false);
    }
    if FOLDED_BY_THE_KERNEL.contains(&rustix::fs::statfs(real)?.f_type) {
        return Ok(false);
    }
    let mut listed = parent.read_dir()?;
    Ok(!listed.any(|entry| entry.is_ok_and(|entry| entry.file_name() == other.as_str())))
}

fn special(kind: std::fs::FileType) -> Option<&'static str> {
    match () {
        () if kind.is_socket() => Some("a socket"),
        () if kind.is_fifo() => Some("a named pipe"),
        () if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        () => None,
    }
}

/// Where a path itself points, if it is a link.
fn link_at(path: &Path) -> io::Result<Option<PathBuf>> {
    match path.read_link() {
        // What is no link says EINVAL.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput || is_absence(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// The links that lie on the way to a place, each with every link above it followed.
fn links(path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    let mut found = Vec::new();
    let (mut place, mut ahead) = (PathBuf::from("/"), VecDeque::new());
    ahead.extend(path.components().map(|part| part.as_os_str().to_owned()));
    while let Some(part) = ahead.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => place = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(place.pop()),
            Some(Component::Normal(name)) => match link_at(&place.join(name))? {
                None => place.push(name),
                Some(target) => {
                    found.push(place.join(name));
                    let parts = target.components().map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>();
                    parts.into_iter().rev().for_each(|part| ahead.push_front(part));
                }
            },
            _ => {}
        }
        // The kernel follows no more either (path_resolution(7)); somebody is changing what is being looked at.
        if found.len() > LINKS_MAX {
            return Ok(None);
        }
    }
    Ok(Some(found))
}
