//! A session's summary as a row.

use super::summary::{Counts, Summary};
use crate::model::{NanoUsd, SessionId, Timestamp, Usage};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;

/// All columns, with the faults of the session's journals.
const SELECT: &str = "SELECT sessions.*, (SELECT group_concat(writer || ': ' || fault, '; ') FROM journals
    WHERE journals.session = sessions.session AND fault IS NOT NULL) AS fault FROM sessions";

/// Not `OR REPLACE`: that would delete the row first, and make SQLite walk through all events that refer to it.
const UPSERT: &str = "INSERT INTO sessions VALUES (:session, :name, :user, :profile, :argv, :workspace,
    :policy_hash, :pid, :ticks, :started, :ended, :end_reason, :exit, :events, :allowed, :denied, :refused, :failed,
    :calls, :inexact, :cost, :input, :cache_read, :cache_write, :cache_write_long, :output, :reasoning, :web_searches,
    :team, :project)
    ON CONFLICT (session) DO UPDATE SET name = :name, user = :user, profile = :profile, argv = :argv,
    workspace = :workspace, policy_hash = :policy_hash, pid = :pid, pid_started_ticks = :ticks, started = :started,
    ended = :ended, end_reason = :end_reason, exit = :exit, events = :events, allowed = :allowed, denied = :denied,
    refused = :refused, failed = :failed, calls = :calls, inexact = :inexact, cost_nano = :cost, input = :input,
    cache_read = :cache_read, cache_write = :cache_write, cache_write_long = :cache_write_long, output = :output,
    reasoning = :reasoning, web_searches = :web_searches, team = :team, project = :project";

impl Summary {
    /// Reads a session's row.
    pub(super) fn load(connection: &Connection, session: &SessionId) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE session = ?1"))?;
        statement.query_row([session.as_str()], from_row).optional()
    }

    /// Reads every session's row, the newest first.
    pub(super) fn load_all(connection: &Connection) -> rusqlite::Result<Vec<Self>> {
        let mut statement = connection.prepare(&format!("{SELECT} ORDER BY started DESC, session"))?;
        let rows = statement.query_map([], from_row)?;
        rows.collect()
    }

    /// Writes the session's row.
    pub(super) fn save(&self, connection: &Connection) -> rusqlite::Result<()> {
        let (requests, usage) = (self.requests, self.usage);
        connection.prepare_cached(UPSERT)?.execute(named_params! {
            ":session": self.session.as_str(), ":name": self.name, ":user": self.user, ":profile": self.profile,
            ":argv": json(&self.argv), ":workspace": self.workspace, ":policy_hash": self.policy_hash,
            ":pid": self.process.map(|(pid, _)| pid), ":ticks": self.process.map(|(_, ticks)| signed(ticks)),
            ":started": self.started.map(|at| at.0), ":ended": self.ended.map(|at| at.0),
            ":end_reason": self.end_reason.as_ref().map(json), ":exit": self.exit.as_ref().map(json),
            ":events": signed(self.events), ":allowed": signed(requests.allowed), ":denied": signed(requests.denied),
            ":refused": signed(requests.refused), ":failed": signed(requests.failed), ":calls": signed(self.calls),
            ":inexact": signed(self.inexact), ":cost": self.cost.0, ":input": signed(usage.input),
            ":cache_read": signed(usage.cache_read), ":cache_write": signed(usage.cache_write),
            ":cache_write_long": signed(usage.cache_write_long), ":output": signed(usage.output),
            ":reasoning": signed(usage.reasoning), ":web_searches": signed(usage.web_searches),
            ":team": self.team, ":project": self.project,
        })?;
        Ok(())
    }
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let number = |column: &str| row.get::<_, i64>(column).map(i64::cast_unsigned);
    let process = row.get::<_, Option<u32>>("pid")?.zip(row.get::<_, Option<i64>>("pid_started_ticks")?);
    let session: String = row.get("session")?;
    let wrong = |error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error));
    Ok(Summary {
        session: session.parse().map_err(wrong)?,
        name: row.get("name")?,
        user: row.get("user")?,
        team: row.get("team")?,
        project: row.get("project")?,
        profile: row.get("profile")?,
        argv: from_json(row, "argv")?.unwrap_or_default(),
        workspace: row.get("workspace")?,
        policy_hash: row.get("policy_hash")?,
        process: process.map(|(pid, ticks)| (pid, ticks.cast_unsigned())),
        started: row.get::<_, Option<i64>>("started")?.map(Timestamp),
        ended: row.get::<_, Option<i64>>("ended")?.map(Timestamp),
        end_reason: from_json(row, "end_reason")?,
        exit: from_json(row, "exit")?,
        events: number("events")?,
        requests: Counts {
            allowed: number("allowed")?,
            denied: number("denied")?,
            refused: number("refused")?,
            failed: number("failed")?,
        },
        calls: number("calls")?,
        inexact: number("inexact")?,
        cost: NanoUsd(row.get("cost_nano")?),
        usage: usage(row)?,
        fault: row.get("fault")?,
    })
}

/// The usage columns, which two tables have.
pub(super) fn usage(row: &Row<'_>) -> rusqlite::Result<Usage> {
    let number = |column: &str| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(Usage {
        input: number("input")?,
        cache_read: number("cache_read")?,
        cache_write: number("cache_write")?,
        cache_write_long: number("cache_write_long")?,
        output: number("output")?,
        reasoning: number("reasoning")?,
        web_searches: number("web_searches")?,
    })
}

/// SQLite has signed integers only; a count beyond them stops at the largest.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A small value as text. The types written here always have a JSON form.
fn json<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}

fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}
