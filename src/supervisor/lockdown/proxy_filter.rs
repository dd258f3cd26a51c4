//! The system calls of the proxy, as a list of what it needs: everything else is refused.
//!
//! A harness is a stranger whose calls nobody can list. The proxy is ours: it moves bytes between sockets, appends to a
//! journal that is open, and takes memory and threads. No call here takes a path, makes or looks at a process, or
//! reaches one of System V's objects, so that there is nothing in the host's namespaces that it could ask for.

use super::filter::{Cmp, NEWEST_KNOWN, Rules, condition, new_namespaces, program, rule, sockets};
use seccompiler::{BpfProgram, SeccompRule};
use std::collections::BTreeSet;
use std::io;

/// What the proxy may call. Those that say less by their number than by their arguments are looked at besides.
const ALLOWED: &[i64] = &[
    // Bytes of what is open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_splice,
    libc::SYS_pipe2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_fstat,
    // Sockets, without listening.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Threads, and the process itself.
    libc::SYS_clone,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_prctl,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Calls that newer ones have replaced, which not every architecture has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// The proxy's filter, for the process `own`.
pub(super) fn proxy(own: i32) -> io::Result<BpfProgram> {
    let allowed: BTreeSet<i64> = ALLOWED.iter().copied().collect();
    let mut refused: Rules =
        (0..=i64::from(NEWEST_KNOWN)).filter(|call| !allowed.contains(call)).map(|call| (call, Vec::new())).collect();
    refused.insert(libc::SYS_socket, sockets(false)?);
    refused.insert(libc::SYS_socketpair, vec![rule(0, Cmp::NotEqual, libc::AF_UNIX as u64)?]);
    refused.insert(libc::SYS_clone, vec![new_namespaces()?, no_thread()?]);
    refused.insert(libc::SYS_ioctl, vec![rule(1, Cmp::NotEqual, libc::FIONBIO)?]);
    refused.insert(libc::SYS_prctl, vec![unless(0, &[libc::PR_SET_NAME, libc::PR_SET_PDEATHSIG])?]);
    // What aborts sends itself a signal, and nobody else one.
    refused.insert(libc::SYS_tgkill, vec![rule(0, Cmp::NotEqual, own.cast_unsigned().into())?]);
    program(refused, &[])
}

/// Refuses a call whose argument is none of these.
fn unless(argument: u8, values: &[i32]) -> io::Result<SeccompRule> {
    let others: Result<Vec<_>, _> =
        values.iter().map(|value| condition(argument, &Cmp::NotEqual, value.cast_unsigned().into())).collect();
    SeccompRule::new(others?).map_err(io::Error::other)
}

/// A `clone(2)` that makes a process instead of a thread.
fn no_thread() -> io::Result<SeccompRule> {
    rule(0, Cmp::NoneOf(libc::CLONE_THREAD as u64), 0)
}
