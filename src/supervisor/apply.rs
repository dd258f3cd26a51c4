//! The one interpreter of plans. Runs inside the new namespaces, before the go.

use super::bundle::Bundle;
use super::plan::{Contents, Identity, Plan, Step};
use super::root::Root;
use super::spawn::Listeners;
use super::trees::Trees;
use super::wire::{self, Order};
use super::{capture, network, overlay, private_place};
use crate::harness::SSH_AGENT;
use crate::model::Tier;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

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
    /// The certificates, once a step needed them.
    bundle: Option<Bundle>,
    root: Option<Rc<Root>>,
    /// Our end of the way by which connections are handed over, if there is one.
    lane: Option<OwnedFd>,
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
    /// Where the proxy writes the certificates, see [`Bundle`].
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

/// Executes the steps that make the network, which take no user and no place of the host: there is time for them while the
/// supervisor sees to both.
pub(super) fn build_network(plan: &Plan) -> Result<Listeners, Failure> {
    let mut listeners = Listeners::default();
    for step in plan.steps.iter().filter(|step| step.is_of_network()) {
        network_step(step, &mut listeners).map_err(|error| Failure { step: step.to_string(), error })?;
    }
    Ok(listeners)
}

fn network_step(step: &Step, listeners: &mut Listeners) -> io::Result<()> {
    match step {
        Step::Loopback => network::bring_up(),
        Step::Capture => capture::load_filter(),
        Step::Listen => network::listen().map(|made| *listeners = made),
        _ => Err(io::Error::other("not a step of the network")),
    }
}

/// Executes every other step before the go.
pub(super) fn build(
    plan: &Plan,
    network: Listeners,
    site: &mut Site<'_>,
) -> Result<(Listeners, Option<OwnedFd>), Failure> {
    let mut built = Built { listeners: network, bundle: None, root: None, lane: None };
    for step in plan.steps.iter().filter(|step| !step.is_of_network()) {
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
            built.root = Some(Rc::new(Root::create(*bytes)?));
            Ok(())
        }
        Step::Directory { path, mode } => private_place::make_directory(path, *mode),
        Step::Link { path, target } if plan.tier == Tier::Landlock => Ok(std::os::unix::fs::symlink(target, path)?),
        Step::File { path, mode, contents } if plan.tier == Tier::Landlock => {
            fetch(contents, site, built)?;
            private_place::write(path, &bytes(contents, built)?, *mode)
        }
        Step::HandOver => {
            let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
            built.listeners.handed = Some(theirs);
            built.lane = Some(ours);
            Ok(())
        }
        Step::SshAgent => {
            let root = built.root.clone().ok_or_else(|| io::Error::other("there is no root yet"))?;
            built.listeners.ssh = Some(root.listen(Path::new(SSH_AGENT))?);
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
fn in_root(plan: &Plan, step: &Step, site: &mut Site<'_>, built: &mut Built) -> io::Result<()> {
    let root = built.root.clone().ok_or_else(|| io::Error::other("there is no root yet"))?;
    let root = &*root;
    match step {
        Step::Private { path, mode, bytes } => root.mount_private(path, *mode, *bytes),
        Step::Link { path, target } => root.link(path, target),
        Step::Bind { mount, directory, .. } => {
            root.bind(site.trees(plan)?.take(&mount.target)?.as_fd(), mount, *directory)
        }
        Step::Overlay { mount, .. } => overlay::mount(root, site.trees(plan)?, mount),
        Step::File { path, mode, contents } => write(root, path, *mode, contents, built),
        Step::Cover { path, contents } => cover(root, path, contents, built),
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
            built.bundle = Some(Bundle::open(site.certificates)?);
            Ok(())
        }
        _ => Err(io::Error::other("the certificates were not made")),
    }
}

/// What a file holds that is small enough to be taken in.
fn bytes<'a>(contents: &'a Contents, built: &'a Built) -> io::Result<Cow<'a, [u8]>> {
    let bundle = || built.bundle.as_ref().ok_or_else(|| io::Error::other("the certificates were not read"));
    Ok(match contents {
        Contents::Text(text) => text.as_bytes().into(),
        Contents::CaBundle | Contents::CaKeyStore => bundle()?.read(contents)?.into(),
        Contents::CaCertificate => bundle()?.own().into(),
        Contents::Unreadable => Cow::default(),
    })
}

/// Writes a file below the root.
fn write(root: &Root, path: &Path, mode: u32, contents: &Contents, built: &mut Built) -> io::Result<()> {
    match (contents, &mut built.bundle) {
        (Contents::CaBundle | Contents::CaKeyStore, Some(bundle)) => bundle.write_to(root, path, mode, contents),
        _ => root.write(path, &bytes(contents, built)?, mode),
    }
}

/// Covers a file below the root; by the bundle that is there already, where it is the bundle.
fn cover(root: &Root, path: &Path, contents: &Contents, built: &Built) -> io::Result<()> {
    let written = built.bundle.as_ref().and_then(|bundle| bundle.written(contents));
    match (contents, written) {
        (Contents::CaBundle | Contents::CaKeyStore, Some(written)) => root.cover_by(written, path),
        (Contents::Unreadable, _) => root.cover(path, b"", 0),
        _ => root.cover(path, &bytes(contents, built)?, 0o444),
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
