//! Sandboxes within the sandbox: what a plan gives up so that a harness can make some of its own, and what it demands.
//!
//! A program that may make user namespaces has every capability inside them and may mount there. Landlock refuses every
//! mount to whoever it holds to some files, so its rules on files have to go; and what is mounted at another path has
//! another name, so nothing that judges names protects it. So nothing of the host's may be writable.

use super::{Access, LockdownStep, Mount, PlanRequest};
use crate::supervisor::error::PlanError;

/// What is open besides, as the plan and the session's record say it.
const GAPS: [&str; 2] = [
    "nested sandboxes: the harness can make user namespaces, be root with every capability inside them and mount there, \
     so that more of the kernel is open to it",
    "nested sandboxes: no Landlock on files, so that what may be written is bounded by mounts alone",
];

/// Checks that nothing of the host's can be written, but for a workspace behind an overlay.
pub(super) fn check<'a>(
    request: &PlanRequest<'_>,
    mut mounts: impl Iterator<Item = &'a Mount>,
) -> Result<(), PlanError> {
    let layered = |mount: &Mount| request.layer.is_some() && mount.target == request.workspace;
    match mounts.find(|mount| mount.access == Access::ReadWrite && !layered(mount)) {
        Some(mount) => Err(PlanError::NestedWritable(mount.target.clone())),
        None => Ok(()),
    }
}

/// Puts in place of the steps that no nested sandbox could be made under those under which one can, and says what that
/// opens.
pub(super) fn relax(lockdown: Vec<LockdownStep>) -> (Vec<LockdownStep>, Vec<String>) {
    let relaxed = lockdown.into_iter().map(|step| match step {
        LockdownStep::Landlock { .. } => LockdownStep::LandlockScopes,
        LockdownStep::Seccomp => LockdownStep::SeccompNesting,
        step => step,
    });
    (relaxed.collect(), GAPS.map(str::to_owned).to_vec())
}
