//! What each probe does, with the calls that build real sandboxes, and what must be seen for it to count.

use super::super::lockdown::LANDLOCK_COMPLETE;
use super::super::plan::{Access, Identity, LockdownStep, Mount};
use super::super::root::Root;
use super::super::spawn::{Listeners, die_with_parent};
use super::super::warden::Warden;
use super::super::wire::{self, Notice};
use super::super::{apply, capture, lockdown, network, overlay, trees};
use super::unexpected;
use crate::sys::{self, CallAnswer, Forked, MountAttributes, set_mount_attributes};
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{WaitId, WaitIdOptions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Room in a probe's root directory, in bytes.
const ROOT_BYTES_MAX: u64 = 1 << 20;
/// A directory that every system has.
const SYSTEM: &str = "/usr";
/// Where connections are made to: addresses for documentation (RFC 5737, RFC 3849), ports that nobody serves.
pub(super) const DESTINATIONS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)), 4433),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77)), 4433),
];

pub(super) fn ids(identity: &Identity) -> io::Result<String> {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    if (uid, gid) != (identity.uid, identity.gid) {
        return Err(unexpected(format!("user {uid} and group {gid} instead of {} and {}", identity.uid, identity.gid)));
    }
    match identity.kernel_uid {
        kernel if kernel == uid => Ok(format!("user {uid}, inside as outside")),
        kernel => Ok(format!("user {uid} inside is {kernel} to the kernel")),
    }
}

pub(super) fn mounts() -> io::Result<String> {
    let root = new_root()?;
    let tree = trees::clone_tree(Path::new(SYSTEM)).map_err(io::Error::other)?;
    let mount = Mount { source: SYSTEM.into(), target: SYSTEM.into(), access: Access::ReadOnly };
    root.bind(tree.as_fd(), &mount, true)?;
    root.seal()?;
    root.enter()?;
    let created = rustix::fs::open("/new", OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR);
    let escaped = Path::new("/proc/self").exists();
    match created {
        Err(Errno::ROFS) if Path::new(SYSTEM).is_dir() && !escaped => Ok(format!("a new root with {SYSTEM} alone")),
        _ => Err(unexpected("the new root directory holds something else, or can be written to")),
    }
}

pub(super) fn overlays() -> io::Result<String> {
    overlay::rehearse(&new_root()?)?;
    Ok("a directory behind a layer".to_owned())
}

pub(super) fn processes() -> io::Result<String> {
    let root = new_root()?;
    apply::processes(&root)?;
    root.enter()?;
    match std::fs::read_link("/proc/self")?.as_os_str() == "1" {
        true => Ok("mounted; it shows the new namespace's processes".to_owned()),
        false => Err(unexpected("it shows other processes than the new namespace's")),
    }
}

pub(super) fn terminals() -> io::Result<String> {
    let root = new_root()?;
    apply::terminals(&root)?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(root.directory(), "dev/pts/ptmx", flags, Mode::empty())?;
    Ok("mounted; it opened a terminal".to_owned())
}

pub(super) fn loopback() -> io::Result<String> {
    network::bring_up()?;
    for destination in DESTINATIONS {
        let refused = connect(destination);
        if refused.as_ref().err() != Some(&Errno::CONNREFUSED) {
            return Err(unexpected(format!("{destination} is not local: {refused:?}")));
        }
    }
    Ok("up; every address of IPv4 and IPv6 is local".to_owned())
}

pub(super) fn capture() -> io::Result<String> {
    capture::load_filter()?;
    Ok("loaded in one batch".to_owned())
}

/// Builds the sandbox's network and makes a connection to each destination, which nobody has accepted yet.
pub(super) fn listen_and_connect() -> io::Result<(String, Listeners)> {
    network::bring_up()?;
    capture::load_filter()?;
    let listeners = network::listen()?;
    for destination in DESTINATIONS {
        connect(destination)?;
    }
    Ok((String::new(), listeners))
}

