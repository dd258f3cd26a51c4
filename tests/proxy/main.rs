//! The proxy as a sandbox meets it: real sockets, real TLS on both sides, everything it did in its record.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod bad_input;
mod bodies;
mod cases;
mod cut;
mod early;
mod first_message;
mod flow;
mod funded_sockets;
mod git;
mod grpc;
mod http2;
mod kept;
mod memory;
mod metering;
mod names;
mod opaque;
mod placeholders;
mod refusals;
mod registries;
mod rotation;
mod rules;
mod scrubbed;
mod secrets;
mod stub;
mod support;
mod upstreams;
mod websocket;
mod wire;
