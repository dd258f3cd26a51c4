//! Limits of single processes and of a user's number of processes (getrlimit(2)).

use super::decide::PIDS_OF_OURS;
use crate::model::LimitKind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;

/// Limits this process, and what it starts, for good. An inherited limit that is lower stays.
pub(in super::super) fn restrict(limit: LimitKind, amount: u64) -> io::Result<()> {
    let (resource, amount) = match limit {
        LimitKind::Files => (Resource::Nofile, amount),
        LimitKind::Pids => (Resource::Nproc, amount.saturating_add(PIDS_OF_OURS)),
        other => return Err(io::Error::other(format!("no resource limit bounds `{other}`"))),
    };
    lower(resource, amount)
}

/// Limits what this process may write to of its own memory (RLIMIT_DATA), in bytes. An inherited limit that is lower stays.
pub(in super::super) fn restrict_memory(bytes: u64) -> io::Result<()> {
    lower(Resource::Data, bytes)
}

fn lower(resource: Resource, amount: u64) -> io::Result<()> {
    let inherited = getrlimit(resource);
    let lower = |inherited: Option<u64>| Some(inherited.map_or(amount, |inherited| inherited.min(amount)));
    let wanted = Rlimit { current: lower(inherited.current), maximum: lower(inherited.maximum) };
    Ok(setrlimit(resource, wanted)?)
}
