//! Which files were opened that look like secrets and are shown: the kernel says so (inotify(7)).
//!
//! A notice is there before the call that opens the file returns, so whoever reads all notices before a decision knows of
//! every file whose contents could be in what is decided about. Nothing here opens a file: the watch was set outside, before
//! the harness began.

use super::Shared;
use crate::model::Event;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;

/// Room for what is read of the kernel's notices at a time.
const NOTICES_BYTES: usize = 4096;
/// Longest notice (inotify(7)): its head, and a name with the byte that ends it.
const NOTICE_BYTES_MAX: usize = HEAD_BYTES + 256;
/// What counts as reading, of what the watches ask for: only where opening would not show, for more than that.
const COUNTS: u32 = libc::IN_OPEN | libc::IN_ATTRIB | libc::IN_MOVE_SELF;
/// Bytes of a notice before the name.
const HEAD_BYTES: usize = 16;
/// Most that is read at once; the kernel keeps far less.
const READS_MAX: usize = 16 * 1024;
/// How long to wait for more before what came is told.
const PAUSE: Duration = Duration::from_millis(50);
/// What is told where the kernel had more notices than it could keep.
const LOST: &str = "(more files were opened than the kernel could tell of)";

/// What a watch is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// A file, by what it is called.
    File(String),
    /// A directory, by what stands before the names in it, and the names that matter; all where there are none.
    Directory(String, Option<BTreeSet<Vec<u8>>>),
}

/// The kernel's word about files that look like secrets.
#[derive(Debug)]
pub struct SecretFiles {
    /// An inotify instance that does not block.
    pub notices: OwnedFd,
    /// What its watches are about.
    pub watched: BTreeMap<i32, Watched>,
    /// Whether nothing that could be read is left out.
    pub complete: bool,
    /// Whether the session began with a policy that wants to know.
    pub wanted: bool,
}

impl SecretFiles {
    /// What was opened since, as far as it matters, by name.
    pub(super) fn opened(&self) -> BTreeSet<String> {
        let mut opened = BTreeSet::new();
        let mut room = [0; NOTICES_BYTES];
        for _ in 0..READS_MAX {
            let count = match rustix::io::read(&self.notices, &mut room) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return opened,
                // Nothing is known any more.
                Err(_) => break,
            };
            self.take(&room[..count], &mut opened);
            // The kernel gives all that fits: there is no more.
            if count + NOTICE_BYTES_MAX <= room.len() {
                return opened;
            }
        }
        opened.insert(LOST.to_owned());
        opened
    }

    fn take(&self, mut notices: &[u8], opened: &mut BTreeSet<String>) {
        while let Some((notice, rest)) = Notice::split(notices) {
            notices = rest;
            if notice.mask & libc::IN_Q_OVERFLOW != 0 {
                opened.insert(LOST.to_owned());
            }
            if notice.mask & COUNTS != 0 && notice.mask & libc::IN_ISDIR == 0 {
                opened.extend(self.named(&notice));
            }
        }
    }

    fn named(&self, notice: &Notice<'_>) -> Option<String> {
        match self.watched.get(&notice.watch)? {
            Watched::File(path) => Some(path.clone()),
            Watched::Directory(before, names) => {
                let matters = names.as_ref().is_none_or(|names| names.contains(notice.name));
                matters.then(|| format!("{before}{}", String::from_utf8_lossy(notice.name)))
            }
        }
    }
}

/// One notice of the kernel's (`struct inotify_event`).
struct Notice<'a> {
    watch: i32,
    mask: u32,
    name: &'a [u8],
}

impl<'a> Notice<'a> {
    /// The first of several, and the rest.
    fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let field = |at: usize| head[at..at + 4].try_into().map(u32::from_ne_bytes).ok();
        let (watch, mask, length) = (field(0)?.cast_signed(), field(4)?, usize::try_from(field(12)?).ok()?);
        let (name, rest) = rest.split_at_checked(length)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Some((Self { watch, mask, name: &name[..end] }, rest))
    }
}

