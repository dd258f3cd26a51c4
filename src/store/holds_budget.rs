//! What budgets stand at, in time that does not grow with how much was ever spent: sums by session and day, and what is open.

use super::holds::{Account, Moment};
use crate::meter::Budget;
use crate::model::{NanoUsd, RequestNumber, Scope, SessionId, Timestamp, Window};
use crate::policy::SpendPolicy;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;

/// How many of a session's last calls tell what the next will probably cost.
const EXPECTED_BY: u32 = 20;
/// Microseconds in a quarter of an hour.
const QUARTER: i64 = 900_000_000;
/// For how long what others spent is taken for granted whom no policy counted as they ran, in microseconds. It is known late
/// anyway.
const OTHERS_AGE_MAX: i64 = 5_000_000;

/// What sessions spent that no policy counted, when that was last looked for: by scope and the window's start.
#[derive(Debug, Default)]
pub(super) struct Others(BTreeMap<(Scope, Timestamp), (Timestamp, NanoUsd)>);

impl Others {
    fn spent(
        &mut self,
        by: (Scope, Timestamp),
        now: Timestamp,
        look: impl FnOnce() -> rusqlite::Result<NanoUsd>,
    ) -> rusqlite::Result<NanoUsd> {
        let fresh = |at: &Timestamp| (0..OTHERS_AGE_MAX).contains(&now.0.saturating_sub(at.0));
        if let Some((_, spent)) = self.0.get(&by).filter(|(at, _)| fresh(at)) {
            return Ok(*spent);
        }
        // Others are looked for again too, where they are still asked for.
        self.0.retain(|_, (at, _)| fresh(at));
        let spent = look()?;
        self.0.insert(by, (now, spent));
        Ok(spent)
    }
}

/// The quarter of an hour of a moment, counted from the first of all. In every time zone a day begins with one.
pub(super) fn quarter_of(at: Timestamp) -> i64 {
    at.0.div_euclid(QUARTER)
}

/// Whether a budget is one session's alone.
pub(super) fn is_own(policy: &SpendPolicy) -> bool {
    policy.scope == Scope::Session || matches!(policy.window, Window::Session | Window::Turn)
}

/// What the policies' budgets stand at.
pub(super) fn budgets(
    connection: &Connection,
    account: &Account,
    others: &mut Others,
    policies: &[SpendPolicy],
    moment: Moment,
) -> rusqlite::Result<Vec<Budget>> {
    policies.iter().map(|policy| budget(connection, account, others, policy, moment)).collect()
}

fn budget(
    connection: &Connection,
    account: &Account,
    others: &mut Others,
    policy: &SpendPolicy,
    moment: Moment,
) -> rusqlite::Result<Budget> {
    let from = policy.window.start(moment.at, &policy.zone);
    let expected = if policy.soft_limit.is_some() { expected(connection, &account.session)? } else { NanoUsd::ZERO };
    let stands = |spent, held| Budget { hard: policy.hard_limit, soft: policy.soft_limit, spent, held, expected };
    if policy.window == Window::Turn {
        let (spent, held) = of_turn(connection, &account.session, moment.turn)?;
        return Ok(stands(spent, held));
    }
    // The conditions name columns of `accounts`, and of `sessions` for those that no policy counted.
    let (governed, ungoverned, value) = match policy.scope {
        _ if is_own(policy) => ("session = ?1", None, Some(account.session.to_string())),
        Scope::Session | Scope::Organisation => ("?1 IS NULL", Some("?1 IS NULL"), None),
        Scope::Agent => ("agent = ?1", Some("profile = ?1"), Some(account.agent.clone())),
        Scope::User => ("user = ?1", Some("user = ?1"), Some(account.user.clone())),
        Scope::Team => ("team = ?1", Some("team = ?1"), account.team.clone()),
        Scope::Project => ("project = ?1", Some("project = ?1"), account.project.clone()),
    };
    let value = value.as_deref();
    let settled = settled(connection, governed, value, from)?;
    let (lost, held) = open(connection, governed, value, from)?;
    let look = |condition| {
        others.spent((policy.scope, from), moment.at, || self::ungoverned(connection, condition, value, from))
    };
    let rest = ungoverned.map_or(Ok(NanoUsd::ZERO), look)?;
    Ok(stands(settled.plus(lost).plus(rest), held))
}

/// What calls of a turn came to that are over, and what is held for the others.
fn of_turn(connection: &Connection, session: &SessionId, first: RequestNumber) -> rusqlite::Result<(NanoUsd, NanoUsd)> {
    let text = "SELECT coalesce(sum(nano) FILTER (WHERE state <> 'held'), 0), \
                coalesce(sum(nano) FILTER (WHERE state = 'held'), 0) FROM charges WHERE session = ?1 AND request >= ?2";
    let values = params![session.as_str(), first.0.cast_signed()];
    connection.prepare_cached(text)?.query_row(values, |row| Ok((NanoUsd(row.get(0)?), NanoUsd(row.get(1)?))))
}

fn settled(connection: &Connection, whose: &str, value: Option<&str>, from: Timestamp) -> rusqlite::Result<NanoUsd> {
    let text = format!(
        "SELECT coalesce(sum(nano), 0) FROM spent JOIN accounts USING (session) WHERE {whose} AND quarter >= ?2"
    );
    connection.prepare_cached(&text)?.query_row(params![value, quarter_of(from)], |row| row.get(0)).map(NanoUsd)
}

/// What is charged without being settled, and what is held.
fn open(
    connection: &Connection,
    whose: &str,
    value: Option<&str>,
    from: Timestamp,
) -> rusqlite::Result<(NanoUsd, NanoUsd)> {
    let text = format!(
        "SELECT coalesce(sum(nano) FILTER (WHERE state <> 'held'), 0), \
         coalesce(sum(nano) FILTER (WHERE state = 'held'), 0) FROM charges JOIN accounts USING (session) \
         WHERE state <> 'settled' AND {whose} AND (state = 'held' OR at >= ?2)"
    );
    let mut statement = connection.prepare_cached(&text)?;
    statement.query_row(params![value, from.0], |row| Ok((NanoUsd(row.get(0)?), NanoUsd(row.get(1)?))))
}

/// What sessions spent that no policy counted as they ran; it is known once they are folded.
fn ungoverned(
    connection: &Connection,
    condition: &str,
    value: Option<&str>,
    from: Timestamp,
) -> rusqlite::Result<NanoUsd> {
    let text = format!(
        "SELECT coalesce(sum(cost), 0) FROM \
         (SELECT session, sum(cost_nano) AS cost FROM calls WHERE at >= ?2 \
          AND session NOT IN (SELECT session FROM accounts) GROUP BY session) \
         JOIN sessions USING (session) WHERE {condition}"
    );
    connection.prepare_cached(&text)?.query_row(params![value, from.0], |row| row.get(0)).map(NanoUsd)
}

/// What the session's next call will probably cost.
fn expected(connection: &Connection, session: &SessionId) -> rusqlite::Result<NanoUsd> {
    let text = "SELECT coalesce(sum(nano), 0) / max(count(*), 1) FROM (SELECT nano FROM charges \
                WHERE session = ?1 AND state = 'settled' ORDER BY request DESC LIMIT ?2)";
    connection.prepare_cached(text)?.query_row(params![session.as_str(), EXPECTED_BY], |row| row.get(0)).map(NanoUsd)
}
