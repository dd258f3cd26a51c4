//! The proxy itself, taken over or brought down: what it could ask the kernel for, and what becomes of its session.

use crate::support::{World, collect, ends_within, finish};
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

const END_TIMEOUT: Duration = Duration::from_secs(10);
/// What the proxy may take of memory, in bytes.
const MEMORY_MAX: &str = "1073741824";

/// A session that is under way, its proxy, and process 1 of its sandbox.
struct Session {
    omni: Child,
    proxy: u32,
    sandbox: u32,
}

impl Session {
    /// Waits until the harness has said that it is ready.
    fn start(world: &World, script: &str) -> Self {
        let mut command = world.exec(&["--allow", "* example.com/**"], &["sh", "-c", script]);
        let mut omni = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        omni.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        let pid = omni.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        let title = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let (sandboxes, proxies): (Vec<u32>, Vec<u32>) =
            children.iter().partition(|pid| title(pid).trim_end_matches('\0') == "omni");
        Self { omni, proxy: proxies[0], sandbox: sandboxes[0] }
    }

    /// The session as it ends and is recorded once its proxy is gone.
    fn closes(self, world: &World, why: &str) {
        assert!(ends_within(self.sandbox, END_TIMEOUT), "{why}: the sandbox lives on without its proxy");
        let outcome = collect(self.omni, b"");
        assert_eq!(outcome.code(), Some(125), "{why}: {outcome:?}");
        assert!(outcome.stderr.contains("the proxy died, so the sandbox was ended"), "{why}: {outcome:?}");
        assert_eq!(world.list(&["sessions"])[0]["status"], "proxy_lost", "{why}");
    }
}

attack! {
    fn a_proxy_that_crashes_ends_its_session_closed_and_recorded(world) {
        for signal in [Signal::SIGABRT, Signal::SIGILL, Signal::SIGKILL] {
            let session = Session::start(world, "echo ready; exec cat");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(session.proxy.cast_signed()), signal).unwrap();
            session.closes(world, signal.as_str());
        }
        let mut unharmed = Session::start(world, "echo ready; exec cat");
        unharmed.omni.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
        let outcome = collect(unharmed.omni, b"");
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), "still here\n"), "{outcome:?}");
    }
}

/// Opens connections to the gateway and sends each a head that has no end, until it is ended.
const FLOOD: &str = "
import socket, sys
kept = []
print('ready', flush=True)
sys.stdin.readline()
while True:
    for _ in range(50):
        try: one = socket.create_connection(('10.77.0.1', 3128))
        except OSError: sys.stdin.readline()
        one.setblocking(False)
        one.send(b'GET http://example.com/ HTTP/1.1\\r\\nHost: example.com\\r\\nX: ')
        kept.append(one)
    for one in kept:
        try: one.send(b'a' * 65536)
        except OSError: pass
";

attack! {
    /// The bound is moved close, so that the machine need not give a gigabyte to see it.
    fn a_proxy_that_balloons_ends_its_session_closed_and_recorded(world) {
        world.write(&world.workspace().join("flood.py"), FLOOD);
        let mut session = Session::start(world, "exec /usr/bin/python3 -I flood.py");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", session.proxy)).unwrap();
        let data = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
        assert_eq!(data.split_whitespace().collect::<Vec<_>>()[3..5], [MEMORY_MAX, MEMORY_MAX], "{data}");
        let mut nearer = world.command("prlimit".as_ref());
        nearer.args([&format!("--pid={}", session.proxy), "--data=8388608:8388608"]);
        let nearer = finish(nearer, b"");
        assert!(nearer.status.success(), "{nearer:?}");
        session.omni.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        session.closes(world, "a flood of heads");
    }
}

/// Makes a process that waits in a system call make others in its name, as code would that took it over.
#[cfg(target_arch = "x86_64")]
mod puppet {
    use nix::sys::ptrace;
    use nix::sys::wait::waitpid;
    use nix::unistd::Pid;

    /// The instruction that enters the kernel, as it lies in memory.
    const SYSCALL: i64 = 0x050f;
    /// What a call returns that is to be begun anew (include/linux/errno.h of the kernel).
    const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;
    /// Below what is in use of the stack, also by leaf functions.
    const SCRATCH: u64 = 4096;
    const PATH: &[u8; 16] = b"/etc/passwd\0\0\0\0\0";

    pub struct Puppet {
        pid: Pid,
        resting: libc::user_regs_struct,
    }

    impl Puppet {
        pub fn of(pid: u32) -> Self {
            let pid = Pid::from_raw(pid.cast_signed());
            ptrace::seize(pid, ptrace::Options::empty()).unwrap();
            let mut resting = loop {
                ptrace::interrupt(pid).unwrap();
                waitpid(pid, None).unwrap();
                let there = ptrace::getregs(pid).unwrap();
                let entered = ptrace::read(pid, (there.rip - 2) as ptrace::AddressType).unwrap();
                if entered & 0xffff == SYSCALL && there.orig_rax.cast_signed() >= 0 {
                    break there;
                }
                // It was on its way to where it waits.
                ptrace::cont(pid, None).unwrap();
            };
            // A call that was broken off would be begun anew by the kernel; instead it is told so.
            if RESTARTS.contains(&resting.rax.cast_signed()) {
                resting.rax = i64::from(-libc::EINTR).cast_unsigned();
            }
            resting.orig_rax = u64::MAX;
            Self { pid, resting }
        }

