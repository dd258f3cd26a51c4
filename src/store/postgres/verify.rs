//! Checking what PostgreSQL keeps: with the journals that are on this machine, and with itself where they are on another.

use super::fold::{folded, hash};
use super::ledger::first_unlike;
use super::link::{Fault, Link};
use super::rebuilt::Scratch;
use super::summary_row;
use crate::ledger::{Checkpoint, Header, Note};
use crate::model::{SessionId, Writer};
use crate::store::verify::{Memory, Report, check_files, journal, rows_alone};
use crate::store::{Home, LedgerFinding, LedgerReport, StoreError};

/// How many rows are asked for at once.
const PAGE_ROWS: i64 = 1_000;

/// Checks one session's journals.
pub(super) fn session(link: &Link, home: &Home, machine: &str, session: &SessionId) -> Result<Vec<Report>, StoreError> {
    let known = link.again("read", |link| summary_row::load(link, session))?;
    let here = known.as_ref().is_none_or(|known| known.machine == machine);
    let over =
        known.is_none_or(|known| known.summary.end_reason.is_some() || here && known.summary.status(home).is_over());
    let mut reports = Vec::new();
    for writer in Writer::ALL {
        let header = Header { session: session.clone(), writer };
        // Before the file, which only grows.
        let memory = link.moment(|link| remember(link, &header))?;
        reports.extend(match here {
            true => journal(memory, home, &header, over, None)?,
            false => memory.map(|memory| rows_alone(memory, &header)),
        });
    }
    Ok(reports)
}

/// Checks what the store has of one session's journals, without their files.
pub(super) fn rows_of(link: &Link, session: &SessionId) -> Result<Vec<Report>, Fault> {
    let mut reports = Vec::new();
    for writer in Writer::ALL {
        let header = Header { session: session.clone(), writer };
        reports.extend(remember(link, &header)?.map(|memory| rows_alone(memory, &header)));
    }
    Ok(reports)
}

/// Reads what the store remembers of a journal, at one moment, and checks the rows as the chain that they are.
fn remember(link: &Link, header: &Header) -> Result<Option<Memory>, Fault> {
    let Some(place) = folded(link, &header.session, header.writer)? else { return Ok(None) };
    let mut memory = Memory::begin(&place, header);
    let text = "SELECT number, seq, payload, hash FROM events WHERE session = $1 AND writer = $2 AND number > $3 \
                ORDER BY number LIMIT $4";
    let mut after = 0_i64;
    loop {
        let rows = link.query(text, &[&header.session.as_str(), &header.writer.as_str(), &after, &PAGE_ROWS])?;
        for row in &rows {
            after = row.try_get(0)?;
            if !memory.take(row.try_get::<_, i64>(1)?, row.try_get(2)?, hash(row.try_get(3)?)?) {
                return Ok(Some(memory));
            }
        }
        if rows.is_empty() {
            return Ok(Some(memory));
        }
    }
}

/// Checks the ledger as it would be handed out, with the journals of all machines, and with the tables.
pub(super) fn ledger(
    link: &Link,
    home: &Home,
    machine: &str,
    kept: &[(Note, Checkpoint)],
) -> Result<Option<LedgerReport>, StoreError> {
    let scratch = Scratch::of_everything(link, home, machine)?;
    let (_, report) = check_files(scratch.home(), kept)?;
    if report.is_none() && scratch.noted == 0 && kept.is_empty() {
        return Ok(None);
    }
    let is_there = report.is_some();
    let mut report = report.unwrap_or_default();
    if !is_there {
        report.faults.push(LedgerFinding { index: None, what: "the ledger is missing".to_owned() });
    } else if report.size < scratch.noted {
        let what = format!("the ledger had {} entries, and {} are left: it was cut short", scratch.noted, report.size);
        report.faults.push(LedgerFinding { index: Some(report.size), what });
    }
    if let Some(index) = first_unlike(link)? {
        let what = "it does not stand for the frame that the store has: one of them was changed or removed".to_owned();
        report.faults.push(LedgerFinding { index: Some(index), what });
    }
    report.order();
    Ok(Some(report))
}
