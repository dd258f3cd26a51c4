//! What is open and read no more, when a rule comes that would not let it through.

use crate::rules::{add, way};
use crate::stub;
use crate::support::*;
use crate::websocket::{completed, listener, opened};
use omni::model::BodyEnd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server that repeats all that it hears, at once.
async fn echo() -> Upstream {
    stub::plain(|_, stream| {
        Box::pin(async move {
            let (mut from, mut to) = stream.into_split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
        })
    })
    .await
}

/// Whether it is still there.
async fn repeats(stream: &mut TcpStream) -> bool {
    let mut heard = [0; 4];
    stream.write_all(b"echo").await.is_ok() && stream.read_exact(&mut heard).await.is_ok() && heard == *b"echo"
}

fn fine(number: u32) -> serde_json::Value {
    serde_json::json!({"number": number, "refused": null})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_and_would_not_pass_now_is_cut() {
    let (upstream, (ours, theirs)) = (echo().await, way());
    let rules = ["tcp://db.example.com:5432", "tcp://other.example.com:5432"];
    let wanted = Wanted { rules: &rules, amendments: Some(theirs), ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    let mut one = proxy.tunnel("db.example.com:5432").await;
    let mut other = proxy.tunnel("other.example.com:5432").await;
    assert!(repeats(&mut one).await && repeats(&mut other).await);
    assert_eq!(add(&ours, 1, "deny", "tcp://third.example.com:5432"), fine(1));
    assert!(repeats(&mut one).await && repeats(&mut other).await, "that is about another place");
    assert_eq!(add(&ours, 2, "deny", "tcp://db.example.com:5432"), fine(2));
    assert_eq!(one.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is cut without a word");
    assert!(repeats(&mut other).await);
    assert!(proxy.refused_tunnel("db.example.com:5432").await.starts_with("HTTP/1.1 403"));
    drop(other);
    soon("both are settled", || of_kind(&proxy.memory.events(), "request_completed").len() == 2).await;
    assert_eq!(completed(&proxy.stop()), [(200, 8, 8, BodyEnd::RuleAdded), (200, 12, 12, BodyEnd::Complete)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_that_would_not_be_begun_now_is_cut() {
    let ((upstream, witness), (ours, theirs)) = (listener().await, way());
    let wanted = Wanted { rules: &["* api.example.com/**"], amendments: Some(theirs), ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    let mut one = opened(&proxy, "api.example.com", "/one").await;
    let mut other = opened(&proxy, "api.example.com", "/two?x=1").await;
    assert_eq!(add(&ours, 1, "deny", "* api.example.com/two query:x=2"), fine(1));
    assert_eq!(add(&ours, 2, "limit", "* api.example.com/** rate=1/h"), fine(2));
    for stream in [&mut one, &mut other] {
        stream.write_all(b"said").await.unwrap();
    }
    soon("both go on", || witness.heard().len() == 8).await;
    assert_eq!(add(&ours, 3, "deny", "GET api.example.com/two query:x=1"), fine(3));
    assert_eq!(other.read(&mut [0; 1]).await.unwrap_or(0), 0, "it is cut");
    one.write_all(b"said").await.unwrap();
    soon("the other goes on", || witness.heard().len() == 12).await;
    drop(one);
    soon("both are settled", || completed(&proxy.memory.events()).len() == 2).await;
    assert_eq!(completed(&proxy.stop())[0], (101, 4, 0, BodyEnd::RuleAdded));
}
