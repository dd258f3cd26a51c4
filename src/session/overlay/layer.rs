//! The layer's directory in omni's home: `sessions/ID/overlay/`, with what the kernel writes below `layer/` and what omni
//! must remember to compare later in `base.json`.

use super::dir::Dir;
use super::error::OverlayError;
use super::facts::{Beginning, Moment};
use super::path::RelPath;
use crate::model::SessionId;
use crate::store::Home;
use crate::supervisor::{Identity, OVERLAY_UPPER, OVERLAY_WORK, Plan, Step};
use rustix::fs::{FlockOperation, Mode, OFlags, XattrFlags};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The directory of a session that holds all about its overlay.
const OVERLAY: &str = "overlay";
/// What the sandbox writes to, through the kernel.
const LAYER: &str = "layer";
/// What omni notes when the session begins.
const BASE: &str = "base.json";
/// Held by whoever applies or discards.
const LOCK: &str = "lock";
/// An overlay that was discarded and is being removed.
const REMOVED: &str = "overlay.removed";
/// What the file systems are that the kernel takes no layer on (statfs(2)); the others are found out by trying.
const UNFIT: [(i64, &str); 3] = [
    (0x794c_7630, "its file system is an overlay itself"),
    (0x6969, "it lies on NFS"),
    (0x6573_5546, "its file system is in user space (FUSE)"),
];
/// An attribute such as the kernel will set.
const TRIAL: &str = "user.overlay.omni";
/// Longest notes that are read.
const NOTES_BYTES_MAX: u64 = 1 << 20;

/// What omni notes when the session begins, in order to tell later what the host changed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    /// The workspace, without its leading slash.
    workspace: RelPath,
    /// The clock that files are stamped by.
    started: Moment,
    /// How far that clock was ahead of one that is never set, in nanoseconds, and since which boot that counts.
    ahead: i128,
    boot: String,
    /// The workspace's owner, whose the harness's files become.
    owner: (u32, u32),
    /// Who the harness is to the kernel.
    harness: (u32, u32),
}

/// A session's layer that is there.
#[derive(Debug)]
pub struct Layer {
    pub(super) session: SessionId,
    /// `sessions/ID/overlay`, by a path that the layer's owner can go.
    pub(super) place: PathBuf,
    pub(super) base: Base,
    /// The same as people find it.
    pub(super) named: PathBuf,
    /// It, where it is reached by this alone.
    _open: Option<OwnedFd>,
}

/// The directory that holds all about a session's overlay.
pub(super) fn place(home: &Home, session: &SessionId) -> PathBuf {
    home.session(session).join(OVERLAY)
}

/// The directory that a session's plan names as its layer.
pub(in crate::session) fn layer_path(home: &Path, session: &SessionId) -> PathBuf {
    // As Home::session has it; a plan is made without the home being there.
    home.join("sessions").join(session.as_str()).join(OVERLAY).join(LAYER)
}

/// Whether a session left anything in its layer. Cheap, and true too where nothing came of it.
#[must_use]
pub fn is_waiting(home: &Home, session: &SessionId) -> bool {
    let upper = place(home, session).join(LAYER).join(OVERLAY_UPPER);
    Dir::open(&upper).and_then(|upper| upper.is_empty()).is_ok_and(|empty| !empty)
}

