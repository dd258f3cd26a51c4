//! What becomes of a request while nobody says anything: on a clock that passes over the silence.

#![allow(clippy::unwrap_used)]

use super::Shared;
use super::serve::{self, Place};
use crate::model::{BodyEnd, Event, Host, Port};
use crate::policy::{Effect, Level, Policy, RuleSource, WrittenRule};
use crate::store::Memory;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;

/// Longer than anybody waits who has not been told to.
const HOURS: Duration = Duration::from_secs(6 * 3600);

#[tokio::test(start_paused = true)]
async fn an_upstream_may_think_for_hours_before_it_answers_and_between_its_words() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        for words in ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "one", "two"] {
            tokio::time::sleep(HOURS).await;
            stream.write_all(words.as_bytes()).await.unwrap();
        }
    });
    let memory = Memory::new();
    let rules = [WrittenRule::alone(Effect::Allow, "GET http://api.example.com/**")];
    let policy =
        Policy::compile(&[RuleSource { level: Level::Profile, label: "test", rules: &rules, clauses: &[] }]).unwrap();
    let to = format!("::127.0.0.1:{port}").parse().unwrap();
    let (shared, _end) = Shared::rehearsal_by(&memory, policy, vec![to]);
    let (mut client, server) = duplex(64 * 1024);
    let place = Place { source: "the test", host: Host::parse("api.example.com").unwrap(), port: Port(80) };
    let started = tokio::time::Instant::now();
    tokio::spawn(serve::connection(shared, server, place));
    client.write_all(b"GET /a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("onetwo"), "{answer}");
    assert!(started.elapsed() >= 3 * HOURS);
    let events = memory.events();
    let whole = |event: &Event| matches!(event, Event::RequestCompleted { end: BodyEnd::Complete, .. });
    assert_eq!(events.iter().filter(|event| whole(event)).count(), 1, "{events:?}");
}
