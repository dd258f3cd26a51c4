//! The server itself: lets visitors in, in a fair order, and gives each a process of its own. It reads one short message of
//! each and nothing more.

use super::error::ServerError;
use super::message::{Hello, Kind, Word};
use super::peer::Peer;
use super::place::Settings;
use super::queue::{Queue, Seats};
use super::roll::Roll;
use crate::supervisor::{Share, make_room_for_shares, wire};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Visitors who greet or wait, of all users. With them the server stays within the 1024 descriptors that processes have.
const VISITORS_MAX: usize = 512;
/// Visitors of one user who have not said what they want.
const GREETING_EACH_MAX: usize = 64;
/// Visits of one user to the records at a time.
const RECORDS_EACH_MAX: usize = 8;
/// How long a visitor may take to say what they want.
const GREETING: Duration = Duration::from_secs(10);

/// The name of the verb that serves one visitor, whose connection is its standard input.
pub(super) const SERVE_VERB: &str = "serve-visitor";

/// Somebody who has no process yet.
struct Visitor {
    connection: OwnedFd,
    uid: u32,
    /// Until when they may greet; none for who did and waits.
    greeting_until: Option<Instant>,
    /// Whether they know that they wait.
    told: bool,
}

/// A process that serves a visitor.
struct Serving {
    pid: u32,
    uid: u32,
    kind: Kind,
    process: OwnedFd,
    /// None where an earlier server started it.
    child: Option<Child>,
}

struct Server<'a> {
    settings: &'a Settings,
    roll: Roll,
    queue: Queue<u64>,
    visitors: BTreeMap<u64, Visitor>,
    visits: u64,
    serving: Vec<Serving>,
}

/// Serves until SIGTERM or SIGINT. Sessions that run then go on.
///
/// # Errors
/// A [`ServerError`] when it cannot begin; later failures concern one visitor and are logged.
pub fn serve(
    settings: &Settings,
    seats: Seats,
    ready: impl FnOnce() -> Result<(), ServerError>,
) -> Result<(), ServerError> {
    if !rustix::process::geteuid().is_root() {
        return Err(ServerError::NotRoot);
    }
    let mut set = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT].into_iter().for_each(|signal| set.add(signal));
    set.thread_block().map_err(ServerError::calling("block signals"))?;
    let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
    let signals = signals.map_err(ServerError::calling("take signals over"))?;
    let door = settings.open()?;
    if let Err(error) = make_room_for_shares() {
        log(&format!("limits and equal shares may not be had: cannot divide the control group: {error}"));
    }
    let roll = Roll::new(settings.roll());
    let mut server =
        Server { settings, roll, queue: Queue::new(seats), visitors: BTreeMap::new(), visits: 0, serving: Vec::new() };
    server.adopt()?;
    ready()?;
    loop {
        let ready = server.wait(&door.listener, &signals)?;
        if ready.ended {
            return Ok(());
        }
        server.reap(&ready.gone);
        ready.spoke.iter().for_each(|visit| server.hear(*visit));
        server.forget_the_silent();
        if ready.arrived {
            server.welcome(&door.listener);
        }
        server.let_in();
    }
}

/// What `poll` found.
struct Ready {
    ended: bool,
    arrived: bool,
    spoke: Vec<u64>,
    gone: Vec<u32>,
}

