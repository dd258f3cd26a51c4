//! The order of things, from nothing to a finished session.

use super::audience::Audience;
use super::cover_watch::{CoverWatch, LateHidden};
use super::desk::{Desk, settle_rest};
use super::disk_watch::DiskWatch;
use super::error::SessionError;
use super::finish::{self, Outcome};
use super::late_look::{LateLook, Looked};
use super::leave::Company;
use super::overlay::{create_layer, remove_if_empty};
use super::prepare::Prepared;
use super::proxy_process::ProxyProcess;
use super::publishing::{self, Published};
use super::recording::{Head, Recording};
use super::relay::{Ended, Relay};
use super::screen::Screen;
use super::signals::Signals;
use super::terminal::UserTerminal;
use super::{clock, shipped, terminal, tier};
use crate::model::{Durability, EndReason, Event, ExitStatus, ReachedLimit, Writer};
use crate::store::{Home, Journal, Recorder, StoreAddress, StoreError, Summary, open_store, process_start_ticks};
use crate::supervisor::{self, Group, LockdownStep, PlaceLocks, Sandbox, Standing};
use rustix::fs::MemfdFlags;
use std::os::fd::{AsFd, OwnedFd};

/// What a look that fails is told of as.
const LOOK: &str = "look for files that look like secrets";

/// Runs a prepared session to its end. Must be called while the process has one thread. Whoever sits at the terminal can
/// leave it running where there is a `farewell`, which is said then; this process ends, and another goes on.
///
/// # Errors
/// A [`SessionError`] when the harness was not started, or when its end could not be recorded.
pub fn run(prepared: &Prepared, home: &Home, farewell: Option<&dyn Fn()>) -> Result<Outcome, SessionError> {
    run_with(prepared, home, Company::User(farewell))
}

/// As [`run`], in this company.
pub(super) fn run_with(prepared: &Prepared, home: &Home, company: Company<'_>) -> Result<Outcome, SessionError> {
    keep_apart(prepared, home)?;
    shipped::demand(prepared.request.profile.require_shipping, home)?;
    refuse_directories()?;
    let signals = Signals::take().map_err(SessionError::preparing("take signals over"))?;
    if home.store().is_some() {
        // Before anything is forked, which would share the connection: what is recorded must have where to go.
        drop(open_store(home)?);
    }
    let durability = prepared.request.profile.durability;
    let mut journal = Journal::create(home, &prepared.session, Writer::Session)?.held_to(durability)?;
    let lived = live(prepared, home, &signals, &mut journal, company);
    // A layer with nothing in it that cannot be removed now is shown as empty later.
    let _ = remove_if_empty(home, &prepared.session);
    let Lived { ended, reached, mut screen, mut sandbox, mut proxy } = match lived {
        Ok(lived) => lived,
        Err(error) => {
            let exit = match error {
                SessionError::CalledOff(signal) => ExitStatus::Signal(signal as i32),
                _ => ExitStatus::Code(finish::EXIT_OMNI_FAILED),
            };
            // What kept the harness from starting is what a person must be told, also when that cannot be recorded; the
            // journal can be folded later.
            let recorded = journal.record(clock::now(), &Event::SessionEnded { reason: EndReason::NotStarted, exit });
            let _ = recorded.and_then(|()| fold(prepared, home));
            return Err(tier::explain(error, &prepared.demand, &prepared.plan.directory));
        }
    };
    let program = prepared.plan.program.display().to_string();
    let (exit, message) = finish::conclude(&ended, &reached, &program);
    journal.record(clock::now(), &Event::SessionEnded { reason: ended.reason, exit })?;
    // Whoever hears of the end finds it in the record.
    screen.dismiss(ended.status);
    // The harness has ended and its journals are written: a database that cannot take them in now changes neither.
    let folded = match can_be_folded_later(prepared, home, &proxy) {
        true => Ok(Summary::new(prepared.session.clone())),
        false => fold(prepared, home).and_then(|summary| settle_rest(prepared, home).map(|()| summary)),
    };
    sandbox.end();
    proxy.stop();
    let (summary, message) = match folded {
        Ok(summary) => (finish::summarise(&summary, &reached), message),
        Err(error) => {
            (String::new(), Some(message.map_or_else(|| error.to_string(), |first| format!("{first}; {error}"))))
        }
    };
    Ok(Outcome { session: prepared.session.clone(), reason: ended.reason, exit, summary, message })
}

