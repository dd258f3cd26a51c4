//! The private directory of a sandbox that has no root of its own: made before the harness, gone after it.

use super::plan::{Plan, Step};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory, which must not be there, so that nobody else has a hand in it; below it, one that is there stays.
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)
}

/// Writes a file that must not be there.
pub(super) fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(contents)
}

/// Removes the directory with all that is in it. Nothing that could change it meanwhile may live.
pub(super) fn remove(plan: &Plan) {
    if let Some(Step::Directory { path, .. }) = plan.steps.first() {
        // What the harness made unreadable for its own user stays, for that user to remove.
        let _ = std::fs::remove_dir_all(path);
    }
}