/// Translates the owner of `directory` on a copy of its mount that nobody else sees.
pub(super) fn owners(identity: &Identity, directory: &Path) -> io::Result<String> {
    let tree = trees::clone_tree(directory).map_err(|error| match error {
        super::super::SupervisorError::Open { error, .. } => error,
        other => io::Error::other(other),
    })?;
    let found = rustix::fs::stat(directory)?;
    let (map, _ending) = trees::id_map((found.st_uid, found.st_gid), identity)?;
    let wanted = MountAttributes { id_map: Some(map.as_fd()), recursive: true, ..Default::default() };
    set_mount_attributes(tree.as_fd(), wanted)?;
    Ok(format!("{} can be shown with another owner", directory.display()))
}

pub(super) fn landlock() -> io::Result<String> {
    let version = sys::landlock_abi()?;
    lockdown::execute(&LockdownStep::NoNewPrivileges)?;
    lockdown::execute(&LockdownStep::Landlock { write: Vec::new(), sockets: Vec::new() })?;
    match rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::ACCESS) if version >= LANDLOCK_COMPLETE => Ok(format!("version {version}")),
        Err(Errno::ACCESS) => Ok(format!("version {version}, which guards files but not yet signals")),
        _ => Err(unexpected(format!("version {version} did not keep a directory from being read"))),
    }
}

/// Locks this process in as where there are no namespaces, and reaches out.
pub(super) fn landlock_whole() -> io::Result<String> {
    let version = sys::landlock_abi()?;
    if version < LANDLOCK_COMPLETE {
        return Err(io::Error::other(format!(
            "version {version}; signals are guarded from version {LANDLOCK_COMPLETE} on"
        )));
    }
    lockdown::execute(&LockdownStep::NoNewPrivileges)?;
    let nothing = LockdownStep::Enclose { read: vec![SYSTEM.into()], devices: Vec::new(), write: Vec::new() };
    lockdown::execute(&nothing)?;
    let open = |path| rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let parent = rustix::process::getppid().ok_or_else(|| unexpected("there is no parent"))?;
    let seen = (
        open("/").err(),
        open(SYSTEM).err(),
        rustix::net::connect(&socket, &DESTINATIONS[0]).err(),
        rustix::process::test_kill_process(parent).err(),
    );
    match seen {
        (Some(Errno::ACCESS), None, Some(Errno::ACCESS), Some(Errno::PERM)) => Ok(format!("version {version}, whole")),
        seen => Err(unexpected(format!("version {version} did not keep everything in: {seen:?}"))),
    }
}

pub(super) fn seccomp() -> io::Result<String> {
    lockdown::execute(&LockdownStep::NoNewPrivileges)?;
    lockdown::execute(&LockdownStep::Seccomp)?;
    match rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None) {
        Err(Errno::PERM) => Ok("loaded; it refused a call".to_owned()),
        _ => Err(unexpected("the filter did not refuse a call")),
    }
}

/// Has a process ask for a connection, and hands it one.
pub(super) fn notifications() -> io::Result<String> {
    let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let ((post, theirs), (lane, proxy)) = (pair()?, pair()?);
    match sys::fork_single_threaded()? {
        Forked::Child => {
            drop(post);
            let failed = ask_for_a_connection(theirs.as_fd()).err();
            std::process::exit(failed.map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)));
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let listener = match wire::receive::<Notice>(post.as_fd())? {
                Some((Notice::Listening, mut descriptors)) => descriptors.pop(),
                _ => None,
            };
            listener.map_or(Ok(()), |listener| Warden::new(listener, lane, &[]).answer())?;
            let ended = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            let code = ended.and_then(|ended| ended.exit_status());
            if let Some(errno) = code.filter(|code| *code != 0) {
                return Err(io::Error::from_raw_os_error(errno));
            }
            let mut word = [0; 1];
            let (handed, _) = rustix::net::recv(&proxy, &mut word, RecvFlags::DONTWAIT)?;
            match code == Some(0) && handed == 1 {
                true => Ok("a connection was put in the place of another".to_owned()),
                false => Err(unexpected("no connection could be put in the place of another")),
            }
        }
    }
}

