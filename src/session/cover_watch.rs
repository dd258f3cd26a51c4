//! What is hidden from the harness is hidden by a mount in front of a name, and the kernel takes that away when a program outside
//! puts another file in the place of that name: most write a login so. Nor does it count in a directory that takes the place of the
//! one it lies in. The kernel says so at once, and the new one is covered, too.
//!
//! A process of its own does that, which enters the sandbox for it and ends. Between the two there is a moment; where there can be no
//! cover any more, the session ends.

use super::error::SessionError;
use super::login_file::apart;
use crate::supervisor::{Identity, LateCover, Plan, WayIn, is_exposed};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Room for what is read of the kernel's notices at a time.
const NOTICES_BYTES: usize = 4096;
/// Most notices that are read before what they say is attended to; there may be ever more.
const NOTICES_MAX: usize = 1024;
/// Most names that something hidden has lain under since the start: each holds a descriptor, and processes have 1,024 of them.
const NAMES_MAX: usize = 640;
/// Most names of directories on the way there.
const WAYS_MAX: usize = 16 * NAMES_MAX;

/// The covers of one session, and the kernel's word about what is below them.
pub(super) struct CoverWatch {
    notices: OwnedFd,
    way: WayIn,
    identity: Identity,
    /// Whether there may be mount namespaces that no cover reaches.
    nested: bool,
    /// What is shown as a whole and holds what is found after the start.
    later: PathBuf,
    hidden: Vec<Hidden>,
    names: Vec<Name>,
    /// Directories on the way to what is hidden: the watch of what they lie in, their name there, and what lies below.
    ways: BTreeSet<(i32, CString, usize)>,
}

/// What is hidden, by its path inside.
struct Hidden {
    path: PathBuf,
    /// What is shown as a whole, so that nothing above it can become anything else inside.
    within: PathBuf,
}

/// A name that something stands in front of.
struct Name {
    directory: OwnedFd,
    name: CString,
    watch: i32,
    hidden: usize,
}

/// What was covered after the start.
pub(super) struct LateHidden {
    /// Its path inside, as it was found.
    pub path: PathBuf,
    /// The directory that it lies in.
    pub directory: OwnedFd,
}

impl CoverWatch {
    /// Watches the covers of a plan whose sandbox stands, before the go; none where it has none and none come `later` in a
    /// workspace that changes outside.
    pub(super) fn begin(plan: &Plan, init: BorrowedFd<'_>, nested: bool, later: bool) -> io::Result<Option<Self>> {
        let mut covers = plan.covers().peekable();
        let within = plan.shown_directly(&plan.directory).filter(|_| later);
        if covers.peek().is_none() && within.is_none() {
            return Ok(None);
        }
        let later = within.unwrap_or(&plan.directory).to_owned();
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let (way, identity) = (WayIn::open(init)?, plan.identity.clone());
        let (names, ways) = (Vec::new(), BTreeSet::new());
        let mut watch = Self { notices, way, identity, nested, later, hidden: Vec::new(), names, ways };
        let mut known = BTreeMap::new();
        for (within, path) in covers {
            watch.hidden.push(Hidden { path: path.to_owned(), within: within.to_owned() });
            let hidden = watch.hidden.len() - 1;
            watch.follow(hidden, &mut known)?;
            // What was replaced before it was watched.
            let lies = watch.names.last().filter(|name| name.hidden == hidden);
            if lies.is_none_or(Name::is_exposed) {
                return Err(io::Error::other(format!("{} was replaced meanwhile", path.display())));
            }
        }
        Ok(Some(watch))
    }

