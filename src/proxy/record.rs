//! The proxy's one way to its journal: no record, no effect.
//!
//! A record is one short `write` on the request's path. That a request is over makes nothing happen: such facts are
//! written before the proxy next waits for anything, or with the next record, whichever is sooner.
//!
//! What is weighty waits for the disk too; a thread of its own does
//! the waiting, and all requests that wait at the same time share one sync.

use crate::model::{Durability, Event, RequestNumber, Timestamp};
use crate::store::{Recorder, StoreError, SyncHandle};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// Most facts that wait to be written.
const LATER_MAX: usize = 64;

/// The fact was not kept, so what it announced must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not recorded, so not done: the session's journal cannot be written; free some disk space and start a new session"
)]
pub(super) struct NotRecorded;

/// Keeps facts in order and says when they are safe.
pub(super) struct Clerk {
    desk: Arc<Desk>,
    waiting: mpsc::Sender<oneshot::Sender<bool>>,
    thread: Option<JoinHandle<()>>,
    requests: AtomicU64,
    durability: Durability,
}

struct Desk {
    book: Mutex<Book>,
    /// Whether somebody settles the book whenever there is nothing else to do.
    is_settled: bool,
    /// Syncs without keeping the recorder from recording, where there is one.
    handle: Option<SyncHandle>,
    failed: AtomicBool,
}

struct Book {
    recorder: Box<dyn Recorder>,
    /// What is to be recorded before anything else.
    later: Vec<(Timestamp, Event)>,
}

impl Clerk {
    /// One whose every record is written at once.
    #[cfg(test)]
    pub(super) fn new(
        recorder: Box<dyn Recorder>,
        handle: Option<SyncHandle>,
        durability: Durability,
    ) -> std::io::Result<Self> {
        Self::at(Desk::new(recorder, handle), durability)
    }

    /// Starts the thread that syncs. With it comes what is to be called whenever the thread that records has nothing else to
    /// do.
    pub(super) fn settled(
        recorder: Box<dyn Recorder>,
        handle: Option<SyncHandle>,
        durability: Durability,
    ) -> std::io::Result<(Self, impl Fn() + Send + Sync + 'static)> {
        // Where every fact waits for the disk, none waits to be written.
        let is_settled = durability != Durability::Fsync;
        let clerk = Self::at(Desk { is_settled, ..Desk::new(recorder, handle) }, durability)?;
        let desk = clerk.desk.clone();
        Ok((clerk, move || desk.settle()))
    }

    fn at(desk: Desk, durability: Durability) -> std::io::Result<Self> {
        let desk = Arc::new(desk);
        let (waiting, queue) = mpsc::channel();
        let at_desk = desk.clone();
        let builder = std::thread::Builder::new().name("omni-sync".to_owned());
        let thread = builder.spawn(move || at_desk.sync_in_groups(&queue))?;
        Ok(Self { desk, waiting, thread: Some(thread), requests: AtomicU64::new(0), durability })
    }

