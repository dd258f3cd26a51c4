//! Going through all entries once: part by part, on every processor, and then over what the parts tell, in their order.

use super::super::threads::on_each;
use super::super::{Home, StoreError};
use super::files::{Files, HASH_FILES, LEVELS};
use crate::ledger::{ENTRY_BYTES, Entry, Frontier, Hash, leaf_hash};
use crate::model::{SessionId, Writer};
use std::collections::{BTreeMap, BTreeSet};

/// How many entries are in memory at once, for each thread: those below one hash of the second file.
const PART_ENTRIES: u64 = 1 << (2 * LEVELS);

/// Neighbouring frames of a journal at neighbouring places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub seq: u64,
    pub place: u64,
    pub count: u64,
}

/// A journal.
pub(super) type Journal = (SessionId, Writer);

/// What entries say by themselves.
#[derive(Debug)]
enum Told {
    Frames {
        journal: Journal,
        run: Run,
    },
    Key {
        index: u64,
        number: u64,
        public: [u8; 32],
    },
    /// Of a later version.
    Other {
        index: u64,
        kind: u8,
    },
    /// No version writes such a one.
    Nothing {
        index: u64,
    },
}

/// Neighbouring entries, by themselves.
#[derive(Debug, Default)]
struct Part {
    tree: Frontier,
    /// The same as it was at each size at which a root is wanted.
    at: Vec<(u64, Frontier)>,
    told: Vec<Told>,
    kept: Kept,
}

/// What became of the hashes that are kept above entries.
#[derive(Debug, Default)]
struct Kept {
    /// Below which they are not those that follow from the entries: the first of those, and how many.
    differing: Vec<(u64, u64)>,
    /// From which entry on there is none.
    missing: Vec<u64>,
}

/// What all entries say.
#[derive(Debug)]
pub(in super::super) struct Walk {
    pub(super) files: Files,
    pub(super) tree: Frontier,
    pub(super) roots: BTreeMap<u64, Hash>,
    pub(super) journals: BTreeMap<Journal, Vec<Run>>,
    pub(super) keys: Vec<(u64, [u8; 32])>,
    pub(super) differing: BTreeSet<(u64, u64)>,
    /// Entries that cannot be right by themselves or after the ones before them, and what is worth knowing of others.
    pub(super) faults: Vec<(u64, String)>,
    pub(super) notes: Vec<(u64, String)>,
}

impl Walk {
    /// Goes through a ledger; `wanted` are the sizes at which its root is asked for. None where there is no ledger.
    pub(super) fn of(home: &Home, wanted: &BTreeSet<u64>) -> Result<Option<Self>, StoreError> {
        let Some(mut files) = Files::open(home)? else { return Ok(None) };
        let size = files.size();
        let parts: Vec<_> = (0..size.div_ceil(PART_ENTRIES)).map(|part| part * PART_ENTRIES).collect();
        let read = |own: &mut Option<Files>, start: &u64| match own {
            Some(files) => Part::read(files, (*start, (start + PART_ENTRIES).min(size)), wanted),
            None => Ok(Part::default()),
        };
        let parts = on_each(&parts, || Files::open(home), read)?;
        let (mut tree, mut roots, mut kept) = (Frontier::default(), BTreeMap::new(), Kept::default());
        let mut told = Vec::new();
        for part in parts {
            for (size, at) in &part.at {
                let mut until = tree.clone();
                until.join(at, |_, _, _| {});
                roots.insert(*size, until.root());
            }
            let mut completed = Vec::new();
            tree.join(&part.tree, |level, place, hash| {
                completed.extend(is_kept(level).then_some((level, place, *hash)))
            });
            kept.add(part.kept);
            kept.compare(&mut files, completed)?;
            told.extend(part.told);
        }
        roots.insert(size, tree.root());
        let Kept { differing, missing } = kept;
        let mut walk = Self {
            files,
            tree,
            roots,
            journals: BTreeMap::new(),
            keys: Vec::new(),
            differing: differing.into_iter().collect(),
            faults: Vec::new(),
            // The next to append completes them.
            notes: missing
                .into_iter()
                .map(|entry| (entry, "hashes above the entries are missing".to_owned()))
                .collect(),
        };
        told.into_iter().for_each(|told| walk.take(told));
        Ok(Some(walk))
    }

