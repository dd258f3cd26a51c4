//! The ledger's files: its entries, one after another, and above them the hashes of each 256, of each 65,536 and so on.
//!
//! Entries are appended by one process at a time and never changed. The hashes follow from them; they are kept so that
//! a proof needs some kilobytes of a ledger of any size.

use super::super::{Home, StoreError};
use super::LedgerError;
use crate::ledger::{ENTRY_BYTES, Entry, Frontier, Hash, Subtrees, leaf_hash, node_hash};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Binary levels of the tree from one file of hashes to the next, as C2SP's tiles have it.
pub(super) const LEVELS: u32 = 8;
/// Entries, or hashes, below one hash of the next file.
pub(super) const WIDTH: u64 = 1 << LEVELS;
/// Files of hashes: three are enough for 2^32 entries.
pub(super) const HASH_FILES: u32 = 4;
/// The file that names the store that the ledger goes on in.
const MOVED: &str = "moved";
/// How many entries are read at once by who goes through many.
pub(super) const READ_ENTRIES: u64 = 64 * WIDTH;
/// Bytes of a hash.
const HASH_BYTES: u64 = 32;
/// How long to wait for another process that appends.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to sleep between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// The ledger's files, open.
#[derive(Debug)]
pub(in super::super) struct Files {
    directory: PathBuf,
    entries: File,
    hashes: Vec<Option<File>>,
    size: u64,
}

/// Reads and opens nothing that leads elsewhere.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    options.read(true).mode(0o600).custom_flags(flags.bits().cast_signed());
    options
}

fn failed(step: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |cause| match StoreError::write(&path, cause) {
        StoreError::JournalWrite { path, cause } => LedgerError::File { step, path, cause }.into(),
        full => full,
    }
}

