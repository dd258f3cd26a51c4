//! A directory as a value, so that two can be compared whole.

use crate::support::{Outcome, World, finish};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What stands at every path below a directory: its kind and bits, its owner, and its contents or where it points.
pub type Tree = BTreeMap<Vec<u8>, (String, (u32, u32), Vec<u8>)>;

/// Reads a directory; links are told of, not followed.
pub fn tree(root: &Path) -> Tree {
    let mut all = Tree::new();
    read(root, root, &mut all);
    all
}

fn read(root: &Path, directory: &Path, all: &mut Tree) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let mode = found.mode() & 0o7777;
        let (kind, contents) = if found.is_symlink() {
            ("link".to_owned(), path.read_link().unwrap().as_os_str().as_bytes().to_vec())
        } else if found.is_dir() {
            read(root, &path, all);
            (format!("directory {mode:o}"), Vec::new())
        } else if found.is_file() {
            (format!("file {mode:o}"), fs::read(&path).unwrap())
        } else if found.file_type().is_fifo() {
            (format!("fifo {mode:o}"), Vec::new())
        } else {
            (format!("other {mode:o}"), Vec::new())
        };
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        all.insert(name, (kind, (found.uid(), found.gid()), contents));
    }
}

/// Runs a shell script in the workspace behind an overlay, which must go well.
pub fn change(world: &World, script: &str) -> Outcome {
    let outcome = world.shell(&["--fs", "overlay"], &format!("set -e\n{script}"));
    assert_eq!(outcome.code(), Some(0), "{outcome:?}");
    outcome
}

/// Runs `omni VERB last FLAGS`.
pub fn omni(world: &World, verb: &str, flags: &[&str]) -> Outcome {
    let mut command = world.omni();
    command.args([verb, "last"]).args(flags);
    finish(command, b"")
}

/// The changes that wait, as `path kind` in the order of `omni diff`.
pub fn waiting(world: &World) -> Vec<String> {
    let changes = world.list(&["diff", "last"]);
    changes.iter().map(|c| format!("{} {}", c["change"].as_str().unwrap(), c["path"].as_str().unwrap())).collect()
}

/// The directory that holds everything about the last session's overlay, if there is any.
pub fn overlay(world: &World) -> Option<PathBuf> {
    let sessions = fs::read_dir(world.omni_home().join("sessions")).unwrap();
    let mut overlays = sessions.map(|session| session.unwrap().path().join("overlay")).filter(|path| path.exists());
    overlays.next()
}