    /// Takes note of what entries say, and of whether they can follow the ones before them.
    fn take(&mut self, told: Told) {
        match told {
            Told::Nothing { index } => {
                self.faults.push((index, "no version of omni writes such an entry: its bytes were changed".to_owned()));
            }
            Told::Other { index, kind } => {
                self.notes.push((index, format!("an entry of a later version, of kind {kind}")));
            }
            Told::Key { index, number, public } => {
                if number != self.keys.len() as u64 + 1 {
                    let wanted = self.keys.len() + 1;
                    self.faults.push((index, format!("it names key {number} where key {wanted} should follow")));
                }
                self.keys.push((index, public));
            }
            Told::Frames { journal, run } => self.take_run(journal, run),
        }
    }

    fn take_run(&mut self, journal: Journal, run: Run) {
        let (session, writer) = (journal.0.clone(), journal.1.as_str());
        let runs = self.journals.entry(journal).or_default();
        let next = runs.last().map_or(1, |last| last.seq + last.count);
        match runs.last_mut() {
            Some(last) if next == run.seq && last.place + last.count == run.place => last.count += run.count,
            _ => runs.push(run),
        }
        if run.seq != next {
            let seq = run.seq;
            let what = format!(
                "frame {seq} of the {writer} journal of session {session} where frame {next} should follow: an entry was \
                 removed, repeated or moved"
            );
            self.faults.push((run.place, what));
        }
    }

    /// The sessions of the entries.
    pub(in super::super) fn sessions(&self) -> impl Iterator<Item = &SessionId> {
        self.journals.keys().map(|(session, _)| session)
    }

    /// The first place of a run that somebody noted at which the run does not stand.
    pub(super) fn unlike(&self, journal: &Journal, noted: Run) -> Option<u64> {
        let end = (noted.place + noted.count).min(self.tree.size());
        let runs = self.journals.get(journal).map_or(&[][..], Vec::as_slice);
        let seq_at = |run: &Run, place: u64| (place >= run.place).then(|| run.seq + (place - run.place));
        let mut place = noted.place;
        while place < end {
            let seq = noted.seq + (place - noted.place);
            let of = |run: &&Run| place < run.place + run.count && seq_at(run, place) == Some(seq);
            match runs.iter().find(of) {
                Some(run) => place = run.place + run.count,
                None => return Some(place),
            }
        }
        None
    }
}

impl Part {
    fn read(files: &mut Files, (start, end): (u64, u64), wanted: &BTreeSet<u64>) -> Result<Self, StoreError> {
        let (mut part, mut completed, mut before) = (Self::default(), Vec::new(), None);
        for (index, bytes) in (start..).zip(&files.read(start, end - start)?) {
            if wanted.contains(&index) {
                part.at.push((index, part.tree.clone()));
            }
            part.tell(index, bytes, before.replace(*bytes));
            part.tree.push(leaf_hash(bytes), |level, place, hash| {
                completed.extend(is_kept(level).then(|| (level, (start >> level) + place, *hash)));
            });
        }
        part.kept.compare(files, completed)?;
        Ok(part)
    }

    fn tell(&mut self, index: u64, bytes: &[u8; ENTRY_BYTES], before: Option<[u8; ENTRY_BYTES]>) {
        if before.is_some_and(|before| Entry::follows(&before, bytes))
            && let Some(Told::Frames { run, .. }) = self.told.last_mut()
        {
            run.count += 1;
            return;
        }
        self.told.push(match Entry::decode(bytes) {
            None => Told::Nothing { index },
            Some(Entry::Other { kind }) => Told::Other { index, kind },
            Some(Entry::Key { number, public }) => Told::Key { index, number, public },
            Some(Entry::Frame { session, writer, seq, .. }) => {
                Told::Frames { journal: (session, writer), run: Run { seq, place: index, count: 1 } }
            }
        });
    }
}

impl Kept {
    /// Compares hashes that follow from the entries with those that are kept.
    fn compare(&mut self, files: &mut Files, completed: Vec<(u32, u64, Hash)>) -> Result<(), StoreError> {
        for (level, place, hash) in completed {
            match files.hashes(level / LEVELS, place, 1)? {
                Some(found) if found[0] == hash => {}
                Some(_) => self.differing.push((place << level, 1 << level)),
                None => self.missing.push(place << level),
            }
        }
        Ok(())
    }

    fn add(&mut self, other: Self) {
        self.differing.extend(other.differing);
        self.missing.extend(other.missing);
    }
}

fn is_kept(level: u32) -> bool {
    level > 0 && level.is_multiple_of(LEVELS) && level / LEVELS <= HASH_FILES
}
