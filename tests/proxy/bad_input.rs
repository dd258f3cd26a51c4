//! What others do wrong: each is bounded, answered, recorded, and nobody else notices.

use crate::stub;
use crate::support::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use omni::model::{BodyEnd, Event, RefusalKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any of these takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What comes out of a bomb, of which the proxy lets out little at once.
const BOMB_BYTES: usize = 16 * 1024 * 1024;
/// What may be written to a proxy that does not want it: what sockets on both sides hold, whatever it has read.
const FLOOD_BYTES_MAX: usize = 16 * 1024 * 1024;

fn everything() -> Wanted<'static> {
    Wanted { rules: &["* api.example.com/**", "* http://api.example.com/**"], ..Wanted::default() }
}

/// How the requests of a session ended, in the order of their ends; those that had no answer are `None`.
fn ends(events: &[Event]) -> Vec<Option<BodyEnd>> {
    let end = |event: &Event| match event {
        Event::RequestCompleted { end, .. } => Some(Some(*end)),
        Event::RequestFailed { .. } => Some(None),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

fn causes(events: &[Event]) -> Vec<String> {
    let cause = |event: &Event| match event {
        Event::RequestFailed { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    events.iter().filter_map(cause).collect()
}

/// A client of the gateway, for absolute URLs.
async fn gateway(proxy: &Proxy) -> http1::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// Ends a connection without a farewell.
fn reset(stream: &TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger).unwrap();
}

const WHOLE: [&str; 2] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
];

/// An upstream that says so many bytes of an answer, as its URL wants, and then closes or resets.
async fn breaking() -> Upstream {
    stub::plain(|_, mut stream| {
        Box::pin(async move {
            let head = stub::head(&mut stream).await;
            let mut words = head.split('/').skip(1);
            let (which, count, deed) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let bytes = &WHOLE[which.parse::<usize>().unwrap()].as_bytes()[..count.parse().unwrap()];
            stream.write_all(bytes).await.unwrap();
            if deed.starts_with("reset") {
                reset(&stream);
            }
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_at_any_byte_is_never_taken_for_whole() {
    let upstream = breaking().await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut seen = Vec::new();
    for (which, whole) in WHOLE.into_iter().enumerate() {
        let head = whole.find("\r\n\r\n").unwrap() + 4;
        for (count, deed) in (0..=whole.len()).flat_map(|count| [(count, "close"), (count, "reset")]) {
            let url = format!("http://api.example.com/{which}/{count}/{deed}");
            let mut client = gateway(&proxy).await;
            let (status, body) = match client.send_request(request("GET", "api.example.com", &url, "")).await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    (status, answer.into_body().collect().await.map(|body| body.to_bytes()))
                }
                // What breaks off at once is cut off before its head has gone.
                Err(error) => (200, Err(error)),
            };
            let case = format!("{url}: {status} {body:?}");
            match status {
                502 => assert!(count < head || deed == "reset", "{case}"),
                200 => assert!(count >= head, "{case}"),
                _ => panic!("{case}"),
            }
            let is_whole = status == 200 && body.is_ok();
            assert!(!is_whole || (count == whole.len() && *body.as_ref().unwrap() == "hello"), "{case}");
            assert!(is_whole || count < whole.len() || deed == "reset", "{case}");
            seen.push((status == 200).then_some(if is_whole { BodyEnd::Complete } else { BodyEnd::UpstreamBroke }));
        }
    }
    let events = proxy.stop();
    assert_eq!(ends(&events), seen, "each is recorded once, as what its client saw");
    assert!(causes(&events).iter().all(|cause| cause.contains("the upstream broke off")), "{:?}", causes(&events));
}

/// Carries a client's bytes to the proxy, so many of them, and resets then; how many passed.
async fn cutting(proxy: &Proxy, bytes_max: usize) -> (tokio::io::DuplexStream, tokio::task::JoinHandle<usize>) {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let mut outer = TcpStream::connect(proxy.address).await.unwrap();
    outer.set_nodelay(true).unwrap();
    let carried = tokio::spawn(async move {
        let mut passed = 0;
        let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
        while passed < bytes_max {
            tokio::select! {
                read = far.read(&mut up) => {
                    let count = read.unwrap().min(bytes_max - passed);
                    if count == 0 || outer.write_all(&up[..count]).await.is_err() {
                        break;
                    }
                    passed += count;
                }
                read = outer.read(&mut down) => match read {
                    Ok(count) if count > 0 => {
                        if far.write_all(&down[..count]).await.is_err() {
                            break;
                        }
                    }
                    _ => break,
                }
            }
        }
        reset(&outer);
        passed
    });
    (near, carried)
}

/// Asks for something through a tunnel, over TLS, on this stream.
async fn ask(proxy: &Proxy, mut stream: tokio::io::DuplexStream) -> std::io::Result<Vec<u8>> {
    stream.write_all(b"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n").await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let name = rustls::pki_types::ServerName::try_from("api.example.com").unwrap();
    let mut stream = proxy.connector(&["http/1.1"]).connect(name, stream).await?;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n").await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_resets_at_any_byte_sends_nothing_on_and_harms_nobody() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut neighbour = proxy.client::<Full<Bytes>>("api.example.com").await;
    let (near, carried) = cutting(&proxy, usize::MAX).await;
    assert!(ask(&proxy, near).await.unwrap().windows(5).any(|words| words == b"hello"));
    let length = carried.await.unwrap();
    assert!(length > 300 && upstream.requests() == 1, "{length}");
    // What a client says after its request, on the way out, is left to the whole run.
    let record = 5 + 16 + 1 + "GET /a HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n".len();
    let alert = 5 + 16 + 1 + 2;
    let before = length - alert.min(length - record);
    for bytes_max in 0..before.min(length) {
        let (near, carried) = cutting(&proxy, bytes_max).await;
        let answer = ask(&proxy, near).await;
        assert!(carried.await.unwrap() <= bytes_max);
        assert!(answer.is_err() || bytes_max + alert >= before, "{bytes_max} of {length}: {answer:?}");
    }
    assert!(upstream.requests() <= 1 + alert, "{}", upstream.requests());
    let asked = request("GET", "api.example.com", "/b", "");
    assert_eq!(told(neighbour.send_request(asked).await.unwrap()).await, (200, "hello".to_owned()));
    let events = proxy.stop();
    assert_eq!(of_kind(&events, "request_allowed").len(), ends(&events).len(), "each is settled once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_a_lie_is_found_out() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let upstream = stub::saying(short).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
    let answer = client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err());
    assert_eq!(ends(&proxy.stop()), [Some(BodyEnd::UpstreamBroke)]);

    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let upstream = stub::tls(
        &NAMES,
        |_| {},
        move |_, mut stream| {
            Box::pin(async move {
                for more in [forged, ""] {
                    stub::head(&mut stream).await;
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello{more}");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            })
        },
    )
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
    for _ in 0..3 {
        client.ready().await.unwrap();
        let answer = client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap();
        assert_eq!(told(answer).await, (200, "hello".to_owned()));
    }
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 3, "what said too much is not asked again");
    assert_eq!(ends(&proxy.stop()), [Some(BodyEnd::Complete); 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_length_is_a_lie_ends_alone() {
    let upstream = Upstream::handled(&["h2"], None, |request| {
        let length = request.uri().path()[1..].to_owned();
        Box::pin(async move { Response::builder().header("content-length", length).body(text("hello")).unwrap() })
    })
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut client = proxy.client_h2::<Full<Bytes>>("api.example.com").await;
    for (length, is_whole) in [(5, true), (10, false), (3, false), (5, true)] {
        let asked = Request::get(format!("https://api.example.com/{length}")).body(Full::default()).unwrap();
        let body = match client.send_request(asked).await {
            Ok(answer) => answer.into_body().collect().await.map(|body| body.to_bytes()),
            Err(error) => Err(error),
        };
        assert!(body.is_ok_and(|body| body == "hello") == is_whole, "{length}");
    }
    let ends = ends(&proxy.stop());
    assert_eq!(ends.iter().filter(|end| **end == Some(BodyEnd::Complete)).count(), 2, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_ends_before_its_length_never_ends_well() {
    let (heard, hearing) = std::sync::mpsc::channel();
    let upstream = stub::tls(
        &NAMES,
        |_| {},
        move |_, mut stream| {
            let heard = heard.clone();
            Box::pin(async move {
                let head = stub::head(&mut stream).await;
                let mut body = Vec::new();
                let end = stream.read_to_end(&mut body).await;
                heard.send((head, body, end.is_ok())).unwrap();
            })
        },
    )
    .await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
    // Larger than what is read ahead, so that it is under way when it breaks.
    let begun = "x".repeat(512 * 1024);
    let asked = format!("POST /a HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1000000\r\n\r\n{begun}");
    stream.write_all(asked.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let (head, body, _) = tokio::task::spawn_blocking(move || hearing.recv().unwrap()).await.unwrap();
    assert!(head.contains("content-length: 1000000") && body.len() <= begun.len(), "{head} {}", body.len());
    assert!(!ends(&proxy.stop()).contains(&Some(BodyEnd::Complete)));
}

fn another_authority() -> String {
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "another");
    authority.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
}

/// What a client hears of an upstream whose certificate is not good, and the record.
async fn distrusted(
    names: &[&str],
    adjust: impl FnOnce(&mut rcgen::CertificateParams),
    trusted: bool,
) -> (u16, String) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let upstream = stub::tls(names, adjust, move |_, mut stream| {
        let counted = counted.clone();
        Box::pin(async move {
            if !stub::head(&mut stream).await.is_empty() {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        })
    })
    .await;
    let trust = if trusted { upstream.ca_pem.clone() } else { another_authority() };
    let proxy = Proxy::start(Some(&upstream), Wanted { trust: Some(&trust), ..everything() });
    let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
    let heard = told(client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap()).await;
    // A client that has its answer can go on asking.
    client.ready().await.unwrap();
    let again = told(client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap()).await;
    // What is said of a time that is not good has the second in which it was looked at.
    let timeless = |(status, words): &(u16, String)| (*status, words.replace(|c: char| c.is_ascii_digit(), ""));
    assert_eq!(timeless(&heard), timeless(&again));
    let events = proxy.stop();
    match heard.0 {
        200 => assert_eq!(asked.load(Ordering::SeqCst), 2),
        _ => {
            assert_eq!(asked.load(Ordering::SeqCst), 0, "nothing is sent to whom is not trusted");
            assert_eq!(causes(&events).len(), 2, "{events:?}");
            let told: serde_json::Value = serde_json::from_str(&heard.1).unwrap();
            let message = told["error"]["message"].as_str().unwrap();
            assert!(message.ends_with(&causes(&events)[0]), "{heard:?} {:?}", causes(&events));
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_good_is_refused_with_its_cause() {
    assert_eq!(distrusted(&NAMES, |_| {}, true).await, (200, "hello".to_owned()));
    let expired = |leaf: &mut rcgen::CertificateParams| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let early = |leaf: &mut rcgen::CertificateParams| leaf.not_before = rcgen::date_time_ymd(2100, 1, 1);
    for ((status, words), cause) in [
        (distrusted(&NAMES, expired, true).await, "expired"),
        (distrusted(&NAMES, early, true).await, "not valid yet"),
        (distrusted(&["other.example.com"], |_| {}, true).await, "not valid for name"),
        (distrusted(&NAMES, |_| {}, false).await, "unknownissuer"),
    ] {
        let said = words.to_lowercase();
        assert!(status == 502 && said.contains("does not verify") && said.contains(cause), "{cause}: {status} {words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_is_cut_is_a_failure_and_never_an_end() {
    let beginnings: [&[u8]; 4] =
        [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x03\x00\x7a\x02\x00\x00", b"\x15\x03\x03\0\x02\x02\x28"];
    for beginning in beginnings {
        let upstream = stub::plain(move |_, mut stream| {
            Box::pin(async move {
                let _ = stream.read_u8().await;
                let _ = stream.write_all(beginning).await;
                let _ = stream.shutdown().await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            })
        })
        .await;
        let proxy = Proxy::start(Some(&upstream), everything());
        let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
        let (status, words) =
            told(client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap()).await;
        assert!(status == 502 && words.contains("TLS"), "{beginning:?}: {status} {words}");
        assert_eq!(ends(&proxy.stop()), [None]);
    }
    // Where only the end of the connection says that a body is over, its TLS has to say it.
    for (farewell, end) in [(true, BodyEnd::Complete), (false, BodyEnd::UpstreamBroke)] {
        let upstream = stub::tls(
            &NAMES,
            |_| {},
            move |_, mut stream| {
                Box::pin(async move {
                    stub::head(&mut stream).await;
                    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello").await.unwrap();
                    if farewell {
                        stream.shutdown().await.unwrap();
                    } else {
                        stream.into_inner().0.shutdown().await.unwrap();
                    }
                })
            },
        )
        .await;
        let proxy = Proxy::start(Some(&upstream), everything());
        let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
        let answer = client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.into_body().collect().await.is_ok()), (200, farewell));
        assert_eq!(ends(&proxy.stop()), [Some(end)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_no_http_or_too_much_of_it_is_a_failure() {
    let giant = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(8 * 1024 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: a\r\n".repeat(100_000));
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 two hundred\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: a\0b\r\n\r\n",
        &giant,
        &many,
    ] {
        let upstream = stub::saying(answer).await;
        let proxy = Proxy::start(Some(&upstream), everything());
        let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
        let asked = request("GET", "api.example.com", "/a", "");
        let (status, words) = told(client.send_request(asked).await.unwrap()).await;
        let shown: String = answer.chars().take(60).collect();
        assert!(status == 502 && words.contains("the upstream broke off"), "{shown:?}: {status} {words}");
        assert_eq!(ends(&proxy.stop()), [None]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_bounded() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut neighbour = proxy.client::<Full<Bytes>>("api.example.com").await;
    let chunk = "a".repeat(64 * 1024);
    for beginning in
        ["GET /", "GET /a HTTP/1.1\r\nHost: api.example.com\r\nX: ", "GET /a HTTP/1.1\r\nHost: api.example.com\r\n"]
    {
        let stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let reading = tokio::spawn(async move {
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer).await;
            answer
        });
        writer.write_all(beginning.as_bytes()).await.unwrap();
        let chunk = if beginning.ends_with('\n') { "X: a\r\n".repeat(10_000) } else { chunk.clone() };
        let mut written = 0;
        let flood = async {
            while !reading.is_finished() && writer.write_all(chunk.as_bytes()).await.is_ok() {
                written += chunk.len();
            }
        };
        tokio::time::timeout(PATIENCE, flood).await.expect("the proxy closes the connection");
        assert!(written < FLOOD_BYTES_MAX, "{beginning:?}: {written} bytes were taken");
        let answer = String::from_utf8(reading.await.unwrap()).unwrap();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"),
            "{answer}"
        );
    }
    assert_eq!(upstream.requests(), 0);
    let asked = request("GET", "api.example.com", "/b", "");
    assert_eq!(told(neighbour.send_request(asked).await.unwrap()).await.0, 200);
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_sockets_are_bounded_and_the_others_go_on() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let room = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(4096 + 1024);
    let count = room.min(10_000);
    if count <= 4096 {
        println!("skipped: this needs at least 9,217 open files, and the hard limit is {most}");
        return;
    }
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut early = proxy.client::<Full<Bytes>>("api.example.com").await;
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        // Half a head, as from somebody who takes their time; whoever was sent away cannot say it.
        let _ = stream.write_all(b"GET http://api.exam").await;
        crowd.push(stream);
    }
    let mut asked = |path: &str| early.send_request(request("GET", "api.example.com", path, ""));
    assert_eq!(told(asked("/during").await.unwrap()).await, (200, "hello".to_owned()));
    // The last that came are the ones that found no room.
    let mut last = crowd.pop().unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, last.read_to_end(&mut rest)).await.expect("it is closed");
    assert!(rest.is_empty());
    drop(crowd);
    let mut fresh = None;
    for _ in 0..6000 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        let asked = "GET http://api.example.com/ HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(asked.as_bytes()).await;
        let mut answer = String::new();
        if stream.read_to_string(&mut answer).await.is_ok() && !answer.is_empty() {
            fresh = Some(answer);
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fresh.is_some_and(|answer| answer.starts_with("HTTP/1.1 421")), "there is room again");
    let full = |event: &&Event| matches!(event, Event::ConnectionRefused { kind: RefusalKind::Limit, .. });
    let events = proxy.stop();
    assert!(events.iter().any(|event| full(&event)), "what did not get in is recorded");
}

/// Zeros in little: one, and matches of 258 bytes that lie one byte back (RFC
/// 1951, section 3.2.6).
fn bomb() -> Vec<u8> {
    let mut bits = vec![1, 1, 0];
    let code = |bits: &mut Vec<u8>, text: &str| bits.extend(text.bytes().map(|bit| bit - b'0'));
    code(&mut bits, "00110000");
    for _ in 0..BOMB_BYTES / 258 {
        code(&mut bits, "1100010100000");
    }
    code(&mut bits, "0000000");
    let packed = bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit));
    // RFC 1952: a head without a name; at the end CRC and length, of which a reader needs none.
    b"\x1f\x8b\x08\0\0\0\0\0\0\xff".iter().copied().chain(packed).chain([0; 8]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_comes_out_no_faster_than_it_is_read() {
    let bomb = bomb();
    let sent = bomb.clone();
    let upstream = Upstream::start(&["http/1.1"], move |_, _| {
        let (feed, body) = channel();
        let bytes = Bytes::from(sent.clone());
        tokio::spawn(async move { feed.send(Ok(hyper::body::Frame::data(bytes))).await });
        let answer = Response::builder().header("content-type", "text/event-stream");
        answer.header("content-encoding", "gzip").body(body).unwrap()
    })
    .await;
    let rules = ["* api.openai.com/**", "* api.example.com/**"];
    let proxy = Proxy::start(Some(&upstream), Wanted { rules: &rules, ..Wanted::default() });
    // Nobody here reads it: it passes as it came.
    let mut client = proxy.client::<Full<Bytes>>("api.openai.com").await;
    let answer = client.send_request(request("GET", "api.openai.com", "/a", "")).await.unwrap();
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), bomb);
    // Of a host that may tell a secret the compression is taken off, as its client reads it.
    let mut client = proxy.client::<Full<Bytes>>("api.example.com").await;
    let answer = client.send_request(request("GET", "api.example.com", "/a", "")).await.unwrap();
    assert!(!answer.headers().contains_key("content-encoding"));
    let mut body = answer.into_body();
    let (mut length, mut largest) = (0, 0);
    while length < BOMB_BYTES / 4 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        (length, largest) = (length + frame.len(), largest.max(frame.len()));
    }
    assert!(largest < BOMB_BYTES / 8, "{largest}");
    drop((body, client));
    soon("the one that left is settled", || ends(&proxy.memory.events()).len() == 2).await;
    assert_eq!(ends(&proxy.stop()), [Some(BodyEnd::Complete), Some(BodyEnd::ClientGone)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_it_is_done_sending_has_left() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| Response::new(text("hello"))).await;
    let proxy = Proxy::start(Some(&upstream), everything());
    let mut stream = proxy.tls("api.example.com:443", "api.example.com", &["http/1.1"]).await;
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: api.example.com\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    let events = proxy.stop();
    // It is seen to have left, as a rule before there is an answer; either is recorded.
    assert_eq!(of_kind(&events, "request_allowed").len(), ends(&events).len(), "{events:?}");
}
