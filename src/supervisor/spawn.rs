//! The supervisor's side: clone into new namespaces, map ids, wait until the sandbox stands, let the harness go.

use super::apply::{self, Site};
use super::error::SupervisorError;
use super::limits::Group;
use super::place_locks::PlaceLocks;
use super::plan::{Identity, Plan};
use super::terminal::Terminal;
use super::trees::Trees;
use super::wire::{self, Notice, Order};
use super::{init, lockdown, private_place, sweep};
use crate::model::{ReachedLimit, Tier};
use crate::sys::{self, Forked, NamespaceHolder, Namespaces, clone_into_namespaces, fork_single_threaded};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use rustix::termios::Winsize;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How long process 1 may take to end everything in a sandbox that has no process namespace.
const SWEEP_SECONDS_MAX: i64 = 20;
/// What process 1 of the sandbox is called.
const TITLE: &str = "omni";

/// The sockets inside the sandbox that the proxy serves.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Where every TCP connection of the sandbox arrives.
    pub tcp: Vec<OwnedFd>,
    /// Where every question to a resolver arrives.
    pub dns: Vec<OwnedFd>,
    /// Where connections arrive that are handed over one by one, in a sandbox without a network of its own.
    pub handed: Option<OwnedFd>,
    /// Where programs connect that want an SSH agent.
    pub ssh: Option<OwnedFd>,
}

/// A sandbox that stands or runs. Dropping it ends it.
#[derive(Debug)]
pub struct Sandbox {
    pidfd: OwnedFd,
    wire: OwnedFd,
    reaped: bool,
    group: Option<Group>,
    /// Whether process 1 ends what is left, rather than the kernel.
    sweeps: bool,
}

/// What a finished construction hands over.
#[derive(Debug)]
pub struct Standing {
    /// The sandbox, waiting for [`Sandbox::go`].
    pub sandbox: Sandbox,
    /// For the proxy.
    pub listeners: Listeners,
    /// The session's side of the harness's terminal, if the plan has one.
    pub terminal: Option<OwnedFd>,
}

/// A sandbox that is being built while the caller prepares the proxy.
#[derive(Debug)]
pub struct Building {
    sandbox: Sandbox,
    /// Processes that end while there is something else to wait for.
    ending: Vec<NamespaceHolder>,
}

/// Starts building a sandbox.
///
/// `certificates` is a file in memory that the proxy fills: see [`Building::bundle_is_ready`]. `group` holds the plan's
/// limits, where it has any that need one, and `places` are what its write gate takes, where it has one.
///
/// # Errors
/// A [`SupervisorError`] that names the step; nothing is left behind.
pub fn spawn(
    plan: &Plan,
    certificates: &OwnedFd,
    size: Option<Winsize>,
    group: Option<Group>,
    places: Option<PlaceLocks>,
) -> Result<Building, SupervisorError> {
    let prepare = |what| move |error: io::Error| SupervisorError::Prepare { what, error };
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .map_err(|error| prepare("make a socket pair")(error.into()))?;
    let forked = match plan.tier {
        Tier::Full => clone_into_namespaces(Namespaces::ALL).map_err(SupervisorError::Namespaces)?,
        Tier::Landlock => fork_single_threaded().map_err(prepare("fork"))?,
    };
    match forked {
        Forked::Child => {
            drop(ours);
            inside(plan, &theirs, certificates, size, places);
            if plan.tier == Tier::Landlock {
                sweep::end_all();
                private_place::remove(plan);
            }
            std::process::exit(0);
        }
        Forked::Parent { pid, pidfd } => {
            drop(theirs);
            let sandbox = Sandbox { pidfd, wire: ours, reaped: false, group, sweeps: plan.tier == Tier::Landlock };
            identify(plan, pid, &sandbox).map_err(|error| sandbox.explain(error))?;
            Ok(Building { sandbox, ending: Vec::new() })
        }
    }
}

/// Puts the process inside into its group and gives it its user.
fn identify(plan: &Plan, pid: Pid, sandbox: &Sandbox) -> Result<(), SupervisorError> {
    if let Some(group) = &sandbox.group {
        group.take_in(pid)?;
    }
    if plan.tier == Tier::Full {
        write_id_maps(pid, &plan.identity).map_err(SupervisorError::Identity)?;
    }
    sandbox.order(&Order::Mapped)
}

