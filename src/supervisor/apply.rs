//! The one interpreter of plans. Runs inside the new namespaces, before the go.

use super::plan::{Contents, Identity, Plan, Step};
use super::root::Root;
use super::spawn::Listeners;
use super::trees::Trees;
use super::wire::{self, Order};
use super::{capture, network, overlay, private_place};
use crate::model::Tier;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The devices that every program may have, by name and number (Documentation/admin-guide/devices.txt): they hold and
/// reveal nothing.
pub(super) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links that programs expect in `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];
/// Room in `/dev` itself.
const DEVICE_BYTES_MAX: u64 = 1 << 20;

/// What came out of building.
#[derive(Debug)]
pub(super) struct Built {
    /// The listeners for the proxy.
    pub listeners: Listeners,
    /// Whether the host's bundle was read, so that a wait for it is not repeated.
    bundle: Option<Bundle>,
    root: Option<Root>,
    /// Our end of the way by which connections are handed over, if there is one.
    lane: Option<OwnedFd>,
}

/// The two certificate files.
#[derive(Debug)]
struct Bundle {
    merged: Vec<u8>,
    own: Vec<u8>,
}

/// A step that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The step, as printed.
    pub step: String,
    /// Why.
    pub error: io::Error,
}

/// What the interpreter needs besides the plan.
pub(super) struct Site<'a> {
    /// The opened places of the host; none as long as root has not passed them in.
    pub trees: Option<Trees>,
    /// The other side, for waiting until the certificates are made.
    pub wire: BorrowedFd<'a>,
    /// Where the proxy writes the certificates: the CA's own, then the merged bundle, see [`read_bundle`].
    pub certificates: &'a OwnedFd,
}

impl Site<'_> {
    /// The places, waited for when a step is the first to need them.
    fn trees(&mut self, plan: &Plan) -> io::Result<&mut Trees> {
        let trees = match self.trees.take() {
            Some(trees) => trees,
            None => Trees::receive(plan, self.wire)?,
        };
        Ok(self.trees.insert(trees))
    }
}

/// Cuts the mount namespace off from the host's.
pub(super) fn make_mounts_private() -> io::Result<()> {
    let all = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", all)?)
}

/// Executes every step before the go.
pub(super) fn build(plan: &Plan, site: &mut Site<'_>) -> Result<(Listeners, Option<OwnedFd>), Failure> {
    let mut built = Built { listeners: Listeners::default(), bundle: None, root: None, lane: None };
    for step in &plan.steps {
        execute(plan, step, site, &mut built).map_err(|error| Failure { step: step.to_string(), error })?;
    }
    Ok((built.listeners, built.lane))
}

/// Becomes the harness's user. All capabilities over the new namespaces stay until they are dropped.
///
/// Without asking whether it is they already: an id that the namespace does not map reads as 65534, which may be the user's.
/// Root's groups go; those of a user, on whose behalf root may have started this, stay theirs. In a new namespace this
/// process never reads as user 0.
pub(super) fn become_user(identity: &Identity) -> io::Result<()> {
    if identity.is_roots() || rustix::process::geteuid().is_root() {
        nix::unistd::setgroups(&[])?;
    }
    let (gid, uid) = (nix::unistd::Gid::from_raw(identity.gid), nix::unistd::Uid::from_raw(identity.uid));
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    Ok(())
}

fn execute(plan: &Plan, step: &Step, site: &mut Site<'_>, built: &mut Built) -> io::Result<()> {
    match step {
        Step::Hostname(name) => Ok(nix::unistd::sethostname(name)?),
        Step::PrivateMounts => make_mounts_private(),
        Step::Root { bytes } => {
            built.root = Some(Root::create(*bytes)?);
            Ok(())
        }
        Step::Loopback => network::bring_up(),
        Step::Capture => capture::load_filter(),
        Step::Listen => {
            built.listeners = network::listen()?;
            Ok(())
        }
        Step::Directory { path, mode } => private_place::make_directory(path, *mode),
        Step::Link { path, target } if plan.tier == Tier::Landlock => Ok(std::os::unix::fs::symlink(target, path)?),
        Step::File { path, mode, contents } if plan.tier == Tier::Landlock => {
            fetch(contents, site, built)?;
            private_place::write(path, bytes(contents, built)?, *mode)
        }
        Step::HandOver => {
            let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            built.listeners.handed = Some(theirs);
            built.lane = Some(ours);
            Ok(())
        }
        Step::File { contents, .. } | Step::Cover { contents, .. } => {
            fetch(contents, site, built)?;
            in_root(plan, step, site, built)
        }
        _ => in_root(plan, step, site, built),
    }
}

/// The steps that happen below the new root.
fn in_root(plan: &Plan, step: &Step, site: &mut Site<'_>, built: &Built) -> io::Result<()> {
    let root = built.root.as_ref().ok_or_else(|| io::Error::other("there is no root yet"))?;
    match step {
        Step::Private { path, mode, bytes } => root.mount_private(path, *mode, *bytes),
        Step::Link { path, target } => root.link(path, target),
        Step::Bind { mount, directory, .. } => {
            root.bind(site.trees(plan)?.take(&mount.target)?.as_fd(), mount, *directory)
        }
        Step::Overlay { mount, .. } => overlay::mount(root, site.trees(plan)?, mount),
        Step::File { path, mode, contents } => root.write(path, bytes(contents, built)?, *mode),
        Step::Cover { path, contents } => {
            root.cover(path, bytes(contents, built)?, if *contents == Contents::Unreadable { 0 } else { 0o444 })
        }
        Step::Devices { bytes } => devices(root, site.trees(plan)?, *bytes),
        Step::Processes => processes(root),
        Step::SealRoot => root.seal(),
        Step::Enter => root.enter(),
        _ => Err(io::Error::other("not a step below the root")),
    }
}

/// Waits for the certificates when a step is the first to need them.
fn fetch(contents: &Contents, site: &Site<'_>, built: &mut Built) -> io::Result<()> {
    if matches!(contents, Contents::Text(_) | Contents::Unreadable) || built.bundle.is_some() {
        return Ok(());
    }
    match wire::receive::<Order>(site.wire)? {
        Some((Order::BundleReady, _)) => {
            built.bundle = Some(read_bundle(site.certificates)?);
            Ok(())
        }
        _ => Err(io::Error::other("the certificates were not made")),
    }
}

/// Reads what the proxy wrote: the length of the CA's certificate (four bytes, native order), that certificate, the
/// merged bundle.
fn read_bundle(certificates: &OwnedFd) -> io::Result<Bundle> {
    let mut file = std::fs::File::from(certificates.try_clone()?);
    file.rewind()?;
    let mut length = [0u8; 4];
    file.read_exact(&mut length)?;
    let mut own = vec![0; u32::from_ne_bytes(length) as usize];
    file.read_exact(&mut own)?;
    let mut merged = Vec::new();
    file.read_to_end(&mut merged)?;
    Ok(Bundle { merged, own })
}

fn bytes<'a>(contents: &'a Contents, built: &'a Built) -> io::Result<&'a [u8]> {
    let bundle = || built.bundle.as_ref().ok_or_else(|| io::Error::other("the certificates were not read"));
    match contents {
        Contents::Text(text) => Ok(text.as_bytes()),
        Contents::CaBundle => Ok(&bundle()?.merged),
        Contents::CaCertificate => Ok(&bundle()?.own),
        Contents::Unreadable => Ok(b""),
    }
}

fn devices(root: &Root, trees: &mut Trees, shared_memory: u64) -> io::Result<()> {
    let dev = Path::new("/dev");
    root.mount_private(dev, 0o755, DEVICE_BYTES_MAX)?;
    for (device, ..) in DEVICES {
        let path = dev.join(device);
        root.write(&path, b"", 0o666)?;
        root.attach_device(trees.take(&path)?.as_fd(), &path)?;
    }
    for (name, target) in DEVICE_LINKS {
        root.link(&dev.join(name), Path::new(target))?;
    }
    terminals(root)?;
    root.mount_private(&dev.join("shm"), 0o1777, shared_memory)
}

/// Mounts the file system of the sandbox's own terminals (devpts).
pub(super) fn terminals(root: &Root) -> io::Result<()> {
    root.make_directory(Path::new("/dev/pts"))?;
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    mount_new(root, "devpts", "dev/pts", MountFlags::NOSUID | MountFlags::NOEXEC, options)
}

/// Mounts the file system of the sandbox's own processes (proc(5)).
pub(super) fn processes(root: &Root) -> io::Result<()> {
    root.make_directory(Path::new("/proc"))?;
    mount_new(root, "proc", "proc", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, c"")
}

/// Mounts a kernel file system by the old call, whose target is found from the working directory.
fn mount_new(root: &Root, kind: &str, target: &str, flags: MountFlags, options: &std::ffi::CStr) -> io::Result<()> {
    rustix::process::fchdir(root.directory())?;
    rustix::mount::mount(kind, target, kind, flags, options)?;
    Ok(())
}
