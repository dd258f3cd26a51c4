//! What keeps records from being shipped for good. What passes by itself is told and tried again.

use crate::store::StoreError;
use std::path::PathBuf;

/// Why a text names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no place to ship to: {why}")]
pub struct TargetError {
    /// What was written, without what follows a `?`.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

/// Why shipping to a place ended.
#[derive(Debug, thiserror::Error)]
pub enum ShippingError {
    /// The records cannot be read, or the mark not written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The ledger is another than the one whose entries were delivered.
    #[error(
        "{name} was given {shipped} entries of another ledger, or this one was cut short or rewritten: run `omni audit verify`, and \
         remove {} to ship from the first entry on", mark.display()
    )]
    OtherLedger {
        /// The place.
        name: String,
        /// How many entries it was given.
        shipped: u64,
        /// The mark's file.
        mark: PathBuf,
    },
    /// A place could not be reached, or did not take what it was sent.
    #[error("{name}: {why}; {waiting} entries wait in the ledger, and none is lost")]
    NotDelivered {
        /// The place.
        name: String,
        /// Why.
        why: String,
        /// How many entries wait.
        waiting: u64,
    },
    /// Nothing new is taken into the ledger.
    #[error("{0}")]
    Ledger(String),
    /// Two places have one name.
    #[error("two places are called `{0}`: give one another name, by `?name=…`")]
    SameName(String),
    /// A thread could not be made.
    #[error("cannot start to ship: {0}")]
    Thread(std::io::Error),
    /// Some place was not shipped to; each was told of.
    #[error("{0} of the places did not get everything")]
    Some(usize),
}
