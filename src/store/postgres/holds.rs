//! Money that is set aside for calls under way, across all sessions of all machines that share one store.
//!
//! A call is decided upon in one transaction over every budget that it counts in. A session belongs to one sum of each
//! scope, and locks all of them before it reads: alone where a policy of its own decides by the sum, shared where it only adds
//! to it. So of two calls that could count in each other's sums, one sees the other, and calls that cannot do not wait.
//!
//! Whether a process lives only its own machine knows, and only there is its journal. What a process of another machine
//! left held stays held, so that nobody is given the money twice, until that machine settles it; after a day it is charged
//! whole.

use super::link::{Fault, Link};
use super::locks::{self, Lock};
use super::summary_row::plain;
use super::{Postgres, fold, query, summary_row};
use crate::meter::{Admission, Budget, admit};
use crate::model::{NanoUsd, RequestNumber, Scope, SessionId, Timestamp, Window, Writer};
use crate::policy::SpendPolicy;
use crate::store::holds::place_of;
use crate::store::summary_row::signed;
use crate::store::told::{Outcome, Told};
use crate::store::{Account, Claim, HoldBook, Journal, Moment, Placed, Search, StoreError, Turn, process_start_ticks};

/// How many of a session's last calls tell what the next will probably cost.
const EXPECTED_BY: i64 = 20;
/// For how long a charge of a dead process is looked at again, in microseconds: its proxy may still write.
const LOST_LOOKS: i64 = 3_600_000_000;
/// For how long another machine may settle what a process of it held, in microseconds. No call takes as long.
const ELSEWHERE_MAX: i64 = 24 * 3_600_000_000;
/// The scopes that are shared by sessions.
const SHARED: [Scope; 5] = [Scope::Organisation, Scope::Team, Scope::Project, Scope::User, Scope::Agent];

/// The book of what is held, as one session writes in it.
#[derive(Debug)]
pub(in crate::store) struct PostgresHolds {
    store: Postgres,
    account: Account,
}

impl PostgresHolds {
    /// Opens the book and enters the session, run by this process from now on.
    ///
    /// # Errors
    /// A [`StoreError`] of the server.
    pub fn open(store: Postgres, account: Account) -> Result<Self, StoreError> {
        let mut holds = Self { store, account };
        holds.enter()?;
        holds.sweep(Timestamp(i64::MAX))?;
        Ok(holds)
    }

    fn enter(&self) -> Result<(), StoreError> {
        let pid = i64::from(std::process::id());
        let ticks = signed(process_start_ticks(std::process::id()).unwrap_or_default());
        let Account { session, user, team, project, agent } = &self.account;
        let text = "INSERT INTO accounts (session, machine, user_name, team, project, agent, pid, pid_started_ticks) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (session) DO UPDATE SET \
                    pid = excluded.pid, pid_started_ticks = excluded.pid_started_ticks";
        self.store.link.again("hold money in", |link| {
            let machine = &self.store.machine;
            link.execute(text, &[&session.as_str(), machine, user, team, project, agent, &pid, &ticks]).map(drop)
        })
    }

    fn try_to_place(&self, policies: &[SpendPolicy], claim: &Claim) -> Result<(Admission, Vec<Budget>), StoreError> {
        let (account, session) = (&self.account, self.account.session.as_str());
        let request = signed(claim.request.0);
        self.store.link.transaction("hold money in", |link| {
            locks::wait_all(link, &locks_of(account, policies))?;
            let mut budgets = Vec::new();
            for (index, policy) in policies.iter().enumerate() {
                budgets.push(claim.sees(index, &budget(link, account, policy, claim.moment)?));
            }
            // Where the connection was lost in the middle of the commit, the money is set aside already.
            let text = "SELECT nano FROM charges WHERE session = $1 AND request = $2";
            if let Some(row) = link.query_opt(text, &[&session, &request])? {
                return Ok((Admission::Hold(NanoUsd(row.try_get(0)?)), budgets));
            }
            let admission = admit(&budgets, &claim.wish);
            if let Admission::Hold(amount) = admission {
                let text = "INSERT INTO charges (session, request, at, nano, state) VALUES ($1, $2, $3, $4, 'held')";
                link.execute(text, &[&session, &request, &claim.moment.at.0, &amount.0])?;
            }
            Ok((admission, budgets))
        })
    }

    /// Settles what processes left held that are gone; whether there was any.
    fn sweep(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let since = now.0.saturating_sub(LOST_LOOKS);
        let open = self.store.link.again("read", |link| open(link, &self.store.machine, since))?;
        let mut any = false;
        for (session, pid, ticks) in open {
            if session != self.account.session && process_start_ticks(pid) != Some(ticks) {
                // Its proxy may outlive it by some seconds, let a call go that it has money for, and say what one came to.
                let over = !Journal::is_written(&self.store.home, &session, Writer::Proxy);
                self.replay(&session, over)?;
                any = true;
            }
        }
        Ok(any | self.charge_elsewhere()?)
    }

