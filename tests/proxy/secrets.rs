//! Secrets: each goes to its own place alone, and what an answer says of it does not reach the client.

use crate::support::*;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::{HeaderMap, Response};
use omni::model::Event;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn everything() -> Wanted<'static> {
    Wanted {
        rules: &["* api.example.com/**", "* api.openai.com/**", "* http://api.example.com/**"],
        ..Wanted::default()
    }
}

async fn upstream() -> Upstream {
    Upstream::start(&["http/1.1"], |head, _| {
        let key = head.headers.get("x-api-key").map_or("none".to_owned(), |key| key.to_str().unwrap().to_owned());
        Response::builder()
            .status(if head.uri.path() == "/moved" { 302 } else { 200 })
            .header("x-echo", format!("you sent {key}"))
            .header("x-basic", format!("Basic {}", BASE64_STANDARD.encode(format!("user:{key}"))))
            .header("location", format!("https://api.openai.com/?key={key}"))
            .body(text("hello"))
            .unwrap()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placeholder_anywhere_but_in_its_place_is_refused_in_any_disguise() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let basic = |user: &str| format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{PLACEHOLDER}")));
    let percent: String = PLACEHOLDER.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let none = ("x-nothing", String::new());
    let cases = [
        ("api.example.com", "/a", ("authorization", format!("Bearer {PLACEHOLDER}"))),
        ("api.example.com", "/a", ("authorization", basic(""))),
        ("api.example.com", "/a", ("authorization", basic("user"))),
        ("api.example.com", "/a", ("x-api-key", basic("x"))),
        ("api.example.com", "/a", ("cookie", format!("k={PLACEHOLDER}"))),
        ("api.example.com", "/a", ("x-other", percent.clone())),
        ("api.example.com", &format!("/{PLACEHOLDER}"), none.clone()),
        ("api.example.com", &format!("/a?k={PLACEHOLDER}"), none.clone()),
        ("api.example.com", &format!("/{percent}"), none.clone()),
        ("api.example.com", &format!("/a?k={percent}"), none.clone()),
        ("api.example.com", &format!("/a?k={}", BASE64_STANDARD.encode(format!("u:{PLACEHOLDER}"))), none),
        ("api.openai.com", "/a", ("x-api-key", PLACEHOLDER.to_owned())),
        ("api.openai.com", "/a", ("authorization", basic("user"))),
    ];
    for (host, path, (name, value)) in &cases {
        let mut client = proxy.client(host).await;
        let mut asked = request("GET", host, path, "");
        asked.headers_mut().insert(*name, value.parse().unwrap());
        let (status, body) = told(client.send_request(asked).await.unwrap()).await;
        assert!(status == 403 && body.contains("`vendor`") && !body.contains(REAL), "{host}{path} {name}: {body}");
    }
    assert_eq!(upstream.requests(), 0);
    assert_eq!(of_kind(&proxy.stop(), "request_denied").len(), cases.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_of_the_secret_comes_back_as_the_placeholder() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client("api.example.com").await;
    let mut asked = request("GET", "api.example.com", "/moved", "");
    asked.headers_mut().insert("x-api-key", PLACEHOLDER.parse().unwrap());
    let answer = client.send_request(asked).await.unwrap();
    assert_eq!(upstream.last().0.headers["x-api-key"], REAL);
    let head: &HeaderMap = answer.headers();
    assert_eq!(head["x-echo"], format!("you sent {PLACEHOLDER}"));
    assert_eq!(head["location"], format!("https://api.openai.com/?key={PLACEHOLDER}"));
    assert_eq!(head["x-basic"], "[redacted by omni]");
    assert!(!format!("{head:?}").contains(REAL));
    // Whoever follows that redirect carries a placeholder where it does not belong.
    let target = head["location"].to_str().unwrap().strip_prefix("https://api.openai.com").unwrap().to_owned();
    let mut other = proxy.client("api.openai.com").await;
    assert_eq!(told(other.send_request(request("GET", "api.openai.com", &target, "")).await.unwrap()).await.0, 403);
    assert_eq!(upstream.requests(), 1);
    assert!(!format!("{:?}", proxy.stop()).contains(REAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_never_goes_without_tls() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let asked = format!(
        "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nX-Api-Key: {PLACEHOLDER}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("`vendor`"), "{answer}");
    assert_eq!(of_kind(&proxy.stop(), "request_denied").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_clients_own_passes_as_it_is_and_nominating_the_header_gains_nothing() {
    let upstream = upstream().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client("api.example.com").await;
    let mut asked = request("GET", "api.example.com", "/", "");
    asked.headers_mut().insert("x-api-key", "sk-mine".parse().unwrap());
    asked.headers_mut().insert("authorization", "Bearer mine".parse().unwrap());
    assert_eq!(told(client.send_request(asked).await.unwrap()).await.0, 200);
    let head = upstream.last().0.headers;
    assert!(head["x-api-key"] == "sk-mine" && head["authorization"] == "Bearer mine", "{head:?}");
    let mut asked = request("GET", "api.example.com", "/", "");
    asked.headers_mut().insert("x-api-key", PLACEHOLDER.parse().unwrap());
    asked.headers_mut().insert("connection", "x-api-key".parse().unwrap());
    client.ready().await.unwrap();
    assert_eq!(told(client.send_request(asked).await.unwrap()).await.0, 200);
    assert!(!upstream.last().0.headers.contains_key("x-api-key"));
    let events = proxy.stop();
    let swapped = |event: &Event| matches!(event, Event::RequestAllowed { secrets, .. } if !secrets.is_empty());
    assert!(!events.iter().any(swapped), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn codex_is_told_once_in_plain_words_and_others_in_their_own_form() {
    let upstream = Arc::new(upstream().await);
    let proxy = Proxy::start(Some(&upstream), Wanted::default());
    let cases = [
        ("api.openai.com", "codex_cli_rs/0.169.0 (Debian 12.0.0; x86_64)", 400, "text/plain; charset=utf-8"),
        ("api.openai.com", "OpenAI/Python 2.1", 403, "application/json"),
        ("api.anthropic.com", "claude-cli/2.1.330", 403, "application/json"),
        ("api.example.com", "curl/8", 403, "application/json"),
    ];
    for (host, agent, status, kind) in cases {
        let mut client = proxy.client(host).await;
        let mut asked = request("POST", host, "/v1/responses", "{}");
        asked.headers_mut().insert("user-agent", agent.parse().unwrap());
        let answer = client.send_request(asked).await.unwrap();
        assert!(answer.headers()["content-type"] == kind && answer.headers()["x-should-retry"] == "false", "{agent}");
        let (answered, body) = told(answer).await;
        assert!(answered == status && body.contains("omni exec --allow"), "{agent}: {answered} {body}");
        assert_eq!(body.starts_with("omni refused POST"), status == 400, "{agent}: {body}");
    }
    assert_eq!(upstream.requests(), 0);
    proxy.stop();
}