/// The records stay out of the harness's reach: it could rewrite what is said about it, or read about others.
fn keep_apart(prepared: &Prepared, home: &Home) -> Result<(), SessionError> {
    let records = home.path().canonicalize().map_err(SessionError::preparing("find omni's own directory"))?;
    let socket = home.store().and_then(StoreAddress::socket_directory).and_then(|path| path.canonicalize().ok());
    let mut shown = prepared.plan.steps.iter().filter_map(|step| Some(step.shown()?.source.clone()));
    let enclosed = prepared.plan.lockdown.iter().filter_map(|step| match step {
        LockdownStep::Enclose { read, write, .. } => Some(read.iter().chain(write).cloned()),
        _ => None,
    });
    let shown = shown.by_ref().chain(enclosed.flatten()).find(|source| {
        let meets = |kept: &std::path::PathBuf| kept.starts_with(source) || source.starts_with(kept);
        meets(&records) || socket.as_ref().is_some_and(meets)
    });
    let Some(shown) = shown else { return Ok(()) };
    match socket.filter(|socket| socket.starts_with(&shown) || shown.starts_with(socket)) {
        Some(socket) => Err(SessionError::StoreSocket { socket, shown }),
        None => Err(SessionError::Records { records, shown }),
    }
}

/// An open directory is a way to everything below it, whatever the sandbox shows.
fn refuse_directories() -> Result<(), SessionError> {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for (name, stream) in [("stdin", stdin.as_fd()), ("stdout", stdout.as_fd()), ("stderr", stderr.as_fd())] {
        // A stream that is closed cannot be looked at, and leads nowhere.
        let kind = rustix::fs::fstat(stream).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
        if kind == Ok(rustix::fs::FileType::Directory) {
            return Err(SessionError::DirectoryStream(name));
        }
    }
    Ok(())
}

/// What stands when the harness waits for the go.
struct Started {
    standing: Standing,
    proxy: ProxyProcess,
    audience: Audience,
    late: Option<LateLook>,
}

/// Builds proxy and sandbox side by side; the harness waits for the go.
fn start(prepared: &Prepared, home: &Home, signals: &Signals, journal: &mut Journal) -> Result<Started, SessionError> {
    let listeners = publishing::listen(&prepared.request.publish)?;
    // While this is the only process of the session, since it may have to move to another group first.
    let group = Group::make(&prepared.plan.limits)?;
    let proxy_journal = Journal::create(home, &prepared.session, Writer::Proxy)?;
    if prepared.request.profile.durability == Durability::Fsync {
        proxy_journal.anchor()?;
    }
    let certificates = rustix::fs::memfd_create("certificates", MemfdFlags::CLOEXEC)
        .map_err(SessionError::preparing("make a file in memory"))?;
    create_layer(&prepared.plan)?;
    let size = terminal::size().or(prepared.request.detached.then_some(terminal::DEFAULT_SIZE));
    // The sandbox first: it has the most to do, and does it while the proxy is made.
    let path = home.place_locks();
    let places = PlaceLocks::open(&prepared.plan, &path).map_err(|error| SessionError::PlaceLocks { path, error })?;
    let mut building = supervisor::spawn(&prepared.plan, &certificates, size, group, places)?;
    let mut proxy = ProxyProcess::start(prepared, home, proxy_journal, &certificates)?;
    building.furnish(&prepared.plan)?;
    let late = LateLook::make(prepared, building.init()).map_err(SessionError::preparing(LOOK))?;
    // There is time for it while the others work.
    let audience =
        Audience::open(&home.session(&prepared.session)).map_err(SessionError::preparing("make the control socket"))?;
    let started = started(prepared);
    proxy.certificates(signals)?;
    building.bundle_is_ready()?;
    signals.wait_for(building.as_fd())?;
    let mut standing = building.finish()?;
    let published = Published::open(&prepared.plan, &standing.sandbox, &prepared.request.publish, listeners)?;
    let told = published.as_ref().map(Published::told).transpose()?;
    let watch = prepared.shown.watch(standing.sandbox.init());
    let watch = watch.map_err(SessionError::preparing("watch the files that look like secrets"))?;
    proxy.serve(std::mem::take(&mut standing.listeners), published, watch, signals)?;
    journal.record(clock::now(), &started)?;
    told.iter().flatten().try_for_each(|event| journal.record(clock::now(), event))?;
    record_hidden(prepared, journal)?;
    Ok(Started { standing, proxy, audience, late })
}

