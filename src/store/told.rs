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

impl Told {
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
