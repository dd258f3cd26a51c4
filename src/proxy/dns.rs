//! The resolver of the sandbox, as pure functions over packets: every valid name has an address here.
//!
//! Even a name that no rule allows is answered, so that the request that follows can be refused with an explanation.
//! Nothing is ever forwarded, so no packet leaves and names cannot carry data out.

use crate::model::HostName;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long a program may keep an answer, in seconds. Addresses hold for the whole session; short lives keep a program's
/// cache from carrying them into another.
const TTL_SECONDS: u32 = 60;
/// How large a packet is taken from whoever asks with extensions (RFC 6891, section 6.2.5).
const PAYLOAD_BYTES_MAX: u16 = 1232;

/// A question that can be answered.
pub(super) struct Asked {
    message: Message,
    query: Query,
}

/// Which kind of address is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a question wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An address of a name.
    Address(HostName, Family),
    /// An address of this very machine, as the sandbox sees it.
    Localhost(Family),
    /// Something else about a name that exists: there is no such thing.
    Nothing,
    /// A name that does not exist here and needs no comment.
    NoSuchName,
    /// A name that no host can have; why.
    Invalid(String),
    /// A kind of question that this resolver does not take.
    NotImplemented,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// This address.
    Address(IpAddr),
    /// The name exists and has nothing of the kind.
    Empty,
    /// There is no such name.
    NoSuchName,
    /// It did not work.
    Failed,
    /// The question is not one that is taken here.
    NotImplemented,
}

impl Asked {
    /// Reads a packet; `None` for anything that is not one question.
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let message = Message::from_vec(packet).ok()?;
        if message.metadata.message_type != MessageType::Query || message.queries.len() != 1 {
            return None;
        }
        let query = message.queries.first()?.clone();
        Some(Self { message, query })
    }

    /// The name that was asked for, for a record.
    pub(super) fn name(&self) -> String {
        self.query.name.to_ascii()
    }

    /// What the question wants.
    pub(super) fn wanted(&self) -> Wanted {
        let family = match self.query.query_type {
            RecordType::A => Some(Family::V4),
            RecordType::AAAA => Some(Family::V6),
            _ => None,
        };
        if self.message.metadata.op_code != OpCode::Query || self.query.query_class != DNSClass::IN {
            return Wanted::NotImplemented;
        }
        let name = self.name().to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let under = |top: &str| name == top || name.strip_suffix(top).is_some_and(|rest| rest.ends_with('.'));
        if under("local") || under("arpa") || name.is_empty() {
            return Wanted::NoSuchName;
        }
        if under("localhost") {
            return family.map_or(Wanted::Nothing, Wanted::Localhost);
        }
        match (HostName::parse(name), family) {
            (Ok(name), Some(family)) => Wanted::Address(name, family),
            (Ok(_), None) => Wanted::Nothing,
            (Err(error), _) => Wanted::Invalid(error.to_string()),
        }
    }

    /// The packet that answers; `None` when it cannot be written.
    pub(super) fn reply(&self, answer: Answer) -> Option<Vec<u8>> {
        let asked = &self.message.metadata;
        let mut reply = Message::response(asked.id, asked.op_code);
        reply.metadata.recursion_desired = asked.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.response_code = match answer {
            Answer::Address(_) | Answer::Empty => ResponseCode::NoError,
            Answer::NoSuchName => ResponseCode::NXDomain,
            Answer::Failed => ResponseCode::ServFail,
            Answer::NotImplemented => ResponseCode::NotImp,
        };
        // The question goes back letter by letter: some resolvers check the case they wrote it in.
        reply.add_query(self.query.clone());
        // Whoever asks with extensions is answered with them (RFC 6891, section 6.1.1).
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD_BYTES_MAX);
            reply.set_edns(edns);
        }
        if let Answer::Address(address) = answer {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A(v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
            };
            reply.add_answer(Record::from_rdata(self.query.name.clone(), TTL_SECONDS, data));
        }
        reply.to_vec().ok()
    }
}

