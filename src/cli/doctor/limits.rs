//! Which limits a session can be held to here, each found out by setting one on a group that nobody is in.

use super::Finding;
use crate::policy::Limits;
use crate::supervisor::{Group, plan_limits};

/// What is tried: any amount will do.
const MEMORY_BYTES: u64 = 64 << 20;
const PIDS: u64 = 64;
const CPUS: f64 = 1.0;

/// One finding for each kind of limit that depends on the machine.
pub(super) fn findings() -> [Finding; 3] {
    let memory = Limits { memory: Some(MEMORY_BYTES), ..Limits::default() };
    let pids = Limits { pids: Some(PIDS), ..Limits::default() };
    let cpus = Limits { cpus: Some(CPUS), ..Limits::default() };
    [
        finding("memory limit", "`--memory`", &memory),
        finding("process limit", "`--pids`", &pids),
        finding("processor limit", "`--cpus`", &cpus),
    ]
}

fn finding(probe: &'static str, needed_for: &'static str, limits: &Limits) -> Finding {
    let (ok, detail, fix) = match tried(limits) {
        Ok(detail) => (true, detail, None),
        Err((detail, fix)) => (false, detail, Some(fix)),
    };
    Finding { probe, ok, detail, needed_for, fix, required: false, tried: true }
}

/// What holds it, or why nothing does and what to do.
fn tried(limits: &Limits) -> Result<String, (String, String)> {
    let plan = plan_limits(limits, false, None).map_err(|error| {
        let text = error.to_string();
        let (why, fix) = text.rsplit_once("; ").unwrap_or((&text, "docs/limits.md says more"));
        (why.to_owned(), fix.to_owned())
    })?;
    let made = Group::make(&plan).map_err(|error| (error.to_string(), "docs/limits.md says more".to_owned()))?;
    drop(made);
    let holders = plan.held.iter().map(|held| held.held_by.to_string()).collect::<Vec<_>>().join(", ");
    let places = plan.groups.iter().map(|group| format!(" below {}", group.directory().display()));
    Ok(format!("held by {holders}{}", places.collect::<String>()))
}
