//! `omni server --system` with two users who trust neither each other nor root's machine with more than it says.
//!
//! Only root can make such a machine, so that these say that they skip for anybody else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod apparmor;
mod boundaries;
mod delegated;
mod dist;
mod door;
mod fairness;
mod identity;
mod installed;
mod jobs;
mod layers;
mod left;
mod life;
mod machine;
mod policies;
#[path = "../terminal/pty.rs"]
#[allow(dead_code)]
mod pty;
mod records;
#[path = "../terminal/screen.rs"]
#[allow(dead_code)]
mod screen;
mod secrets;