    /// Readable when something came to a directory with a cover in it, or on the way to one.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.notices.as_fd()
    }

    /// Watches what was covered after the start, and covers what took its place meanwhile, which it gives. None where nothing
    /// more can be watched.
    pub(super) fn add(&mut self, late: LateHidden) -> Result<Option<Vec<PathBuf>>, SessionError> {
        let LateHidden { path, directory } = late;
        if self.names.len() >= NAMES_MAX {
            return Ok(None);
        }
        let before = self.names.len();
        let added = self.add_name(&path, directory);
        added.map_err(|error| uncovered(&path, error.to_string()))?;
        let added: Vec<usize> = (before..self.names.len()).collect();
        self.cover_anew(&added).map(Some)
    }

    fn add_name(&mut self, path: &Path, directory: OwnedFd) -> io::Result<()> {
        self.hidden.push(Hidden { path: path.to_owned(), within: self.later.clone() });
        let hidden = self.hidden.len() - 1;
        let watch = self.watch(&directory)?;
        self.names.push(Name { directory, name: name_of(path)?, watch, hidden });
        self.follow(hidden, &mut BTreeMap::new())
    }

    /// Covers what was put in the place of what is hidden, and says which that was.
    pub(super) fn attend(&mut self) -> Result<Vec<PathBuf>, SessionError> {
        let read = self.notices();
        let named = read.and_then(|notices| self.heed(&notices));
        let named = named.map_err(|error| uncovered(Path::new("what is hidden"), error.to_string()))?;
        self.cover_anew(&named)
    }

    fn cover_anew(&self, named: &[usize]) -> Result<Vec<PathBuf>, SessionError> {
        // What the harness made meanwhile under a name that nothing outside took is covered still.
        let exposed: Vec<usize> = named.iter().copied().filter(|number| self.names[*number].is_exposed()).collect();
        let path_of = |number: usize| self.hidden[self.names[number].hidden].path.as_path();
        let Some(first) = exposed.first().map(|number| path_of(*number)) else { return Ok(Vec::new()) };
        let said = apart(|| serde_json::to_string(&self.cover(&exposed)?).map_err(io::Error::other));
        let said = said.map_err(|error| uncovered(first, error.to_string()))?;
        let done: Vec<usize> =
            serde_json::from_str(&said).map_err(|_| uncovered(first, "it could not be covered anew".to_owned()))?;
        let paths: Vec<PathBuf> = done.into_iter().map(|number| path_of(number).to_owned()).collect();
        match paths.first() {
            Some(path) if self.nested => {
                Err(uncovered(path, "a sandbox within this one may show what took its place".to_owned()))
            }
            _ => Ok(paths),
        }
    }

    /// In a process of its own: enters the sandbox, and covers what stands in these places. Gives those that it covered.
    fn cover(&self, numbers: &[usize]) -> io::Result<Vec<usize>> {
        let cover = LateCover::enter_by(&self.way, &self.identity)?;
        let mut done = Vec::new();
        for number in numbers {
            let Name { directory, name, .. } = &self.names[*number];
            if cover.hide(directory.as_fd(), name)? {
                done.push(*number);
            }
        }
        Ok(done)
    }

    /// What the kernel says came where.
    fn notices(&self) -> io::Result<Notices> {
        let mut room = [MaybeUninit::uninit(); NOTICES_BYTES];
        let mut reader = inotify::Reader::new(&self.notices, &mut room);
        let mut notices = Notices::default();
        for _ in 0..NOTICES_MAX {
            let notice = match reader.next() {
                Ok(notice) => notice,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            notices.all |= notice.events().contains(ReadFlags::QUEUE_OVERFLOW);
            if notice.events().contains(ReadFlags::IGNORED) {
                notices.gone.insert(notice.wd());
            }
            notices.came.extend(notice.file_name().map(|name| (notice.wd(), name.to_owned())));
        }
        Ok(notices)
    }

    /// The names that notices are about, once the ways that lead elsewhere now were followed. All where the kernel had more to
    /// say than it could keep.
    fn heed(&mut self, notices: &Notices) -> io::Result<Vec<usize>> {
        let Notices { came, gone, all } = notices;
        self.ways.retain(|(watch, ..)| !gone.contains(watch));
        if self.names.len() >= NAMES_MAX {
            self.forget_removed();
        }
        let changed = self.ways.iter().filter(|(watch, name, _)| *all || came.contains(&(*watch, name.clone())));
        let changed: BTreeSet<usize> = changed.map(|(.., hidden)| *hidden).collect();
        let before = self.names.len();
        let mut known = BTreeMap::new();
        changed.into_iter().try_for_each(|hidden| self.follow(hidden, &mut known))?;
        let is_meant = |(number, name): (usize, &Name)| {
            let meant = *all || number >= before || came.contains(&(name.watch, name.name.clone()));
            meant.then_some(number)
        };
        Ok(self.names.iter().enumerate().filter_map(is_meant).collect())
    }

    /// Watches every directory on the way to what is hidden that is not watched yet, and the name that it leads to. `known` are
    /// those of this round. What is not there is waited for where it would be.
    fn follow(&mut self, hidden: usize, known: &mut BTreeMap<PathBuf, i32>) -> io::Result<()> {
        let Hidden { path, within } = &self.hidden[hidden];
        let (path, within) = (path.clone(), within.clone());
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let below: Vec<&Path> = parent.ancestors().take_while(|above| above.starts_with(&within)).collect();
        let mut next = None;
        for directory in below.into_iter().rev() {
            if let Some(above) = next {
                self.ways.insert((above, name_of(directory)?, hidden));
            }
            let is_last = directory == parent;
            let watch = match known.get(directory).filter(|_| !is_last) {
                Some(watch) => *watch,
                None => {
                    let opened = match self.way.directory(directory) {
                        // Whatever comes there later is heard of where it would come.
                        Err(error) if is_no_directory(&error) => return Ok(()),
                        other => other?,
                    };
                    let watch = self.watch(&opened)?;
                    known.insert(directory.to_owned(), watch);
                    if is_last {
                        self.lies_in(opened, watch, name_of(&path)?, hidden);
                    }
                    watch
                }
            };
            next = Some(watch);
        }
        match self.names.len() > NAMES_MAX || self.ways.len() > WAYS_MAX {
            true => Err(io::Error::other("too many directories took each other's place")),
            false => Ok(()),
        }
    }

    fn lies_in(&mut self, directory: OwnedFd, watch: i32, name: CString, hidden: usize) {
        if !self.names.iter().any(|known| (known.watch, known.hidden) == (watch, hidden)) {
            self.names.push(Name { directory, name, watch, hidden });
        }
    }

    /// A directory that was removed takes nothing in any more.
    fn forget_removed(&mut self) {
        self.names.retain(|name| rustix::fs::fstat(&name.directory).is_ok_and(|stat| stat.st_nlink > 0));
    }

    /// The same number for the same directory, however often it is asked for.
    fn watch(&self, directory: &OwnedFd) -> io::Result<i32> {
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        Ok(inotify::add_watch(&self.notices, format!("/proc/self/fd/{}", directory.as_raw_fd()), flags)?)
    }
}

impl Name {
    fn is_exposed(&self) -> bool {
        is_exposed(self.directory.as_fd(), &self.name)
    }
}

/// What was read of the kernel's notices.
#[derive(Debug, Default)]
struct Notices {
    /// Which names came where.
    came: BTreeSet<(i32, CString)>,
    /// The watches whose directories are gone.
    gone: BTreeSet<i32>,
    /// Whether there was more.
    all: bool,
}

fn name_of(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.file_name().ok_or(io::ErrorKind::InvalidInput)?.as_bytes())?)
}

/// Whether there is nothing, or something else than a directory: a link leads to what is not hidden under its own name either.
fn is_no_directory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

fn uncovered(path: &Path, why: String) -> SessionError {
    SessionError::Uncovered { path: path.to_owned(), why }
}
