//! The session's side of what its proxy cannot do alone: keeping money across sessions, and asking people.
//!
//! It answers in the order in which it hears, and decides by itself which answer of a person was the first. What it cannot do
//! is a denial. Nothing is written to a database, and none is opened, before the proxy asks for something.

use super::clock;
use super::money;
use super::prepare::Prepared;
use super::proxy_process::ProxyProcess;
use crate::meter::{Admission, Budget, Wish};
use crate::model::{Event, NanoUsd, RequestNumber, Timestamp, printable};
use crate::policy::{OnHardLimit, OnSoftLimit, OnUnknownModel};
use crate::proxy::{Answer, Ask, Doubt, FromSession, Inquiry};
use crate::store::{Account, Approval, Approvals, Claim, HoldBook, Home, Journal, Recorder, StoreError, open_holds};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// How long a question waits for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(600);
/// Most questions that wait at a time; more are denied, so that nobody is flooded.
const QUESTIONS_MAX: usize = 32;
/// Most answers that wait to be sent.
const OUTBOX_MAX: usize = 8_192;
/// For how long a person's no to a soft limit also answers what is asked next: harnesses ask again at once, in other ways.
const NO_LASTS: Duration = Duration::from_secs(30);

/// A question that waits.
#[derive(Debug)]
struct Open {
    /// The proxy's number of it.
    number: u64,
    inquiry: Inquiry,
    expires: Instant,
}

/// A model call that money is wanted for.
struct Call {
    request: RequestNumber,
    wish: Wish,
    model: String,
    /// Whether the model's price is known.
    priced: bool,
}

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Yes, to this.
    Once,
    /// Yes, for the rest of the session.
    Session,
    /// No, perhaps with a reason.
    Deny(Option<String>),
}

impl Reply {
    /// The reply that a word names.
    pub(super) fn named(word: &str, reason: Option<String>) -> Option<Self> {
        match word {
            "once" => Some(Self::Once),
            "session" => Some(Self::Session),
            "deny" => Some(Self::Deny(reason)),
            _ => None,
        }
    }
}

