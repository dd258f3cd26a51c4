//! `omni exec`: run a harness in a sandbox.

mod learn;

use self::learn::Learner;
pub(super) use self::learn::learn_target;
use super::limit_flags::LimitFlags;
use super::money_flags::MoneyFlags;
use super::profile::{self, Found};
use super::secret::unlock_for;
use super::server::{Route, exec_through};
use super::sources::Sources;
use crate::model::{ExitStatus, PublishedPort, Tier};
use crate::policy::{
    Effect, Profile, SecretSpec, SshAccess, SshHost, WorkspaceMode, WrittenRule, parse_duration, without_dots,
};
use crate::proxy::ConnectTo;
use crate::server::{Peer, ServerError};
use crate::session::{self, Asking, Caller, Outcome, Prepared, ProgramError, SessionError, SessionRequest, overlay};
use crate::store::Home;
use crate::supervisor::{Access, Mount};
use crate::sys;
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code when the program was not found.
const EXIT_NOT_FOUND: u8 = 127;
/// Exit code when the program is none.
const EXIT_NOT_EXECUTABLE: u8 = 126;
/// How long to wait for whoever reads what omni says.
const TELL_MAX: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// What to run, and within what bounds.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  omni exec -- claude-code -p 'Fix the failing test'\n  \
    omni exec --allow 'GET example.com/**' -- curl https://example.com/\n  omni exec --dry-run -- codex")]
pub struct Args {
    /// A profile of your own or a shipped one, or a file. Default: the one the command's name stands for, else `default`.
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// The directory to work in. Default: here.
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// How the workspace is given: `direct`, or `overlay`.
    #[arg(long, value_name = "MODE")]
    fs: Option<FsMode>,
    /// Forbid changing the workspace.
    #[arg(long)]
    ro: bool,
    /// Show a further place of the host, read-write unless it ends in `:ro` (repeatable).
    #[arg(long, value_name = "SRC[:DST][:ro]")]
    mount: Vec<String>,
    /// Allow requests, such as 'GET,POST api.example.com/v1/**' (repeatable).
    #[arg(long, value_name = "RULE")]
    allow: Vec<String>,
    /// Refuse requests, whatever else allows them (repeatable).
    #[arg(long, value_name = "RULE")]
    deny: Vec<String>,
    /// Want a person's answer to requests (repeatable).
    #[arg(long, value_name = "RULE")]
    ask: Vec<String>,
    /// Limit what is allowed, as in `* *:* rate=60/min upload=10MiB` (repeatable).
    #[arg(long, value_name = "RULE")]
    limit: Vec<String>,
    /// A policy file (repeatable).
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Set an environment variable inside, or pass omni's own on (repeatable).
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Use a secret that `omni secret` keeps, or one of a known vendor's (repeatable).
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
    /// Let it log in to this host with SSH, by the keys of your own agent (repeatable).
    #[arg(long, value_name = "HOST[:PORT]")]
    ssh: Vec<String>,
    /// Send what is meant for the first host and port to the second; the name checked stays the first (repeatable).
    #[arg(long, value_name = "HOST1:PORT1:HOST2:PORT2")]
    connect_to: Vec<ConnectTo>,
    /// Listen on the host's loopback, or at this address of the host's, for a port of the sandbox (repeatable).
    #[arg(long, value_name = "[[ADDRESS:]HOST_PORT:]PORT")]
    publish: Vec<PublishedPort>,
    /// Further roots, in PEM, for verifying the servers outside.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
    /// End the session after this long, such as 90s, 10m or 2h.
    #[arg(long, value_name = "DUR", value_parser = duration)]
    timeout: Option<Duration>,
    /// The weakest tier of isolation to accept; `omni doctor` says which this machine reaches. Default: `full`.
    #[arg(long, value_name = "TIER")]
    minimum_isolation: Option<MinimumIsolation>,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    money: MoneyFlags,
    /// A name for the session.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Start without a terminal to hold: print the session's id, and go on. See `omni attach`.
    #[arg(long)]
    detach: bool,
    /// Record what the terminal shows, for `omni replay`. Keys are never recorded.
    #[arg(long)]
    record: bool,
    /// Record the bodies of requests and answers, without secrets, for `omni audit export --format har`.
    #[arg(long)]
    record_bodies: bool,
    /// Print the plan and the policy, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Say nothing oneself.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    learn: learn::Flags,
    #[command(flatten)]
    route: Route,
    /// The harness and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum MinimumIsolation {
    Full,
    Landlock,
}

