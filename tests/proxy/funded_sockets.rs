//! Model calls over WebSockets where money is limited: none leaves before money is held for it and that is recorded.

use crate::support::*;
use crate::websocket::{AGREED, Talk, Witness, agreeing, handshake, open, response, usages, usual};
use futures_util::{SinkExt, StreamExt};
use omni::model::{BodyEnd, Event, NanoUsd, Pricing, RequestNumber};
use omni::proxy::{Answer, Ask, FromProxy, FromSession, PACKET_BYTES_MAX};
use serde_json::Value;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const HOST: &str = "api.openai.com";
const HELLO: &str = r#"{"type":"response.create","model":"gpt-5.5","max_output_tokens":5000,"input":"hi"}"#;

/// A session at the other end of the proxy's line, which answers what it is asked as it is told.
struct Session {
    line: OwnedFd,
}

/// What was asked for a call: the number of the question, the call, and what it may cost.
#[derive(Debug)]
struct Wish {
    number: u64,
    request: RequestNumber,
    full: NanoUsd,
    least: NanoUsd,
}

impl Session {
    fn word(&self) -> FromProxy {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let count = nix::sys::socket::recv(self.line.as_raw_fd(), &mut packet, nix::sys::socket::MsgFlags::empty());
        serde_json::from_slice(&packet[..count.unwrap()]).unwrap()
    }

    /// The next call that asks for money.
    async fn wish(&self) -> Wish {
        tokio::task::block_in_place(|| {
            loop {
                if let FromProxy::Ask { number, ask: Ask::Reserve { request, full, least, .. } } = self.word() {
                    return Wish { number, request, full, least };
                }
            }
        })
    }

    /// What the next call that is over came to.
    async fn bill(&self) -> (RequestNumber, NanoUsd) {
        tokio::task::block_in_place(|| {
            loop {
                if let FromProxy::Settle { request, cost } = self.word() {
                    return (request, cost);
                }
            }
        })
    }

    fn answer(&self, wish: &Wish, answer: Answer) {
        let word = serde_json::to_vec(&FromSession::Answer { number: wish.number, answer }).unwrap();
        nix::sys::socket::send(self.line.as_raw_fd(), &word, nix::sys::socket::MsgFlags::empty()).unwrap();
    }

    fn holds(&self, wish: &Wish) {
        self.answer(wish, Answer::Held(wish.full));
    }
}

/// A proxy that asks this session for money.
fn funded(upstream: &Upstream) -> (Proxy, Session) {
    let (line, theirs) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    )
    .unwrap();
    let wanted =
        Wanted { rules: &["* api.openai.com/**"], amendments: Some(theirs), funded: true, ..Wanted::default() };
    (Proxy::start(Some(upstream), wanted), Session { line })
}

/// An upstream that hands over each message that it gets, and says what it is told to.
async fn provider() -> (Upstream, Witness, mpsc::Receiver<String>, tokio::sync::mpsc::UnboundedSender<String>) {
    let (heard, hearing) = mpsc::channel();
    let (says, said) = tokio::sync::mpsc::unbounded_channel::<String>();
    let said = std::sync::Arc::new(tokio::sync::Mutex::new(said));
    let (upstream, witness) = agreeing(101, AGREED, move |socket, _| -> Talk {
        let (heard, said) = (heard.clone(), said.clone());
        Box::pin(async move {
            let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
            let mut said = said.lock().await;
            loop {
                tokio::select! {
                    message = socket.next() => match message {
                        Some(Ok(Message::Text(text))) => heard.send(text.to_string()).unwrap(),
                        Some(Ok(_)) => {}
                        Some(Err(_)) | None => return,
                    },
                    Some(text) = said.recv() => socket.send(Message::text(text)).await.unwrap(),
                }
            }
        })
    })
    .await;
    (upstream, witness, hearing, says)
}

type Client = WebSocketStream<TlsStream<TcpStream>>;

async fn client(proxy: &Proxy) -> Client {
    let asked = format!("{}Sec-WebSocket-Extensions: permessage-deflate\r\n", usual());
    let (head, stream) = open(proxy, HOST, &handshake(HOST, "/v1/responses", &asked)).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && !head.contains("extensions"), "{head}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

/// The next event that is said to a client, beside signs of life.
async fn event(client: &mut Client) -> Value {
    loop {
        let Message::Text(text) = client.next().await.unwrap().unwrap() else { panic!("no event") };
        let event: Value = serde_json::from_str(&text).unwrap();
        if event["type"] != "response.heartbeat" {
            return event;
        }
    }
}

/// Whether a client is told that the socket is over, and says nothing more.
async fn is_closed(client: &mut Client) -> bool {
    loop {
        match client.next().await {
            Some(Ok(Message::Close(_))) | Some(Err(_)) | None => return true,
            Some(Ok(Message::Text(text))) if text.contains("heartbeat") => {}
            Some(Ok(other)) => panic!("{other}"),
        }
    }
}

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::kind).filter(|kind| *kind != "name_resolved" && *kind != "proxy_started").collect()
}

