//! Money that is set aside for calls under way, across all sessions of one store.
//!
//! What a call may cost is held before it leaves and settled once it is over, each in one transaction over every budget that
//! it counts in: two processes cannot give the same money twice. What a process left held that died is settled from its
//! journal; a call of which that tells no end is charged at all that was held for it, since it may have been billed.

use super::holds_budget::{Others, budgets, is_own, quarter_of};
use super::told::{Outcome, Told};
use super::{Home, Journal, StoreError, fold, process_start_ticks, query, schema};
use crate::meter::{Admission, Budget, Wish, admit};
use crate::model::{NanoUsd, RequestNumber, Scope, SessionId, Timestamp, Window, Writer};
use crate::policy::SpendPolicy;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

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
CREATE TABLE IF NOT EXISTS spent (
    session TEXT NOT NULL, quarter INTEGER NOT NULL, nano INTEGER NOT NULL, PRIMARY KEY (session, quarter)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spent_quarter ON spent (quarter);
CREATE INDEX IF NOT EXISTS charges_open ON charges (session) WHERE state <> 'settled';
";

/// Makes the tables where there are none, and counts by quarters what was counted by days, from their midnight (UTC) on.
pub(super) fn make_tables(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(TABLES)?;
    if transaction.table_exists(None, "spends")? {
        transaction
            .execute_batch("INSERT INTO spent SELECT session, day * 96, nano FROM spends; DROP TABLE spends;")?;
    }
    Ok(())
}

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

/// What became of a claim, and the budgets as they stood.
pub type Placed = (Admission, Vec<Budget>);

/// When something happens, as budgets count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock.
    pub at: Timestamp,
    /// The first call of the turn that the session is in; 0 where none is known, so that everything counts.
    pub turn: RequestNumber,
}

impl Moment {
    /// In which of its windows a policy is.
    #[must_use]
    pub fn window_of(self, policy: &SpendPolicy) -> i64 {
        match policy.window {
            Window::Turn => self.turn.0.cast_signed(),
            window => window.start(self.at, &policy.zone).0,
        }
    }
}

/// The book of what is held, as one session writes in it.
#[derive(Debug)]
pub struct Holds {
    home: Home,
    connection: Connection,
    account: Account,
    /// The database's file, by its device and number: it may be set aside, and another be in its place.
    file: Option<(u64, u64)>,
    others: Others,
}

impl Holds {
    /// Opens the book and enters the session, run by this process from now on.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn open(home: &Home, account: Account) -> Result<Self, StoreError> {
        let connection = schema::open(home)?;
        let mut holds =
            Self { home: home.clone(), connection, account, file: file_of(home), others: Others::default() };
        holds.enter().map_err(holds.failed())?;
        holds.sweep(Timestamp(i64::MAX))?;
        Ok(holds)
    }

    fn enter(&mut self) -> rusqlite::Result<()> {
        let pid = std::process::id();
        let ticks = process_start_ticks(pid).unwrap_or_default();
        let Account { session, user, team, project, agent } = &self.account;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        make_tables(&transaction)?;
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

    /// Sets money aside for calls that ask at one time, each if every policy has room for it after those before it; the
    /// budgets as they stood go with each answer, in the policies' order. All of it is one transaction.
    ///
    /// # Errors
    /// A [`StoreError`] of the database; then nothing is set aside.
    pub fn place(&mut self, policies: &[SpendPolicy], claims: &[Claim]) -> Result<Vec<Placed>, StoreError> {
        if self.is_aside() {
            *self = Self::open(&self.home.clone(), self.account.clone())?;
        }
        let mut placed = self.try_to_place(policies, claims).map_err(self.failed())?;
        let lacks = |(admission, _): &Placed| matches!(admission, Admission::Wait(_) | Admission::Refuse(_));
        let moment = claims.first().map_or(Timestamp(0), |claim| claim.moment.at);
        if placed.iter().any(lacks) && self.sweep(moment)? {
            let again: Vec<usize> = (0..placed.len()).filter(|index| lacks(&placed[*index])).collect();
            let retried: Vec<Claim> = again.iter().map(|index| claims[*index].clone()).collect();
            let retried = self.try_to_place(policies, &retried).map_err(self.failed())?;
            again.into_iter().zip(retried).for_each(|(index, found)| placed[index] = found);
        }
        Ok(placed)
    }

    /// Whether the database was made anew meanwhile. Whoever does that lets nobody hold money in the old one.
    fn is_aside(&self) -> bool {
        self.file != file_of(&self.home)
    }

    fn try_to_place(&mut self, policies: &[SpendPolicy], claims: &[Claim]) -> rusqlite::Result<Vec<Placed>> {
        let Self { connection, account, others, .. } = self;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut all, mut read) = (Vec::new(), None::<(Moment, Vec<Budget>)>);
        for claim in claims {
            let known = read.take().filter(|(moment, _)| *moment == claim.moment);
            let mut budgets = match known {
                Some((_, budgets)) => budgets,
                None => budgets(&transaction, account, others, policies, claim.moment)?,
            };
            let as_claimed: Vec<Budget> =
                budgets.iter().enumerate().map(|(index, budget)| claim.sees(index, budget)).collect();
            let admission = admit(&as_claimed, &claim.wish);
            if let Admission::Hold(amount) = admission {
                let mut statement =
                    transaction.prepare_cached("INSERT INTO charges VALUES (?1, ?2, ?3, ?4, 'held')")?;
                let request = claim.request.0.cast_signed();
                statement.execute(params![account.session.as_str(), request, claim.moment.at.0, amount.0])?;
                // A session counts in every budget that it has.
                budgets.iter_mut().for_each(|budget| budget.held = budget.held.plus(amount));
            }
            read = Some((claim.moment, budgets));
            all.push((admission, as_claimed));
        }
        transaction.commit()?;
        Ok(all)
    }

    /// Settles calls of this session at what they came to. Only the first time counts.
    ///
    /// # Errors
    /// A [`StoreError`] of the database; then the money stays held until the journal is read.
    pub fn settle(&mut self, calls: &[(RequestNumber, NanoUsd)]) -> Result<(), StoreError> {
        self.try_to_settle(calls).map_err(self.failed())
    }

    fn try_to_settle(&mut self, calls: &[(RequestNumber, NanoUsd)]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (request, cost) in calls {
            settle(&transaction, &self.account.session, *request, *cost)?;
        }
        transaction.commit()
    }

    /// What is spent and held by the policies' budgets.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn budgets(&mut self, policies: &[SpendPolicy], moment: Moment) -> Result<Vec<Budget>, StoreError> {
        let Self { connection, account, others, .. } = self;
        budgets(connection, account, others, policies, moment).map_err(self.failed())
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
        replay(&mut self.connection, &self.home, &session, true)
    }

    /// Settles what processes left held that are gone; whether there was any.
    fn sweep(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let open = open(&self.connection, Timestamp(now.0.saturating_sub(LOST_LOOKS))).map_err(self.failed())?;
        let mut any = false;
        for (session, pid, ticks) in open {
            if session != self.account.session && process_start_ticks(pid) != Some(ticks) {
                // Its proxy may outlive it by some seconds, let a call go that it has money for, and say what one came to.
                let over = !Journal::is_written(&self.home, &session, Writer::Proxy);
                replay(&mut self.connection, &self.home, &session, over)?;
                any = true;
            }
        }
        Ok(any)
    }
}

