//! Giving things up: capabilities, file access, system calls. Each call only takes away, and the filter comes last so
//! that it need not allow what the others do.

use super::plan::LockdownStep;
use crate::sys;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope,
};
use std::io;
use std::path::PathBuf;

mod filter;

/// The newest Landlock rights that are asked for; a kernel with fewer gives what it has, and the session record says
/// which.
const LANDLOCK_NEWEST: ABI = ABI::V6;

/// Executes one step of locking down the harness's process.
pub(super) fn execute(step: &LockdownStep) -> io::Result<()> {
    match step {
        LockdownStep::DropCapabilities => drop_capabilities(),
        LockdownStep::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
        LockdownStep::Landlock { write } => restrict_files(write),
        LockdownStep::Seccomp => load(&filter::harness()?),
    }
}

/// Confines the proxy's process: no files, no programs, no sockets but TCP and UDP. What it has open stays open.
///
/// # Errors
/// Any call's error; the caller must then not go on.
pub fn confine_proxy() -> io::Result<()> {
    sys::set_file_size_of_core(0)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    restrict_files(&[])?;
    load(&filter::proxy()?)
}

/// Drops every capability from every set of this thread (capabilities(7)).
pub(super) fn drop_capabilities() -> io::Result<()> {
    caps::clear(None, caps::CapSet::Ambient).map_err(io::Error::other)?;
    // An unprivileged process may not touch its bounding set, and once no-new-privileges is set there is nothing that it
    // could regain by it.
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        caps::clear(None, caps::CapSet::Bounding).map_err(io::Error::other)?;
    }
    for set in [caps::CapSet::Inheritable, caps::CapSet::Effective, caps::CapSet::Permitted] {
        caps::clear(None, set).map_err(io::Error::other)?;
    }
    Ok(())
}

/// The kernel's Landlock version, 0 where it has none.
#[must_use]
pub fn landlock_abi() -> u32 {
    sys::landlock_abi().unwrap_or(0)
}

/// Allows reading and executing everywhere (the new root holds nothing else) and writing below `write` alone; nothing at
/// all when `write` is empty.
pub(super) fn restrict_files(write: &[PathBuf]) -> io::Result<()> {
    if landlock_abi() == 0 {
        return Ok(());
    }
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK_NEWEST))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK_NEWEST)))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    if !write.is_empty() {
        let everywhere = PathFd::new("/").map_err(io::Error::other)?;
        rules = rules
            .add_rule(PathBeneath::new(everywhere, AccessFs::from_read(LANDLOCK_NEWEST)))
            .map_err(io::Error::other)?;
    }
    for path in write {
        let place = PathFd::new(path).map_err(io::Error::other)?;
        let rights =
            if path.is_dir() { AccessFs::from_all(LANDLOCK_NEWEST) } else { AccessFs::from_file(LANDLOCK_NEWEST) };
        rules = rules.add_rule(PathBeneath::new(place, rights)).map_err(io::Error::other)?;
    }
    let status = rules.restrict_self().map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(io::Error::other("the kernel has Landlock and did not enforce it")),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn load(program: seccompiler::BpfProgramRef<'_>) -> io::Result<()> {
    seccompiler::apply_filter(program).map_err(io::Error::other)
}
