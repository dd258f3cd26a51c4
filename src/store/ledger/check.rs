//! Checking the ledger by its files alone: with itself, with the journals, with what was signed.

use super::super::{Home, StoreError};
use super::files::{HASH_FILES, LEVELS, WIDTH};
use super::key::check_signature;
use super::walk::Walk;
use super::{LedgerError, read_checkpoint};
use crate::ledger::{Checkpoint, Hash, KeyKind, Note, Signed, VerifierKey, origin};
use std::collections::BTreeSet;
use std::path::Path;

/// How many findings are told; what follows from the first ones tells nothing new.
const FINDINGS_MAX: usize = 100;

/// What the check of the ledger found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerReport {
    /// How many entries it has.
    pub size: u64,
    /// The root over them, computed from the entries.
    pub root: Option<Hash>,
    /// Its name; none where no key signed yet.
    pub origin: Option<String>,
    /// The keys that sign, with the entry that names each.
    pub keys: Vec<(u64, VerifierKey)>,
    /// The size of the last checkpoint, if it is sound: what it covers cannot change any more without being found.
    pub signed: Option<u64>,
    /// What is wrong, the first bad entry first.
    pub faults: Vec<LedgerFinding>,
    /// What is worth knowing.
    pub notes: Vec<LedgerFinding>,
}

/// Something found at an entry, or in what was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerFinding {
    /// The entry, from 0; none for what is in no entry.
    pub index: Option<u64>,
    /// What it is, for a person.
    pub what: String,
}

impl LedgerReport {
    /// The first entry that something is wrong with.
    #[must_use]
    pub fn first_bad(&self) -> Option<u64> {
        self.faults.iter().filter_map(|finding| finding.index).min()
    }

    /// Puts the first entry first, and what is in no entry last.
    pub(in super::super) fn order(&mut self) {
        for findings in [&mut self.faults, &mut self.notes] {
            findings.sort_by(|one, other| {
                let place = |finding: &LedgerFinding| finding.index.unwrap_or(u64::MAX);
                place(one).cmp(&place(other)).then_with(|| one.what.cmp(&other.what))
            });
            findings.dedup();
            findings.truncate(FINDINGS_MAX);
        }
    }
}

/// The check of a ledger, from the walk through its entries on.
#[derive(Debug)]
pub(in super::super) struct Check<'a> {
    kept: &'a [(Note, Checkpoint)],
    own: Vec<(u64, Note, Checkpoint)>,
    walk: Walk,
    report: LedgerReport,
}

impl<'a> Check<'a> {
    /// Goes through the entries of a home's ledger, which is to agree with checkpoints that were kept elsewhere; none where there is
    /// no ledger.
    pub fn begin(home: &Home, kept: &'a [(Note, Checkpoint)]) -> Result<Option<Self>, StoreError> {
        let mut report = LedgerReport::default();
        let own = own_checkpoints(home, &mut report);
        let signed = own.iter().map(|(_, _, checkpoint)| checkpoint.size);
        let wanted: BTreeSet<_> = kept.iter().map(|(_, checkpoint)| checkpoint.size).chain(signed).collect();
        let Some(walk) = Walk::of(home, &wanted)? else { return Ok(None) };
        (report.size, report.root) = (walk.tree.size(), Some(walk.tree.root()));
        let finding = |(index, what): &(u64, String)| LedgerFinding { index: Some(*index), what: what.clone() };
        report.faults.extend(walk.faults.iter().map(finding));
        report.notes.extend(walk.notes.iter().map(finding));
        Ok(Some(Self { kept, own, walk, report }))
    }

    /// What the entries say.
    pub fn walk(&self) -> &Walk {
        &self.walk
    }

    /// What was found, with what the comparison of journals with their entries brought.
    pub fn finish(mut self, of_journals: Vec<LedgerFinding>) -> Result<LedgerReport, StoreError> {
        self.hash_files()?;
        self.report.faults.extend(of_journals);
        let own = std::mem::take(&mut self.own);
        self.judge_keys(&own);
        for (note, checkpoint) in self.kept {
            self.judge_kept(note, checkpoint);
        }
        self.tell_differing();
        self.report.order();
        Ok(self.report)
    }

