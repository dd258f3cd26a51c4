//! What a frame carries: a number, a time and a fact, as JSON.

use crate::model::{Event, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A record on its way into a frame.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    /// Its place in the journal, from 1.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The fact.
    pub event: &'a Event,
}

/// A record read back. The fact stays text: a later version may know facts that this one does not.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    /// Its place in the journal, from 1.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The fact's JSON.
    #[serde(borrow)]
    pub event: &'a RawValue,
}

/// Only the tag of a fact.
#[derive(Deserialize)]
struct Tag {
    event: String,
}

/// The fact in this JSON; none when this version does not know it.
#[must_use]
pub fn event_of(json: &str) -> Option<Event> {
    serde_json::from_str(json).ok()
}

/// The name of the fact in this JSON, known to this version or not; none when it is no fact at all.
#[must_use]
pub fn event_kind(json: &str) -> Option<String> {
    serde_json::from_str::<Tag>(json).ok().map(|tag| tag.event)
}

/// The fact's JSON within a payload; none when the payload is not a record.
#[must_use]
pub fn event_json(payload: &[u8]) -> Option<&str> {
    serde_json::from_slice::<Envelope<'_>>(payload).ok().map(|record| record.event.get())
}

/// What a payload says.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Its place in the journal, from 1.
    pub seq: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// The fact's JSON.
    pub event: &'a str,
}

/// What a payload says; none when it is not a record.
#[must_use]
pub fn recorded(payload: &[u8]) -> Option<Recorded<'_>> {
    let record = serde_json::from_slice::<Envelope<'_>>(payload).ok()?;
    Some(Recorded { seq: record.seq, at: record.at, event: record.event.get() })
}

/// The number that a payload says it has; none when the payload is not a record.
#[must_use]
pub fn frame_number(payload: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Envelope<'_>>(payload).ok().map(|record| record.seq)
}