/// Has it known from now on which files are read; what [`serve`] waits by.
pub(super) fn begin(shared: &Shared, files: SecretFiles) -> io::Result<Receiver> {
    // What matters of a pipe is that it can be read without blocking, which holds for this, too.
    let notices = Receiver::from_owned_fd_unchecked(files.notices.try_clone()?)?;
    shared.policy.watch(files);
    Ok(notices)
}

/// Reads notices as they come, so that the kernel never has to drop any, and has the record say what was opened. Where it
/// cannot wait for them, they are read before each decision all the same.
pub(super) async fn serve(shared: Arc<Shared>, notices: Receiver) {
    while notices.readable().await.is_ok() {
        // Nothing is left to read then, which is what the error says.
        let _ = notices.try_io(|| {
            shared.policy.attend();
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
        tell(&shared).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads what there is, and has the record say it.
pub(super) async fn attend(shared: &Shared) {
    shared.policy.attend();
    tell(shared).await;
}

/// Has the record say what was opened and is not told yet: before what is decided by it.
pub(super) async fn tell(shared: &Shared) {
    for path in shared.policy.untold_reads() {
        // A journal that fails once fails for good, and then nothing goes out.
        let _ = shared.books.clerk.record(Event::SecretFileRead { path }).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

    fn watch(place: &std::path::Path, names: Option<&[&str]>) -> SecretFiles {
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let directory = inotify::add_watch(&notices, place, WatchFlags::OPEN).unwrap();
        let file = inotify::add_watch(&notices, place.join(".env"), WatchFlags::OPEN).unwrap();
        let names = names.map(|names| names.iter().map(|name| name.as_bytes().to_vec()).collect());
        let watched = BTreeMap::from([
            (directory, Watched::Directory("app/".to_owned(), names)),
            (file, Watched::File("app/.env".to_owned())),
        ]);
        SecretFiles { notices, watched, complete: true, wanted: true }
    }

    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for name in [".env", "other", "key.pem"] {
            std::fs::write(place.path().join(name), "x").unwrap();
        }
        place
    }

    fn opened(files: &SecretFiles) -> Vec<String> {
        files.opened().into_iter().collect()
    }

    #[test]
    fn what_is_opened_is_known_once_the_call_returns() {
        let place = place();
        let files = watch(place.path(), Some(&[".env", "key.pem"]));
        std::fs::read(place.path().join("other")).unwrap();
        std::fs::read_dir(place.path()).unwrap();
        assert!(opened(&files).is_empty());
        std::fs::read(place.path().join(".env")).unwrap();
        assert_eq!(opened(&files), ["app/.env"]);
        assert!(opened(&files).is_empty(), "told once");
        // Another name for the same file, and another file by the same name.
        std::fs::hard_link(place.path().join(".env"), place.path().join("innocent")).unwrap();
        std::fs::read(place.path().join("innocent")).unwrap();
        assert_eq!(opened(&files), ["app/.env"]);
        std::fs::write(place.path().join("new"), "x").unwrap();
        std::fs::rename(place.path().join("new"), place.path().join("key.pem")).unwrap();
        assert!(opened(&files).is_empty());
        std::fs::read(place.path().join("key.pem")).unwrap();
        assert_eq!(opened(&files), ["app/key.pem"]);
    }

    #[test]
    fn in_a_directory_that_is_secret_as_a_whole_every_file_counts() {
        let place = place();
        let files = watch(place.path(), None);
        std::fs::read(place.path().join("other")).unwrap();
        assert_eq!(opened(&files), ["app/other"]);
    }

    #[test]
    fn what_the_kernel_could_not_keep_counts_as_read() {
        let place = place();
        let files = watch(place.path(), Some(&[".env"]));
        let kept = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let kept: usize = kept.trim().parse().unwrap();
        // Two in turn, since the same notice twice is one.
        for _ in 0..=kept / 2 {
            std::fs::File::open(place.path().join("other")).unwrap();
            std::fs::File::open(place.path().join("key.pem")).unwrap();
        }
        assert_eq!(opened(&files), [LOST]);
    }
}
