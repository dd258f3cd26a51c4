//! A placeholder in a body, wherever and however: refused before anything left, or cut off before it is whole.

use crate::support::*;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Frame;
use omni::model::Event;

/// Headers and a body.
type Case = (&'static [(&'static str, &'static str)], Vec<u8>);

fn everything() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**", "* api.openai.com/**"], ..Wanted::default() }
}

/// A gzip member that holds the text as it is, in as many blocks as it takes.
fn stored(text: &[u8]) -> Vec<u8> {
    let mut member = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    let count = text.chunks(60_000).count();
    for (number, block) in text.chunks(60_000).enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        member.push(u8::from(number + 1 == count));
        member.extend(length.to_le_bytes().into_iter().chain((!length).to_le_bytes()));
        member.extend_from_slice(block);
    }
    member.extend_from_slice(&[0; 8]);
    member
}

fn post(host: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Request<Full<Bytes>> {
    let mut asked = Request::post("/v1").header("host", host).body(Full::new(Bytes::copy_from_slice(body))).unwrap();
    for (name, value) in headers {
        asked.headers_mut().insert(*name, value.parse().unwrap());
    }
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_a_placeholder_is_refused_and_nothing_of_it_leaves() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| http::Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let plain = format!("{{\"messages\": [\"{PLACEHOLDER}\"]}}").into_bytes();
    let percent: String = PLACEHOLDER.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = PLACEHOLDER.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let part = format!(
        "--b\r\ncontent-disposition: form-data; name=f; filename=k\r\ncontent-transfer-encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        BASE64_STANDARD.encode(format!("key={PLACEHOLDER}"))
    );
    const JSON: (&str, &str) = ("content-type", "application/json");
    let cases: [Case; 7] = [
        (&[JSON], plain.clone()),
        (&[JSON], format!("{{\"a\": \"{escaped}\"}}").into_bytes()),
        (&[("content-type", "application/x-www-form-urlencoded")], format!("k={percent}").into_bytes()),
        (&[("content-type", "multipart/form-data; boundary=b")], part.into_bytes()),
        (&[JSON, ("content-encoding", "gzip")], stored(&plain)),
        (&[("content-type", "application/octet-stream")], stored(&plain)),
        (&[("content-type", "text/plain")], BASE64_STANDARD.encode(&plain).into_bytes()),
    ];
    for host in ["api.example.com", "api.openai.com"] {
        for (headers, body) in &cases {
            let mut client = proxy.client(host).await;
            let (status, said) = told(client.send_request(post(host, headers, body)).await.unwrap()).await;
            assert!(status == 403 && said.contains("the body of a request") && !said.contains(PLACEHOLDER), "{said}");
        }
    }
    assert_eq!(upstream.requests(), 0);
    let mut client = proxy.client("api.example.com").await;
    let unreadable = post("api.example.com", &[("content-encoding", "compress")], b"what is this");
    let (status, said) = told(client.send_request(unreadable).await.unwrap()).await;
    assert!(status == 415 && said.contains("send it uncompressed"), "{said}");
    // The same without a placeholder goes.
    let fine = post("api.example.com", &[JSON, ("content-encoding", "gzip")], &stored(b"{}"));
    assert_eq!(told(proxy.client("api.example.com").await.send_request(fine).await.unwrap()).await.0, 200);
    assert_eq!(upstream.last().1, stored(b"{}"));
    assert_eq!(of_kind(&proxy.stop(), "request_denied").len(), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_cut_off_before_a_placeholder_in_it_is_whole() {
    let upstream = Upstream::start(&["http/1.1", "h2"], |_, _| http::Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    for size in [1, 7, PLACEHOLDER.len()] {
        let (feed, body) = channel();
        let mut client = proxy.client("api.example.com").await;
        let asked = Request::post("/v1").header("host", "api.example.com").body(body).unwrap();
        let feeding = async move {
            feed.send(Ok(Frame::data(Bytes::from(vec![b'x'; 300_000])))).await.ok();
            for piece in PLACEHOLDER.as_bytes().chunks(size) {
                feed.send(Ok(Frame::data(Bytes::copy_from_slice(piece)))).await.ok();
            }
            drop(feed);
        };
        let (answer, ()) = tokio::join!(client.send_request(asked), feeding);
        let (status, said) = told(answer.unwrap()).await;
        assert!(status == 403 && said.contains("the body of a request"), "{size}: {status} {said}");
    }
    let seen = upstream
        .seen
        .lock()
        .unwrap()
        .iter()
        .any(|(_, body)| body.windows(PLACEHOLDER.len()).any(|window| window == PLACEHOLDER.as_bytes()));
    assert!(!seen);
    let events = proxy.stop();
    let failed = of_kind(&events, "request_failed");
    let reasons = failed
        .iter()
        .filter(|event| matches!(event, Event::RequestFailed { reason, .. } if reason.contains("`vendor`")));
    assert_eq!(reasons.count(), 3, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trailer_with_a_placeholder_goes_nowhere() {
    let upstream = Upstream::start(&["h2"], |_, _| http::Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let (feed, body) = channel();
    let mut client = proxy.client_h2("api.example.com").await;
    let asked = Request::post("https://api.example.com/v1").body(body).unwrap();
    let feeding = async move {
        feed.send(Ok(Frame::data(Bytes::from_static(b"plain")))).await.ok();
        let trailers = [(http::HeaderName::from_static("x-sum"), PLACEHOLDER.parse().unwrap())];
        feed.send(Ok(Frame::trailers(trailers.into_iter().collect()))).await.ok();
    };
    let (answer, ()) = tokio::join!(client.send_request(asked), feeding);
    let (status, said) = told(answer.unwrap()).await;
    assert!(status == 403 && said.contains("a trailer"), "{status} {said}");
    proxy.stop();
}
