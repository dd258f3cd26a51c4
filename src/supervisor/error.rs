//! What can go wrong with a plan or with building it.

use std::io;
use std::path::PathBuf;

/// Why a sandbox cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The workspace is a place that must not be handed over whole.
    #[error(
        "the workspace {0} holds more than a project: choose a directory below it with `--workspace DIR`, \
         or change into one"
    )]
    Workspace(PathBuf),
    /// A home in whose place the sandbox's own home cannot be.
    #[error("the home directory {0} is no place for a home of the sandbox's own: set HOME to a directory below it")]
    Home(PathBuf),
    /// Whoever can mount could reach a place of the host's by another name.
    #[error(
        "{0} could be written, and with `nested_sandboxes` nothing could protect names in it: give the workspace with \
         `--fs overlay` or `--ro`, and other places for reading alone"
    )]
    NestedWritable(PathBuf),
    /// Without namespaces, a place cannot be shown elsewhere.
    #[error("{0} cannot be shown at another place in the tier `landlock`, which has no mounts: mount it where it is")]
    Elsewhere(PathBuf),
    /// Without namespaces, what was asked for cannot be kept.
    #[error("{path} cannot be given in the tier `landlock`, since {why}: leave it out, or run in the tier `full`")]
    NotHeld {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Without namespaces, a harness of root's would be user 0.
    #[error(
        "the workspace {0} belongs to root, and in the tier `landlock` the harness would have to be root too: run omni as \
         an ordinary user, or give the workspace to one (chown -R)"
    )]
    RootsWorkspace(PathBuf),
    /// A path that must be absolute is not.
    #[error("{0} is not an absolute path")]
    Relative(PathBuf),
    /// A mount that would replace the sandbox's own foundations.
    #[error("nothing can be mounted at {0}: the sandbox builds that place itself")]
    Reserved(PathBuf),
    /// A source of a mount that is neither a file nor a directory.
    #[error(
        "{path} is {kind}, which no sandbox is given: whatever is at its other end acts outside; name files and \
         directories"
    )]
    Special {
        /// Which.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A source of a mount that is an interface of the kernel's.
    #[error("{0} is the kernel's own, of the whole machine: the sandbox has a `/proc` and a `/dev` of its own")]
    Interface(PathBuf),
    /// A source of a mount where daemons listen.
    #[error("{0} is where the machine's daemons listen, and whoever reaches one acts outside: it cannot be mounted")]
    Daemons(PathBuf),
    /// A source of a mount that would undo the sandbox.
    #[error("{0} holds far more than a project: mount the directories in it that are needed")]
    TooWide(PathBuf),
    /// Something to be kept from the harness where names in other letters are other files to the kernel alone.
    #[error(
        "{0} is to be hidden or read-only, and its file system finds it under a name in other letters too, where the \
         kernel cannot keep it: move it to another file system, or grant less around it"
    )]
    Folded(PathBuf),
    /// A grant that is found by way of a link that a harness may have made.
    #[error(
        "{path} leads to {real} by a link in a place that harnesses may write, so that an earlier session may have \
         left it: grant {real} itself, or remove the link"
    )]
    Planted {
        /// The grant.
        path: PathBuf,
        /// Where it leads.
        real: PathBuf,
    },
    /// A path of which it could not be found out whether it is there.
    #[error("cannot look at {path}: {error}; whether it must be shown or hidden is not known, so nothing was started")]
    Unknown {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: String,
    },
    /// A mount would show the workspace itself, to be written, beside its overlay.
    #[error(
        "{target} would show the workspace itself from {place}, writable and not behind its overlay: mount it read-only, with \
         `:ro`, or work without the overlay"
    )]
    AroundOverlay {
        /// Where inside.
        target: PathBuf,
        /// What of the host.
        place: PathBuf,
    },
    /// A protected path of the profile that is no pattern.
    #[error("the profile cannot protect `{pattern}`: {hint}")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What to do.
        hint: &'static str,
    },
    /// A path that a mount names and the host does not have.
    #[error("{0} does not exist, so it cannot be mounted")]
    Missing(PathBuf),
}

/// Why a sandbox could not be built or minded.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The kernel refused the namespaces.
    #[error("the kernel refused new namespaces ({0}): `omni doctor` says which are missing and how to get them")]
    Namespaces(io::Error),
    /// A place on the host could not be opened for mounting.
    #[error("cannot open {path} for the sandbox: {error}; `omni doctor` says what this machine can isolate")]
    Open {
        /// The place.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A place on the host is not the one that was planned with.
    #[error(
        "{0} is not what it was when the sandbox was planned: something put another file or link in its place, so \
         nothing was started"
    )]
    Replaced(PathBuf),
    /// The owner of a place could not be translated (an id-mapped mount).
    #[error(
        "cannot translate the owner of {path} for the sandbox: {error}; its file system may not support id-mapped mounts"
    )]
    Owner {
        /// The place.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A control group could not be made, or the sandbox not be put into it.
    #[error("cannot set up the control group {path}: {error}; nothing was started, since its limits would not hold")]
    Group {
        /// The group.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The id maps could not be written.
    #[error("cannot map the user and group of the sandbox: {0}; `omni doctor` says why and what to do")]
    Identity(io::Error),
    /// A step of the plan failed inside the sandbox.
    #[error("building the sandbox failed at `{step}`: {error}; `omni doctor` says what this machine can isolate")]
    Step {
        /// The step, as `--dry-run` prints it.
        step: String,
        /// The system's error.
        error: String,
    },
    /// The process inside went away without a word.
    #[error("the sandbox ended before it was ready")]
    Vanished,
    /// Talking with the process inside failed.
    #[error("lost the connection to the sandbox: {0}")]
    Wire(io::Error),
    /// A preparation on the host's side failed.
    #[error("cannot {what}: {error}")]
    Prepare {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}