/// Makes the layer that a plan names, where it names one, and notes what the comparison will need.
pub(in crate::session) fn create_layer(plan: &Plan) -> Result<(), OverlayError> {
    let overlay = plan.steps.iter().find_map(|step| match step {
        Step::Overlay { mount, layer, .. } => Some((mount.source.as_path(), layer.as_path())),
        _ => None,
    });
    let Some((workspace, layer)) = overlay else { return Ok(()) };
    refuse_submounts(workspace)?;
    let place = layer.parent().unwrap_or(layer);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| OverlayError::Create { path, error }
    };
    let found = workspace.metadata().map_err(failed(workspace))?;
    let harness = (plan.identity.kernel_uid, plan.identity.kernel_gid);
    let is_roots = plan.identity.is_roots();
    // The layer of a session that root runs for a user is that user's, in a directory of root's that they cannot enter.
    let is_anothers = !is_roots && harness.0 != rustix::process::geteuid().as_raw();
    // Root's harness stands for whoever the workspace belongs to; an ordinary user stands for nobody else.
    if !is_roots && (found.uid(), found.gid()) != harness {
        let owner = (found.uid(), found.gid());
        return Err(OverlayError::Foreign { workspace: workspace.to_owned(), owner, user: harness });
    }
    let (upper, work) = (layer.join(OVERLAY_UPPER), layer.join(OVERLAY_WORK));
    for (path, mode) in [(place, 0o700), (layer, 0o700), (&upper, found.mode() & 0o777), (&work, 0o700)] {
        DirBuilder::new().mode(0o700).create(path).map_err(failed(path))?;
        // The upper directory's bits are the workspace's as the harness sees it, whatever the umask.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed(path))?;
    }
    refuse_unfit(&upper)?;
    let base = Base::note(workspace, (found.uid(), found.gid()), &plan.identity);
    let notes = serde_json::to_vec(&base).map_err(|error| failed(place)(error.into()))?;
    let noted = place.join(BASE);
    fs::write(&noted, notes).map_err(failed(place))?;
    let theirs = [layer, &upper, &work, &noted, place];
    let given = if is_anothers { &theirs[..] } else { &theirs[..if is_roots { 3 } else { 0 }] };
    given.iter().try_for_each(|path| chown(path, Some(harness.0), Some(harness.1)).map_err(failed(path)))
}

/// Removes the layer of a session that changed nothing, so that nothing seems to wait.
pub(in crate::session) fn remove_if_empty(home: &Home, session: &SessionId) -> Result<(), OverlayError> {
    let upper = place(home, session).join(LAYER).join(OVERLAY_UPPER);
    match Dir::open(&upper).and_then(|upper| upper.is_empty()) {
        Ok(true) => remove(home, session),
        _ => Ok(()),
    }
}

/// Removes a session's overlay and all that lies in it. It is out of the way at once, also when this is cut short.
pub(super) fn remove(home: &Home, session: &SessionId) -> Result<(), OverlayError> {
    let directory = home.session(session);
    let failed = || OverlayError::preparing("remove the layer");
    sweep(home, session)?;
    match fs::rename(directory.join(OVERLAY), directory.join(REMOVED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed())?,
    }
    sweep(home, session)
}

/// Removes what an earlier removal left.
pub(super) fn sweep(home: &Home, session: &SessionId) -> Result<(), OverlayError> {
    let failed = |error| OverlayError::Prepare { step: "remove the layer", error };
    let directory = match Dir::open(&home.session(session)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    let names = directory.names().map_err(failed)?;
    // What was nested too deep was moved up under names that begin so.
    let mut removed = names.iter().filter(|name| name.starts_with(REMOVED.as_bytes()));
    removed.try_for_each(|name| super::discard::remove_tree(&directory, name)).map_err(failed)
}

/// Overlayfs shows one file system and none that is mounted in it.
fn refuse_submounts(workspace: &Path) -> Result<(), OverlayError> {
    let failed = OverlayError::preparing("read what is mounted");
    let mounts = fs::read("/proc/self/mountinfo").map_err(failed)?;
    match submount(&mounts, workspace) {
        Some(mount) => Err(OverlayError::Submount { workspace: workspace.to_owned(), mount }),
        None => Ok(()),
    }
}

/// The first mount below a directory. A line's fifth field is where it is mounted, with four characters as octal numbers
/// (proc_pid_mountinfo(5)).
fn submount(mounts: &[u8], workspace: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let places = mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let mut places = places.map(|field| PathBuf::from(std::ffi::OsString::from_vec(unescape(field))));
    places.find(|place| place != workspace && place.starts_with(workspace))
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
            digits.iter().try_fold(0u32, |sum, digit| char::from(*digit).to_digit(8).map(|digit| sum * 8 + digit))
        });
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// Where the layer lies must hold attributes that the user sets: without them the kernel mounts all the same, and a
/// directory that was removed and made again would show its old contents.
fn refuse_unfit(upper: &Path) -> Result<(), OverlayError> {
    let unfit = |why: &str| OverlayError::Unfit { path: upper.to_owned(), why: why.to_owned() };
    let kind = rustix::fs::statfs(upper).map_err(|error| unfit(&error.to_string()))?.f_type;
    if let Some((_, why)) = UNFIT.iter().find(|(magic, _)| *magic == kind) {
        return Err(unfit(why));
    }
    let tried = rustix::fs::setxattr(upper, TRIAL, b"y", XattrFlags::empty())
        .and_then(|()| rustix::fs::removexattr(upper, TRIAL));
    tried.map_err(|error| unfit(&format!("its file system keeps no attributes of users ({error})")))
}

