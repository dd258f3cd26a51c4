//! What only one may do at a time, across all machines. Every lock ends with its transaction.

use super::link::{Fault, Link, Parameter};
use sha2::{Digest, Sha256};

/// Sets omni's locks apart from those of others in the same database.
const DOMAIN: &str = "omni lock v1";

/// A lock's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lock(i64);

/// Making the tables.
pub(super) const MIGRATION: Lock = Lock(0x6f6d_6e69_0000_0001);
/// Folding journals and appending to the ledger: one log has one writer at a time.
pub(super) const LEDGER: Lock = Lock(0x6f6d_6e69_0000_0002);

impl Lock {
    /// The lock of what this names.
    pub fn named(parts: &[&str]) -> Self {
        let mut hash = Sha256::new().chain_update(DOMAIN);
        for part in parts {
            hash.update([0]);
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[..8]);
        Self(i64::from_be_bytes(bytes))
    }
}

/// Waits until nobody else has the lock.
pub(super) fn wait(link: &Link, lock: Lock) -> Result<(), Fault> {
    link.query_one("SELECT pg_advisory_xact_lock($1)", &[&lock.0]).map(drop)
}

/// Waits for several locks, one after another in their order, each alone or shared: one question to the server.
pub(super) fn wait_all(link: &Link, locks: &[(Lock, bool)]) -> Result<(), Fault> {
    let each = (1..).zip(locks).map(|(index, (_, alone))| match alone {
        true => format!("pg_advisory_xact_lock(${index})"),
        false => format!("pg_advisory_xact_lock_shared(${index})"),
    });
    let text = format!("SELECT {}", each.collect::<Vec<_>>().join(", "));
    let numbers: Vec<Parameter<'_>> = locks.iter().map(|(lock, _)| &lock.0 as Parameter<'_>).collect();
    link.query_one(&text, &numbers).map(drop)
}