impl From<MinimumIsolation> for Tier {
    fn from(written: MinimumIsolation) -> Self {
        match written {
            MinimumIsolation::Full => Self::Full,
            MinimumIsolation::Landlock => Self::Landlock,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FsMode {
    Direct,
    Overlay,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Runs a harness and exits as it did.
///
/// # Errors
/// Whatever kept the harness from starting.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(socket) = args.route.socket()? {
        return through(socket, args);
    }
    let manner = args.manner();
    let found = args.find_profile()?;
    let profile = found.profile.clone();
    let learner = args.learner(|| Learner::own(found))?;
    let prepared = session::prepare(request(args, profile, &Sources::Disk, Caller::default())?);
    if let (Ok(prepared), false) = (&prepared, manner.dry_run) {
        unlock_for(prepared.secrets.iter().map(|(spec, _)| spec));
    }
    carry_out(prepared, manner, learner, || Ok(Home::from_env()?))
}

/// How omni itself behaves.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    dry_run: bool,
    quiet: bool,
}

impl Args {
    pub(super) fn manner(&self) -> Manner {
        Manner { dry_run: self.dry_run, quiet: self.quiet || !std::io::stderr().is_terminal() }
    }

    /// Whether it shall say nothing, in so many words.
    pub(super) fn quiet(&self) -> bool {
        self.quiet
    }

    /// The profile that was asked for, else the command's.
    pub(super) fn find_profile(&self) -> anyhow::Result<Found> {
        match &self.profile {
            Some(wanted) => profile::find(wanted),
            None => profile::for_command(self.command.first().map_or("", String::as_str)),
        }
    }

    /// Whoever learns from the session, if anybody.
    fn learner(&self, make: impl FnOnce() -> Learner) -> anyhow::Result<Option<Learner>> {
        // What was learned is told at the end, when nobody is there.
        anyhow::ensure!(
            !(self.detach && self.learn.is_wanted()),
            "`--learn` tells at the end, and `--detach` leaves nobody to tell"
        );
        Ok(self.learn.is_wanted().then(|| make().writing_to(&self.learn)))
    }

    /// The same for a user of the machine's server, with what they sent of their profile.
    pub(super) fn learner_of(
        &self,
        profile: &Profile,
        text: String,
        file: Option<(String, bool)>,
        peer: &Peer,
    ) -> anyhow::Result<Option<Learner>> {
        self.learner(|| Learner::of(profile.clone(), text, file, peer.clone()))
    }

