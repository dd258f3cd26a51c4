//! Money that is set aside for calls under way, across all sessions of one store.
//!
//! What a call may cost is held before it leaves and settled once it is over, each in one transaction over every budget that
//! it counts in: two processes cannot give the same money twice. What a process left held that died is settled from its
//! journal; a call of which that tells no end is charged at all that was held for it, since it may have been billed.

use super::{Home, StoreError, fold, process_start_ticks, query, schema};
use crate::meter::{Admission, Budget, Wish, admit};
use crate::model::{Event, NanoUsd, RequestNumber, Scope, SessionId, Timestamp, Window};
use crate::policy::SpendPolicy;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};

/// How many of a session's last calls tell what the next will probably cost.
const EXPECTED_BY: u32 = 20;
/// For how long a charge of a dead process is looked at again, in microseconds: its proxy may still write.
const LOST_LOOKS: i64 = 3_600_000_000;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS accounts (
    session TEXT PRIMARY KEY, user TEXT NOT NULL, team TEXT, project TEXT, agent TEXT NOT NULL,
    pid INTEGER NOT NULL, pid_started_ticks INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    session TEXT NOT NULL REFERENCES accounts(session), request INTEGER NOT NULL, at INTEGER NOT NULL,
    nano INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (session, request)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (
    budget TEXT NOT NULL, since INTEGER NOT NULL, percent INTEGER NOT NULL, PRIMARY KEY (budget, since, percent)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charges_open ON charges (session) WHERE state <> 'settled';
";

/// Whose calls are counted where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: String,
    /// Its team, where one was named.
    pub team: Option<String>,
    /// Its project, where one was named.
    pub project: Option<String>,
    /// Its profile.
    pub agent: String,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The call.
    pub request: RequestNumber,
    /// When.
    pub moment: Moment,
    /// How much.
    pub wish: Wish,
    /// The policies whose soft limit a person waived, by their place in the list.
    pub waived: BTreeSet<usize>,
    /// By how much a person raised the hard limits of policies.
    pub raised: BTreeMap<usize, NanoUsd>,
}

impl Claim {
    /// A budget as it counts for this call, by its policy's place in the list.
    pub(super) fn sees(&self, index: usize, budget: &Budget) -> Budget {
        let soft = budget.soft.filter(|_| !self.waived.contains(&index));
        let hard = budget.hard.map(|hard| hard.plus(self.raised.get(&index).copied().unwrap_or_default()));
        Budget { soft, hard, ..*budget }
    }
}

/// When something happens, as budgets count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock.
    pub at: Timestamp,
    /// The first call of the turn that the session is in; 0 where none is known, so that everything counts.
    pub turn: RequestNumber,
}

/// The book of what is held, as one session writes in it.
#[derive(Debug)]
pub struct Holds {
    home: Home,
    connection: Connection,
    account: Account,
}

