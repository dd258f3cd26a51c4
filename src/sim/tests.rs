//! The simulated provider over real TLS on loopback, read by the meter.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::meter::{Certainty, Dialect, Meter, Reading};
use crate::model::Usage;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;

/// What came back: the status, the body as far as it came, and whether it came to its end.
struct Got {
    status: StatusCode,
    body: Vec<u8>,
    complete: bool,
}

struct Rehearsal {
    address: SocketAddr,
    tls: tokio_rustls::TlsConnector,
    folder: tempfile::TempDir,
}

impl Rehearsal {
    /// Starts a simulated provider on this test's runtime.
    fn start(script: &str) -> Self {
        Self::start_speaking(script, b"http/1.1")
    }

    fn start_speaking(script: &str, protocol: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = (!script.is_empty()).then(|| Script::parse("test", script).unwrap());
        let listen = "127.0.0.1:0".parse().unwrap();
        let record = Some(folder.path().join("record.jsonl"));
        let ca_out = Some(folder.path().join("ca.pem"));
        let sim = Sim::bind(Options { listen, script, ca_out, record, websockets: true }).unwrap();
        let address = sim.address();
        tokio::spawn(sim.serve());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.path().join("ca.pem")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Self { address, tls: Arc::new(config).into(), folder }
    }

