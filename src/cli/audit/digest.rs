//! What happened in a period, as a fold over its events: what a person asks first.

use crate::model::{Event, Isolation, NanoUsd, SessionId, Tier, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most places, hosts and sessions that a report names of each kind; the greatest come first.
const NAMED_MAX: usize = 20;
/// Most names of each kind that are counted one by one; of more, the rest is one name.
const COUNTED_MAX: usize = 100_000;
/// How many times as much as before is told of, and how much it must be at least.
const UNUSUAL_TIMES: u64 = 3;
const UNUSUAL_MIN: u64 = 10;
/// What stands for what was not counted by itself.
const REST: &str = "(others)";

/// What is counted of one period.
#[derive(Debug, Default)]
pub(super) struct Digest {
    sessions: BTreeSet<SessionId>,
    counts: Counts,
    refusals: BTreeMap<(String, String), u64>,
    hosts: BTreeMap<String, u64>,
    secrets: BTreeMap<String, u64>,
    spend: BTreeMap<(String, String), (NanoUsd, u64)>,
    teams: BTreeMap<String, (NanoUsd, u64)>,
    weak: BTreeMap<SessionId, Vec<String>>,
    asked: BTreeMap<(SessionId, u64), Timestamp>,
    answers: BTreeMap<String, Vec<i64>>,
}

/// The numbers that two periods are compared by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub sessions: u64,
    pub requests_allowed: u64,
    pub requests_denied: u64,
    pub requests_failed: u64,
    pub connections_refused: u64,
    pub files_refused: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub model_calls: u64,
    pub limits_reached: u64,
    pub questions: u64,
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, rest: impl FnOnce() -> K) {
    let key = if counts.len() < COUNTED_MAX || counts.contains_key(&key) { key } else { rest() };
    *counts.entry(key).or_default() += 1;
}

fn spend<K: Ord>(sums: &mut BTreeMap<K, (NanoUsd, u64)>, key: K, cost: NanoUsd, rest: impl FnOnce() -> K) {
    let key = if sums.len() < COUNTED_MAX || sums.contains_key(&key) { key } else { rest() };
    let (spent, calls) = sums.entry(key).or_default();
    (*spent, *calls) = (spent.plus(cost), *calls + 1);
}

impl Digest {
    /// Takes an event in. `whose` is the session's user and team.
    pub(super) fn take(&mut self, session: &SessionId, whose: (&str, &str), at: Timestamp, event: &Event) {
        if !session.is_of_installation() && self.sessions.insert(session.clone()) {
            self.counts.sessions += 1;
        }
        let counts = &mut self.counts;
        match event {
            Event::SessionStarted { isolation, .. } => {
                let gaps = weaknesses(isolation);
                if !gaps.is_empty() {
                    self.weak.insert(session.clone(), gaps);
                }
            }
            Event::RequestAllowed { line, secrets, .. } => {
                counts.requests_allowed += 1;
                add(&mut self.hosts, line.host.to_string(), || REST.to_owned());
                for secret in secrets {
                    add(&mut self.secrets, secret.clone(), || REST.to_owned());
                }
            }
            Event::RequestDenied { line, reason, .. } => {
                counts.requests_denied += 1;
                self.refuse(line.host.to_string(), reason);
            }
            Event::ConnectionRefused { target, reason, .. } => {
                counts.connections_refused += 1;
                self.refuse(target.clone(), reason);
            }
            Event::FileRefused { path, rule, .. } => {
                counts.files_refused += 1;
                self.refuse(path.clone(), rule);
            }
            Event::RequestFailed { .. } => counts.requests_failed += 1,
            Event::RequestCompleted { request_bytes, response_bytes, .. } => {
                counts.bytes_sent = counts.bytes_sent.saturating_add(*request_bytes);
                counts.bytes_received = counts.bytes_received.saturating_add(*response_bytes);
            }
            Event::LimitReached(_) => counts.limits_reached += 1,
            Event::UsageMetered { model, cost, .. } => {
                counts.model_calls += 1;
                let (user, team) = whose;
                let rest = || (REST.to_owned(), REST.to_owned());
                spend(&mut self.spend, (user.to_owned(), model.clone()), *cost, rest);
                spend(&mut self.teams, team.to_owned(), *cost, || REST.to_owned());
            }
            Event::ApprovalAsked { question, .. } => {
                counts.questions += 1;
                if self.asked.len() < COUNTED_MAX {
                    self.asked.insert((session.clone(), *question), at);
                }
            }
            Event::ApprovalAnswered { question, answer, .. } => {
                let asked = self.asked.remove(&(session.clone(), *question));
                let waited = asked.map_or(0, |asked| (at.0 - asked.0).max(0) / 1000);
                self.answers.entry(answer.clone()).or_default().push(waited);
            }
            _ => {}
        }
    }

    fn refuse(&mut self, what: String, why: &str) {
        add(&mut self.refusals, (what, why.to_owned()), || (REST.to_owned(), String::new()));
    }

