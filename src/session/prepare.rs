//! From what the user asked for to a plan, a policy and bindings. Nothing has happened when this returns.

use super::asking::Asking;
use super::caller::Caller;
use super::clock;
use super::credential_file::CredentialFiles;
use super::environment::{self, Place};
use super::error::SessionError;
use super::git_settings;
use super::login_file;
use super::overlay::layer_path;
use super::program::{self, Program};
use super::project_policy::project_policy;
use super::publishing;
use super::repository;
use super::secret_look::{Hidden, Look, NAMES_AT_START_MAX, Seen, look};
use super::shown_secrets::{NAMES_WANTED_MAX, ShownSecrets};
use super::ssh::{self, SshSide};
use super::tier::{self, Demand};
use super::upstream;
use crate::harness::{self, LaunchRequest, LaunchSpec};
use crate::model::{Placeholder, PublishedPort, Scope, SessionId, Tier};
use crate::policy::{
    Binding, Level, Policy, PolicyFile, Profile, RuleSource, SecretNames, SecretPolicy, SecretSpec, SpendPolicy,
    UpstreamProxySetting, WorkspaceMode, WrittenRule, expand_home, parse_policy_file,
};
use crate::proxy::{ConnectTo, UpstreamProxies};
use crate::supervisor::{
    Access, HostFacts, Mount, Plan, PlanError, PlanRequest, PrivatePlace, TerminalStreams, granted_paths, pinned_paths,
    plan, plan_enclosed, plan_limits, repositories_above,
};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kind of terminal of a harness that nobody looks at, where the caller's environment names none.
const DETACHED_TERM: &str = "xterm-256color";

/// What a user asked for.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// The profile.
    pub profile: Profile,
    /// The command line.
    pub argv: Vec<String>,
    /// The directory to work in.
    pub workspace: PathBuf,
    /// Whether to forbid changing it, whatever the profile says.
    pub read_only: bool,
    /// Further places to show.
    pub mounts: Vec<Mount>,
    /// Rules for this session, beside the profile's.
    pub rules: Vec<WrittenRule>,
    /// Policy files: what errors call them, and their texts.
    pub policies: Vec<(String, String)>,
    /// Environment variables to set, or to pass on where there is no value.
    pub environment: Vec<(String, Option<String>)>,
    /// Where to dial instead.
    pub connect_to: Vec<ConnectTo>,
    /// Ports of the sandbox to listen for on the host.
    pub publish: Vec<PublishedPort>,
    /// By which proxy servers are reached, by the machine's word.
    pub machine_proxy: Option<UpstreamProxySetting>,
    /// Further roots for verifying upstreams, in PEM.
    pub upstream_ca: Option<Vec<u8>>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// What the user calls it.
    pub name: Option<String>,
    /// Whether it runs without a terminal outside.
    pub detached: bool,
    /// The weakest tier of isolation that is accepted, where the user says so.
    pub minimum_isolation: Option<Tier>,
    /// What it may spend, where the command line says so.
    pub budget: Option<SpendPolicy>,
    /// The team whose budgets it counts in.
    pub team: Option<String>,
    /// The project whose budgets it counts in.
    pub project: Option<String>,
    /// Whether the terminal's title shows what it spends.
    pub cost_title: bool,
    /// What its costs are marked with.
    pub tags: BTreeMap<String, String>,
    /// Whether questions wait for an answer from elsewhere where there is no terminal.
    pub await_approvals: bool,
    /// How people are asked.
    pub asking: Asking,
    /// On whose behalf.
    pub caller: Caller,
}

impl SessionRequest {
    /// What a profile alone gives a command in a directory, without anything that a command line adds.
    #[must_use]
    pub fn plain(profile: Profile, argv: Vec<String>, workspace: PathBuf) -> Self {
        Self {
            profile,
            argv,
            workspace,
            read_only: false,
            mounts: Vec::new(),
            rules: Vec::new(),
            policies: Vec::new(),
            environment: Vec::new(),
            connect_to: Vec::new(),
            publish: Vec::new(),
            machine_proxy: None,
            upstream_ca: None,
            timeout: None,
            name: None,
            detached: false,
            minimum_isolation: None,
            budget: None,
            team: None,
            project: None,
            cost_title: false,
            tags: BTreeMap::new(),
            await_approvals: false,
            asking: Asking::default(),
            caller: Caller::default(),
        }
    }
}

