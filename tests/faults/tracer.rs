//! Follows omni and everything it makes through every system call (ptrace(2)), and spoils one of them.
//!
//! strace(1) can spoil calls too, but counts them in each process alike: "the third openat" would fail in the session, the
//! proxy and the sandbox at once, and mostly in the session first. Here a fault strikes one call of one process.

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How long omni may take, and how long what it made may outlive it.
const RUN_MAX: Duration = Duration::from_secs(40);
const OUTLIVE_MAX: Duration = Duration::from_secs(10);
/// What a newborn's first stop is (linux/ptrace.h).
const EVENT_STOP: i32 = 128;
/// What syscall_info says of a stop before the call (ptrace(2)).
const ENTRY: u8 = 1;

/// Which of the processes of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// omni itself.
    Session,
    /// The process that becomes the proxy.
    Proxy,
    /// Process 1 of the sandbox.
    Sandbox,
    /// What becomes the harness.
    Harness,
    /// Whatever else there is: threads, holders of namespaces, and the harness's own.
    Other,
}

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It does not happen, and says this instead.
    Fail(i32),
    /// The process is killed instead.
    Kill,
    /// Nothing, but a file of the host's is exchanged first: see [`Swap`].
    Swap,
}

/// One call of one process: the `occurrence`th, from 1, of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub role: Role,
    pub call: i64,
    pub occurrence: usize,
}

/// What happens to the host between two calls.
pub type Swap<'a> = &'a dyn Fn();

/// What was seen.
#[derive(Debug, Default)]
pub struct Trace {
    /// Every call of the set-up, in order: until the harness's program took over.
    pub calls: Vec<(Option<Role>, i64)>,
    /// Whether the target was struck.
    pub struck: bool,
    /// How omni ended: its code, or minus its signal.
    pub ended: i32,
    /// Whether omni itself took too long.
    pub stuck: bool,
    /// omni's process id.
    pub session: u32,
    /// How many processes outlived omni for longer than they may.
    pub left: usize,
}

/// Who is alive, for the one who watches the clock.
#[derive(Default)]
struct Alive {
    processes: BTreeSet<Pid>,
    session_ended: bool,
    all_ended: bool,
    stuck: bool,
    left: usize,
}

struct Tracer<'a> {
    session: Pid,
    roles: BTreeMap<Pid, Role>,
    counts: BTreeMap<(Role, i64), usize>,
    target: Option<(Target, Deed)>,
    swap: Swap<'a>,
    /// Whose present call shall say this.
    spoiled: Option<(Pid, i32)>,
    started: bool,
    /// Whether there is anything left to look for.
    watching: bool,
    trace: Trace,
}

/// Follows a child that has stopped itself and will execute omni next, to the end of everything.
pub fn follow(child: &Child, target: Option<(Target, Deed)>, swap: Swap<'_>) -> Trace {
    let session = Pid::from_raw(child.id().cast_signed());
    // Seen, not reaped: it has stopped, and is followed from here on.
    waitid(Id::Pid(session), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT).unwrap();
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(session, options).unwrap();
    kill(session, Signal::SIGCONT).unwrap();
    let mut tracer = Tracer {
        session,
        roles: BTreeMap::from([(session, Role::Session)]),
        counts: BTreeMap::new(),
        target,
        swap,
        spoiled: None,
        started: false,
        watching: true,
        trace: Trace::default(),
    };
    let alive =
        Arc::new((Mutex::new(Alive { processes: BTreeSet::from([session]), ..Alive::default() }), Condvar::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| watch_the_clock(&alive));
        tracer.run(&alive);
    });
    let state = alive.0.lock().unwrap();
    Trace { stuck: state.stuck, left: state.left, session: child.id(), ..tracer.trace }
}

/// Kills what takes too long, so that following it comes to an end.
fn watch_the_clock(alive: &(Mutex<Alive>, Condvar)) {
    let (state, changed) = alive;
    let guard = state.lock().unwrap();
    let (mut guard, _) = changed.wait_timeout_while(guard, RUN_MAX, |alive| !alive.session_ended).unwrap();
    if !guard.session_ended {
        guard.stuck = true;
        end_all(&guard.processes);
    }
    let (mut guard, _) = changed.wait_timeout_while(guard, OUTLIVE_MAX, |alive| !alive.all_ended).unwrap();
    guard.left = guard.processes.len();
    end_all(&guard.processes);
}

/// What ended meanwhile is no longer there to be killed.
fn end_all(processes: &BTreeSet<Pid>) {
    for pid in processes {
        let _ = kill(*pid, Signal::SIGKILL);
    }
}

