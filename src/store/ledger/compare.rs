//! Comparing journals with the ledger's entries that stand for their frames.

use super::super::read::{Position, Reader};
use super::super::{Home, StoreError};
use super::check::LedgerFinding;
use super::files::{Files, READ_ENTRIES};
use crate::ledger::{Entry, Hash, Header};
use crate::model::{SessionId, Writer};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// How many journals are read at a time, on a machine with as many processors: each takes some MiB.
const READERS_MAX: usize = 8;

/// Which journal of which session.
pub(super) type Journal = (SessionId, Writer);

/// Neighbouring frames of a journal at neighbouring places.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// The number of the first frame, from 1.
    pub seq: u64,
    /// Its entry, from 0.
    pub place: u64,
    /// How many there are.
    pub count: u64,
}

/// Compares journals with their entries, one after another.
struct Comparison<'a> {
    home: &'a Home,
    files: &'a Files,
    faults: Vec<LedgerFinding>,
}

/// Compares every entry with the frame that it stands for, several journals at a time; what is wrong, in no order.
pub(super) fn compare(
    home: &Home,
    files: &Files,
    journals: &[(Journal, Vec<Run>)],
) -> Result<Vec<LedgerFinding>, StoreError> {
    let next = AtomicUsize::new(0);
    let read = || -> Result<Vec<LedgerFinding>, StoreError> {
        let mut comparison = Comparison { home, files, faults: Vec::new() };
        while let Some((journal, runs)) = journals.get(next.fetch_add(1, Ordering::Relaxed)) {
            comparison.journal(journal, runs)?;
        }
        Ok(comparison.faults)
    };
    let readers = available_parallelism().map_or(1, NonZero::get).min(READERS_MAX);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..readers).map(|_| scope.spawn(read)).collect();
        let ends = readers.into_iter().map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic)));
        let found: Result<Vec<_>, _> = ends.collect();
        Ok(found?.into_iter().flatten().collect())
    })
}

impl Comparison<'_> {
    fn fault(&mut self, index: u64, what: impl Into<String>) {
        self.faults.push(LedgerFinding { index: Some(index), what: what.into() });
    }

    /// Compares one journal's frames with its entries, which may be in several runs.
    fn journal(&mut self, (session, writer): &Journal, runs: &[Run]) -> Result<(), StoreError> {
        let header = Header { session: session.clone(), writer: *writer };
        let named = format!("the {} journal of session {session}", writer.as_str());
        let (place, last) = runs
            .iter()
            .fold((u64::MAX, 0), |(place, last), run| (place.min(run.place), last.max(run.seq + run.count - 1)));
        match Reader::open(self.home, header.clone()) {
            Ok(Some(mut reader)) => self.compare(&mut reader, &header, runs, last, &named)?,
            Ok(None) => self.fault(place, format!("{named} is missing")),
            Err(error) => self.fault(place, error.to_string()),
        }
        Ok(())
    }

    /// Compares what is read of one journal with its entries.
    fn compare(
        &mut self,
        reader: &mut Reader,
        header: &Header,
        runs: &[Run],
        last: u64,
        named: &str,
    ) -> Result<(), StoreError> {
        let (mut position, mut seen) = (Position::start(header), 0);
        loop {
            let piece = match reader.next(position) {
                Ok(piece) => piece,
                Err(error) => {
                    self.fault(place_after(runs, seen), error.to_string());
                    return Ok(());
                }
            };
            let hashes: Vec<_> = piece.decoded.frames.iter().map(|frame| frame.hash).collect();
            let first = seen + 1;
            seen += hashes.len() as u64;
            position = Position { chain: piece.decoded.chain, offset: piece.decoded.end };
            let more = piece.more;
            self.compare_frames(runs, first, &hashes, named)?;
            if !more {
                break;
            }
        }
        if seen < last {
            let what = format!("{named} has {seen} sound frames, and {last} were entered: it was changed or cut short");
            self.fault(place_after(runs, seen), what);
        }
        Ok(())
    }

    /// Compares frames from number `first` on with the entries of their runs.
    fn compare_frames(&mut self, runs: &[Run], first: u64, hashes: &[Hash], named: &str) -> Result<(), StoreError> {
        let end = first + hashes.len() as u64;
        for run in runs {
            let (from, to) = (run.seq.max(first), (run.seq + run.count).min(end));
            let mut seq = from;
            while seq < to {
                let place = run.place + (seq - run.seq);
                let part = self.files.read(place, READ_ENTRIES.min(to - seq))?;
                for bytes in &part {
                    let wanted = usize::try_from(seq - first).ok().and_then(|index| hashes.get(index));
                    let found = Entry::decode(bytes);
                    let same = matches!(&found, Some(Entry::Frame { hash, .. }) if Some(hash) == wanted);
                    if !same {
                        let index = run.place + (seq - run.seq);
                        self.fault(
                            index,
                            format!("it does not stand for frame {seq} of {named}: one of them was changed"),
                        );
                    }
                    seq += 1;
                }
            }
        }
        Ok(())
    }
}

/// The first entry of a frame beyond the first `seen` of its journal.
fn place_after(runs: &[Run], seen: u64) -> u64 {
    let beyond = runs.iter().filter(|run| seen < run.seq + run.count);
    beyond.map(|run| run.place + (seen + 1).saturating_sub(run.seq)).min().unwrap_or(0)
}
