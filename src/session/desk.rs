//! The session's side of what its proxy cannot do alone: keeping money across sessions, and asking people.
//!
//! It answers in the order in which it hears, and decides by itself which answer of a person was the first. What it cannot do
//! is a denial. Nothing is written to a database, and none is opened, before the proxy asks for something.

mod granted;
mod questions;

use super::asking::Asking;
use super::clock;
use super::money;
use super::pause::{self, Pauses};
use super::prepare::Prepared;
use super::proxy_process::ProxyProcess;
use crate::meter::{Admission, Budget, Wish};
use crate::model::{Event, NanoUsd, RequestNumber, Timestamp, printable};
use crate::policy::{OnHardLimit, OnSoftLimit, OnUnknownModel};
use crate::proxy::{Answer, Ask, Doubt, FromSession};
use crate::store::{Account, Claim, HoldBook, Home, Journal, Moment, Recorder, StoreError, open_holds};
use questions::Questions;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IsTerminal;
use std::time::Instant;

pub(super) use questions::{Asked, News, Reply};

/// Most answers that wait to be sent.
const OUTBOX_MAX: usize = 8_192;

/// A model call that money is wanted for.
struct Call {
    request: RequestNumber,
    wish: Wish,
    model: String,
    /// Whether the model's price is known.
    priced: bool,
    /// The first call of its turn.
    turn: RequestNumber,
}

/// The desk.
pub(super) struct Desk<'a> {
    prepared: &'a Prepared,
    home: &'a Home,
    holds: Option<Box<dyn HoldBook>>,
    questions: Questions,
    /// What a person waived for the session.
    waived: BTreeSet<Doubt>,
    waived_once: BTreeMap<RequestNumber, BTreeSet<Doubt>>,
    /// What a person would not waive, until when, and what they said.
    kept: BTreeMap<Doubt, (Instant, String)>,
    /// Why no model call goes any more.
    blocked: Option<String>,
    /// The parts of budgets that are told already, each in one of its windows.
    alerted: BTreeSet<(usize, u32, i64)>,
    /// The turn that the last call was of.
    turn: RequestNumber,
    pauses: Pauses,
    /// What is held for calls under way: by the request, with the number of what was asked.
    held: BTreeMap<RequestNumber, (u64, NanoUsd)>,
    /// Calls that want money, by what they were asked by, and calls that are over: for one transaction.
    calls: Vec<(u64, Call)>,
    over: Vec<(RequestNumber, NanoUsd)>,
    outbox: VecDeque<FromSession>,
    /// What people at the terminal should be told.
    pub notices: Vec<String>,
    /// The questions that were just put.
    pub news: Vec<News>,
    /// Whether a person could answer: there is a terminal somewhere, or somebody said that they would.
    somebody: bool,
}

impl<'a> Desk<'a> {
    pub(super) fn new(prepared: &'a Prepared, home: &'a Home) -> Self {
        let request = &prepared.request;
        Self {
            prepared,
            home,
            holds: None,
            questions: Questions::default(),
            waived: BTreeSet::new(),
            waived_once: BTreeMap::new(),
            kept: BTreeMap::new(),
            blocked: None,
            alerted: BTreeSet::new(),
            turn: RequestNumber(0),
            pauses: Pauses::default(),
            held: BTreeMap::new(),
            calls: Vec::new(),
            over: Vec::new(),
            outbox: VecDeque::new(),
            notices: prepared
                .forbidden
                .iter()
                .map(|(secret, why)| format!("without the secret `{secret}`: {why}"))
                .collect(),
            news: Vec::new(),
            somebody: request.detached || request.await_approvals || any_terminal(),
        }
    }