impl SessionRequest {
    /// How long it may take, by the command line or else the profile.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.timeout.or(self.profile.limits.duration)
    }
}

/// A session that could start.
#[derive(Debug)]
pub struct Prepared {
    /// Its id.
    pub session: SessionId,
    /// Its sandbox.
    pub plan: Plan,
    /// Its policy.
    pub policy: Policy,
    /// The policy files that it is made of, each with whose it is and what it is called.
    pub files: Vec<(Level, String, PolicyFile)>,
    /// The proxies on the way to servers.
    pub upstream_proxies: UpstreamProxies,
    /// What it may spend, by every policy there is.
    pub spend: Vec<SpendPolicy>,
    /// Who is asking.
    pub user: String,
    /// Where the secrets are looked for, and what they are bound to.
    pub secrets: Vec<(SecretSpec, Binding)>,
    /// The secrets that have no value anywhere.
    pub missing: Vec<SecretSpec>,
    /// The secrets that a policy does not let this user have, by name, and which policy.
    pub forbidden: Vec<(String, String)>,
    /// What of the user's own SSH it may use.
    pub ssh: Option<SshSide>,
    /// The user's home directory.
    pub home: PathBuf,
    /// What was asked for.
    pub request: SessionRequest,
    /// The weakest tier of isolation that it may run in.
    pub demand: Demand,
    /// What of the workspace is hidden since it looks like a secret.
    pub hidden: Hidden,
    /// What looks like a secret and is shown.
    pub shown: ShownSecrets,
    /// By which names.
    pub names: SecretNames,
}

/// Prepares a session.
///
/// # Errors
/// Whatever is wrong with the request, in words for the person who made it.
pub fn prepare(mut request: SessionRequest) -> Result<Prepared, SessionError> {
    let files = policy_files(&request)?;
    let project = project_policy(&request.workspace)?;
    let spend = spend(&request, &files, project.as_ref())?;
    let policy = compile(&request, &files, project.as_ref())?.covering(spend.iter().map(ToString::to_string));
    let made_of = made_of(&files, project.as_ref());
    let demanding = files.iter().map(|(label, file)| (*label, file));
    let demanding: Vec<_> = demanding.chain(project.iter().map(|(label, file)| (label, file))).collect();
    let demand = tier::demand(request.minimum_isolation, &request.profile, demanding.iter().copied());
    let require_shipping = shipped_within(&request, &demanding);
    let (home, workspace) = (home_directory(&request.caller)?, real_workspace(&request)?);
    let session = clock::session_id().map_err(SessionError::preparing("draw random numbers"))?;
    let (user, guarding) = (user_name(), secret_policies(&demanding));
    let search = program::search_path(&request.caller);
    let name = request.argv.first().map_or("", String::as_str);
    let shown = shown(&request, &home, &workspace);
    let program = program::find(name, &request.profile, &search, &workspace, &shown)?;
    let tier = tier::choose(&demand, &workspace)?;
    publishing::check(&request, tier, demanding.iter().copied())?;
    request.profile.require_shipping = require_shipping;
    let Chosen { credentials, present, missing, forbidden } = choose_secrets(&mut request, &guarding, &user, &home)?;
    let upstream_proxies = upstream::way(&mut request, &home)?;
    let private = (tier == Tier::Landlock).then(|| private_place(&session)).transpose()?;
    let repository = repository::outside(&workspace);
    let named = git_settings::named_places(&workspace, repository.as_deref(), &home);
    request.profile.filesystem.protect.extend(named);
    let repository = repository.map(|place| repository_mount(place, &request, private.is_some()));
    request.mounts.extend(repository);
    let inner_home = private.as_ref().map_or_else(|| home.clone(), PrivatePlace::home);
    let (ssh, mut look_alikes) = stand_ins(&request, &present, &home, private.is_some())?;
    credentials.add_look_alikes(&present, &mut look_alikes)?;
    let launch = launch(&request, &program, &inner_home, &workspace, &present, &look_alikes);
    let layer = layer(&request, &session)?;
    let (names, hidden, seen) = secret_files(&request, &workspace, private.is_none(), &policy)?;
    let plan = make_plan(
        &request,
        &Stage {
            home: &home,
            workspace: &workspace,
            user: &user,
            search: &search,
            shown: &shown,
            layer: layer.as_deref(),
            private: private.as_ref(),
            hidden: &hidden,
        },
        &program,
        launch,
    )?;
    let shown = ShownSecrets::find(&request, &names, seen, (&home, &workspace), &plan, &policy);
    Ok(Prepared {
        session,
        plan,
        policy,
        files: made_of,
        upstream_proxies,
        spend,
        user,
        secrets: bindings(present),
        missing,
        forbidden,
        ssh,
        home,
        request,
        demand,
        hidden,
        shown,
        names,
    })
}

