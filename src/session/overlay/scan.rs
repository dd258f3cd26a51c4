//! Walking through the layer beside the workspace, and listing what differs.

use super::change::{After, Before, Change, ChangeKind, Likeness, compare};
use super::commit::Taken;
use super::dir::{Attributes, Dir};
use super::error::{OverlayError, Side};
use super::facts::{Beginning, Facts, Kind};
use super::judge::{self, Oddity, folded};
use super::layer::Layer;
use super::path::RelPath;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

/// Most paths that may differ.
const CHANGES_MAX: usize = 1_000_000;
/// Deepest nesting of directories that is looked into; each level holds two descriptors.
const DEPTH_MAX: usize = 200;
/// How much of two files is compared at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What overlayfs notes on its files under `userxattr` (its documentation, "user xattr").
const NOTES: &[u8] = b"user.overlay.";
const NOTE_OPAQUE: &[u8] = b"user.overlay.opaque";
const NOTE_ORIGIN: &[u8] = b"user.overlay.origin";
/// How the kernel keeps notes that were set through the overlay.
const NOTES_INNER: &[u8] = b"user.overlay.overlay.";
/// The notes that the kernel writes in a layer such as ours.
const NOTES_KNOWN: [&[u8]; 5] =
    [NOTE_OPAQUE, NOTE_ORIGIN, b"user.overlay.impure", b"user.overlay.nlink", b"user.overlay.uuid"];

/// Everything that differs, with the two trees, so that it can be read.
#[derive(Debug)]
pub struct Changes {
    /// The paths that differ, those of a directory after it.
    pub list: Vec<Change>,
    pub(super) upper: Dir,
    pub(super) workspace: Dir,
    /// The directories of the workspace, beside those of the layer, that the host changed since the session began.
    pub(super) touched: BTreeSet<RelPath>,
    // Dropped last: it puts back what the reading above needed.
    _opened: Opened,
}

/// Entries of the layer whose bits kept their owner, omni, out: opened for the while, and closed again when dropped.
#[derive(Debug, Default)]
struct Opened {
    upper: Option<Dir>,
    entries: Vec<(RelPath, u32)>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(upper) = &self.upper else { return };
        for (path, mode) in self.entries.iter().rev() {
            let Some((parent, name)) = path.split() else { continue };
            // Nothing depends on it but that the next look sees what the session left.
            let _ = upper.descend(&parent).and_then(|parent| parent.set_mode(name, *mode));
        }
    }
}

/// Lists what differs between what a session left and the workspace. Of a session that still runs nothing is touched.
///
/// # Errors
/// An [`OverlayError`] that names what could not be looked at.
pub fn scan(layer: &Layer, running: bool) -> Result<Changes, OverlayError> {
    layer.is_of_this_user()?;
    let (upper, workspace) = (layer.open_upper()?, layer.open_workspace()?);
    let mut scan = Scan {
        beginning: layer.base.beginning(),
        taken: super::commit::taken(layer)?,
        running,
        opened: Opened { upper: (!running).then(|| layer.open_upper()).transpose()?, entries: Vec::new() },
        list: Vec::new(),
        touched: BTreeSet::new(),
    };
    let pair = Pair { upper: &upper, lower: Some(&workspace), opaque: false };
    scan.directory(&RelPath::default(), pair, 0)?;
    Ok(Changes { list: scan.list, upper, workspace, touched: scan.touched, _opened: scan.opened })
}

/// How many changes wait in a layer that was looked for; none where there is none.
///
/// # Errors
/// As [`scan`].
pub fn count_waiting(layer: Result<Layer, OverlayError>, running: bool) -> Result<Option<usize>, OverlayError> {
    match layer {
        Err(OverlayError::Nothing(_)) => Ok(None),
        layer => Ok(Some(scan(&layer?, running)?.list.len())),
    }
}

struct Scan {
    beginning: Beginning,
    taken: Taken,
    running: bool,
    opened: Opened,
    list: Vec<Change>,
    touched: BTreeSet<RelPath>,
}

/// A directory of the layer and the same of the workspace, if there is one.
#[derive(Clone, Copy)]
struct Pair<'a> {
    upper: &'a Dir,
    lower: Option<&'a Dir>,
    /// Whether nothing of the lower one shows in the sandbox.
    opaque: bool,
}

/// An entry of the layer.
struct Left {
    facts: Facts,
    notes: Attributes,
    attributes: Attributes,
    target: Option<Vec<u8>>,
    closed: bool,
}

impl Left {
    fn is_opaque(&self) -> bool {
        self.notes.get(NOTE_OPAQUE).is_some_and(|value| value == b"y")
    }

