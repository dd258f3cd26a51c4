//! Giving things up: capabilities, file access, system calls. Each call only takes away, and the filter comes last so
//! that it need not allow what the others do.

use super::limits;
use super::plan::LockdownStep;
use super::wire::Notice;
use crate::model::LimitKind;
use crate::sys;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::BpfProgram;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

mod bpf;
pub(super) mod enclosure;
mod filter;
mod gate_filter;
mod proxy_filter;
mod search;

/// The newest Landlock rights that are asked for; a kernel with fewer gives what it has, and the session record says
/// which.
const LANDLOCK_NEWEST: ABI = ABI::V6;

/// The Landlock version from which it guards all that is asked of it: with it came the scopes of signals and abstract
/// sockets (Linux 6.12), ahead of it truncating, devices and TCP.
pub const LANDLOCK_COMPLETE: u32 = 6;

/// A step with everything made that it needs, so that executing it is a call or two.
pub(super) enum Ready {
    Limit(LimitKind, u64),
    DropCapabilities,
    NoNewPrivileges,
    /// None where the kernel has no Landlock.
    Landlock(Option<RulesetCreated>),
    /// Where there are no namespaces, Landlock does their part as far as it can.
    Enclosure(RulesetCreated),
    Seccomp(BpfProgram),
    /// A filter that has some calls answered by whoever gets its listener.
    Notifying(BpfProgram),
}

/// Makes what the steps need; `tty` is the device of the harness's terminal. Must run where the steps will see the same files.
pub(super) fn prepare(steps: &[LockdownStep], tty: Option<&Path>) -> io::Result<Vec<Ready>> {
    steps.iter().map(|step| prepare_step(step, tty)).collect()
}

fn prepare_step(step: &LockdownStep, tty: Option<&Path>) -> io::Result<Ready> {
    Ok(match step {
        LockdownStep::Limit { limit, amount } => Ready::Limit(*limit, *amount),
        LockdownStep::DropCapabilities => Ready::DropCapabilities,
        LockdownStep::NoNewPrivileges => Ready::NoNewPrivileges,
        LockdownStep::Landlock { write, sockets } => Ready::Landlock(file_rules(write, sockets)?),
        LockdownStep::Enclose { read, devices, write } => {
            let devices: Vec<_> = devices.iter().map(PathBuf::as_path).chain(tty).collect();
            Ready::Enclosure(enclosure::file_rules(read, &devices, write)?)
        }
        LockdownStep::Gate(_) => gate()?,
        LockdownStep::LandlockScopes => Ready::Landlock(scopes()?),
        LockdownStep::Seccomp => Ready::Seccomp(filter::harness()?),
        LockdownStep::SeccompNesting => Ready::Seccomp(filter::nesting_harness()?),
        LockdownStep::SeccompNotifying => Ready::Notifying(enclosure::program()?),
    })
}

/// The step of the write gate. Without Landlock, what it hands back to the kernel could write anywhere.
pub(super) fn gate() -> io::Result<Ready> {
    if landlock_abi() == 0 {
        return Err(io::Error::other(
            "the kernel has no Landlock, without which protected files cannot be guarded in a place that may be written: \
             use `--ro` or `--fs overlay`, and grant no other place for writing",
        ));
    }
    gate_filter::program().map(Ready::Notifying)
}

impl Ready {
    /// Executes the step for this process. A listener that comes of it goes to `post`.
    pub(super) fn execute(self, post: Option<BorrowedFd<'_>>) -> io::Result<()> {
        match self {
            Self::Limit(limit, amount) => limits::restrict(limit, amount),
            Self::DropCapabilities => drop_capabilities(),
            Self::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
            Self::Landlock(rules) => rules.map_or(Ok(()), restrict_files),
            Self::Enclosure(rules) => restrict_fully(rules),
            Self::Seccomp(program) => load(&program),
            Self::Notifying(program) => {
                let post =
                    post.ok_or_else(|| io::Error::other("nobody answers the calls that would be asked about"))?;
                let listener = sys::load_notifying_filter(&program)?;
                super::wire::send(post, &Notice::Listening, &[listener.as_fd()])
            }
        }
    }
}

/// Executes one step of locking down this process.
pub(super) fn execute(step: &LockdownStep) -> io::Result<()> {
    prepare_step(step, None)?.execute(None)
}

/// Most memory that the proxy's process may write to, in bytes (RLIMIT_DATA): far beyond what connections at their bounds
/// take, and so little that the machine goes on. One that wants more aborts, and its session ends with it.
const PROXY_MEMORY_MAX: u64 = 1 << 30;

