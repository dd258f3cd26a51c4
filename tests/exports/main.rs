//! What leaves the records, held against what others say of the formats: published schemas, and programs that receive them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod metrics;
mod ocsf;
mod receivers;
mod shipping;
mod world;
