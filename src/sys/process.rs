//! Making processes, and shedding what they inherit.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old process, with the new one's id and a descriptor for it (pidfd_open(2)).
    Parent {
        /// The child's process id, as the parent sees it.
        pid: rustix::process::Pid,
        /// Refers to the child even after its id is used again.
        pidfd: OwnedFd,
    },
}

/// `CLONE_NEW*` flags: the namespaces a child gets of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces(pub libc::c_int);

impl Namespaces {
    /// User, mount, process, network, IPC, host name and cgroup namespaces.
    pub const ALL: Self = Self(
        libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP,
    );
    /// A user namespace alone.
    pub const USER: Self = Self(libc::CLONE_NEWUSER);
    /// None: a plain fork.
    pub const NONE: Self = Self(0);
}

/// Forks into new namespaces (clone3(2)). The child starts with default signal dispositions where the parent had
/// handlers, and all capabilities over the namespaces it was made in.
///
/// # Errors
/// `Other` when this process has more than one thread; else the call's error: EPERM or ENOSPC where user namespaces
/// are restricted.
pub fn clone_into_namespaces(namespaces: Namespaces) -> io::Result<Forked> {
    require_single_thread()?;
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero `clone_args` is the documented way to say "nothing special".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = (i64::from(namespaces.0) | i64::from(libc::CLONE_PIDFD)).cast_unsigned();
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has a copy of everything; the process has one thread (checked above), so no
    // lock is held by a thread that does not exist in the child, and both sides may go on as after fork(2).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(Forked::Child),
        1.. => parent(pid, pidfd),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes of stack for a process that only waits.
const HOLDER_STACK_BYTES: usize = 16 * 1024;

/// A process that does nothing but hold a user namespace of its own open. Dropping it ends it.
///
/// It shares this process's memory instead of copying it, which makes it several times as quick to make and to end as a
/// fork.
#[derive(Debug)]
pub struct NamespaceHolder {
    pid: rustix::process::Pid,
    /// What it waits on; freed only once it is gone.
    stack: Option<Box<[u8; HOLDER_STACK_BYTES]>>,
}

impl NamespaceHolder {
    /// Starts one.
    ///
    /// # Errors
    /// EPERM or ENOSPC where user namespaces are restricted.
    pub fn start() -> io::Result<Self> {
        let mut stack = Box::new([0u8; HOLDER_STACK_BYTES]);
        let flags = libc::CLONE_NEWUSER | libc::CLONE_VM | libc::SIGCHLD;
        let parent = rustix::process::getpid().as_raw_nonzero().get();
        // The ABI wants a stack pointer that is a multiple of 16.
        let top = stack.as_mut_ptr_range().end.map_addr(|end| end & !15);
        // SAFETY: the child runs on a stack of its own, which outlives it (`drop` reaps it first). All that it is given is
        // a number: it reads nothing that this process could change or free meanwhile.
        let pid = unsafe {
            libc::clone(hold, top.cast(), flags, std::ptr::without_provenance_mut(parent.cast_unsigned() as usize))
        };
        if pid == -1 {
            return Err(io::Error::last_os_error());
        }
        let pid = rustix::process::Pid::from_raw(pid).ok_or_else(|| io::Error::other("clone gave pid 0"))?;
        Ok(Self { pid, stack: Some(stack) })
    }

    /// Its process id, for `/proc/PID/ns/user` and the maps beside it.
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        self.pid
    }
}

/// The holder's whole life. It shares our memory, and writes nowhere but to its own stack: rustix makes these calls without
/// libc, so not even `errno` is touched.
extern "C" fn hold(parent: *mut libc::c_void) -> libc::c_int {
    let parent = i32::try_from(parent.addr()).ok().and_then(rustix::process::Pid::from_raw);
    let kill = Some(rustix::process::Signal::KILL);
    let promised = rustix::process::set_parent_process_death_signal(kill).is_ok();
    // The parent may be gone before the kernel could promise to tell of it.
    while promised && rustix::process::getppid() == parent {
        rustix::event::pause();
    }
    0
}

impl NamespaceHolder {
    /// Lets it end, which takes the kernel a moment: whoever has more to do drops it later.
    ///
    /// # Errors
    /// The call's error; a child that only this value knows of can always be killed.
    pub fn let_go(&self) -> io::Result<()> {
        Ok(rustix::process::kill_process(self.pid, rustix::process::Signal::KILL)?)
    }
}

impl Drop for NamespaceHolder {
    fn drop(&mut self) {
        // Were it not killed, waiting for it would be for ever, and what it runs on must stay.
        match self.let_go() {
            Ok(()) => drop(rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty())),
            Err(_) => std::mem::forget(self.stack.take()),
        }
    }
}

