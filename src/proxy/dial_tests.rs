//! Which addresses are dialled, by what the name servers, the hosts file and the user say.

use super::*;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::sync::atomic::{AtomicUsize, Ordering};

fn dialer(connect_to: &[&str]) -> Dialer {
    let rewrites = connect_to.iter().map(|text| text.parse().unwrap()).collect();
    Dialer::new(
        ResolverConfig::default(),
        Roots::from_pem(Vec::new(), None).unwrap(),
        rewrites,
        UpstreamProxies::default(),
    )
}

async fn targets(dialer: &Dialer, host: &str) -> Result<Vec<SocketAddr>, DialError> {
    dialer.inner.targets(&Host::parse(host).unwrap(), Port(443)).await
}

#[tokio::test]
async fn an_address_inside_is_refused_and_one_outside_is_dialled_as_it_is() {
    let dialer = dialer(&[]);
    for inside in ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]"] {
        assert!(matches!(targets(&dialer, inside).await, Err(DialError::Refused { .. })), "{inside}");
    }
    assert_eq!(targets(&dialer, "1.1.1.1").await.unwrap(), ["1.1.1.1:443".parse().unwrap()]);
}

#[tokio::test]
async fn of_a_name_with_addresses_inside_and_outside_only_those_outside_are_dialled() {
    let config =
        ResolverConfig::from_parts("10.0.0.1 mixed.example\n1.1.1.1 mixed.example\n10.0.0.2 inside.example", None);
    let dialer =
        Dialer::new(config, Roots::from_pem(Vec::new(), None).unwrap(), Vec::new(), UpstreamProxies::default());
    assert_eq!(targets(&dialer, "mixed.example").await.unwrap(), ["1.1.1.1:443".parse().unwrap()]);
    assert!(matches!(targets(&dialer, "inside.example").await, Err(DialError::Refused { .. })));
}

#[tokio::test]
async fn a_users_own_rewriting_may_lead_inside() {
    let dialer = dialer(&["api.example.com:443:127.0.0.1:8443"]);
    assert_eq!(targets(&dialer, "api.example.com").await.unwrap(), ["127.0.0.1:8443".parse().unwrap()]);
    assert!(matches!(targets(&dialer, "other.example.com").await, Err(DialError::Name { .. })));
}

/// What a name server says to a question.
enum Said {
    Addresses(&'static [&'static str]),
    Alias(&'static str, &'static [&'static str]),
    Code(ResponseCode),
    Nothing,
}

/// A name server on this machine, with short lives for what it says, and how often it was asked for IPv4 addresses.
async fn name_server(say: impl Fn(&str, usize) -> Said + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let question = Message::from_vec(&packet[..length]).unwrap();
            let query = question.queries[0].clone();
            let v4 = query.query_type == RecordType::A;
            let time = if v4 { counted.fetch_add(1, Ordering::SeqCst) } else { counted.load(Ordering::SeqCst) };
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            reply.add_query(query.clone());
            let mut owner = query.name.clone();
            let addresses = match say(query.name.to_ascii().trim_end_matches('.'), time) {
                Said::Addresses(addresses) => addresses,
                Said::Alias(name, addresses) => {
                    let name = Name::from_ascii(name).unwrap();
                    reply.add_answer(Record::from_rdata(owner, 0, RData::CNAME(CNAME(name.clone()))));
                    owner = name;
                    addresses
                }
                Said::Code(code) => {
                    reply.metadata.response_code = code;
                    &[]
                }
                Said::Nothing => continue,
            };
            for address in addresses.iter().map(|text| text.parse().unwrap()) {
                match address {
                    IpAddr::V4(ip) if v4 => {
                        reply.add_answer(Record::from_rdata(owner.clone(), 0, RData::A(ip.into())));
                    }
                    IpAddr::V6(ip) if !v4 => {
                        reply.add_answer(Record::from_rdata(owner.clone(), 0, RData::AAAA(ip.into())));
                    }
                    _ => {}
                }
            }
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (address, asked)
}

fn asking(server: SocketAddr, connect_to: &[&str]) -> Dialer {
    let rewrites = connect_to.iter().map(|text| text.parse().unwrap()).collect();
    let hosts = "1.1.1.1 known.example\n10.1.1.1 office.example\n";
    let config = ResolverConfig::from_parts(hosts, Some(server)).impatient();
    Dialer::new(config, Roots::from_pem(Vec::new(), None).unwrap(), rewrites, UpstreamProxies::default())
}

fn at_443(addresses: &[&str]) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 443)).collect()
}

