//! The resolver of the sandbox, as pure functions over packets: every valid name has an address here.
//!
//! Even a name that no rule allows is answered, so that the request that follows can be refused with an explanation.
//! Nothing is ever forwarded, so no packet leaves and names cannot carry data out.

use crate::model::HostName;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How long a program may keep an answer, in seconds. Addresses hold for the whole session; short lives keep a program's
/// cache from carrying them into another.
const TTL_SECONDS: u32 = 60;

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
    fn what_is_not_a_question_is_not_read() {
        assert!(Asked::parse(b"").is_none());
        assert!(Asked::parse(&[0xff; 600]).is_none());
        let reply = Asked::parse(&question("a.example.", RecordType::A)).unwrap().reply(Answer::Empty).unwrap();
        assert!(Asked::parse(&reply).is_none());
    }
}
