//! OpenAI's Responses over a WebSocket: each message of the client is a call, each event of the answer a message.

use super::record::{Line, now};
use super::reply::{Request, Response};
use super::server::Shared;
use crate::meter::Dialect;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

/// What the accepting side adds to the key (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The handshake's answer, where a request's headers begin a WebSocket.
pub(super) fn accept(headers: &HeaderMap) -> Option<HeaderMap> {
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| headers.get(UPGRADE).is_some_and(websocket))?;
    let text = [key.as_bytes(), GUID.as_bytes()].concat();
    let accept = STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text));
    let mut answer = HeaderMap::new();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).ok()?);
    Some(answer)
}

/// Answers calls until either side is done. `line` is what the record says of each but for the call's own.
pub(super) async fn serve(upgrade: OnUpgrade, shared: Arc<Shared>, line: Line) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let response = shared.stage.respond(&Request {
            method: "POST",
            host: &line.host,
            path: "/v1/responses",
            upgrade: false,
            account: None,
            body: call(&text).to_string().as_bytes(),
        });
        let line = Line { time: now(), request_bytes: text.len(), ..line.clone() }.of(&response);
        // A rehearsal whose record has holes proves nothing.
        if shared.record.write(&line).is_err() || say(&mut socket, response).await.is_none() {
            return;
        }
    }
}

/// The body of the plain request that a message stands for.
fn call(text: &str) -> Value {
    let mut body: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    if body.get("type").and_then(Value::as_str) != Some("response.create") {
        return Value::Null;
    }
    body["stream"] = json!(true);
    body
}

/// Sends an answer's events; none once the connection is over.
async fn say(socket: &mut WebSocketStream<TokioIo<Upgraded>>, response: Response) -> Option<()> {
    tokio::time::sleep(response.delay).await;
    let Response { status, mut body, dialect, .. } = response;
    debug_assert!(dialect.is_none_or(|dialect| dialect == Dialect::OpenAiResponses));
    while let Some(frame) = body.frame().await {
        let chunk = frame.ok()?.into_data().ok()?;
        let text = String::from_utf8_lossy(&chunk);
        let event = match text.lines().find_map(|line| line.strip_prefix("data: ")) {
            Some(data) => data.to_owned(),
            None if status == 200 => continue,
            None => refusal(status, &text),
        };
        socket.send(Message::text(event)).await.ok()?;
    }
    Some(())
}

/// A refusal as an event.
fn refusal(status: u16, body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    json!({"type": "error", "status": status, "error": body["error"]}).to_string()
}