    /// Charges whole what processes of other machines have held for too long; whether there was any.
    fn charge_elsewhere(&self) -> Result<bool, StoreError> {
        let text = "UPDATE charges SET state = 'lost' FROM accounts WHERE accounts.session = charges.session \
                    AND state = 'held' AND machine <> $1 AND at < $2";
        let now = jiff::Timestamp::now().as_microsecond();
        let before = now.saturating_sub(ELSEWHERE_MAX);
        let machine = &self.store.machine;
        let changed = self.store.link.again("hold money in", |link| link.execute(text, &[machine, &before]))?;
        Ok(changed > 0)
    }

    /// Settles what a session left open by what its journal tells; what that leaves open, only where it is `over`.
    fn replay(&self, session: &SessionId, over: bool) -> Result<(), StoreError> {
        let Postgres { link, home, machine, .. } = &self.store;
        fold::fold(link, home, machine, session)?;
        link.transaction("hold money in", |link| settle_by_journal(link, session, over))
    }
}

impl PostgresHolds {
    fn place_one(&mut self, policies: &[SpendPolicy], claim: &Claim) -> Result<Placed, StoreError> {
        let (admission, budgets) = self.try_to_place(policies, claim)?;
        if matches!(admission, Admission::Wait(_) | Admission::Refuse(_)) && self.sweep(claim.moment.at)? {
            return self.try_to_place(policies, claim);
        }
        Ok((admission, budgets))
    }
}

impl HoldBook for PostgresHolds {
    /// Each call is a transaction of its own, since a server may be asked again for what it has done.
    fn place(&mut self, policies: &[SpendPolicy], claims: &[Claim]) -> Result<Vec<Placed>, StoreError> {
        claims.iter().map(|claim| self.place_one(policies, claim)).collect()
    }

    fn settle(&mut self, calls: &[(RequestNumber, NanoUsd)]) -> Result<(), StoreError> {
        let session = &self.account.session;
        let settle_one = |(request, cost): &(RequestNumber, NanoUsd)| {
            self.store.link.again("hold money in", |link| settle(link, session, *request, *cost))
        };
        calls.iter().try_for_each(settle_one)
    }

    fn budgets(&mut self, policies: &[SpendPolicy], moment: Moment) -> Result<Vec<Budget>, StoreError> {
        let budgets = |link: &Link| policies.iter().map(|policy| budget(link, &self.account, policy, moment)).collect();
        self.store.link.again("read", budgets)
    }

    /// Where a connection is lost in the middle of the commit, it may be that nobody tells: it is told at most once.
    fn reached(&mut self, policy: &SpendPolicy, percent: u32, moment: Moment) -> Result<bool, StoreError> {
        let (budget, since) = place_of(&self.account, policy, moment);
        let (budget, percent) = (plain(&budget), i64::from(percent));
        let text = "INSERT INTO alerts (budget, since, percent) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
        let noted = |link: &Link| link.execute(text, &[&budget, &since, &percent]);
        Ok(self.store.link.again("hold money in", noted)? > 0)
    }

    fn close(self: Box<Self>) -> Result<(), StoreError> {
        self.replay(&self.account.session, true)
    }
}

/// The sums that an account counts in, in an order that all keep, each with whether one of the policies decides by it.
fn locks_of(account: &Account, policies: &[SpendPolicy]) -> Vec<(Lock, bool)> {
    let decides = |scope| {
        policies.iter().any(|policy| policy.scope == scope && !matches!(policy.window, Window::Session | Window::Turn))
    };
    let mut locks: Vec<_> = SHARED
        .into_iter()
        .filter_map(|scope| {
            let (name, value) = match scope {
                Scope::Organisation => ("organisation", Some("")),
                Scope::Team => ("team", account.team.as_deref()),
                Scope::Project => ("project", account.project.as_deref()),
                Scope::User => ("user", Some(account.user.as_str())),
                Scope::Agent => ("agent", Some(account.agent.as_str())),
                Scope::Session => return None,
            };
            Some((Lock::named(&[name, value?]), decides(scope)))
        })
        .collect();
    locks.sort_by_key(|(lock, _)| *lock);
    locks
}

/// The sessions of one machine with money held, or charged lately without a known end, each with its process.
fn open(link: &Link, machine: &str, lost_since: i64) -> Result<Vec<(SessionId, u32, u64)>, Fault> {
    let text = "SELECT DISTINCT session, pid, pid_started_ticks FROM charges JOIN accounts USING (session) \
                WHERE state <> 'settled' AND (state = 'held' OR at >= $1) AND machine = $2";
    let mut found = Vec::new();
    for row in link.query(text, &[&lost_since, &machine])? {
        let pid = u32::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default();
        found.push((summary_row::id(row.try_get(0)?)?, pid, row.try_get::<_, i64>(2)?.cast_unsigned()));
    }
    Ok(found)
}

