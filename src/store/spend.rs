//! What model calls cost, added up.

use super::summary_row::usage;
use crate::model::{NanoUsd, Timestamp, Usage};
use rusqlite::Connection;
use std::collections::BTreeMap;

/// What to group model calls by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpendBy {
    /// The session's id.
    Session,
    /// The model's name.
    Model,
    /// The user on whose behalf the session ran.
    User,
    /// The day in UTC, as `YYYY-MM-DD`.
    Day,
}

/// What one group of model calls cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendRow {
    /// The group.
    pub key: String,
    /// How many calls there were.
    pub calls: u64,
    /// How many of them have a cost that is not exact.
    pub inexact: u64,
    /// What they used.
    pub usage: Usage,
    /// What they cost.
    pub cost: NanoUsd,
}

impl SpendRow {
    /// Takes the calls of another group in.
    pub fn add(&mut self, other: &Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.inexact = self.inexact.saturating_add(other.inexact);
        self.usage = self.usage.plus(other.usage);
        self.cost = self.cost.plus(other.cost);
    }
}

/// Adds up the calls since a time, the dearest group first. The sums are made here and not by SQLite, where a sum that is
/// too large is an error.
pub(super) fn spend(
    connection: &Connection,
    by: SpendBy,
    since: Option<Timestamp>,
    user: Option<&str>,
) -> rusqlite::Result<Vec<SpendRow>> {
    let text = "SELECT calls.*, coalesce(sessions.user, '') AS user FROM calls JOIN sessions USING (session) \
                WHERE at >= ?1 AND (?2 IS NULL OR sessions.user = ?2)";
    let mut statement = connection.prepare(text)?;
    let mut rows = statement.query(rusqlite::params![since.map_or(i64::MIN, |at| at.0), user])?;
    let mut groups = BTreeMap::<String, SpendRow>::new();
    while let Some(row) = rows.next()? {
        let key = match by {
            SpendBy::Session => row.get("session")?,
            SpendBy::Model => row.get("model")?,
            SpendBy::User => row.get("user")?,
            SpendBy::Day => Timestamp(row.get("at")?).to_rfc3339().chars().take_while(|c| *c != 'T').collect(),
        };
        let empty = |key| SpendRow { key, calls: 0, inexact: 0, usage: Usage::default(), cost: NanoUsd::ZERO };
        let group = groups.entry(key).or_insert_with_key(|key: &String| empty(key.clone()));
        group.calls += 1;
        group.inexact += u64::from(!row.get::<_, bool>("exact")?);
        group.usage = group.usage.plus(usage(row)?);
        group.cost = group.cost.plus(NanoUsd(row.get("cost_nano")?));
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    match by {
        SpendBy::Day => {}
        _ => groups.sort_by_key(|group| std::cmp::Reverse(group.cost)),
    }
    Ok(groups)
}