    fn fault(&mut self, index: impl Into<Option<u64>>, what: impl Into<String>) {
        self.report.faults.push(LedgerFinding { index: index.into(), what: what.into() });
    }

    fn note(&mut self, index: u64, what: impl Into<String>) {
        self.report.notes.push(LedgerFinding { index: Some(index), what: what.into() });
    }

    /// Tells where kept hashes differ, unless an entry below them was found out already.
    fn tell_differing(&mut self) {
        // What is changed below 256 entries shows in every file above; the smallest place says most.
        let differing = &self.walk.differing;
        let smallest: Vec<_> = differing.iter().filter(|(_, width)| *width == WIDTH).copied().collect();
        let told = if smallest.is_empty() { differing.iter().copied().collect() } else { smallest };
        let found = self.report.first_bad();
        for (start, width) in told {
            let end = start + width;
            if found.is_none_or(|index| index >= end) {
                let last = end - 1;
                let what = format!("one of the entries {start} to {last}, or the hash kept above them, was changed");
                self.fault(start, what);
            }
        }
    }

    /// Whether the files of hashes end where the entries do.
    fn hash_files(&mut self) -> Result<(), StoreError> {
        let size = self.report.size;
        for level in 1..=HASH_FILES {
            let count = size >> (LEVELS * level);
            if self.walk.files.hashes(level, count, 1)?.is_some() {
                let what = "the hashes kept above the entries go on: the ledger was cut short";
                self.fault(size, what);
            }
        }
        Ok(())
    }

    /// Whether each key was handed over to by the one before, and the last of them signed the checkpoint.
    fn judge_keys(&mut self, own: &[(u64, Note, Checkpoint)]) {
        let Some((_, first)) = self.walk.keys.first().copied() else {
            if let Some((_, _, checkpoint)) = own.first() {
                self.fault(
                    None,
                    format!("a checkpoint of {} entries is signed and no entry names a key", checkpoint.size),
                );
            }
            return;
        };
        let name = origin(&first);
        let keys = self
            .walk
            .keys
            .iter()
            .filter_map(|(index, public)| Some((*index, VerifierKey::new(&name, KeyKind::Note, *public).ok()?)));
        self.report.keys = keys.collect();
        self.report.origin = Some(name);
        for number in 2..=self.report.keys.len() {
            let index = self.report.keys[number - 1].0;
            let found = own.iter().find(|(of, ..)| *of == number as u64);
            match found {
                Some((_, note, checkpoint)) => {
                    for signer in [number - 1, number] {
                        self.judge_signature(note, checkpoint, signer, "the checkpoint by which keys were handed over");
                    }
                    if checkpoint.size <= index {
                        self.fault(index, format!("key {number} was handed over to before this entry named it"));
                    }
                }
                // The next to sign completes it.
                None if number == self.report.keys.len() => self.note(index, "its key was not handed over to yet"),
                None => self.fault(index, format!("nothing shows that key {} handed over to key {number}", number - 1)),
            }
        }
        if let Some((_, note, checkpoint)) = own.iter().find(|(of, ..)| *of == 0) {
            let before = self.report.faults.len();
            let signer = self.signer_at(checkpoint.size);
            self.judge_signature(note, checkpoint, signer, "the checkpoint");
            if self.report.faults.len() == before {
                self.report.signed = Some(checkpoint.size);
            }
        }
    }

    /// The number of the key that signs a ledger of this size: that of the last key that is named in it.
    fn signer_at(&self, size: u64) -> usize {
        self.report.keys.iter().filter(|(index, _)| *index < size).count()
    }

