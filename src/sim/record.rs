//! The record: one JSON line for each request.
//!
//! All headers are written down, keys included: the simulated provider is for rehearsals with throw-away keys, and
//! which key arrived is what many rehearsals are about. The file is readable by its owner alone.

use super::SimError;
use super::reply::Response;
use crate::model::{Timestamp, Usage};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// One request and what was answered.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) time: String,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
    /// `HTTP/1.1`, `HTTP/2.0`, or `WebSocket` for a call that was a message of one.
    pub(super) version: String,
    /// Every header by its name; values of one name are joined by `, `.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) request_bytes: usize,
    pub(super) dialect: Option<&'static str>,
    pub(super) model: Option<String>,
    pub(super) stream: bool,
    pub(super) status: u16,
    /// The turn of the script that answered, from 1; none for the built-in script and for what is no model call.
    pub(super) turn: Option<usize>,
    /// What the answer reports; none for what is no model call, for refusals, and for chat streams that were not asked
    /// to report it.
    pub(super) usage: Option<Usage>,
    /// The class of service that it reports, where that is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<String>,
    /// Whether the script breaks the answer off, so that the usage may not have been sent.
    pub(super) broken: bool,
}

impl Line {
    /// The same, with what is said of a response.
    pub(super) fn of(self, response: &Response) -> Self {
        Self {
            dialect: response.dialect.map(|dialect| dialect.as_str()),
            model: response.model.clone(),
            stream: response.stream,
            status: response.status,
            turn: response.turn,
            usage: response.usage,
            service_tier: response.tier.clone(),
            broken: response.broken,
            ..self
        }
    }
}

/// Where lines go, if anywhere.
pub(super) struct Record(Option<Mutex<File>>);

impl Record {
    /// Opens the file to add to, or nothing.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, SimError> {
        let Some(path) = path else { return Ok(Self(None)) };
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = open.map_err(|source| SimError::Write { path: path.to_owned(), source })?;
        Ok(Self(Some(Mutex::new(file))))
    }

    /// Writes a line in one piece.
    pub(super) fn write(&self, line: &Line) -> std::io::Result<()> {
        let Some(file) = &self.0 else { return Ok(()) };
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        // A panic elsewhere leaves whole lines behind, so the file is as good as before.
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes())?;
        file.flush()
    }
}

/// The present moment in RFC 3339.
pub(super) fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)).to_rfc3339()
}
