//! What a session's events tell of the calls that money was held for.

use super::StoredEvent;
use crate::model::{Event, NanoUsd, RequestNumber};
use std::collections::BTreeMap;

/// What they tell of one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// It was let go.
    pub left: bool,
    /// What it came to.
    pub settled: Option<NanoUsd>,
}

/// What becomes of money that is held for a call whose session is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The call came to this.
    Settled(NanoUsd),
    /// Its proxy may still let it go, or say what it came to.
    Open,
    /// It was let go, or may have been, and nobody says what it came to: it is charged whole.
    Lost,
}

impl Told {
    /// What becomes of a call. `whole` says that every journal could be read, `over` that nobody writes to them any more.
    pub(super) fn outcome(self, whole: bool, over: bool) -> Outcome {
        match self.settled {
            Some(cost) => Outcome::Settled(cost),
            None if !over => Outcome::Open,
            // Nothing leaves before it is in the journal.
            None if !self.left && whole => Outcome::Settled(NanoUsd::ZERO),
            None => Outcome::Lost,
        }
    }

    /// What they tell of each that they tell of.
    pub(super) fn of(events: &[StoredEvent]) -> BTreeMap<RequestNumber, Self> {
        let mut told = BTreeMap::<RequestNumber, Self>::new();
        for stored in events {
            match stored.event() {
                Some(Event::RequestAllowed { request, .. }) => told.entry(request).or_default().left = true,
                Some(Event::HoldSettled { request, charged, .. }) => {
                    told.entry(request).or_default().settled = Some(charged)
                }
                _ => {}
            }
        }
        told
    }
}