    /// The number of the next request that is judged.
    pub(super) fn next_request(&self) -> RequestNumber {
        RequestNumber(self.requests.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Keeps a fact; one that has to wait for the disk, as a weighty one has, is on it when this returns.
    pub(super) async fn record(&self, event: Event) -> Result<(), NotRecorded> {
        self.keep(&event).await
    }

    /// The same for a fact whose parts are needed afterwards.
    pub(super) async fn keep(&self, event: &Event) -> Result<(), NotRecorded> {
        self.desk.write(event)?;
        if !self.durability.demands(event) {
            return Ok(());
        }
        let (done, synced) = oneshot::channel();
        self.waiting.send(done).map_err(|_| NotRecorded)?;
        if synced.await.unwrap_or(false) { Ok(()) } else { Err(NotRecorded) }
    }

    /// Keeps a fact about something that is over, so that nobody has to wait for the disk.
    pub(super) fn record_done(&self, event: &Event) {
        if self.desk.write(event).is_ok() && self.durability.demands(event) {
            let (done, _) = oneshot::channel();
            // The thread ends only after it has synced what was handed to it.
            let _ = self.waiting.send(done);
        }
    }
}

impl Clerk {
    /// Keeps a fact that nothing follows from, soon.
    pub(super) fn record_later(&self, event: Event) {
        if self.desk.is_settled {
            self.desk.write_later(event);
        } else {
            self.record_done(&event);
        }
    }
}

impl Drop for Clerk {
    /// Waits until every weighty fact is on the disk. The others are in the file, which is all they were promised.
    fn drop(&mut self) {
        self.desk.settle();
        let (closed, _) = mpsc::channel();
        drop(std::mem::replace(&mut self.waiting, closed));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Book {
    /// Hands over what waits, which is kept with what is recorded next.
    fn defer(&mut self) -> Result<(), StoreError> {
        let Self { recorder, later } = self;
        later.drain(..).try_for_each(|(at, event)| recorder.defer(at, &event))
    }

    fn record(&mut self, event: &Event) -> Result<(), StoreError> {
        self.defer()?;
        self.recorder.record(now(), event)
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        if self.later.is_empty() {
            return Ok(());
        }
        self.defer()?;
        self.recorder.settle()
    }
}

impl Desk {
    fn new(recorder: Box<dyn Recorder>, handle: Option<SyncHandle>) -> Self {
        let book = Mutex::new(Book { recorder, later: Vec::new() });
        Self { book, is_settled: false, handle, failed: AtomicBool::new(false) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, event: &Event) -> Result<(), NotRecorded> {
        self.keep(|book| book.record(event))
    }

    fn write_later(&self, event: Event) {
        let _ = self.keep(|book| {
            book.later.push((now(), event));
            if book.later.len() < LATER_MAX { Ok(()) } else { book.settle() }
        });
    }

    /// Writes what waits. Whether that succeeds is told to whoever records next.
    fn settle(&self) {
        let _ = self.keep(Book::settle);
    }

    fn keep(&self, act: impl FnOnce(&mut Book) -> Result<(), StoreError>) -> Result<(), NotRecorded> {
        let mut book = self.book();
        if self.failed.load(Ordering::Relaxed) {
            return Err(NotRecorded);
        }
        act(&mut book).map_err(|_| self.fail())
    }

    /// After one failure nothing is kept any more: a gap in the facts must not be followed by more of them.
    fn fail(&self) -> NotRecorded {
        self.failed.store(true, Ordering::Relaxed);
        NotRecorded
    }

    fn sync(&self) -> bool {
        let synced = match &self.handle {
            Some(handle) => handle.sync(),
            None => self.book().recorder.sync(),
        };
        let synced = synced.map_err(|_| self.fail());
        synced.is_ok() && !self.failed.load(Ordering::Relaxed)
    }

    fn sync_in_groups(&self, queue: &mpsc::Receiver<oneshot::Sender<bool>>) {
        while let Ok(first) = queue.recv() {
            let group: Vec<_> = std::iter::once(first).chain(queue.try_iter()).collect();
            let synced = self.sync();
            for waiter in group {
                let _ = waiter.send(synced);
            }
        }
    }
}

/// The time, in the ledger's unit.
pub(super) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{RefusalKind, RequestNumber};
    use crate::store::Memory;
    use std::sync::atomic::AtomicUsize;

    fn light(number: u64) -> Event {
        Event::RequestFailed { request: RequestNumber(number), reason: "no".to_owned() }
    }

    fn weighty() -> Event {
        Event::ConnectionRefused { kind: RefusalKind::Tls, target: "a".to_owned(), reason: "b".to_owned() }
    }

    struct Counting {
        inner: Memory,
        syncs: Arc<AtomicUsize>,
        fail_after: usize,
    }

    impl Recorder for Counting {
        fn record(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError> {
            if self.inner.records().len() >= self.fail_after {
                return Err(StoreError::JournalPoisoned { path: "j".into() });
            }
            self.inner.record(at, event)
        }

        fn sync(&mut self) -> Result<(), StoreError> {
            self.syncs.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(5));
            Ok(())
        }
    }

    fn counting(fail_after: usize, durability: Durability) -> (Clerk, Memory, Arc<AtomicUsize>) {
        let (inner, syncs) = (Memory::new(), Arc::new(AtomicUsize::new(0)));
        let recorder = Counting { inner: inner.clone(), syncs: syncs.clone(), fail_after };
        (Clerk::new(Box::new(recorder), None, durability).unwrap(), inner, syncs)
    }

    #[tokio::test]
    async fn only_weighty_facts_wait_for_the_disk() {
        let (clerk, memory, syncs) = counting(usize::MAX, Durability::Weighty);
        clerk.record(light(1)).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 0);
        clerk.record(weighty()).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        drop(clerk);
        assert_eq!(memory.events(), vec![light(1), weighty()]);
    }

    #[tokio::test]
    async fn what_is_over_is_recorded_before_anything_else_is_at_rest_and_at_the_end() {
        let memory = Memory::new();
        let (clerk, settle) = Clerk::settled(Box::new(memory.clone()), None, Durability::Weighty).unwrap();
        clerk.record_later(light(1));
        assert_eq!(memory.events(), []);
        clerk.record(light(2)).await.unwrap();
        assert_eq!(memory.events(), [light(1), light(2)]);
        clerk.record_later(light(3));
        settle();
        assert_eq!(memory.events().last(), Some(&light(3)));
        (0..LATER_MAX as u64).for_each(|number| clerk.record_later(light(number)));
        assert_eq!(memory.events().len(), 3 + LATER_MAX);
        clerk.record_later(light(4));
        drop(clerk);
        assert_eq!(memory.events().last(), Some(&light(4)));
    }

    #[tokio::test]
    async fn every_fact_waits_for_the_disk_where_that_is_demanded() {
        let (clerk, memory, syncs) = counting(usize::MAX, Durability::Fsync);
        clerk.record(light(1)).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        clerk.record_later(light(2));
        assert_eq!(memory.events(), [light(1), light(2)]);
        drop(clerk);
        assert_eq!(syncs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn those_who_wait_together_share_one_sync() {
        let (inner, syncs) = (Memory::new(), Arc::new(AtomicUsize::new(0)));
        let recorder = Counting { inner, syncs: syncs.clone(), fail_after: usize::MAX };
        let desk = Desk::new(Box::new(recorder), None);
        let (waiting, queue) = mpsc::channel();
        let waiters: Vec<_> = (0..50)
            .map(|_| {
                desk.write(&weighty()).unwrap();
                let (done, synced) = oneshot::channel();
                waiting.send(done).unwrap();
                synced
            })
            .collect();
        drop(waiting);
        desk.sync_in_groups(&queue);
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        assert!(waiters.into_iter().all(|mut synced| synced.try_recv() == Ok(true)));
    }

    #[tokio::test]
    async fn after_one_failure_nothing_is_kept() {
        let (clerk, memory, _) = counting(1, Durability::Weighty);
        assert_eq!(clerk.record(light(1)).await, Ok(()));
        assert_eq!(clerk.record(light(2)).await, Err(NotRecorded));
        assert_eq!(clerk.record(weighty()).await, Err(NotRecorded));
        assert_eq!(memory.events(), vec![light(1)]);
    }
}
