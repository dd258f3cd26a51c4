//! Answers before the answer: passed on at once and in order over HTTP/1.1, and cleaned as every answer is.

use crate::stub;
use crate::support::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Longer than anything here takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);
const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An upstream that says something early, goes on once it may, and then says all of the rest at a time.
async fn foretelling(go_on: Arc<Semaphore>) -> Upstream {
    let behave = move |_, mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>| {
        let go_on = go_on.clone();
        let work = async move {
            while !stub::head(&mut stream).await.is_empty() {
                let first = format!(
                    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nAlt-Svc: h3\r\nContent-Length: 5\r\nX-Told: {REAL}\r\n\r\n"
                );
                stream.write_all(first.as_bytes()).await.unwrap();
                go_on.acquire().await.unwrap().forget();
                let rest = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
                let rest = format!("{rest}HTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n{ANSWER}");
                stream.write_all(rest.as_bytes()).await.unwrap();
            }
        };
        Box::pin(work) as stub::Behaviour
    };
    stub::tls(&NAMES, |_| {}, behave).await
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut read = String::new();
    while !read.ends_with(end) {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
        read.push(char::from(byte.unwrap_or_else(|_| panic!("after {read:?}")).unwrap()));
    }
    read
}

fn wanted() -> Wanted<'static> {
    Wanted { rules: &["GET api.example.com/**"], ..Wanted::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_before_the_answer_is_passed_on_at_once_and_in_order() {
    let go_on = Arc::new(Semaphore::new(0));
    let upstream = foretelling(go_on.clone()).await;
    let proxy = Proxy::start(Some(&upstream), wanted());
    let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
    let asked = b"GET /a HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let first = format!("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nx-told: {PLACEHOLDER}\r\n\r\n");
    let rest = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </b.css>\r\n\r\nHTTP/1.1 200 OK\r\n";
    // The second and third come together.
    for requests in [1, 2] {
        stream.write_all(&asked.repeat(requests)).await.unwrap();
        for _ in 0..requests {
            // The upstream has said no more yet.
            assert_eq!(read_until(&mut stream, "\r\n\r\n").await, first);
            go_on.add_permits(1);
            let read = read_until(&mut stream, "\r\n\r\nok").await;
            assert!(read.starts_with(rest), "{read}");
        }
    }
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_of_no_early_answers_gets_none() {
    let go_on = Arc::new(Semaphore::new(2));
    let upstream = foretelling(go_on).await;
    let proxy = Proxy::start(Some(&upstream), wanted());
    let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
    stream.write_all(b"GET /a HTTP/1.0\r\nHost: api.example.com\r\n\r\n").await.unwrap();
    let read = read_until(&mut stream, "\r\n\r\nok").await;
    assert!(read.starts_with("HTTP/1.0 200 OK\r\n"), "{read}");
    let mut client = proxy.client_h2("api.example.com").await;
    let answer = client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap();
    assert_eq!(told(answer).await, (200, "ok".to_owned()));
    proxy.stop();
}
