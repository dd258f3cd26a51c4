//! Connections to upstreams that are kept: used again, no more of them than requests at a time, and never a reason to fail.

use crate::support::*;
use http::Response;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Barrier;

const HOST: &str = "api.example.com";
/// More than connections are made at a time.
const AT_A_TIME: usize = 20;

fn everything() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**"], ..Wanted::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_one_after_the_other_share_a_connection_whoever_makes_them() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    for _ in 0..4 {
        let mut client = proxy.client(HOST).await;
        for method in ["GET", "POST", "HEAD"] {
            client.ready().await.unwrap();
            let response = client.send_request(request(method, HOST, "/", "")).await.unwrap();
            let body = if method == "HEAD" { "" } else { "hello" };
            assert_eq!(told(response).await, (200, body.to_owned()));
        }
    }
    assert_eq!((upstream.requests(), upstream.connections.load(Ordering::Relaxed)), (12, 1));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_connections_than_requests_at_a_time() {
    // Answers nobody until all have asked.
    let together = Arc::new(Barrier::new(AT_A_TIME));
    let upstream = Upstream::handled(&["http/1.1"], None, move |_| {
        let together = together.clone();
        Box::pin(async move {
            together.wait().await;
            Response::new(text("hello"))
        })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut clients = Vec::new();
    for _ in 0..AT_A_TIME {
        clients.push(proxy.client(HOST).await);
    }
    for _ in 0..3 {
        let mut asking = tokio::task::JoinSet::new();
        for mut client in clients.drain(..) {
            asking.spawn(async move {
                client.ready().await.unwrap();
                let response = client.send_request(request("GET", HOST, "/", "")).await.unwrap();
                assert_eq!(told(response).await, (200, "hello".to_owned()));
                client
            });
        }
        clients = asking.join_all().await;
    }
    assert_eq!(upstream.connections.load(Ordering::Relaxed), AT_A_TIME);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_its_server_ends_is_not_used_again() {
    let answered = AtomicUsize::new(0);
    let upstream = Upstream::start(&["http/1.1"], move |_, _| {
        let last = answered.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        let connection = if last { "close" } else { "keep-alive" };
        Response::builder().header("connection", connection).body(text("hello")).unwrap()
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client(HOST).await;
    for _ in 0..6 {
        client.ready().await.unwrap();
        let response = client.send_request(request("GET", HOST, "/", "")).await.unwrap();
        assert_eq!(told(response).await, (200, "hello".to_owned()));
    }
    assert_eq!((upstream.requests(), upstream.connections.load(Ordering::Relaxed)), (6, 3));
    proxy.stop();
}