/// What the record says of the start.
fn started(prepared: &Prepared) -> Event {
    let request = &prepared.request;
    let pid = std::process::id();
    Event::SessionStarted {
        session: prepared.session.clone(),
        name: request.name.clone(),
        user: prepared.user.clone(),
        team: request.team.clone(),
        project: request.project.clone(),
        tags: request.tags.clone(),
        profile: request.profile.name.clone(),
        argv: prepared.plan.argv.clone(),
        workspace: prepared.plan.directory.display().to_string(),
        policy_hash: prepared.policy.hash(),
        isolation: tier::isolation(&prepared.plan),
        omni_version: env!("CARGO_PKG_VERSION").to_owned(),
        pid,
        pid_started_ticks: process_start_ticks(pid).unwrap_or_default(),
    }
}

/// What the harness was not shown, or might have been and was not looked at.
fn record_hidden(prepared: &Prepared, journal: &mut Journal) -> Result<(), SessionError> {
    let (count, paths) = prepared.hidden.told(&prepared.plan.directory);
    let incomplete = prepared.hidden.incomplete;
    if count == 0 && !incomplete {
        return Ok(());
    }
    Ok(journal.record(clock::now(), &Event::SecretFilesHidden { count, paths, incomplete })?)
}

/// Looks for what the look before the start had no time for. The harness waits for it where the profile says so, and where
/// it may make mount namespaces of its own, in which what is covered later would stay visible. What it found while it was
/// waited for is to be watched.
fn look_on(
    prepared: &Prepared,
    late: Option<LateLook>,
    signals: &Signals,
    journal: &mut Journal,
) -> Result<(Option<LateLook>, Vec<LateHidden>), SessionError> {
    if let Some(look) = &late {
        look.enter().map_err(SessionError::preparing(LOOK))?;
    }
    let profile = &prepared.request.profile;
    let waits = profile.filesystem.secret_files.wait || profile.nested_sandboxes;
    match late {
        Some(look) if waits => {
            let mut found = Vec::new();
            loop {
                signals.wait_for(look.as_fd())?;
                match look.hear() {
                    Looked::Hidden(hidden) => found.push(hidden),
                    Looked::Over(event) => {
                        journal.record(clock::now(), &event)?;
                        return Ok((None, found));
                    }
                }
            }
        }
        late => Ok((late, Vec::new())),
    }
}

/// Watches what is hidden, `found` included.
fn watch(prepared: &Prepared, sandbox: &Sandbox, found: Vec<LateHidden>) -> Result<Option<CoverWatch>, SessionError> {
    let (plan, nested) = (&prepared.plan, prepared.request.profile.nested_sandboxes);
    let mut covers = CoverWatch::begin(plan, sandbox.init(), nested, prepared.hidden.incomplete)
        .map_err(SessionError::preparing("watch what is hidden"))?;
    for hidden in found {
        if let Some(covers) = &mut covers {
            covers.add(hidden)?;
        }
    }
    Ok(covers)
}

/// What is left of a session when its harness has ended and the proxy has settled.
struct Lived {
    ended: Ended,
    /// The limits that it reached.
    reached: Vec<ReachedLimit>,
    /// Where others may wait for the end.
    screen: Screen,
    /// What the kernel is taking apart.
    sandbox: Sandbox,
    proxy: ProxyProcess,
}