impl Holds {
    /// Opens the book and enters the session, run by this process from now on.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn open(home: &Home, account: Account) -> Result<Self, StoreError> {
        let connection = schema::open(home)?;
        let mut holds = Self { home: home.clone(), connection, account };
        holds.enter().map_err(holds.failed())?;
        holds.sweep(Timestamp(i64::MAX))?;
        Ok(holds)
    }

    fn enter(&mut self) -> rusqlite::Result<()> {
        let pid = std::process::id();
        let ticks = process_start_ticks(pid).unwrap_or_default();
        let Account { session, user, team, project, agent } = &self.account;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(TABLES)?;
        transaction.execute(
            "INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (session) DO UPDATE SET \
             pid = excluded.pid, pid_started_ticks = excluded.pid_started_ticks",
            params![session.as_str(), user, team, project, agent, pid, ticks.cast_signed()],
        )?;
        transaction.commit()
    }

    fn failed(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.home.database();
        move |error| StoreError::database(&path, "hold money in", error)
    }

    /// Sets money aside for a call, if every policy has room for it; the budgets as they stood go with the answer, in the
    /// policies' order.
    ///
    /// # Errors
    /// A [`StoreError`] of the database; then nothing is set aside.
    pub fn place(&mut self, policies: &[SpendPolicy], claim: &Claim) -> Result<(Admission, Vec<Budget>), StoreError> {
        let (admission, budgets) = self.try_to_place(policies, claim).map_err(self.failed())?;
        if matches!(admission, Admission::Wait(_) | Admission::Refuse(_)) && self.sweep(claim.moment.at)? {
            return self.try_to_place(policies, claim).map_err(self.failed());
        }
        Ok((admission, budgets))
    }

    fn try_to_place(&mut self, policies: &[SpendPolicy], claim: &Claim) -> rusqlite::Result<(Admission, Vec<Budget>)> {
        let Self { connection, account, .. } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let budgets = policies.iter().enumerate().map(|(index, policy)| {
            let budget = budget(&transaction, account, policy, claim.moment)?;
            Ok(claim.sees(index, &budget))
        });
        let budgets = budgets.collect::<rusqlite::Result<Vec<_>>>()?;
        let admission = admit(&budgets, &claim.wish);
        if let Admission::Hold(amount) = admission {
            let mut statement = transaction.prepare_cached("INSERT INTO charges VALUES (?1, ?2, ?3, ?4, 'held')")?;
            let request = claim.request.0.cast_signed();
            statement.execute(params![account.session.as_str(), request, claim.moment.at.0, amount.0])?;
        }
        transaction.commit()?;
        Ok((admission, budgets))
    }

    /// Settles a call of this session at what it came to. Only the first time counts.
    ///
    /// # Errors
    /// A [`StoreError`] of the database; then the money stays held until the journal is read.
    pub fn settle(&mut self, request: RequestNumber, cost: NanoUsd) -> Result<(), StoreError> {
        settle(&self.connection, &self.account.session, request, cost).map_err(self.failed())
    }

    /// What is spent and held by the policies' budgets.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn budgets(&self, policies: &[SpendPolicy], moment: Moment) -> Result<Vec<Budget>, StoreError> {
        let budgets = policies.iter().map(|policy| budget(&self.connection, &self.account, policy, moment));
        budgets.collect::<rusqlite::Result<_>>().map_err(self.failed())
    }

    /// Notes that a part of a budget is spent; whether nobody had, in any session that counts in it, for as long as its
    /// window lasts.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn reached(&mut self, policy: &SpendPolicy, percent: u32, moment: Moment) -> Result<bool, StoreError> {
        let (budget, since) = place_of(&self.account, policy, moment);
        let text = "INSERT OR IGNORE INTO alerts VALUES (?1, ?2, ?3)";
        let noted =
            self.connection.prepare_cached(text).and_then(|mut note| note.execute(params![budget, since, percent]));
        noted.map(|rows| rows > 0).map_err(self.failed())
    }

    /// Settles what this session left open, now that its proxy writes no more.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn close(mut self) -> Result<(), StoreError> {
        let session = self.account.session.clone();
        replay(&mut self.connection, &self.home, &session)
    }

    /// Settles what processes left held that are gone; whether there was any.
    fn sweep(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let open = open(&self.connection, Timestamp(now.0.saturating_sub(LOST_LOOKS))).map_err(self.failed())?;
        let mut any = false;
        for (session, pid, ticks) in open {
            if session != self.account.session && process_start_ticks(pid) != Some(ticks) {
                replay(&mut self.connection, &self.home, &session)?;
                any = true;
            }
        }
        Ok(any)
    }
}

/// The sessions with money held, or charged lately without a known end, each with its process.
fn open(connection: &Connection, lost_since: Timestamp) -> rusqlite::Result<Vec<(SessionId, u32, u64)>> {
    let text = "SELECT DISTINCT session, pid, pid_started_ticks FROM charges JOIN accounts USING (session) \
                WHERE state <> 'settled' AND (state = 'held' OR at >= ?1)";
    let mut statement = connection.prepare_cached(text)?;
    let rows = statement.query_map([lost_since.0], |row| {
        Ok((query::id(row, 0)?, row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned()))
    })?;
    rows.collect()
}

fn settle(connection: &Connection, session: &SessionId, request: RequestNumber, cost: NanoUsd) -> rusqlite::Result<()> {
    let text = "UPDATE charges SET nano = ?3, state = 'settled' \
                WHERE session = ?1 AND request = ?2 AND state <> 'settled'";
    let mut statement = connection.prepare_cached(text)?;
    statement.execute(params![session.as_str(), request.0.cast_signed(), cost.0]).map(drop)
}

/// That a session was of a team or project by its own start, which is among its first events.
const OF_TEAM: &str = "?1 = (SELECT json_extract(CAST(payload AS TEXT), '$.event.team') FROM events \
    WHERE events.session = sessions.session AND kind = 'session_started' ORDER BY number LIMIT 1)";
const OF_PROJECT: &str = "?1 = (SELECT json_extract(CAST(payload AS TEXT), '$.event.project') FROM events \
    WHERE events.session = sessions.session AND kind = 'session_started' ORDER BY number LIMIT 1)";

/// What a session's journal tells of a call that money was held for.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    left: bool,
    settled: Option<NanoUsd>,
}

/// Settles what a session left open by what its journal tells.
fn replay(connection: &mut Connection, home: &Home, session: &SessionId) -> Result<(), StoreError> {
    fold::fold(connection, home, session)?;
    let path = home.database();
    settle_by_journal(connection, session).map_err(|error| StoreError::database(&path, "hold money in", error))
}