/// Within which time records must have been shipped, by the strictest word.
fn shipped_within(request: &SessionRequest, demanding: &[(&String, &PolicyFile)]) -> Option<Duration> {
    let within = demanding.iter().filter_map(|(_, file)| file.require_shipping);
    request.profile.require_shipping.into_iter().chain(within).min()
}

/// Each secret with where it may go, and what stands for it.
fn bindings(present: Vec<(SecretSpec, Placeholder)>) -> Vec<(SecretSpec, Binding)> {
    let bound = present.into_iter().map(|(spec, placeholder)| {
        let binding = spec.binding(placeholder);
        (spec, binding)
    });
    bound.collect()
}

/// By which names files look like secrets, and those that are there, hidden and shown. Without mounts nothing can be hidden, as
/// the tier says of itself. Where a policy wants to know what is read, all of them are found before the start.
fn secret_files(
    request: &SessionRequest,
    workspace: &Path,
    has_mounts: bool,
    policy: &Policy,
) -> Result<(SecretNames, Hidden, Seen), SessionError> {
    let names = SecretNames::compile(&request.profile.filesystem.secret_files);
    let names = names.map_err(|(pattern, hint)| PlanError::Pattern { pattern, hint })?;
    let wanted = policy.asks_about_secret_files();
    let names_max = if wanted { NAMES_WANTED_MAX } else { NAMES_AT_START_MAX };
    let (hidden, seen) = match (has_mounts, wanted) {
        (true, _) => look(&names, workspace, names_max),
        (false, true) => {
            let mut look = Look::of_given(&names, workspace, Vec::new(), false);
            look.go_on(names_max);
            (Hidden::default(), look.seen())
        }
        (false, false) => (Hidden::default(), Seen::default()),
    };
    Ok((names, hidden, seen))
}

/// What of the user's own SSH the session may use, and what stands for files of theirs, by their paths as `~/…`.
fn stand_ins(
    request: &SessionRequest,
    present: &Present,
    home: &Path,
    enclosed: bool,
) -> Result<(Option<SshSide>, BTreeMap<String, String>), SessionError> {
    let mut look_alikes = login_file::look_alikes(&request.caller, present, home)?;
    let access = request.profile.ssh.as_ref();
    if enclosed {
        ssh::refuse_enclosed(access)?;
    }
    let ssh = SshSide::find(access, &request.caller, home, &mut look_alikes)?;
    Ok((ssh, look_alikes))
}

/// The directory to work in, wherever links to it lead.
fn real_workspace(request: &SessionRequest) -> Result<PathBuf, SessionError> {
    let workspace = request.workspace.canonicalize().and_then(|path| match path.is_dir() {
        true => Ok(path),
        false => Err(std::io::Error::from(std::io::ErrorKind::NotADirectory)),
    });
    workspace.map_err(|error| SessionError::Workspace { path: request.workspace.clone(), error })
}

