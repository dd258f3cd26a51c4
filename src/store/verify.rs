//! Comparing journals with themselves, with what was folded of them, and with the ledger.

use super::fold::{Folded, folded};
use super::ledger::{Check, Entered, Walk};
use super::read::{Position, Reader};
use super::summary_row::signed;
use super::threads::on_each;
use super::{Home, LedgerFinding, LedgerReport, Sqlite, StoreError, Summary, blocks};
use crate::ledger::{Chain, Checkpoint, Frame, Hash, Header, Note, Tail, event_kind, frame_number};
use crate::model::{SessionId, Writer};
use rusqlite::Connection;
use std::collections::BTreeSet;

/// What the check of one journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The session.
    pub session: SessionId,
    /// The process that wrote the journal.
    pub writer: Writer,
    /// How many frames were found whole and in place.
    pub frames: u64,
    /// The last of their hashes: kept elsewhere, it proves later that nothing before it was changed.
    pub head: Hash,
    /// What is wrong: each is a sign of damage or of tampering.
    pub faults: Vec<Finding>,
    /// What is worth knowing and can happen when a process is killed.
    pub notes: Vec<Finding>,
}

/// Something found at a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The frame's number; 0 is the header.
    pub seq: u64,
    /// What it is, for a person.
    pub what: String,
}

/// What the store remembers of a journal.
pub(super) struct Memory {
    frames: u64,
    head: Hash,
    /// The hash of each row, in the journal's order.
    rows: Vec<Hash>,
    /// What is wrong with the rows by themselves.
    fault: Option<Finding>,
    /// How the rows chain so far.
    chain: Chain,
    /// What mends rows that are not what they should be, for a person.
    mend: &'static str,
}

/// What makes the embedded store's rows again.
const REBUILD: &str = "; `omni audit rebuild` makes them again";

impl Memory {
    /// What was noted when a journal was folded, with no rows yet.
    pub fn begin(place: &Folded, header: &Header) -> Self {
        Self { mend: "", ..Self::of_view(place, header) }
    }

    /// As [`Memory::begin`], of rows that can be made again.
    pub fn of_view(place: &Folded, header: &Header) -> Self {
        let noted = place.position.chain;
        let (frames, head) = (noted.frames(), noted.head());
        Self { frames, head, rows: Vec::new(), fault: None, chain: Chain::begin(header), mend: REBUILD }
    }

    /// Takes the next row in; whether it follows the one before.
    pub fn take(&mut self, seq: i64, payload: &[u8], hash: Hash) -> bool {
        self.chain.follow(payload);
        if self.chain.head() != hash || signed(self.chain.frames()) != seq {
            let what = format!("the database's rows were changed or have a gap{}", self.mend);
            self.fault = Some(Finding { seq: self.chain.frames(), what });
            return false;
        }
        self.rows.push(hash);
        true
    }

    /// Takes the next frame of a block in, whose hash follows from it, if it has the number that follows.
    fn take_kept(&mut self, payload: &[u8]) {
        let mut after = self.chain;
        after.follow(payload);
        if frame_number(payload) != Some(after.frames()) {
            return self.follows(Chain::at(0, Hash([0; 32])));
        }
        self.chain = after;
        self.rows.push(after.head());
    }

    /// Notes where the rows so far do not lead to this place.
    fn follows(&mut self, place: Chain) {
        if self.chain != place {
            let what = format!("the database's rows were changed or have a gap{}", self.mend);
            self.fault = Some(Finding { seq: self.chain.frames() + 1, what });
        }
    }
}

/// What a store knows of a session before its journals are read: what it remembers of each, and whether nobody writes to them.
pub(super) struct Known {
    pub memories: Vec<(Writer, Memory)>,
    pub over: bool,
}

impl Known {
    /// Nothing, where files are all there is.
    pub fn nothing() -> Self {
        Self { memories: Vec::new(), over: true }
    }

    /// What the embedded store knows. Each of the session's blocks is opened once.
    pub fn of(connection: &Connection, home: &Home, session: &SessionId) -> rusqlite::Result<Self> {
        let summary = Summary::load(connection, session)?;
        let over = summary.is_none_or(|summary| summary.status(home).is_over());
        Ok(Self { memories: remember(connection, session)?, over })
    }
}

