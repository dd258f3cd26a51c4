//! Comparing a journal's frames with the entries that stand for them.

use super::super::StoreError;
use super::check::LedgerFinding;
use super::files::{Files, READ_ENTRIES};
use super::walk::{Run, Walk};
use crate::ledger::{HASH_PLACE, Hash};
use crate::model::{SessionId, Writer};

/// The entries of one journal, on the way through its frames.
pub(in super::super) struct Entered<'a> {
    files: &'a Files,
    runs: &'a [Run],
    named: String,
    seen: u64,
    faults: Vec<LedgerFinding>,
    over: bool,
}

impl Walk {
    /// Those of a journal; none where none is entered.
    pub(in super::super) fn entered(&self, session: &SessionId, writer: Writer) -> Option<Entered<'_>> {
        let runs = self.journals.get(&(session.clone(), writer))?;
        let named = format!("the {} journal of session {session}", writer.as_str());
        Some(Entered { files: &self.files, runs, named, seen: 0, faults: Vec::new(), over: false })
    }
}

impl Entered<'_> {
    fn fault(&mut self, index: u64, what: String) {
        self.faults.push(LedgerFinding { index: Some(index), what });
    }

    /// The journal cannot be read on, or not at all.
    pub fn end_at(&mut self, why: String) {
        self.fault(place_after(self.runs, self.seen), why);
        self.over = true;
    }

    /// There is no such journal.
    pub fn missing(&mut self) {
        let why = format!("{} is missing", self.named);
        self.end_at(why);
    }

    /// Compares the frames that come next with their entries.
    pub fn take(&mut self, hashes: &[Hash]) -> Result<(), StoreError> {
        let first = self.seen + 1;
        self.seen += hashes.len() as u64;
        let end = first + hashes.len() as u64;
        for run in self.runs {
            let (mut seq, to) = (run.seq.max(first), (run.seq + run.count).min(end));
            while seq < to {
                let place = run.place + (seq - run.seq);
                for (index, bytes) in (place..).zip(self.files.read(place, READ_ENTRIES.min(to - seq))?) {
                    let wanted = usize::try_from(seq - first).ok().and_then(|slot| hashes.get(slot));
                    if wanted.is_none_or(|hash| bytes[HASH_PLACE..] != hash.0) {
                        let named = &self.named;
                        let what = format!("it does not stand for frame {seq} of {named}: one of them was changed");
                        self.fault(index, what);
                    }
                    seq += 1;
                }
            }
        }
        Ok(())
    }

    /// What was found, now that the journal is at its end.
    pub fn finish(mut self) -> Vec<LedgerFinding> {
        let (seen, last) = (self.seen, self.runs.iter().map(|run| run.seq + run.count - 1).max().unwrap_or(0));
        if seen < last && !self.over {
            let named = &self.named;
            let what = format!("{named} has {seen} sound frames, and {last} were entered: it was changed or cut short");
            self.fault(place_after(self.runs, seen), what);
        }
        self.faults
    }
}

/// The first entry of a frame beyond the first `seen` of its journal.
fn place_after(runs: &[Run], seen: u64) -> u64 {
    let beyond = runs.iter().filter(|run| seen < run.seq + run.count);
    beyond.map(|run| run.place + (seen + 1).saturating_sub(run.seq)).min().unwrap_or(0)
}