    /// Whether there are notes that the kernel does not write by itself. Those that the harness sets it keeps apart,
    /// since Linux 6.7, under a name of their own.
    fn notes_oddity(&self) -> Option<Oddity> {
        let known = |(name, value): &(&Vec<u8>, &Vec<u8>)| {
            NOTES_KNOWN.contains(&name.as_slice()) && (*name != NOTE_OPAQUE || *value == b"y")
        };
        let mut strange = self.notes.iter().filter(|note| !known(note)).map(|(name, _)| name).peekable();
        strange.peek()?;
        let inner = strange.all(|name| name.starts_with(NOTES_INNER));
        Some(if inner { Oddity::InnerNotes } else { Oddity::ForeignNotes })
    }
}

impl Scan {
    fn directory(&mut self, path: &RelPath, pair: Pair<'_>, depth: usize) -> Result<(), OverlayError> {
        self.note_touched(path, pair)?;
        let names = pair.upper.names().map_err(OverlayError::looking(path, Side::Layer))?;
        let first = self.list.len();
        for name in &names {
            match self.entry(&path.join(name), name, pair, depth) {
                // A session that runs may remove it while it is looked at.
                Err(OverlayError::Look { error, .. }) if self.running && error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        let mut lower_names = BTreeSet::new();
        let adds = self.list[first..].iter().any(|change| change.before.is_none());
        if let Some(lower) = pair.lower.filter(|_| pair.opaque || adds) {
            lower_names.extend(lower.names().map_err(OverlayError::looking(path, Side::Workspace))?);
        }
        if pair.opaque {
            for name in lower_names.iter().filter(|name| names.binary_search(name).is_err()) {
                self.removed(&path.join(name), name, pair)?;
            }
        }
        self.mark_case(path, first, &names, &lower_names);
        Ok(())
    }

    /// Notes whether the host made, removed or renamed something in a directory. Where omni itself did so last, by
    /// applying other changes, the host did not.
    fn note_touched(&mut self, path: &RelPath, pair: Pair<'_>) -> Result<(), OverlayError> {
        let Some(lower) = pair.lower else { return Ok(()) };
        let facts = lower.facts().map_err(OverlayError::looking(path, Side::Workspace))?;
        if self.beginning.precedes(&facts) && self.taken.touched.get(path) != Some(&facts.changed) {
            self.touched.insert(path.clone());
        }
        Ok(())
    }

    fn entry(&mut self, path: &RelPath, name: &[u8], pair: Pair<'_>, depth: usize) -> Result<(), OverlayError> {
        let Some(facts) = pair.upper.look(name).map_err(OverlayError::looking(path, Side::Layer))? else {
            return Ok(());
        };
        if facts.is_whiteout() {
            return self.removed(path, name, pair);
        }
        let left = self.left(path, name, pair, facts)?;
        let before = match pair.lower {
            Some(lower) => lower.look(name).map_err(OverlayError::looking(path, Side::Workspace))?,
            None => None,
        };
        let both_directories = facts.kind == Kind::Directory && before.is_some_and(|b| b.kind == Kind::Directory);
        if !self.taken.paths.contains(path) || both_directories {
            self.compare(path, name, pair, &left, before)?;
        }
        if facts.kind != Kind::Directory {
            return Ok(());
        }
        if depth >= DEPTH_MAX || left.closed {
            return self.not_entered(path, &left, before);
        }
        let upper = pair.upper.enter(name).map_err(OverlayError::looking(path, Side::Layer))?;
        let lower = match pair.lower.filter(|_| both_directories) {
            Some(lower) => Some(lower.enter(name).map_err(OverlayError::looking(path, Side::Workspace))?),
            None => None,
        };
        let opaque = pair.opaque || left.is_opaque();
        self.directory(path, Pair { upper: &upper, lower: lower.as_ref(), opaque }, depth + 1)
    }

    /// What stands in the layer; opened where only its bits keep omni out.
    fn left(&mut self, path: &RelPath, name: &[u8], pair: Pair<'_>, facts: Facts) -> Result<Left, OverlayError> {
        let looking = || OverlayError::looking(path, Side::Layer);
        let wanted = match facts.kind {
            Kind::Directory => 0o700,
            Kind::File => 0o400,
            _ => 0,
        };
        let mut closed = facts.mode & wanted != wanted && !rustix::process::geteuid().is_root();
        if closed && self.opened.upper.is_some() {
            pair.upper.set_mode(name, facts.mode | wanted).map_err(looking())?;
            self.opened.entries.push((path.clone(), facts.mode));
            closed = false;
        }
        let carries = matches!(facts.kind, Kind::Directory | Kind::File) && !closed;
        let all = if carries { pair.upper.attributes(name).map_err(looking())? } else { Attributes::new() };
        let (notes, attributes) = all.into_iter().partition(|(name, _)| name.starts_with(NOTES));
        let target = match facts.kind {
            Kind::Link => Some(pair.upper.target(name).map_err(looking())?),
            _ => None,
        };
        Ok(Left { facts, notes, attributes, target, closed })
    }

    fn compare(
        &mut self,
        path: &RelPath,
        name: &[u8],
        pair: Pair<'_>,
        left: &Left,
        before: Option<Facts>,
    ) -> Result<(), OverlayError> {
        let likeness = match (pair.lower, &before) {
            (Some(lower), Some(before)) if before.kind == left.facts.kind => {
                likeness(name, pair.upper, lower, left, before).map_err(OverlayError::looking(path, Side::Workspace))?
            }
            _ => Likeness::Different,
        };
        let goes = before.is_some_and(|before| before.kind == Kind::Directory) && left.facts.kind != Kind::Directory;
        let lost = match pair.lower {
            Some(lower) if goes => self.below(path, name, lower)?,
            _ => Lost::default(),
        };
        // A directory of the host's cannot be moved in an overlay, so that one which began as the host's began here.
        let parent = path.split().map(|(parent, _)| parent).unwrap_or_default();
        let after = After {
            facts: &left.facts,
            copied: left.notes.contains_key(NOTE_ORIGIN),
            may_be_removed: left.facts.kind == Kind::Directory || self.touched.contains(&parent),
        };
        let was = before.as_ref().map(|facts| Before { facts, newer: lost.newer.as_ref() });
        let Some((kind, conflict)) = compare(Some(after), was, likeness, self.beginning) else { return Ok(()) };
        let mut oddities = judge::oddities(path, &left.facts, before.as_ref(), left.target.as_deref());
        oddities.extend(left.notes_oddity());
        if left.closed && left.facts.kind != Kind::Directory {
            oddities.push(Oddity::Closed);
        }
        self.push(Change {
            mark: judge::mark(path, kind, Some(&left.facts), before.as_ref()),
            path: path.clone(),
            kind,
            before,
            after: Some(left.facts),
            target: left.target.clone(),
            below: lost.count,
            conflict,
            oddities,
        })
    }

    /// A directory that is not looked into is told of, whether it differs itself or not.
    fn not_entered(&mut self, path: &RelPath, left: &Left, before: Option<Facts>) -> Result<(), OverlayError> {
        let oddity = if left.closed { Oddity::Closed } else { Oddity::TooDeep };
        if let Some(last) = self.list.last_mut().filter(|last| last.path == *path) {
            last.oddities.push(oddity);
            return Ok(());
        }
        self.push(Change {
            path: path.clone(),
            kind: ChangeKind::Modified,
            before,
            after: Some(left.facts),
            target: None,
            below: 0,
            conflict: None,
            mark: None,
            oddities: vec![oddity],
        })
    }

    /// A name of the workspace that the sandbox does not show any more.
    fn removed(&mut self, path: &RelPath, name: &[u8], pair: Pair<'_>) -> Result<(), OverlayError> {
        let Some(lower) = pair.lower.filter(|_| !self.taken.paths.contains(path)) else { return Ok(()) };
        let Some(before) = lower.look(name).map_err(OverlayError::looking(path, Side::Workspace))? else {
            return Ok(());
        };
        let lost = match before.kind {
            Kind::Directory => self.below(path, name, lower)?,
            _ => Lost::default(),
        };
        let was = Before { facts: &before, newer: lost.newer.as_ref() };
        let Some((kind, conflict)) = compare(None, Some(was), Likeness::Different, self.beginning) else {
            return Ok(());
        };
        self.push(Change {
            path: path.clone(),
            kind,
            before: Some(before),
            after: None,
            target: None,
            below: lost.count,
            conflict,
            mark: None,
            oddities: Vec::new(),
        })
    }

    fn push(&mut self, change: Change) -> Result<(), OverlayError> {
        if self.list.len() >= CHANGES_MAX {
            return Err(OverlayError::TooMany(CHANGES_MAX));
        }
        self.list.push(change);
        Ok(())
    }

    /// What lies below a directory of the workspace that would go.
    fn below(&self, path: &RelPath, name: &[u8], lower: &Dir) -> Result<Lost, OverlayError> {
        let mut lost = Lost::default();
        self.count(path, name, lower, 0, &mut lost)?;
        Ok(lost)
    }

    fn count(
        &self,
        path: &RelPath,
        name: &[u8],
        lower: &Dir,
        depth: usize,
        lost: &mut Lost,
    ) -> Result<(), OverlayError> {
        let looking = |path: &RelPath| OverlayError::looking(path, Side::Workspace);
        let directory = lower.enter(name).map_err(looking(path))?;
        for name in directory.names().map_err(looking(path))? {
            let path = path.join(&name);
            let Some(facts) = directory.look(&name).map_err(looking(&path))? else { continue };
            lost.count += 1;
            if facts.kind != Kind::Directory {
                if self.beginning.precedes(&facts) {
                    lost.newer.get_or_insert(path);
                }
            } else if depth < DEPTH_MAX {
                self.count(&path, &name, &directory, depth + 1, lost)?;
            } else {
                // What is not looked at may have been changed.
                lost.newer.get_or_insert(path);
            }
        }
        Ok(())
    }

    /// Marks new names that a file system which folds case would take for another one of the directory.
    fn mark_case(&mut self, path: &RelPath, first: usize, upper: &[Vec<u8>], lower: &BTreeSet<Vec<u8>>) {
        let mut by_folded: BTreeMap<Vec<u8>, BTreeSet<&[u8]>> = BTreeMap::new();
        for name in upper.iter().chain(lower) {
            by_folded.entry(folded(name)).or_default().insert(name);
        }
        for change in &mut self.list[first..] {
            let here = change.path.split().is_some_and(|(parent, _)| parent == *path);
            if !here || change.before.is_some() {
                continue;
            }
            let alike = by_folded.get(&folded(change.path.name()));
            let other = alike.and_then(|names| names.iter().find(|name| **name != change.path.name()));
            if let Some(other) = other {
                change.oddities.push(Oddity::CaseOnly(super::path::shown(other)));
            }
        }
    }
}

/// What would be lost with a directory.
#[derive(Default)]
struct Lost {
    count: u64,
    newer: Option<RelPath>,
}

/// How alike an entry of the layer and one of the workspace are, which are of the same kind.
fn likeness(name: &[u8], upper: &Dir, lower: &Dir, left: &Left, before: &Facts) -> io::Result<Likeness> {
    let same = match left.facts.kind {
        Kind::File if left.closed || left.facts.size != before.size => false,
        Kind::File => match lower.read(name) {
            // What nobody may read is not the same as anything.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
            there => same_contents(&upper.read(name)?, &there?)?,
        },
        Kind::Link => left.target == Some(lower.target(name)?),
        Kind::Device => left.facts.device == before.device,
        Kind::Directory | Kind::Fifo | Kind::Socket => true,
    };
    if !same {
        return Ok(Likeness::Different);
    }
    // A link's bits mean nothing.
    let bits = left.facts.kind == Kind::Link || left.facts.mode == before.mode;
    let attributes = match left.facts.kind {
        Kind::File if !left.closed => {
            let there = lower.attributes(name)?.into_iter().filter(|(name, _)| !name.starts_with(NOTES));
            left.attributes == there.collect()
        }
        _ => true,
    };
    Ok(if bits && attributes { Likeness::Same } else { Likeness::Contents })
}

fn same_contents(one: &File, other: &File) -> io::Result<bool> {
    let (mut mine, mut theirs) = (vec![0u8; PIECE_BYTES], vec![0u8; PIECE_BYTES]);
    loop {
        let length = fill(one, &mut mine)?;
        if length != fill(other, &mut theirs)? || mine[..length] != theirs[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Changes {
    /// What the sandbox left in a regular file, at most `bytes` of it.
    ///
    /// # Errors
    /// [`OverlayError::Look`].
    pub fn read_after(&self, path: &RelPath, bytes: u64) -> Result<Vec<u8>, OverlayError> {
        read_at(&self.upper, path, bytes).map_err(OverlayError::looking(path, Side::Layer))
    }

    /// What the host has in a regular file, at most `bytes` of it.
    ///
    /// # Errors
    /// [`OverlayError::Look`].
    pub fn read_before(&self, path: &RelPath, bytes: u64) -> Result<Vec<u8>, OverlayError> {
        read_at(&self.workspace, path, bytes).map_err(OverlayError::looking(path, Side::Workspace))
    }

    /// Where a link of the host's points.
    ///
    /// # Errors
    /// [`OverlayError::Look`].
    pub fn target_before(&self, path: &RelPath) -> Result<Vec<u8>, OverlayError> {
        let (parent, name) = path.split().unwrap_or_default();
        let found = self.workspace.descend(&parent).and_then(|parent| parent.target(name));
        found.map_err(OverlayError::looking(path, Side::Workspace))
    }
}

fn read_at(root: &Dir, path: &RelPath, bytes: u64) -> io::Result<Vec<u8>> {
    let (parent, name) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
    let mut contents = Vec::new();
    root.descend(&parent)?.read(name)?.take(bytes).read_to_end(&mut contents)?;
    Ok(contents)
}