/// Checks the journals of many sessions, on every processor: each with itself, with what `known` tells, and with its entries in a
/// ledger, if there is one. Each file is read once.
pub(super) fn journals<C>(
    home: &Home,
    sessions: &BTreeSet<SessionId>,
    walk: Option<&Walk>,
    begin: impl Fn() -> Result<C, StoreError> + Sync,
    known: impl Fn(&C, &SessionId) -> Result<Known, StoreError> + Sync,
) -> Result<(Vec<Report>, Vec<LedgerFinding>), StoreError> {
    let sessions: Vec<_> = sessions.iter().collect();
    let checked = on_each(&sessions, begin, |own, session| {
        // Before the files, which only grow.
        let Known { mut memories, over } = known(own, session)?;
        let (mut reports, mut findings) = (Vec::new(), Vec::new());
        for writer in Writer::ALL {
            let header = Header { session: (*session).clone(), writer };
            let memory = memories.iter().position(|(of, _)| *of == writer).map(|place| memories.remove(place).1);
            let mut entered = walk.and_then(|walk| walk.entered(session, writer));
            reports.extend(journal(memory, home, &header, over, entered.as_mut())?);
            findings.extend(entered.map(Entered::finish).into_iter().flatten());
        }
        Ok((reports, findings))
    })?;
    let (reports, findings): (Vec<_>, Vec<_>) = checked.into_iter().unzip();
    Ok((reports.into_iter().flatten().collect(), findings.into_iter().flatten().collect()))
}

/// Checks one journal with what a store remembers of it and with its entries; none when there is neither a file nor a memory.
pub(super) fn journal(
    memory: Option<Memory>,
    home: &Home,
    header: &Header,
    over: bool,
    mut entered: Option<&mut Entered<'_>>,
) -> Result<Option<Report>, StoreError> {
    let mut report = Report::of(header);
    let rows = memory.as_ref().map_or(&[][..], |memory| &memory.rows);
    match Reader::open(home, header.clone()) {
        Ok(Some(mut reader)) => report.read(&mut reader, (header, over), rows, entered)?,
        Ok(None) => {
            if let Some(entered) = &mut entered {
                entered.missing();
            }
            if memory.is_none() {
                return Ok(None);
            }
            report.fault(0, "the journal is missing");
        }
        Err(error) => {
            if let Some(entered) = &mut entered {
                entered.end_at(error.to_string());
            }
            report.fault(0, error.to_string());
        }
    }
    if let Some(memory) = memory {
        report.compare(memory);
    }
    Ok(Some(report))
}

/// Checks what a store remembers of a journal whose file is on another machine.
pub(super) fn rows_alone(memory: Memory, header: &Header) -> Report {
    let mut report = Report::of(header);
    (report.frames, report.head) = (memory.rows.len() as u64, memory.rows.last().copied().unwrap_or(report.head));
    let rows = report.frames;
    report.frames = memory.frames;
    report.compare(memory);
    report.frames = rows;
    report
}

/// Checks the files of a home: its journals, and its ledger if there is one, which is to agree with checkpoints that were kept
/// elsewhere. Nothing is written there.
///
/// # Errors
/// When the sessions' directory or the ledger cannot be read; what is found is in the reports.
pub fn check_files(
    home: &Home,
    kept: &[(Note, Checkpoint)],
) -> Result<(Vec<Report>, Option<LedgerReport>), StoreError> {
    let check = Check::begin(home, kept)?;
    let mut sessions = Sqlite::directories(home)?;
    sessions.extend(check.iter().flat_map(|check| check.walk().sessions().cloned()));
    let walk = check.as_ref().map(Check::walk);
    let (reports, findings) = journals(home, &sessions, walk, || Ok(()), |(), _| Ok(Known::nothing()))?;
    Ok((reports, check.map(|check| check.finish(findings)).transpose()?))
}

/// Reads what the store remembers of a session's journals, at one moment, and checks the rows as the chains that they are.
fn remember(connection: &Connection, session: &SessionId) -> rusqlite::Result<Vec<(Writer, Memory)>> {
    let moment = connection.unchecked_transaction()?;
    let mut memories = Vec::new();
    for writer in Writer::ALL {
        let header = Header { session: session.clone(), writer };
        memories.extend(folded(&moment, session, writer)?.map(|place| (writer, Memory::of_view(&place, &header))));
    }
    let read = blocks::of_session(&moment, session, 0, |block| {
        let block = block.open()?;
        for (writer, memory) in memories.iter_mut().filter(|(_, memory)| memory.fault.is_none()) {
            if let Some(head) = block.head(*writer) {
                memory.follows(head);
            }
        }
        for kept in block.frames() {
            let kept = kept?;
            let of = |pair: &&mut (Writer, Memory)| pair.0 == kept.writer && pair.1.fault.is_none();
            if let Some((_, memory)) = memories.iter_mut().find(of) {
                memory.take_kept(kept.payload);
            }
        }
        Ok::<_, rusqlite::Error>(true)
    });
    match read {
        // A block that cannot be opened is what was looked for.
        Err(rusqlite::Error::InvalidColumnType(..)) => {
            memories.iter_mut().filter(|(_, memory)| memory.fault.is_none()).for_each(|(_, memory)| {
                memory.follows(Chain::at(0, Hash([0; 32])));
            });
        }
        other => other?,
    }
    Ok(memories)
}

