//! One process's append-only file: a fact that something waits for is one `write`, with those before it that nothing waits for.

use super::awake::{Announced, announce};
use super::read::{Position, Reader};
use super::{Home, Recorder, StoreError};
use crate::ledger::{Chain, Header, Tail};
use crate::model::{Durability, Event, SessionId, Timestamp, Writer};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A journal that is being written. It holds one descriptor and needs no file system once it is made.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    chain: Chain,
    /// Frames that are not written yet.
    frames: Vec<u8>,
    poisoned: bool,
    /// Which facts are on the disk when they are recorded.
    durability: Option<Durability>,
    /// To a session at rest, nobody writes unannounced.
    _announced: Option<Announced>,
}

/// A descriptor of a journal's file that another thread can bring to the disk while records go on.
#[derive(Debug)]
pub struct SyncHandle {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Makes a session's journal for one writer, with its header. There must be none yet: a journal has one writer, ever.
    ///
    /// # Errors
    /// [`StoreError::JournalCreate`] when there is one or none can be made, [`StoreError::DiskFull`].
    pub fn create(home: &Home, session: &SessionId, writer: Writer) -> Result<Self, StoreError> {
        let path = home.journal(session, writer);
        let failed = |cause| match StoreError::write(&path, cause) {
            StoreError::JournalWrite { path, cause } => StoreError::JournalCreate { path, cause },
            full => full,
        };
        home.create_session(session).map_err(failed)?;
        let announced = Self::announce(home, writer).map_err(failed)?;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        // Held as long as any process has this descriptor, so that others can tell whether more may be written. Nobody else
        // keeps it for more than a moment; a file system without locks has none.
        let _ = file.lock();
        let header = Header { session: session.clone(), writer };
        write_whole(&file, &path, &header.encode())?;
        Ok(Self::at(path, file, Chain::begin(&header), announced))
    }

    fn at(path: PathBuf, file: File, chain: Chain, announced: Option<Announced>) -> Self {
        Self { path, file, chain, frames: Vec::new(), poisoned: false, durability: None, _announced: announced }
    }

    /// Announces what may be written to a session that is over.
    fn announce(home: &Home, writer: Writer) -> io::Result<Option<Announced>> {
        (writer == Writer::Changes).then(|| announce(home)).transpose()
    }

    /// Whether whoever writes a session's journal still may.
    pub(super) fn is_written(home: &Home, session: &SessionId, writer: Writer) -> bool {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let file =
            OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(home.journal(session, writer));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
    }

    /// Goes on with a journal whose last writer is gone, or makes it. One at a time does.
    ///
    /// A frame that was not finished was never acknowledged: nothing depended on it, and it is cut off.
    ///
    /// # Errors
    /// [`StoreError::JournalBusy`] while another goes on with it, [`StoreError::JournalBroken`] when the file holds what no writer wrote, and those of [`Journal::create`].
    pub fn reopen(home: &Home, session: &SessionId, writer: Writer) -> Result<Self, StoreError> {
        let header = Header { session: session.clone(), writer };
        let Some(mut reader) = Reader::open(home, header.clone())? else {
            return Self::create(home, session, writer);
        };
        let path = home.journal(session, writer);
        let mut position = Position::start(&header);
        loop {
            let piece = reader.next(position)?;
            position = Position { chain: piece.decoded.chain, offset: piece.decoded.end };
            if let Tail::Broken { seq, why, .. } = piece.decoded.tail {
                return Err(StoreError::JournalBroken { path, seq, why });
            }
            if !piece.more {
                break;
            }
        }
        let failed = |cause| StoreError::write(&path, cause);
        let announced = Self::announce(home, writer).map_err(failed)?;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
        let file = OpenOptions::new().append(true).custom_flags(flags.bits().cast_signed()).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::JournalBusy { path }),
            Err(std::fs::TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        if file.metadata().map_err(failed)?.len() < position.offset {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        }
        file.set_len(position.offset).map_err(failed)?;
        if position.offset == 0 {
            write_whole(&file, &path, &header.encode())?;
        }
        Ok(Self::at(path, file, position.chain, announced))
    }