    /// Whether a key of the ledger signed a checkpoint, and the ledger is what it says.
    fn judge_signature(&mut self, note: &Note, checkpoint: &Checkpoint, signer: usize, named: &str) {
        let size = checkpoint.size;
        let key = signer.checked_sub(1).and_then(|index| self.report.keys.get(index)).map(|(_, key)| key.clone());
        let Some(key) = key else {
            return self.fault(None, format!("{named}, of {size} entries, is from before any key was named"));
        };
        if key.name() != checkpoint.origin {
            return self.fault(None, format!("{named} is of another ledger, `{}`", checkpoint.origin));
        }
        match note.signed_by(&key, check_signature) {
            Signed::Yes(_) => self.judge_root(checkpoint, named),
            Signed::No | Signed::Forged => {
                self.fault(None, format!("{named}, of {size} entries, is not signed by key {signer} of the ledger"));
            }
        }
    }

    fn judge_root(&mut self, checkpoint: &Checkpoint, named: &str) {
        let (size, have) = (checkpoint.size, self.report.size);
        match self.walk.roots.get(&size).copied() {
            Some(root) if root == checkpoint.root => {}
            Some(_) => self.fault(
                self.first_doubt(size),
                format!(
                    "the first {size} entries are not those that {named} was signed over: the ledger was rewritten"
                ),
            ),
            None => self.fault(
                have,
                format!(
                    "{named} is of {size} entries, and {have} are left: the end was cut off, or this is an old copy"
                ),
            ),
        }
    }

    /// Where a ledger that contradicts a signature was changed first, as far as journals and kept hashes tell.
    fn first_doubt(&self, size: u64) -> Option<u64> {
        let found = self.report.first_bad().filter(|index| *index < size);
        found.or_else(|| self.walk.differing.iter().map(|(start, _)| *start).find(|start| *start < size))
    }

    /// Compares the ledger with a checkpoint that somebody kept.
    fn judge_kept(&mut self, note: &Note, checkpoint: &Checkpoint) {
        let named = "the checkpoint that was kept";
        let of_ours = |key: &VerifierKey| matches!(note.signed_by(key, check_signature), Signed::Yes(_));
        // By whichever key signed then: after a change of keys both did.
        let signer = (1..=self.report.keys.len()).find(|number| of_ours(&self.report.keys[number - 1].1));
        let ours = self.report.origin.as_deref() == Some(checkpoint.origin.as_str());
        match signer {
            Some(_) => self.judge_root(checkpoint, named),
            None if ours => {
                self.fault(None, format!("{named} is not signed by a key of this ledger: a key was exchanged"))
            }
            None => {
                let name = self.report.origin.as_deref().unwrap_or("no name yet").to_owned();
                let what = format!(
                    "{named} is of the ledger `{}`, and this one is `{name}`: another ledger was put in its place",
                    checkpoint.origin
                );
                self.fault(None, what);
            }
        }
    }
}

/// The checkpoint, and those by which keys handed over: 0 and the key's number.
fn own_checkpoints(home: &Home, report: &mut LedgerReport) -> Vec<(u64, Note, Checkpoint)> {
    let directory = home.ledger();
    let handovers = (2..).map(|number| (number, directory.join(format!("handover.{number}"))));
    let paths = std::iter::once((0, directory.join("checkpoint")));
    let paths = paths.chain(handovers.take_while(|(_, path)| path.exists()));
    let mut found = Vec::new();
    for (number, path) in paths {
        match read_checkpoint(&path) {
            Ok(Some((note, checkpoint))) => found.push((number, note, checkpoint)),
            Ok(None) => {}
            Err(error) => report.faults.push(LedgerFinding { index: None, what: error.to_string() }),
        }
    }
    found
}

/// A checkpoint that somebody kept, out of its file.
pub(in super::super) fn read_kept(path: &Path) -> Result<(Note, Checkpoint), StoreError> {
    let missing =
        || LedgerError::File { step: "read", path: path.to_owned(), cause: std::io::ErrorKind::NotFound.into() };
    Ok(read_checkpoint(path)?.ok_or_else(missing)?)
}
