//! The protocol of holds, checked in every order of events there is: two sessions with a proxy each, one budget, and both
//! sessions and proxies die at any point.
//!
//! What is modelled is who knows what when. The store changes in one transaction, a journal survives whoever wrote it, and
//! what was said and not heard is lost. Whether there is money is decided by [`admit`] itself.

use super::{Admission, Budget, Wish, admit};
use crate::model::NanoUsd;
use stateright::{Checker, Model, Property};

/// What the budget has, and what a call can cost: two fit, and a third only in part.
const HARD: i64 = 5;
const FULL: i64 = 2;
const LEAST: i64 = 1;
/// How many calls each session makes.
const CALLS: [usize; 2] = [2, 1];

/// A call, as far as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Call {
    /// Not made, or refused.
    Idle,
    /// Money is held, and the proxy has not heard.
    Placed(i64),
    /// The proxy has heard.
    Granted(i64),
    /// It is in the journal that it leaves, and it may have.
    Left(i64),
    /// It is in the journal what it came to, and the session has not heard.
    Told(i64),
    /// It is over.
    Over,
}

/// What the store has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Charge {
    None,
    Held(i64),
    Lost(i64),
    Settled(i64),
}

impl Charge {
    fn amount(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Held(amount) | Self::Lost(amount) | Self::Settled(amount) => amount,
        }
    }
}

/// One call and all that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Line {
    call: Call,
    charge: Charge,
    /// What the journal tells: that it left, and what it came to.
    left: bool,
    told: Option<i64>,
    /// What the vendor bills.
    billed: i64,
    /// By how much that is more than was held, as the journal tells.
    over: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Session {
    lives: bool,
    proxy_lives: bool,
    lines: Vec<Line>,
    /// Somebody looked for its money, and found the proxy dead or not.
    look: Option<bool>,
}

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World(Vec<Session>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Place(usize, usize),
    Hear(usize, usize),
    Leave(usize, usize),
    Answer(usize, usize, i64),
    Settle(usize, usize),
    SessionDies(usize),
    ProxyDies(usize),
    /// Another session looks whether the proxy of a dead one lives.
    Look(usize),
    /// And then settles by what the journal tells.
    Replay(usize),
    /// A session settles the rest at its end.
    Close(usize),
}

/// The protocol. Without waiting for a dead session's proxy it is wrong, and the check must say so.
struct Protocol {
    waits_for_proxies: bool,
}

impl World {
    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.0.iter().flat_map(|session| &session.lines)
    }

    fn charged(&self) -> i64 {
        self.lines().map(|line| line.charge.amount()).sum()
    }

    fn admission(&self) -> Admission {
        let held = |line: &Line| if let Charge::Held(amount) = line.charge { amount } else { 0 };
        let held: i64 = self.lines().map(held).sum();
        let spent = NanoUsd(self.charged() - held);
        let budget =
            Budget { hard: Some(NanoUsd(HARD)), soft: None, spent, held: NanoUsd(held), expected: NanoUsd::ZERO };
        admit(&[budget], &Wish { full: NanoUsd(FULL), least: NanoUsd(LEAST), consented: false })
    }
}

impl Line {
    const NEW: Self = Self { call: Call::Idle, charge: Charge::None, left: false, told: None, billed: 0, over: 0 };

