//! Keeping a fact before its effect happens.

use super::StoreError;
use crate::model::{Event, Timestamp};
use std::sync::{Arc, Mutex, PoisonError};

/// Something that keeps facts. No record, no effect: what a failed `record` was to announce must not happen.
pub trait Recorder: Send {
    /// Keeps one fact in the order of the calls. When it returns, the fact survives the death of this process; for
    /// surviving the machine's, which a weighty fact must ([`Event::is_weighty`]), call [`Recorder::sync`] as well.
    ///
    /// # Errors
    /// A [`StoreError`] when the fact was not kept. A journal takes no further facts after that.
    fn record(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError>;

    /// Takes one fact that no effect waits for. It is kept with the next one that is recorded, in one piece, or by
    /// [`Recorder::settle`].
    ///
    /// # Errors
    /// A [`StoreError`] when the fact will not be kept.
    fn defer(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError> {
        self.record(at, event)
    }

    /// Keeps what was deferred.
    ///
    /// # Errors
    /// A [`StoreError`] when any of it was not kept.
    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Brings everything recorded so far to the disk.
    ///
    /// # Errors
    /// A [`StoreError`] when that is not certain.
    fn sync(&mut self) -> Result<(), StoreError>;
}

/// A recorder that keeps facts in memory, for rehearsals and tests. Clones share what they keep.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Vec<(Timestamp, Event)>>>);

impl Memory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything recorded so far, in order.
    #[must_use]
    pub fn records(&self) -> Vec<(Timestamp, Event)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The facts alone, in order.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.records().into_iter().map(|(_, event)| event).collect()
    }
}

impl Recorder for Memory {
    fn record(&mut self, at: Timestamp, event: &Event) -> Result<(), StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((at, event.clone()));
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
