//! What can keep a session from starting, or cut it off.

use super::overlay::OverlayError;
use super::program::ProgramError;
use crate::model::{HostError, PublishedPort, Scope, Tier};
use crate::policy::PolicyErrors;
use crate::proxy::{ProxyError, UpstreamProxyError};
use crate::store::StoreError;
use crate::supervisor::{LimitError, PlanError, SupervisorError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The policy does not compile.
    #[error(transparent)]
    Policy(#[from] PolicyErrors),
    /// The workspace's own policy cannot be read.
    #[error("cannot read {}, which may forbid something: {error}; make it a plain file, or remove it", path.display())]
    ProjectPolicy {
        /// Which.
        path: std::path::PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The sandbox cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A limit cannot be held here.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The sandbox cannot be built.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The machine does not give what the tier that is demanded is made of.
    #[error("{error}; without it there is no tier `{tier}`, and {way_out}")]
    NotIsolated {
        /// What is demanded.
        tier: Tier,
        /// What failed.
        error: Box<SupervisorError>,
        /// What to do.
        way_out: String,
    },
    /// The machine gives what no tier is made of.
    #[error(
        "this machine reaches no tier of isolation, not even the weaker one that would be accepted, since there is no \
         {missing}; `omni doctor` says what is missing for either and how to get it"
    )]
    NoTier {
        /// What the weakest one lacks.
        missing: String,
    },
    /// Sessions cannot be kept from changing the same places at a time.
    #[error(
        "cannot lock places against other sessions: {error}; locks of open files (F_OFD_SETLK, fcntl(2)) are wanted of the system and \
         of the file system that {} is on: `omni doctor` says what this machine can isolate", path.display()
    )]
    PlaceLocks {
        /// The file of the locks.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The record cannot be kept, and without a record nothing happens.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the harness changes cannot be kept apart from the workspace.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The program is not there or cannot be executed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The proxy's own preparation failed.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A host that a flag names is none.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The proxy process could not be made ready.
    #[error("the proxy did not start: {0}")]
    ProxyFailed(String),
    /// A session without a terminal outside did not start.
    #[error("{0}")]
    NotDetached(String),
    /// A login cannot be stood in for.
    #[error("the login `{secret}` cannot be used: {file} cannot be read: {error}; log in outside of omni first")]
    Login {
        /// Its secret.
        secret: String,
        /// Its file.
        file: &'static str,
        /// Why.
        error: io::Error,
    },
    /// What is hidden from the harness was replaced outside, and could not be hidden again.
    #[error("the session was ended, since {path} was replaced outside and its harness could read it: {why}", path = path.display())]
    Uncovered {
        /// Where, inside.
        path: PathBuf,
        /// Why it could not be hidden again.
        why: String,
    },
    /// A file of credentials cannot be stood in for.
    #[error("`{secret}` cannot be used: {file}: {why}")]
    Credentials {
        /// Its secret.
        secret: String,
        /// Which.
        file: &'static str,
        /// Why, without a word of the file's.
        why: String,
    },
    /// A login is in a file that the machine's server does not read.
    #[error(
        "the login `{secret}` is in a file of yours, which the machine's server does not read: run omni without it"
    )]
    LoginOfAnother {
        /// Its secret.
        secret: String,
    },
    /// The user's own SSH cannot be used.
    #[error("ssh cannot be used: {why}")]
    Ssh {
        /// Why, and what to do.
        why: String,
    },
    /// A signal came before there was a harness to pass it on to.
    #[error("{0} came before the harness was started")]
    CalledOff(nix::sys::signal::Signal),
    /// A budget is of a team or project, and the session names none.
    #[error("the budget `{policy}` counts by {scope}, and the session names none: say which with `{flag}`")]
    BudgetOfWhom {
        /// The policy.
        policy: String,
        /// Team or project.
        scope: Scope,
        /// The flag that names one.
        flag: &'static str,
    },
    /// A port cannot be published.
    #[error("the port {port} is not published: {why}")]
    Publish {
        /// Which.
        port: PublishedPort,
        /// Why not.
        why: String,
    },
    /// What names a proxy on the way to servers names none.
    #[error("{named} names no proxy that can be used: {error}; or say `upstream_proxy: none` in the profile")]
    UpstreamProxy {
        /// What.
        named: &'static str,
        /// Why not.
        error: UpstreamProxyError,
    },
    /// Records do not get where they must be for a session to start.
    #[error(
        "no session starts here unless everything was shipped within {within:?}, and {what}: see that `omni audit ship` runs and that \
         its places take what they are sent"
    )]
    NotShipped {
        /// What is not as it must be.
        what: String,
        /// How long ago it may have been.
        within: Duration,
    },
    /// The profile's roots cannot be read.
    #[error("cannot read the roots in {}, which the profile's `upstream_ca` names: {error}", path.display())]
    UpstreamRoots {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The workspace is not there.
    #[error("the workspace {path} cannot be used: {error}; name an existing directory with `--workspace DIR`")]
    Workspace {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No home directory is known.
    #[error("no home directory is known: set HOME to an absolute path")]
    NoHome,
    /// The sandbox would hold omni's own records.
    #[error(
        "the sandbox would show {shown}, and omni's records are in {records}: choose another workspace or mount, or set \
         OMNI_HOME to a directory outside"
    )]
    Records {
        /// Where the records are.
        records: PathBuf,
        /// What the plan shows of the host.
        shown: PathBuf,
    },
    /// The harness could speak to the store's server.
    #[error(
        "the sandbox would show {shown}, and the store's server listens in {socket}: choose another workspace or mount, or \
         have the server listen elsewhere"
    )]
    StoreSocket {
        /// The directory of its socket.
        socket: PathBuf,
        /// What the plan shows of the host.
        shown: PathBuf,
    },
    /// A standard stream that opens a way into the host's files.
    #[error("{0} is a directory, which no harness may be handed: redirect it, such as `</dev/null`")]
    DirectoryStream(&'static str),
    /// A preparation failed.
    #[error("cannot {what}: {error}")]
    Prepare {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

impl SessionError {
    /// For `map_err`: a preparation that failed.
    pub(super) fn preparing<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Prepare { what, error: error.into() }
    }
}
