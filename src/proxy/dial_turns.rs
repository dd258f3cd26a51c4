//! Whose turn it is to make a connection to a host, where many requests want one at once.
//!
//! A handshake takes longer than most answers, so that a connection which is free again often comes before one that is
//! made. Nobody waits for long: a host that answers slowly must not keep its other requests from trying.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How many connections to one host are made at the same time, as long as nobody has waited for his turn too long.
const AT_A_TIME: usize = 8;
/// How long a request waits for a connection that is free again, or for its turn.
const WAIT: Duration = Duration::from_millis(200);

/// Every host's turns. `C` is a connection.
pub(super) struct Turns<C>(Mutex<HashMap<Arc<str>, Host<C>>>);

struct Host<C> {
    /// How many turns are taken.
    taken: usize,
    /// Who waits, longest first.
    waiting: VecDeque<oneshot::Sender<Turn<C>>>,
}

/// What a request waited for.
pub(super) enum Turn<C> {
    /// A connection that is free again.
    Given(C),
    /// It is to make one. The next one's turn comes when this is dropped; none where it waited too long.
    Dial(#[allow(dead_code, reason = "it is held, and not looked at")] Option<Taken<C>>),
}

/// A turn that is taken.
pub(super) struct Taken<C> {
    turns: Arc<Turns<C>>,
    host: Arc<str>,
}

impl<C> Default for Turns<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Turns<C> {
    /// Waits for a turn, or for a connection.
    pub(super) async fn take(self: &Arc<Self>, host: &Arc<str>) -> Turn<C> {
        let waiting = {
            let mut hosts = self.lock();
            let place = hosts.entry(host.clone()).or_insert_with(|| Host { taken: 0, waiting: VecDeque::new() });
            if place.taken < AT_A_TIME {
                place.taken += 1;
                return Turn::Dial(Some(Taken { turns: self.clone(), host: host.clone() }));
            }
            let (sender, receiver) = oneshot::channel();
            // Those who went away leave room for others.
            place.waiting.retain(|waiting| !waiting.is_closed());
            place.waiting.push_back(sender);
            receiver
        };
        match tokio::time::timeout(WAIT, waiting).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) | Err(_) => Turn::Dial(None),
        }
    }

    /// Gives a connection to whoever waits for one; back if nobody does.
    pub(super) fn give(&self, host: &Arc<str>, mut connection: C) -> Option<C> {
        let mut hosts = self.lock();
        let Some(place) = hosts.get_mut(host) else { return Some(connection) };
        while let Some(waiting) = place.waiting.pop_front() {
            match waiting.send(Turn::Given(connection)) {
                Ok(()) => return None,
                Err(Turn::Given(back)) => connection = back,
                Err(Turn::Dial(_)) => return None,
            }
        }
        Some(connection)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Host<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Drop for Taken<C> {
    fn drop(&mut self) {
        let mut hosts = self.turns.lock();
        let Some(place) = hosts.get_mut(&self.host) else { return };
        // Whoever waits takes the turn over. One that has gone since hands it on, once the lock is let go.
        while let Some(waiting) = place.waiting.pop_front() {
            if waiting.is_closed() {
                continue;
            }
            let taken = Self { turns: self.turns.clone(), host: self.host.clone() };
            let unsent = waiting.send(Turn::Dial(Some(taken)));
            drop(hosts);
            drop(unsent);
            return;
        }
        place.taken -= 1;
        if place.taken == 0 {
            hosts.remove(&self.host);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn host() -> Arc<str> {
        Arc::from("https://a.example:443")
    }

    async fn all(turns: &Arc<Turns<u8>>) -> Vec<Turn<u8>> {
        let mut taken = Vec::new();
        for _ in 0..AT_A_TIME {
            taken.push(turns.take(&host()).await);
        }
        taken
    }

    fn later(turns: &Arc<Turns<u8>>) -> tokio::task::JoinHandle<Turn<u8>> {
        let turns = turns.clone();
        tokio::spawn(async move { turns.take(&host()).await })
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_free_goes_to_whoever_waits_longest() {
        let turns = Arc::default();
        let taken = all(&turns).await;
        assert!(taken.iter().all(|turn| matches!(turn, Turn::Dial(Some(_)))));
        assert_eq!(turns.give(&host(), 1), Some(1));
        let (first, second) = (later(&turns), later(&turns));
        tokio::task::yield_now().await;
        assert_eq!((turns.give(&host(), 2), turns.give(&host(), 3), turns.give(&host(), 4)), (None, None, Some(4)));
        assert!(matches!((first.await.unwrap(), second.await.unwrap()), (Turn::Given(2), Turn::Given(3))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_over_is_the_next_ones_and_who_went_away_has_none() {
        let turns = Arc::default();
        let mut taken = all(&turns).await;
        let (gone, next) = (later(&turns), later(&turns));
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.is_err());
        taken.pop();
        let next = next.await.unwrap();
        assert!(matches!(next, Turn::Dial(Some(_))));
        drop((taken, next));
        assert!(turns.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long() {
        let turns = Arc::default();
        let _taken = all(&turns).await;
        let started = tokio::time::Instant::now();
        assert!(matches!(turns.take(&host()).await, Turn::Dial(None)));
        assert!(started.elapsed() >= WAIT);
    }
}
