//! The ledger as the store offers it.

use super::{
    Checkpointed, Exported, Home, LedgerEntry, LedgerError, LedgerFinding, LedgerKey, LedgerReport, LedgerStore,
    Report, Sqlite, Store, StoreError, StoredEvent, ledger,
};
use crate::ledger::{Checkpoint, Hash, Note, Receipt, Submission, WitnessPolicy};
use crate::model::SessionId;
use std::path::Path;

impl LedgerStore for Sqlite {
    fn ledger_fault(&self) -> Option<&LedgerError> {
        self.ledger_fault.as_ref()
    }

    fn checkpoint(&mut self) -> Result<Checkpointed, StoreError> {
        ledger::checkpoint(&mut self.connection, &self.home)
    }

    fn rotate_key(&mut self) -> Result<Checkpointed, StoreError> {
        ledger::rotate(&mut self.connection, &self.home)
    }

    fn ledger_keys(&self) -> Result<Vec<LedgerKey>, StoreError> {
        ledger::keys(&self.connection).map_err(self.failed("read"))
    }

    fn ledger_size(&self) -> Result<u64, StoreError> {
        ledger::size(&self.connection, &self.home)
    }

    fn ledger_entries(&self, from: u64, count: u64) -> Result<Vec<LedgerEntry>, StoreError> {
        ledger::entries(&self.connection, &self.home, from, count)
    }

    fn ledger_places(&self, events: &[StoredEvent]) -> Result<Vec<Option<(u64, Hash)>>, StoreError> {
        ledger::places(&self.connection, &self.home, events)
    }

    fn receipt(&mut self, session: &SessionId, number: u64) -> Result<Receipt, StoreError> {
        ledger::receipt(&mut self.connection, &self.home, session, number)
    }

    fn receipt_of_entry(&mut self, index: u64) -> Result<Receipt, StoreError> {
        ledger::receipt_of_entry(&mut self.connection, &self.home, index)
    }

    fn signed_checkpoint(&self) -> Result<Option<(Note, Checkpoint)>, StoreError> {
        read_signed_checkpoint(&self.home)
    }

    fn submission(&self, old: u64, signed: &Checkpointed) -> Result<Submission, StoreError> {
        ledger::submission(&self.home, old, signed)
    }

    fn keep_cosigned(&mut self, note: &Note) -> Result<(), StoreError> {
        ledger::keep_cosigned(&mut self.connection, &self.home, note)
    }

    fn export_ledger(&mut self, to: &Path) -> Result<Exported, StoreError> {
        let signed = self.checkpoint()?;
        ledger::export(&self.home, &signed, to)
    }

    fn verify_all(&self, kept: &[(Note, Checkpoint)]) -> Result<(Vec<Report>, Option<LedgerReport>), StoreError> {
        // Before the files, which only grow.
        let known = ledger::known(&self.connection).map_err(self.failed("read"))?;
        let written = known.map_or(0, |known| known.size);
        let Some(check) = ledger::Check::begin(&self.home, kept)? else {
            let missing = LedgerFinding { index: None, what: "the ledger is missing".to_owned() };
            let report = LedgerReport { faults: vec![missing], ..LedgerReport::default() };
            return Ok((self.verify()?, (written > 0 || !kept.is_empty()).then_some(report)));
        };
        let (reports, mut findings) = self.check_journals(Some(check.walk()))?;
        // The files alone would not tell the end of a journal that was removed from one that is not entered yet, a changed
        // kind from a later version's, nor in which order journals were entered.
        if written > 0
            && let Some(index) = ledger::first_unlike(&self.connection, check.walk()).map_err(self.failed("read"))?
        {
            let what = "another frame was entered here: an entry was changed, removed or moved".to_owned();
            findings.push(LedgerFinding { index: Some(index), what });
        }
        let mut report = check.finish(findings)?;
        if report.size < written {
            let what = format!("the ledger had {written} entries, and {} are left: it was cut short", report.size);
            report.faults.push(LedgerFinding { index: Some(report.size), what });
            report.order();
        }
        Ok((reports, Some(report)))
    }
}

/// A checkpoint that somebody kept, out of a file.
///
/// # Errors
/// [`LedgerError::File`] and [`LedgerError::Format`].
pub fn read_kept_checkpoint(path: &Path) -> Result<(Note, Checkpoint), StoreError> {
    ledger::read_kept(path)
}

/// A policy of witnesses (c2sp.org/tlog-policy), out of its file.
///
/// # Errors
/// [`LedgerError::File`] and [`LedgerError::Format`].
pub fn read_witness_policy(path: &Path) -> Result<WitnessPolicy, StoreError> {
    ledger::read_policy(path)
}

/// The last checkpoint of a home's ledger, with everybody's signatures; none where nothing was signed yet.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_signed_checkpoint(home: &Home) -> Result<Option<(Note, Checkpoint)>, StoreError> {
    ledger::read_checkpoint(&home.ledger().join("checkpoint"))
}