    /// From here on `record` itself brings to the disk what this level demands, and what was recorded so far.
    ///
    /// # Errors
    /// As [`Journal::anchor`].
    pub fn held_to(mut self, durability: Durability) -> Result<Self, StoreError> {
        if durability == Durability::Fsync {
            self.anchor()?;
            self.durability = Some(durability);
        }
        Ok(self)
    }

    /// Brings to the disk that there is such a file: a file whose name is lost with the machine's power is lost itself.
    ///
    /// # Errors
    /// [`StoreError::JournalSync`] when that is not certain.
    pub fn anchor(&self) -> Result<(), StoreError> {
        sync(&self.file, &self.path)?;
        // The session's directory, and the one that names it.
        for directory in self.path.ancestors().skip(1).take(2) {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|cause| StoreError::JournalSync { path: directory.to_owned(), cause })?;
        }
        Ok(())
    }

    /// Another descriptor of the same file, so that an async process can sync from a thread that may block.
    ///
    /// # Errors
    /// [`StoreError::JournalSync`] when the descriptor cannot be doubled.
    pub fn sync_handle(&self) -> Result<SyncHandle, StoreError> {
        let failed = |cause| StoreError::JournalSync { path: self.path.clone(), cause };
        Ok(SyncHandle { path: self.path.clone(), file: self.file.try_clone().map_err(failed)? })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl SyncHandle {
    /// Brings to the disk whatever was recorded before the call (`fdatasync`).
    ///
    /// # Errors
    /// [`StoreError::JournalSync`]. Pages that failed once may be dropped by the kernel, so that trying again proves
    /// nothing: let the effects that waited for it not happen.
    pub fn sync(&self) -> Result<(), StoreError> {
        sync(&self.file, &self.path)
    }
}

impl Recorder for Journal {
    fn record(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError> {
        self.defer(at, event)?;
        self.settle()?;
        if self.durability.is_some_and(|durability| durability.demands(event)) { self.sync() } else { Ok(()) }
    }

    fn defer(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError> {
        if self.poisoned {
            return Err(StoreError::JournalPoisoned { path: self.path.clone() });
        }
        let encoded = self.chain.append(at, event, &mut self.frames);
        encoded.map_err(|cause| StoreError::JournalEncode { path: self.path.clone(), cause })
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let written = write_whole(&self.file, &self.path, &self.frames);
        self.frames.clear();
        // What lies in the file now is unknown; a frame after it could not be read back.
        self.poisoned = written.is_err();
        written
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let synced = sync(&self.file, &self.path);
        self.poisoned |= synced.is_err();
        synced
    }
}

fn sync(file: &File, path: &Path) -> Result<(), StoreError> {
    file.sync_data().map_err(|cause| match StoreError::write(path, cause) {
        StoreError::JournalWrite { path, cause } => StoreError::JournalSync { path, cause },
        full => full,
    })
}

/// One `write`, all or an error. Only a signal before the first byte is tried again.
fn write_whole(file: &File, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    loop {
        match rustix::io::write(file, bytes) {
            Ok(count) if count == bytes.len() => return Ok(()),
            // A file takes less than it was given when the space runs out in the middle.
            Ok(_) => return Err(StoreError::write(path, io::Error::from(io::ErrorKind::StorageFull))),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(StoreError::write(path, errno.into())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::ledger::{Tail, decode};
    use crate::model::RequestNumber;
    use std::os::unix::fs::PermissionsExt;

    fn event() -> Event {
        Event::RequestFailed { request: RequestNumber(1), reason: "no answer".to_owned() }
    }

    fn place() -> (tempfile::TempDir, Home, SessionId) {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        (place, home, SessionId::from_entropy([1; 10]))
    }

    #[test]
    fn what_is_recorded_can_be_read_at_once() {
        let (_place, home, session) = place();
        let mut journal = Journal::create(&home, &session, Writer::Proxy).unwrap();
        for at in 1..=3 {
            journal.record(Timestamp(at), &event()).unwrap();
        }
        journal.sync().unwrap();
        journal.sync_handle().unwrap().sync().unwrap();
        let path = home.journal(&session, Writer::Proxy);
        let bytes = std::fs::read(&path).unwrap();
        let decoded = decode(&Header { session, writer: Writer::Proxy }, &bytes);
        assert_eq!((decoded.frames.len(), decoded.tail), (3, Tail::Clean));
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_deferred_is_kept_with_the_next_record_in_its_order() {
        let (_place, home, session) = place();
        let mut journal = Journal::create(&home, &session, Writer::Proxy).unwrap();
        let path = home.journal(&session, Writer::Proxy);
        let header = Header { session, writer: Writer::Proxy };
        let times = || {
            let bytes = std::fs::read(&path).unwrap();
            let decoded = decode(&header, &bytes);
            assert_eq!(decoded.tail, Tail::Clean);
            decoded.frames.len()
        };
        journal.defer(Timestamp(1), &event()).unwrap();
        assert_eq!(times(), 0);
        journal.record(Timestamp(2), &event()).unwrap();
        assert_eq!(times(), 2);
        journal.defer(Timestamp(3), &event()).unwrap();
        journal.settle().unwrap();
        journal.settle().unwrap();
        assert_eq!(times(), 3);
    }

    #[test]
    fn a_journal_is_made_once() {
        let (_place, home, session) = place();
        Journal::create(&home, &session, Writer::Session).unwrap();
        Journal::create(&home, &session, Writer::Proxy).unwrap();
        let again = Journal::create(&home, &session, Writer::Session);
        assert!(matches!(again, Err(StoreError::JournalCreate { .. })));
    }

    #[test]
    fn after_a_failed_write_nothing_more_is_recorded() {
        let (_place, home, session) = place();
        let mut journal = Journal::create(&home, &session, Writer::Session).unwrap();
        journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(matches!(journal.record(Timestamp(1), &event()), Err(StoreError::DiskFull { .. })));
        journal.file = OpenOptions::new().append(true).open(journal.path()).unwrap();
        assert!(matches!(journal.record(Timestamp(2), &event()), Err(StoreError::JournalPoisoned { .. })));
    }

    #[test]
    fn a_reopened_journal_goes_on_where_it_whole_ended() {
        let (_place, home, session) = place();
        for round in 1..=3 {
            let mut journal = Journal::reopen(&home, &session, Writer::Changes).unwrap();
            journal.record(Timestamp(round), &event()).unwrap();
            let path = journal.path().to_owned();
            let torn = [std::fs::read(&path).unwrap(), vec![0, 0, 0, 9]].concat();
            std::fs::write(&path, torn).unwrap();
        }
        drop(Journal::reopen(&home, &session, Writer::Changes).unwrap());
        let bytes = std::fs::read(home.journal(&session, Writer::Changes)).unwrap();
        let decoded = decode(&Header { session, writer: Writer::Changes }, &bytes);
        assert_eq!((decoded.frames.len(), decoded.tail), (3, Tail::Clean));
    }

    #[test]
    fn a_journal_with_something_else_in_it_is_not_gone_on_with() {
        let (_place, home, session) = place();
        Journal::create(&home, &session, Writer::Changes).unwrap().record(Timestamp(1), &event()).unwrap();
        let path = home.journal(&session, Writer::Changes);
        let damaged = [std::fs::read(&path).unwrap(), b"nonsense, and more of it".to_vec()].concat();
        std::fs::write(&path, &damaged).unwrap();
        let again = Journal::reopen(&home, &session, Writer::Changes);
        assert!(matches!(again, Err(StoreError::JournalBroken { seq: 2, .. })), "{again:?}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}