    /// The files that it names besides, likewise.
    pub(super) fn files(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut files = Sources::gather(self.policy.iter().chain(&self.upstream_ca))?;
        for name in &self.secret {
            files.insert(Sources::of_secret(name), Sources::Disk.secret(name)?);
        }
        Ok(files)
    }
}

/// Has the machine's server do it, and exits as it says.
fn through(socket: PathBuf, args: Args) -> anyhow::Result<ExitCode> {
    match exec_through(socket, args)? {
        Ok(status) => Ok(exit_as(status)),
        Err(error @ ServerError::CalledOff(signal)) => {
            tell(format_args!("{error}"));
            Ok(exit_as(ExitStatus::Signal(signal as i32)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Runs what was prepared and exits as it did. The records are opened only where something is run.
pub(super) fn carry_out(
    prepared: Result<Prepared, SessionError>,
    Manner { dry_run, quiet }: Manner,
    mut learner: Option<Learner>,
    records: impl FnOnce() -> anyhow::Result<Home>,
) -> anyhow::Result<ExitCode> {
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(SessionError::Program(error)) => return Ok(no_program(&error)),
        Err(error) => return Err(error.into()),
    };
    if dry_run {
        print_plan(&prepared)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(learner) = &mut learner {
        learner.check(&prepared)?;
    }
    let home = records()?;
    if !quiet {
        tell(format_args!("{}", banner(&prepared)));
    }
    if prepared.request.detached {
        session::run_detached(&prepared, &home)?;
        super::listing::emit(&format!("{}\n", prepared.session))?;
        return Ok(ExitCode::SUCCESS);
    }
    let id = &prepared.session;
    let farewell = || tell(format_args!("left session {id}, which goes on; omni attach {id}, or omni stop {id}"));
    // What was learned is told to whoever is there at the end.
    let outcome = match session::run(&prepared, &home, learner.is_none().then_some(&farewell as &dyn Fn())) {
        Err(error @ SessionError::CalledOff(signal)) => {
            tell(format_args!("{error}"));
            return Ok(exit_as(ExitStatus::Signal(signal as i32)));
        }
        other => other?,
    };
    conclude(&outcome, &home, quiet);
    // The harness has ended as it has, whether something was learned from it or not.
    if let Some(Err(error)) = learner.map(|learner| learner.conclude(&prepared, &home)) {
        tell(format_args!("{error:#}"));
    }
    Ok(exit_as(outcome.exit))
}

/// Says something to the person outside. Nobody being left to hear it, on a closed pipe, changes nothing of what is done.
fn tell(what: std::fmt::Arguments<'_>) {
    let stderr = std::io::stderr();
    let mut waits = [PollFd::new(&stderr, PollFlags::OUT)];
    // A terminal that is stuck takes nothing more, and must not keep this process.
    if rustix::event::poll(&mut waits, Some(&TELL_MAX)) == Ok(0) {
        return;
    }
    let what = super::listing::printable_lines(&what.to_string());
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("omni: {what}\n"));
}

fn no_program(error: &ProgramError) -> ExitCode {
    tell(format_args!("{error}"));
    ExitCode::from(match error {
        ProgramError::NotFound { .. } | ProgramError::Missing(_) => EXIT_NOT_FOUND,
        ProgramError::NotExecutable(_) => EXIT_NOT_EXECUTABLE,
    })
}

/// What a command line asks for, with its profile.
pub(super) fn request(
    args: Args,
    mut profile: Profile,
    sources: &Sources,
    caller: Caller,
) -> anyhow::Result<SessionRequest> {
    match args.fs {
        Some(FsMode::Direct) => profile.filesystem.workspace = WorkspaceMode::Direct,
        Some(FsMode::Overlay) => profile.filesystem.workspace = WorkspaceMode::Overlay,
        None => {}
    }
    profile.terminal.record |= args.record;
    profile.record_bodies |= args.record_bodies;
    for name in &args.secret {
        profile.add_secret(SecretSpec::parse(&Sources::of_secret(name), &sources.secret(name)?)?)?;
    }
    for written in &args.ssh {
        let host = SshHost::parse(written).map_err(|error| anyhow::anyhow!("--ssh {written}: {error}"))?;
        let access = SshAccess::with(profile.ssh.take(), host);
        profile.egress.extend(access.rules().into_iter().last());
        profile.ssh = Some(access);
    }
    args.limits.apply(&mut profile.limits);
    let directory = std::env::current_dir().context("the current directory is gone: change into another")?;
    let rules =
        |texts: &[String], effect| texts.iter().map(|text| WrittenRule::alone(effect, text)).collect::<Vec<_>>();
    let policies = args.policy.iter().map(|path| Ok((path.display().to_string(), sources.text(path)?)));
    let workspace = directory.join(args.workspace.unwrap_or_default());
    let mounts = args.mount.iter().map(|text| mount(text, &directory, &workspace));
    let request = SessionRequest {
        profile,
        argv: args.command,
        read_only: args.ro,
        mounts: mounts.collect::<anyhow::Result<_>>()?,
        workspace,
        rules: [
            rules(&args.allow, Effect::Allow),
            rules(&args.deny, Effect::Deny),
            rules(&args.ask, Effect::Ask),
            rules(&args.limit, Effect::Limit),
        ]
        .concat(),
        policies: policies.collect::<anyhow::Result<_>>()?,
        environment: args.env.iter().map(|text| variable(text)).collect::<anyhow::Result<_>>()?,
        connect_to: args.connect_to,
        publish: args.publish,
        machine_proxy: None,
        upstream_ca: args.upstream_ca.as_deref().map(|path| sources.bytes(path)).transpose()?,
        timeout: args.timeout,
        name: args.name,
        detached: args.detach,
        minimum_isolation: args.minimum_isolation.map(Into::into),
        budget: None,
        team: None,
        project: None,
        cost_title: false,
        tags: Default::default(),
        await_approvals: false,
        asking: Asking::default(),
        caller,
    };
    Ok(args.money.apply(request))
}

/// `SRC[:DST][:ro]`, with relative sources meant from here. A source in the workspace that leads out of it does so by a
/// link, which an earlier session may have left there; then whoever means the place it leads to must name that.
fn mount(text: &str, directory: &Path, workspace: &Path) -> anyhow::Result<Mount> {
    let (places, access) = match text.strip_suffix(":ro") {
        Some(places) => (places, Access::ReadOnly),
        None => (text, Access::ReadWrite),
    };
    let (source, target) = places.split_once(':').unwrap_or((places, places));
    anyhow::ensure!(!source.is_empty() && !target.is_empty(), "`{text}` names no place: write --mount SRC[:DST][:ro]");
    let written = directory.join(source);
    let source = written.canonicalize().with_context(|| format!("cannot mount {}", written.display()))?;
    let real = workspace.canonicalize().unwrap_or_else(|_| workspace.to_owned());
    let named = without_dots(&written);
    let in_workspace = named.starts_with(&real) || named.starts_with(without_dots(workspace));
    anyhow::ensure!(
        !in_workspace || source.starts_with(&real),
        "cannot mount {}: it is a link that leads out of the workspace, to {}; name that place itself if you mean it",
        written.display(),
        source.display()
    );
    let target = if target == places { source.clone() } else { PathBuf::from(target) };
    anyhow::ensure!(target.is_absolute(), "cannot mount at {}: write an absolute path", target.display());
    Ok(Mount { source, target, access })
}

fn variable(text: &str) -> anyhow::Result<(String, Option<String>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    anyhow::ensure!(starts_well && name.bytes().all(plain), "`{name}` is no name of a variable: use --env NAME=VALUE");
    Ok((name.to_owned(), value))
}

fn print_plan(prepared: &Prepared) -> anyhow::Result<()> {
    let mut text = format!("{}policy {}\n", prepared.plan, prepared.policy.hash());
    for rule in prepared.policy.rules() {
        writeln!(text, "rule {rule}")?;
    }
    for port in &prepared.request.publish {
        writeln!(text, "publish {} for port {} of the sandbox", port.at, port.port)?;
    }
    for policy in &prepared.spend {
        writeln!(text, "{policy}")?;
    }
    for (what, pattern) in prepared.names.listed() {
        writeln!(text, "secret file {what} {pattern}")?;
    }
    for by in prepared.plan.gate().iter().flat_map(|gate| gate.protection.listed()) {
        writeln!(text, "protect {}: {}", by.rule, by.reason)?;
    }
    for (_, binding) in &prepared.secrets {
        for site in &binding.sites {
            writeln!(text, "secret {} in {site} alone", binding.secret)?;
        }
    }
    super::listing::emit(&text)
}

/// The one line before the harness has the terminal.
fn banner(prepared: &Prepared) -> String {
    let missing = prepared.missing.iter().map(|spec| {
        let from = spec.from.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
        match spec.sites.is_empty() {
            true => format!(", without {} ({from})", spec.name),
            false => format!(", without a key for {} ({from} has none)", spec.hosts()),
        }
    });
    let missing: String = missing.collect();
    let tier = match prepared.plan.tier {
        Tier::Full => String::new(),
        tier => format!(", isolated by the tier `{tier}` alone (docs/tiers.md says what that leaves open)"),
    };
    format!("session {}, profile {}{tier}{missing}", prepared.session, prepared.request.profile.name)
}

fn conclude(outcome: &Outcome, home: &Home, quiet: bool) {
    if let Some(message) = &outcome.message {
        tell(format_args!("{message}"));
    }
    if !quiet {
        // A layer that cannot be looked at now is told of by `omni diff`.
        // Those of another user are counted with that user's rights, by `omni show` and `omni diff`.
        let layer = overlay::Layer::find(home, &outcome.session);
        let changes = match overlay::count_waiting(layer, false) {
            Ok(Some(1)) => format!(", 1 change waits: omni diff {}", outcome.session),
            Ok(Some(count)) => format!(", {count} changes wait: omni diff {}", outcome.session),
            Ok(None) => String::new(),
            Err(_) => format!(", changes wait: omni diff {}", outcome.session),
        };
        tell(format_args!("{}{changes}; omni show {}", outcome.summary, outcome.session));
    }
}

/// Exits as the harness did: the same code, or death by the same signal.
pub(super) fn exit_as(status: ExitStatus) -> ExitCode {
    match status {
        ExitStatus::Code(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        ExitStatus::Signal(number) => {
            if let Ok(signal) = Signal::try_from(number) {
                die_by(signal);
            }
            // Signals that have no name, or do not kill, are told the way shells do.
            ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX))
        }
    }
}

fn die_by(signal: Signal) {
    // Each step can only fail for signals that cannot be caught anyway; the raise then works all the same. No core file:
    // this process has none to show.
    let _ = sys::set_file_size_of_core(0);
    let _ = sys::reset_signal(signal);
    let _ = SigSet::from(signal).thread_unblock();
    let _ = nix::sys::signal::raise(signal);
}
