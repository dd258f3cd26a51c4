//! Who may start next: users take turns, whatever each of them has waiting. It knows no process and no socket.

use std::collections::{BTreeMap, VecDeque};

/// How many sessions there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seats {
    /// At a time, of all users.
    pub all: usize,
    /// At a time, of one user.
    pub each: usize,
    /// Waiting, of one user.
    pub waiting: usize,
}

/// Sessions that run and visits that wait for one to end, by user.
#[derive(Debug)]
pub(super) struct Queue<T> {
    seats: Seats,
    running: BTreeMap<u32, usize>,
    waiting: BTreeMap<u32, VecDeque<T>>,
    /// Who was let in last.
    last: Option<u32>,
}

impl<T: PartialEq> Queue<T> {
    pub(super) fn new(seats: Seats) -> Self {
        Self { seats, running: BTreeMap::new(), waiting: BTreeMap::new(), last: None }
    }

    /// Counts a session that runs already.
    pub(super) fn adopt(&mut self, user: u32) {
        *self.running.entry(user).or_default() += 1;
    }

    /// Puts a visit at the end of its user's line; false when that is too long.
    pub(super) fn arrive(&mut self, user: u32, visit: T) -> bool {
        let line = self.waiting.entry(user).or_default();
        let room = line.len() < self.seats.waiting;
        if room {
            line.push_back(visit);
        }
        room
    }

    /// Forgets a visit that waits no longer.
    pub(super) fn forget(&mut self, user: u32, visit: &T) {
        if let Some(line) = self.waiting.get_mut(&user) {
            line.retain(|waiting| waiting != visit);
        }
    }

    /// Counts the end of a session.
    pub(super) fn leave(&mut self, user: u32) {
        if let Some(count) = self.running.get_mut(&user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.running.remove(&user);
            }
        }
    }

    /// Lets the next in: of the users who have somebody waiting and room for them, the one after who was let in last.
    pub(super) fn next(&mut self) -> Option<T> {
        self.waiting.retain(|_, line| !line.is_empty());
        let all: usize = self.running.values().sum();
        if all >= self.seats.all {
            return None;
        }
        let has_room = |user: &&u32| self.running_of(**user) < self.seats.each;
        let after = self.last.map_or(0, |last| last.saturating_add(1));
        let later = self.waiting.range(after..).map(|(user, _)| user).find(has_room);
        let user = *later.or_else(|| self.waiting.keys().find(has_room))?;
        let visit = self.waiting.get_mut(&user)?.pop_front()?;
        self.last = Some(user);
        self.adopt(user);
        Some(visit)
    }

    /// How many sessions of a user run.
    pub(super) fn running_of(&self, user: u32) -> usize {
        self.running.get(&user).copied().unwrap_or(0)
    }

    /// The bounds.
    pub(super) fn seats(&self) -> Seats {
        self.seats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(all: usize, each: usize) -> Queue<(u32, u32)> {
        Queue::new(Seats { all, each, waiting: 40 })
    }

    fn everybody(queue: &mut Queue<(u32, u32)>) -> Vec<(u32, u32)> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn forty_of_one_user_do_not_delay_the_first_of_another() {
        let mut queue = queue(8, 4);
        assert!((0..40).all(|number| queue.arrive(1, (1, number))));
        assert!(!queue.arrive(1, (1, 40)), "a line has an end");
        assert_eq!(everybody(&mut queue), [(1, 0), (1, 1), (1, 2), (1, 3)]);
        assert!(queue.arrive(2, (2, 0)));
        assert_eq!(everybody(&mut queue), [(2, 0)]);
        queue.leave(1);
        assert_eq!(everybody(&mut queue), [(1, 4)]);
    }

    #[test]
    fn users_take_turns_when_there_is_no_room_for_all() {
        let mut queue = queue(2, 2);
        assert!(
            [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)].into_iter().all(|(user, n)| queue.arrive(user, (user, n)))
        );
        assert_eq!(everybody(&mut queue), [(1, 0), (2, 0)]);
        queue.leave(1);
        assert_eq!(everybody(&mut queue), [(3, 0)]);
        queue.leave(3);
        assert_eq!(everybody(&mut queue), [(1, 1)]);
        queue.leave(1);
        assert_eq!(everybody(&mut queue), [(2, 1)]);
    }

    #[test]
    fn who_goes_away_is_not_let_in() {
        let mut queue = queue(1, 1);
        queue.adopt(1);
        assert!(queue.arrive(1, (1, 0)) && queue.arrive(1, (1, 1)));
        queue.forget(1, &(1, 0));
        assert_eq!(queue.next(), None);
        queue.leave(1);
        assert_eq!((queue.next(), queue.running_of(1)), (Some((1, 1)), 1));
    }
}