/// Has a process make a directory that the gate refuses.
pub(super) fn write_gate() -> io::Result<String> {
    let (post, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    match sys::fork_single_threaded()? {
        Forked::Child => {
            drop(post);
            let refused = ask_for_a_directory(theirs.as_fd()).err();
            std::process::exit(refused.map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO)));
        }
        Forked::Parent { pidfd, .. } => {
            drop(theirs);
            let listener = match wire::receive::<Notice>(post.as_fd())? {
                Some((Notice::Listening, mut descriptors)) => descriptors.pop(),
                _ => None,
            };
            if let Some(listener) = listener
                && let Some(call) = sys::receive_notified_call(listener.as_fd())?
            {
                sys::answer_call(listener.as_fd(), call.id, CallAnswer::Error(REFUSED_BY_GATE))?;
            }
            let ended = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            match ended.and_then(|ended| ended.exit_status()) {
                Some(REFUSED_BY_GATE) => Ok("a call waited for its answer".to_owned()),
                Some(errno) if errno != 0 => Err(io::Error::from_raw_os_error(errno)),
                _ => Err(unexpected("a call that was to be refused was not")),
            }
        }
    }
}

/// An error that the kernel has for no directory that could not be made.
const REFUSED_BY_GATE: i32 = libc::EKEYREJECTED;

fn ask_for_a_directory(post: BorrowedFd<'_>) -> io::Result<()> {
    die_with_parent()?;
    lockdown::execute(&LockdownStep::NoNewPrivileges)?;
    lockdown::gate()?.execute(Some(post))?;
    Ok(rustix::fs::mkdir("/proc/self/never", Mode::empty())?)
}

fn ask_for_a_connection(post: BorrowedFd<'_>) -> io::Result<()> {
    die_with_parent()?;
    lockdown::execute(&LockdownStep::NoNewPrivileges)?;
    lockdown::prepare(&[LockdownStep::SeccompNotifying], None)?
        .into_iter()
        .try_for_each(|step| step.execute(Some(post)))?;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &SocketAddr::new(network::GATEWAY_V4.into(), DESTINATIONS[0].port()))?;
    rustix::io::write(&socket, b"x")?;
    Ok(())
}

pub(super) fn close_range() -> io::Result<String> {
    let survivor = rustix::fs::memfd_create("probe", MemfdFlags::empty())?;
    sys::close_descriptors_from(3)?;
    match rustix::io::fcntl_getfd(&survivor)?.contains(rustix::io::FdFlags::CLOEXEC) {
        true => Ok("marks what a program must not inherit".to_owned()),
        false => Err(unexpected("a descriptor would be inherited all the same")),
    }
}

pub(super) fn open_beneath() -> io::Result<String> {
    let root = rustix::fs::open(SYSTEM, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let above = rustix::fs::openat2(&root, "../..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)?;
    let (inside, expected) = (rustix::fs::fstat(&above)?, rustix::fs::fstat(&root)?);
    match (inside.st_dev, inside.st_ino) == (expected.st_dev, expected.st_ino) {
        true => Ok("`..` cannot lead out of a directory".to_owned()),
        false => Err(unexpected("`..` led out of the directory")),
    }
}

pub(super) fn memory_files() -> io::Result<String> {
    let file = rustix::fs::memfd_create("probe", MemfdFlags::CLOEXEC)?;
    match rustix::io::write(&file, b"written")? {
        7 => Ok("made and written".to_owned()),
        _ => Err(unexpected("it could not be written")),
    }
}

fn new_root() -> io::Result<Root> {
    apply::make_mounts_private()?;
    Root::create(ROOT_BYTES_MAX)
}

fn connect(destination: SocketAddr) -> Result<(), Errno> {
    let family = if destination.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::connect(&socket, &destination)
}
