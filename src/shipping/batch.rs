//! Entries as the bytes that one place is sent.

use super::target::{Format, Kind, Signal};
use crate::export::otlp::{self, SpanBook};
use crate::export::{Installation, Record, json_line, json_object, ocsf, splunk_event, syslog_frame};
use serde_json::Value;

/// Most bytes of events in one batch, before they are encoded; one entry alone may be larger.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What an event is reckoned to have beside its own JSON.
const OVERHEAD_BYTES: usize = 512;

/// What one place is sent at once.
pub(super) enum Batch {
    /// Nothing of these entries is for it.
    Empty,
    Bytes(Vec<u8>),
}

/// How many of these entries are sent at once: at least one.
pub(super) fn count(records: &[Record], most: usize) -> usize {
    let mut bytes = 0;
    let size = |record: &Record| record.frame().map_or(0, |frame| frame.json.len()) + OVERHEAD_BYTES;
    let fits = records.iter().take(most).take_while(|record| {
        bytes += size(record);
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1).min(records.len())
}

/// The batch. Spans are joined in `book`.
pub(super) fn encode(kind: &Kind, records: &[Record], from: &Installation, book: &mut SpanBook) -> Batch {
    let line = |record: &Record, format: Format| match format {
        Format::Jsonl => json_line(record),
        Format::Ocsf => ocsf::line(record, from),
    };
    match kind {
        Kind::File { format, .. } => {
            Batch::Bytes(records.iter().map(|record| line(record, *format)).collect::<String>().into_bytes())
        }
        Kind::Syslog { format, .. } => {
            let frames = records.iter().map(|record| syslog_frame(record, from, &line(record, *format)));
            Batch::Bytes(frames.collect::<Vec<_>>().concat())
        }
        Kind::Splunk { within, format, .. } => {
            let events = records.iter().map(|record| {
                let (word, event) = match format {
                    Format::Jsonl => ("jsonl", Value::Object(json_object(record))),
                    Format::Ocsf => ("ocsf", ocsf::object(record, from)),
                };
                splunk_event(record, from, within, word, event)
            });
            Batch::Bytes(events.collect::<String>().into_bytes())
        }
        Kind::Otlp { signal: Signal::Logs, .. } => Batch::Bytes(otlp::logs(records, from)),
        Kind::Otlp { signal: Signal::Traces, .. } => {
            let whole: Vec<_> = records.iter().filter_map(|record| book.take(record)).collect();
            if whole.is_empty() { Batch::Empty } else { Batch::Bytes(otlp::spans(&whole, from)) }
        }
    }
}
