//! Spreading requests over connections, so that an answer that streams for long never keeps another from beginning.
//!
//! HTTP/2 puts all requests to a host on one connection, and each server bounds how many it takes at a time. What comes
//! beyond that would wait, unseen, for one of the others to end, and a model's answer may stream for many minutes. So
//! each host has as many lanes as its load asks for, and every lane has a connection of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// Requests at the same time on one connection to an upstream that takes them, even if it takes more.
pub(super) const STREAMS_MAX: usize = 64;
/// Connections over which the requests to one host are spread. Beyond them, they share.
pub(super) const LANES_MAX: usize = 64;
/// How many idle hosts are remembered.
const HOSTS_MAX: usize = 4096;
/// How long others wait for a connection that is being made before they make their own.
const OPENING_TIMEOUT: Duration = Duration::from_secs(1);

/// Every host's load.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<Arc<str>, Load>>);

#[derive(Default)]
struct Load {
    /// Requests at the same time on one connection; none until a connection has told.
    limit: Option<usize>,
    lanes: Vec<Lane>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Lane {
    /// Requests that are under way or wait for the lane's connection.
    open: usize,
    /// Connections that have told what they take.
    connections: usize,
    /// Whether a request is making the lane's connection.
    opening: bool,
}

/// A request's place on a lane, for as long as it is under way.
pub(super) struct Slot {
    lanes: Arc<Lanes>,
    host: Arc<str>,
    lane: usize,
    opens: bool,
}

/// A connection that takes more than one request at a time, for as long as it lasts.
pub(super) struct Told {
    lanes: Arc<Lanes>,
    host: Arc<str>,
    lane: usize,
}

impl Lanes {
    /// A place for a request to a host. The first on a lane makes its connection, and the others wait for that.
    pub(super) async fn take(self: &Arc<Self>, host: &str) -> Slot {
        loop {
            let (mut slot, settled) = self.enter(host);
            if settled {
                return slot;
            }
            let waiting = async {
                while let Some(changed) = slot.wait() {
                    changed.await;
                }
            };
            let waited = tokio::time::timeout(OPENING_TIMEOUT, waiting).await.is_ok();
            if !waited || slot.fits() {
                return slot;
            }
        }
    }

    /// A connection on a lane says how many requests it takes.
    pub(super) fn tell(self: &Arc<Self>, host: &Arc<str>, lane: usize, limit: usize) -> Told {
        let mut hosts = self.lock();
        let load = hosts.entry(host.clone()).or_default();
        load.limit = Some(limit.clamp(1, STREAMS_MAX));
        load.lane(lane).connections += 1;
        load.changed.notify_waiters();
        Told { lanes: self.clone(), host: host.clone(), lane }
    }

    /// A connection to the host takes one request at a time, so that each has one of its own.
    pub(super) fn tell_single(&self, host: &Arc<str>) {
        let mut hosts = self.lock();
        let load = hosts.entry(host.clone()).or_default();
        load.limit = Some(usize::MAX);
        load.changed.notify_waiters();
    }

    /// A place for a request, and whether there is nothing to wait for.
    fn enter(self: &Arc<Self>, name: &str) -> (Slot, bool) {
        let mut hosts = self.lock();
        if hosts.len() > HOSTS_MAX {
            hosts.retain(|_, load| load.lanes.iter().any(|lane| lane.open > 0 || lane.connections > 0));
        }
        let host = hosts.get_key_value(name).map_or_else(|| Arc::from(name), |(host, _)| host.clone());
        let load = hosts.entry(host.clone()).or_default();
        let lane = load.enter();
        let settled = load.is_single() || load.limit.is_some_and(|limit| load.lanes[lane].is_open_to(limit));
        (Slot { lanes: self.clone(), host, lane, opens: false }, settled)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Load>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Whether each request has a connection of its own.
    fn is_single(&self) -> bool {
        self.limit == Some(usize::MAX)
    }

    /// The first lane with room, a new one if there is none, the emptiest if there are too many.
    fn enter(&mut self) -> usize {
        let limit = self.limit.unwrap_or(STREAMS_MAX);
        let emptiest = || self.lanes.iter().enumerate().min_by_key(|(_, lane)| lane.open).map_or(0, |(index, _)| index);
        let free = self.lanes.iter().position(|lane| lane.open < limit);
        let index = free.unwrap_or_else(|| if self.lanes.len() < LANES_MAX { self.lanes.len() } else { emptiest() });
        self.lane(index).open += 1;
        index
    }

    fn lane(&mut self, index: usize) -> &mut Lane {
        if self.lanes.len() <= index {
            self.lanes.resize_with(index + 1, Lane::default);
        }
        &mut self.lanes[index]
    }
}

impl Lane {
    /// Whether it has a connection that takes all that are on it.
    fn is_open_to(&self, limit: usize) -> bool {
        self.connections > 0 && self.open <= limit
    }
}

impl Slot {
    /// The host, as lanes name it.
    pub(super) fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// Which of the host's lanes.
    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    /// What to wait for before the request may go, if for anything. Who need not wait for a connection makes it.
    fn wait(&mut self) -> Option<OwnedNotified> {
        let mut hosts = self.lanes.lock();
        let load = hosts.entry(self.host.clone()).or_default();
        let single = load.is_single();
        let lane = load.lane(self.lane);
        if single || lane.connections > 0 {
            return None;
        }
        if !lane.opening {
            (lane.opening, self.opens) = (true, true);
            return None;
        }
        Some(load.changed.clone().notified_owned())
    }