    /// What the session was prepared as.
    pub(super) fn prepared(&self) -> &'a Prepared {
        self.prepared
    }

    /// How people are asked.
    pub(super) fn asking(&self) -> Asking {
        self.prepared.request.asking
    }

    /// The user whose session it is.
    pub(super) fn user(&self) -> &str {
        &self.prepared.user
    }

    /// Does what the proxy asks, or begins to.
    pub(super) fn ask(&mut self, number: u64, ask: Ask, journal: &mut Journal) {
        match ask {
            Ask::Reserve { request, full, least, model, priced, turn } => {
                let call = Call { request, wish: Wish { full, least, consented: false }, model, priced, turn };
                self.calls.push((number, call));
            }
            Ask::Person(inquiry) => {
                if let Err(why) = self.put(number, *inquiry, journal) {
                    self.say(number, Answer::Denied(why));
                }
            }
        }
    }

    fn say(&mut self, number: u64, answer: Answer) {
        if self.outbox.len() < OUTBOX_MAX {
            self.outbox.push_back(FromSession::Answer { number, answer });
        }
    }

    /// Sends what waits, as far as there is room; whether something is left.
    pub(super) fn flush(&mut self, proxy: &ProxyProcess) -> bool {
        while let Some(word) = self.outbox.front() {
            if proxy.say(word).is_err() {
                return true;
            }
            self.outbox.pop_front();
        }
        false
    }

    /// Whether something waits to be sent.
    pub(super) fn has_words(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Lets go of the database: no connection of SQLite's survives a fork.
    pub(super) fn let_go(&mut self) {
        (self.holds, self.questions.list) = (None, None);
    }

    fn holds(&mut self) -> Result<&mut (dyn HoldBook + 'static), StoreError> {
        if self.holds.is_none() {
            self.holds = Some(open_holds(self.home, account(self.prepared))?);
        }
        self.holds.as_deref_mut().ok_or(StoreError::NoSession)
    }

    /// Does about money what was asked since, all that came at one time in one transaction.
    pub(super) fn turn_over(&mut self, journal: &mut Journal) {
        self.settle_over(journal);
        let mut asked = Vec::new();
        for (number, call) in std::mem::take(&mut self.calls) {
            let blocked = self.blocked.clone().map(Answer::Denied);
            match blocked.or_else(|| self.doubted_model(&call)) {
                Some(answer) => self.say(number, answer),
                None => asked.push((number, call)),
            }
        }
        let Some((_, last)) = asked.last() else { return };
        self.turn = last.turn;
        let now = clock::now();
        let claims: Vec<Claim> = asked.iter().map(|(_, call)| self.claim(call, now)).collect();
        let policies = self.prepared.spend.as_slice();
        let placed = match self.holds().and_then(|holds| holds.place(policies, &claims)) {
            Ok(placed) => placed,
            Err(error) => {
                let why = format!("no money can be held, so none may be spent: {error}");
                return asked.iter().for_each(|(number, _)| self.say(*number, Answer::Denied(why.clone())));
            }
        };
        if let Some((_, budgets)) = placed.last() {
            self.alert(budgets, journal);
        }
        for ((number, call), (admission, budgets)) in asked.iter().zip(placed) {
            let answer = self.answer_to(call, admission, &budgets);
            if let Answer::Held(amount) = answer {
                self.held.insert(call.request, (*number, amount));
            }
            self.say(*number, answer);
        }
    }

    /// What a call claims, with what people said about it.
    fn claim(&self, call: &Call, at: Timestamp) -> Claim {
        let Call { request, wish, model, turn, .. } = call;
        let policies = self.prepared.spend.as_slice();
        let soft = |doubt: &Doubt| matches!(doubt, Doubt::SoftLimit(_)).then_some(doubt.policy());
        let once = || self.waived_once.get(request).into_iter().flatten();
        let mut waived: BTreeSet<usize> = self.waived.iter().chain(once()).filter_map(soft).collect();
        waived.extend(money::that_only_tell(policies));
        waived.extend(money::that_go_on_with(policies, model));
        let moment = Moment { at, turn: *turn };
        let mut raised = self.pauses.raised(policies, moment);
        raised
            .extend(once().filter_map(|doubt| pause::paused_by(Some(*doubt))).map(|index| (index, NanoUsd(i64::MAX))));
        Claim { request: *request, moment, wish: *wish, waived, raised }
    }

    /// What is said to a call of which this was decided.
    fn answer_to(&mut self, call: &Call, admission: Admission, budgets: &[Budget]) -> Answer {
        let policies = self.prepared.spend.as_slice();
        let budget = |index: usize| policies.get(index).zip(budgets.get(index));
        match admission {
            Admission::Hold(amount) => {
                self.waived_once.remove(&call.request);
                Answer::Held(amount)
            }
            Admission::Wait(index) => Answer::Busy(budget(index).map_or_else(String::new, money::busy)),
            Admission::Ask(index) => {
                let why = budget(index).map_or_else(String::new, money::soft);
                let downgrades = policies.get(index).filter(|policy| policy.on_soft_limit == OnSoftLimit::Downgrade);
                match downgrades.and_then(|policy| Some((policy.name.clone(), policy.downgrade_to.clone()?))) {
                    Some((name, model)) => Answer::Downgrade { policy: index, name, model, why },
                    None => self.first(Doubt::SoftLimit(index), why),
                }
            }
            Admission::Refuse(index) => {
                let why = budget(index).map_or_else(String::new, |found| money::hard(found, call.wish.least));
                if let Some(found) = budget(index).filter(|(policy, _)| policy.on_hard_limit == OnHardLimit::Pause) {
                    return self.first(Doubt::HardLimit(index), pause::why(found, &why));
                }
                if policies.get(index).is_some_and(|policy| policy.on_hard_limit == OnHardLimit::BlockSession) {
                    self.blocked = Some(why.clone());
                    self.notices.push(why.clone());
                }
                Answer::Denied(why)
            }
        }
    }

    /// What is said to a call of a model whose price is not known, where a policy minds.
    fn doubted_model(&self, call: &Call) -> Option<Answer> {
        let policies = self.prepared.spend.as_slice();
        let minds = |what| policies.iter().position(|policy| !call.priced && policy.unknown_model == what);
        if let Some(policy) = minds(OnUnknownModel::Deny).and_then(|index| policies.get(index)) {
            return Some(Answer::Denied(money::unknown(policy, &call.model)));
        }
        let doubt = Doubt::UnknownModel(minds(OnUnknownModel::Ask)?);
        let once = self.waived_once.get(&call.request).is_some_and(|waived| waived.contains(&doubt));
        let why = policies.get(doubt.policy()).map_or_else(String::new, |policy| money::unknown(policy, &call.model));
        (!once && !self.waived.contains(&doubt)).then(|| self.first(doubt, why))
    }

    /// A person must say first, unless one said no a moment ago.
    fn first(&self, doubt: Doubt, why: String) -> Answer {
        match self.kept.get(&doubt) {
            Some((until, why)) if Instant::now() < *until => Answer::Denied(why.clone()),
            _ => Answer::AskFirst { doubt, why },
        }
    }

    /// A call is over.
    pub(super) fn settle(&mut self, request: RequestNumber, cost: NanoUsd) {
        self.waived_once.remove(&request);
        self.held.remove(&request);
        self.over.push((request, cost));
    }

    /// Settles calls that are over. What cannot be written now is read in the journal at the end.
    fn settle_over(&mut self, journal: &mut Journal) {
        let over = std::mem::take(&mut self.over);
        if over.is_empty() {
            return;
        }
        let (policies, moment) = (self.prepared.spend.as_slice(), self.moment());
        let Ok(holds) = self.holds() else { return };
        if holds.settle(&over).is_ok()
            && let Ok(budgets) = holds.budgets(policies, moment)
        {
            self.alert(&budgets, journal);
        }
    }

    /// This moment, as budgets count.
    fn moment(&self) -> Moment {
        Moment { at: clock::now(), turn: self.turn }
    }

    /// Tells, once each for all who count in it, that much of a budget is spent.
    fn alert(&mut self, budgets: &[Budget], journal: &mut Journal) {
        let (moment, prepared) = (self.moment(), self.prepared);
        for (index, (policy, budget)) in prepared.spend.iter().zip(budgets).enumerate() {
            for percent in money::alerts(policy, budget) {
                let news = self.alerted.insert((index, percent, moment.window_of(policy)));
                let mut first = || self.holds()?.reached(policy, percent, moment);
                if news && first().is_ok_and(|first| first) {
                    let (policy, spent) = (policy.name.clone(), budget.spent);
                    // A journal that fails once fails for good, and the session's end says so.
                    let _ = journal.record(clock::now(), &Event::BudgetReached { policy, percent, spent });
                }
            }
        }
    }

    /// What is held for calls under way.
    pub(super) fn held(&self) -> NanoUsd {
        self.held.values().map(|(_, amount)| *amount).sum()
    }

    /// Nobody waits any more for money that was asked for by this number; whether it was money.
    fn withdraw_call(&mut self, number: u64) -> bool {
        let before = self.calls.len();
        self.calls.retain(|(asked, _)| *asked != number);
        // What was granted came too late.
        let granted = self.held.iter().find(|(_, (asked, _))| *asked == number).map(|(request, _)| *request);
        if let Some(request) = granted {
            self.settle(request, NanoUsd::ZERO);
        }
        granted.is_some() || self.calls.len() < before
    }
}

/// Whether any standard stream leads to a terminal.
fn any_terminal() -> bool {
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    stdin.is_terminal() || stdout.is_terminal() || stderr.is_terminal()
}

/// Tells people at standard error something, where that is a terminal that takes it.
pub(super) fn tell(text: &str) {
    let stderr = std::io::stderr();
    let mut waits = [PollFd::new(&stderr, PollFlags::OUT)];
    if stderr.is_terminal() && rustix::event::poll(&mut waits, Some(&Timespec::default())) == Ok(1) {
        let _ = rustix::io::write(&stderr, format!("\x07omni: {}\r\n", printable(text)).as_bytes());
    }
}

fn account(prepared: &Prepared) -> Account {
    let request = &prepared.request;
    Account {
        session: prepared.session.clone(),
        user: prepared.user.clone(),
        team: request.team.clone(),
        project: request.project.clone(),
        agent: request.profile.name.clone(),
    }
}

/// Settles what a session left open, now that its proxy writes no more.
pub(super) fn settle_rest(prepared: &Prepared, home: &Home) -> Result<(), StoreError> {
    match prepared.spend.is_empty() {
        true => Ok(()),
        false => open_holds(home, account(prepared))?.close(),
    }
}
