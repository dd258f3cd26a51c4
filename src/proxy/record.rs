//! The proxy's one way to its journal: no record, no effect.
//!
//! A record is one short `write` on the request's path. What is weighty waits for the disk too; a thread of its own does
//! the waiting, and all requests that wait at the same time share one sync.

use crate::model::{Event, RequestNumber, Timestamp};
use crate::store::{Recorder, SyncHandle};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

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
}

struct Desk {
    recorder: Mutex<Box<dyn Recorder>>,
    /// Syncs without keeping the recorder from recording, where there is one.
    handle: Option<SyncHandle>,
    failed: AtomicBool,
}

impl Clerk {
    /// Starts the thread that syncs.
    pub(super) fn new(recorder: Box<dyn Recorder>, handle: Option<SyncHandle>) -> std::io::Result<Self> {
        let desk = Arc::new(Desk { recorder: Mutex::new(recorder), handle, failed: AtomicBool::new(false) });
        let (waiting, queue) = mpsc::channel();
        let at_desk = desk.clone();
        let builder = std::thread::Builder::new().name("omni-sync".to_owned());
        let thread = builder.spawn(move || at_desk.sync_in_groups(&queue))?;
        Ok(Self { desk, waiting, thread: Some(thread), requests: AtomicU64::new(0) })
    }

    /// The number of the next request that is judged.
    pub(super) fn next_request(&self) -> RequestNumber {
        RequestNumber(self.requests.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Keeps a fact; a weighty one is on the disk when this returns.
    pub(super) async fn record(&self, event: Event) -> Result<(), NotRecorded> {
        self.desk.write(&event)?;
        if !event.is_weighty() {
            return Ok(());
        }
        let (done, synced) = oneshot::channel();
        self.waiting.send(done).map_err(|_| NotRecorded)?;
        if synced.await.unwrap_or(false) { Ok(()) } else { Err(NotRecorded) }
    }

    /// Keeps a fact about something that is over, so that nobody has to wait for the disk.
    pub(super) fn record_done(&self, event: &Event) {
        if self.desk.write(event).is_ok() && event.is_weighty() {
            let (done, _) = oneshot::channel();
            // The thread ends only after it has synced what was handed to it.
            let _ = self.waiting.send(done);
        }
    }
}

impl Drop for Clerk {
    /// Waits until every weighty fact is on the disk. The others are in the file, which is all they were promised.
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel();
        drop(std::mem::replace(&mut self.waiting, closed));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn write(&self, event: &Event) -> Result<(), NotRecorded> {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::Relaxed) {
            return Err(NotRecorded);
        }
        recorder.record(now(), event).map_err(|_| self.fail())
    }

    /// After one failure nothing is kept any more: a gap in the facts must not be followed by more of them.
    fn fail(&self) -> NotRecorded {
        self.failed.store(true, Ordering::Relaxed);
        NotRecorded
    }

    fn sync(&self) -> bool {
        let synced = match &self.handle {
            Some(handle) => handle.sync(),
            None => self.recorder.lock().unwrap_or_else(PoisonError::into_inner).sync(),
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
    use crate::store::{Memory, StoreError};
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

    fn counting(fail_after: usize) -> (Clerk, Memory, Arc<AtomicUsize>) {
        let (inner, syncs) = (Memory::new(), Arc::new(AtomicUsize::new(0)));
        let recorder = Counting { inner: inner.clone(), syncs: syncs.clone(), fail_after };
        (Clerk::new(Box::new(recorder), None).unwrap(), inner, syncs)
    }

    #[tokio::test]
    async fn only_weighty_facts_wait_for_the_disk() {
        let (clerk, memory, syncs) = counting(usize::MAX);
        clerk.record(light(1)).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 0);
        clerk.record(weighty()).await.unwrap();
        assert_eq!(syncs.load(Ordering::SeqCst), 1);
        drop(clerk);
        assert_eq!(memory.events(), vec![light(1), weighty()]);
    }

    #[test]
    fn those_who_wait_together_share_one_sync() {
        let (inner, syncs) = (Memory::new(), Arc::new(AtomicUsize::new(0)));
        let recorder = Counting { inner, syncs: syncs.clone(), fail_after: usize::MAX };
        let desk = Desk { recorder: Mutex::new(Box::new(recorder)), handle: None, failed: AtomicBool::new(false) };
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
        let (clerk, memory, _) = counting(1);
        assert_eq!(clerk.record(light(1)).await, Ok(()));
        assert_eq!(clerk.record(light(2)).await, Err(NotRecorded));
        assert_eq!(clerk.record(weighty()).await, Err(NotRecorded));
        assert_eq!(memory.events(), vec![light(1)]);
    }
}
