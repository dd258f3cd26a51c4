//! The names of system calls, and which of them are left alone.

/// Calls whose failure says nothing about the set-up, and why.
const LEFT_ALONE: [(i64, &str); 16] = [
    (libc::SYS_poll, RUNTIME),
    (libc::SYS_mmap, MEMORY),
    (libc::SYS_munmap, MEMORY),
    (libc::SYS_mprotect, MEMORY),
    (libc::SYS_mremap, MEMORY),
    (libc::SYS_madvise, MEMORY),
    (libc::SYS_brk, MEMORY),
    (libc::SYS_exit, ENDS),
    (libc::SYS_exit_group, ENDS),
    (libc::SYS_rt_sigreturn, ENDS),
    (libc::SYS_getpid, ALWAYS),
    (libc::SYS_gettid, ALWAYS),
    (libc::SYS_getuid, ALWAYS),
    (libc::SYS_geteuid, ALWAYS),
    (libc::SYS_getegid, ALWAYS),
    (libc::SYS_umask, ALWAYS),
];
const MEMORY: &str = "what would fail is the allocator, and a process without memory ends";
const RUNTIME: &str = "Rust's runtime looks at the standard streams by it, and aborts";
const ENDS: &str = "it does not return";
const ALWAYS: &str = "it cannot fail";

/// Whether a call is tried at all.
pub fn is_tried(call: i64) -> bool {
    !LEFT_ALONE.iter().any(|(known, _)| *known == call)
}

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

/// What a call is called.
pub fn name(call: i64) -> String {
    const NAMES: &[(i64, &str)] = names! {
        SYS_read SYS_write SYS_open SYS_close SYS_stat SYS_fstat SYS_lstat SYS_poll SYS_lseek SYS_rt_sigaction SYS_rt_sigprocmask SYS_ioctl
        SYS_pread64 SYS_readv SYS_writev SYS_access SYS_pipe SYS_socket SYS_connect SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_shutdown
        SYS_bind SYS_listen SYS_getsockname SYS_socketpair SYS_setsockopt SYS_getsockopt SYS_clone SYS_fork SYS_vfork SYS_execve SYS_wait4 SYS_kill
        SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_ftruncate SYS_getdents SYS_getcwd SYS_chdir SYS_fchdir SYS_rename SYS_mkdir SYS_unlink SYS_readlink
        SYS_chmod SYS_fchmod SYS_fchown SYS_umask SYS_getrlimit SYS_setpgid SYS_setsid SYS_setgroups SYS_setresuid SYS_setresgid SYS_capget SYS_capset
        SYS_sigaltstack SYS_statfs SYS_fstatfs SYS_prctl SYS_arch_prctl SYS_setrlimit SYS_mount SYS_umount2 SYS_pivot_root SYS_sethostname SYS_futex
        SYS_sched_getaffinity SYS_epoll_ctl SYS_set_tid_address SYS_clock_gettime SYS_openat SYS_mkdirat SYS_newfstatat SYS_unlinkat SYS_symlinkat
        SYS_readlinkat SYS_faccessat SYS_faccessat2 SYS_ppoll SYS_set_robust_list SYS_accept4 SYS_signalfd4 SYS_eventfd2 SYS_epoll_create1 SYS_dup3 SYS_pipe2
        SYS_prlimit64 SYS_getrandom SYS_memfd_create SYS_seccomp SYS_statx SYS_rseq SYS_pidfd_send_signal SYS_open_tree SYS_move_mount SYS_fsopen
        SYS_fsconfig SYS_fsmount SYS_pidfd_open SYS_clone3 SYS_close_range SYS_openat2 SYS_mount_setattr SYS_landlock_create_ruleset SYS_landlock_add_rule
        SYS_landlock_restrict_self SYS_waitid SYS_getppid SYS_uname SYS_sched_yield SYS_tgkill SYS_geteuid SYS_getuid SYS_setxattr SYS_getxattr
    };
    let known =
        NAMES.iter().find(|(number, _)| *number == call).map(|(_, name)| name.trim_start_matches("SYS_").to_owned());
    known.unwrap_or_else(|| call.to_string())
}
