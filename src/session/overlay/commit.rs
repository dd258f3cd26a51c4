//! Moving what was staged to its place, all or nothing.
//!
//! The steps are written to `apply.json` and brought to the disk before the first one: from then on the workspace gets
//! either all of them or, where one fails, none. A step is done or undone by looking at what is there, so that whoever comes
//! after a killed omni goes on where that stopped. What was replaced or removed is kept in the staging directory until all
//! is done.

use super::dir::Dir;
use super::error::OverlayError;
use super::facts::Moment;
use super::layer::Layer;
use super::operation::{Known, Operation};
use super::path::RelPath;
use super::stage::{Staging, new_name, old_name};
use crate::model::Event;
use crate::session::clock;
use crate::store::{Journal, Recorder};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// The steps that are under way.
const STEPS: &str = "apply.json";
/// There while the steps are taken back.
const UNDO: &str = "apply.undo";
/// The steps that are all done; what is left to do is tidying up.
const DONE: &str = "apply.done";
/// The paths that were applied.
const TAKEN: &str = "taken.json";
/// Longest such file that is read: steps for as many changes as there may be, with paths of any length.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// What is under way, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The steps.
    pub steps: Vec<Operation>,
    /// The directories that steps are taken in and that the host had not touched before.
    pub untouched: BTreeSet<RelPath>,
}

/// What was applied before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Taken {
    /// The paths: what the layer still has of them counts no more.
    pub paths: BTreeSet<RelPath>,
    /// The directories that omni itself touched last, and when.
    pub touched: BTreeMap<RelPath, Moment>,
}

/// What became of an attempt that an earlier omni left unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// It was finished.
    Finished,
    /// It was put back.
    PutBack,
}

/// Whether an attempt may be unfinished, for somebody who cannot go on with it.
pub(super) fn is_under_way(place: &Path) -> bool {
    [STEPS, DONE, UNDO, super::stage::STAGING].iter().any(|name| place.join(name).exists())
}

/// Goes on with an attempt that an earlier omni left unfinished.
pub(super) fn recover(layer: &Layer, journal: &mut Journal) -> Result<Option<Recovered>, OverlayError> {
    layer.is_of_this_user()?;
    let there = |name: &str| layer.place.join(name).exists();
    let staging = Staging::find(layer)?;
    if there(DONE) {
        if let Some(attempt) = read(&layer.place.join(DONE))? {
            tidy(layer, &attempt, staging)?;
        }
        return Ok(Some(Recovered::Finished));
    }
    let attempt = read::<Attempt>(&layer.place.join(STEPS))?;
    let (Some(attempt), Some(staging)) = (attempt, Staging::find(layer)?) else {
        // Killed before the first step, or after the last was taken back.
        let Some(staging) = staging else {
            return Ok(None);
        };
        put_back(layer, journal, "it was interrupted before anything was moved", staging)?;
        return Ok(Some(Recovered::PutBack));
    };
    if there(UNDO) {
        undo(layer, &attempt.steps, &staging)?;
        put_back(layer, journal, "it was interrupted while it was put back", staging)?;
        return Ok(Some(Recovered::PutBack));
    }
    match carry_out(layer, journal, &attempt, staging) {
        Ok(()) => Ok(Some(Recovered::Finished)),
        Err(OverlayError::Step { .. }) => Ok(Some(Recovered::PutBack)),
        Err(error) => Err(error),
    }
}

/// Commits to the steps, and carries them out.
pub(super) fn commit(
    layer: &Layer,
    journal: &mut Journal,
    attempt: &Attempt,
    staging: Staging,
) -> Result<(), OverlayError> {
    if let Err(error) = write(&layer.place, STEPS, attempt) {
        put_back(layer, journal, "its steps could not be written down", staging)?;
        return Err(error);
    }
    carry_out(layer, journal, attempt, staging)
}