impl Base {
    fn note(workspace: &Path, owner: (u32, u32), identity: &Identity) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let bytes = workspace.as_os_str().as_bytes();
        let relative = bytes.strip_prefix(b"/").unwrap_or(bytes);
        Self {
            // A workspace was canonicalised.
            workspace: RelPath::parse(relative).unwrap_or_default(),
            started: now(),
            ahead: ahead(),
            boot: boot(),
            owner,
            harness: (identity.kernel_uid, identity.kernel_gid),
        }
    }

    /// From when on a file's stamp says that the host changed it. A clock that was set back stamps too early.
    pub(super) fn beginning(&self) -> Beginning {
        let back = if boot() == self.boot { (self.ahead - ahead()).max(0) } else { 0 };
        let started = i128::from(self.started.seconds) * NANOSECONDS + i128::from(self.started.nanoseconds);
        // Setting a clock smoothly moves it against the other too, by less than this in any session that matters.
        let started = if back > DRIFT_NANOSECONDS_MAX { started - back } else { started };
        Beginning(moment(started))
    }

    /// The workspace on the host.
    pub(super) fn workspace(&self) -> PathBuf {
        Path::new("/").join(self.workspace.as_path())
    }

    /// Whose a file of the layer is on the host.
    pub(super) fn owner(&self, uid: u32, gid: u32) -> (u32, u32) {
        (if uid == self.harness.0 { self.owner.0 } else { uid }, if gid == self.harness.1 { self.owner.1 } else { gid })
    }
}

const NANOSECONDS: i128 = 1_000_000_000;
/// What a clock may move back against one that is never set without having been set: noise of reading the two.
const DRIFT_NANOSECONDS_MAX: i128 = NANOSECONDS / 1000;

fn moment(nanoseconds: i128) -> Moment {
    Moment {
        seconds: i64::try_from(nanoseconds.div_euclid(NANOSECONDS)).unwrap_or_default(),
        nanoseconds: u32::try_from(nanoseconds.rem_euclid(NANOSECONDS)).unwrap_or_default(),
    }
}

fn nanoseconds(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * NANOSECONDS + i128::from(time.tv_nsec)
}

/// The clock that files are stamped by, which is behind the other by up to a tick.
fn now() -> Moment {
    moment(nanoseconds(ClockId::RealtimeCoarse))
}

fn ahead() -> i128 {
    nanoseconds(ClockId::Realtime) - nanoseconds(ClockId::Boottime)
}

