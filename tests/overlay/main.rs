//! Workspaces behind an overlay, by the real binary against the real kernel: what the harness sees, what the host keeps, and
//! what of it is shown, taken over or forgotten.
//!
//! Each runs as root and as an ordinary user.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
#[allow(dead_code)]
#[path = "../sandbox/support.rs"]
mod support;

mod applied;
mod edits;
mod faults;
mod kept;
mod odd;
mod tree;
mod view;