/// The repository of a workspace that does not hold it is given as the workspace is: for writing only where what is written
/// in the workspace is there at once, and what of it runs on the host is guarded.
fn repository_mount(place: PathBuf, request: &SessionRequest, without_gate: bool) -> Mount {
    let direct = request.profile.filesystem.workspace == WorkspaceMode::Direct;
    let guarded = !without_gate && !request.profile.nested_sandboxes;
    let access = if direct && guarded { access(request) } else { Access::ReadOnly };
    Mount { source: place.clone(), target: place, access }
}

/// The policy files, each with what errors call it.
type PolicyFiles<'a> = Vec<(&'a String, PolicyFile)>;

fn policy_files(request: &SessionRequest) -> Result<PolicyFiles<'_>, SessionError> {
    request.policies.iter().map(|(label, text)| Ok((label, parse_policy_file(label, text)?))).collect()
}

/// The files that a policy is made of, each with whose it is and what it is called.
fn made_of(files: &PolicyFiles<'_>, project: Option<&(String, PolicyFile)>) -> Vec<(Level, String, PolicyFile)> {
    let files = files.iter().map(|(label, file)| (Level::Organisation, (*label).clone(), file.clone()));
    let own = project.map(|(label, file)| (Level::Project, label.clone(), file.clone()));
    files.chain(own).collect()
}

fn compile(
    request: &SessionRequest,
    files: &PolicyFiles<'_>,
    project: Option<&(String, PolicyFile)>,
) -> Result<Policy, SessionError> {
    let mut sources: Vec<RuleSource<'_>> =
        files.iter().map(|(label, file)| file.source(Level::Organisation, label)).collect();
    sources.extend(project.map(|(label, file)| file.source(Level::Project, label)));
    let profile = &request.profile;
    sources.push(RuleSource { level: Level::Profile, label: &profile.name, rules: &profile.egress, clauses: &[] });
    sources.push(RuleSource { level: Level::Session, label: "the command line", rules: &request.rules, clauses: &[] });
    Ok(Policy::compile(&sources)?)
}

/// Every policy about money. A limit by team or project is none for a session that names neither.
fn spend(
    request: &SessionRequest,
    files: &PolicyFiles<'_>,
    project: Option<&(String, PolicyFile)>,
) -> Result<Vec<SpendPolicy>, SessionError> {
    let files = files.iter().map(|(_, file)| file).chain(project.map(|(_, file)| file));
    let mut all: Vec<_> = files.flat_map(|file| file.spend.iter()).chain(&request.budget).cloned().collect();
    // Where several say no, the first says what happens.
    all.sort_by_key(|policy| policy.on_hard_limit);
    for policy in &all {
        let (flag, named) = match policy.scope {
            Scope::Team => ("--team", request.team.is_some()),
            Scope::Project => ("--project", request.project.is_some()),
            _ => continue,
        };
        if !named {
            return Err(SessionError::BudgetOfWhom { policy: policy.name.clone(), scope: policy.scope, flag });
        }
    }
    Ok(all)
}

type Present = Vec<(SecretSpec, Placeholder)>;

/// What policies say of secrets, each with what errors call its file.
fn secret_policies(demanding: &[(&String, &PolicyFile)]) -> Vec<(String, SecretPolicy)> {
    let of_file = |(label, file): &(&String, &PolicyFile)| {
        file.secrets.iter().map(|policy| ((*label).clone(), policy.clone())).collect::<Vec<_>>()
    };
    demanding.iter().flat_map(of_file).collect()
}

/// The secrets of a session, and what becomes of those that it does not have.
struct Chosen {
    credentials: CredentialFiles,
    present: Present,
    missing: Vec<SecretSpec>,
    forbidden: Forbidden,
}

fn choose_secrets(
    request: &mut SessionRequest,
    policies: &[(String, SecretPolicy)],
    user: &str,
    home: &Path,
) -> Result<Chosen, SessionError> {
    let credentials = CredentialFiles::open(request, home)?;
    let (present, mut missing, forbidden) = placeholders(request, policies, user, home)?;
    missing.extend(credentials.left_out());
    Ok(Chosen { credentials, present, missing, forbidden })
}

