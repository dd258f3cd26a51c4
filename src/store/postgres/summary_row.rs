//! A session's summary as a row of PostgreSQL.

use super::link::{Fault, Link};
use crate::model::{NanoUsd, SessionId, Timestamp, Usage};
use crate::store::StoreError;
use crate::store::summary::{Counts, Summary};
use crate::store::summary_row::signed;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;

/// All columns, with the faults of the session's journals, and the name of its machine.
const SELECT: &str = "SELECT sessions.*, machines.name AS machine_name,
    (SELECT string_agg(writer || ': ' || fault, '; ' ORDER BY writer) FROM journals
     WHERE journals.session = sessions.session AND fault IS NOT NULL) AS fault
    FROM sessions JOIN machines USING (machine)";

const UPSERT: &str =
    "INSERT INTO sessions (session, machine, name, user_name, profile, argv, workspace, policy_hash, pid,
    pid_started_ticks, started, ended, end_reason, exit, events, allowed, denied, refused, failed, calls, inexact,
    cost_nano, input, cache_read, cache_write, cache_write_long, output, reasoning, web_searches, team,
    project)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
    $24, $25, $26, $27, $28, $29, $30, $31)
    ON CONFLICT (session) DO UPDATE SET name = $3, user_name = $4, profile = $5, argv = $6, workspace = $7,
    policy_hash = $8, pid = $9, pid_started_ticks = $10, started = $11, ended = $12, end_reason = $13, exit = $14,
    events = $15, allowed = $16, denied = $17, refused = $18, failed = $19, calls = $20, inexact = $21, cost_nano = $22,
    input = $23, cache_read = $24, cache_write = $25, cache_write_long = $26, output = $27, reasoning = $28,
    web_searches = $29, team = $30, project = $31";

/// A session as the store knows it.
pub(super) struct Known {
    /// At a glance.
    pub summary: Summary,
    /// The machine that its journals are on.
    pub machine: String,
}

/// One session.
pub(super) fn load(link: &Link, session: &SessionId) -> Result<Option<Known>, Fault> {
    let row = link.query_opt(&format!("{SELECT} WHERE session = $1"), &[&session.as_str()])?;
    row.map(|row| from_row(&row)).transpose()
}

/// Every session, or one user's, the newest first.
pub(super) fn load_all(link: &Link, user: Option<&str>) -> Result<Vec<Known>, Fault> {
    let text = format!("{SELECT} WHERE $1::text IS NULL OR user_name = $1 ORDER BY started DESC NULLS LAST, session");
    link.query(&text, &[&user])?.iter().map(from_row).collect()
}

/// Writes a session's row.
pub(super) fn save(link: &Link, machine: &str, summary: &Summary) -> Result<(), Fault> {
    let Summary { session, requests, usage, .. } = summary;
    let process = summary.process.map(|(pid, ticks)| (i64::from(pid), signed(ticks)));
    let (pid, ticks) = (process.map(|(pid, _)| pid), process.map(|(_, ticks)| ticks));
    let [started, ended] = [summary.started, summary.ended].map(|at| at.map(|at| at.0));
    let text = |value: &Option<String>| value.as_deref().map(plain);
    let [name, user, profile] = [&summary.name, &summary.user, &summary.profile].map(text);
    let [workspace, policy_hash] = [&summary.workspace, &summary.policy_hash].map(text);
    let [team, project] = [&summary.team, &summary.project].map(text);
    let argv = json(&summary.argv).as_deref().map(plain);
    let (end_reason, exit) = (summary.end_reason.as_ref().and_then(json), summary.exit.as_ref().and_then(json));
    let counts = [summary.events, requests.allowed, requests.denied, requests.refused, requests.failed, summary.calls];
    let [events, allowed, denied, refused, failed, calls] = counts.map(signed);
    let tokens =
        [usage.input, usage.cache_read, usage.cache_write, usage.cache_write_long, usage.output, usage.reasoning];
    let [input, cache_read, cache_write, cache_write_long, output, reasoning] = tokens.map(signed);
    let (inexact, searches) = (signed(summary.inexact), signed(usage.web_searches));
    link.execute(
        UPSERT,
        &[
            &session.as_str(),
            &machine,
            &name,
            &user,
            &profile,
            &argv,
            &workspace,
            &policy_hash,
            &pid,
            &ticks,
            &started,
            &ended,
            &end_reason,
            &exit,
            &events,
            &allowed,
            &denied,
            &refused,
            &failed,
            &calls,
            &inexact,
            &summary.cost.0,
            &input,
            &cache_read,
            &cache_write,
            &cache_write_long,
            &output,
            &reasoning,
            &searches,
            &team,
            &project,
        ],
    )
    .map(drop)
}

fn from_row(row: &Row) -> Result<Known, Fault> {
    let number = |column: &str| row.try_get::<_, i64>(column).map(i64::cast_unsigned);
    let process = row.try_get::<_, Option<i64>>("pid")?.zip(row.try_get::<_, Option<i64>>("pid_started_ticks")?);
    let process = process.and_then(|(pid, ticks)| Some((u32::try_from(pid).ok()?, ticks.cast_unsigned())));
    let summary = Summary {
        session: id(row.try_get("session")?)?,
        name: row.try_get("name")?,
        user: row.try_get("user_name")?,
        team: row.try_get("team")?,
        project: row.try_get("project")?,
        profile: row.try_get("profile")?,
        argv: from_json(row, "argv")?.unwrap_or_default(),
        workspace: row.try_get("workspace")?,
        policy_hash: row.try_get("policy_hash")?,
        process,
        started: row.try_get::<_, Option<i64>>("started")?.map(Timestamp),
        ended: row.try_get::<_, Option<i64>>("ended")?.map(Timestamp),
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
        cost: NanoUsd(row.try_get("cost_nano")?),
        usage: usage(row)?,
        fault: row.try_get("fault")?,
    };
    Ok(Known { summary, machine: row.try_get("machine")? })
}

/// The usage columns, which two tables have.
pub(super) fn usage(row: &Row) -> Result<Usage, Fault> {
    let number = |column: &str| row.try_get::<_, i64>(column).map(i64::cast_unsigned);
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

/// A session's id out of a column.
pub(super) fn id(text: &str) -> Result<SessionId, Fault> {
    text.parse().map_err(|_| {
        Fault::Store(StoreError::StoreDamaged { what: format!("`{}` as a session's id", text.escape_debug()) })
    })
}

/// PostgreSQL's text has no zero byte, which a stranger's model name may have; the event's payload keeps it.
pub(super) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A small value as text. The types written here always have a JSON form.
fn json<T: Serialize>(value: &T) -> Option<String> {
    serde_json::to_string(value).ok()
}

fn from_json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>, Fault> {
    let text: Option<String> = row.try_get(column)?;
    let damaged = |_| Fault::Store(StoreError::StoreDamaged { what: format!("a session's {column}") });
    text.map(|text| serde_json::from_str(&text).map_err(damaged)).transpose()
}
