//! A session's layer, held so that nobody else applies or discards its changes meanwhile.
//!
//! Taking hold of it, and letting go of what is done with, takes the rights of whoever keeps the records; what lies between, in
//! the workspace and the layer, those of the layer's owner. They differ where the machine's server acts for a user.

use super::commit;
use super::error::OverlayError;
use super::layer::{self, Layer};
use super::scan::scan;
use crate::model::{Event, SessionId, Writer};
use crate::session::clock;
use crate::store::{Home, Journal, Recorder};
use std::os::fd::OwnedFd;

/// A layer that is held, with the journal that says what becomes of it.
#[derive(Debug)]
pub struct Held {
    pub(super) home: Home,
    pub(super) layer: Layer,
    pub(super) journal: Journal,
    _lock: OwnedFd,
}

impl Held {
    /// Takes hold of a session's layer, with the rights of whoever keeps the records.
    ///
    /// # Errors
    /// [`OverlayError::Nothing`], [`OverlayError::Busy`], [`OverlayError::Notes`].
    pub fn take(home: &Home, session: &SessionId) -> Result<Self, OverlayError> {
        layer::sweep(home, session)?;
        let layer = Layer::find(home, session)?;
        let lock = layer.lock()?;
        let journal = Journal::reopen(home, session, Writer::Changes)?;
        Ok(Self { home: home.clone(), layer, journal, _lock: lock })
    }

    /// Goes on with what an attempt to apply left unfinished, and counts the changes, where they can be told. With the rights
    /// of the layer's owner.
    ///
    /// # Errors
    /// [`OverlayError::Others`], and what keeps such an attempt from being finished.
    pub fn settle(&mut self) -> Result<Option<u64>, OverlayError> {
        commit::recover(&self.layer, &mut self.journal)?;
        Ok(scan(&self.layer, false).ok().map(|changes| changes.list.len() as u64))
    }

    /// Records that the changes are given up, and removes them. With the rights of whoever keeps the records.
    ///
    /// # Errors
    /// What kept the record from being written or the layer from being removed; trying again goes on with it.
    pub fn discard(mut self, changes: Option<u64>) -> Result<(), OverlayError> {
        record_discarded(&mut self.journal, changes)?;
        layer::remove(&self.home, &self.layer.session)
    }

    /// Removes what was taken over as a whole.
    pub(super) fn remove(&self) -> Result<(), OverlayError> {
        layer::remove(&self.home, &self.layer.session)
    }
}

/// Gives up changes whose notes cannot be read, unless an attempt that was cut short may keep what the workspace had.
///
/// # Errors
/// As [`Held::discard`]; what the notes' reading came to, `why`, where they are still needed.
pub fn discard_unread(home: &Home, session: &SessionId, why: OverlayError) -> Result<(), OverlayError> {
    if commit::is_under_way(&layer::place(home, session)) {
        return Err(why);
    }
    record_discarded(&mut Journal::reopen(home, session, Writer::Changes)?, None)?;
    layer::remove(home, session)
}

fn record_discarded(journal: &mut Journal, changes: Option<u64>) -> Result<(), OverlayError> {
    journal.record(clock::now(), &Event::ChangesDiscarded { changes })?;
    Ok(journal.sync()?)
}
