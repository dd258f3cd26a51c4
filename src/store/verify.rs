//! Comparing a journal with itself, and with what was folded of it.

use super::fold::{Folded, folded};
use super::read::{Position, Reader};
use super::summary_row::signed;
use super::{Home, StoreError, blocks};
use crate::ledger::{Chain, Hash, Header, Tail, event_kind, frame_number};
use crate::model::{SessionId, Writer};
use rusqlite::Connection;

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

    /// Takes the next frame of a block in, whose hash follows from it; whether it has the number that follows.
    fn take_kept(&mut self, payload: &[u8]) -> bool {
        let mut after = self.chain;
        after.follow(payload);
        if frame_number(payload) != Some(after.frames()) {
            return self.follows(Chain::at(0, Hash([0; 32])));
        }
        self.chain = after;
        self.rows.push(after.head());
        true
    }

    /// Whether the rows so far lead to this place.
    fn follows(&mut self, place: Chain) -> bool {
        if self.chain != place {
            let what = format!("the database's rows were changed or have a gap{}", self.mend);
            self.fault = Some(Finding { seq: self.chain.frames() + 1, what });
        }
        self.chain == place
    }
}

/// Checks one journal; none when there is neither a file nor a memory of one. `over` says that nobody writes to it.
pub(super) fn journal(
    connection: &Connection,
    home: &Home,
    session: &SessionId,
    writer: Writer,
    over: bool,
) -> Result<Option<Report>, StoreError> {
    let header = Header { session: session.clone(), writer };
    let failed = |error| StoreError::database(&home.database(), "read", error);
    // Before the file, which only grows.
    let memory = remember(connection, &header).map_err(failed)?;
    Ok(compare_journal(memory, home, &header, over))
}

/// Checks one journal with what a store remembers of it; none when there is neither.
pub(super) fn compare_journal(memory: Option<Memory>, home: &Home, header: &Header, over: bool) -> Option<Report> {
    let mut report = Report::of(header);
    let rows = memory.as_ref().map_or(&[][..], |memory| &memory.rows);
    match Reader::open(home, header.clone()) {
        Ok(Some(mut reader)) => report.read(&mut reader, Position::start(header), rows, over),
        Ok(None) if memory.is_none() => return None,
        Ok(None) => report.fault(0, "the journal is missing"),
        Err(error) => report.fault(0, error.to_string()),
    }
    if let Some(memory) = memory {
        report.compare(memory);
    }
    Some(report)
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

/// Checks one journal by its file alone; none where there is no file.
pub(super) fn journal_file(home: &Home, session: &SessionId, writer: Writer) -> Option<Report> {
    compare_journal(None, home, &Header { session: session.clone(), writer }, true)
}

/// Reads what the store remembers, at one moment, and checks the rows as the chain that they are.
fn remember(connection: &Connection, header: &Header) -> rusqlite::Result<Option<Memory>> {
    let moment = connection.unchecked_transaction()?;
    let Some(place) = folded(&moment, &header.session, header.writer)? else { return Ok(None) };
    let mut memory = Memory::of_view(&place, header);
    let read = blocks::of_session(&moment, &header.session, 0, |block| {
        if let Some(head) = block.head(header.writer)
            && !memory.follows(head)
        {
            return Ok(false);
        }
        for kept in block.frames() {
            let kept = kept?;
            if kept.writer == header.writer && !memory.take_kept(kept.payload) {
                return Ok(false);
            }
        }
        Ok::<_, rusqlite::Error>(true)
    });
    match read {
        // A block that cannot be opened is what was looked for.
        Err(rusqlite::Error::InvalidColumnType(..)) => drop(memory.follows(Chain::at(0, Hash([0; 32])))),
        other => other?,
    }
    Ok(Some(memory))
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

    /// Walks through the file and compares each frame with the row that was made of it.
    fn read(&mut self, reader: &mut Reader, start: Position, rows: &[Hash], over: bool) {
        let (mut position, mut differs, mut ended_at) = (start, None, None);
        let tail = loop {
            let piece = match reader.next(position) {
                Ok(piece) => piece,
                Err(error) => return self.fault(self.frames, error.to_string()),
            };
            for frame in &piece.decoded.frames {
                let row = usize::try_from(self.frames).ok().and_then(|index| rows.get(index));
                self.frames += 1;
                if row.is_some_and(|row| *row != frame.hash) {
                    differs = differs.or(Some(frame.seq));
                }
                if event_kind(frame.event).as_deref() == Some("session_ended") {
                    ended_at = ended_at.or(Some(frame.seq));
                }
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