/// Confines the proxy's process: no files, no programs, no other process, no sockets but TCP and UDP, so much memory. What
/// it has open stays open.
///
/// # Errors
/// Any call's error; the caller must then not go on.
pub fn confine_proxy() -> io::Result<()> {
    sys::set_file_size_of_core(0)?;
    limits::restrict_memory(PROXY_MEMORY_MAX)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true)?;
    execute(&LockdownStep::Landlock { write: Vec::new(), sockets: Vec::new() })?;
    load(&proxy_filter::proxy(rustix::process::getpid().as_raw_nonzero().get())?)
}

/// Keeps, of all capabilities, the one to look into the processes of this user namespace, which the write gate does. What
/// is executed gets none.
pub(super) fn keep_looking_into_processes() -> io::Result<()> {
    let kept = std::collections::HashSet::from([caps::Capability::CAP_SYS_PTRACE]);
    caps::clear(None, caps::CapSet::Ambient).map_err(io::Error::other)?;
    caps::clear(None, caps::CapSet::Inheritable).map_err(io::Error::other)?;
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        caps::clear(None, caps::CapSet::Bounding).map_err(io::Error::other)?;
    }
    caps::set(None, caps::CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, caps::CapSet::Permitted, &kept).map_err(io::Error::other)?;
    Ok(())
}

/// Drops every capability from every set of this thread (capabilities(7)).
pub(super) fn drop_capabilities() -> io::Result<()> {
    caps::clear(None, caps::CapSet::Ambient).map_err(io::Error::other)?;
    // An unprivileged process may not touch its bounding set, and once no-new-privileges is set there is nothing that it
    // could regain by it.
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(io::Error::other)? {
        // One by one: caps' own way to clear them takes one that cannot be read for one that is not there.
        for capability in caps::all() {
            if caps::has_cap(None, caps::CapSet::Bounding, capability).map_err(io::Error::other)? {
                caps::drop(None, caps::CapSet::Bounding, capability).map_err(io::Error::other)?;
            }
        }
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

/// Rules about signals and abstract sockets alone, which leave mounting as it is. None where the kernel has none.
fn scopes() -> io::Result<Option<RulesetCreated>> {
    if landlock_abi() < LANDLOCK_COMPLETE {
        return Ok(None);
    }
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.scope(Scope::from_all(LANDLOCK_NEWEST)).and_then(Ruleset::create);
    rules.map(Some).map_err(io::Error::other)
}

/// Rules that allow reading and executing everywhere (the new root holds nothing else) and writing below `write` alone;
/// nothing at all when `write` is empty. None where the kernel has no Landlock.
///
/// The kernel goes from a file upwards until all that is asked for is allowed, at each opening. It asks for truncating too,
/// which keeps it from stopping where reading is allowed: so truncating is left to mounts that forbid writing, and to the write gate. Where
/// much is read, in places of the host, reading is allowed once more, to have it stop there.
fn file_rules(write: &[PathBuf], sockets: &[PathBuf]) -> io::Result<Option<RulesetCreated>> {
    match sys::landlock_abi() {
        Ok(_) => {}
        Err(error) if is_absence(&error) => return Ok(None),
        Err(error) => return Err(error),
    }
    let all = AccessFs::from_all(LANDLOCK_NEWEST);
    let handled = if write.is_empty() { all } else { all & !AccessFs::Truncate };
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK_NEWEST)))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    if !write.is_empty() {
        rules = allow(rules, Path::new("/"), AccessFs::from_read(LANDLOCK_NEWEST))?;
    }
    for path in write {
        let directory = path.metadata()?.is_dir();
        let rights = if directory { handled } else { handled & AccessFs::from_file(LANDLOCK_NEWEST) };
        rules = allow(rules, path, rights)?;
    }
    for path in sockets.iter().filter(|path| path.is_dir()) {
        rules = allow(rules, path, AccessFs::from_read(LANDLOCK_NEWEST) | AccessFs::MakeSock)?;
    }
    Ok(Some(rules))
}

/// Whether a kernel says so that it has no Landlock, not built in or switched off (landlock_create_ruleset(2)). Whatever
/// else it says is no reason to go without.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP))
}

fn allow(rules: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> io::Result<RulesetCreated> {
    let place = PathFd::new(path).map_err(io::Error::other)?;
    rules.add_rule(PathBeneath::new(place, rights)).map_err(io::Error::other)
}

fn restrict_files(rules: RulesetCreated) -> io::Result<()> {
    match rules.restrict_self().map_err(io::Error::other)?.ruleset {
        RulesetStatus::NotEnforced => Err(io::Error::other("the kernel has Landlock and did not enforce it")),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

/// As [`restrict_files`], with everything that was asked for.
fn restrict_fully(rules: RulesetCreated) -> io::Result<()> {
    match rules.restrict_self().map_err(io::Error::other)?.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        _ => Err(io::Error::other("the kernel did not enforce all of Landlock that was asked for")),
    }
}

fn load(program: seccompiler::BpfProgramRef<'_>) -> io::Result<()> {
    seccompiler::apply_filter(program).map_err(io::Error::other)
}
