//! `omni` runs AI agent harnesses, unmodified, in a sandbox with one guarded way out.
//!
//! The rooms, from pure to impure; who may import whom is in ARCHITECTURE.md and held by `tests/architecture.rs`.

pub mod model;

pub mod export;
pub mod ledger;
pub mod meter;
pub mod policy;

pub mod harness;

pub mod store;
pub mod sys;

pub mod proxy;
pub mod supervisor;

pub mod session;

pub mod server;
pub mod shipping;
pub mod sim;

pub mod cli;
