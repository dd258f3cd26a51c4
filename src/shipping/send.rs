//! Handing a batch over to a place.

use super::batch::Batch;
use super::courier::ReadToken;
use super::http::{Post, post};
use super::target::{Kind, Place, TokenSource};
use super::{file, syslog};
use crate::export::otlp;
use http::HeaderValue;
use std::time::Duration;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

/// How long a place may take for one batch.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a batch was not delivered. It will be tried again.
#[derive(Debug)]
pub(super) struct Trouble {
    /// For a person.
    pub why: String,
    /// How long the place wants to be left alone.
    pub after: Option<Duration>,
    /// Whether it would take fewer entries.
    pub is_too_large: bool,
}

impl Trouble {
    pub fn new(why: String) -> Self {
        Self { why, after: None, is_too_large: false }
    }
}

/// Delivers a batch; what the place has to say about it, if something.
pub(super) fn deliver(
    runtime: &Runtime,
    kind: &Kind,
    batch: &Batch,
    read_token: ReadToken<'_>,
) -> Result<Option<String>, Trouble> {
    let body = match (kind, batch) {
        (_, Batch::Empty) => return Ok(None),
        (Kind::File { path, .. }, Batch::Bytes(lines)) => return file::append(path, lines).map(|()| None),
        (_, Batch::Bytes(body)) => body.clone(),
    };
    runtime.block_on(async {
        let done = tokio::time::timeout(DELIVERY_TIMEOUT, send(kind, body, read_token)).await;
        done.unwrap_or_else(|_| {
            Err(Trouble::new(format!("it did not end within {} seconds", DELIVERY_TIMEOUT.as_secs())))
        })
    })
}

async fn send(kind: &Kind, body: Vec<u8>, read_token: ReadToken<'_>) -> Result<Option<String>, Trouble> {
    match kind {
        Kind::File { .. } => Ok(None),
        Kind::Syslog { place, .. } => syslog::send(place, &body).await.map(|()| None),
        Kind::Splunk { place, path, token, .. } => {
            let authorization = Some(authorization("Splunk", token, read_token)?);
            post(Post { place, path, content_type: "application/json", authorization, body }).await.map(|_| None)
        }
        Kind::Otlp { place, path, token, .. } => {
            let authorization = token.as_ref().map(|token| authorization("Bearer", token, read_token)).transpose()?;
            send_otlp(place, path, authorization, body).await
        }
    }
}

async fn send_otlp(
    place: &Place,
    path: &str,
    authorization: Option<HeaderValue>,
    body: Vec<u8>,
) -> Result<Option<String>, Trouble> {
    let answer = post(Post { place, path, content_type: "application/x-protobuf", authorization, body }).await?;
    // The protocol forbids to send those again.
    Ok(otlp::rejected(&answer).map(|(count, why)| format!("it took all but {count}, which it will not have: {why}")))
}

/// The value of `Authorization`, which is not shown anywhere. The token is read each time, since it may be another by now.
fn authorization(scheme: &str, token: &TokenSource, read_token: ReadToken<'_>) -> Result<HeaderValue, Trouble> {
    let token = read_token(token).map_err(|why| Trouble::new(format!("its token cannot be read: {why}")))?;
    let text = Zeroizing::new(format!("{scheme} {}", token.trim()));
    let value = HeaderValue::from_str(&text);
    let mut value = value.map_err(|_| Trouble::new("its token has a character that no header may have".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