/// Secrets that a policy forbids, by name, and which.
type Forbidden = Vec<(String, String)>;

/// The secrets that policies let this user have, each as they want it used; and those that they do not.
fn permitted(secrets: &[SecretSpec], policies: &[(String, SecretPolicy)], user: &str) -> (Vec<SecretSpec>, Forbidden) {
    let (mut permitted, mut forbidden) = (Vec::new(), Vec::new());
    for mut spec in secrets.iter().cloned() {
        let judged = policies.iter().find(|(_, policy)| !policy.apply(&mut spec, user));
        match judged {
            None => permitted.push(spec),
            Some((label, policy)) => {
                let why = format!("the policy `{}` of {label} does not let {user} have it", policy.name);
                forbidden.push((spec.name, why));
            }
        }
    }
    (permitted, forbidden)
}

fn placeholders(
    request: &SessionRequest,
    policies: &[(String, SecretPolicy)],
    user: &str,
    home: &Path,
) -> Result<(Present, Vec<SecretSpec>, Forbidden), SessionError> {
    let (secrets, forbidden) = permitted(&request.profile.secrets, policies, user);
    let mut entropy = [0; 96];
    getrandom::fill(&mut entropy).map_err(SessionError::preparing("draw random numbers"))?;
    let (there, missing): (Vec<_>, Vec<_>) = secrets.into_iter().partition(|spec| request.caller.has(spec, home));
    let with_placeholder = |spec: SecretSpec| {
        let placeholder = spec.shape.placeholder(&spec.name, &entropy);
        (spec, placeholder)
    };
    Ok((there.into_iter().map(with_placeholder).collect(), missing, forbidden))
}

fn launch(
    request: &SessionRequest,
    program: &Program,
    home: &Path,
    workspace: &Path,
    present: &Present,
    look_alikes: &BTreeMap<String, String>,
) -> LaunchSpec {
    let by_name: BTreeMap<_, _> =
        present.iter().map(|(spec, placeholder)| (spec.name.clone(), placeholder.clone())).collect();
    let streams = streams(request);
    harness::launch(&LaunchRequest {
        profile: &request.profile,
        argv: &request.argv,
        program: &program.path.display().to_string(),
        home: &home.display().to_string(),
        workspace: &workspace.display().to_string(),
        placeholders: &by_name,
        look_alikes,
        terminal: streams.stdin && streams.stdout,
    })
}

/// Which of the harness's streams lead to a terminal of its own: those of ours that lead to one, and all where nobody holds
/// a terminal for it.
fn streams(request: &SessionRequest) -> TerminalStreams {
    if request.detached {
        return TerminalStreams::ALL;
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    TerminalStreams { stdin: stdin.is_terminal(), stdout: stdout.is_terminal(), stderr: stderr.is_terminal() }
}

struct Stage<'a> {
    home: &'a Path,
    workspace: &'a Path,
    user: &'a str,
    search: &'a str,
    shown: &'a [PathBuf],
    layer: Option<&'a Path>,
    private: Option<&'a PrivatePlace>,
    hidden: &'a Hidden,
}

/// The places outside the system's directories that the sandbox shows where they are.
fn shown(request: &SessionRequest, home: &Path, workspace: &Path) -> Vec<PathBuf> {
    let in_place = request.mounts.iter().filter(|mount| mount.source == mount.target);
    let mounts = in_place.map(|mount| mount.target.clone());
    granted_paths(&request.profile, home).into_iter().chain(mounts).chain([workspace.to_owned()]).collect()
}