impl Report {
    fn of(header: &Header) -> Self {
        let (session, writer) = (header.session.clone(), header.writer);
        Self { session, writer, frames: 0, head: header.genesis(), faults: Vec::new(), notes: Vec::new() }
    }

    fn fault(&mut self, seq: u64, what: impl Into<String>) {
        self.faults.push(Finding { seq, what: what.into() });
    }

    fn note(&mut self, seq: u64, what: impl Into<String>) {
        self.notes.push(Finding { seq, what: what.into() });
    }

    /// Walks through the file and compares each frame with the row that was made of it, and with its entry.
    fn read(
        &mut self,
        reader: &mut Reader,
        (header, over): (&Header, bool),
        rows: &[Hash],
        mut entered: Option<&mut Entered<'_>>,
    ) -> Result<(), StoreError> {
        let (mut position, mut differs, mut ended_at) = (Position::start(header), None, None);
        let tail = loop {
            let piece = match reader.next(position) {
                Ok(piece) => piece,
                Err(error) => {
                    if let Some(entered) = entered {
                        entered.end_at(error.to_string());
                    }
                    self.fault(self.frames, error.to_string());
                    return Ok(());
                }
            };
            let frames = &piece.decoded.frames;
            let before = rows.get(usize::try_from(self.frames).unwrap_or(usize::MAX)..).unwrap_or_default();
            let unlike = frames.iter().zip(before).find(|(frame, row)| frame.hash != **row);
            differs = differs.or(unlike.map(|(frame, _)| frame.seq));
            if self.writer == Writer::Session {
                let ends = |frame: &&Frame<'_>| event_kind(frame.event).as_deref() == Some("session_ended");
                ended_at = ended_at.or(frames.iter().find(ends).map(|frame| frame.seq));
            }
            self.frames += frames.len() as u64;
            if let Some(entered) = &mut entered {
                entered.take(&frames.iter().map(|frame| frame.hash).collect::<Vec<_>>())?;
            }
            position = Position { chain: piece.decoded.chain, offset: piece.decoded.end };
            if !piece.more {
                break piece.decoded.tail;
            }
        };
        self.head = position.chain.head();
        if let Some(seq) = differs {
            self.fault(
                seq,
                "the frame is not the one that was folded into the database: journal or database was rewritten",
            );
        }
        self.judge_end(tail, ended_at, over);
        Ok(())
    }

    /// Says how the journal ends.
    fn judge_end(&mut self, tail: Tail, ended_at: Option<u64>, over: bool) {
        match tail {
            Tail::Broken { seq, why, .. } => self.fault(seq, why.to_string()),
            Tail::Torn { seq, .. } if over => self.note(seq, "incomplete: its writer died while writing it"),
            Tail::Torn { .. } | Tail::Clean => {}
        }
        if self.writer != Writer::Session {
            return;
        }
        match ended_at {
            Some(seq) if seq < self.frames => self.fault(seq + 1, "a frame follows session_ended, which is the last"),
            None if over && self.faults.is_empty() => {
                let what = "no session_ended: the session was interrupted, or the journal's end was cut off";
                self.note(self.frames, what);
            }
            _ => {}
        }
    }

    /// Compares the journal's length, and the rows' end, with what the store noted when it folded.
    fn compare(&mut self, memory: Memory) {
        let rows = memory.rows.len() as u64;
        if self.frames < memory.frames && self.faults.is_empty() {
            let what =
                format!("the journal was cut short: {} frames were folded, {} are left", memory.frames, self.frames);
            self.fault(self.frames + 1, what);
        }
        if let Some(fault) = memory.fault {
            self.faults.push(fault);
        } else if rows != memory.frames || memory.rows.last().is_some_and(|last| *last != memory.head) {
            let what = format!("the database's rows do not end where it noted{}", memory.mend);
            self.fault(rows + 1, what);
        }
    }
}
