//! What leaves the records: encodings of single entries for programs of others.
//!
//! Pure. One entry of the ledger goes in ([`Record`]) and bytes or JSON come out, by the entry alone: the same entry is
//! encoded the same way whenever it is asked for, so that it may be sent twice and be known again. Nothing here holds more
//! than the events do: no value of a secret, no header, no query, no body. docs/exports.md tells what each format promises.

mod json_line;
mod metrics;
pub mod ocsf;
pub mod otlp;
mod protobuf;
mod record;
mod splunk;
mod syslog;

pub use json_line::{json_line, json_object};
pub use metrics::{METRICS_CONTENT_TYPE, Metric, MetricKind, metrics_text};
pub use record::{Frame, Installation, Record, Recorded};
pub use splunk::{SplunkPlace, splunk_event};
pub use syslog::syslog_frame;

#[cfg(test)]
mod tests;