fn make_plan(
    request: &SessionRequest,
    stage: &Stage<'_>,
    program: &Program,
    mut launch: LaunchSpec,
) -> Result<Plan, SessionError> {
    let Stage { home, workspace, user, search, shown, layer, private, hidden } = stage;
    let mut candidates = granted_paths(&request.profile, home);
    candidates.extend(pinned_paths(&request.profile, home, workspace));
    candidates.extend(
        launch
            .seeds
            .iter()
            .map(|seed| seed.path.as_str())
            .chain(launch.hide.iter().map(String::as_str))
            .map(|path| expand_home(path, home)),
    );
    candidates.extend(program.trees.iter().cloned());
    candidates.extend(request.mounts.iter().map(|mount| mount.source.clone()));
    candidates.push((*workspace).to_owned());
    candidates.extend(repositories_above(workspace));
    let user = inner_name(user);
    let facts = HostFacts::gather(home, user, &candidates);
    let shown: Vec<PathBuf> = shown.iter().chain(&program.trees).cloned().collect();
    let place = Place { user, home, path: program::inner_path(search, &shown), private: *private };
    let mut variables = environment::base(&place);
    let pass: Vec<_> = request.profile.environment.pass.iter().filter(|name| *name != "PATH").cloned().collect();
    variables.extend(environment::passed(&request.caller, &pass));
    variables.append(&mut launch.env);
    for (name, value) in &request.environment {
        match value {
            Some(value) => drop(variables.insert(name.clone(), value.clone())),
            None => variables.extend(environment::passed(&request.caller, std::slice::from_ref(name))),
        }
    }
    if request.detached {
        // Whoever attaches later has a terminal that knows this one's sequences.
        variables.entry("TERM".to_owned()).or_insert_with(|| DETACHED_TERM.to_owned());
    }
    launch.env = variables;
    let overlay = request.profile.filesystem.workspace == WorkspaceMode::Overlay;
    let limits = match request.caller.limits() {
        Some(limits) => limits.clone(),
        None => plan_limits(&request.profile.limits, overlay, request.duration())?,
    };
    let request = PlanRequest {
        facts: &facts,
        profile: &request.profile,
        workspace,
        workspace_access: access(request),
        layer: *layer,
        secret_files: &hidden.files,
        covers_late: hidden.incomplete,
        mounts: &request.mounts,
        program: &program.real,
        program_trees: &program.trees,
        limits: &limits,
        launch: &launch,
        terminal: Some(streams(request)).filter(|streams| !streams.is_none()),
    };
    Ok(match private {
        Some(private) => plan_enclosed(&request, private)?,
        None => plan(&request)?,
    })
}

/// A directory of the session's own among the temporary ones, which is not there yet.
fn private_place(session: &SessionId) -> Result<PrivatePlace, SessionError> {
    let temporary = std::env::temp_dir().canonicalize();
    let temporary = temporary.map_err(SessionError::preparing("find the directory of temporary files"))?;
    Ok(PrivatePlace { root: temporary.join(format!("omni-{session}")) })
}

fn access(request: &SessionRequest) -> Access {
    match request.profile.filesystem.workspace {
        _ if request.read_only => Access::ReadOnly,
        WorkspaceMode::ReadOnly => Access::ReadOnly,
        WorkspaceMode::Direct | WorkspaceMode::Overlay => Access::ReadWrite,
    }
}

/// Where the changes of the workspace are kept, where it lies behind an overlay. Nothing is made yet.
fn layer(request: &SessionRequest, session: &SessionId) -> Result<Option<PathBuf>, SessionError> {
    let overlay = request.profile.filesystem.workspace == WorkspaceMode::Overlay && !request.read_only;
    Ok(if overlay { Some(layer_path(&request.caller.records()?, session)) } else { None })
}

fn home_directory(caller: &Caller) -> Result<PathBuf, SessionError> {
    let home = caller.home().filter(|home| home.is_absolute()).ok_or(SessionError::NoHome)?;
    Ok(home.canonicalize().unwrap_or(home))
}

/// What the harness is called inside: as its user is, but for root, whose harness is an ordinary user.
fn inner_name(user: &str) -> &str {
    if nix::unistd::geteuid().is_root() { "omni" } else { user }
}

/// The login name of this process's user, for the record.
#[must_use]
pub fn user_name() -> String {
    let uid = nix::unistd::geteuid();
    let known = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let plain =
        |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    known.filter(plain).unwrap_or_else(|| format!("user{uid}"))
}