impl Building {
    /// Gives the process inside the host's places, where it may not open them itself: root on behalf of a user opens
    /// nothing for them, since what they may not reach, their sandbox may not show.
    ///
    /// # Errors
    /// Why the process inside is gone, where it said so, else the place that could not be given.
    pub fn furnish(&mut self, plan: &Plan) -> Result<(), SupervisorError> {
        if !plan.identity.is_roots() || plan.tier != Tier::Full {
            return Ok(());
        }
        let trees = Trees::open(plan)?;
        self.ending = trees.translate_owners(plan)?;
        hand_over_pipes(&plan.identity)
            .map_err(|error| SupervisorError::Prepare { what: "hand the standard streams over", error })?;
        trees.send(self.sandbox.as_fd()).map_err(|error| self.sandbox.explain(SupervisorError::Wire(error)))
    }

    /// Says that the certificates are written.
    ///
    /// # Errors
    /// Why the process inside is gone, where it said so, else [`SupervisorError::Wire`].
    pub fn bundle_is_ready(&self) -> Result<(), SupervisorError> {
        self.sandbox.order(&Order::BundleReady).map_err(|error| self.sandbox.explain(error))
    }

    /// Process 1 of the sandbox.
    #[must_use]
    pub fn init(&self) -> BorrowedFd<'_> {
        self.sandbox.init()
    }

    /// Readable when [`Building::finish`] would not wait.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.sandbox.as_fd()
    }

    /// Waits until the sandbox stands.
    ///
    /// # Errors
    /// The step that failed, as the process inside reported it.
    pub fn finish(self) -> Result<Standing, SupervisorError> {
        match self.sandbox.notice()? {
            Some((Notice::Built { .. }, descriptors)) if self.sandbox.sweeps && !descriptors.is_empty() => {
                let mut descriptors = descriptors.into_iter();
                let listeners = Listeners { handed: descriptors.next(), ..Listeners::default() };
                Ok(Standing { sandbox: self.sandbox, listeners, terminal: descriptors.next() })
            }
            Some((Notice::Built { ssh }, mut descriptors)) if descriptors.len() >= 3 => {
                let rest = descriptors.split_off(2);
                let mut rest = rest.into_iter();
                let dns = rest.next().into_iter().collect();
                let ssh = if ssh { rest.next() } else { None };
                let listeners = Listeners { tcp: descriptors, dns, handed: None, ssh };
                Ok(Standing { sandbox: self.sandbox, listeners, terminal: rest.next() })
            }
            Some((Notice::Failed { step, error }, _)) => Err(SupervisorError::Step { step, error }),
            _ => Err(SupervisorError::Vanished),
        }
    }
}

impl Sandbox {
    /// Lets the harness go.
    ///
    /// # Errors
    /// [`SupervisorError::Wire`] when the process inside is gone.
    pub fn go(&self) -> Result<(), SupervisorError> {
        self.order(&Order::Go).map_err(|error| self.explain(error))
    }

    /// Process 1 of the sandbox.
    #[must_use]
    pub fn init(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Tells the process inside something.
    ///
    /// # Errors
    /// [`SupervisorError::Wire`] when it is gone.
    pub fn order(&self, order: &Order) -> Result<(), SupervisorError> {
        wire::send(self.wire.as_fd(), order, &[]).map_err(SupervisorError::Wire)
    }

    /// Waits for the next word from inside; `None` when there will be none.
    ///
    /// # Errors
    /// [`SupervisorError::Wire`].
    pub fn notice(&self) -> Result<Option<(Notice, Vec<OwnedFd>)>, SupervisorError> {
        wire::receive(self.wire.as_fd()).map_err(SupervisorError::Wire)
    }

    /// Readable when [`Sandbox::notice`] would not wait.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.wire.as_fd()
    }