/// Forks a process that may go on as it likes, threads included.
///
/// # Errors
/// As [`clone_into_namespaces`].
pub fn fork_single_threaded() -> io::Result<Forked> {
    match fork_without_handle()? {
        None => Ok(Forked::Child),
        Some(pid) => {
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
            Ok(Forked::Parent { pid, pidfd })
        }
    }
}

/// As [`fork_single_threaded`], on kernels that know no descriptors of processes too: the child's id, or `None` in the child.
///
/// # Errors
/// As [`clone_into_namespaces`].
#[allow(clippy::disallowed_methods)]
pub fn fork_without_handle() -> io::Result<Option<rustix::process::Pid>> {
    require_single_thread()?;
    // SAFETY: the process has one thread (checked above), so the child inherits no lock that nobody will release.
    // glibc's fork is used rather than the bare call so that its own state is right for threads made later.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => Ok(None),
        nix::unistd::ForkResult::Parent { child } => {
            let pid =
                rustix::process::Pid::from_raw(child.as_raw()).ok_or_else(|| io::Error::other("fork gave pid 0"))?;
            Ok(Some(pid))
        }
    }
}

fn parent(pid: libc::c_long, pidfd: RawFd) -> io::Result<Forked> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("clone3 gave no process id"))?;
    // SAFETY: the kernel just made this descriptor for us (CLONE_PIDFD); nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked::Parent { pid, pidfd })
}

/// Begins a new view of control groups, whose root is the group that this process is in (cgroup_namespaces(7)).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over this process's user namespace.
pub fn unshare_control_groups() -> io::Result<()> {
    // SAFETY: takes no memory, and changes nothing that Rust relies on: memory, descriptors and threads stay shared.
    let done = unsafe { libc::unshare(libc::CLONE_NEWCGROUP) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the program killed when the thread that starts it ends (PR_SET_PDEATHSIG, prctl(2)).
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?);
    // SAFETY: between fork and exec there is one system call, which takes no memory and no lock.
    unsafe { command.pre_exec(ask) }
}

/// Fails where a lock could be held by a thread that the child would not have.
fn require_single_thread() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    match threads {
        1 => Ok(()),
        _ => Err(io::Error::other(format!("forking needs one thread, this process has {threads}"))),
    }
}

/// The highest number that a descriptor can have, being an `int`. Some kernels take more for less than nothing.
const DESCRIPTOR_LAST: u32 = i32::MAX.cast_unsigned();

/// Marks every descriptor from `first` on as close-on-exec (close_range(2), Linux 5.11), so that only what is meant to
/// reaches the program that follows.
///
/// # Errors
/// ENOSYS on an older kernel.
pub fn close_descriptors_from(first: u32) -> io::Result<()> {
    // SAFETY: takes no memory; CLOEXEC closes nothing now, so no owner's descriptor is pulled from under it.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, DESCRIPTOR_LAST, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the largest core file (RLIMIT_CORE, getrlimit(2)) in bytes; zero means that none is written.
///
/// # Errors
/// EPERM when raising it.
pub fn set_file_size_of_core(bytes: u64) -> io::Result<()> {
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, bytes, bytes)?;
    Ok(())
}

/// The kernel's Landlock version (landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION).
///
/// # Errors
/// ENOSYS or EOPNOTSUPP where the kernel has none.
pub fn landlock_abi() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no memory and makes nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION) };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// Closes every descriptor from 3 on but these. For a process that was just forked and whose other owners of descriptors
/// are copies that will never run.
///
/// # Errors
/// ENOSYS on a kernel before 5.9.
pub fn close_inherited_except(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).filter(|fd| *fd > 2).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([DESCRIPTOR_LAST]) {
        if first < fd {
            let last = if fd == DESCRIPTOR_LAST { fd } else { fd - 1 };
            // SAFETY: takes no memory. The descriptors it closes belong to values that the caller promises never to use
            // or drop again in this process.
            let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// How long a file a process may make (RLIMIT_FSIZE, getrlimit(2)), in bytes; none where there is no limit.
///
/// # Errors
/// ESRCH when it is gone, EPERM where it may not be looked into.
pub fn file_size_limit_of(process: rustix::process::Pid) -> io::Result<Option<u64>> {
    let mut now = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    let pid = process.as_raw_nonzero().get();
    // SAFETY: with no new limit the call only writes the present one to `now`, which lives across it.
    let done = unsafe { libc::prlimit64(pid, libc::RLIMIT_FSIZE, std::ptr::null(), &raw mut now) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((now.rlim_cur != libc::RLIM64_INFINITY).then_some(now.rlim_cur))
}
