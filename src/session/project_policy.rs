//! What a workspace's own policy file demands: it can only make things stricter, since whoever wrote the workspace wrote it.

use super::error::SessionError;
use crate::policy::{PolicyFile, parse_project_file};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The directory in the workspace that is omni's, and the file in it.
const DIRECTORY: &str = ".omni";
const NAME: &str = "policy.yaml";
/// What the file is called.
pub(super) const PROJECT_LABEL: &str = ".omni/policy.yaml";
/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads it, where there is one.
///
/// # Errors
/// For one that cannot be read, is a link, or allows something: going on without it would be going on with less than it
/// demands.
pub fn project_policy(workspace: &Path) -> Result<Option<(String, PolicyFile)>, SessionError> {
    let label = PROJECT_LABEL.to_owned();
    let text = match text(workspace) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        Err(error) => return Err(SessionError::ProjectPolicy { path: workspace.join(&label), error }),
    };
    let file = parse_project_file(&label, &text)?;
    Ok(Some((label, file)))
}

fn text(workspace: &Path) -> io::Result<Option<String>> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let directory = match rustix::fs::open(workspace.join(DIRECTORY), flags | OFlags::DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let file = match rustix::fs::openat(&directory, NAME, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => File::from(other?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    match read as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes"))),
        false => Ok(Some(text)),
    }
}
