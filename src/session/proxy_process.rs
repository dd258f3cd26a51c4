//! The proxy's process: forked while the session still has one thread, reads the secrets, confines itself, serves.

use super::clock;
use super::error::SessionError;
use super::keeper;
use super::prepare::Prepared;
use super::publishing::{Dialer, Published};
use super::shown_secrets::Numbers;
use super::signals::Signals;
use super::ssh::SshSide;
use crate::meter::{ModelHosts, PriceTable};
use crate::model::{Event, Port, Secret};
use crate::policy::{Binding, SessionFacts};
use crate::proxy::{
    self, Authority, FromProxy, FromSession, Gateway, PACKET_BYTES_MAX, Proxy, Quiet, ResolverConfig, Roots, Setup,
};
use crate::store::{BodyFile, BodyRecorder, Home, Journal, Recorder, load_prices};
use crate::supervisor::{GATEWAY_V4, GATEWAY_V6, Listeners, confine_proxy, lie_down, reap, wire, write_bundle};
use crate::sys::{self, Forked, fork_single_threaded, shared_word};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

/// How long the proxy may take to settle what is under way once the session is over.
const SETTLE: Duration = Duration::from_secs(4);

/// What the proxy tells the session.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// The certificates are in the shared file.
    CertificatesWritten,
    /// Secrets are loaded, the process is confined, connections are served.
    Ready,
    /// It could not start.
    Failed(String),
    /// The session's end was heard, and everything is settled and recorded.
    Settled,
}

/// What the session tells the proxy: the listeners come with it.
#[derive(Debug, Serialize, Deserialize)]
struct Serve {
    tcp: usize,
    dns: usize,
    /// The ports inside that are published, with a listener each, and then whoever reaches them.
    published: Vec<Port>,
    /// Whether the last is where programs ask for an SSH agent.
    ssh: bool,
    /// What the kernel's notices are about that come behind all others, where files are watched.
    secret_files: Option<Numbers>,
}

/// The session's side of the proxy.
#[derive(Debug)]
pub(super) struct ProxyProcess {
    pid: Pid,
    pidfd: OwnedFd,
    control: OwnedFd,
    shutdown: Option<UnixStream>,
    /// Whether it said that it serves. Before, it has nothing to settle, and may wait for a command that fetches a secret.
    serving: bool,
    settled: bool,
    reaped: bool,
    /// Whether anything was asked of it.
    quiet: Quiet,
    /// What reaches published ports, which ends with it.
    dialer: Option<Dialer>,
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

impl ProxyProcess {
    /// Forks it. It begins with the certificates, which the sandbox needs, and goes on when the listeners come.
    pub(super) fn start(
        prepared: &Prepared,
        home: &Home,
        journal: Journal,
        certificates: &OwnedFd,
    ) -> Result<Self, SessionError> {
        let kind = SocketType::SEQPACKET;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
            .map_err(SessionError::preparing("make a socket pair"))?;
        let (ours_off, theirs_off) = UnixStream::pair().map_err(SessionError::preparing("make a socket pair"))?;
        let quiet = Quiet::over(shared_word().map_err(SessionError::preparing("make memory to share"))?);
        let recorded = prepared.request.profile.record_bodies;
        let bodies = recorded.then(|| BodyFile::create(home, &prepared.session)).transpose()?;
        match fork_single_threaded().map_err(SessionError::preparing("fork the proxy"))? {
            Forked::Parent { pid, pidfd } => Ok(Self {
                pid,
                pidfd,
                control: ours,
                shutdown: Some(ours_off),
                serving: false,
                settled: false,
                reaped: false,
                quiet,
                dialer: None,
            }),
            Forked::Child => {
                drop((ours, ours_off));
                let site = Site { home, control: theirs, shutdown: theirs_off, certificates, journal, bodies, quiet };
                std::process::exit(i32::from(live(prepared, site).is_err()));
            }
        }
    }

