//! Removing trees that a sandbox made.

use super::dir::Dir;
use super::facts::Kind;
use std::io;

/// Deepest nesting that is removed in place, since each level holds a descriptor; what lies deeper is moved up first.
const DEPTH_MAX: usize = 64;

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
