//! Attacks on the sandbox, by the real binary against the real kernel.
//!
//! Each attack is a sentence. Each has a positive control, which shows that the act works where it is not prevented, and
//! where something outside could notice, a witness outside. Each runs as root and as an ordinary user.
//!
//! A machine that cannot sandbox at all skips them and says so; with `OMNI_REQUIRE_SANDBOX=1` that is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[macro_use]
mod support;

mod approvals;
mod conditions;
mod control;
mod desktop;
mod entrances;
mod files;
mod git_links;
mod kernel;
mod life;
mod limits;
mod linked;
mod namespaces;
mod nested;
mod network;
mod processes;
mod protected;
mod proxy;
mod publish;
mod reach;
mod replaced;
mod repositories;
mod rules;
mod secret_attacks;
mod secret_files;
mod secret_reads;
mod secret_service;
mod secret_store;
mod secrets;
mod shipped;
mod sockets;
mod sources;
mod storage;
mod together;
mod workspace;
