//! Large bodies in small memory, measured in a process of its own.

use crate::support::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use std::process::Command;

/// Set in the process that is measured.
const MARK: &str = "OMNI_TEST_MEASURED";
const TEST: &str = "memory::large_bodies_pass_in_small_memory";
const BODY_BYTES: usize = 256 * 1024 * 1024;
/// What passing them may add to the peak: buffers and windows of two clients, two proxies' sides and an upstream.
const GROWTH_BYTES_MAX: usize = 48 * 1024 * 1024;

fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn large(bytes: usize) -> Channel {
    let (feed, body) = channel();
    tokio::spawn(async move {
        let chunk = Bytes::from(vec![b'x'; 128 * 1024]);
        for _ in 0..bytes / chunk.len() {
            if feed.send(Ok(Frame::data(chunk.clone()))).await.is_err() {
                return;
            }
        }
    });
    body
}

async fn length(mut body: Incoming) -> usize {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    length
}

/// Down over one protocol and up over the other, and what both add to the peak.
async fn measure(protocols: &[&str]) {
    let upstream = Upstream::handled(protocols, None, |request| {
        Box::pin(async move {
            if request.method() == "GET" {
                return Response::new(large(BODY_BYTES));
            }
            Response::new(text(&length(request.into_body()).await.to_string()))
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &["* api.example.com/**"], ..Wanted::default() });
    let mut client = proxy.client_h2("api.example.com").await;
    let ask = |method: &str, bytes| {
        Request::builder().method(method).uri("https://api.example.com/").body(large(bytes)).unwrap()
    };
    assert_eq!(length(client.send_request(ask("GET", 0)).await.unwrap().into_body()).await, BODY_BYTES);
    assert_eq!(told(client.send_request(ask("POST", BODY_BYTES)).await.unwrap()).await.1, BODY_BYTES.to_string());
    proxy.stop();
}

#[test]
fn large_bodies_pass_in_small_memory() {
    if std::env::var_os(MARK).is_none() {
        let test = Command::new(std::env::current_exe().unwrap()).args(["--exact", TEST]).env(MARK, "1").output();
        let test = test.unwrap();
        assert!(test.status.success(), "{}", String::from_utf8_lossy(&test.stdout));
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let before = peak();
        measure(&["h2"]).await;
        measure(&["http/1.1"]).await;
        let growth = peak() - before;
        assert!(growth < GROWTH_BYTES_MAX, "the peak grew by {growth} bytes");
        println!("the peak grew by {growth} bytes");
    });
}
