//! One request over HTTP/1.1, and what became of it.

use super::dial::connect;
use super::send::Trouble;
use super::target::Place;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::time::Duration;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How much of an answer is repeated in a message, in characters.
const ANSWER_SHOWN: usize = 200;

/// What is posted.
pub(super) struct Post<'a> {
    pub place: &'a Place,
    pub path: &'a str,
    pub content_type: &'static str,
    /// The value of `Authorization`.
    pub authorization: Option<HeaderValue>,
    pub body: Vec<u8>,
}

/// Posts. Any status of success gives the answer's body.
pub(super) async fn post(post: Post<'_>) -> Result<Bytes, Trouble> {
    let stream = connect(post.place, Some(b"http/1.1")).await?;
    let broken = |error: hyper::Error| Trouble::new(format!("the connection broke: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driven = tokio::spawn(connection);
    let mut request = Request::post(post.path)
        .header("host", authority(post.place))
        .header("user-agent", concat!("omni/", env!("CARGO_PKG_VERSION")))
        .header("content-type", post.content_type)
        .header("connection", "close");
    if let Some(value) = post.authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(Full::new(Bytes::from(post.body)));
    let request = request.map_err(|error| Trouble::new(format!("its address cannot be asked for: {error}")))?;
    let (head, body) = sender.send_request(request).await.map_err(broken)?.into_parts();
    let after = head.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let answer = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    driven.abort();
    let answer = answer.map_err(|error| Trouble::new(format!("its answer broke off: {error}")))?.to_bytes();
    judge(head.status, &answer, after.map(Duration::from_secs)).map(|()| answer)
}

fn authority(place: &Place) -> String {
    let host = if place.host.contains(':') { format!("[{}]", place.host) } else { place.host.clone() };
    format!("{host}:{}", place.port)
}

fn judge(status: StatusCode, answer: &[u8], after: Option<Duration>) -> Result<(), Trouble> {
    if status.is_success() {
        return Ok(());
    }
    let text: String = String::from_utf8_lossy(answer).trim().chars().take(ANSWER_SHOWN).collect();
    let what = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "it does not take the token",
        StatusCode::PAYLOAD_TOO_LARGE => "it takes less at once",
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => "it is busy",
        status if status.is_server_error() => "it has a fault",
        _ => "it does not take what it was sent",
    };
    let why = if text.is_empty() { format!("{what} ({status})") } else { format!("{what} ({status}: {text})") };
    Err(Trouble { why, after, is_too_large: status == StatusCode::PAYLOAD_TOO_LARGE })
}
