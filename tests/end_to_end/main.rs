//! The whole of omni from outside: real harnesses and real client programs in real sandboxes.
//!
//! A machine that lacks a program or cannot make a sandbox skips with a reason; `OMNI_REQUIRE_SANDBOX=1` and
//! `OMNI_REQUIRE_HARNESSES=1` make every skip a failure. The harnesses are looked for in `OMNI_TEST_HARNESS_DIR`, else in
//! `.harness/node_modules/.bin`, where `scripts/test` installs them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod canaries;
mod client_certificates;
mod clients;
mod company;
mod exchanges;
mod explained;
mod harnesses;
mod host;
mod identity_tokens;
mod learning;
mod login_files;
mod logins;
mod lookout;
mod memory;
mod money;
mod money_cut;
mod money_limits;
mod money_many;
mod money_models;
mod money_stage;
mod quiet;
mod renewals;
mod seen;
mod server;
mod services;
mod signed;
mod simulated;
mod ssh;
mod stage;
mod tokens;
mod trust;
mod vaults;