#[tokio::test]
async fn whatever_a_name_server_says_only_public_addresses_are_dialled() {
    let (server, _) = name_server(|name, _| match name {
        "mixed.example" => Said::Addresses(&["10.0.0.1", "1.1.1.1", "fd00::1", "2606:4700::1111", "::ffff:127.0.0.1"]),
        "alias.example" => Said::Alias("inside.example.", &["192.168.1.1"]),
        "outside.example" => Said::Alias("cdn.example.", &["1.0.0.1", "2606:4700::1001"]),
        "six.example" => Said::Addresses(&["2606:4700::1111"]),
        "metadata.example" => Said::Addresses(&["169.254.169.254", "100.100.100.200", "168.63.129.16"]),
        "hidden.example" => Said::Addresses(&["64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:10.0.0.1"]),
        "zero.example" => Said::Addresses(&["0.0.0.0", "::"]),
        "known.example" => Said::Addresses(&["9.9.9.9"]),
        _ => Said::Code(ResponseCode::NXDomain),
    })
    .await;
    let dialer = asking(server, &[]);
    assert_eq!(targets(&dialer, "mixed.example").await.unwrap(), at_443(&["1.1.1.1", "2606:4700::1111"]));
    assert_eq!(targets(&dialer, "outside.example").await.unwrap(), at_443(&["1.0.0.1", "2606:4700::1001"]));
    assert_eq!(targets(&dialer, "six.example").await.unwrap(), at_443(&["2606:4700::1111"]));
    for inside in ["alias", "metadata", "hidden", "zero", "office"] {
        let refused = targets(&dialer, &format!("{inside}.example")).await.unwrap_err();
        assert!(matches!(refused, DialError::Refused { .. }) && refused.status() == 403, "{inside}: {refused}");
        assert!(refused.to_string().contains("--connect-to"), "{refused}");
    }
    // The host's own file comes first, as for every program of the host.
    assert_eq!(targets(&dialer, "known.example").await.unwrap(), at_443(&["1.1.1.1"]));
}

#[tokio::test]
async fn a_name_server_that_fails_is_said_to_have() {
    let (server, _) = name_server(|name, _| match name {
        "none.example" => Said::Code(ResponseCode::NXDomain),
        "empty.example" => Said::Addresses(&[]),
        "failing.example" => Said::Code(ResponseCode::ServFail),
        "refusing.example" => Said::Code(ResponseCode::Refused),
        "loop.example" => Said::Alias("loop.example.", &[]),
        _ => Said::Nothing,
    })
    .await;
    let dialer = asking(server, &[]);
    for (name, expected) in [
        ("none.example", "there is no such name"),
        ("empty.example", "it has no address"),
        ("failing.example", "the name servers failed"),
        ("refusing.example", "the name servers failed"),
        ("loop.example", "loop.example does not resolve"),
        ("silent.example", "did not answer in time"),
    ] {
        let failed = targets(&dialer, name).await.unwrap_err();
        assert_eq!(failed.status(), 502, "{name}");
        let message = failed.to_string();
        assert!(message.starts_with(&format!("the name {name} does not resolve: ")), "{message}");
        assert!(message.contains(expected) && !message.contains("Query {"), "{message}");
    }
}

#[tokio::test]
async fn the_address_that_was_checked_is_dialled_whatever_the_name_means_a_moment_later() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (server, asked) = name_server(|name, time| match (name, time) {
        ("rebind.example", 0) => Said::Addresses(&["127.0.0.1"]),
        ("turning.example", 1) => Said::Addresses(&["1.1.1.1"]),
        _ => Said::Addresses(&["127.0.0.2"]),
    })
    .await;
    // A user's own rewriting may lead inside, so that this can be dialled here.
    let dialer = asking(server, &[&format!("api.example.com:443:rebind.example:{port}")]);
    let stream =
        dialer.inner.connect(Scheme::Https, &Host::parse("api.example.com").unwrap(), Port(443)).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Every dialling asks and checks anew.
    assert_eq!(targets(&dialer, "turning.example").await.unwrap(), at_443(&["1.1.1.1"]));
    assert!(matches!(targets(&dialer, "turning.example").await, Err(DialError::Refused { .. })));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}
