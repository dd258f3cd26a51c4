//! A secret in the first message of a WebSocket, in which some servers want it.

use crate::support::*;
use crate::websocket::{completed, frame, handshake, listener, open, usual};
use omni::model::{BodyEnd, Event};
use omni::policy::Place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOST: &str = "api.example.com";
const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

fn wanted(pointer: &str) -> Wanted<'static> {
    Wanted {
        rules: &["* api.example.com/**", "* api.openai.com/**"],
        place: Some(Place::FirstMessage(pointer.to_owned())),
        ..Wanted::default()
    }
}

/// What the upstream hears of what a client says so many bytes at a time, once that is so long.
async fn heard(pointer: &str, said: &[u8], size: usize, length: usize) -> (Vec<u8>, Vec<Event>) {
    let (upstream, witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), wanted(pointer));
    let offered = format!("{}Sec-WebSocket-Extensions: permessage-deflate\r\n", usual());
    let (head, mut stream) = open(&proxy, HOST, &handshake(HOST, "/socket", &offered)).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(witness.asked().iter().all(|headers| !headers.contains_key("sec-websocket-extensions")));
    for piece in said.chunks(size) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
    }
    soon("the upstream heard it", || witness.heard().len() >= length).await;
    drop(stream);
    soon("it is settled", || !completed(&proxy.memory.events()).is_empty()).await;
    (witness.heard(), proxy.stop())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_of_a_websocket_gets_the_secret() {
    let json: fn(&str) -> String = |key| format!("{{\"op\": 2, \"d\": {{\"token\": \"{key}\"}}}}");
    let pass: fn(&str) -> String = |key| format!("PASS oauth:{key}\r\n");
    for (pointer, text) in [("/d/token", json), ("*", pass)] {
        for size in [1, 7, 4096] {
            let second = frame("and more", MASK);
            let said = [frame(&text(PLACEHOLDER), MASK), second.clone()].concat();
            // Short enough for one byte of length.
            let mut expected = frame(&text(REAL), MASK);
            expected.splice(1..4, [0x80 | u8::try_from(text(REAL).len()).unwrap()]);
            expected.extend(&second);
            let (heard, events) = heard(pointer, &said, size, expected.len()).await;
            assert_eq!(heard, expected, "{pointer} {size}");
            let named =
                |event: &Event| matches!(event, Event::RequestAllowed { secrets, .. } if secrets == &["vendor"]);
            assert_eq!(events.iter().filter(|event| named(event)).count(), 1, "{events:?}");
            assert_eq!(completed(&events)[0].3, BodyEnd::ClientGone);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_message_and_no_other_place_in_it_does() {
    let good = format!("{{\"d\": {{\"token\": \"{PLACEHOLDER}\"}}}}");
    let twice = good.replace("{\"d\"", &format!("{{\"e\": \"{PLACEHOLDER}\", \"d\""));
    let elsewhere = format!("{{\"token\": \"{PLACEHOLDER}\"}}");
    let second = [frame("hello", MASK), frame(&good, MASK)].concat();
    for said in [frame(&elsewhere, MASK), frame(&twice, MASK), second] {
        let (upstream, witness) = listener().await;
        let proxy = Proxy::start(Some(&upstream), wanted("/d/token"));
        let (_, mut stream) = open(&proxy, HOST, &handshake(HOST, "/socket", &usual())).await;
        stream.write_all(&said).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let heard = witness.heard();
        let events = proxy.stop();
        let told = |event: &&Event| matches!(event, Event::RequestFailed { reason, .. } if reason.contains("`vendor`"));
        assert_eq!(events.iter().filter(told).count(), 1, "{events:?}");
        let is_clean = |text: &Vec<u8>| !text.windows(REAL.len()).any(|part| part == REAL.as_bytes());
        let unmasked: Vec<Vec<u8>> = (0..4)
            .map(|shift| heard.iter().zip((1..=4).cycle().skip(shift)).map(|(byte, mask)| byte ^ mask).collect())
            .collect();
        assert!(unmasked.iter().all(is_clean), "the secret went out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_another_host_it_does_not_go_out() {
    let (upstream, _witness) = listener().await;
    let proxy = Proxy::start(Some(&upstream), wanted("*"));
    let (_, mut stream) = open(&proxy, "api.openai.com", &handshake("api.openai.com", "/socket", &usual())).await;
    stream.write_all(&frame(PLACEHOLDER, MASK)).await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    let events = proxy.stop();
    let named = |event: &Event| matches!(event, Event::RequestAllowed { secrets, .. } if !secrets.is_empty());
    assert!(!events.iter().any(named), "{events:?}");
    let told = |event: &Event| matches!(event, Event::RequestFailed { reason, .. } if reason.contains("`vendor`"));
    assert!(events.iter().any(told), "{events:?}");
}
