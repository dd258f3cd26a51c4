//! What is hidden from the harness is hidden by a mount in front of a name, and the kernel takes that away when a program outside
//! puts another file in the place of that name: most write a login so. The kernel says so at once, and the new one is covered, too.
//!
//! A process of its own does that, which enters the sandbox for it and ends. Between the two there is a moment; where there can be no
//! cover any more, the session ends.

use super::error::SessionError;
use super::login_file::apart;
use crate::supervisor::{Identity, LateCover, Plan, WayIn, is_covered};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Room for what is read of the kernel's notices at a time.
const NOTICES_BYTES: usize = 4096;
/// Most notices that are read before what they say is attended to; there may be ever more.
const NOTICES_MAX: usize = 1024;

/// The covers of one session, and the kernel's word about what is below them.
pub(super) struct CoverWatch {
    notices: OwnedFd,
    way: WayIn,
    identity: Identity,
    /// Whether there may be mount namespaces that no cover reaches.
    nested: bool,
    covers: Vec<Covered>,
}

/// A name that something stands in front of.
struct Covered {
    directory: OwnedFd,
    name: CString,
    path: PathBuf,
    watch: i32,
}

impl CoverWatch {
    /// Watches the covers of a plan whose sandbox stands, before the go; none where it has none.
    pub(super) fn begin(plan: &Plan, init: BorrowedFd<'_>, nested: bool) -> io::Result<Option<Self>> {
        let mut covers = plan.covers().peekable();
        if covers.peek().is_none() {
            return Ok(None);
        }
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let way = WayIn::open(init)?;
        let covers = covers.map(|path| Covered::watch(&notices, &way, path)).collect::<io::Result<Vec<_>>>()?;
        // What was replaced before it was watched.
        let open = covers.iter().find(|covered| !is_covered(covered.directory.as_fd(), &covered.name));
        if let Some(open) = open {
            return Err(io::Error::other(format!("{} was replaced meanwhile", open.path.display())));
        }
        Ok(Some(Self { notices, way, identity: plan.identity.clone(), nested, covers }))
    }

    /// Readable when something came to a directory with a cover in it.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }

    /// Covers what was put in the place of what is hidden, and says which that was.
    pub(super) fn attend(&self) -> Result<Vec<PathBuf>, SessionError> {
        let failed = |path: &Path, why: String| SessionError::Uncovered { path: path.to_owned(), why };
        let all = Path::new("what is hidden");
        let named = self.named().map_err(|error| failed(all, error.to_string()))?;
        // What the harness made meanwhile under a name that nothing outside took is covered still.
        let open = |number: &usize| {
            let covered = &self.covers[*number];
            !is_covered(covered.directory.as_fd(), &covered.name)
        };
        let named: Vec<usize> = named.into_iter().filter(open).collect();
        let Some(first) = named.first().map(|number| &self.covers[*number].path) else { return Ok(Vec::new()) };
        let said = apart(|| serde_json::to_string(&self.cover(&named)?).map_err(io::Error::other));
        let said = said.map_err(|error| failed(first, error.to_string()))?;
        let done: Vec<usize> =
            serde_json::from_str(&said).map_err(|_| failed(first, "it could not be covered anew".to_owned()))?;
        let paths: Vec<PathBuf> = done.into_iter().map(|number| self.covers[number].path.clone()).collect();
        match paths.first() {
            Some(path) if self.nested => {
                Err(failed(path, "a sandbox within this one may show what took its place".to_owned()))
            }
            _ => Ok(paths),
        }
    }

    /// The covers whose names the kernel's notices hold; all where it had more to say than it could keep.
    fn named(&self) -> io::Result<Vec<usize>> {
        let mut room = [MaybeUninit::uninit(); NOTICES_BYTES];
        let mut reader = inotify::Reader::new(&self.notices, &mut room);
        let mut named = Vec::new();
        for _ in 0..NOTICES_MAX {
            let notice = match reader.next() {
                Ok(notice) => notice,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            let lost = notice.events().contains(ReadFlags::QUEUE_OVERFLOW);
            let is_meant = |covered: &Covered| lost || covered.is(notice.wd(), notice.file_name());
            let meant = self.covers.iter().enumerate().filter(|(_, covered)| is_meant(covered));
            named.extend(meant.map(|(number, _)| number));
        }
        named.sort_unstable();
        named.dedup();
        Ok(named)
    }

    /// In a process of its own: enters the sandbox, and covers what stands in these places. Gives those that it covered.
    fn cover(&self, numbers: &[usize]) -> io::Result<Vec<usize>> {
        let cover = LateCover::enter_by(&self.way, &self.identity)?;
        let mut done = Vec::new();
        for number in numbers {
            let Covered { directory, name, .. } = &self.covers[*number];
            if cover.hide(directory.as_fd(), name)? {
                done.push(*number);
            }
        }
        Ok(done)
    }
}

impl Covered {
    fn watch(notices: &OwnedFd, way: &WayIn, path: &Path) -> io::Result<Self> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let directory = way.directory(above)?;
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        let watch = inotify::add_watch(notices, format!("/proc/self/fd/{}", directory.as_raw_fd()), flags)?;
        Ok(Self { directory, name: CString::new(name.as_bytes())?, path: path.to_owned(), watch })
    }

    fn is(&self, watch: i32, name: Option<&CStr>) -> bool {
        self.watch == watch && name == Some(&*self.name)
    }
}
