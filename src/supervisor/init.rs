//! Process 1 of the sandbox: starts the harness, passes signals on, reaps what is orphaned, reports how it ended.
//!
//! When it exits, the kernel kills everything that is left in the process namespace.

use super::gate::Gate;
use super::lockdown::{self, Ready};
use super::place_locks::PlaceLocks;
use super::plan::Plan;
use super::rest::Rest;
use super::spawn::die_with_parent;
use super::terminal::Terminal;
use super::warden::Warden;
use super::wire::{self, Notice, Order};
use crate::model::{ExitStatus, Tier};
use crate::sys::{self, Forked, Namespaces, clone_into_namespaces, fork_single_threaded};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, WaitOptions};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Runs the harness to its end and answers for it. The sandbox is built; the harness's process is locked down while the
/// supervisor gets the proxy and the record ready, and executes nothing before the go.
pub(super) fn mind(
    plan: &Plan,
    wire: BorrowedFd<'_>,
    terminal: Option<Terminal>,
    lockdown: Vec<Ready>,
    (lane, places): (Option<OwnedFd>, Option<PlaceLocks>),
) -> io::Result<()> {
    let children = SigSet::from(Signal::SIGCHLD);
    block(&children)?;
    // Bringing the harness to the foreground is done from the background, which SIGTTOU forbids unless it is blocked.
    block(&SigSet::from(Signal::SIGTTOU))?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    if let Some(terminal) = &terminal {
        rustix::process::ioctl_tiocsctty(&terminal.slave)?;
    }
    let (post, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let parked = Parked::start(plan, terminal.as_ref(), lockdown, theirs.as_fd())?;
    drop(theirs);
    match wire::receive::<Order>(wire)? {
        Some((Order::Go, _)) => {}
        _ => return Ok(()),
    }
    let Some(harness) = parked.release(wire)? else { return Ok(()) };
    let (mut warden, gate) = answerers(post, lane, places, plan)?;
    let slave = terminal.map(|terminal| terminal.slave);
    give_up(gate.is_some())?;
    let mut minder = Minder { wire, harness, slave, gate };
    let mut rest = Rest::default();
    loop {
        let mut waits = vec![PollFd::new(&wire, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        let calls = warden.as_ref().map(Warden::as_fd).or(minder.gate.as_ref().map(Gate::as_fd));
        waits.extend(calls.iter().map(|calls| PollFd::new(calls, PollFlags::IN)));
        let again = minder.gate.as_ref().and_then(Gate::look_again);
        // What is tried again is something to do.
        let wait = again.or_else(|| rest.due().and_then(|due| Timespec::try_from(due).ok()));
        match poll(&mut waits, wait.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            other => rest.pass(other? > 0 || again.is_some()),
        }
        let (order, child) = (!waits[0].revents().is_empty(), !waits[1].revents().is_empty());
        let calls = waits.get(2).map_or(PollFlags::empty(), PollFd::revents);
        if let Some(gate) = &mut minder.gate {
            gate.try_again();
        }
        if calls.contains(PollFlags::IN) {
            if let Some(warden) = &warden {
                warden.answer()?;
            }
            if let Some(gate) = &mut minder.gate {
                gate.answer(wire)?;
            }
        } else if !calls.is_empty() {
            // Nobody is left who could ask.
            warden = None;
            minder.close_gate()?;
        }
        if child {
            while signals.read_signal()?.is_some() {}
            if minder.reap()? {
                return Ok(());
            }
        }
        if order && !minder.obey()? {
            return Ok(());
        }
    }
}

/// Takes over the answering of calls, where the plan has some answered: by the warden where there is a lane to the proxy,
/// else by the write gate.
fn answerers(
    post: OwnedFd,
    lane: Option<OwnedFd>,
    places: Option<PlaceLocks>,
    plan: &Plan,
) -> io::Result<(Option<Warden>, Option<Gate<'_>>)> {
    if lane.is_none() && plan.gate().is_none() {
        return Ok((None, None));
    }
    // The harness's process sent it before it became the harness.
    let listener = match wire::receive::<Notice>(post.as_fd())? {
        Some((Notice::Listening, descriptors)) => descriptors.into_iter().next(),
        _ => None,
    };
    let listener = listener.ok_or_else(|| io::Error::other("the harness's filter gave no listener"))?;
    Ok(match (lane, plan.gate().zip(places)) {
        (Some(lane), _) => (Some(Warden::new(listener, lane, &plan.lockdown)), None),
        (None, Some((gate, places))) => (None, Some(Gate::open(listener, gate, places))),
        (None, None) => return Err(io::Error::other("the write gate has nothing to take places by")),
    })
}

/// Process 1 keeps nothing that the harness, which has its user id, could want from it.
fn give_up(gate: bool) -> io::Result<()> {
    // First, since while it has capabilities the harness cannot trace it anyway.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    match gate {
        true => lockdown::keep_looking_into_processes()?,
        false => lockdown::drop_capabilities()?,
    }
    Ok(rustix::thread::set_no_new_privs(true)?)
}

struct Minder<'a> {
    wire: BorrowedFd<'a>,
    harness: Pid,
    slave: Option<OwnedFd>,
    gate: Option<Gate<'a>>,
}

impl Minder<'_> {
    /// Reaps whatever ended; true when the harness did.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(Some((pid, status))) if pid == self.harness => {
                    if status.stopped() {
                        wire::send(self.wire, &Notice::Stopped, &[])?;
                    } else if let Some(status) = exit_status(status) {
                        self.close_gate()?;
                        wire::send(self.wire, &Notice::Exited(status), &[])?;
                        return Ok(true);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn close_gate(&mut self) -> io::Result<()> {
        self.gate.take().map_or(Ok(()), |gate| gate.close(self.wire))
    }

    /// Does what the supervisor says; false when it is gone.
    fn obey(&self) -> io::Result<bool> {
        match wire::receive::<Order>(self.wire)? {
            Some((Order::Signal(number), _)) => self.signal(number),
            Some((Order::Continue, _)) => {
                if let Some(slave) = &self.slave {
                    // The harness may be gone already; then there is nobody to bring to the foreground.
                    let _ = rustix::termios::tcsetpgrp(slave, self.harness);
                }
                self.signal(libc::SIGCONT);
            }
            Some((Order::Outlive, _)) => {
                // Nobody listening is what ends this process: nothing here waits for anything else.
                rustix::process::set_parent_process_death_signal(None)?;
                wire::send(self.wire, &Notice::Outlives, &[])?;
            }
            Some(_) => {}
            None => return Ok(false),
        }
        Ok(true)
    }

    fn signal(&self, number: i32) {
        if let Ok(signal) = Signal::try_from(number) {
            // The group may be gone already: then its end is on its way to be reaped.
            let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.harness.as_raw_nonzero().get()), signal);
        }
    }
}