fn settle_by_journal(connection: &mut Connection, session: &SessionId) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (told, whole) = told(&transaction, session)?;
    let mut statement = transaction.prepare("SELECT request FROM charges WHERE session = ?1 AND state <> 'settled'")?;
    let requests = statement.query_map([session.as_str()], |row| row.get::<_, i64>(0))?;
    let requests = requests.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(statement);
    for request in requests {
        let request = RequestNumber(request.cast_unsigned());
        let Told { left, settled } = told.get(&request).copied().unwrap_or_default();
        match settled {
            Some(cost) => settle(&transaction, session, request, cost)?,
            // Nothing leaves before it is in the journal.
            None if !left && whole => settle(&transaction, session, request, NanoUsd::ZERO)?,
            None => {
                let text = "UPDATE charges SET state = 'lost' WHERE session = ?1 AND request = ?2";
                transaction.execute(text, params![session.as_str(), request.0.cast_signed()])?;
            }
        }
    }
    transaction.commit()
}

/// What the events tell of each call, and whether every journal could be read.
fn told(transaction: &Transaction<'_>, session: &SessionId) -> rusqlite::Result<(BTreeMap<RequestNumber, Told>, bool)> {
    let mut told = BTreeMap::<RequestNumber, Told>::new();
    for stored in query::log(transaction, Some(session), None, 0, u32::MAX)? {
        match stored.event() {
            Some(Event::RequestAllowed { request, .. }) => told.entry(request).or_default().left = true,
            Some(Event::HoldSettled { request, charged, .. }) => {
                told.entry(request).or_default().settled = Some(charged)
            }
            _ => {}
        }
    }
    let text = "SELECT count(*) FROM journals WHERE session = ?1 AND fault IS NOT NULL";
    let faults: i64 = transaction.query_row(text, [session.as_str()], |row| row.get(0))?;
    Ok((told, faults == 0))
}

/// Whether a budget is one session's alone.
fn is_own(policy: &SpendPolicy) -> bool {
    policy.scope == Scope::Session || matches!(policy.window, Window::Session | Window::Turn)
}

/// By what a budget is known in one of its windows.
fn place_of(account: &Account, policy: &SpendPolicy, moment: Moment) -> (String, i64) {
    let Account { session, user, team, project, agent } = account;
    let whose = match policy.scope {
        _ if is_own(policy) => session.as_str(),
        Scope::Session | Scope::Organisation => "",
        Scope::Agent => agent,
        Scope::User => user,
        Scope::Team => team.as_deref().unwrap_or_default(),
        Scope::Project => project.as_deref().unwrap_or_default(),
    };
    // By its limits too: one that was raised has other parts.
    let limit = policy.hard_limit.or(policy.soft_limit).unwrap_or_default();
    let budget = format!("{}\n{}\n{whose}\n{}\n{}", policy.scope, policy.window, policy.name, limit.0);
    let since = match policy.window {
        Window::Turn => moment.turn.0.cast_signed(),
        window => window.start(moment.at).0,
    };
    (budget, since)
}

/// What one policy's budget stands at.
fn budget(
    connection: &Connection,
    account: &Account,
    policy: &SpendPolicy,
    moment: Moment,
) -> rusqlite::Result<Budget> {
    let from = policy.window.start(moment.at);
    let first = if policy.window == Window::Turn { moment.turn } else { RequestNumber(0) };
    let own = is_own(policy);
    // The conditions name columns of `accounts`, and of `sessions` for those that no policy counted.
    let (governed, others, value) = match policy.scope {
        _ if own => ("session = ?1", None, Some(account.session.to_string())),
        Scope::Session | Scope::Organisation => ("?1 IS NULL", Some("?1 IS NULL"), None),
        Scope::Agent => ("agent = ?1", Some("profile = ?1"), Some(account.agent.clone())),
        Scope::User => ("user = ?1", Some("user = ?1"), Some(account.user.clone())),
        Scope::Team => ("team = ?1", Some(OF_TEAM), account.team.clone()),
        Scope::Project => ("project = ?1", Some(OF_PROJECT), account.project.clone()),
    };
    let text = format!(
        "SELECT coalesce(sum(nano) FILTER (WHERE state <> 'held'), 0), \
         coalesce(sum(nano) FILTER (WHERE state = 'held'), 0) \
         FROM accounts JOIN charges USING (session) \
         WHERE {governed} AND request >= ?3 AND (state = 'held' OR at >= ?2)"
    );
    let mut statement = connection.prepare_cached(&text)?;
    let values = params![value, from.0, first.0.cast_signed()];
    let (spent, held): (i64, i64) = statement.query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let spent = NanoUsd(spent).plus(match others {
        Some(condition) => ungoverned(connection, condition, value.as_deref(), from)?,
        None => NanoUsd::ZERO,
    });
    let expected = if policy.soft_limit.is_some() { expected(connection, &account.session)? } else { NanoUsd::ZERO };
    Ok(Budget { hard: policy.hard_limit, soft: policy.soft_limit, spent, held: NanoUsd(held), expected })
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "holds_tests.rs"]
mod tests;