impl Files {
    /// Opens the ledger, making it where there is none, and keeps others from appending.
    pub(in super::super) fn lock(home: &Home) -> Result<Self, StoreError> {
        let directory = home.ledger();
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("make", &directory)(error)),
            _ => {}
        }
        if let Some(to) = moved_to(home)? {
            return Err(LedgerError::Moved { directory, to }.into());
        }
        let path = directory.join("entries");
        let entries = options().append(true).create(true).open(&path).map_err(failed("open", &path))?;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        loop {
            match entries.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
                Err(std::fs::TryLockError::WouldBlock) => return Err(LedgerError::Busy { path }.into()),
                Err(std::fs::TryLockError::Error(cause)) => return Err(failed("lock", &path)(cause)),
            }
        }
        Self::with(directory, entries, true)
    }

    /// Opens the ledger for reading; none where there is none.
    pub(in super::super) fn open(home: &Home) -> Result<Option<Self>, StoreError> {
        let directory = home.ledger();
        let path = directory.join("entries");
        match options().open(&path) {
            Ok(entries) => Self::with(directory, entries, false).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(failed("open", &path)(cause)),
        }
    }

    fn with(directory: PathBuf, entries: File, writes: bool) -> Result<Self, StoreError> {
        let path = directory.join("entries");
        let length = entries.metadata().map_err(failed("read", &path))?.len();
        let size = length / ENTRY_BYTES as u64;
        if writes && length % ENTRY_BYTES as u64 != 0 {
            // Its writer died while writing it, so that nobody was told of it.
            entries.set_len(size * ENTRY_BYTES as u64).map_err(failed("cut the unfinished entry off", &path))?;
        }
        Ok(Self { directory, entries, hashes: Vec::new(), size })
    }

    /// How many entries there are.
    pub(in super::super) fn size(&self) -> u64 {
        self.size
    }

    /// The file with the entries.
    pub(super) fn entries_path(&self) -> PathBuf {
        self.directory.join("entries")
    }

    /// The file with one hash for every `256^level` entries.
    pub(super) fn hashes_path(&self, level: u32) -> PathBuf {
        self.directory.join(format!("hashes.{level}"))
    }

    /// Reads `count` entries from `start` on.
    pub(in super::super) fn read(&self, start: u64, count: u64) -> Result<Vec<[u8; ENTRY_BYTES]>, StoreError> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX) * ENTRY_BYTES];
        let path = self.entries_path();
        self.entries.read_exact_at(&mut bytes, start * ENTRY_BYTES as u64).map_err(failed("read", &path))?;
        Ok(bytes.as_chunks::<ENTRY_BYTES>().0.to_vec())
    }

    /// Appends entries, all or none, and the hashes that they complete.
    pub(super) fn append(&mut self, entries: &[[u8; ENTRY_BYTES]]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.hash_up()?;
        let path = self.entries_path();
        if let Err(error) = write_all(&self.entries, entries.as_flattened()) {
            // What was written of them is no entry. If not even this works, the next to append does it.
            let _ = self.entries.set_len(self.size * ENTRY_BYTES as u64);
            return Err(failed("write", &path)(error));
        }
        self.size += entries.len() as u64;
        self.hash_up()
    }

    /// Brings the files of hashes up to the entries.
    pub(super) fn hash_up(&mut self) -> Result<(), StoreError> {
        self.hashes.clear();
        for level in 1..=HASH_FILES {
            let wanted = self.size >> (LEVELS * level);
            if wanted == 0 {
                break;
            }
            let path = self.hashes_path(level);
            let step = failed("write", &path);
            let file = options().append(true).create(true).open(&path).map_err(&step)?;
            let length = file.metadata().map_err(&step)?.len();
            let have = length / HASH_BYTES;
            if length % HASH_BYTES != 0 {
                file.set_len(have * HASH_BYTES).map_err(&step)?;
            }
            // More of them than entries is a trace of entries that are gone, and not removed here.
            for index in have..wanted {
                let hash = self.complete(LEVELS * level, index)?;
                write_all(&file, &hash.0).map_err(&step)?;
            }
        }
        Ok(())
    }

    /// Drops the entries from `size` on and all hashes that are not surely those of what is left before `sound` entries.
    pub(super) fn cut(&mut self, size: u64, sound: u64) -> Result<(), StoreError> {
        let path = self.entries_path();
        self.entries.set_len(size * ENTRY_BYTES as u64).map_err(failed("cut", &path))?;
        self.size = size;
        self.hashes.clear();
        for level in 1..=HASH_FILES {
            let path = self.hashes_path(level);
            match options().write(true).open(&path) {
                Ok(file) => {
                    let length = file.metadata().map_err(failed("cut", &path))?.len();
                    let keep = (sound.min(size) >> (LEVELS * level)) * HASH_BYTES;
                    if length > keep {
                        file.set_len(keep).map_err(failed("cut", &path))?;
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(cause) => return Err(failed("cut", &path)(cause)),
            }
        }
        self.hash_up()
    }

    /// Brings everything to the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let path = self.entries_path();
        self.entries.sync_data().map_err(failed("bring to the disk", &path))?;
        for level in 1..=HASH_FILES {
            let path = self.hashes_path(level);
            match options().open(&path) {
                Ok(file) => file.sync_data().map_err(failed("bring to the disk", &path))?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(cause) => return Err(failed("bring to the disk", &path)(cause)),
            }
        }
        Ok(())
    }

    /// The hashes of one file from `start` on; none where the file does not have them all.
    pub(super) fn hashes(&mut self, level: u32, start: u64, count: u64) -> Result<Option<Vec<Hash>>, StoreError> {
        let index = level as usize - 1;
        if self.hashes.is_empty() {
            for level in 1..=HASH_FILES {
                let path = self.hashes_path(level);
                match options().open(&path) {
                    Ok(file) => self.hashes.push(Some(file)),
                    Err(error) if error.kind() == ErrorKind::NotFound => self.hashes.push(None),
                    Err(cause) => return Err(failed("open", &path)(cause)),
                }
            }
        }
        let Some(Some(file)) = self.hashes.get(index) else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(count * HASH_BYTES).unwrap_or(usize::MAX)];
        match file.read_exact_at(&mut bytes, start * HASH_BYTES) {
            Ok(()) => Ok(Some(bytes.as_chunks::<32>().0.iter().map(|hash| Hash(*hash)).collect())),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(cause) => Err(failed("read", &self.hashes_path(level))(cause)),
        }
    }

    /// The hash of a complete subtree out of what is kept below it.
    fn complete(&mut self, level: u32, index: u64) -> Result<Hash, StoreError> {
        let below = (level - 1) / LEVELS;
        let count = 1 << (level - below * LEVELS);
        let start = index * count;
        let hashes = match below {
            0 => None,
            _ => self.hashes(below, start, count)?,
        };
        if let Some(hashes) = hashes {
            return Ok(combine(hashes));
        }
        if below == 0 {
            return Ok(combine(self.read(start, count)?.iter().map(|entry| leaf_hash(entry)).collect()));
        }
        // The file of hashes lags behind: all entries below are read.
        let mut frontier = Frontier::default();
        for part in index << (level - LEVELS)..(index + 1) << (level - LEVELS) {
            self.read(part * WIDTH, WIDTH)?.iter().for_each(|entry| frontier.push(leaf_hash(entry), |_, _, _| {}));
        }
        Ok(frontier.root())
    }

    /// The first entry from `start` on that no version of omni wrote.
    pub(super) fn first_bad(&self, start: u64) -> Result<Option<u64>, StoreError> {
        let mut index = start;
        while index < self.size {
            let entries = self.read(index, WIDTH.min(self.size - index))?;
            if let Some(bad) = entries.iter().position(|entry| Entry::decode(entry).is_none()) {
                return Ok(Some(index + bad as u64));
            }
            index += entries.len() as u64;
        }
        Ok(None)
    }
}