        /// Where there is a path, and room behind it.
        pub fn path(&self) -> u64 {
            let place = self.resting.rsp - SCRATCH;
            for (index, word) in PATH.chunks_exact(8).enumerate() {
                let word = i64::from_ne_bytes(word.try_into().unwrap());
                ptrace::write(self.pid, (place + 8 * index as u64) as ptrace::AddressType, word).unwrap();
            }
            place
        }

        /// Has it execute what is not there.
        pub fn crash(mut self) {
            self.resting.rip = 0;
        }

        /// Makes the call; what it returned.
        pub fn call(&self, number: i64, operands: [u64; 4]) -> i64 {
            let mut there = self.resting;
            (there.rip, there.rax) = (self.resting.rip - 2, number.cast_unsigned());
            [there.rdi, there.rsi, there.rdx, there.r10] = operands;
            (there.r8, there.r9) = (0, 0);
            ptrace::setregs(self.pid, there).unwrap();
            ptrace::step(self.pid, None).unwrap();
            waitpid(self.pid, None).unwrap();
            ptrace::getregs(self.pid).unwrap().rax.cast_signed()
        }
    }

    impl Drop for Puppet {
        fn drop(&mut self) {
            let _ = ptrace::setregs(self.pid, self.resting);
            let _ = ptrace::detach(self.pid, None);
        }
    }
}

attack! {
    /// Only root may look into the proxy; for root, the kernel's word is heard by making the calls in its name.
    #[cfg(target_arch = "x86_64")]
    fn a_proxy_that_was_taken_over_can_ask_for_nothing(world) {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can make calls in another's name");
            return;
        }
        let unconfined = std::process::Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // It has said nothing, and cannot: it waits to read once it sleeps.
        while !std::fs::read_to_string(format!("/proc/{}/syscall", unconfined.id())).unwrap().starts_with("0 0x0 ") {
            std::thread::yield_now();
        }
        let session = Session::start(world, "echo ready; exec cat");
        let host = u64::from(std::process::id());
        let here = libc::AT_FDCWD as u64;
        let calls = |path: u64| [
            ("open", libc::SYS_open, [path, 0, 0, 0]),
            ("openat", libc::SYS_openat, [here, path, 0, 0]),
            ("stat", libc::SYS_stat, [path, path + 64, 0, 0]),
            ("access", libc::SYS_access, [path, 0, 0, 0]),
            ("a socket of this machine", libc::SYS_socket, [libc::AF_UNIX as u64, 1, 0, 0]),
            ("netlink", libc::SYS_socket, [libc::AF_NETLINK as u64, 3, 0, 0]),
            ("a signal to another", libc::SYS_kill, [host, 0, 0, 0]),
            ("a signal to another's thread", libc::SYS_tgkill, [host, host, 0, 0]),
            ("a handle of another", libc::SYS_pidfd_open, [host, 0, 0, 0]),
            ("a file in memory", libc::SYS_memfd_create, [path, 0, 0, 0]),
            ("shared memory", libc::SYS_shmget, [0, 4096, 0o600, 0]),
            ("a queue", libc::SYS_msgget, [0, 0o600, 0, 0]),
            ("to be looked into", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0]),
            ("its own limits", libc::SYS_prlimit64, [0, libc::RLIMIT_DATA as u64, 0, path + 64]),
            ("a process", libc::SYS_vfork, [0, 0, 0, 0]),
            ("another program", libc::SYS_execve, [path, 0, 0, 0]),
        ];
        let refused = i64::from(-libc::EPERM);
        let proxy = puppet::Puppet::of(session.proxy);
        for (what, number, operands) in calls(proxy.path()) {
            assert_eq!(proxy.call(number, operands), refused, "{what}");
        }
        assert_eq!(proxy.call(libc::SYS_getpid, [0; 4]), i64::from(session.proxy), "it does make calls");
        let socket = proxy.call(libc::SYS_socket, [libc::AF_INET as u64, 1, 0, 0]);
        assert!(socket >= 0, "{socket}");
        assert_eq!(proxy.call(libc::SYS_listen, [socket.cast_unsigned(), 1, 0, 0]), refused);
        assert_eq!(proxy.call(libc::SYS_close, [socket.cast_unsigned(), 0, 0, 0]), 0);
        drop(proxy);
        let control = puppet::Puppet::of(unconfined.id());
        for (what, number, operands) in calls(control.path()) {
            // These would make two of it, or something else.
            if !matches!(number, libc::SYS_vfork | libc::SYS_execve) {
                let outcome = control.call(number, operands);
                assert!(outcome >= 0, "{what} works where nothing prevents it: {outcome}");
                let removal = match number {
                    libc::SYS_shmget => libc::SYS_shmctl,
                    libc::SYS_msgget => libc::SYS_msgctl,
                    _ => continue,
                };
                assert_eq!(control.call(removal, [outcome.cast_unsigned(), libc::IPC_RMID as u64, 0, 0]), 0);
            }
        }
        drop(control);
        for child in [session.omni, unconfined] {
            assert_eq!(collect(child, b"").code(), Some(0), "it goes on as if nothing had been");
        }
        let session = Session::start(world, "echo ready; exec cat");
        puppet::Puppet::of(session.proxy).crash();
        session.closes(world, "a fault");
    }
}
