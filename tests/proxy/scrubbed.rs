//! A server that gives a secret back: the client gets none of it, however the answer is cut or compressed.

use crate::support::*;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use hyper::body::Frame;

fn wanted() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**", "* api.openai.com/**"], ..Wanted::default() }
}

/// A gzip member that holds a short text as it is.
fn stored(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let mut member = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x01".to_vec();
    member.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
    [&member, text, &[0; 8]].concat()
}

fn echo() -> String {
    let basic = BASE64_STANDARD.encode(format!("user:{REAL}"));
    format!("{{\"key\": \"{REAL}\", \"again\": \"{REAL}\", \"basic\": \"{basic}\", \"rest\": \"is as it was\"}}")
}

fn assert_clean(text: &str) {
    let basic = BASE64_STANDARD.encode(REAL);
    assert!(!text.contains(&REAL[3..]) && !text.contains(&basic[..basic.len() - 4]), "{text}");
    assert!(text.starts_with("{\"key\": \"") && text.ends_with("\"rest\": \"is as it was\"}"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_an_answers_body_does_not_come_back() {
    let upstream = Upstream::start(&["http/1.1", "h2"], |head, _| {
        let path = head.uri.path();
        assert!(!head.headers.contains_key("accept-encoding"), "an answer must be readable");
        let (feed, body) = channel();
        let (echo, builder) = (echo(), Response::builder());
        let (builder, sent) = match path {
            "/gzip" => (builder.header("content-encoding", "gzip"), stored(echo.as_bytes())),
            "/odd" => (builder.header("content-encoding", "compress"), echo.into_bytes()),
            "/length" => (builder.header("content-length", echo.len()), echo.into_bytes()),
            _ => (builder, echo.into_bytes()),
        };
        let size = if path == "/bytes" { 1 } else { sent.len() };
        tokio::spawn(async move {
            for piece in sent.chunks(size) {
                feed.send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).await.ok();
            }
        });
        builder.body(body).unwrap()
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), wanted());
    for path in ["/whole", "/bytes", "/length", "/gzip"] {
        let mut client = proxy.client("api.example.com").await;
        let mut asked = request("GET", "api.example.com", path, "");
        asked.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
        let answer = client.send_request(asked).await.unwrap();
        assert!(!answer.headers().contains_key("content-encoding"), "{path}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_clean(&text);
        assert_eq!(text.len(), echo().len(), "{path}");
    }
    let mut client = proxy.client("api.example.com").await;
    let (status, said) = told(client.send_request(request("GET", "api.example.com", "/odd", "")).await.unwrap()).await;
    assert!(status == 502 && said.contains("cannot search the answer") && !said.contains(REAL), "{said}");
    assert!(!format!("{:?}", proxy.stop()).contains(REAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_ends_like_nothing_of_a_secret_is_there_at_once() {
    let upstream = Upstream::handled(&["http/1.1"], None, |request| {
        Box::pin(async move {
            let (feed, body) = channel();
            // The next event comes only when the client asked for it, which it does when it has the one before.
            let mut asked = request.into_body();
            tokio::spawn(async move {
                let mut number = 0;
                while let Some(Ok(_)) = asked.frame().await {
                    number += 1;
                    feed.send(Ok(Frame::data(Bytes::from(format!("data: {number}\n\n"))))).await.ok();
                }
            });
            Response::new(body)
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), wanted());
    let (feed, body) = channel();
    let mut client = proxy.client("api.example.com").await;
    let asked = http::Request::post("/events").header("host", "api.example.com").body(body).unwrap();
    feed.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    let mut answer = client.send_request(asked).await.unwrap().into_body();
    for number in 1..5 {
        let frame = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, format!("data: {number}\n\n"));
        feed.send(Ok(Frame::data(Bytes::from_static(b"next")))).await.unwrap();
    }
    drop(feed);
    proxy.stop();
}
