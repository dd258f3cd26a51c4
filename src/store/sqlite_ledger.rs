//! The ledger as the store offers it.

use super::{
    Checkpointed, Exported, Home, LedgerError, LedgerFinding, LedgerKey, LedgerReport, Report, Sqlite, StoreError,
    ledger, verify,
};
use crate::ledger::{Checkpoint, Note, Receipt, Submission, WitnessPolicy};
use crate::model::{SessionId, Writer};
use std::path::Path;

impl Sqlite {
    /// What keeps frames from being taken into the ledger, if something does.
    #[must_use]
    pub fn ledger_fault(&self) -> Option<&LedgerError> {
        self.ledger_fault.as_ref()
    }

    /// Signs the ledger as it is now, unless that was done. The first time, the key is made.
    ///
    /// # Errors
    /// A [`LedgerError`], above all when the key's file is not ours alone, and one of the database.
    pub fn checkpoint(&mut self) -> Result<Checkpointed, StoreError> {
        ledger::checkpoint(&mut self.connection, &self.home)
    }

    /// Has a new key sign from now on, and the old one sign that it hands over.
    ///
    /// # Errors
    /// As [`Sqlite::checkpoint`].
    pub fn rotate_key(&mut self) -> Result<Checkpointed, StoreError> {
        ledger::rotate(&mut self.connection, &self.home)
    }

    /// The keys that ever signed, in their order.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn ledger_keys(&self) -> Result<Vec<LedgerKey>, StoreError> {
        ledger::keys(&self.connection).map_err(self.failed("read"))
    }

    /// What shows to anybody that an event of a session is in the ledger.
    ///
    /// # Errors
    /// [`LedgerError::Missing`] when it is not, and as [`Sqlite::checkpoint`].
    pub fn receipt(&mut self, session: &SessionId, number: u64) -> Result<Receipt, StoreError> {
        ledger::receipt(&mut self.connection, &self.home, session, number)
    }

    /// What shows to anybody that an entry is in the ledger.
    ///
    /// # Errors
    /// As [`Sqlite::receipt`].
    pub fn receipt_of_entry(&mut self, index: u64) -> Result<Receipt, StoreError> {
        ledger::receipt_of_entry(&mut self.connection, &self.home, index)
    }

    /// The last checkpoint, with everybody's signatures; none where nothing was signed yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn signed_checkpoint(&self) -> Result<Option<(Note, Checkpoint)>, StoreError> {
        read_signed_checkpoint(&self.home)
    }

    /// What a witness is to be sent that signed the ledger at `old` entries.
    ///
    /// # Errors
    /// [`LedgerError::Cut`] when the ledger has fewer by now, and when it cannot be read.
    pub fn submission(&self, old: u64, signed: &Checkpointed) -> Result<Submission, StoreError> {
        ledger::submission(&self.home, old, signed)
    }

    /// Keeps what witnesses signed, unless a newer checkpoint took its place.
    ///
    /// # Errors
    /// As [`Sqlite::checkpoint`].
    pub fn keep_cosigned(&mut self, note: &Note) -> Result<(), StoreError> {
        ledger::keep_cosigned(&mut self.connection, &self.home, note)
    }

    /// Writes the ledger as C2SP's static files to a directory.
    ///
    /// # Errors
    /// As [`Sqlite::checkpoint`], and when the directory cannot be written to.
    pub fn export_ledger(&mut self, to: &Path) -> Result<Exported, StoreError> {
        let signed = self.checkpoint()?;
        ledger::export(&self.home, &signed, to)
    }

    /// Checks the ledger with itself, with the journals, with what was signed and with checkpoints that were kept elsewhere;
    /// none where nothing was ever folded.
    ///
    /// # Errors
    /// A [`StoreError`] when the check could not be made; what it finds is in the report.
    pub fn verify_ledger(&self, kept: &[(Note, Checkpoint)]) -> Result<Option<LedgerReport>, StoreError> {
        // Before the files, which only grow.
        let known = ledger::known(&self.connection).map_err(self.failed("read"))?;
        let report = ledger::check(&self.home, kept)?;
        let written = known.map_or(0, |known| known.size);
        if report.is_none() && written == 0 && kept.is_empty() {
            return Ok(None);
        }
        let is_there = report.is_some();
        let mut report = report.unwrap_or_default();
        if !is_there {
            report.faults.insert(0, LedgerFinding { index: None, what: "the ledger is missing".to_owned() });
        } else if report.size < written {
            let what = format!("the ledger had {written} entries, and {} are left: it was cut short", report.size);
            report.faults.push(LedgerFinding { index: Some(report.size), what });
        }
        // The files alone would not tell the end of a journal that was removed from one that is not entered yet, a changed
        // kind from a later version's, nor in which order journals were entered.
        if written > 0
            && is_there
            && let Some(index) = ledger::first_unlike(&self.connection, &self.home)?
        {
            let what = "another frame was entered here: an entry was changed, removed or moved".to_owned();
            report.faults.push(LedgerFinding { index: Some(index), what });
        }
        report.order();
        Ok(Some(report))
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

/// Checks a home's ledger by its files alone; none where there is none.
///
/// # Errors
/// As [`Sqlite::verify_ledger`].
pub fn check_ledger_files(home: &Home, kept: &[(Note, Checkpoint)]) -> Result<Option<LedgerReport>, StoreError> {
    ledger::check(home, kept)
}

/// The last checkpoint of a home's ledger, with everybody's signatures; none where nothing was signed yet.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_signed_checkpoint(home: &Home) -> Result<Option<(Note, Checkpoint)>, StoreError> {
    ledger::read_checkpoint(&home.ledger().join("checkpoint"))
}

/// Checks every journal of a home by its file alone.
///
/// # Errors
/// When the sessions' directory cannot be read; what is found is in the reports.
pub fn check_journal_files(home: &Home) -> Result<Vec<Report>, StoreError> {
    let sessions = Sqlite::directories(home)?;
    let journals = sessions.iter().flat_map(|session| Writer::ALL.map(|writer| (session, writer)));
    Ok(journals.filter_map(|(session, writer)| verify::journal_file(home, session, writer)).collect())
}