    async fn send(&self, method: &str, host: &'static str, path: &str, body: String) -> Got {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = self.tls.connect(ServerName::try_from(host).unwrap(), stream).await.unwrap();
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let request = Request::builder().method(method).header("authorization", "Bearer sk-throwaway");
        let body = Full::new(Bytes::from(body));
        let response = if h2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request.uri(format!("https://{host}{path}")).body(body).unwrap()).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request.uri(path).header("host", host).body(body).unwrap()).await.unwrap()
        };
        let status = response.status();
        let (mut incoming, mut body) = (response.into_body(), Vec::new());
        let complete = loop {
            match incoming.frame().await {
                Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().unwrap()),
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        Got { status, body, complete }
    }

    async fn call(&self, dialect: Dialect, body: &Value) -> Got {
        let (host, path) = place(dialect, body["stream"] == true);
        self.send("POST", host, path, body.to_string()).await
    }

    fn record(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("record.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

const ALL: [Dialect; 4] =
    [Dialect::AnthropicMessages, Dialect::OpenAiResponses, Dialect::OpenAiChat, Dialect::GoogleGenerate];

const GOOGLE: &str = "generativelanguage.googleapis.com";

fn place(dialect: Dialect, stream: bool) -> (&'static str, &'static str) {
    match dialect {
        Dialect::AnthropicMessages => ("api.anthropic.com", "/v1/messages?beta=true"),
        Dialect::BedrockConverse => unreachable!("not simulated"),
        Dialect::OpenAiResponses => ("api.openai.com", "/v1/responses"),
        Dialect::OpenAiChat => ("api.openai.com", "/v1/chat/completions"),
        Dialect::GoogleGenerate if stream => (GOOGLE, "/v1beta/models/some-model:streamGenerateContent?alt=sse"),
        Dialect::GoogleGenerate => (GOOGLE, "/v1beta/models/some-model:generateContent"),
    }
}

/// A prompt in the form of a dialect, with a shell tool to answer with.
fn prompt(dialect: Dialect, text: &str, stream: bool) -> Value {
    let message = match dialect {
        Dialect::GoogleGenerate => json!([{"role": "user", "parts": [{"text": text}]}]),
        _ => json!([{"role": "user", "content": text}]),
    };
    let schema = json!({"type": "object", "properties": {"command": {"type": "string"}}});
    let mut body = json!({"model": "some-model", "stream": stream, "stream_options": {"include_usage": true}});
    let (key, tool) = match dialect {
        Dialect::AnthropicMessages => ("messages", json!({"name": "Bash", "input_schema": schema})),
        Dialect::BedrockConverse => unreachable!("not simulated"),
        Dialect::OpenAiResponses => ("input", json!({"type": "function", "name": "shell", "parameters": schema})),
        Dialect::OpenAiChat => {
            ("messages", json!({"type": "function", "function": {"name": "bash", "parameters": schema}}))
        }
        Dialect::GoogleGenerate => {
            let function = json!({"name": "run_shell_command", "parametersJsonSchema": schema});
            ("contents", json!({"functionDeclarations": [function]}))
        }
    };
    body[key] = message;
    body["tools"] = json!([tool]);
    body
}

fn read(dialect: Dialect, got: &Got) -> Option<Reading> {
    let mut meter = Meter::new(dialect.into());
    meter.response_head(got.status.as_u16(), "", None);
    meter.response(&got.body);
    meter.finish(got.complete)
}

const SPENDTHRIFT: &str = "turns:\n- reply:\n    text: 'so much'\n    usage: {input: 1, cache_read: 20, cache_write: 300, \
                           cache_write_long: 4000, output: 50000, reasoning: 600, web_searches: 2}\n";

#[tokio::test]
async fn what_is_reported_is_what_is_metered_and_recorded() {
    for script in ["", SPENDTHRIFT] {
        let rehearsal = Rehearsal::start(script);
        for dialect in ALL {
            for stream in [false, true] {
                let got = rehearsal.call(dialect, &prompt(dialect, "do it", stream)).await;
                let reading = read(dialect, &got).unwrap();
                let recorded = rehearsal.record().pop().unwrap();
                let usage: Usage = serde_json::from_value(recorded["usage"].clone()).unwrap();
                assert_eq!((reading.usage, reading.certainty), (usage, Certainty::Final), "{dialect:?} {stream}");
                assert_eq!(reading.model, "some-model");
                assert_eq!(recorded["dialect"], dialect.as_str());
                assert_eq!(recorded["headers"]["authorization"], "Bearer sk-throwaway");
                assert_eq!(recorded["stream"], stream);
            }
        }
    }
}

#[tokio::test]
async fn without_a_script_a_tool_is_called_once_and_then_the_work_is_done() {
    let rehearsal = Rehearsal::start("");
    let mut body = prompt(Dialect::AnthropicMessages, "Write hello.txt", false);
    let first: Value = serde_json::from_slice(&rehearsal.call(Dialect::AnthropicMessages, &body).await.body).unwrap();
    assert_eq!(first["stop_reason"], "tool_use");
    assert_eq!(first["content"][1]["name"], "Bash");
    let result = json!([{"type": "tool_result", "tool_use_id": first["content"][1]["id"], "content": ""}]);
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": first["content"]}));
    messages.push(json!({"role": "user", "content": result}));
    let last: Value = serde_json::from_slice(&rehearsal.call(Dialect::AnthropicMessages, &body).await.body).unwrap();
    assert_eq!((&last["stop_reason"], &last["content"][0]["type"]), (&json!("end_turn"), &json!("text")));
}

#[tokio::test]
async fn http_2_is_spoken_too() {
    let rehearsal = Rehearsal::start_speaking("", b"h2");
    let dialect = Dialect::OpenAiResponses;
    let got = rehearsal.call(dialect, &prompt(dialect, "hi", true)).await;
    assert_eq!(read(dialect, &got).unwrap().certainty, Certainty::Final);
    let line = rehearsal.record().pop().unwrap();
    assert_eq!((&line["version"], &line["host"]), (&json!("HTTP/2.0"), &json!("api.openai.com")));
}

#[tokio::test]
async fn a_refusal_is_in_the_vendors_words() {
    let script = "turns:\n- times: 3\n  reply: {status: 402, error: {message: no money}}\n- reply: {text: thanks}\n";
    let rehearsal = Rehearsal::start(script);
    for (dialect, kind) in ALL.into_iter().zip(["billing_error", "invalid_request_error", "invalid_request_error"]) {
        let got = rehearsal.call(dialect, &prompt(dialect, "hi", true)).await;
        let body: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!(got.status, 402);
        assert_eq!((&body["error"]["type"], &body["error"]["message"]), (&json!(kind), &json!("no money")));
        assert_eq!(read(dialect, &got), None);
    }
    assert_eq!(rehearsal.call(ALL[0], &prompt(ALL[0], "hi", true)).await.status, 200);
    let turns: Vec<Value> = rehearsal.record().into_iter().map(|line| line["turn"].clone()).collect();
    assert_eq!(turns, [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_cut_sends_so_many_bytes_and_no_more() {
    let script = "turns:\n- when: {contains: whole}\n  reply: {cut_after_bytes: 99999999, text: x}\n\
                  - reply: {cut_after_bytes: 400, text: words, repeat: 100, chunk_delay_ms: 1}\n";
    for protocol in [&b"http/1.1"[..], b"h2"] {
        let rehearsal = Rehearsal::start_speaking(script, protocol);
        for dialect in ALL {
            let got = rehearsal.call(dialect, &prompt(dialect, "hi", true)).await;
            assert_eq!((got.body.len(), got.complete), (400, false));
            assert_eq!(read(dialect, &got).map(|reading| reading.certainty), Some(Certainty::Partial));
            let got = rehearsal.call(dialect, &prompt(dialect, "the whole", true)).await;
            assert!(!got.complete && got.body.len() > 400);
            assert_eq!(rehearsal.record().pop().unwrap()["broken"], true);
        }
    }
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_leaves_no_final_numbers() {
    let rehearsal = Rehearsal::start("turns:\n- reply: {text: begun, error: {message: broke}}\n");
    for dialect in ALL {
        let got = rehearsal.call(dialect, &prompt(dialect, "hi", true)).await;
        assert!(got.complete && String::from_utf8_lossy(&got.body).contains("broke"));
        let certainty = read(dialect, &got).map(|reading| reading.certainty);
        let reports_early = [Dialect::AnthropicMessages, Dialect::GoogleGenerate].contains(&dialect);
        let expected = reports_early.then_some(Certainty::Partial);
        assert_eq!(certainty, expected, "{dialect:?}");
        assert_eq!(rehearsal.call(dialect, &prompt(dialect, "hi", false)).await.status, 500);
    }
}

#[tokio::test]
async fn everything_else_is_answered_harmlessly() {
    let rehearsal = Rehearsal::start("");
    let cases = [
        ("HEAD", "api.anthropic.com", "/", 200, ""),
        ("GET", "api.anthropic.com", "/api/hello", 200, "{}"),
        ("POST", "api.anthropic.com", "/api/event_logging/v2/batch", 200, "{}"),
        ("GET", "api.anthropic.com", "/api/claude_code/policy_limits", 404, "has none"),
        ("GET", "platform.claude.com", "/v1/oauth/hello", 200, "{}"),
        ("POST", "api.anthropic.com", "/v1/messages/count_tokens", 200, "{\"input_tokens\":1}"),
        ("GET", "api.openai.com", "/v1/responses", 426, "WebSocket"),
        ("GET", "api.openai.com", "/v1/models", 200, "gpt-6.1-sol"),
        ("GET", "api.openai.com", "/v1/files", 404, "not simulated"),
        ("POST", "api.openai.com", "/v1/responses", 400, "not the JSON"),
        ("POST", GOOGLE, "/v1beta/models/m:countTokens", 200, "{\"totalTokens\":1}"),
        ("POST", GOOGLE, "/v1beta/models/m:generateContent", 400, "INVALID_ARGUMENT"),
    ];
    for (method, host, path, status, text) in cases {
        let got = rehearsal.send(method, host, path, "nope".to_owned()).await;
        assert_eq!(got.status, status, "{method} {path}");
        assert!(String::from_utf8_lossy(&got.body).contains(text), "{method} {path}");
    }
    assert_eq!(rehearsal.record().len(), cases.len());
}

/// The example of RFC 6455, section 1.3.
#[test]
fn a_websocket_is_accepted_as_the_standard_has_it() {
    let headers = |upgrade: &str| {
        let pairs = [("upgrade", upgrade), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
        pairs.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    let accepted = websocket::accept(&headers("WebSocket")).unwrap();
    assert_eq!(accepted["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(websocket::accept(&headers("h2c")), None);
}

#[tokio::test]
async fn calls_on_a_websocket_are_answered_event_by_event_and_recorded() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::{Message, protocol::Role};
    let rehearsal = Rehearsal::start("");
    let stream = TcpStream::connect(rehearsal.address).await.unwrap();
    let stream = rehearsal.tls.connect(ServerName::try_from("api.openai.com").unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/v1/responses").header("host", "api.openai.com").header("connection", "upgrade");
    let request = request.header("upgrade", "websocket").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let response = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    for call in [json!({"type": "response.create", "model": "gpt-5.5", "input": "hi"}), json!({"type": "nonsense"})] {
        socket.send(Message::text(call.to_string())).await.unwrap();
    }
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "error") {
        let message = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let event: Value = serde_json::from_str(&message).unwrap();
        kinds.push(event["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        (kinds.first().unwrap().as_str(), kinds[kinds.len() - 2].as_str()),
        ("response.created", "response.completed")
    );
    let told: Vec<_> =
        rehearsal.record().iter().map(|line| (line["version"].clone(), line["status"].clone())).collect();
    assert_eq!(
        told,
        [(json!("HTTP/1.1"), json!(101)), (json!("WebSocket"), json!(200)), (json!("WebSocket"), json!(400))]
    );
}

#[tokio::test]
async fn the_record_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let rehearsal = Rehearsal::start("");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&rehearsal.folder.path().join("record.jsonl")), 0o600);
}
