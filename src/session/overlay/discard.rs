//! Forgetting what a session changed.

use super::commit;
use super::dir::Dir;
use super::error::OverlayError;
use super::facts::Kind;
use super::layer::{self, Layer};
use super::scan::scan;
use crate::model::{Event, SessionId, Writer};
use crate::session::clock;
use crate::store::{Home, Journal, Recorder};
use std::io;

/// Deepest nesting that is removed in place, since each level holds a descriptor; what lies deeper is moved up first.
const DEPTH_MAX: usize = 64;

/// Records that the changes are given up, and removes them. Returns how many there were, where that could be told.
///
/// # Errors
/// [`OverlayError::Nothing`], [`OverlayError::Busy`], or what kept the record from being written or the layer from being
/// removed; trying again goes on with it.
pub fn discard(home: &Home, session: &SessionId) -> Result<Option<u64>, OverlayError> {
    layer::sweep(home, session)?;
    let changes = match Layer::find(home, session) {
        // Its notes are of no use any more, so that it does not matter what is wrong with them; but an attempt that was cut
        // short may keep what the workspace had.
        Err(OverlayError::Notes { .. }) if !commit::is_under_way(&layer::place(home, session)) => {
            record(home, session, None)?;
            None
        }
        other => {
            let layer = other?;
            let _lock = layer.lock()?;
            let mut journal = Journal::reopen(home, session, Writer::Changes)?;
            commit::recover(&layer, &mut journal)?;
            drop(journal);
            let changes = scan(&layer, false).ok().map(|changes| changes.list.len() as u64);
            record(home, session, changes)?;
            changes
        }
    };
    layer::remove(home, session)?;
    Ok(changes)
}

fn record(home: &Home, session: &SessionId, changes: Option<u64>) -> Result<(), OverlayError> {
    let mut journal = Journal::reopen(home, session, Writer::Changes)?;
    journal.record(clock::now(), &Event::ChangesDiscarded { changes })?;
    Ok(journal.sync()?)
}

/// Removes an entry with everything below it, whatever its bits, its depth and its names; no link is followed.
pub(super) fn remove_tree(parent: &Dir, name: &[u8]) -> io::Result<()> {
    let mut moved = Moved { top: parent, prefix: name.to_vec(), next: 0, waiting: vec![name.to_vec()] };
    while let Some(name) = moved.waiting.pop() {
        remove_entry(parent, &name, 0, &mut moved)?;
    }
    Ok(())
}

/// Directories from too deep below, moved up beside the tree that is removed.
struct Moved<'a> {
    top: &'a Dir,
    prefix: Vec<u8>,
    next: u64,
    waiting: Vec<Vec<u8>>,
}

impl Moved<'_> {
    fn take(&mut self, parent: &Dir, name: &[u8]) -> io::Result<()> {
        loop {
            let mut up = self.prefix.clone();
            up.extend_from_slice(format!(".{}", self.next).as_bytes());
            self.next += 1;
            match parent.move_to(name, self.top, &up) {
                // An earlier removal, cut short, left one of that name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => {
                    self.waiting.push(up);
                    return other;
                }
            }
        }
    }
}

fn remove_entry(parent: &Dir, name: &[u8], depth: usize, moved: &mut Moved<'_>) -> io::Result<()> {
    let Some(facts) = parent.look(name)? else { return Ok(()) };
    if facts.kind != Kind::Directory {
        return parent.unlink(name);
    }
    if facts.mode & 0o700 != 0o700 {
        parent.set_mode(name, 0o700)?;
    }
    if depth >= DEPTH_MAX {
        return moved.take(parent, name);
    }
    let directory = parent.enter(name)?;
    for name in directory.names()? {
        remove_entry(&directory, &name, depth + 1, moved)?;
    }
    parent.remove_directory(name)
}