/// The loopback address of a family.
pub(super) fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use hickory_proto::rr::Name;

    /// A packet that asks for a name.
    pub(in crate::proxy) fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 77;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn wanted(name: &str, kind: RecordType) -> Wanted {
        Asked::parse(&question(name, kind)).unwrap().wanted()
    }

    #[test]
    fn any_valid_name_has_an_address() {
        let name = HostName::parse("api.example.com").unwrap();
        assert_eq!(wanted("API.Example.com.", RecordType::A), Wanted::Address(name.clone(), Family::V4));
        assert_eq!(wanted("api.example.com.", RecordType::AAAA), Wanted::Address(name, Family::V6));
        assert_eq!(wanted("api.example.com.", RecordType::TXT), Wanted::Nothing);
        assert_eq!(wanted("api.example.com.", RecordType::HTTPS), Wanted::Nothing);
    }

    #[test]
    fn special_names_stay_inside() {
        assert_eq!(wanted("localhost.", RecordType::A), Wanted::Localhost(Family::V4));
        assert_eq!(wanted("app.localhost.", RecordType::AAAA), Wanted::Localhost(Family::V6));
        assert_eq!(wanted("printer.local.", RecordType::A), Wanted::NoSuchName);
        assert_eq!(wanted("1.0.18.198.in-addr.arpa.", RecordType::PTR), Wanted::NoSuchName);
        assert_eq!(wanted(".", RecordType::NS), Wanted::NoSuchName);
    }

    #[test]
    fn a_name_that_reads_as_an_address_is_invalid() {
        assert!(matches!(wanted("169.254.169.254.", RecordType::A), Wanted::Invalid(_)));
        assert!(matches!(wanted("a.0x7f.", RecordType::A), Wanted::Invalid(_)));
    }

    #[test]
    fn an_answer_repeats_the_question_as_it_was_written() {
        let asked = Asked::parse(&question("ApI.example.com.", RecordType::A)).unwrap();
        let address = IpAddr::from([198, 18, 0, 1]);
        let reply = Message::from_vec(&asked.reply(Answer::Address(address)).unwrap()).unwrap();
        assert_eq!((reply.metadata.id, reply.metadata.response_code), (77, ResponseCode::NoError));
        assert_eq!(reply.queries[0].name.to_ascii(), "ApI.example.com.");
        assert_eq!(reply.answers[0].data, RData::A(A(Ipv4Addr::new(198, 18, 0, 1))));
        assert!((1..=60).contains(&reply.answers[0].ttl));
        let gone = Message::from_vec(&asked.reply(Answer::NoSuchName).unwrap()).unwrap();
        assert_eq!((gone.metadata.response_code, gone.answers.len()), (ResponseCode::NXDomain, 0));
    }

    #[test]
    fn whoever_asks_with_extensions_is_answered_with_them() {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
        message.set_edns(Edns::new());
        let asked = Asked::parse(&message.to_vec().unwrap()).unwrap();
        let reply = Message::from_vec(&asked.reply(Answer::Empty).unwrap()).unwrap();
        assert_eq!(reply.edns.map(|edns| edns.max_payload()), Some(PAYLOAD_BYTES_MAX));
        let plain = Asked::parse(&question("a.example.", RecordType::A)).unwrap().reply(Answer::Empty).unwrap();
        assert!(Message::from_vec(&plain).unwrap().edns.is_none());
    }

    #[test]
    fn every_kind_of_question_has_an_answer() {
        for kind in [RecordType::ANY, RecordType::TXT, RecordType::MX, RecordType::SRV, RecordType::SVCB] {
            assert_eq!(wanted("api.example.com.", kind), Wanted::Nothing, "{kind}");
        }
        assert_eq!(wanted("8.8.8.8.in-addr.arpa.", RecordType::PTR), Wanted::NoSuchName);
        let mut update = Message::query();
        update.metadata.op_code = OpCode::Notify;
        update.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
        assert_eq!(Asked::parse(&update.to_vec().unwrap()).unwrap().wanted(), Wanted::NotImplemented);
    }

    #[test]
    fn names_that_point_at_each_other_or_beyond_the_end_are_not_read() {
        let head = b"\0\x4d\x01\0\0\x01\0\0\0\0\0\0";
        for name in [&b"\xc0\x0c"[..], b"\x01a\xc0\x0c", b"\xc0\x0e\xc0\x0c", b"\xc0\xff", b"\x3fa", b"\x40a\0", b""] {
            let packet = [head, name, b"\0\x01\0\x01"].concat();
            assert!(Asked::parse(&packet).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_name_of_any_bytes_is_a_host_or_is_not() {
        for label in [&b"a.b"[..], b"a\0b", b"a b", b"a/b", b"\xff", b"\r\n", b"\\"] {
            let mut message = Message::query();
            message.add_query(Query::query(Name::from_labels([label, b"example"]).unwrap(), RecordType::A));
            let asked = Asked::parse(&message.to_vec().unwrap()).unwrap();
            assert!(matches!(asked.wanted(), Wanted::Invalid(_)), "{label:?}");
            assert!(asked.name().is_ascii() && asked.reply(Answer::NoSuchName).is_some());
        }
    }

    proptest::proptest! {
        #[test]
        fn no_packet_makes_it_panic(packet in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            if let Some(asked) = Asked::parse(&packet) {
                let _ = (asked.wanted(), asked.name(), asked.reply(Answer::Empty));
            }
        }

        #[test]
        fn no_changed_question_makes_it_panic(at in 0_usize..40, byte in proptest::num::u8::ANY, cut in 0_usize..40) {
            let mut packet = question("api.example.com.", RecordType::A);
            let length = packet.len();
            packet[at % length] = byte;
            packet.truncate(length - cut % length);
            if let Some(asked) = Asked::parse(&packet) {
                let _ = (asked.wanted(), asked.name());
                let reply = asked.reply(Answer::Address(loopback(Family::V4)));
                proptest::prop_assert!(reply.is_none_or(|reply| Message::from_vec(&reply).is_ok()));
            }
        }
    }

    #[test]
    fn what_is_not_a_question_is_not_read() {
        assert!(Asked::parse(b"").is_none());
        assert!(Asked::parse(&[0xff; 600]).is_none());
        let reply = Asked::parse(&question("a.example.", RecordType::A)).unwrap().reply(Answer::Empty).unwrap();
        assert!(Asked::parse(&reply).is_none());
    }
}
