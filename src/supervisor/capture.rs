//! The packet filter of the sandbox: every new TCP connection that is not meant for the sandbox itself is handed to the
//! proxy's listeners ("tproxy", Documentation/networking/tproxy.rst), whatever address and port it was made to.
//!
//! In the terms of linux/netfilter/nf_tables.h; as nft(8) would print it:
//!
//! ```text
//! table inet omni {
//!   chain capture {
//!     type filter hook prerouting priority mangle;
//!     meta nfproto ipv4 meta l4proto tcp tcp flags & (syn|ack) == syn ip daddr != { 10.77.0.2, 127.0.0.0/8 }
//!       tproxy ip to 127.255.77.1:15001
//!     meta nfproto ipv6 meta l4proto tcp tcp flags & (syn|ack) == syn ip6 daddr != { fd77::2, ::1 }
//!       tproxy ip6 to [fd77::77]:15001
//!   }
//! }
//! ```

use super::network::{CREATE, LISTENER_PORT, LISTENER_V4, LISTENER_V6, OWN_V4, OWN_V6};
use crate::sys::{Attributes, Netlink, NetlinkMessage};
use std::io;
use std::net::Ipv6Addr;

/// `NFTA_*`: the attributes of linux/netfilter/nf_tables.h.
mod nfta {
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_HOOKNUM: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;
    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const LIST_ELEM: u16 = 1;
    pub(super) const EXPR_NAME: u16 = 1;
    pub(super) const EXPR_DATA: u16 = 2;
    pub(super) const META_DREG: u16 = 1;
    pub(super) const META_KEY: u16 = 2;
    pub(super) const CMP_SREG: u16 = 1;
    pub(super) const CMP_OP: u16 = 2;
    pub(super) const CMP_DATA: u16 = 3;
    pub(super) const DATA_VALUE: u16 = 1;
    pub(super) const PAYLOAD_DREG: u16 = 1;
    pub(super) const PAYLOAD_BASE: u16 = 2;
    pub(super) const PAYLOAD_OFFSET: u16 = 3;
    pub(super) const PAYLOAD_LEN: u16 = 4;
    pub(super) const BITWISE_SREG: u16 = 1;
    pub(super) const BITWISE_DREG: u16 = 2;
    pub(super) const BITWISE_LEN: u16 = 3;
    pub(super) const BITWISE_MASK: u16 = 4;
    pub(super) const BITWISE_XOR: u16 = 5;
    pub(super) const IMMEDIATE_DREG: u16 = 1;
    pub(super) const IMMEDIATE_DATA: u16 = 2;
    pub(super) const TPROXY_FAMILY: u16 = 1;
    pub(super) const TPROXY_REG_ADDR: u16 = 2;
    pub(super) const TPROXY_REG_PORT: u16 = 3;
}

/// Loads the filter that hands new TCP connections to our listeners.
pub(super) fn load_filter() -> io::Result<()> {
    let table = Attributes::default().with_text(nfta::TABLE_NAME, TABLE);
    let messages = [
        batch(libc::NFNL_MSG_BATCH_BEGIN as u16),
        nft(libc::NFT_MSG_NEWTABLE as u16, CREATE, &table),
        nft(libc::NFT_MSG_NEWCHAIN as u16, CREATE, &prerouting()),
        nft(libc::NFT_MSG_NEWRULE as u16, CREATE | libc::NLM_F_APPEND as u16, &rule(&capture_v4())),
        nft(libc::NFT_MSG_NEWRULE as u16, CREATE | libc::NLM_F_APPEND as u16, &rule(&capture_v6())),
        batch(libc::NFNL_MSG_BATCH_END as u16),
    ];
    Netlink::netfilter()?.request(&messages)
}

const TABLE: &str = "omni";
const CHAIN: &str = "capture";
/// `NFPROTO_INET`: rules for both families.
const FAMILY_INET: u8 = 1;
/// Priority of the mangle table, where tproxy belongs (nft(8)).
const PRIORITY_MANGLE: i32 = -150;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
const TCP_FLAGS_OFFSET: u32 = 13;
const TCP_SYN: u8 = 0x02;
const TCP_SYN_ACK: u8 = 0x12;
const IPV4_DESTINATION_OFFSET: u32 = 16;
const IPV6_DESTINATION_OFFSET: u32 = 24;

/// `struct nfgenmsg` with the batch's subsystem.
fn batch(kind: u16) -> NetlinkMessage {
    let subsystem = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
    NetlinkMessage { kind, flags: libc::NLM_F_REQUEST as u16, body: vec![0, 0, subsystem[0], subsystem[1]] }
}