    /// Settles by the journal. `over` says that it tells all it ever will.
    fn replay(&mut self, over: bool) {
        if matches!(self.charge, Charge::None | Charge::Settled(_)) {
            return;
        }
        self.charge = match (self.told, self.left) {
            (Some(cost), _) => Charge::Settled(cost),
            _ if !over => return,
            (None, false) => Charge::Settled(0),
            (None, true) => Charge::Lost(self.charge.amount()),
        };
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let session = |calls| Session { lives: true, proxy_lives: true, lines: vec![Line::NEW; calls], look: None };
        vec![World(CALLS.into_iter().map(session).collect())]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let somebody = world.0.iter().any(|session| session.lives);
        for (s, session) in world.0.iter().enumerate() {
            for (c, line) in session.lines.iter().enumerate() {
                let both = session.lives && session.proxy_lives;
                match line.call {
                    Call::Idle if both && line.charge == Charge::None => steps.push(Step::Place(s, c)),
                    Call::Placed(_) if both => steps.push(Step::Hear(s, c)),
                    Call::Granted(_) if session.proxy_lives => steps.push(Step::Leave(s, c)),
                    Call::Left(held) if session.proxy_lives => {
                        steps.extend([0, held, held + 1].map(|cost| Step::Answer(s, c, cost)));
                    }
                    Call::Told(_) if session.lives => steps.push(Step::Settle(s, c)),
                    _ => {}
                }
            }
            if session.lives {
                steps.push(Step::SessionDies(s));
            }
            if session.proxy_lives {
                steps.push(Step::ProxyDies(s));
            }
            match (session.lives, session.look) {
                (true, _) if !session.proxy_lives => steps.push(Step::Close(s)),
                (false, None) if somebody => steps.push(Step::Look(s)),
                (false, Some(_)) if somebody => steps.push(Step::Replay(s)),
                _ => {}
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        match step {
            Step::Place(s, c) => {
                let Admission::Hold(NanoUsd(amount)) = world.admission() else { return None };
                let line = &mut next.0[s].lines[c];
                (line.call, line.charge) = (Call::Placed(amount), Charge::Held(amount));
            }
            Step::Hear(s, c) => {
                let line = &mut next.0[s].lines[c];
                let Call::Placed(amount) = line.call else { return None };
                line.call = Call::Granted(amount);
            }
            Step::Leave(s, c) => {
                let line = &mut next.0[s].lines[c];
                let Call::Granted(amount) = line.call else { return None };
                (line.call, line.left) = (Call::Left(amount), true);
            }
            Step::Answer(s, c, cost) => {
                let line = &mut next.0[s].lines[c];
                let Call::Left(held) = line.call else { return None };
                (line.call, line.told, line.billed, line.over) =
                    (Call::Told(cost), Some(cost), cost, (cost - held).max(0));
            }
            Step::Settle(s, c) => {
                let line = &mut next.0[s].lines[c];
                let Call::Told(cost) = line.call else { return None };
                line.call = Call::Over;
                if !matches!(line.charge, Charge::Settled(_)) {
                    line.charge = Charge::Settled(cost);
                }
            }
            Step::SessionDies(s) => next.0[s].lives = false,
            Step::ProxyDies(s) => {
                let session = &mut next.0[s];
                session.proxy_lives = false;
                for line in &mut session.lines {
                    // Nobody knows what becomes of an answer that nobody reads.
                    if let Call::Left(amount) = line.call {
                        line.billed = amount;
                    }
                    line.call = Call::Over;
                }
            }
            Step::Look(s) => next.0[s].look = Some(!world.0[s].proxy_lives || !self.waits_for_proxies),
            Step::Replay(s) => {
                let over = next.0[s].look.take()?;
                next.0[s].lines.iter_mut().for_each(|line| line.replay(over));
            }
            Step::Close(s) => next.0[s].lines.iter_mut().for_each(|line| line.replay(true)),
        }
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "what is spent and held passes the limit by recorded overruns alone",
                |_, world: &World| world.charged() <= HARD + world.lines().map(|line| line.over).sum::<i64>(),
            ),
            Property::always("what the vendor bills is counted", |_, world: &World| {
                let counts = |line: &Line| {
                    line.charge.amount() >= line.billed || line.told.is_some_and(|told| told >= line.billed)
                };
                world.lines().all(counts)
            }),
            Property::always("what is settled is what the journal tells", |_, world: &World| {
                world.lines().all(|line| match (line.charge, line.told) {
                    (Charge::Settled(amount), Some(told)) => amount == told,
                    _ => true,
                })
            }),
            Property::sometimes("money of a call that never left comes back", |_, world: &World| {
                world.lines().any(|line| line.charge == Charge::Settled(0) && !line.left)
            }),
            Property::sometimes("a call finds that there is too little", |_, world: &World| {
                matches!(world.admission(), Admission::Refuse(_))
            }),
            Property::sometimes("a call finds that it had better wait", |_, world: &World| {
                matches!(world.admission(), Admission::Wait(_))
            }),
        ]
    }
}

#[test]
fn in_no_order_of_events_is_money_given_twice_or_forgotten() {
    let checked = Protocol { waits_for_proxies: true }.checker().spawn_bfs().join();
    checked.assert_properties();
    assert!(checked.unique_state_count() > 10_000, "{} states are not all there are", checked.unique_state_count());
}

#[test]
fn whoever_did_not_wait_for_a_dead_sessions_proxy_would_forget_money() {
    let checked = Protocol { waits_for_proxies: false }.checker().spawn_bfs().join();
    let found = checked.discovery("what the vendor bills is counted");
    assert!(found.is_some(), "the check does not see what is wrong");
}
