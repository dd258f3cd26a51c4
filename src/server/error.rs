//! What can go wrong between a user and the machine's server.

use crate::policy::PolicyErrors;
use crate::session::SessionError;
use crate::store::StoreError;
use std::io;
use std::path::PathBuf;

/// Why the server, or a visit to it, failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Only root can be many users.
    #[error("`omni server --system` must be run by root: it becomes the users that come to it")]
    NotRoot,
    /// There is one already.
    #[error("another server has {0}: stop it first, or name another socket with `--socket`")]
    Running(PathBuf),
    /// A place that others could change.
    #[error("{path} {fault}: the server trusts what stands there; `chown root` and `chmod go-w` it")]
    Unsafe {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A place could not be used.
    #[error("cannot {what} {path}: {error}")]
    Place {
        /// What was to be done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A call without a place failed.
    #[error("cannot {what}: {error}")]
    Call {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// The machine's own files are wrong.
    #[error(transparent)]
    Files(#[from] PolicyErrors),
    /// A session's own failure.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The records cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody answers.
    #[error(
        "the machine's omni server does not answer at {path}: {error}; ask who runs the machine, or run without its policy \
         and secrets by `--no-system`"
    )]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else answers.
    #[error("{path} is served by user {uid}, not by root: nothing was sent there; unset OMNI_SYSTEM_SOCKET")]
    Impostor {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// The server said no.
    #[error("the machine's omni server refuses: {0}")]
    Refused(String),
    /// The other side does not keep to the rules.
    #[error("{0}")]
    Request(&'static str),
    /// The session's process is gone and nobody said how it ended.
    #[error("the machine's omni server went away without a word; `omni sessions` may say more")]
    Lost,
    /// A signal came before there was a session to pass it on to.
    #[error("{0} came before the session was started")]
    CalledOff(nix::sys::signal::Signal),
}

impl ServerError {
    /// For `map_err`: a call that failed.
    pub(super) fn calling<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Call { what, error: error.into() }
    }

    /// For `map_err`: something about a place that failed.
    pub(super) fn at<E: Into<io::Error>>(what: &'static str, path: &std::path::Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |error| Self::Place { what, path, error: error.into() }
    }
}
