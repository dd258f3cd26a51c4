//! The proxy as a sandbox meets it: real sockets, real TLS on both sides, everything it did in its record.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod flow;
mod names;
mod refusals;
mod support;
mod wire;
