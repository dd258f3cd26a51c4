//! Tiers of isolation: in a place like a container, in gVisor, and where `/proc` is masked. Each is made by the test itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// The stage is that of the attacks on the tier `full`, of which not everything is needed here.
#![allow(dead_code)]

#[macro_use]
#[path = "../sandbox/support.rs"]
mod support;

mod demand;
mod landlock;
mod reach;
mod stage;
mod strangers;