/// Blocks signals for this process, which has one thread. Not by pthread_sigmask(3), which says its errors in a way that
/// nix takes for success.
fn block(signals: &SigSet) -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_BLOCK, Some(signals), None)?)
}

fn exit_status(status: rustix::process::WaitStatus) -> Option<ExitStatus> {
    let code = status.exit_status().map(ExitStatus::Code);
    code.or_else(|| status.terminating_signal().map(ExitStatus::Signal))
}

/// The harness's process, locked down and waiting to execute.
struct Parked {
    pid: Pid,
    go: OwnedFd,
    failure: OwnedFd,
}

impl Parked {
    fn start(plan: &Plan, terminal: Option<&Terminal>, lockdown: Vec<Ready>, post: BorrowedFd<'_>) -> io::Result<Self> {
        let (failure, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (wait, go) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let forked = match plan.tier {
            Tier::Full => clone_into_namespaces(Namespaces::NONE),
            // Containers let nobody call clone3(2), whose flags their filters cannot read.
            Tier::Landlock => fork_single_threaded(),
        };
        match forked? {
            Forked::Parent { pid, .. } => Ok(Self { pid, go, failure }),
            Forked::Child => {
                drop((failure, go));
                if let Err(problem) = become_harness(plan, terminal, lockdown, post, &wait) {
                    let text = serde_json::to_vec(&problem).unwrap_or_default();
                    let _ = rustix::io::write(&tell, &text);
                }
                std::process::exit(127);
            }
        }
    }

    /// Lets it execute; `None` after a failure, which has been reported.
    fn release(self, wire: BorrowedFd<'_>) -> io::Result<Option<Pid>> {
        let Self { pid, go, failure } = self;
        match rustix::io::write(&go, &[1]) {
            // It is gone, and has said why.
            Ok(_) | Err(rustix::io::Errno::PIPE) => drop(go),
            Err(error) => return Err(error.into()),
        }
        let mut report = Vec::new();
        io::Read::read_to_end(&mut std::fs::File::from(failure), &mut report)?;
        if report.is_empty() {
            return Ok(Some(pid));
        }
        wire::send(wire, &serde_json::from_slice::<Notice>(&report)?, &[])?;
        Ok(None)
    }
}

/// Locks this process down, waits for the go, and executes the harness's program in it. Returns with a problem, or when
/// the go will never come.
fn become_harness(
    plan: &Plan,
    terminal: Option<&Terminal>,
    lockdown: Vec<Ready>,
    post: BorrowedFd<'_>,
    go: &OwnedFd,
) -> Result<(), Notice> {
    let failed = |step: &str, error: io::Error| Notice::Failed { step: step.to_owned(), error: error.to_string() };
    take_stage(terminal).map_err(|error| failed("take the foreground of the terminal", error))?;
    rustix::process::chdir(&plan.directory).map_err(|error| failed("enter the workspace", error.into()))?;
    if plan.tier == Tier::Landlock {
        die_with_parent().map_err(|error| failed("die with process 1", error))?;
    }
    let unreadable = |_| failed("execute", io::Error::other("the command line or environment holds a NUL byte"));
    let argv = c_strings(plan.argv.iter().cloned()).map_err(unreadable)?;
    let environment = c_strings(environment(plan)).map_err(unreadable)?;
    let program = CString::new(plan.program.as_os_str().as_bytes()).map_err(unreadable)?;
    for (ready, step) in lockdown.into_iter().zip(&plan.lockdown) {
        ready.execute(Some(post)).map_err(|error| failed(&step.to_string(), error))?;
    }
    if !hear_go(go).map_err(|error| failed("wait for the go", error))? {
        return Ok(());
    }
    match nix::unistd::execve(&program, &argv, &environment) {
        Err(error) => Err(Notice::NotExecuted(error as i32)),
        Ok(never) => match never {},
    }
}

/// Waits for the go; false when whoever would give it is gone.
fn hear_go(go: &OwnedFd) -> io::Result<bool> {
    loop {
        match rustix::io::read(go, &mut [0; 1]) {
            Ok(count) => return Ok(count == 1),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn environment(plan: &Plan) -> impl Iterator<Item = String> {
    plan.environment.iter().map(|(name, value)| format!("{name}={value}"))
}

fn c_strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, std::ffi::NulError> {
    texts.map(|text| CString::new(std::ffi::OsStr::new(&text).as_bytes())).collect()
}

/// A process group of its own, in the foreground of the terminal if there is one, with standard streams that lead
/// there where they led to a terminal outside, default signals but for what omni's caller ignores, as `nohup` does, and no
/// other descriptor.
fn take_stage(terminal: Option<&Terminal>) -> io::Result<()> {
    rustix::process::setpgid(None, None)?;
    if let Some(Terminal { slave, streams, .. }) = terminal {
        // A background process that takes the foreground is stopped by SIGTTOU unless it blocks it (tcsetpgrp(3)).
        block(&SigSet::from(Signal::SIGTTOU))?;
        rustix::termios::tcsetpgrp(slave, rustix::process::getpid())?;
        if streams.stdin {
            rustix::stdio::dup2_stdin(slave)?;
        }
        if streams.stdout {
            rustix::stdio::dup2_stdout(slave)?;
        }
        if streams.stderr {
            rustix::stdio::dup2_stderr(slave)?;
        }
    }
    sys::close_descriptors_from(3)?;
    // SIGPIPE is ignored by our own runtime, and how the caller had it is not known any more.
    let ours = |signal: &Signal| *signal == Signal::SIGPIPE || !sys::is_ignored(*signal);
    let fixed = |signal: &Signal| matches!(signal, Signal::SIGKILL | Signal::SIGSTOP);
    for signal in Signal::iterator().filter(|signal| ours(signal) && !fixed(signal)) {
        sys::reset_signal(signal)?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    sys::set_file_size_of_core(0)?;
    Ok(())
}