    /// Whoever does not listen any more has said why. In any other case there may be nobody who says anything, ever.
    fn explain(&self, error: SupervisorError) -> SupervisorError {
        match error {
            SupervisorError::Wire(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.last_word().unwrap_or(SupervisorError::Wire(error))
            }
            other => other,
        }
    }

    /// Readable when the session has used up its memory and must be ended.
    #[must_use]
    pub fn alarm(&self) -> Option<BorrowedFd<'_>> {
        self.group.as_ref().and_then(Group::alarm)
    }

    /// The limits that were reached so far.
    #[must_use]
    pub fn reached(&self) -> Vec<ReachedLimit> {
        self.group.as_ref().map(Group::reached).unwrap_or_default()
    }

    /// The step that failed inside, where that is the next word from there.
    fn last_word(&self) -> Option<SupervisorError> {
        match self.notice() {
            Ok(Some((Notice::Failed { step, error }, _))) => Some(SupervisorError::Step { step, error }),
            _ => None,
        }
    }

    /// Lets process 1 end what is left by itself, for as long as that may take.
    fn let_sweep(&self) {
        // It hears nothing more, and that is its sign; it may have ended by itself.
        let _ = rustix::net::shutdown(&self.wire, rustix::net::Shutdown::Both);
        let limit = rustix::event::Timespec { tv_sec: SWEEP_SECONDS_MAX, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&limit));
    }

    /// Has everything in the sandbox ended. The kernel may need a moment for it: see [`Sandbox::end`].
    pub fn begin_to_end(&self) {
        if self.sweeps {
            self.let_sweep();
        }
        // It may have ended by itself; then there is nothing to kill, only to reap.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Ends everything in the sandbox and waits until the kernel is done with it.
    pub fn end(&mut self) {
        if self.reaped {
            return;
        }
        self.reaped = true;
        self.begin_to_end();
        reap(self.pidfd.as_fd());
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until a process of the session's has ended. What was left by the process that started it is another's to reap, and
/// can be waited for all the same.
pub fn reap(process: BorrowedFd<'_>) {
    let waited = rustix::process::waitid(WaitId::PidFd(process), WaitIdOptions::EXITED);
    if waited.err() == Some(rustix::io::Errno::CHILD) {
        let _ = rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], None);
    }
}

