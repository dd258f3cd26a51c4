//! Where the server's things are, and the socket that users come to.

use super::error::ServerError;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The socket, where nothing else is said.
pub const SOCKET: &str = "/run/omni/omni.sock";
/// The machine's own files: `system.yaml`, `secrets.yaml`, `policies/*.yaml`.
pub const CONFIGURATION: &str = "/etc/omni";
/// The records.
pub const HOME: &str = "/var/lib/omni";

/// Visitors whom the kernel keeps until they are let in.
const BACKLOG: i32 = 128;
/// Others' permission to write.
const MODE_WRITE_OTHERS: u32 = 0o022;

/// Where one server has its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The socket.
    pub socket: PathBuf,
    /// The machine's own files.
    pub configuration: PathBuf,
    /// The records.
    pub home: PathBuf,
}

/// The socket and what keeps a second server away from it. Neither is removed at the end: a socket that nobody listens to
/// says so itself.
#[derive(Debug)]
pub(super) struct Door {
    pub listener: OwnedFd,
    _lock: OwnedFd,
}

impl Settings {
    /// Where the server notes the sessions that run, for the next server.
    pub(super) fn roll(&self) -> PathBuf {
        self.directory().join("running")
    }

    fn directory(&self) -> PathBuf {
        self.socket.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
    }

    /// Opens the socket for everybody; who comes is known by the kernel's word. Its directory must be such that nobody
    /// else could put a socket there.
    pub(super) fn open(&self) -> Result<Door, ServerError> {
        let directory = self.directory();
        make_directory(&directory, 0o755)?;
        make_directory(&self.roll(), 0o700)?;
        let lock_path = self.socket.with_extension("lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(CWD, &lock_path, flags, Mode::from_raw_mode(0o600));
        let lock = lock.map_err(ServerError::at("open", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(ServerError::Running(self.socket.clone())),
            other => other.map_err(ServerError::at("lock", &lock_path))?,
        }
        Ok(Door { listener: self.listen()?, _lock: lock })
    }

    /// Bound under another name first, so that there is no moment without a socket while one server follows another.
    fn listen(&self) -> Result<OwnedFd, ServerError> {
        let new = self.socket.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ServerError::at("remove", &new)(error));
            }
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let listener = listener.map_err(ServerError::calling("make a socket"))?;
        let address = SocketAddrUnix::new(&new).map_err(ServerError::at("name a socket", &new))?;
        rustix::net::bind(&listener, &address).map_err(ServerError::at("bind", &new))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o666)).map_err(ServerError::at("open to all", &new))?;
        rustix::net::listen(&listener, BACKLOG).map_err(ServerError::at("listen at", &new))?;
        fs::rename(&new, &self.socket).map_err(ServerError::at("make", &self.socket))?;
        Ok(listener)
    }
}

/// Makes a directory of root's, or takes one that is.
fn make_directory(path: &Path, mode: u32) -> Result<(), ServerError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(ServerError::at("make", path)(error)),
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(ServerError::at("look at", path))?;
    if !found.is_dir() {
        return Err(ServerError::Unsafe { path: path.to_owned(), fault: "is no directory" });
    }
    check_owner(path, &found)
}

/// Refuses what somebody else than root could change.
pub(super) fn check_owner(path: &Path, found: &Metadata) -> Result<(), ServerError> {
    let refuse = |fault| Err(ServerError::Unsafe { path: path.to_owned(), fault });
    match found {
        _ if found.uid() != 0 => refuse("does not belong to root"),
        _ if found.mode() & MODE_WRITE_OTHERS != 0 => refuse("can be changed by others than root"),
        _ => Ok(()),
    }
}
