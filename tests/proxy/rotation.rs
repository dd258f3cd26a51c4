//! A secret that changes while the session runs: read anew, once for all who wait, and refused where it cannot be had.

use crate::support::*;
use http::Response;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel as answers};

type Answer = Result<&'static str, &'static str>;

/// Answers as it is told to, and says whenever it is asked.
fn keeper() -> (UnixStream, Sender<Answer>, Receiver<u32>) {
    let (proxys, mut own) = UnixStream::pair().unwrap();
    let (say, said) = answers::<Answer>();
    let (tell, asked) = answers();
    std::thread::spawn(move || {
        let mut place = [0; 4];
        while own.read_exact(&mut place).is_ok() {
            tell.send(u32::from_be_bytes(place)).unwrap();
            let Ok(answer) = said.recv() else { return };
            let (kind, text) = match answer {
                Ok(value) => (1, value),
                Err(problem) => (0, problem),
            };
            own.write_all(&[kind]).unwrap();
            own.write_all(&u32::try_from(text.len()).unwrap().to_be_bytes()).unwrap();
            own.write_all(text.as_bytes()).unwrap();
        }
    });
    (proxys, say, asked)
}

fn asking() -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut asked = request("GET", "api.example.com", "/", "");
    asked.headers_mut().insert("x-api-key", PLACEHOLDER.parse().unwrap());
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_value_is_used_and_no_old_one_comes_back() {
    let upstream = Upstream::start(&["http/1.1"], |head, _| {
        let key = head.headers["x-api-key"].to_str().unwrap();
        Response::new(text(&format!("now {key}, once {REAL}")))
    })
    .await;
    let (stream, say, asked) = keeper();
    let wanted = Wanted { rules: &["* api.example.com/**"], keeper: Some(stream), ..Wanted::default() };
    let proxy = Proxy::start(Some(&upstream), wanted);
    for value in ["sk-rotated-0001", "sk-rotated-0002"] {
        say.send(Ok(value)).unwrap();
        let mut client = proxy.client("api.example.com").await;
        let (status, said) = told(client.send_request(asking()).await.unwrap()).await;
        assert_eq!((status, said.as_str()), (200, "now ***************, once ******************"));
        assert_eq!(upstream.last().0.headers["x-api-key"], value);
    }
    for (answer, reason) in
        [(Err("file:~/key: it is empty"), "file:~/key: it is empty"), (Ok("a\nb"), "cannot stand in a request")]
    {
        say.send(answer).unwrap();
        let mut client = proxy.client("api.example.com").await;
        let (status, said) = told(client.send_request(asking()).await.unwrap()).await;
        assert!(status == 503 && said.contains("`vendor` cannot be read anew") && said.contains(reason), "{said}");
        assert!(!said.contains("rotated"), "{said}");
    }
    assert_eq!(upstream.requests(), 2);
    // What is well again is well.
    say.send(Ok("sk-rotated-0003")).unwrap();
    let mut client = proxy.client("api.example.com").await;
    assert_eq!(told(client.send_request(asking()).await.unwrap()).await.0, 200);
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [0; 5]);
    drop(say);
    let mut client = proxy.client("api.example.com").await;
    let (status, said) = told(client.send_request(asking()).await.unwrap()).await;
    assert!(status == 503 && said.contains("is gone"), "{said}");
    assert!(!format!("{:?}", proxy.stop()).contains("rotated"));
}