fn file_of(home: &Home) -> Option<(u64, u64)> {
    std::fs::metadata(home.database()).ok().map(|found| (found.dev(), found.ino()))
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

/// Settles one call within a transaction, and adds it to what its session spent in that quarter of an hour.
fn settle(connection: &Connection, session: &SessionId, request: RequestNumber, cost: NanoUsd) -> rusqlite::Result<()> {
    let text = "UPDATE charges SET nano = ?3, state = 'settled' \
                WHERE session = ?1 AND request = ?2 AND state <> 'settled' RETURNING at";
    let mut statement = connection.prepare_cached(text)?;
    let values = params![session.as_str(), request.0.cast_signed(), cost.0];
    let at: Option<i64> = statement.query_row(values, |row| row.get(0)).optional()?;
    let Some(at) = at else { return Ok(()) };
    let text = "INSERT INTO spent VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET nano = nano + excluded.nano";
    connection.prepare_cached(text)?.execute(params![session.as_str(), quarter_of(Timestamp(at)), cost.0]).map(drop)
}

/// Settles what a session left open by what its journal tells; what that leaves open, only where it is `over`.
fn replay(connection: &mut Connection, home: &Home, session: &SessionId, over: bool) -> Result<(), StoreError> {
    fold::fold(connection, home, session)?;
    let path = home.database();
    settle_by_journal(connection, session, over).map_err(|error| StoreError::database(&path, "hold money in", error))
}

fn settle_by_journal(connection: &mut Connection, session: &SessionId, over: bool) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    settle_told(&transaction, session, over)?;
    transaction.commit()
}

/// The same within a transaction.
pub(super) fn settle_told(transaction: &Transaction<'_>, session: &SessionId, over: bool) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare("SELECT request FROM charges WHERE session = ?1 AND state <> 'settled'")?;
    let requests = statement.query_map([session.as_str()], |row| row.get::<_, i64>(0))?;
    let requests = requests.collect::<rusqlite::Result<Vec<_>>>()?;
    drop(statement);
    // As nearly always: then nobody need read what the session did.
    if requests.is_empty() {
        return Ok(());
    }
    let told = Told::of(&query::log(transaction, Some(session), None, 0, u32::MAX)?);
    let whole = is_whole(transaction, session)?;
    for request in requests {
        let request = RequestNumber(request.cast_unsigned());
        match told.get(&request).copied().unwrap_or_default().outcome(whole, over) {
            Outcome::Settled(cost) => settle(transaction, session, request, cost)?,
            Outcome::Open => {}
            Outcome::Lost => {
                let text = "UPDATE charges SET state = 'lost' WHERE session = ?1 AND request = ?2";
                transaction.execute(text, params![session.as_str(), request.0.cast_signed()])?;
            }
        }
    }
    Ok(())
}

/// Whether every journal of a session could be read.
fn is_whole(transaction: &Transaction<'_>, session: &SessionId) -> rusqlite::Result<bool> {
    let text = "SELECT count(*) FROM journals WHERE session = ?1 AND fault IS NOT NULL";
    transaction.query_row(text, [session.as_str()], |row| row.get::<_, i64>(0)).map(|faults| faults == 0)
}

/// By what a budget is known in one of its windows.
pub(super) fn place_of(account: &Account, policy: &SpendPolicy, moment: Moment) -> (String, i64) {
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
    (budget, moment.window_of(policy))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "holds_tests.rs"]
mod tests;