/// The desk.
pub(super) struct Desk<'a> {
    prepared: &'a Prepared,
    home: &'a Home,
    holds: Option<Box<dyn HoldBook>>,
    approvals: Option<Approvals>,
    /// What a person waived for the session.
    waived: BTreeSet<Doubt>,
    waived_once: BTreeMap<RequestNumber, BTreeSet<Doubt>>,
    /// What a person would not waive, until when, and what they said.
    kept: BTreeMap<Doubt, (Instant, String)>,
    /// Why no model call goes any more.
    blocked: Option<String>,
    alerted: BTreeSet<(usize, u32)>,
    questions: BTreeMap<u64, Open>,
    asked: u64,
    outbox: VecDeque<FromSession>,
    /// What people at the terminal should be told.
    pub notices: Vec<String>,
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
            approvals: None,
            waived: BTreeSet::new(),
            waived_once: BTreeMap::new(),
            kept: BTreeMap::new(),
            blocked: None,
            alerted: BTreeSet::new(),
            questions: BTreeMap::new(),
            asked: 0,
            outbox: VecDeque::new(),
            notices: Vec::new(),
            somebody: request.detached || request.await_approvals || any_terminal(),
        }
    }

    /// Does what the proxy asks, or begins to.
    pub(super) fn ask(&mut self, number: u64, ask: Ask, journal: &mut Journal) {
        match ask {
            Ask::Reserve { request, full, least, model, priced } => {
                let call = Call { request, wish: Wish { full, least, consented: false }, model, priced };
                let answer = self.reserve(&call, journal);
                self.say(number, answer);
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
        (self.holds, self.approvals) = (None, None);
    }

    fn holds(&mut self) -> Result<&mut (dyn HoldBook + 'static), StoreError> {
        if self.holds.is_none() {
            self.holds = Some(open_holds(self.home, account(self.prepared))?);
        }
        self.holds.as_deref_mut().ok_or(StoreError::NoSession)
    }

    fn reserve(&mut self, call: &Call, journal: &mut Journal) -> Answer {
        if let Some(why) = &self.blocked {
            return Answer::Denied(why.clone());
        }
        if let Some(answer) = self.doubted_model(call) {
            return answer;
        }
        let Call { request, wish, model, .. } = call;
        let policies = self.prepared.spend.as_slice();
        let soft = |doubt: &Doubt| matches!(doubt, Doubt::SoftLimit(_)).then_some(doubt.policy());
        let once = self.waived_once.get(request).into_iter().flatten();
        let mut waived: BTreeSet<usize> = self.waived.iter().chain(once).filter_map(soft).collect();
        waived.extend(money::that_only_tell(policies));
        waived.extend(money::that_go_on_with(policies, model));
        let claim = Claim { request: *request, at: clock::now(), wish: *wish, waived };
        let placed = self.holds().and_then(|holds| holds.place(policies, &claim));
        let (admission, budgets) = match placed {
            Ok(placed) => placed,
            Err(error) => return Answer::Denied(format!("no money can be held, so none may be spent: {error}")),
        };
        self.alert(&budgets, journal);
        let budget = |index: usize| policies.get(index).zip(budgets.get(index));
        match admission {
            Admission::Hold(amount) => {
                self.waived_once.remove(request);
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
                let why = budget(index).map_or_else(String::new, |found| money::hard(found, wish.least));
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

    /// A call is over. What cannot be written now is read in the journal at the end.
    pub(super) fn settle(&mut self, request: RequestNumber, cost: NanoUsd, journal: &mut Journal) {
        self.waived_once.remove(&request);
        let policies = self.prepared.spend.as_slice();
        let Ok(holds) = self.holds() else { return };
        if holds.settle(request, cost).is_ok()
            && let Ok(budgets) = holds.budgets(policies, clock::now())
        {
            self.alert(&budgets, journal);
        }
    }

    /// Tells, once each, that much of a budget is spent.
    fn alert(&mut self, budgets: &[Budget], journal: &mut Journal) {
        for (index, (policy, budget)) in self.prepared.spend.iter().zip(budgets).enumerate() {
            for percent in money::alerts(policy, budget) {
                if self.alerted.insert((index, percent)) {
                    let (policy, spent) = (policy.name.clone(), budget.spent);
                    // A journal that fails once fails for good, and the session's end says so.
                    let _ = journal.record(clock::now(), &Event::BudgetReached { policy, percent, spent });
                }
            }
        }
    }

    /// Puts a question to people.
    fn put(&mut self, number: u64, inquiry: Inquiry, journal: &mut Journal) -> Result<(), String> {
        if !self.somebody {
            return Err(format!(
                "{}, and nobody could be asked: the session has no terminal; run it in one, or with --await-approvals \
                 and answer with `omni approve`",
                inquiry.why
            ));
        }
        if self.questions.len() >= QUESTIONS_MAX {
            return Err(format!("{}, and {QUESTIONS_MAX} questions wait for an answer already", inquiry.why));
        }
        let now = clock::now();
        let failed = |error: StoreError| format!("a person must say, and nobody can be asked: {error}");
        if self.approvals.is_none() {
            self.approvals = Some(Approvals::open(self.home).map_err(failed)?);
        }
        self.asked += 1;
        let question = self.asked;
        let lasts = i64::try_from(ANSWER_MAX.as_micros()).unwrap_or(i64::MAX);
        let expires = Timestamp(now.0.saturating_add(lasts));
        let approval = self.approval(question, &inquiry, now, expires);
        let asked = Event::ApprovalAsked {
            question,
            request: inquiry.request,
            what: inquiry.what.clone(),
            why: inquiry.why.clone(),
            rule: inquiry.rule.clone(),
            digest: inquiry.digest.clone(),
            expires: expires.0,
        };
        journal.record(now, &asked).map_err(failed)?;
        self.approvals.as_ref().map_or(Ok(()), |approvals| approvals.ask(&approval)).map_err(failed)?;
        let id = approval.id();
        self.notices.push(format!("{} {}: omni approve {id}, or omni deny {id}", inquiry.what, inquiry.why));
        let open = Open { number, inquiry, expires: Instant::now() + ANSWER_MAX };
        self.questions.insert(question, open);
        Ok(())
    }

    fn approval(&mut self, question: u64, inquiry: &Inquiry, asked: Timestamp, expires: Timestamp) -> Approval {
        let policies = self.prepared.spend.as_slice();
        let budgets = match policies.is_empty() {
            true => Vec::new(),
            false => self.holds().and_then(|holds| holds.budgets(policies, asked)).unwrap_or_default(),
        };
        let cost = inquiry.doubt.and_then(|doubt| budgets.get(doubt.policy())).or(budgets.first());
        Approval {
            session: self.prepared.session.clone(),
            question,
            user: self.prepared.user.clone(),
            asked,
            expires,
            what: inquiry.what.clone(),
            why: inquiry.why.clone(),
            rule: inquiry.rule_to_add.clone().or_else(|| inquiry.rule.clone()),
            preview: inquiry.preview.clone(),
            digest: inquiry.digest.clone(),
            cost: cost.map_or(NanoUsd::ZERO, |budget| budget.spent),
        }
    }

    /// Takes a person's answer.
    ///
    /// # Errors
    /// Why it is none: another was first, or nobody waits for it any more.
    pub(super) fn answer(
        &mut self,
        question: u64,
        reply: Reply,
        by: &str,
        journal: &mut Journal,
    ) -> Result<(), String> {
        let gone = "it was answered already, or nobody waits for it any more";
        let Some(open) = self.questions.get(&question) else { return Err(gone.to_owned()) };
        if matches!(reply, Reply::Session) && open.inquiry.doubt.is_none() && open.inquiry.rule_to_add.is_none() {
            return Err("no rule covers such requests alone, so it can be answered only once".to_owned());
        }
        let (word, reason) = match &reply {
            Reply::Once => ("once", None),
            Reply::Session => ("session", None),
            Reply::Deny(reason) => ("denied", reason.clone()),
        };
        self.close(question, word, Some(by), reason.clone(), journal).map_err(|error| error.to_string())?;
        let Some(Open { number, inquiry, .. }) = self.questions.remove(&question) else { return Err(gone.to_owned()) };
        let answer = match reply {
            Reply::Once | Reply::Session => {
                let lasting = reply == Reply::Session;
                match inquiry.doubt {
                    Some(doubt) if lasting => drop(self.waived.insert(doubt)),
                    Some(doubt) => drop(self.waived_once.entry(inquiry.request).or_default().insert(doubt)),
                    None => {}
                }
                Answer::Consented { by: by.to_owned(), lasting }
            }
            Reply::Deny(reason) => {
                let said = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                let why = format!("{by} said no{said} ({})", inquiry.why);
                if let Some(doubt) = inquiry.doubt {
                    self.kept.insert(doubt, (Instant::now() + NO_LASTS, why.clone()));
                }
                Answer::Denied(why)
            }
        };
        self.say(number, answer);
        Ok(())
    }

    /// Records what became of a question, on the disk before it has an effect.
    fn close(
        &self,
        question: u64,
        answer: &str,
        by: Option<&str>,
        reason: Option<String>,
        journal: &mut Journal,
    ) -> Result<(), StoreError> {
        let now = clock::now();
        let by_whom = by.map(str::to_owned);
        let answered = Event::ApprovalAnswered { question, answer: answer.to_owned(), by: by_whom, reason };
        journal.record(now, &answered)?;
        journal.sync()?;
        if let Some(approvals) = &self.approvals {
            // The list is for reading: who finds the question there still is told that it is closed.
            let _ = approvals.answer(&self.prepared.session, question, answer, by.unwrap_or_default(), now);
        }
        Ok(())
    }

    /// Nobody waits any more for what was asked by this number.
    pub(super) fn withdraw(&mut self, number: u64, journal: &mut Journal) {
        let found = self.questions.iter().find(|(_, open)| open.number == number).map(|(question, _)| *question);
        if let Some(question) = found {
            self.questions.remove(&question);
            let _ = self.close(question, "cancelled", None, None, journal);
        }
    }

    /// When the next question is denied for want of an answer.
    pub(super) fn due(&self) -> Option<Instant> {
        self.questions.values().map(|open| open.expires).min()
    }

    /// Denies what nobody answered in time.
    pub(super) fn expire(&mut self, journal: &mut Journal) {
        let now = Instant::now();
        let late: Vec<u64> =
            self.questions.iter().filter(|(_, open)| open.expires <= now).map(|(question, _)| *question).collect();
        for question in late {
            let Some(Open { number, inquiry, .. }) = self.questions.remove(&question) else { continue };
            let _ = self.close(question, "expired", None, None, journal);
            self.say(number, Answer::Denied(format!("nobody answered in time ({})", inquiry.why)));
        }
    }

    /// Whether a question waits.
    pub(super) fn is_asking(&self) -> bool {
        !self.questions.is_empty()
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