fn hears_nothing(heard: &mpsc::Receiver<String>) -> bool {
    heard.try_recv().is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_leaves_once_money_is_held_for_it_and_its_bill_settles_that() {
    let (upstream, witness, heard, says) = provider().await;
    let (proxy, session) = funded(&upstream);
    let mut client = client(&proxy).await;
    assert!(!witness.asked()[0].contains_key("sec-websocket-extensions"), "what is compressed would have to be read");
    client.send(Message::text(HELLO)).await.unwrap();
    let wish = session.wish().await;
    assert!(
        wish.least < wish.full && wish.full > NanoUsd(30_000 * 5000),
        "five thousand tokens at 30 dollars: {wish:?}"
    );
    assert!(hears_nothing(&heard), "nobody let it go yet");
    assert_eq!(of_kind(&proxy.memory.events(), "hold_placed"), []);
    // Who waits is kept waiting by something that means nothing.
    let Message::Text(sign) = client.next().await.unwrap().unwrap() else { panic!("no sign") };
    assert_eq!(sign.as_str(), r#"{"type":"response.heartbeat"}"#);
    session.holds(&wish);
    assert_eq!(tokio::task::block_in_place(|| heard.recv()).unwrap(), HELLO);
    for (kind, tokens) in [("created", 0), ("completed", 20)] {
        says.send(response(1, kind, tokens, 2)).unwrap();
        assert_eq!(event(&mut client).await["type"], format!("response.{kind}"));
    }
    let bill = NanoUsd(20 * 5_000 + 2 * 30_000);
    assert_eq!(session.bill().await, (wish.request, bill));
    client.close(None).await.unwrap();
    soon("the socket is over", || of_kind(&proxy.memory.events(), "request_completed").len() == 2).await;
    let events = proxy.stop();
    let expected = ["request_allowed", "hold_placed", "request_allowed", "request_completed", "usage_metered"];
    let expected = [&expected[..], &["hold_settled", "request_completed"]].concat();
    assert_eq!(kinds(&events), expected);
    assert_eq!(usages(&events), [("gpt-5.5".to_owned(), 20, 2, Pricing::Exact)]);
    let Some(Event::HoldSettled { request, held, charged, estimated: false }) = of_kind(&events, "hold_settled").pop()
    else {
        panic!("{events:?}")
    };
    assert_eq!((request, held, charged), (wish.request, wish.full, bill));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_money_never_leaves_and_its_client_is_told_in_the_vendors_words() {
    let (upstream, _, heard, _says) = provider().await;
    let (proxy, session) = funded(&upstream);
    let mut client = client(&proxy).await;
    client.send(Message::text(HELLO)).await.unwrap();
    client.send(Message::text(HELLO)).await.unwrap();
    let wish = session.wish().await;
    session.answer(&wish, Answer::Denied("the budget `b` is used up".to_owned()));
    let told = event(&mut client).await;
    assert_eq!((&told["type"], &told["response"]["status"]), (&"response.failed".into(), &"failed".into()), "{told}");
    assert!(told["response"]["error"]["message"].as_str().unwrap().contains("the budget `b` is used up"), "{told}");
    assert!(is_closed(&mut client).await);
    assert!(hears_nothing(&heard));
    soon("the socket is over", || of_kind(&proxy.memory.events(), "request_completed").len() == 1).await;
    let events = proxy.stop();
    assert_eq!(kinds(&events), ["request_allowed", "request_denied", "request_completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_outruns_what_is_held_ends_the_socket() {
    let (upstream, _, heard, says) = provider().await;
    let (proxy, session) = funded(&upstream);
    let mut client = client(&proxy).await;
    client.send(Message::text(HELLO)).await.unwrap();
    let wish = session.wish().await;
    session.answer(&wish, Answer::Held(wish.least));
    tokio::task::block_in_place(|| heard.recv()).unwrap();
    says.send(response(1, "created", 0, 0)).unwrap();
    let word = format!(r#"{{"type":"response.output_text.delta","delta":"{}"}}"#, "word ".repeat(1000));
    let told = loop {
        // The socket may be over by now.
        let _ = says.send(word.clone());
        let told = event(&mut client).await;
        if told["type"] == "response.failed" {
            break told;
        }
    };
    assert!(told.to_string().contains("longer than the budget allows"), "{told}");
    assert!(is_closed(&mut client).await);
    let (request, charged) = session.bill().await;
    assert!(request == wish.request && charged <= wish.least && charged.0 > wish.least.0 / 2, "{charged} of {wish:?}");
    let events = proxy.stop();
    let ends: Vec<_> = crate::websocket::completed(&events).into_iter().map(|done| done.3).collect();
    assert_eq!(ends, [BodyEnd::BudgetReached; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_say_the_price_of_never_leaves() {
    let (upstream, _, heard, _says) = provider().await;
    let (proxy, _session) = funded(&upstream);
    for said in [
        Message::text(r#"{"type":"response.invent","input":"hi"}"#),
        Message::text(r#"{"type":"ping","type":"response.create"}"#),
        Message::text("hello"),
        Message::binary(HELLO.as_bytes()),
    ] {
        let mut client = client(&proxy).await;
        client.send(said.clone()).await.unwrap();
        assert!(is_closed(&mut client).await, "{said}");
    }
    let mut client = client(&proxy).await;
    client.send(Message::text(r#"{"type":"response.cancel"}"#)).await.unwrap();
    assert_eq!(tokio::task::block_in_place(|| heard.recv()).unwrap(), r#"{"type":"response.cancel"}"#);
    assert!(hears_nothing(&heard));
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_side_by_side_are_settled_each_and_what_they_go_on_from_counts() {
    let (upstream, _, heard, says) = provider().await;
    let (proxy, session) = funded(&upstream);
    let mut client = client(&proxy).await;
    let asked = |stream: &str| HELLO.replacen('{', &format!(r#"{{"stream_id":"{stream}","#), 1);
    let said = |stream: &str, text: String| text.replacen('{', &format!(r#"{{"stream_id":"{stream}","#), 1);
    let mut wishes = Vec::new();
    for stream in ["a", "b"] {
        client.send(Message::text(asked(stream))).await.unwrap();
        wishes.push(session.wish().await);
        session.holds(wishes.last().unwrap());
        tokio::task::block_in_place(|| heard.recv()).unwrap();
    }
    for (stream, id, kind, tokens) in
        [("b", 2, "created", 0), ("a", 1, "created", 0), ("b", 2, "completed", 7_000), ("a", 1, "incomplete", 50)]
    {
        says.send(said(stream, response(id, kind, tokens, 3))).unwrap();
        event(&mut client).await;
    }
    let cost = |input: i64| NanoUsd(input * 5_000 + 3 * 30_000);
    assert_eq!(session.bill().await, (wishes[1].request, cost(7_000)));
    assert_eq!(session.bill().await, (wishes[0].request, cost(50)));
    // Seven thousand tokens came before, and are paid for again.
    let more = HELLO.replacen('{', r#"{"previous_response_id":"resp_2","#, 1);
    client.send(Message::text(more)).await.unwrap();
    let wish = session.wish().await;
    assert!(wish.full.0 > wishes[0].full.0 + 7_000 * 5_000, "{wish:?}");
    session.holds(&wish);
    tokio::task::block_in_place(|| heard.recv()).unwrap();
    // An answer that nobody asked for ends the socket, and is in the record.
    says.send(response(3, "created", 0, 0)).unwrap();
    event(&mut client).await;
    says.send(response(4, "created", 0, 0)).unwrap();
    assert!(is_closed(&mut client).await);
    let (request, charged) = session.bill().await;
    assert!(request == wish.request && charged > NanoUsd::ZERO, "the one under way is estimated: {charged}");
    soon("the socket is over", || of_kind(&proxy.memory.events(), "request_failed").len() == 1).await;
    let events = proxy.stop();
    let models = usages(&events).into_iter().filter(|usage| usage.3 == Pricing::Incomplete).count();
    assert_eq!(models, 2, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_withdraws_what_waits_and_pays_for_what_was_made() {
    let (upstream, _, heard, says) = provider().await;
    let (proxy, session) = funded(&upstream);
    let mut client = client(&proxy).await;
    client.send(Message::text(HELLO)).await.unwrap();
    let first = session.wish().await;
    session.holds(&first);
    tokio::task::block_in_place(|| heard.recv()).unwrap();
    says.send(response(1, "created", 0, 0)).unwrap();
    event(&mut client).await;
    client.send(Message::text(HELLO)).await.unwrap();
    let waits = session.wish().await;
    drop(client);
    loop {
        if let FromProxy::Withdraw { number } = tokio::task::block_in_place(|| session.word()) {
            assert_eq!(number, waits.number);
            break;
        }
    }
    says.send(response(1, "completed", 20, 2)).unwrap();
    assert_eq!(session.bill().await, (first.request, NanoUsd(20 * 5_000 + 2 * 30_000)));
    assert!(hears_nothing(&heard), "the second never left");
    proxy.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_billed_later_or_has_no_price_is_refused_in_so_many_words() {
    let upstream = Upstream::start(&["http/1.1"], |_, _| http::Response::new(text("{}"))).await;
    let (proxy, _session) = funded(&upstream);
    let mut client = proxy.client(HOST).await;
    for (path, body, why) in [
        ("/v1/batches", "{}", "a batch"),
        ("/v1/embeddings", "{}", "no price"),
        ("/v1/responses", r#"{"model":"gpt-5.5","background":true,"input":"hi"}"#, "in the background"),
    ] {
        client.ready().await.unwrap();
        let (status, said) = told(client.send_request(request("POST", HOST, path, body)).await.unwrap()).await;
        assert!(status == 402 && said.contains(why), "{path}: {status} {said}");
    }
    client.ready().await.unwrap();
    let free = request("POST", HOST, "/v1/moderations", "{}");
    assert_eq!(told(client.send_request(free).await.unwrap()).await.0, 200);
    assert_eq!(upstream.requests(), 1, "the upstream saw nothing of what was refused");
    assert_eq!(of_kind(&proxy.stop(), "request_denied").len(), 3);
}
