//! What can keep changes from being kept, looked at, taken over or forgotten.

use super::path::RelPath;
use crate::model::SessionId;
use crate::store::StoreError;
use std::io;
use std::path::PathBuf;

/// Why something about an overlay failed.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Something is mounted in the workspace, which overlayfs would not show.
    #[error(
        "{mount} is a file system of its own in the workspace {workspace}, and an overlay does not reach into it: choose a \
         workspace without mounts, or work without the overlay"
    )]
    Submount {
        /// The workspace.
        workspace: PathBuf,
        /// What is mounted there.
        mount: PathBuf,
    },
    /// The file system below omni's home keeps no layer.
    #[error(
        "changes of the workspace cannot be kept in {path}: {why}; set OMNI_HOME to a directory on ext4, xfs or btrfs, or \
         work without the overlay"
    )]
    Unfit {
        /// The layer's directory.
        path: PathBuf,
        /// What it lacks.
        why: String,
    },
    /// The workspace is somebody else's, whose files no layer can copy.
    #[error(
        "{workspace} belongs to user {} and group {}, and an overlay can copy the files of user {} and group {} alone: \
         run omni as that user and group (`sg GROUP -c 'omni …'`), give the workspace to yourself, or work without the \
         overlay",
        owner.0, owner.1, user.0, user.1
    )]
    Foreign {
        /// The workspace.
        workspace: PathBuf,
        /// Its user and group.
        owner: (u32, u32),
        /// Those of the harness.
        user: (u32, u32),
    },
    /// The layer's directories could not be made.
    #[error("cannot make {path} for the changes of the workspace: {error}")]
    Create {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The session keeps no changes.
    #[error("session {0} keeps no changes: it had no overlay, changed nothing, or they were applied or discarded")]
    Nothing(SessionId),
    /// The session has not ended.
    #[error(
        "session {0} is still running: end it first, then {1} its changes; `omni diff {0}` looks at them meanwhile"
    )]
    Running(SessionId, &'static str),
    /// They are another user's.
    #[error(
        "the changes of session {session} are those of user {owner}, who alone can look at them, apply or discard them"
    )]
    Others {
        /// Which.
        session: SessionId,
        /// Whose.
        owner: u32,
    },
    /// Another omni is at it.
    #[error("another omni is applying or discarding the changes of session {0}: wait for it to end")]
    Busy(SessionId),
    /// What omni noted about the layer cannot be read.
    #[error("cannot read {path}: {why}; `omni discard` can still forget the changes")]
    Notes {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The workspace is not there any more, or another one is.
    #[error("the workspace {path} cannot be used: {error}")]
    Workspace {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file could not be looked at.
    #[error("cannot look at {path} {side}: {error}")]
    Look {
        /// Which.
        path: RelPath,
        /// In the session's layer, or in the workspace.
        side: Side,
        /// Why.
        error: io::Error,
    },
    /// There are more changes than can be handled at once.
    #[error("more than {0} paths changed: `omni discard` forgets them all; nothing else was done")]
    TooMany(usize),
    /// A path that was chosen is none.
    #[error("`{0}` is no path in the workspace")]
    Elsewhere(String),
    /// A path that was chosen did not change.
    #[error("nothing changed at {0}; `omni diff` lists what did")]
    Unchanged(RelPath),
    /// Part of something that is taken as a whole.
    #[error("{0} lies in {1}, which was replaced or removed as a whole: choose that")]
    Part(RelPath, RelPath),
    /// A step of applying failed; everything was put back.
    #[error("cannot {step} {path}: {error}; nothing was applied")]
    Step {
        /// What was tried.
        step: &'static str,
        /// On which path.
        path: RelPath,
        /// Why.
        error: io::Error,
    },
    /// A step outside the workspace's own paths failed.
    #[error("cannot {step}: {error}")]
    Prepare {
        /// What was tried.
        step: &'static str,
        /// Why.
        error: io::Error,
    },
    /// Putting back failed after a step did.
    #[error("cannot put {path} back: {error}; the originals are kept in {kept}, and `omni apply` tries again")]
    Stuck {
        /// The path.
        path: RelPath,
        /// Why.
        error: io::Error,
        /// Where what was there before lies.
        kept: PathBuf,
    },
    /// Something speaks against it, and nobody agreed.
    #[error("refused, for the reasons above; nothing was applied")]
    Refused,
    /// The record cannot be kept, and without a record nothing happens.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What the session changed.
    Layer,
    /// What the host has.
    Workspace,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Layer => "as the session left it",
            Self::Workspace => "in the workspace",
        })
    }
}

impl OverlayError {
    /// For `map_err`: a file that could not be looked at.
    pub(super) fn looking(path: &RelPath, side: Side) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.clone();
        move |error| Self::Look { path, side, error }
    }

    /// For `map_err`: a step on a path.
    pub(super) fn at(step: &'static str, path: &RelPath) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.clone();
        move |error| Self::Step { step, path, error }
    }

    /// For `map_err`: a step beside the paths.
    pub(super) fn preparing(step: &'static str) -> impl FnOnce(io::Error) -> Self + use<> {
        move |error| Self::Prepare { step, error }
    }
}
