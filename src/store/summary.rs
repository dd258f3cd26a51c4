//! What is known of one session at a glance: a fold over its events, kept beside them.

use super::{Home, process_start_ticks};
use crate::model::{EndReason, Event, ExitStatus, NanoUsd, Pricing, SessionId, Timestamp, Usage};
use rusqlite::{Connection, OptionalExtension, Row, named_params};
use serde::Serialize;
use std::time::Duration;

/// How long a session may take from its first file to the event that says it started.
const START_MAX: Duration = Duration::from_secs(10);

/// What a session is doing, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its sandbox is being built.
    Starting,
    /// Its process is there.
    Running,
    /// The harness ended.
    Finished,
    /// The harness could not be started.
    NotStarted,
    /// Its time was up.
    Timeout,
    /// The proxy died and the sandbox with it.
    ProxyLost,
    /// Its process is gone and said nothing.
    Interrupted,
}

impl Status {
    /// The name, as every listing has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::NotStarted => "not_started",
            Self::Timeout => "timeout",
            Self::ProxyLost => "proxy_lost",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether no event can follow any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Starting | Self::Running)
    }
}

impl From<EndReason> for Status {
    fn from(reason: EndReason) -> Self {
        match reason {
            EndReason::Finished => Self::Finished,
            EndReason::NotStarted => Self::NotStarted,
            EndReason::Timeout => Self::Timeout,
            EndReason::ProxyLost => Self::ProxyLost,
            EndReason::Interrupted => Self::Interrupted,
        }
    }
}

/// How many requests and connections met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Requests that were let out.
    pub allowed: u64,
    /// Requests that were refused.
    pub denied: u64,
    /// Connections and names that were refused before there was a request.
    pub refused: u64,
    /// Of the allowed requests, those that got no response.
    pub failed: u64,
}

/// What is known of one session at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The session.
    pub session: SessionId,
    /// The name a person gave it.
    pub name: Option<String>,
    /// The user on whose behalf it ran; none until it started.
    pub user: Option<String>,
    /// The profile; none until it started.
    pub profile: Option<String>,
    /// The command line inside the sandbox.
    pub argv: Vec<String>,
    /// The workspace's path.
    pub workspace: Option<String>,
    /// SHA-256 of the compiled policy, in hexadecimal.
    pub policy_hash: Option<String>,
    /// The session process's id and start time in clock ticks since boot.
    pub process: Option<(u32, u64)>,
    /// When it started; before that is known, when its first event was.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// The status that omni exited with.
    pub exit: Option<ExitStatus>,
    /// How many events there are.
    pub events: u64,
    /// What became of its requests.
    pub requests: Counts,
    /// How many model calls were metered.
    pub calls: u64,
    /// How many of them have a cost that is not exact.
    pub inexact: u64,
    /// What it cost.
    pub cost: NanoUsd,
    /// What it used.
    pub usage: Usage,
    /// What is wrong with one of its journals.
    pub fault: Option<String>,
}

impl Summary {
    /// A session of which nothing is known.
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session,
            name: None,
            user: None,
            profile: None,
            argv: Vec::new(),
            workspace: None,
            policy_hash: None,
            process: None,
            started: None,
            ended: None,
            end_reason: None,
            exit: None,
            events: 0,
            requests: Counts::default(),
            calls: 0,
            inexact: 0,
            cost: NanoUsd::ZERO,
            usage: Usage::default(),
            fault: None,
        }
    }

    /// What the session is doing at this moment.
    pub(super) fn status(&self, home: &Home) -> Status {
        if let Some(reason) = self.end_reason {
            return reason.into();
        }
        let lives = match self.process {
            Some((pid, ticks)) => process_start_ticks(pid) == Some(ticks),
            None => false,
        };
        let fresh = || {
            let touched = std::fs::metadata(home.session(&self.session)).and_then(|found| found.modified()).ok();
            touched.and_then(|time| time.elapsed().ok()).is_some_and(|age| age < START_MAX)
        };
        match self.process {
            _ if lives => Status::Running,
            None if fresh() => Status::Starting,
            _ => Status::Interrupted,
        }
    }

    /// Takes the next event in.
    pub(super) fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::SessionStarted { name, user, profile, argv, workspace, policy_hash, .. } => {
                self.name.clone_from(name);
                self.user = Some(user.clone());
                self.profile = Some(profile.clone());
                self.argv.clone_from(argv);
                self.workspace = Some(workspace.clone());
                self.policy_hash = Some(policy_hash.clone());
                self.started = Some(at);
                self.process = process_of(event);
            }
            Event::ConnectionRefused { .. } => self.requests.refused += 1,
            Event::RequestAllowed { .. } => self.requests.allowed += 1,
            Event::RequestDenied { .. } => self.requests.denied += 1,
            Event::RequestFailed { .. } => self.requests.failed += 1,
            Event::UsageMetered { usage, cost, pricing, .. } => {
                self.calls += 1;
                self.inexact += u64::from(*pricing != Pricing::Exact);
                self.cost = self.cost.plus(*cost);
                self.usage = self.usage.plus(*usage);
            }
            Event::SessionEnded { reason, exit } => {
                self.ended = Some(at);
                self.end_reason = Some(*reason);
                self.exit = Some(*exit);
            }
            Event::ProxyStarted { .. }
            | Event::SecretMissing { .. }
            | Event::NameResolved { .. }
            | Event::RequestCompleted { .. }
            | Event::HarnessExited { .. } => {}
        }
    }

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
        })?;
        Ok(())
    }
}

/// All columns, with the faults of the session's journals.
const SELECT: &str = "SELECT sessions.*, (SELECT group_concat(writer || ': ' || fault, '; ') FROM journals
    WHERE journals.session = sessions.session AND fault IS NOT NULL) AS fault FROM sessions";

/// Not `OR REPLACE`: that would delete the row first, and make SQLite walk through all events that refer to it.
const UPSERT: &str = "INSERT INTO sessions VALUES (:session, :name, :user, :profile, :argv, :workspace,
    :policy_hash, :pid, :ticks, :started, :ended, :end_reason, :exit, :events, :allowed, :denied, :refused, :failed,
    :calls, :inexact, :cost, :input, :cache_read, :cache_write, :cache_write_long, :output, :reasoning, :web_searches)
    ON CONFLICT (session) DO UPDATE SET name = :name, user = :user, profile = :profile, argv = :argv,
    workspace = :workspace, policy_hash = :policy_hash, pid = :pid, pid_started_ticks = :ticks, started = :started,
    ended = :ended, end_reason = :end_reason, exit = :exit, events = :events, allowed = :allowed, denied = :denied,
    refused = :refused, failed = :failed, calls = :calls, inexact = :inexact, cost_nano = :cost, input = :input,
    cache_read = :cache_read, cache_write = :cache_write, cache_write_long = :cache_write_long, output = :output,
    reasoning = :reasoning, web_searches = :web_searches";

/// The process that a start names.
fn process_of(event: &Event) -> Option<(u32, u64)> {
    match event {
        Event::SessionStarted { pid, pid_started_ticks, .. } => Some((*pid, *pid_started_ticks)),
        _ => None,
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
