//! `omni server --system`, the process that it gives each visitor, and visiting it.

use super::exec::learn_target;
use super::listing::Viewer;
use super::sources::Sources;
use super::{Records, Start, Verb, exec};
use crate::model::ExitStatus;
use crate::policy::Profile;
use crate::server::{
    self, CONFIGURATION, Call, HOME, Kind, Machine, Request, SOCKET, ServerError, Settings, Side, Visit,
};
use crate::session::{self, Caller, SentSecrets, SessionRequest};
use crate::store::Home;
use anyhow::{Context, bail};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// The environment variable that names the directory of the records.
const HOME_VARIABLE: &str = "OMNI_HOME";

/// Serve every user of this machine, with root's policies, secrets, records and limits
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni server --system\n\nThe machine's own files are /etc/omni/system.yaml, secrets.yaml \
    and policies/*.yaml; docs/shared-box.md tells what they hold."
)]
pub struct Args {
    /// Serve the users of this machine over a Unix socket
    #[arg(long, required_unless_present = "keep_group")]
    system: bool,
    /// Only keep the control group that the sessions of a server are in (dist/omni-sessions.service)
    #[arg(long, conflicts_with_all = ["system", "socket", "config", "home"])]
    keep_group: bool,
    /// The socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    socket: PathBuf,
    #[command(flatten)]
    places: Places,
}

/// Where root's things are.
#[derive(clap::Args)]
struct Places {
    /// The directory of the machine's own files
    #[arg(long, value_name = "DIR", default_value = CONFIGURATION)]
    config: PathBuf,
    /// The directory of the records [default: $OMNI_HOME, else /var/lib/omni]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
}

/// Serve one visitor, who is at the other end of standard input
#[derive(clap::Args)]
pub struct VisitorArgs {
    #[command(flatten)]
    places: Places,
    /// Show records instead of running a session
    #[arg(long)]
    pub(super) records: bool,
}

/// Whether to go through the machine's server.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(super) struct Route {
    /// Go through the machine's server
    #[arg(long, overrides_with = "no_system")]
    system: bool,
    /// Do without the machine's server, its policy and its secrets
    #[arg(long, overrides_with = "system")]
    no_system: bool,
}

impl Route {
    /// The socket to go to, if any.
    pub(super) fn socket(self) -> anyhow::Result<Option<PathBuf>> {
        let wanted = if self.system { Some(true) } else { self.no_system.then_some(false) };
        Ok(server::route(wanted)?)
    }
}