/// Lets the harness go and stays with it to its end.
fn live(
    prepared: &Prepared,
    home: &Home,
    signals: &Signals,
    journal: &mut Journal,
    company: Company<'_>,
) -> Result<Lived, SessionError> {
    let Started { standing, mut proxy, audience, late } = start(prepared, home, signals, journal)?;
    let Standing { mut sandbox, terminal, .. } = standing;
    let mut screen = screen(prepared, home, terminal, audience)?;
    let (late, found) = look_on(prepared, late, signals, journal)?;
    let covers = watch(prepared, &sandbox, found)?;
    let mut disk = DiskWatch::of(&prepared.plan).map_err(SessionError::preparing("watch the layer's room"))?;
    sandbox.go()?;
    let farewell = match company {
        Company::User(farewell) => farewell,
        Company::Starter(starter) => {
            starter.tell_started().map_err(SessionError::preparing("tell whoever started it"))?;
            None
        }
    };
    let duration = prepared.request.duration();
    let desk = Desk::new(prepared, home);
    let relay = Relay::new(&sandbox, &proxy, signals, &mut screen, journal, duration, desk);
    let ended = relay.watching(disk.as_mut()).leavable(farewell).looking_on(late, covers).run();
    proxy.begin_to_stop();
    sandbox.begin_to_end();
    if screen.is_there() {
        // What still lives could write for ever.
        sandbox.end();
    }
    screen.drain();
    proxy.settle();
    let ended = ended?;
    let mut reached = sandbox.reached();
    reached.extend(disk.and_then(|disk| disk.reached()));
    let ended = finish::blame(ended, &reached);
    if let Some(status) = ended.status {
        journal.record(clock::now(), &Event::HarnessExited { status })?;
    }
    for limit in &reached {
        journal.record(clock::now(), &Event::LimitReached(limit.clone()))?;
    }
    record_screen(&mut screen, &ended, journal)?;
    Ok(Lived { ended, reached, screen, sandbox, proxy })
}

/// The screen of a session that is about to start.
fn screen(
    prepared: &Prepared,
    home: &Home,
    master: Option<OwnedFd>,
    audience: Audience,
) -> Result<Screen, SessionError> {
    let request = &prepared.request;
    let user = match master {
        Some(_) if !request.detached => UserTerminal::standard(),
        _ => Ok(UserTerminal::none()),
    };
    let user = user.map_err(SessionError::preparing("open the terminal"))?;
    let recording = match request.profile.terminal.record && master.is_some() {
        true => Some(begin_recording(prepared, home, &user)?),
        false => None,
    };
    let screen = Screen::open(master, user, &request.profile.terminal, recording, Some(audience));
    screen.map_err(SessionError::preparing("take the terminal over"))
}

fn begin_recording(prepared: &Prepared, home: &Home, user: &UserTerminal) -> Result<Recording, StoreError> {
    let plan = &prepared.plan;
    let head = Head {
        size: user.size().unwrap_or(terminal::DEFAULT_SIZE),
        started: clock::now(),
        argv: &plan.argv,
        title: prepared.request.name.as_deref(),
        term: plan.environment.get("TERM").map(String::as_str),
    };
    Recording::create(home, &prepared.session, &head)
}

/// What the record says of the terminal.
fn record_screen(screen: &mut Screen, ended: &Ended, journal: &mut Journal) -> Result<(), StoreError> {
    let status = match ended.status {
        Some(ExitStatus::Code(code)) => code,
        Some(ExitStatus::Signal(signal)) => 128 + signal,
        None => finish::EXIT_OMNI_FAILED,
    };
    if let Some(reason) = screen.finish_recording(status) {
        journal.record(clock::now(), &Event::RecordingStopped { reason })?;
    }
    let refused = screen.refused();
    if !refused.is_empty() {
        journal.record(clock::now(), &Event::OutputFiltered { refused })?;
    }
    Ok(())
}

/// Whether the session's journals may wait until somebody asks for sessions: where nothing went out, nothing was spent, and no
/// other machine asks, nobody's sums miss them. Whoever asks takes in first what is new.
fn can_be_folded_later(prepared: &Prepared, home: &Home, proxy: &ProxyProcess) -> bool {
    home.store().is_none() && prepared.spend.is_empty() && proxy.was_quiet()
}

/// Folds the session's journals into the store. What cannot be folded now is picked up later: the journals are the truth.
fn fold(prepared: &Prepared, home: &Home) -> Result<Summary, StoreError> {
    let mut store = open_store(home)?;
    store.fold(&prepared.session)?;
    Ok(store.session(&prepared.session)?.0)
}