/// Names the store that a home's ledger goes on in, so that nothing is appended here any more.
pub(in super::super) fn mark_moved(home: &Home, to: &str) -> Result<(), StoreError> {
    let directory = home.ledger();
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("make", &directory)(error)),
        _ => super::key::replace(&directory.join(MOVED), to.as_bytes()),
    }
}

/// The store that a home's ledger goes on in; none where it is here.
pub(in super::super) fn moved_to(home: &Home) -> Result<Option<String>, StoreError> {
    let path = home.ledger().join(MOVED);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed("read", &path)(cause)),
    }
}

/// What was signed, as files: the last checkpoint, and those by which keys were handed over.
pub(in super::super) fn note_files(home: &Home) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let names = std::iter::once("checkpoint".to_owned()).chain((2..).map(|number| format!("handover.{number}")));
    let mut found = Vec::new();
    for (index, name) in names.enumerate() {
        let path = home.ledger().join(&name);
        match std::fs::read(&path) {
            Ok(bytes) => found.push((name, bytes)),
            // Nothing may be signed yet.
            Err(error) if error.kind() == ErrorKind::NotFound && index == 0 => {}
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(cause) => return Err(failed("read", &path)(cause)),
        }
    }
    Ok(found)
}

/// The root of a complete tree over these hashes, which are a power of two.
fn combine(mut hashes: Vec<Hash>) -> Hash {
    while hashes.len() > 1 {
        hashes = hashes.chunks(2).map(|pair| node_hash(&pair[0], &pair[pair.len() - 1])).collect();
    }
    hashes[0]
}

impl Subtrees for Files {
    type Error = StoreError;

    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, StoreError> {
        match level {
            0 => Ok(leaf_hash(&self.read(index, 1)?[0])),
            kept if kept % LEVELS == 0 && kept / LEVELS <= HASH_FILES => match self.hashes(kept / LEVELS, index, 1)? {
                Some(hashes) => Ok(hashes[0]),
                None => self.complete(kept, index),
            },
            above if above > LEVELS * (HASH_FILES + 1) => {
                let (left, right) = (self.subtree(level - 1, 2 * index)?, self.subtree(level - 1, 2 * index + 1)?);
                Ok(node_hash(&left, &right))
            }
            between => self.complete(between, index),
        }
    }
}

/// One `write` for all of it where the kernel takes it so; only a signal before the first byte is tried again.
fn write_all(file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(ErrorKind::StorageFull.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