fn nft(kind: u16, flags: u16, attributes: &Attributes) -> NetlinkMessage {
    let mut body = vec![FAMILY_INET, 0, 0, 0];
    body.extend_from_slice(attributes.bytes());
    NetlinkMessage { kind: (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind, flags, body }
}

fn prerouting() -> Attributes {
    let hook = Attributes::default()
        .with_be32(nfta::HOOK_HOOKNUM, libc::NF_INET_PRE_ROUTING as u32)
        .with_be32(nfta::HOOK_PRIORITY, PRIORITY_MANGLE.cast_unsigned());
    Attributes::default()
        .with_text(nfta::CHAIN_TABLE, TABLE)
        .with_text(nfta::CHAIN_NAME, CHAIN)
        .with_nested(nfta::CHAIN_HOOK, &hook)
        .with_text(nfta::CHAIN_TYPE, "filter")
}

fn rule(expressions: &Attributes) -> Attributes {
    Attributes::default()
        .with_text(nfta::RULE_TABLE, TABLE)
        .with_text(nfta::RULE_CHAIN, CHAIN)
        .with_nested(nfta::RULE_EXPRESSIONS, expressions)
}

/// New IPv4 connections to anywhere but 127.0.0.0/8 and our own address.
fn capture_v4() -> Attributes {
    let program = new_tcp(libc::NFPROTO_IPV4 as u8);
    let program = load(program, libc::NFT_PAYLOAD_NETWORK_HEADER as u32, IPV4_DESTINATION_OFFSET, 4);
    let program = compare(program, libc::NFT_CMP_NEQ as u32, &OWN_V4.octets());
    let program = mask(program, &[0xff, 0, 0, 0]);
    let program = compare(program, libc::NFT_CMP_NEQ as u32, &[127, 0, 0, 0]);
    hand_over(program, libc::NFPROTO_IPV4 as u32, &LISTENER_V4.octets())
}

/// New IPv6 connections to anywhere but ::1 and our own address.
fn capture_v6() -> Attributes {
    let program = new_tcp(libc::NFPROTO_IPV6 as u8);
    let program = load(program, libc::NFT_PAYLOAD_NETWORK_HEADER as u32, IPV6_DESTINATION_OFFSET, 16);
    let program = compare(program, libc::NFT_CMP_NEQ as u32, &OWN_V6.octets());
    let program = compare(program, libc::NFT_CMP_NEQ as u32, &Ipv6Addr::LOCALHOST.octets());
    hand_over(program, libc::NFPROTO_IPV6 as u32, &LISTENER_V6.octets())
}

/// `meta nfproto FAMILY meta l4proto tcp tcp flags & (syn|ack) == syn`: only the first packet of a connection, since the
/// kernel finds the connection's own socket for the others.
fn new_tcp(family: u8) -> Attributes {
    let program = meta(Attributes::default(), libc::NFT_META_NFPROTO as u32);
    let program = compare(program, libc::NFT_CMP_EQ as u32, &[family]);
    let program = meta(program, libc::NFT_META_L4PROTO as u32);
    let program = compare(program, libc::NFT_CMP_EQ as u32, &[libc::IPPROTO_TCP as u8]);
    let program = load(program, libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32, TCP_FLAGS_OFFSET, 1);
    let program = mask(program, &[TCP_SYN_ACK]);
    compare(program, libc::NFT_CMP_EQ as u32, &[TCP_SYN])
}

fn expression(program: Attributes, name: &str, data: &Attributes) -> Attributes {
    let expression = Attributes::default().with_text(nfta::EXPR_NAME, name).with_nested(nfta::EXPR_DATA, data);
    program.with_nested(nfta::LIST_ELEM, &expression)
}

fn meta(program: Attributes, key: u32) -> Attributes {
    let data = Attributes::default().with_be32(nfta::META_DREG, REGISTER_1).with_be32(nfta::META_KEY, key);
    expression(program, "meta", &data)
}

fn load(program: Attributes, base: u32, offset: u32, length: u32) -> Attributes {
    let data = Attributes::default()
        .with_be32(nfta::PAYLOAD_DREG, REGISTER_1)
        .with_be32(nfta::PAYLOAD_BASE, base)
        .with_be32(nfta::PAYLOAD_OFFSET, offset)
        .with_be32(nfta::PAYLOAD_LEN, length);
    expression(program, "payload", &data)
}

fn mask(program: Attributes, bits: &[u8]) -> Attributes {
    let value = |bytes: &[u8]| Attributes::default().with(nfta::DATA_VALUE, bytes);
    let data = Attributes::default()
        .with_be32(nfta::BITWISE_SREG, REGISTER_1)
        .with_be32(nfta::BITWISE_DREG, REGISTER_1)
        .with_be32(nfta::BITWISE_LEN, bits.len() as u32)
        .with_nested(nfta::BITWISE_MASK, &value(bits))
        .with_nested(nfta::BITWISE_XOR, &value(&vec![0; bits.len()]));
    expression(program, "bitwise", &data)
}

fn compare(program: Attributes, operator: u32, value: &[u8]) -> Attributes {
    let data = Attributes::default()
        .with_be32(nfta::CMP_SREG, REGISTER_1)
        .with_be32(nfta::CMP_OP, operator)
        .with_nested(nfta::CMP_DATA, &Attributes::default().with(nfta::DATA_VALUE, value));
    expression(program, "cmp", &data)
}

fn immediate(program: Attributes, register: u32, value: &[u8]) -> Attributes {
    let value = Attributes::default().with(nfta::DATA_VALUE, value);
    let data =
        Attributes::default().with_be32(nfta::IMMEDIATE_DREG, register).with_nested(nfta::IMMEDIATE_DATA, &value);
    expression(program, "immediate", &data)
}

/// `tproxy to LISTENER`.
fn hand_over(program: Attributes, family: u32, listener: &[u8]) -> Attributes {
    let program = immediate(program, REGISTER_1, listener);
    let program = immediate(program, REGISTER_2, &LISTENER_PORT.to_be_bytes());
    let data = Attributes::default()
        .with_be32(nfta::TPROXY_FAMILY, family)
        .with_be32(nfta::TPROXY_REG_ADDR, REGISTER_1)
        .with_be32(nfta::TPROXY_REG_PORT, REGISTER_2);
    expression(program, "tproxy", &data)
}