/// Takes every step; where one fails, takes all back.
fn carry_out(layer: &Layer, journal: &mut Journal, attempt: &Attempt, staging: Staging) -> Result<(), OverlayError> {
    let steps = &attempt.steps;
    let workspace = layer.open_workspace()?;
    let site = Site { workspace: &workspace, staging: &staging.dir };
    let done = steps.iter().try_for_each(|step| site.take(step).map_err(|error| (step, error)));
    if let Err((step, error)) = done {
        fs::write(layer.place.join(UNDO), b"").map_err(OverlayError::preparing("note that it is put back"))?;
        undo(layer, steps, &staging)?;
        put_back(layer, journal, &format!("{}: {error}", step.path()), staging)?;
        return Err(OverlayError::Step { step: "put in place", path: step.path().clone(), error });
    }
    site.sync(steps).map_err(OverlayError::preparing("bring the workspace to the disk"))?;
    fs::rename(layer.place.join(STEPS), layer.place.join(DONE))
        .map_err(OverlayError::preparing("note that all is done"))?;
    tidy(layer, attempt, Some(staging))
}

/// Notes what was applied and removes what was kept for taking it back.
fn tidy(layer: &Layer, attempt: &Attempt, staging: Option<Staging>) -> Result<(), OverlayError> {
    let mut taken = taken(layer)?;
    taken.paths.extend(attempt.steps.iter().map(|step| step.path().clone()));
    let workspace = layer.open_workspace()?;
    for path in &attempt.untouched {
        // One that went itself needs no remembering.
        if let Ok(facts) = workspace.descend(path).and_then(|dir| dir.facts()) {
            taken.touched.insert(path.clone(), facts.changed);
        }
    }
    write(&layer.place, TAKEN, &taken)?;
    if let Some(staging) = staging {
        staging.remove()?;
    }
    forget(layer, DONE)
}

fn undo(layer: &Layer, steps: &[Operation], staging: &Staging) -> Result<(), OverlayError> {
    let workspace = layer.open_workspace()?;
    let site = Site { workspace: &workspace, staging: &staging.dir };
    let mut first = None;
    for step in steps.iter().rev() {
        // One that cannot be taken back keeps none of the others from it.
        if let Err(error) = site.take_back(step) {
            let stuck = OverlayError::Stuck { path: step.path().clone(), error, kept: staging.path(layer) };
            first.get_or_insert(stuck);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Records that nothing was applied, and removes the staging directory.
fn put_back(layer: &Layer, journal: &mut Journal, reason: &str, staging: Staging) -> Result<(), OverlayError> {
    journal.record(clock::now(), &Event::ChangesRolledBack { reason: reason.to_owned() })?;
    journal.sync()?;
    forget(layer, STEPS)?;
    staging.remove()?;
    forget(layer, UNDO)
}

fn forget(layer: &Layer, name: &str) -> Result<(), OverlayError> {
    match fs::remove_file(layer.place.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OverlayError::Prepare { step: "remove a note", error })
        }
        _ => Ok(()),
    }
}

/// What was applied before.
pub(super) fn taken(layer: &Layer) -> Result<Taken, OverlayError> {
    Ok(read(&layer.place.join(TAKEN))?.unwrap_or_default())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, OverlayError> {
    let failed = |why: String| OverlayError::Notes { path: path.to_owned(), why };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed(error.to_string()))?,
    };
    let mut text = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX), &mut text).map_err(|e| failed(e.to_string()))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.to_string()))
}

/// Writes a file as a whole: it is there complete, and on the disk, or not at all.
fn write(place: &Path, name: &str, value: &impl serde::Serialize) -> Result<(), OverlayError> {
    let failed = |error| OverlayError::Prepare { step: "write down what is to be done", error };
    let new = place.join(format!("{name}.new"));
    let write = || {
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&new, place.join(name))?;
        fs::File::open(place)?.sync_all()
    };
    write().map_err(failed)
}

/// The two directories that steps move things between.
struct Site<'a> {
    workspace: &'a Dir,
    staging: &'a Dir,
}

/// A step found something else than it expected.
fn changed() -> io::Error {
    io::Error::other("the host changed it at this moment")
}

