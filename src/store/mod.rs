//! The durable places: a journal for each writing process of a session, and a database they are folded into.
//!
//! Journals are the truth: a fact is in one before its effect happens, and a killed process loses nothing it acknowledged.
//! The database is a view of them that can be thrown away and folded again. This room deliberately does not know what a
//! fact means for the harness, only how to keep, count and find it.

mod approvals;
mod awake;
mod backend;
mod blocks;
mod bodies;
mod consents;
mod error;
mod fold;
mod holds;
mod holds_budget;
mod holds_rebuild;
mod home;
mod index;
mod installation;
mod journal;
mod ledger;
mod liveness;
mod postgres;
mod prices;
mod private;
mod query;
mod read;
mod recorder;
mod rest;
mod schema;
mod search;
mod secret_store;
mod shipping;
mod spend;
mod sqlite;
mod sqlite_ledger;
mod summary;
mod summary_row;
mod terms;
mod threads;
mod told;
mod upgrade;
mod verify;

pub use approvals::{Approval, Approvals, Longest};
pub use backend::{HoldBook, LedgerStore, Store, open_holds, open_store};
pub use bodies::{Bodies, BodyFile, BodyRecorder, NotKept};
pub use consents::{StandingConsent, Wanted, give_consent, read_consents, take_consent_back};
pub use error::{HomeFault, StoreError};
pub use holds::{Account, Claim, Holds, Moment, Placed};
pub use home::{Home, choose_store};
pub use installation::record_of_installation;
pub use journal::{Journal, SyncHandle};
pub use ledger::{
    Checkpointed, Exported, LedgerEntry, LedgerError, LedgerFinding, LedgerKey, LedgerReport, SigningKey, Witness,
    WitnessError, check_signature,
};
pub use liveness::process_start_ticks;
pub use postgres::{Copied, Postgres, StoreAddress, copy_store, copy_to_files};
pub use prices::{installed_prices_path, load_prices, own_prices_path};
pub use private::{PrivateParts, Sealed, SealedFile, SealedReader, destroy_private_parts};
pub use query::StoredEvent;
pub use recorder::{Memory, Recorder};
pub use search::{Search, Turn};
pub use secret_store::{Guard, GuardedKey, Keyring, SecretStore, SecretStoreError, StoredSecret};
pub use shipping::{MarkFile, ShippingMark, shipping_marks};
pub use spend::{SpendBy, SpendRow};
pub use sqlite::Sqlite;
pub use sqlite_ledger::{read_kept_checkpoint, read_signed_checkpoint, read_witness_policy};
pub use summary::{Counts, Status, Summary};
pub use terms::Decided;
pub use verify::{Finding, Report, check_files};

use postgres::PostgresHolds;

#[cfg(test)]
mod tests;
