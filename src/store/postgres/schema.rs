//! The tables on PostgreSQL, and bringing them to this program's version.

use super::link::{Fault, Link};
use super::locks;
use crate::store::StoreError;

/// What makes the tables, one version after another. What was shipped is never changed, only followed.
const MIGRATIONS: [&str; 2] = [include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];

/// The newest version that this program knows.
fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Makes the tables where they are missing or older.
///
/// # Errors
/// [`StoreError::StoreNewer`] where a later version of omni was here, and a [`StoreError`] of the server, above all where
/// this user may not make tables and nobody has made them yet.
pub(super) fn migrate(link: &Link) -> Result<(), StoreError> {
    let found = link.again("read", version)?;
    if found == known() {
        return Ok(());
    }
    let found = link.transaction("make the tables in", |link| {
        locks::wait(link, locks::MIGRATION)?;
        let found = version(link)?;
        let missing = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found..)).unwrap_or_default();
        if found == 0 {
            let there = link.query_opt("SELECT 1 FROM pg_namespace WHERE nspname = 'omni'", &[])?.is_some();
            if !there {
                link.batch("CREATE SCHEMA omni")?;
            }
            link.batch("CREATE TABLE migrations (number integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())")?;
        }
        for (number, text) in (found + 1..).zip(missing) {
            link.batch(text)?;
            link.execute("INSERT INTO migrations (number) VALUES ($1)", &[&number])?;
        }
        Ok(found.max(known()))
    })?;
    match found == known() {
        true => Ok(()),
        false => Err(StoreError::StoreNewer { store: link.address().to_string(), found, known: known() }),
    }
}

/// The version of the tables; 0 where there are none.
fn version(link: &Link) -> Result<i32, Fault> {
    // Out of the catalogue itself: what a connection remembers of names may be older than what it waited for.
    let text = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'omni' AND tablename = 'migrations'";
    match link.query_opt(text, &[])?.is_some() {
        true => Ok(link.query_one("SELECT coalesce(max(number), 0) FROM omni.migrations", &[])?.try_get(0)?),
        false => Ok(0),
    }
}