impl Site<'_> {
    fn place<'p>(&self, path: &'p RelPath) -> io::Result<(Dir, &'p [u8])> {
        let (parent, name) = path.split().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.workspace.descend(&parent)?, name))
    }

    /// Takes one step, unless it is taken already.
    fn take(&self, step: &Operation) -> io::Result<()> {
        let (parent, name) = self.place(step.path())?;
        let there = parent.look(name)?;
        match step {
            Operation::Put { number, inode, replaces, .. } => {
                if there.is_some_and(|there| there.inode == *inode) {
                    return Ok(());
                }
                let (new, old) = (new_name(*number), old_name(*number));
                let Some(known) = replaces else { return self.staging.move_to(&new, &parent, name) };
                if there.is_none() && self.holds(&old, known)? {
                    return self.staging.move_to(&new, &parent, name);
                }
                if !is_known(there, known) {
                    return Err(changed());
                }
                if self.staging.exchange(&new, &parent, name)? {
                    return Ok(());
                }
                parent.move_to(name, self.staging, &old)?;
                self.staging.move_to(&new, &parent, name)
            }
            Operation::Remove { number, known, .. } => {
                let old = old_name(*number);
                if self.holds(&old, known)? {
                    return Ok(());
                }
                if !is_known(there, known) {
                    return Err(changed());
                }
                parent.move_to(name, self.staging, &old)
            }
            Operation::SetMode { after, .. } => match there {
                Some(there) if there.mode == *after => Ok(()),
                Some(_) => parent.set_mode(name, *after),
                None => Err(changed()),
            },
        }
    }

    /// Takes one step back, unless it was not taken.
    fn take_back(&self, step: &Operation) -> io::Result<()> {
        let (parent, name) = match self.place(step.path()) {
            // The directory that it was to be put into did not come, or the host put something else there.
            Err(_) if self.is_untaken(step)? => return Ok(()),
            other => other?,
        };
        let there = parent.look(name)?;
        match step {
            Operation::Put { number, inode, replaces, .. } => {
                let (new, old) = (new_name(*number), old_name(*number));
                if there.is_some_and(|there| there.inode == *inode) {
                    let swapped = match replaces {
                        Some(known) => self.holds(&new, known)?,
                        None => false,
                    };
                    if swapped && self.staging.exchange(&new, &parent, name)? {
                        return Ok(());
                    }
                    parent.move_to(name, self.staging, &new)?;
                } else if there.is_some() {
                    return Ok(());
                }
                match replaces {
                    Some(known) if self.holds(&old, known)? => self.staging.move_to(&old, &parent, name),
                    _ => Ok(()),
                }
            }
            Operation::Remove { number, known, .. } => {
                let old = old_name(*number);
                if self.holds(&old, known)? { self.staging.move_to(&old, &parent, name) } else { Ok(()) }
            }
            Operation::SetMode { before, after, .. } => match there {
                Some(there) if there.mode == *after => parent.set_mode(name, *before),
                _ => Ok(()),
            },
        }
    }

    /// Whether the staging directory still holds everything as it was before a step.
    fn is_untaken(&self, step: &Operation) -> io::Result<bool> {
        match step {
            Operation::Put { number, inode, replaces, .. } => {
                let waits = self.staging.look(&new_name(*number))?.is_some_and(|staged| staged.inode == *inode);
                let kept = replaces.map_or(Ok(false), |known| self.holds(&old_name(*number), &known))?;
                Ok(waits && !kept)
            }
            Operation::Remove { number, known, .. } => Ok(!self.holds(&old_name(*number), known)?),
            Operation::SetMode { .. } => Ok(true),
        }
    }

    /// Whether something of the host's is kept under a name.
    fn holds(&self, name: &[u8], known: &Known) -> io::Result<bool> {
        // Moving it changed it, in the file system's eyes.
        Ok(self.staging.look(name)?.is_some_and(|kept| kept.inode == known.inode))
    }

    /// Brings every directory that steps were taken in to the disk.
    fn sync(&self, steps: &[Operation]) -> io::Result<()> {
        let parents: BTreeSet<RelPath> = steps.iter().filter_map(|step| Some(step.path().split()?.0)).collect();
        if parents.len() > DIRECTORIES_SYNCED_MAX {
            return self.workspace.sync_all();
        }
        for parent in parents {
            match self.workspace.descend(&parent).and_then(|parent| parent.sync()) {
                // It went itself, or may only be passed through.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// How many directories are brought to the disk one by one; beyond it, the whole file system is.
const DIRECTORIES_SYNCED_MAX: usize = 64;

fn is_known(there: Option<super::facts::Facts>, known: &Known) -> bool {
    there.is_some_and(|there| {
        there.inode == known.inode
            && known.modified.is_none_or(|modified| there.modified == modified)
            && known.changed.is_none_or(|changed| there.changed == changed)
    })
}