    /// Waits until the certificates are written.
    pub(super) fn certificates(&self, signals: &Signals) -> Result<(), SessionError> {
        match self.word(signals)? {
            Word::CertificatesWritten => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Hands the listeners over and waits until they are served.
    pub(super) fn serve(
        &mut self,
        listeners: Listeners,
        published: Option<Published>,
        watch: Option<(OwnedFd, Numbers)>,
        signals: &Signals,
    ) -> Result<(), SessionError> {
        let (notices, secret_files) = watch.unzip();
        let of_published = published.iter().flat_map(|published| {
            published.listeners.iter().map(|(listener, _)| listener.as_fd()).chain([published.line.as_fd()])
        });
        let own = listeners.tcp.iter().chain(&listeners.dns);
        let last = listeners.handed.iter().chain(&listeners.ssh).chain(&notices).map(AsFd::as_fd);
        let descriptors: Vec<_> = own.map(AsFd::as_fd).chain(of_published).chain(last).collect();
        let ports = published.iter().flat_map(|published| published.listeners.iter().map(|(_, port)| *port));
        let serve = Serve {
            tcp: listeners.tcp.len(),
            dns: listeners.dns.len(),
            published: ports.collect(),
            ssh: listeners.ssh.is_some(),
            secret_files,
        };
        match wire::send(self.control.as_fd(), &serve, &descriptors) {
            // It is gone; what it said on its way is the reason.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(SessionError::preparing("hand the listeners to the proxy"))?,
        }
        match self.word(signals)? {
            Word::Ready => {
                self.serving = true;
                self.dialer = published.map(|published| published.dialer);
                Ok(())
            }
            other => Err(unexpected(other)),
        }
    }

    /// Readable when it says something while it serves.
    pub(super) fn line(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// Says something to it, if there is room.
    pub(super) fn say(&self, word: &FromSession) -> io::Result<()> {
        let packet = serde_json::to_vec(word)?;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::net::send(&self.control, &packet, flags).map(drop)?)
    }

    /// What it says while it serves.
    pub(super) fn hear(&self) -> Heard {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        match rustix::net::recv(&self.control, &mut packet, RecvFlags::DONTWAIT) {
            Ok((count, _)) => {
                let word = packet.get(..count).and_then(|word| serde_json::from_slice(word).ok());
                word.map_or(Heard::End, Heard::Word)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Heard::Nothing,
            Err(_) => Heard::End,
        }
    }

    /// Readable when the proxy has died.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Tells it that the session is over, so that it settles what is under way.
    pub(super) fn begin_to_stop(&mut self) {
        self.shutdown = None;
        // It may still wait for listeners that will never come; hearing nothing more, it ends.
        let _ = rustix::net::shutdown(&self.control, rustix::net::Shutdown::Write);
    }

    /// Lets it settle what is under way. When this returns, it records nothing more: it has said so, is gone, or will be
    /// killed now.
    pub(super) fn settle(&mut self) {
        self.begin_to_stop();
        if self.settled {
            return;
        }
        self.settled = true;
        if self.serving && !self.was_quiet() {
            self.await_settled();
        }
        if !self.serving {
            // With the command that it may be waiting for, which is in the group that it leads. Nobody reaped it, so its id
            // is nobody else's.
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Says that the session is over. Whether nothing was ever asked of it: then there is nothing to settle, and its journal
    /// ends with its start.
    pub(super) fn was_quiet(&self) -> bool {
        self.quiet.end()
    }

    /// Waits until it says that everything is settled, or is gone, or has had its time.
    fn await_settled(&self) {
        let deadline = Instant::now() + SETTLE;
        loop {
            let left = clock::timespec(deadline.saturating_duration_since(Instant::now()));
            let mut waits = [PollFd::new(&self.control, PollFlags::IN), PollFd::new(&self.pidfd, PollFlags::IN)];
            match rustix::event::poll(&mut waits, left.as_ref()) {
                Ok(0) => return,
                Err(rustix::io::Errno::INTR) => continue,
                Ok(_) if waits[0].revents().contains(PollFlags::IN) => {}
                // Whatever this is, the kill that follows is harmless to a process that is gone.
                _ => return,
            }
            // What else it says stands in its journal too.
            let mut packet = vec![0; PACKET_BYTES_MAX];
            let heard = rustix::net::recv(&self.control, &mut packet, RecvFlags::DONTWAIT);
            let Ok((count @ 1.., _)) = heard else { return };
            if matches!(serde_json::from_slice(&packet[..count]), Ok(Word::Settled)) {
                return;
            }
        }
    }

    /// Lets it settle what is under way, and waits until it is gone.
    pub(super) fn stop(&mut self) {
        if self.reaped {
            return;
        }
        self.reaped = true;
        self.settle();
        reap(self.pidfd.as_fd());
    }

    fn word(&self, signals: &Signals) -> Result<Word, SessionError> {
        signals.wait_for(self.control.as_fd())?;
        match wire::receive(self.control.as_fd()).map_err(SessionError::preparing("hear from the proxy"))? {
            Some((word, _)) => Ok(word),
            None => Err(SessionError::ProxyFailed("it ended without a word".to_owned())),
        }
    }
}

fn unexpected(word: Word) -> SessionError {
    SessionError::ProxyFailed(match word {
        Word::Failed(why) => why,
        other => format!("it said {other:?} out of turn"),
    })
}

/// What was heard of the proxy.
pub(super) enum Heard {
    /// It said this.
    Word(FromProxy),
    /// It says nothing at the moment.
    Nothing,
    /// It says nothing more.
    End,
}

/// What the proxy's process holds.
struct Site<'a> {
    home: &'a Home,
    control: OwnedFd,
    shutdown: UnixStream,
    certificates: &'a OwnedFd,
    journal: Journal,
    /// Where bodies are recorded, where that was asked for.
    bodies: Option<BodyFile>,
    quiet: Quiet,
}

/// The proxy's whole life. A failure has been told when this returns.
fn live(prepared: &Prepared, site: Site<'_>) -> Result<(), ()> {
    let Site { home, control, shutdown, certificates, journal, bodies, quiet } = site;
    let told = |why: String| {
        // Nobody left to tell when this fails.
        let _ = wire::send(control.as_fd(), &Word::Failed(why), &[]);
    };
    // Where the records are, since a machine's server has no home in its environment.
    let prices = load_prices(home.path()).map_err(|error| told(error.to_string()))?;
    let setup = prepare(prepared, prices, &control, shutdown, certificates, (journal, bodies), quiet)
        .map_err(|error| told(error.to_string()))?;
    let proxy = Proxy::new(setup).map_err(|error| told(error.to_string()))?;
    let listeners = receive_listeners(prepared, &control).map_err(|error| told(error.to_string()))?;
    wire::send(control.as_fd(), &Word::Ready, &[]).map_err(drop)?;
    // From here on the session's end is heard through the shutdown socket, so that what is under way can be settled.
    rustix::process::set_parent_process_death_signal(None).map_err(drop)?;
    let served = proxy.serve(listeners).map_err(drop);
    // Nobody listens where the session is gone.
    let _ = wire::send(control.as_fd(), &Word::Settled, &[]);
    served
}

fn prepare(
    prepared: &Prepared,
    prices: PriceTable,
    control: &OwnedFd,
    shutdown: UnixStream,
    certificates: &OwnedFd,
    (mut journal, bodies): (Journal, Option<BodyFile>),
    quiet: Quiet,
) -> Result<Setup, SessionError> {
    let own = [control.as_fd(), shutdown.as_fd(), certificates.as_fd(), journal.as_fd()];
    let keep: Vec<_> =
        own.into_iter().chain(bodies.as_ref().map(AsFd::as_fd)).chain(prepared.request.caller.values()).collect();
    detach(&keep).map_err(SessionError::preparing("detach the proxy"))?;
    let authority = Authority::generate(&prepared.session, SystemTime::now())?;
    let roots = Roots::from_system(prepared.request.upstream_ca.as_deref())?;
    let (own, store) = (authority.certificate_pem().as_bytes(), roots.key_store(&authority));
    write_bundle(certificates, own, &store, &roots.bundle(&authority))
        .map_err(SessionError::preparing("write the certificates"))?;
    wire::send(control.as_fd(), &Word::CertificatesWritten, &[])
        .map_err(SessionError::preparing("tell the session"))?;

    let resolver = ResolverConfig::from_system();
    // Before there is a second thread, before nothing can be opened any more, and before there is a value that it would have
    // in its memory, too.
    let keeper = keeper::start(prepared.secrets.iter().map(|(spec, _)| spec), &prepared.home)
        .map_err(SessionError::preparing("fork the process that reads secrets"))?;
    let bindings = load_secrets(prepared, &mut journal)?;
    let ssh = prepared.ssh.as_ref().map(SshSide::connect).transpose()?;
    // Everything from the disk is read; the descriptors that are still to come need no file.
    confine_proxy().map_err(SessionError::preparing("confine the proxy"))?;
    let sync = Some(journal.sync_handle()?);
    let recorder: Box<dyn Recorder> = Box::new(journal);
    Ok(Setup {
        session: prepared.session.clone(),
        policy: prepared.policy.clone(),
        facts: facts(prepared),
        upstream_proxies: prepared.upstream_proxies.clone(),
        host_keys: prepared.request.profile.host_keys.clone(),
        bindings,
        authority,
        roots,
        connect_to: prepared.request.connect_to.clone(),
        keeper,
        ssh,
        gateway: Gateway { v4: GATEWAY_V4, v6: GATEWAY_V6 },
        recorder,
        sync,
        durability: prepared.request.profile.durability,
        bodies: bodies.map(|file| -> Box<dyn BodyRecorder> { Box::new(file) }),
        prices,
        model_hosts: ModelHosts::new(prepared.request.profile.model_hosts.clone()),
        spend: prepared.spend.clone(),
        watched: prepared.request.cost_title,
        line: Some(control.try_clone().map_err(SessionError::preparing("keep the line to the session"))?),
        shutdown,
        quiet,
        resolver,
        rest: lie_down,
    })
}

/// What conditions can ask about.
fn facts(prepared: &Prepared) -> SessionFacts {
    let request = &prepared.request;
    SessionFacts {
        user: prepared.user.clone(),
        profile: request.profile.name.clone(),
        name: request.name.clone().unwrap_or_default(),
        team: request.team.clone().unwrap_or_default(),
        project: request.project.clone().unwrap_or_default(),
        workspace: prepared.plan.directory.display().to_string(),
    }
}

/// Leaves the group that the terminal's signals go to, and drops what was inherited by accident. Until it serves, it dies
/// with the session.
fn detach(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    rustix::process::setpgid(None, None)?;
    sys::close_inherited_except(keep)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}

fn load_secrets(prepared: &Prepared, journal: &mut Journal) -> Result<Vec<(Binding, Secret)>, SessionError> {
    let mut loaded = Vec::new();
    let mut vault = prepared.request.caller.secrets().map_err(SessionError::ProxyFailed)?;
    for (spec, binding) in &prepared.secrets {
        match vault.take(spec, &prepared.home) {
            Ok(secret) => loaded.push((binding.clone(), secret)),
            Err(problem) => return Err(SessionError::ProxyFailed(format!("secret `{}`: {problem}", spec.name))),
        }
    }
    for spec in &prepared.missing {
        let from = spec.from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        journal.record(clock::now(), &Event::SecretMissing { secret: spec.name.clone(), from })?;
    }
    for (secret, why) in &prepared.forbidden {
        journal.record(clock::now(), &Event::SecretMissing { secret: secret.clone(), from: why.clone() })?;
    }
    Ok(loaded)
}

fn receive_listeners(prepared: &Prepared, control: &OwnedFd) -> Result<proxy::Listeners, SessionError> {
    let message = wire::receive::<Serve>(control.as_fd()).map_err(SessionError::preparing("receive the listeners"))?;
    let Some((Serve { tcp, dns, published, ssh, secret_files }, mut descriptors)) = message else {
        return Err(SessionError::ProxyFailed("the session ended".to_owned()));
    };
    let notices = secret_files.and_then(|numbers| Some((descriptors.pop()?, numbers)));
    let secret_files =
        notices.map(|(notices, numbers)| prepared.shown.told(notices, &numbers, &prepared.plan.directory));
    let ssh = if ssh { descriptors.pop().map(Into::into) } else { None };
    let mut descriptors = descriptors.into_iter();
    let tcp = descriptors.by_ref().take(tcp).map(Into::into).collect();
    let dns = descriptors.by_ref().take(dns).map(Into::into).collect();
    let listeners: Vec<_> = published.into_iter().zip(&mut descriptors).map(|(port, fd)| (fd.into(), port)).collect();
    let published = match listeners.is_empty() {
        true => None,
        false => descriptors.next().map(|dialer| proxy::PublishedPorts { listeners, dialer }),
    };
    Ok(proxy::Listeners { tcp, dns, handed: descriptors.collect(), published, ssh, secret_files })
}
