//! What the rules that cap something have let through by now: the state beside a policy, which is not changed by it.

use super::quota::Rate;
use super::verdict::Grant;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How much has gone through, by rule. Rules that are written the same share one account, whoever they come from.
#[derive(Debug, Default)]
pub struct Tally {
    accounts: HashMap<Arc<str>, Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// When requests were admitted, of those that its rate still counts.
    admitted: VecDeque<Duration>,
    upload: Arc<AtomicU64>,
    download: Arc<AtomicU64>,
}

/// One of the two ways that bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a request.
    Up,
    /// In an answer.
    Down,
}

/// A request that a rule's rate has no room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMany {
    /// The rule.
    pub rule: String,
    /// When there is room again.
    pub retry_after: Duration,
}

/// More bytes than a rule lets through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule `{rule}` lets {bytes_max} bytes through {}, and this is more", .way.of(*.session))]
pub struct TooMuch {
    /// The rule.
    pub rule: String,
    /// What it lets through.
    pub bytes_max: u64,
    /// Whether that is for the whole session.
    pub session: bool,
    /// Which way.
    pub way: Way,
}

impl Way {
    fn of(self, session: bool) -> &'static str {
        match (self, session) {
            (Self::Up, false) => "as a request's body",
            (Self::Down, false) => "as an answer's body",
            (Self::Up, true) => "in all requests of the session",
            (Self::Down, true) => "in all answers of the session",
        }
    }
}

/// What one request and its answer may carry.
#[derive(Debug, Default)]
pub struct Allowance(Vec<Room>);

#[derive(Debug)]
struct Room {
    rule: Arc<str>,
    way: Way,
    session: bool,
    bytes_max: u64,
    used: Arc<AtomicU64>,
}

impl Allowance {
    /// Counts bytes that are about to pass.
    ///
    /// # Errors
    /// The first cap that they break. They are counted all the same, so that what follows is refused too.
    pub fn take(&self, way: Way, bytes: u64) -> Result<(), TooMuch> {
        self.check(way, |room| room.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes))
    }

    /// Whether so many bytes could pass, without counting them.
    ///
    /// # Errors
    /// The first cap that they would break.
    pub fn expect(&self, way: Way, bytes: u64) -> Result<(), TooMuch> {
        self.check(way, |room| room.used.load(Ordering::Relaxed).saturating_add(bytes))
    }

    fn check(&self, way: Way, total: impl Fn(&Room) -> u64) -> Result<(), TooMuch> {
        let mut broken = None;
        for room in self.0.iter().filter(|room| room.way == way) {
            if total(room) > room.bytes_max && broken.is_none() {
                let (rule, bytes_max, session) = (room.rule.to_string(), room.bytes_max, room.session);
                broken = Some(TooMuch { rule, bytes_max, session, way });
            }
        }
        broken.map_or(Ok(()), Err)
    }
}

impl Tally {
    /// Counts a request that was granted, `now` on the session's own clock.
    ///
    /// # Errors
    /// The rate that has no room for it; then it is counted nowhere.
    pub fn admit(&mut self, grant: &Grant, now: Duration) -> Result<Allowance, TooMany> {
        for (rule, quota) in grant.quota() {
            let Some(rate) = quota.rate else { continue };
            let account = self.accounts.entry(rule.clone()).or_default();
            if let Some(retry_after) = account.wait(rate, now) {
                return Err(TooMany { rule: rule.to_string(), retry_after });
            }
        }
        let mut rooms = Vec::new();
        for (rule, quota) in grant.quota() {
            let account = self.accounts.entry(rule.clone()).or_default();
            if quota.rate.is_some() {
                account.admitted.push_back(now);
            }
            let (up, down) = (account.upload.clone(), account.download.clone());
            let all = [
                (Way::Up, false, quota.upload, Arc::default()),
                (Way::Down, false, quota.download, Arc::default()),
                (Way::Up, true, quota.session_upload, up),
                (Way::Down, true, quota.session_download, down),
            ];
            rooms.extend(all.into_iter().filter_map(|(way, session, bytes_max, used)| {
                bytes_max.map(|bytes_max| Room { rule: rule.clone(), way, session, bytes_max, used })
            }));
        }
        Ok(Allowance(rooms))
    }
}

impl Account {
    /// How long until there is room for one more.
    fn wait(&mut self, rate: Rate, now: Duration) -> Option<Duration> {
        while self.admitted.front().is_some_and(|then| now.saturating_sub(*then) >= rate.per) {
            self.admitted.pop_front();
        }
        let full = self.admitted.len() >= usize::try_from(rate.count).unwrap_or(usize::MAX);
        full.then(|| self.admitted.front().map_or(rate.per, |then| rate.per.saturating_sub(now.saturating_sub(*then))))
    }
}
