//! Spreading requests over connections, so that an answer that streams for long never keeps another from beginning.
//!
//! HTTP/2 puts all requests to a host on one connection, and each server bounds how many it takes at a time. What comes
//! beyond that would wait, unseen, for one of the others to end, and a model's answer may stream for many minutes. So
//! each host has as many lanes as its load asks for, and every lane has a connection of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Requests at the same time on one connection to an upstream that takes them, even if it takes more.
pub(super) const STREAMS_MAX: usize = 64;
/// Connections over which the requests to one host are spread. Beyond them, they share.
pub(super) const LANES_MAX: usize = 64;
/// How many idle hosts are remembered.
const HOSTS_MAX: usize = 4096;
/// How long others wait for the first connection to a host to say how many requests it takes.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// Every host's load.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<String, Load>>);

#[derive(Default)]
struct Load {
    /// Requests at the same time on one connection; none until a connection has told.
    limit: Option<usize>,
    /// Requests that are under way, by lane.
    open: Vec<usize>,
    told: Arc<Notify>,
}

/// A request's place on a lane, for as long as it is under way.
pub(super) struct Slot {
    lanes: Arc<Lanes>,
    host: String,
    lane: usize,
}

impl Lanes {
    /// A place for a request to a host. While the first connection to it is being made, others wait for what it says.
    pub(super) async fn take(self: &Arc<Self>, host: &str) -> Slot {
        let waiting = async {
            loop {
                let told = {
                    let mut hosts = self.lock();
                    let load = hosts.entry(host.to_owned()).or_default();
                    if load.limit.is_some() || load.open.iter().all(|open| *open == 0) {
                        return;
                    }
                    load.told.clone().notified_owned()
                };
                told.await;
            }
        };
        let _ = tokio::time::timeout(FIRST_TIMEOUT, waiting).await;
        let mut hosts = self.lock();
        if hosts.len() > HOSTS_MAX {
            hosts.retain(|name, load| name == host || load.open.iter().any(|open| *open > 0));
        }
        let lane = hosts.entry(host.to_owned()).or_default().enter();
        Slot { lanes: self.clone(), host: host.to_owned(), lane }
    }

    /// A connection to the host says how many requests it takes; none says that each has a connection of its own.
    pub(super) fn tell(&self, host: &str, limit: Option<usize>) {
        let mut hosts = self.lock();
        let load = hosts.entry(host.to_owned()).or_default();
        load.limit = Some(limit.map_or(usize::MAX, |limit| limit.clamp(1, STREAMS_MAX)));
        load.told.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Load>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// The first lane with room, a new one if there is none, the emptiest if there are too many.
    fn enter(&mut self) -> usize {
        let limit = self.limit.unwrap_or(STREAMS_MAX);
        let emptiest = || self.open.iter().enumerate().min_by_key(|(_, open)| **open).map_or(0, |(lane, _)| lane);
        let free = self.open.iter().position(|open| *open < limit);
        let lane = free.unwrap_or_else(|| if self.open.len() < LANES_MAX { self.open.len() } else { emptiest() });
        if lane == self.open.len() {
            self.open.push(0);
        }
        self.open[lane] += 1;
        lane
    }
}

impl Slot {
    /// Which of the host's lanes.
    pub(super) fn lane(&self) -> usize {
        self.lane
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut hosts = self.lanes.lock();
        let Some(load) = hosts.get_mut(&self.host) else { return };
        if let Some(open) = load.open.get_mut(self.lane) {
            *open = open.saturating_sub(1);
        }
        // Who waits for a connection that was never made goes first now.
        if load.limit.is_none() {
            load.told.notify_waiters();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_takes_what_its_connection_takes_and_then_another_begins() {
        let lanes = Arc::new(Lanes::default());
        lanes.tell("a", Some(2));
        let mut slots = Vec::new();
        for expected in [0, 0, 1, 1, 2] {
            slots.push(lanes.take("a").await);
            assert_eq!(slots.last().unwrap().lane(), expected);
        }
        slots.remove(0);
        assert_eq!(lanes.take("a").await.lane(), 0);
        assert_eq!(lanes.take("b").await.lane(), 0);
    }

    #[tokio::test]
    async fn no_connection_takes_more_than_the_limit_and_lanes_end_at_theirs() {
        let lanes = Arc::new(Lanes::default());
        lanes.tell("many", Some(usize::MAX));
        lanes.tell("none", Some(0));
        let (mut many, mut none) = (Vec::new(), Vec::new());
        for index in 0..=STREAMS_MAX {
            many.push(lanes.take("many").await);
            assert_eq!(many[index].lane(), usize::from(index == STREAMS_MAX));
        }
        for index in 0..=LANES_MAX {
            none.push(lanes.take("none").await);
            assert_eq!(none[index].lane(), index % LANES_MAX);
        }
        assert_eq!(none.len(), LANES_MAX + 1);
    }

    #[tokio::test]
    async fn connections_of_one_request_each_need_no_lanes() {
        let lanes = Arc::new(Lanes::default());
        lanes.tell("a", None);
        let mut slots = Vec::new();
        for _ in 0..1000 {
            slots.push(lanes.take("a").await);
        }
        assert!(slots.iter().all(|slot| slot.lane() == 0));
    }

    #[tokio::test]
    async fn others_wait_for_the_first_and_go_when_it_tells_or_fails_or_takes_long() {
        let lanes = Arc::new(Lanes::default());
        let first = lanes.take("a").await;
        let second = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.take("a").await.lane() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        lanes.tell("a", Some(1));
        assert_eq!(second.await.unwrap(), 1);
        drop(first);
        let failing = lanes.take("b").await;
        let next = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.take("b").await.lane() }
        });
        tokio::task::yield_now().await;
        drop(failing);
        assert_eq!(next.await.unwrap(), 0);
        let (_slow, started) = (lanes.take("c").await, std::time::Instant::now());
        assert_eq!(lanes.take("c").await.lane(), 0);
        assert!(started.elapsed() >= FIRST_TIMEOUT);
    }

    #[tokio::test]
    async fn idle_hosts_are_forgotten_in_the_end() {
        let lanes = Arc::new(Lanes::default());
        let kept = lanes.take("kept").await;
        for index in 0..=HOSTS_MAX {
            drop(lanes.take(&format!("h{index}")).await);
        }
        assert!(lanes.lock().len() <= 3 && lanes.lock().contains_key("kept"));
        drop(kept);
    }
}
