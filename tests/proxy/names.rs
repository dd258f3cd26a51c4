//! The resolver on its sockets.

use crate::support::*;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use omni::model::{Event, RefusalKind};
use std::time::Duration;
use tokio::net::UdpSocket;

/// How long an answer is waited for before the question is asked again, and how often that is done.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES_MAX: usize = 20;

async fn ask(server: &str, name: &str, kind: RecordType) -> Message {
    let bind = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(bind).await.unwrap();
    // A connected socket takes answers from the address it asked and from no other.
    socket.connect(server).await.unwrap();
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let question = question.to_vec().unwrap();
    let mut answer = [0; 1500];
    // A datagram that finds no room at the other end is lost, so that every resolver asks again.
    for _ in 0..TRIES_MAX {
        socket.send(&question).await.unwrap();
        if let Ok(length) = tokio::time::timeout(PATIENCE, socket.recv(&mut answer)).await {
            return Message::from_vec(&answer[..length.unwrap()]).unwrap();
        }
    }
    panic!("{name} was asked for {TRIES_MAX} times without an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_from_the_address_that_was_asked() {
    let proxy = Proxy::start(None, Wanted::default());
    let port = proxy.dns.port();
    for server in [format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}"), format!("[::1]:{port}")] {
        let answer = ask(&server, "api.example.com.", RecordType::A).await;
        assert_eq!(
            answer.answers[0].data,
            RData::A("198.18.0.1".parse::<std::net::Ipv4Addr>().unwrap().into()),
            "{server}"
        );
    }
    let events = proxy.stop();
    assert_eq!(of_kind(&events, "name_resolved").len(), 1, "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_an_address_in_disguise_does_not_exist_and_is_recorded() {
    let proxy = Proxy::start(None, Wanted::default());
    let server = format!("127.0.0.1:{}", proxy.dns.port());
    assert_eq!(ask(&server, "a.0x7f.", RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(ask(&server, "printer.local.", RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
    let refused = of_kind(&proxy.stop(), "connection_refused");
    assert!(matches!(&refused[..], [Event::ConnectionRefused { kind: RefusalKind::Name, .. }]), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_any_form_leave_the_resolver_standing() {
    let proxy = Proxy::start(None, Wanted::default());
    let server = format!("127.0.0.1:{}", proxy.dns.port());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut seed = 1_u32;
    for round in 0..2000_usize {
        let packet: Vec<u8> = (0..round % 600)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed.to_be_bytes()[0]
            })
            .collect();
        // Every other one has the head of a question.
        let head: &[u8] = if round % 2 == 0 { b"\0\x4d\x01\0\0\x01\0\0\0\0\0\0" } else { b"" };
        let _ = socket.send_to(&[head, &packet].concat(), &server).await;
    }
    for kind in [RecordType::TXT, RecordType::ANY, RecordType::HTTPS, RecordType::MX] {
        let answer = ask(&server, "data.evil.example.", kind).await;
        assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 0), "{kind}");
    }
    let pointer = ask(&server, "1.0.18.198.in-addr.arpa.", RecordType::PTR).await;
    assert_eq!(pointer.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(ask(&server, "api.example.com.", RecordType::A).await.answers.len(), 1);
    proxy.stop();
}
