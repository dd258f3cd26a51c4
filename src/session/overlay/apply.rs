//! Taking over what a session changed: look, choose, object, stage, record, commit.

use super::change::{Change, ChangeKind};
use super::commit::{self, Attempt, Recovered};
use super::error::OverlayError;
use super::held::Held;
use super::layer::Layer;
use super::operation::{self, BadChoice, Choice, Consent, Objections};
use super::scan::{Changes, scan};
use super::stage;
use crate::model::Event;
use crate::session::clock;
use crate::store::Recorder;

/// How many paths a record names.
const NAMED_MAX: usize = 1000;

/// The changes of one session, about to be taken over. Nobody else can do it meanwhile.
#[derive(Debug)]
pub struct Applying {
    changes: Changes,
    recovered: Option<Recovered>,
    held: Held,
}

/// What was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Every path with what became of it.
    pub paths: Vec<(super::path::RelPath, ChangeKind)>,
    /// How many changes still wait.
    pub left: usize,
}

impl Applying {
    /// Begins, and goes on with what an earlier attempt left unfinished. With the rights of the layer's owner, as all until
    /// [`Applying::close`].
    ///
    /// # Errors
    /// [`OverlayError::Others`], and whatever cannot be looked at.
    pub fn begin(mut held: Held) -> Result<Self, OverlayError> {
        let recovered = commit::recover(&held.layer, &mut held.journal)?;
        let changes = scan(&held.layer, false)?;
        Ok(Self { changes, recovered, held })
    }

    /// What became of an earlier attempt.
    #[must_use]
    pub fn recovered(&self) -> Option<Recovered> {
        self.recovered
    }

    /// The workspace on the host.
    #[must_use]
    pub fn layer(&self) -> &Layer {
        &self.held.layer
    }

    /// Everything that waits.
    #[must_use]
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What speaks against taking the chosen changes over.
    ///
    /// # Errors
    /// [`OverlayError::Unchanged`] or [`OverlayError::Part`] for a choice that cannot be followed.
    pub fn objections(&self, choice: &Choice, consent: Consent) -> Result<Objections, OverlayError> {
        Ok(operation::object(&self.chosen(choice)?, consent))
    }

    fn chosen(&self, choice: &Choice) -> Result<Vec<&Change>, OverlayError> {
        operation::choose(&self.changes.list, choice).map_err(|bad| match bad {
            BadChoice::Unchanged(path) => OverlayError::Unchanged(path),
            BadChoice::Part(path, whole) => OverlayError::Part(path, whole),
        })
    }

    /// Takes the chosen changes over, all or none.
    ///
    /// # Errors
    /// [`OverlayError::Refused`] while anything speaks against it; then nothing was done. A failed step is put back.
    pub fn take(&mut self, choice: &Choice, consent: Consent) -> Result<Applied, OverlayError> {
        let chosen: Vec<Change> = self.chosen(choice)?.into_iter().cloned().collect();
        let chosen: Vec<&Change> = chosen.iter().collect();
        if !operation::object(&chosen, consent).are_none() {
            return Err(OverlayError::Refused);
        }
        let left = self.changes.list.len() - chosen.len();
        let paths = chosen.iter().map(|change| (change.path.clone(), change.kind)).collect();
        if !chosen.is_empty() {
            let mut steps = operation::plan(&chosen);
            let Held { layer, journal, .. } = &mut self.held;
            let staging = stage::stage(layer, &self.changes, &chosen, &mut steps)?;
            journal.record(clock::now(), &event(&chosen))?;
            journal.sync()?;
            let parents = steps.iter().filter_map(|step| Some(step.path().split()?.0));
            let untouched = parents.filter(|path| !self.changes.touched.contains(path)).collect();
            commit::commit(layer, journal, &Attempt { steps, untouched }, staging)?;
        }
        Ok(Applied { paths, left })
    }

    /// Removes the layer if nothing of it is left to apply. With the rights of whoever keeps the records.
    ///
    /// # Errors
    /// What kept it from being removed; it holds nothing any more.
    pub fn close(self, applied: &Applied) -> Result<(), OverlayError> {
        drop(self.changes);
        if applied.left == 0 { self.held.remove() } else { Ok(()) }
    }
}

fn event(chosen: &[&Change]) -> Event {
    let count = |kinds: &[ChangeKind]| chosen.iter().filter(|change| kinds.contains(&change.kind)).count() as u64;
    let named = |wanted: &dyn Fn(&Change) -> bool| {
        let paths = chosen.iter().filter(|change| wanted(change)).map(|change| change.path.to_string());
        paths.take(NAMED_MAX).collect()
    };
    Event::ChangesApplied {
        added: count(&[ChangeKind::Added]),
        modified: count(&[ChangeKind::Modified, ChangeKind::Mode, ChangeKind::Replaced]),
        deleted: count(&[ChangeKind::Deleted]),
        executables: named(&|change| change.mark.is_some()),
        overwritten: named(&|change| change.conflict.is_some()),
        digest: operation::digest(chosen),
    }
}