fn boot() -> String {
    // Where there is none, only the clock itself counts.
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Layer {
    /// Finds the layer of a session.
    ///
    /// # Errors
    /// [`OverlayError::Nothing`] where there is none, [`OverlayError::Notes`].
    pub fn find(home: &Home, session: &SessionId) -> Result<Self, OverlayError> {
        let named = place(home, session);
        let (place, open) = way_to(&named)?;
        let path = named.join(BASE);
        let failed = |why: String| OverlayError::Notes { path: path.clone(), why };
        let notes = match fs::File::open(place.join(BASE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(OverlayError::Nothing(session.clone()));
            }
            other => other.map_err(|error| failed(error.to_string()))?,
        };
        let mut text = String::new();
        io::Read::read_to_string(&mut io::Read::take(notes, NOTES_BYTES_MAX), &mut text)
            .map_err(|error| failed(error.to_string()))?;
        let base = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        Ok(Self { session: session.clone(), place, base, named, _open: open })
    }

    /// Refuses to go on with anybody's rights but its owner's: whoever else looked at the workspace, or changed it, would do
    /// so at a path of that user's, who may have put a link there.
    pub(super) fn is_of_this_user(&self) -> Result<(), OverlayError> {
        let owner = fs::metadata(&self.place).map_err(OverlayError::preparing("look at the layer"))?.uid();
        match owner == rustix::process::geteuid().as_raw() {
            true => Ok(()),
            false => Err(OverlayError::Others { session: self.session.clone(), owner }),
        }
    }

    /// The workspace on the host.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.base.workspace()
    }

    /// What the sandbox wrote.
    pub(super) fn open_upper(&self) -> Result<Dir, OverlayError> {
        Dir::open(&self.place.join(LAYER).join(OVERLAY_UPPER)).map_err(OverlayError::preparing("open the layer"))
    }

    /// What the host has.
    pub(super) fn open_workspace(&self) -> Result<Dir, OverlayError> {
        let path = self.workspace();
        Dir::open(&path).map_err(|error| OverlayError::Workspace { path, error })
    }

    /// Keeps every other omni from applying or discarding, until it is dropped.
    pub(super) fn lock(&self) -> Result<OwnedFd, OverlayError> {
        let failed = || OverlayError::preparing("lock the layer");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let lock = rustix::fs::open(self.place.join(LOCK), flags, mode).map_err(|error| failed()(error.into()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Err(OverlayError::Busy(self.session.clone())),
            Err(error) => Err(failed()(error.into())),
            Ok(()) => Ok(lock),
        }
    }
}

/// A path to a layer's directory. One that belongs to another than this process's user lies where they cannot go: it is
/// opened, and reached by that from then on, with whatever rights this process has then.
fn way_to(named: &Path) -> Result<(PathBuf, Option<OwnedFd>), OverlayError> {
    let failed = || OverlayError::preparing("open the layer");
    match fs::symlink_metadata(named) {
        Ok(found) if found.uid() != rustix::process::geteuid().as_raw() => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = rustix::fs::open(named, flags, Mode::empty()).map_err(|error| failed()(error.into()))?;
            // With a dot, so that the link to it is no path's last name.
            Ok((PathBuf::from(format!("/proc/self/fd/{}/.", open.as_raw_fd())), Some(open)))
        }
        // That there is none is found out by whoever reads there.
        _ => Ok((named.to_owned(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_in_the_workspace_is_found_under_any_name() {
        let mounts = b"22 1 8:1 / / rw - ext4 /dev/a rw\n23 22 8:2 / /w\\040x/in\\134ner rw - ext4 /dev/b rw\n";
        assert_eq!(submount(mounts, Path::new("/w x")), Some(PathBuf::from("/w x/in\\ner")));
        assert_eq!(submount(mounts, Path::new("/w")), None);
        assert_eq!(submount(mounts, Path::new("/w x/in\\ner")), None, "the workspace itself may be one");
    }

    fn base(started: Moment) -> Base {
        Base {
            workspace: RelPath::default(),
            started,
            ahead: ahead(),
            boot: boot(),
            owner: (1001, 1002),
            harness: (7, 8),
        }
    }

    #[test]
    fn a_clock_that_was_set_back_moves_the_beginning_back() {
        let base = base(Moment { seconds: 1000, nanoseconds: 5 });
        assert_eq!(base.beginning(), Beginning(base.started));
        let set_back = Base { ahead: base.ahead + 3600 * NANOSECONDS, ..base };
        assert!((-2601..=-2599).contains(&set_back.beginning().0.seconds));
    }

    #[test]
    fn the_harness_s_files_become_the_owner_s() {
        let base = base(Moment::default());
        assert_eq!((base.owner(7, 8), base.owner(7, 5), base.owner(0, 0)), ((1001, 1002), (1001, 5), (0, 0)));
    }
}
