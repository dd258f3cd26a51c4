//! A session's requests as a HAR 1.2 file (<http://www.softwareishard.com/blog/har-12-spec/>), which browsers' developer
//! tools open.
//!
//! What the ledger does not keep is left empty, as the format wants it: headers, cookies, queries, and bodies that were not
//! recorded. What the format has no place for stands under names that begin with `_`, as it allows.

use crate::model::{BodySide, Event, RequestLine, RequestNumber, Scheme, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Of a size or time that is not known.
const UNKNOWN: i64 = -1;

/// Gathers what happened to each request.
#[derive(Debug, Default)]
pub struct Har {
    entries: BTreeMap<RequestNumber, Entry>,
}

/// What is known of one request.
#[derive(Debug)]
struct Entry {
    at: Timestamp,
    line: RequestLine,
    rule: Option<String>,
    act: Option<String>,
    outcome: Outcome,
    /// What was recorded of its body and its answer's.
    bodies: [Option<Recorded>; 2],
}

/// A body that was recorded.
#[derive(Debug)]
struct Recorded {
    content_type: Option<String>,
    sha256: Option<String>,
    missing: Option<String>,
}

/// What finds the bytes of a body by its SHA-256 in hexadecimal.
pub type FindBody<'a, E> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>, E>;

#[derive(Debug)]
enum Outcome {
    /// Not over, or cut off with the session's process.
    Open,
    Denied {
        reason: String,
    },
    Failed {
        reason: String,
    },
    Completed {
        status: u16,
        request_bytes: u64,
        response_bytes: u64,
        duration_ms: u64,
    },
}

impl Har {
    /// Takes the session's next event; those that are about no request are passed over.
    pub fn take(&mut self, at: Timestamp, event: Event) {
        match event {
            Event::RequestAllowed { request, line, rule, act, .. } => {
                self.entries.insert(request, Entry::new(at, line, Some(rule), act, Outcome::Open));
            }
            Event::RequestDenied { request, line, rule, act, reason, .. } => {
                self.entries.insert(request, Entry::new(at, line, rule, act, Outcome::Denied { reason }));
            }
            Event::RequestFailed { request, reason } => self.close(request, Outcome::Failed { reason }),
            Event::RequestCompleted { request, status, request_bytes, response_bytes, duration_ms, .. } => {
                self.close(request, Outcome::Completed { status, request_bytes, response_bytes, duration_ms });
            }
            Event::BodyRecorded { request, side, content_type, sha256, missing, .. } => {
                if let Some(entry) = self.entries.get_mut(&request) {
                    entry.bodies[side as usize] = Some(Recorded { content_type, sha256, missing });
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, request: RequestNumber, outcome: Outcome) {
        if let Some(entry) = self.entries.get_mut(&request) {
            entry.outcome = outcome;
        }
    }

    /// Writes the file piece by piece, with requests in the order in which they were judged.
    ///
    /// # Errors
    /// Those of finding a body and of writing.
    pub fn write<E>(
        &self,
        omni_version: &str,
        find: FindBody<'_, E>,
        emit: &mut dyn FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let creator = json!({ "name": "omni", "version": omni_version });
        emit(&format!("{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"entries\":["))?;
        let mut before = "\n";
        for (request, entry) in &self.entries {
            emit(&format!("{before}{}", entry.to_json(*request, find)?))?;
            before = ",\n";
        }
        emit("\n]}}\n")
    }
}

impl Entry {
    fn new(at: Timestamp, line: RequestLine, rule: Option<String>, act: Option<String>, outcome: Outcome) -> Self {
        Self { at, line, rule, act, outcome, bodies: [None, None] }
    }

    fn body<E>(&self, side: BodySide, find: FindBody<'_, E>) -> Result<Option<Map<String, Value>>, E> {
        let recorded = self.bodies[side as usize].as_ref();
        recorded.map(|recorded| recorded.to_json(find)).transpose()
    }

    fn to_json<E>(&self, request: RequestNumber, find: FindBody<'_, E>) -> Result<Value, E> {
        let (verdict, error) = match &self.outcome {
            Outcome::Denied { reason } => ("denied", Some(reason)),
            Outcome::Failed { reason } => ("allowed", Some(reason)),
            Outcome::Open | Outcome::Completed { .. } => ("allowed", None),
        };
        let duration = match self.outcome {
            Outcome::Completed { duration_ms, .. } => duration_ms,
            _ => 0,
        };
        let mut entry = Map::new();
        let mut put = |key: &str, value: Value| drop(entry.insert(key.to_owned(), value));
        put("startedDateTime", self.at.to_rfc3339().into());
        put("time", duration.into());
        put("request", self.request(self.body(BodySide::Request, find)?));
        put("response", self.response(self.body(BodySide::Response, find)?));
        put("cache", json!({}));
        put("timings", json!({ "send": 0, "wait": duration, "receive": 0 }));
        put("_request", request.0.into());
        put("_verdict", verdict.into());
        for (key, value) in [("_rule", self.rule.as_ref()), ("_act", self.act.as_ref()), ("_error", error)] {
            if let Some(value) = value {
                put(key, value.as_str().into());
            }
        }
        Ok(entry.into())
    }

    fn request(&self, body: Option<Map<String, Value>>) -> Value {
        let body_size = match self.outcome {
            Outcome::Completed { request_bytes, .. } => request_bytes.cast_signed(),
            _ => UNKNOWN,
        };
        let mut request = json!({
            "method": self.line.method,
            "url": url(&self.line),
            "httpVersion": "",
            "cookies": [],
            "headers": headers(body.as_ref()),
            "queryString": [],
            "headersSize": UNKNOWN,
            "bodySize": body_size,
        });
        if let (Some(body), Some(fields)) = (body, request.as_object_mut()) {
            let mut body = body;
            if let Some(encoding) = body.remove("encoding") {
                // The format knows it for answers alone.
                body.insert("_encoding".to_owned(), encoding);
            }
            fields.insert("postData".to_owned(), body.into());
        }
        request
    }

    /// What the client got; without an answer of the server's, the status is 0.
    fn response(&self, body: Option<Map<String, Value>>) -> Value {
        let (status, size) = match self.outcome {
            Outcome::Completed { status, response_bytes, .. } => (status, response_bytes.cast_signed()),
            _ => (0, UNKNOWN),
        };
        let headers = headers(body.as_ref());
        let mut content = body.unwrap_or_else(|| Map::from_iter([("mimeType".to_owned(), "".into())]));
        content.insert("size".to_owned(), size.max(0).into());
        json!({
            "status": status,
            "statusText": "",
            "httpVersion": "",
            "cookies": [],
            "headers": headers,
            "content": content,
            "redirectURL": "",
            "headersSize": UNKNOWN,
            "bodySize": size,
        })
    }
}

impl Recorded {
    /// Type, text, and what is missing; bytes that are no text are in base 64, and say so.
    fn to_json<E>(&self, find: FindBody<'_, E>) -> Result<Map<String, Value>, E> {
        let bytes = self.sha256.as_deref().map(find).transpose()?.flatten();
        let kind = self.content_type.clone().unwrap_or_default();
        let mut fields = Map::from_iter([("mimeType".to_owned(), Value::from(kind))]);
        let gone = (self.sha256.is_some() && bytes.is_none()).then_some("the recorded body is gone or was changed");
        match bytes.map(String::from_utf8) {
            Some(Ok(text)) => drop(fields.insert("text".to_owned(), text.into())),
            Some(Err(bytes)) => {
                fields.insert("text".to_owned(), STANDARD.encode(bytes.as_bytes()).into());
                fields.insert("encoding".to_owned(), "base64".into());
            }
            None => {}
        }
        if let Some(missing) = gone.or(self.missing.as_deref()) {
            fields.insert("comment".to_owned(), missing.into());
        }
        Ok(fields)
    }
}

/// The one header that is known, where a body was recorded.
fn headers(body: Option<&Map<String, Value>>) -> Value {
    let kind = body.and_then(|body| body.get("mimeType")?.as_str()).filter(|kind| !kind.is_empty());
    kind.map_or_else(|| json!([]), |kind| json!([{ "name": "content-type", "value": kind }]))
}

/// The URL of a request; a scheme's own port is left out.
fn url(line: &RequestLine) -> String {
    let (RequestLine { scheme, host, port, path, .. }, usual) = (
        line,
        match line.scheme {
            Scheme::Http => Some(80),
            Scheme::Https => Some(443),
            Scheme::Tcp | Scheme::Tls => None,
        },
    );
    let path = if usual.is_some() { path } else { "" };
    let port = if usual == Some(port.0) { String::new() } else { format!(":{}", port.0) };
    format!("{scheme}://{host}{port}{path}")
}
