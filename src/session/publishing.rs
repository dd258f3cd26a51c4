//! Ports of the sandbox that are published to the host: who may, the listeners outside, and the process that reaches inside.

use super::error::SessionError;
use super::prepare::SessionRequest;
use crate::model::{Event, Port, PublishedPort, Tier};
use crate::policy::{PolicyFile, Publishing};
use crate::supervisor::{Plan, PortDialer, Sandbox, reap, wire};
use crate::sys::{self, Forked, fork_single_threaded};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Signal;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

/// Most ports that one session publishes.
const PUBLISHED_MAX: usize = 16;
/// The first port that is nobody's privilege (ip(7), `ip_unprivileged_port_start`).
const FIRST_UNPRIVILEGED: u16 = 1024;

/// Whether what a session wants published may be.
///
/// # Errors
/// [`SessionError::Publish`] with who forbids it, or what is missing.
pub(super) fn check<'a>(
    request: &SessionRequest,
    tier: Tier,
    policies: impl Iterator<Item = (&'a String, &'a PolicyFile)>,
) -> Result<(), SessionError> {
    let Some(first) = request.publish.first() else { return Ok(()) };
    let refuse = |port: &PublishedPort, why: String| Err(SessionError::Publish { port: *port, why });
    if tier != Tier::Full {
        let why = format!("the tier `{tier}` has no network of its own, whose ports could be published");
        return refuse(first, why);
    }
    if request.publish.len() > PUBLISHED_MAX {
        return refuse(first, format!("a session publishes {PUBLISHED_MAX} ports at most"));
    }
    for (label, file) in policies {
        match file.publishing {
            Some(Publishing::None) => return refuse(first, format!("{label} lets nothing be published")),
            Some(Publishing::Loopback) => {
                if let Some(open) = request.publish.iter().find(|port| port.is_open_to_others()) {
                    return refuse(open, format!("{label} lets ports be published to this machine's loopback alone"));
                }
            }
            None => {}
        }
    }
    // The machine's server is root, and whoever it serves is not.
    let privileged = |port: &&PublishedPort| (1..FIRST_UNPRIVILEGED).contains(&port.at.port());
    match request.publish.iter().find(privileged) {
        Some(port) if request.caller.is_another() => {
            refuse(port, format!("ports below {FIRST_UNPRIVILEGED} are not given out by the machine's server"))
        }
        _ => Ok(()),
    }
}

/// Listens outside.
///
/// # Errors
/// [`SessionError::Publish`] where that cannot be.
pub(super) fn listen(ports: &[PublishedPort]) -> Result<Vec<TcpListener>, SessionError> {
    let listen = |port: &PublishedPort| {
        TcpListener::bind(port.at).map_err(|error| SessionError::Publish {
            port: *port,
            why: format!("{} cannot be listened on: {error}; name another with --publish HOST_PORT:PORT", port.at),
        })
    };
    ports.iter().map(listen).collect()
}

/// What goes to the proxy: the listeners, and the way inside.
#[derive(Debug)]
pub(super) struct Published {
    /// Each with the port inside.
    pub listeners: Vec<(TcpListener, Port)>,
    /// Where sockets inside are asked for.
    pub line: OwnedFd,
    /// Who makes them.
    pub dialer: Dialer,
}

impl Published {
    /// Opens the way inside, where something is published. The sandbox stands, and was not let go.
    pub(super) fn open(
        plan: &Plan,
        sandbox: &Sandbox,
        ports: &[PublishedPort],
        listeners: Vec<TcpListener>,
    ) -> Result<Option<Self>, SessionError> {
        if ports.is_empty() {
            return Ok(None);
        }
        let (dialer, line) = Dialer::start(plan, sandbox, ports)?;
        let listeners = listeners.into_iter().zip(ports.iter().map(|port| port.port)).collect();
        Ok(Some(Self { listeners, line, dialer }))
    }

    /// What the record says of them.
    pub(super) fn told(&self) -> Result<Vec<Event>, SessionError> {
        let told = self.listeners.iter().map(|(listener, port)| {
            let address =
                listener.local_addr().map_err(SessionError::preparing("look where a port is listened for"))?;
            Ok(Event::PortPublished { address, port: *port })
        });
        told.collect()
    }
}

/// The process that reaches inside. It ends with the proxy, which asks it.
#[derive(Debug)]
pub(super) struct Dialer {
    pidfd: OwnedFd,
}

impl Dialer {
    /// Forks it. What comes with it is for whoever asks.
    fn start(plan: &Plan, sandbox: &Sandbox, ports: &[PublishedPort]) -> Result<(Self, OwnedFd), SessionError> {
        let failed = || SessionError::preparing("enter the sandbox's network");
        let pair = || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair().map_err(SessionError::preparing("make a socket pair"))?;
        match fork_single_threaded().map_err(failed())? {
            Forked::Parent { pidfd, .. } => {
                drop(theirs);
                let dialer = Self { pidfd };
                // Before the go, after which process 1 lets nobody in.
                match wire::receive::<Result<(), String>>(ours.as_fd()).map_err(failed())? {
                    Some((Ok(()), _)) => Ok((dialer, ours)),
                    Some((Err(why), _)) => Err(failed()(io::Error::other(why))),
                    None => Err(failed()(io::Error::other("the process that does it ended"))),
                }
            }
            Forked::Child => {
                drop(ours);
                let ports: Vec<u16> = ports.iter().map(|PublishedPort { port: Port(port), .. }| *port).collect();
                std::process::exit(i32::from(live(plan, sandbox, &theirs, &ports).is_err()));
            }
        }
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill, only to reap.
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        reap(self.pidfd.as_fd());
    }
}

fn live(plan: &Plan, sandbox: &Sandbox, line: &OwnedFd, ports: &[u16]) -> io::Result<()> {
    sys::close_inherited_except(&[sandbox.init(), line.as_fd()])?;
    // A signal from the terminal is meant for the harness and the session.
    rustix::process::setsid()?;
    let entered = PortDialer::enter(sandbox.init(), &plan.identity, line.as_fd(), ports);
    let said = entered.as_ref().map(drop).map_err(ToString::to_string);
    wire::send(line.as_fd(), &said, &[])?;
    entered?.answer()
}
