//! Limits: what a session may use up, which of the kernel's means hold it to that, and what became of it.
//!
//! A limit that nothing here can hold is an error with the way to get it; none is held by halves. What a limit costs is
//! paid by sessions that have one: without, no group is looked for, made or swept.

mod decide;
mod group;
mod hierarchy;
mod rlimit;
mod share;
mod victim;

pub use decide::{GroupPlan, LimitError, LimitPlan, PIDS_DEFAULT, plan_limits};
pub use group::Group;
pub(super) use rlimit::{restrict, restrict_memory};
pub use share::{Share, make_room_for_shares};