    /// Whether the lane has room for this and all others on it, now that it is known how many it takes, or no other
    /// lane has room either.
    fn fits(&self) -> bool {
        let mut hosts = self.lanes.lock();
        let load = hosts.entry(self.host.clone()).or_default();
        let limit = load.limit.unwrap_or(STREAMS_MAX);
        let elsewhere = load.lanes.len() < LANES_MAX || load.lanes.iter().any(|lane| lane.open < limit);
        self.opens || !elsewhere || load.lane(self.lane).open <= limit
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut hosts = self.lanes.lock();
        let Some(load) = hosts.get_mut(&self.host) else { return };
        let lane = load.lane(self.lane);
        lane.open = lane.open.saturating_sub(1);
        if self.opens {
            // Whether its connection was made or not, nobody else need wait for it.
            lane.opening = false;
            load.changed.notify_waiters();
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let mut hosts = self.lanes.lock();
        if let Some(load) = hosts.get_mut(&self.host) {
            let lane = load.lane(self.lane);
            lane.connections = lane.connections.saturating_sub(1);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn take(lanes: &Arc<Lanes>, host: &str, count: usize) -> Vec<Slot> {
        let mut slots = Vec::new();
        for _ in 0..count {
            slots.push(lanes.take(host).await);
        }
        slots
    }

    fn told(lanes: &Arc<Lanes>, host: &str, limit: usize) -> Vec<Told> {
        (0..LANES_MAX).map(|lane| lanes.tell(&Arc::from(host), lane, limit)).collect()
    }

    #[tokio::test]
    async fn a_lane_takes_what_its_connection_takes_and_then_another_begins() {
        let lanes = Arc::new(Lanes::default());
        let _told = told(&lanes, "a", 2);
        let mut slots = take(&lanes, "a", 5).await;
        assert_eq!(slots.iter().map(Slot::lane).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
        slots.remove(0);
        assert_eq!(lanes.take("a").await.lane(), 0);
        assert_eq!(lanes.take("b").await.lane(), 0);
    }

    #[tokio::test]
    async fn no_connection_takes_more_than_the_limit_and_lanes_end_at_theirs() {
        let lanes = Arc::new(Lanes::default());
        let _told = (told(&lanes, "many", usize::MAX), told(&lanes, "none", 0));
        for (index, slot) in take(&lanes, "many", STREAMS_MAX + 1).await.iter().enumerate() {
            assert_eq!(slot.lane(), usize::from(index == STREAMS_MAX));
        }
        for (index, slot) in take(&lanes, "none", LANES_MAX + 1).await.iter().enumerate() {
            assert_eq!(slot.lane(), index % LANES_MAX);
        }
    }

    #[tokio::test]
    async fn connections_of_one_request_each_need_no_lanes() {
        let lanes = Arc::new(Lanes::default());
        lanes.tell_single(&Arc::from("a"));
        assert!(take(&lanes, "a", 1000).await.iter().all(|slot| slot.lane() == 0));
    }

    fn later(lanes: &Arc<Lanes>, host: &'static str) -> tokio::task::JoinHandle<Slot> {
        let lanes = lanes.clone();
        tokio::spawn(async move { lanes.take(host).await })
    }

    #[tokio::test]
    async fn one_makes_the_connection_and_the_others_go_where_there_is_room() {
        let lanes = Arc::new(Lanes::default());
        let first = lanes.take("a").await;
        let others: Vec<_> = (0..5).map(|_| later(&lanes, "a")).collect();
        tokio::task::yield_now().await;
        assert!(others.iter().all(|other| !other.is_finished()));
        let started = std::time::Instant::now();
        let _told = told(&lanes, "a", 2);
        let mut places = vec![first.lane()];
        let mut slots = Vec::new();
        for other in others {
            slots.push(other.await.unwrap());
            places.push(slots.last().unwrap().lane());
        }
        places.sort_unstable();
        assert_eq!(places, [0, 0, 1, 1, 2, 2]);
        assert!(started.elapsed() < OPENING_TIMEOUT);
    }

    #[tokio::test]
    async fn when_the_first_fails_the_next_tries_and_nobody_waits_for_long() {
        let lanes = Arc::new(Lanes::default());
        let failing = lanes.take("b").await;
        let (next, last) = (later(&lanes, "b"), later(&lanes, "b"));
        tokio::task::yield_now().await;
        drop(failing);
        let next = next.await.unwrap();
        assert!(next.opens && !last.is_finished());
        let started = std::time::Instant::now();
        assert!(!last.await.unwrap().opens);
        assert!(started.elapsed() >= OPENING_TIMEOUT / 2);
    }

    #[tokio::test]
    async fn a_connection_that_ends_is_made_anew_by_one() {
        let lanes = Arc::new(Lanes::default());
        let told = lanes.tell(&Arc::from("a"), 0, 8);
        assert!(!lanes.take("a").await.opens);
        drop(told);
        let first = lanes.take("a").await;
        assert!(first.opens);
        let other = later(&lanes, "a");
        tokio::task::yield_now().await;
        assert!(!other.is_finished());
        let _told = lanes.tell(&Arc::from("a"), 0, 8);
        assert!(!other.await.unwrap().opens);
    }

    #[tokio::test]
    async fn idle_hosts_are_forgotten_in_the_end() {
        let lanes = Arc::new(Lanes::default());
        let kept = (lanes.take("kept").await, lanes.tell(&Arc::from("connected"), 0, 1));
        for index in 0..=HOSTS_MAX {
            drop(lanes.take(&format!("h{index}")).await);
        }
        let hosts = lanes.lock();
        assert!(hosts.len() <= 5 && hosts.contains_key("kept") && hosts.contains_key("connected"));
        drop(hosts);
        drop(kept);
    }
}