fn settle(link: &Link, session: &SessionId, request: RequestNumber, cost: NanoUsd) -> Result<(), Fault> {
    let text = "UPDATE charges SET nano = $3, state = 'settled' \
                WHERE session = $1 AND request = $2 AND state <> 'settled'";
    link.execute(text, &[&session.as_str(), &signed(request.0), &cost.0]).map(drop)
}

fn settle_by_journal(link: &Link, session: &SessionId, over: bool) -> Result<(), Fault> {
    let text = "SELECT request FROM charges WHERE session = $1 AND state <> 'settled'";
    let open = link.query(text, &[&session.as_str()])?;
    // As nearly always: then nobody need read what the session did.
    if open.is_empty() {
        return Ok(());
    }
    let search = Search { session: Some(session.clone()), ..Search::default() };
    let told = Told::of(&query::search(link, None, &search, Turn::After(0), u32::MAX)?);
    let text = "SELECT count(*) FROM journals WHERE session = $1 AND fault IS NOT NULL";
    let whole = link.query_one(text, &[&session.as_str()])?.try_get::<_, i64>(0)? == 0;
    for row in open {
        let request = RequestNumber(row.try_get::<_, i64>(0)?.cast_unsigned());
        match told.get(&request).copied().unwrap_or_default().outcome(whole, over) {
            Outcome::Settled(cost) => settle(link, session, request, cost)?,
            Outcome::Open => {}
            Outcome::Lost => {
                let text = "UPDATE charges SET state = 'lost' WHERE session = $1 AND request = $2";
                link.execute(text, &[&session.as_str(), &signed(request.0)])?;
            }
        }
    }
    Ok(())
}

/// What one policy's budget stands at.
fn budget(link: &Link, account: &Account, policy: &SpendPolicy, moment: Moment) -> Result<Budget, Fault> {
    let from = policy.window.start(moment.at, &policy.zone);
    let first = if policy.window == Window::Turn { signed(moment.turn.0) } else { 0 };
    let own = policy.scope == Scope::Session || matches!(policy.window, Window::Session | Window::Turn);
    // The conditions name columns of `accounts`, and of `sessions` for those that no policy counted.
    let (governed, others, value) = match policy.scope {
        _ if own => ("session = $1", None, Some(account.session.to_string())),
        Scope::Session | Scope::Organisation => ("$1::text IS NULL", Some("$1::text IS NULL"), None),
        Scope::Agent => ("agent = $1", Some("profile = $1"), Some(account.agent.clone())),
        Scope::User => ("user_name = $1", Some("user_name = $1"), Some(account.user.clone())),
        Scope::Team => ("team = $1", Some("team = $1"), account.team.clone()),
        Scope::Project => ("project = $1", Some("project = $1"), account.project.clone()),
    };
    let text = format!(
        "SELECT least(coalesce(sum(nano) FILTER (WHERE state <> 'held'), 0), {MOST})::bigint, \
         least(coalesce(sum(nano) FILTER (WHERE state = 'held'), 0), {MOST})::bigint \
         FROM accounts JOIN charges USING (session) WHERE {governed} AND request >= $3 AND (state = 'held' OR at >= $2)"
    );
    let row = link.query_one(&text, &[&value, &from.0, &first])?;
    let (spent, held) = (NanoUsd(row.try_get(0)?), NanoUsd(row.try_get(1)?));
    let spent = spent.plus(match others {
        Some(condition) => ungoverned(link, condition, value.as_deref(), from)?,
        None => NanoUsd::ZERO,
    });
    let expected = if policy.soft_limit.is_some() { expected(link, &account.session)? } else { NanoUsd::ZERO };
    Ok(Budget { hard: policy.hard_limit, soft: policy.soft_limit, spent, held, expected })
}

/// A sum that is larger stops here.
const MOST: i64 = i64::MAX;

/// What sessions spent that no policy counted as they ran; it is known once they are folded.
fn ungoverned(link: &Link, condition: &str, value: Option<&str>, from: Timestamp) -> Result<NanoUsd, Fault> {
    let text = format!(
        "SELECT least(coalesce(sum(calls.cost_nano), 0), {MOST})::bigint FROM calls JOIN sessions USING (session) \
         WHERE {condition} AND calls.at >= $2 \
         AND NOT EXISTS (SELECT 1 FROM accounts WHERE accounts.session = sessions.session)"
    );
    Ok(NanoUsd(link.query_one(&text, &[&value, &from.0])?.try_get(0)?))
}

/// What the session's next call will probably cost.
fn expected(link: &Link, session: &SessionId) -> Result<NanoUsd, Fault> {
    let text = "SELECT least(coalesce(sum(nano), 0)::numeric / greatest(count(*), 1), 9223372036854775807)::bigint \
                FROM (SELECT nano FROM charges WHERE session = $1 AND state = 'settled' ORDER BY request DESC LIMIT $2) \
                AS last";
    Ok(NanoUsd(link.query_one(text, &[&session.as_str(), &EXPECTED_BY])?.try_get(0)?))
}