/// Gives standard streams that are nameless pipes to the harness's user, who could otherwise use them but not open
/// `/dev/stderr`, since pipes belong to who made them. Whoever else has them open does not notice.
fn hand_over_pipes(identity: &Identity) -> io::Result<()> {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    let (uid, gid) = (rustix::fs::Uid::from_raw(identity.kernel_uid), rustix::fs::Gid::from_raw(identity.kernel_gid));
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    for stream in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        // A stream that is closed cannot be looked at, and needs no handing over.
        if rustix::fs::fstatfs(stream).is_ok_and(|stat| stat.f_type == PIPEFS_MAGIC) {
            rustix::fs::fchown(stream, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

/// user_namespaces(7): an ordinary user must first give up `setgroups(2)`, and may map only themselves. So it is too where
/// root maps another user: they keep the groups that they have, those that withhold something included.
pub(super) fn write_id_maps(pid: Pid, identity: &Identity) -> io::Result<()> {
    let pid = pid.as_raw_nonzero();
    if !identity.is_roots() {
        std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
    }
    let Identity { uid, gid, kernel_uid, kernel_gid } = identity;
    std::fs::write(format!("/proc/{pid}/uid_map"), format!("{uid} {kernel_uid} 1"))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), format!("{gid} {kernel_gid} 1"))
}

/// The life of the process inside.
fn inside(plan: &Plan, wire: &OwnedFd, certificates: &OwnedFd, size: Option<Winsize>, places: Option<PlaceLocks>) {
    let report = |step: &str, error: String| {
        let failed = Notice::Failed { step: step.to_owned(), error };
        // Nobody left to tell when this fails.
        let _ = wire::send(wire.as_fd(), &failed, &[]);
    };
    let (terminal, lane) = match prepare(plan, wire, certificates, size, places.as_ref()) {
        Ok(prepared) => prepared,
        Err((step, error)) => return report(&step, error),
    };
    // While the supervisor gets the proxy and the record ready.
    let tty = terminal.as_ref().and_then(Terminal::device);
    let lockdown = match lockdown::prepare(&plan.lockdown, tty.as_deref()) {
        Ok(lockdown) => lockdown,
        Err(error) => return report("prepare the lockdown", error.to_string()),
    };
    if let Err(error) = init::mind(plan, wire.as_fd(), terminal, lockdown, (lane, places)) {
        report("mind the harness", error.to_string());
    }
}

/// Builds everything and hands the descriptors out. The harness's terminal stays, without its master.
fn prepare(
    plan: &Plan,
    wire: &OwnedFd,
    certificates: &OwnedFd,
    size: Option<Winsize>,
    places: Option<&PlaceLocks>,
) -> Result<(Option<Terminal>, Option<OwnedFd>), (String, String)> {
    let at = |step: &str| {
        let step = step.to_owned();
        move |error: io::Error| (step, error.to_string())
    };
    let enclosed = plan.tier == Tier::Landlock;
    outlive_or_die(enclosed).map_err(at("die with the supervisor"))?;
    let kept: Vec<_> = [wire.as_fd(), certificates.as_fd()].into_iter().chain(places.map(PlaceLocks::as_fd)).collect();
    sys::close_inherited_except(&kept).map_err(at("close inherited descriptors"))?;
    let session = rustix::process::setsid().map_err(io::Error::from);
    session.map_err(at("leave the terminal"))?;
    sys::erase_environment();
    // The harness sees process 1, and everybody may read a command line: omni's own has rules and values in it.
    sys::replace_command_line(TITLE).map_err(at("erase the command line"))?;
    let failed = |failure: apply::Failure| (failure.step, failure.error.to_string());
    let network = apply::build_network(plan).map_err(failed)?;
    match wire::receive::<Order>(wire.as_fd()) {
        Ok(Some((Order::Mapped, _))) => {}
        _ => return Err(("map the user".into(), "the supervisor is gone".into())),
    }
    // Without namespaces the machine's groups stay in view: Landlock keeps them from being written.
    if !enclosed && !plan.limits.groups.is_empty() {
        // Only now is this process in its group, where its view of groups shall begin.
        sys::unshare_control_groups().map_err(at("begin a view of control groups"))?;
    }
    let by_itself = !plan.identity.is_roots() && !enclosed;
    let opening = |error: SupervisorError| ("open the host's places".to_owned(), error.to_string());
    let own = by_itself.then(|| Trees::open_own(plan)).transpose().map_err(opening)?;
    apply::become_user(&plan.identity).map_err(at("become the sandbox's user"))?;
    // Changing ids cleared it (prctl(2), PR_SET_PDEATHSIG).
    outlive_or_die(enclosed).map_err(at("die with the supervisor"))?;
    // As that user, so that root on behalf of one opens what they could open, and nothing else.
    let trees = own.map(|own| own.and_others(plan)).transpose().map_err(opening)?;
    let mut site = Site { trees, wire: wire.as_fd(), certificates };
    let (listeners, lane) = apply::build(plan, network, &mut site).map_err(failed)?;
    let terminal = match plan.terminal {
        Some(streams) => Some(Terminal::open(streams, size).map_err(at("open a terminal"))?),
        None => None,
    };
    let sockets = listeners.tcp.iter().chain(&listeners.dns).chain(&listeners.handed);
    let sockets = sockets.chain(&listeners.ssh).map(AsFd::as_fd);
    let descriptors: Vec<_> = sockets.chain(terminal.iter().map(|terminal| terminal.master.as_fd())).collect();
    wire::send(wire.as_fd(), &Notice::Built { ssh: listeners.ssh.is_some() }, &descriptors)
        .map_err(at("hand the listeners over"))?;
    Ok((terminal, lane))
}

/// Goes when the supervisor goes; but where this process is all that ends the others, it has to see to that first, which
/// it does when nobody speaks to it any more.
fn outlive_or_die(enclosed: bool) -> io::Result<()> {
    if enclosed { sweep::adopt_orphans() } else { die_with_parent() }
}

/// Asks to be killed when the supervisor goes, however it goes.
pub(super) fn die_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}