impl Tracer<'_> {
    fn run(&mut self, alive: &(Mutex<Alive>, Condvar)) {
        // Of this thread's children alone: other tests run in other threads.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::from_bits_retain(libc::__WNOTHREAD);
        while let Ok(status) = waitpid(None, Some(flags)) {
            let (state, changed) = alive;
            match status {
                WaitStatus::Exited(pid, code) => self.end(pid, code),
                WaitStatus::Signaled(pid, signal, _) => self.end(pid, -(signal as i32)),
                WaitStatus::PtraceSyscall(pid) => self.call(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
                _ => {}
            }
            let mut state = state.lock().unwrap();
            state.session_ended = !self.roles.contains_key(&self.session);
            state.processes = self.roles.keys().copied().collect();
            state.all_ended = state.processes.is_empty();
            changed.notify_all();
            if state.all_ended {
                break;
            }
        }
    }

    fn end(&mut self, pid: Pid, how: i32) {
        self.roles.remove(&pid);
        if pid == self.session {
            self.trace.ended = how;
        }
    }

    /// A process that was killed meanwhile cannot be resumed, and its end comes by itself.
    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        let _ = if self.watching { ptrace::syscall(pid, signal) } else { ptrace::cont(pid, signal) };
    }

    fn event(&mut self, pid: Pid, event: i32) {
        match event {
            libc::PTRACE_EVENT_EXEC if self.role(pid) == Role::Harness => self.watching = false,
            libc::PTRACE_EVENT_EXEC => self.started = true,
            EVENT_STOP => {
                self.roles.entry(pid).or_insert(Role::Other);
            }
            _ => {
                if let Ok(child) = ptrace::getevent(pid) {
                    let role = self.born_to(pid);
                    self.roles.insert(Pid::from_raw(i32::try_from(child).unwrap()), role);
                }
            }
        }
        self.resume(pid, None);
    }

    fn role(&self, pid: Pid) -> Role {
        self.roles.get(&pid).copied().unwrap_or(Role::Other)
    }

    /// What a process has just made.
    fn born_to(&self, parent: Pid) -> Role {
        let flags = clone_flags(parent).unwrap_or_default();
        let has = |flag: libc::c_int| flags & i64::from(flag) != 0;
        match self.role(parent) {
            Role::Session if has(libc::CLONE_NEWNS) => Role::Sandbox,
            Role::Session if has(libc::CLONE_VM) => Role::Other,
            Role::Session if !self.roles.values().any(|role| *role == Role::Proxy) => Role::Proxy,
            Role::Sandbox if !has(libc::CLONE_VM) => Role::Harness,
            _ => Role::Other,
        }
    }

    /// A stop before a call or after one.
    fn call(&mut self, pid: Pid) {
        let entry = ptrace::syscall_info(pid).is_ok_and(|info| info.op == ENTRY);
        if entry && self.started && self.watching {
            self.enter(pid);
        } else if !entry && self.spoiled.is_some_and(|(spoiled, _)| spoiled == pid) {
            let (_, error) = self.spoiled.take().unwrap();
            if let Ok(mut registers) = ptrace::getregs(pid) {
                registers.rax = i64::from(-error).cast_unsigned();
                ptrace::setregs(pid, registers).unwrap();
            }
            self.watching = false;
        }
        self.resume(pid, None);
    }

    fn enter(&mut self, pid: Pid) {
        let role = self.role(pid);
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        let call = registers.orig_rax.cast_signed();
        self.trace.calls.push((Some(role), call));
        let count = self.counts.entry((role, call)).or_default();
        *count += 1;
        let Some((target, deed)) = self.target else { return };
        if role == Role::Other
            || self.trace.struck
            || (target.role, target.call, target.occurrence) != (role, call, *count)
        {
            return;
        }
        self.trace.struck = true;
        match deed {
            Deed::Fail(error) => {
                // No call has this number; what it says is replaced on the way back. A close happens whatever it says.
                if call != libc::SYS_close {
                    registers.orig_rax = u64::MAX;
                    ptrace::setregs(pid, registers).unwrap();
                }
                self.spoiled = Some((pid, error));
            }
            Deed::Kill => {
                kill(pid, Signal::SIGKILL).unwrap();
                self.watching = false;
            }
            Deed::Swap => {
                (self.swap)();
                self.watching = false;
            }
        }
    }
}

/// The flags of the call that a process is in, if that makes processes.
fn clone_flags(pid: Pid) -> Option<i64> {
    let registers = ptrace::getregs(pid).ok()?;
    match registers.orig_rax.cast_signed() {
        libc::SYS_clone => Some(registers.rdi.cast_signed()),
        // struct clone_args begins with them (clone(2)).
        libc::SYS_clone3 => {
            ptrace::read(pid, std::ptr::without_provenance_mut(usize::try_from(registers.rdi).ok()?)).ok()
        }
        _ => Some(0),
    }
}
