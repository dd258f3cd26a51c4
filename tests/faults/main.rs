//! Every system call of a start fails in turn: omni then ends with a reason, or the harness is in the very box that was
//! planned. And omni is killed at every one of them: nothing is left. The same for what folds journals into store and ledger.
//!
//! By default each kind of call is tried at its first (as root) and its last occurrence (as an ordinary user) in each
//! process; `OMNI_FAULTS=all` tries every one, and says what came of it.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, unused_macros)]
#[macro_use]
#[path = "../sandbox/support.rs"]
mod support;

mod calls;
mod folds;
mod kills;
mod races;
mod starts;
mod tracer;