impl Server<'_> {
    /// Counts the sessions that an earlier server left.
    fn adopt(&mut self) -> Result<(), ServerError> {
        for found in self.roll.adopt()? {
            self.queue.adopt(found.uid);
            let (pid, uid, process) = (found.pid, found.uid, found.process);
            self.serving.push(Serving { pid, uid, kind: Kind::Session, process, child: None });
        }
        Ok(())
    }

    fn wait(&self, listener: &OwnedFd, signals: &SignalFd) -> Result<Ready, ServerError> {
        // At its bound, the others wait in the kernel's line.
        let welcome = if self.visitors.len() < VISITORS_MAX { PollFlags::IN } else { PollFlags::empty() };
        let mut waits = vec![PollFd::new(signals, PollFlags::IN), PollFd::new(listener, welcome)];
        for visitor in self.visitors.values() {
            // Who waits has nothing to say that is for the server; that they went away is told all the same.
            let wanted = if visitor.greeting_until.is_some() { PollFlags::IN } else { PollFlags::empty() };
            waits.push(PollFd::new(&visitor.connection, wanted));
        }
        waits.extend(self.serving.iter().map(|serving| PollFd::new(&serving.process, PollFlags::IN)));
        let until = self.visitors.values().filter_map(|visitor| visitor.greeting_until).min();
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
        match poll(&mut waits, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ServerError::calling("wait for visitors")(error)),
        }
        let mut happened = waits.iter().map(|wait| !wait.revents().is_empty());
        let (ended, arrived) = (happened.next().unwrap_or(false), happened.next().unwrap_or(false));
        let spoke = self.visitors.keys().zip(happened.by_ref()).filter(|(_, happened)| *happened);
        let spoke = spoke.map(|(visit, _)| *visit).collect();
        let gone = self.serving.iter().zip(happened).filter(|(_, happened)| *happened);
        Ok(Ready { ended, arrived, spoke, gone: gone.map(|(serving, _)| serving.pid).collect() })
    }

    /// Takes in everybody who stands at the door.
    fn welcome(&mut self, listener: &OwnedFd) {
        while self.visitors.len() < VISITORS_MAX {
            let connection = match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(connection) => connection,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(error) => return log(&format!("cannot let a visitor in: {error}")),
            };
            match Peer::of(connection.as_fd()) {
                Ok(peer) => self.greet(connection, peer.uid),
                Err(ServerError::Refused(why)) => tell(&connection, &Word::Refused(why)),
                Err(error) => log(&error.to_string()),
            }
        }
    }

    fn greet(&mut self, connection: OwnedFd, uid: u32) {
        let greeting = |visitor: &&Visitor| visitor.uid == uid && visitor.greeting_until.is_some();
        if self.visitors.values().filter(greeting).count() >= GREETING_EACH_MAX {
            return tell(
                &connection,
                &Word::Refused("too many of your processes are at the door: try again".to_owned()),
            );
        }
        self.visits += 1;
        let greeting_until = Some(Instant::now() + GREETING);
        self.visitors.insert(self.visits, Visitor { connection, uid, greeting_until, told: false });
    }

    /// Reads what a visitor wants, or finds that they went away.
    fn hear(&mut self, visit: u64) {
        let Some(mut visitor) = self.visitors.remove(&visit) else { return };
        if visitor.greeting_until.take().is_none() {
            return self.queue.forget(visitor.uid, &visit);
        }
        // A message that is none is answered like none.
        let Ok(Some((hello, _))) = wire::receive::<Hello>(visitor.connection.as_fd()) else { return };
        let own = env!("CARGO_PKG_VERSION");
        if hello.version != own {
            let why =
                format!("it is omni {own}, and you run {}: ask who runs the machine to restart it", hello.version);
            return tell(&visitor.connection, &Word::Refused(why));
        }
        match hello.kind {
            Kind::Session => self.line_up(visit, visitor),
            Kind::Records => self.show_records(visitor),
        }
    }

    fn line_up(&mut self, visit: u64, visitor: Visitor) {
        let Seats { waiting, .. } = self.queue.seats();
        let own = self.queue.running_of(visitor.uid);
        if !self.queue.arrive(visitor.uid, visit) {
            let why =
                format!("{own} of your sessions run and {waiting} wait, which is as many as may: try again later");
            return tell(&visitor.connection, &Word::Refused(why));
        }
        self.visitors.insert(visit, visitor);
    }

    fn show_records(&mut self, visitor: Visitor) {
        let own = |serving: &&Serving| serving.kind == Kind::Records && serving.uid == visitor.uid;
        if self.serving.iter().filter(own).count() >= RECORDS_EACH_MAX {
            let why = "too many of your processes read the records: try again".to_owned();
            return tell(&visitor.connection, &Word::Refused(why));
        }
        self.start(visitor, Kind::Records);
    }

    fn forget_the_silent(&mut self) {
        let now = Instant::now();
        self.visitors.retain(|_, visitor| visitor.greeting_until.is_none_or(|until| now < until));
    }

    /// Gives a process to everybody whose turn it is.
    fn let_in(&mut self) {
        while let Some(visit) = self.queue.next() {
            if let Some(visitor) = self.visitors.remove(&visit) {
                self.start(visitor, Kind::Session);
            }
        }
        self.tell_who_waits();
    }

    /// Says why to everybody who waits and does not know it.
    fn tell_who_waits(&mut self) {
        let Seats { all, each, .. } = self.queue.seats();
        let queue = &self.queue;
        let waiting = self.visitors.values_mut().filter(|visitor| visitor.greeting_until.is_none() && !visitor.told);
        for visitor in waiting {
            visitor.told = true;
            let own = queue.running_of(visitor.uid);
            let why = match own >= each {
                true => format!("{own} of your sessions run, which is as many as a user may have at a time"),
                false => format!("{all} sessions run, which is as many as this machine may have at a time"),
            };
            tell(&visitor.connection, &Word::Waiting(why));
        }
    }

    fn start(&mut self, visitor: Visitor, kind: Kind) {
        let uid = visitor.uid;
        let started = spawn(self.settings, visitor.connection, kind).and_then(|child| {
            let pid = child.id();
            let found = Pid::from_raw(pid.cast_signed()).ok_or_else(|| io::Error::other("no process id"))?;
            Ok(Serving { pid, uid, kind, process: pidfd_open(found, PidfdFlags::empty())?, child: Some(child) })
        });
        match started {
            Ok(serving) => {
                if kind == Kind::Session
                    && let Err(error) = self.roll.enter(serving.pid, uid)
                {
                    log(&format!("a server that follows will not count a session: {error}"));
                }
                self.serving.push(serving);
            }
            Err(error) => {
                log(&format!("cannot serve a visitor: {error}"));
                if kind == Kind::Session {
                    self.queue.leave(uid);
                }
            }
        }
    }

    /// Counts the ends of processes.
    fn reap(&mut self, gone: &[u32]) {
        let (over, serving): (Vec<Serving>, Vec<Serving>) =
            std::mem::take(&mut self.serving).into_iter().partition(|serving| gone.contains(&serving.pid));
        self.serving = serving;
        for mut over in over {
            if let Some(child) = &mut over.child {
                // It ended, so that this waits for nothing; how it ended was told to the visitor.
                let _ = child.wait();
            }
            if over.kind == Kind::Session {
                self.roll.strike(over.pid);
                self.queue.leave(over.uid);
                if self.queue.running_of(over.uid) == 0 {
                    Share::of(over.uid).remove();
                }
            }
        }
    }
}

/// Starts this very program anew, so that the process knows nothing of other visitors.
fn spawn(settings: &Settings, connection: OwnedFd, kind: Kind) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("omni").arg(SERVE_VERB);
    command.arg("--config").arg(&settings.configuration).arg("--home").arg(&settings.home);
    if kind == Kind::Records {
        command.arg("--records");
    }
    command.stdin(Stdio::from(connection)).stdout(Stdio::null()).spawn()
}

/// Says something to a visitor. When they are gone, nobody has to know.
pub(super) fn tell(connection: &OwnedFd, word: &Word) {
    let _ = wire::send(connection.as_fd(), word, &[]);
}

/// Writes a line for whoever runs the machine.
pub(super) fn log(what: &str) {
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("omni: {what}\n"));
}