/// Serves.
///
/// # Errors
/// When the server cannot begin.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.keep_group {
        server::keep_group()?;
        return Ok(ExitCode::SUCCESS);
    }
    let home = home(args.places.home);
    let settings = Settings { socket: args.socket, configuration: args.places.config, home };
    let machine = Machine::read(&settings.configuration)?;
    Home::open(&settings.home)?;
    let socket = settings.socket.clone();
    server::serve(&settings, machine.seats(), || {
        eprintln!("omni: serving at {}", socket.display());
        server::tell_ready()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn home(named: Option<PathBuf>) -> PathBuf {
    let from_environment = || std::env::var_os(HOME_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    named.or_else(from_environment).unwrap_or_else(|| PathBuf::from(HOME))
}

/// Serves one visitor.
///
/// # Errors
/// Whatever kept their session from starting.
pub fn serve_visitor(args: VisitorArgs) -> anyhow::Result<ExitCode> {
    let connection = std::io::stdin().as_fd().try_clone_to_owned()?;
    let kind = if args.records { Kind::Records } else { Kind::Session };
    // Read anew for each visitor, so that what root changes counts from then on.
    let home = home(args.places.home);
    match server::receive(connection, kind) {
        Ok(Side::Front) => Ok(ExitCode::SUCCESS),
        Ok(Side::Session(visit)) if kind == Kind::Records => show_records(*visit, &home),
        Ok(Side::Session(visit)) => {
            let machine = Machine::read(&args.places.config)?;
            run_session(*visit, &machine, &home)
        }
        // The visitor was told.
        Err(error) => Err(error.into()),
    }
}

fn run_session(visit: Visit, machine: &Machine, home: &std::path::Path) -> anyhow::Result<ExitCode> {
    // Until this process ends, and with it the session, or whichever process goes on with it.
    let Visit { peer, request, secrets, life: _life } = visit;
    let Request { words, directory, environment, profile: (label, text), profile_file, files, secrets: names, .. } =
        request;
    let Verb::Start(Start::Exec(args)) = super::parse(words)? else { bail!("this visit is for sessions alone") };
    let manner = args.manner();
    let profile = Profile::parse(&label, &text)?;
    let learner = args.learner_of(&profile, text, profile_file, &peer)?;
    let records = std::path::absolute(home)?;
    let caller = Caller::other(environment, names, secrets, server::sent_secrets, records);
    let wanted = server::with_rights_of(&peer, || {
        rustix::process::chdir(&directory).with_context(|| format!("cannot enter {directory}"))?;
        exec::request(*args, profile, &Sources::Sent(files), caller)
    })?;
    let mut wanted: SessionRequest = wanted?;
    machine.govern(&mut wanted, &peer)?;
    let prepared = server::with_rights_of(&peer, || session::prepare(wanted))?;
    // Changing ids cleared it (prctl(2)): whatever ends the process in front of this one ends the session.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    exec::carry_out(prepared, manner, learner, || Ok(Home::open(home)?))
}

fn show_records(visit: Visit, home: &std::path::Path) -> anyhow::Result<ExitCode> {
    let Visit { peer, request, .. } = visit;
    let viewer = Viewer::visitor(Home::open(home)?, peer);
    match super::parse(request.words)? {
        Verb::Records(records) => records.show(&viewer),
        Verb::Policy(policy) => policy.amend(&viewer),
        _ => bail!("this visit is for records alone"),
    }
}

/// Has the machine's server run what this command line says.
///
/// # Errors
/// When there was no session.
pub(super) fn exec_through(socket: PathBuf, args: exec::Args) -> anyhow::Result<Result<ExitStatus, ServerError>> {
    // That it waits is said also where nobody watches: it is no banner, and explains why nothing happens.
    let quiet = args.quiet();
    let (found, files) = (args.find_profile()?, args.files()?);
    let profile_file = learn_target(&found).map(|target| (target.display().to_string(), found.file.is_some()));
    let label = found.file.map_or_else(|| found.profile.name.clone(), |file| file.display().to_string());
    // What is wrong with it is found out here, where the files are.
    let wanted = exec::request(args, found.profile, &Sources::Disk, Caller::default())?;
    let home = std::env::home_dir().context("no home directory is known: set HOME to an absolute path")?;
    let asked = wanted.environment.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str());
    let passed = wanted.profile.environment.pass.iter().map(String::as_str);
    let mut environment = session::own_variables(passed.chain(asked).chain(["PATH"]));
    environment.insert("HOME".to_owned(), home.display().to_string());
    super::secret::unlock_for(&wanted.profile.secrets);
    let secrets = session::gather_secrets(&wanted.profile.secrets);
    let request = Request {
        words: super::own_words(),
        directory: directory()?,
        environment,
        profile: (label, found.text),
        profile_file,
        files,
        secrets: secrets.keys().cloned().collect(),
        umask: umask(),
    };
    Ok(server::call(Call { socket, kind: Kind::Session, request, secrets, quiet }))
}

/// Shows this user's records, or has the machine's server show its records of this user's sessions.
///
/// # Errors
/// When they cannot be shown.
pub(super) fn show_own_records(records: Records) -> anyhow::Result<ExitCode> {
    by_route(records.route(), |viewer| records.show(viewer))
}

/// Does something with this user's own records, or has the machine's server do what this command line says with its
/// records of this user's sessions.
///
/// # Errors
/// When it cannot be done.
pub(super) fn by_route(
    route: Route,
    act: impl FnOnce(&Viewer) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let Some(socket) = route.socket()? else { return act(&Viewer::own()?) };
    let request = Request { words: super::own_words(), umask: umask(), ..Request::default() };
    let call = Call { socket, kind: Kind::Records, request, secrets: SentSecrets::new(), quiet: true };
    Ok(exec::exit_as(server::call(call)?))
}

fn directory() -> anyhow::Result<String> {
    let directory = std::env::current_dir().context("the current directory is gone: change into another")?;
    let text = directory.into_os_string().into_string().ok();
    text.context("the current directory's name is no text (UTF-8), which the machine's server needs")
}

/// This process's mask, which can only be read by setting it.
fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    mask.bits()
}