    /// The report of this period, beside the one before it.
    pub(super) fn report(&self, before: &Self, since: Timestamp, until: Timestamp) -> Report {
        let most = |counts: &BTreeMap<String, u64>| named(counts).into_iter().take(NAMED_MAX).collect::<Vec<_>>();
        let fresh = self.hosts.iter().filter(|(host, _)| !before.hosts.contains_key(*host));
        let fresh: BTreeMap<_, _> = fresh.map(|(host, count)| (host.clone(), *count)).collect();
        let mut refusals: Vec<_> = self
            .refusals
            .iter()
            .map(|((what, why), count)| Refusal { what: what.clone(), why: why.clone(), count: *count })
            .collect();
        refusals.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.what.cmp(&other.what)));
        refusals.truncate(NAMED_MAX);
        let spend = dearest(&self.spend).map(|((user, model), (spent, calls))| Spent {
            user: user.clone(),
            model: model.clone(),
            calls: *calls,
            cost_usd: spent.to_decimal(),
            cost: *spent,
        });
        let teams = dearest(&self.teams).map(|(team, (spent, calls))| TeamSpent {
            team: team.clone(),
            calls: *calls,
            cost_usd: spent.to_decimal(),
            cost: *spent,
        });
        Report {
            since: since.to_rfc3339(),
            until: until.to_rfc3339(),
            counts: self.counts,
            before: before.counts,
            unusual: unusual(&self.counts, &before.counts),
            refusals,
            hosts: most(&self.hosts),
            new_hosts: most(&fresh),
            secrets: most(&self.secrets),
            spend: spend.collect(),
            spend_by_team: teams.collect(),
            answers: self.answers.iter().map(|(answer, waited)| Answers::of(answer, waited)).collect(),
            weak: self
                .weak
                .iter()
                .take(NAMED_MAX)
                .map(|(id, gaps)| Weak { session: id.to_string(), gaps: gaps.clone() })
                .collect(),
        }
    }
}

/// What a session was isolated by less than by all.
fn weaknesses(isolation: &Isolation) -> Vec<String> {
    let tier = (isolation.tier != Tier::Full).then(|| format!("tier {}", isolation.tier));
    let landlock = (isolation.landlock_abi == 0).then(|| "no Landlock".to_owned());
    let seccomp = (!isolation.seccomp).then(|| "no filter on system calls".to_owned());
    tier.into_iter().chain(landlock).chain(seccomp).chain(isolation.gaps.iter().cloned()).collect()
}

/// The greatest first.
fn named(counts: &BTreeMap<String, u64>) -> Vec<Named> {
    let mut all: Vec<_> = counts.iter().map(|(name, count)| Named { name: name.clone(), count: *count }).collect();
    all.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.name.cmp(&other.name)));
    all
}

impl Counts {
    /// Each number, with its name.
    pub(super) fn rows(&self) -> [(&'static str, u64); 11] {
        [
            ("sessions", self.sessions),
            ("requests allowed", self.requests_allowed),
            ("requests denied", self.requests_denied),
            ("requests failed", self.requests_failed),
            ("connections refused", self.connections_refused),
            ("files refused", self.files_refused),
            ("bytes sent", self.bytes_sent),
            ("bytes received", self.bytes_received),
            ("model calls", self.model_calls),
            ("limits reached", self.limits_reached),
            ("questions", self.questions),
        ]
    }
}

/// What is several times as much as in the period before.
fn unusual(now: &Counts, before: &Counts) -> Vec<String> {
    // Beside nothing, everything would be.
    if before.sessions == 0 {
        return Vec::new();
    }
    let rows = now.rows().into_iter().zip(before.rows());
    let grown = rows.filter(|((_, now), (_, before))| {
        *now >= UNUSUAL_MIN
            && now.saturating_sub(*before) >= UNUSUAL_MIN
            && *now >= before.saturating_mul(UNUSUAL_TIMES)
    });
    grown.map(|((name, now), (_, before))| format!("{name}: {now}, after {before} in the period before")).collect()
}

/// The greatest sums, the greatest first.
fn dearest<K: Ord>(sums: &BTreeMap<K, (NanoUsd, u64)>) -> impl Iterator<Item = (&K, &(NanoUsd, u64))> {
    let mut sums: Vec<_> = sums.iter().collect();
    sums.sort_by_key(|(_, (spent, _))| std::cmp::Reverse(*spent));
    sums.into_iter().take(NAMED_MAX)
}

/// A report, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub since: String,
    pub until: String,
    pub counts: Counts,
    /// Of the period before, which was as long.
    pub before: Counts,
    pub unusual: Vec<String>,
    pub refusals: Vec<Refusal>,
    pub hosts: Vec<Named>,
    /// Hosts that no request of the period before was let through to.
    pub new_hosts: Vec<Named>,
    pub secrets: Vec<Named>,
    pub spend: Vec<Spent>,
    pub spend_by_team: Vec<TeamSpent>,
    pub answers: Vec<Answers>,
    pub weak: Vec<Weak>,
}

/// A name, and how often it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Named {
    pub name: String,
    pub count: u64,
}

/// What was refused, and why.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    pub what: String,
    pub why: String,
    pub count: u64,
}

/// What one user's calls of one model cost.
#[derive(Debug, Serialize)]
pub(super) struct Spent {
    pub user: String,
    pub model: String,
    pub calls: u64,
    pub cost_usd: String,
    #[serde(skip)]
    pub cost: NanoUsd,
}

/// What one team's calls cost.
#[derive(Debug, Serialize)]
pub(super) struct TeamSpent {
    pub team: String,
    pub calls: u64,
    pub cost_usd: String,
    #[serde(skip)]
    pub cost: NanoUsd,
}

/// What became of questions, and how long they waited.
#[derive(Debug, Serialize)]
pub(super) struct Answers {
    pub answer: String,
    pub count: u64,
    pub median_ms: i64,
    pub longest_ms: i64,
}

/// A session that was isolated by less than by all.
#[derive(Debug, Serialize)]
pub(super) struct Weak {
    pub session: String,
    pub gaps: Vec<String>,
}

impl Answers {
    fn of(answer: &str, waited: &[i64]) -> Self {
        let mut sorted = waited.to_vec();
        sorted.sort_unstable();
        let median_ms = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        let longest_ms = sorted.last().copied().unwrap_or_default();
        Self { answer: answer.to_owned(), count: waited.len() as u64, median_ms, longest_ms }
    }
}
