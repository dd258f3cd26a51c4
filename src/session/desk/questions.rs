//! What people are asked, and who waits for the answer: requests that are the same share one question.

use super::granted::{Granted, is_alike};
use super::{Desk, Prepared, clock, pause};
use crate::model::{Event, NanoUsd, RequestNumber, Timestamp, printable};
use crate::proxy::{Answer, Doubt, Inquiry};
use crate::store::{
    Approval, Approvals, Journal, Longest, Moment, Recorder, StandingConsent, StoreError, Wanted, give_consent,
    read_consents,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// Most questions that wait at a time; more are denied, so that nobody is flooded.
const QUESTIONS_MAX: usize = 32;
/// Most requests that wait for one answer.
const WAITERS_MAX: usize = 64;
/// Most questions that are asked in any minute.
const ASKED_PER_MINUTE_MAX: usize = 60;
/// A minute.
const MINUTE: Duration = Duration::from_secs(60);
/// For how long a person's no also answers what is asked next about the same: harnesses ask again at once, in other ways.
const NO_LASTS: Duration = Duration::from_secs(30);
/// Most refusals and answers that are remembered, the oldest forgotten first.
const REMEMBERED_MAX: usize = 256;

/// What a person says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) enum Reply {
    /// Yes, to this.
    Once,
    /// Yes, for the rest of the session.
    Session,
    /// Yes, to such requests from now on.
    Always,
    /// No, perhaps with a reason.
    Deny(Option<String>),
}

impl Reply {
    /// The reply that a word names.
    pub(in crate::session) fn named(word: &str, reason: Option<String>) -> Option<Self> {
        match word {
            "once" => Some(Self::Once),
            "session" => Some(Self::Session),
            "always" => Some(Self::Always),
            "deny" => Some(Self::Deny(reason)),
            _ => None,
        }
    }

    /// For how long it is to count.
    fn wants(&self) -> Longest {
        match self {
            Self::Once | Self::Deny(_) => Longest::Once,
            Self::Session => Longest::Session,
            Self::Always => Longest::Always,
        }
    }

    /// The word that the record has for it.
    fn word(&self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
            Self::Always => "always",
            Self::Deny(_) => "denied",
        }
    }
}

/// A question that waits.
#[derive(Debug)]
struct Open {
    inquiry: Inquiry,
    approval: Approval,
    /// The proxy's numbers of those that wait, and the requests.
    waiters: Vec<(u64, RequestNumber)>,
    expires: Instant,
}

/// What a person at the terminal is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) struct Asked {
    /// The question.
    pub approval: Approval,
    /// How many requests wait for the answer.
    pub waiters: usize,
    /// How many questions wait.
    pub questions: usize,
    /// Who asks, and where that works.
    pub place: String,
}

/// A question that was just put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::session) struct News {
    /// What is told of it in one line.
    pub line: String,
    /// What is told of it where others may look on: whose it is, and where it goes.
    pub discreet: String,
}

/// Method and host of what is asked about, of a login with SSH its host, and nothing of what is sent.
fn discreet(what: &str) -> String {
    let mut words = what.split(' ');
    let (act, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = match target.split_once("://") {
        Some((_, rest)) => rest.split('/').next().unwrap_or_default(),
        None => target.rsplit('@').next().unwrap_or_default(),
    };
    format!("{act} {host}")
}

/// All that is asked.
#[derive(Debug, Default)]
pub(super) struct Questions {
    pub(super) list: Option<Approvals>,
    open: BTreeMap<u64, Open>,
    asked: u64,
    /// When questions were asked of late.
    times: VecDeque<Instant>,
    /// What people said no to of late, by digest: until when, and what is told.
    refused: VecDeque<(String, Instant, String)>,
    /// What people said yes to for the rest of the session.
    granted: Granted,
    /// What became of questions of late.
    closed: VecDeque<(u64, String)>,
    /// Whether somebody was told that consents cannot be read.
    told: bool,
}

/// Keeps one more, and forgets the oldest where that is too many.
pub(super) fn remember<T>(all: &mut VecDeque<T>, one: T) {
    if all.len() == REMEMBERED_MAX {
        all.pop_front();
    }
    all.push_back(one);
}

impl Desk<'_> {
    /// Puts a question to people, unless it is answered already.
    pub(super) fn put(&mut self, number: u64, inquiry: Inquiry, journal: &mut Journal) -> Result<(), String> {
        if let Some(answer) = self.answered_before(&inquiry, journal)? {
            self.say(number, answer);
            return Ok(());
        }
        let paused = pause::paused_by(inquiry.doubt);
        let policy = paused.and_then(|index| self.prepared.spend.get(index));
        let (within, alone) = match policy {
            Some(policy) => pause::lasts(policy, clock::now()),
            None => (self.prepared.request.asking.within, false),
        };
        if !self.somebody && !alone {
            return Err(format!(
                "{}, and nobody could be asked: the session has no terminal; run it in one, or with --await-approvals \
                 and answer with `omni approve`",
                inquiry.why
            ));
        }
        let same = |(_, open): &(&u64, &mut Open)| {
            open.inquiry.doubt == inquiry.doubt && (open.inquiry.digest == inquiry.digest || paused.is_some())
        };
        if let Some((question, open)) = self.questions.open.iter_mut().find(same) {
            if open.waiters.len() >= WAITERS_MAX {
                return Err(format!("{}, and {WAITERS_MAX} requests wait for that answer already", inquiry.why));
            }
            let joined = Event::ApprovalJoined { question: *question, request: inquiry.request };
            journal.record(clock::now(), &joined).map_err(failed)?;
            open.waiters.push((number, inquiry.request));
            return Ok(());
        }
        self.refuse_floods(&inquiry)?;
        if let Some((index, policy)) = paused.zip(policy) {
            let window = self.moment().window_of(policy);
            self.pauses.begin(index, window);
        }
        self.open_question((number, within), inquiry, journal).map_err(failed)
    }

    /// What somebody said already: a consent, or no to the very same a moment ago.
    fn answered_before(&mut self, inquiry: &Inquiry, journal: &mut Journal) -> Result<Option<Answer>, String> {
        let now = Instant::now();
        let refused = self.questions.refused.iter().rev();
        let mut same = refused.filter(|(digest, until, _)| *digest == inquiry.digest && now < *until);
        if let Some((_, _, why)) = same.next() {
            return Ok(Some(Answer::Denied(why.clone())));
        }
        // The next one is looked for anew: what is waived or consented to can be taken back.
        if let Some(by) = self.questions.granted.to(inquiry, &self.waived) {
            return Ok(Some(Answer::Consented { by: by.to_owned(), lasting: false }));
        }
        let Some(StandingConsent { id, by, .. }) = self.consent_to(inquiry) else { return Ok(None) };
        let (request, what) = (inquiry.request, inquiry.what.clone());
        let used = Event::ConsentUsed { consent: id, request, what };
        journal.record(clock::now(), &used).and_then(|()| journal.sync()).map_err(failed)?;
        Ok(Some(Answer::Consented { by, lasting: false }))
    }

    fn consent_to(&mut self, inquiry: &Inquiry) -> Option<StandingConsent> {
        if inquiry.covers.is_empty() || inquiry.doubt.is_some() {
            return None;
        }
        let consents = match read_consents(self.home) {
            Ok(consents) => consents,
            Err(error) => {
                if !std::mem::replace(&mut self.questions.told, true) {
                    self.notices.push(error.to_string());
                }
                return None;
            }
        };
        let workspace = self.prepared.plan.directory.display().to_string();
        let wanted = Wanted {
            user: &self.prepared.user,
            profile: &self.prepared.request.profile.name,
            workspace: &workspace,
            covers: &inquiry.covers,
            asked_by: &inquiry.asked_by,
        };
        consents.into_iter().find(|consent| consent.answers(&wanted))
    }

    fn refuse_floods(&mut self, inquiry: &Inquiry) -> Result<(), String> {
        if self.questions.open.len() >= QUESTIONS_MAX {
            return Err(format!("{}, and {QUESTIONS_MAX} questions wait for an answer already", inquiry.why));
        }
        let now = Instant::now();
        let times = &mut self.questions.times;
        while times.front().is_some_and(|time| now.duration_since(*time) >= MINUTE) {
            times.pop_front();
        }
        if times.len() >= ASKED_PER_MINUTE_MAX {
            return Err(format!("{}, and {ASKED_PER_MINUTE_MAX} questions were asked in a minute", inquiry.why));
        }
        times.push_back(now);
        Ok(())
    }

    fn open_question(
        &mut self,
        (number, within): (u64, Duration),
        inquiry: Inquiry,
        journal: &mut Journal,
    ) -> Result<(), StoreError> {
        let now = clock::now();
        if self.questions.list.is_none() {
            self.questions.list = Some(Approvals::open(self.home)?);
        }
        self.questions.asked += 1;
        let question = self.questions.asked;
        let lasts = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
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
        journal.record(now, &asked)?;
        self.questions.list.as_ref().map_or(Ok(()), |list| list.ask(&approval))?;
        let id = approval.id();
        let line = format!("{} {}: omni approve {id}, or omni deny {id}", inquiry.what, inquiry.why);
        self.news.push(News { line, discreet: format!("{}: omni approve {id}", discreet(&inquiry.what)) });
        let waiters = vec![(number, inquiry.request)];
        let open = Open { inquiry, approval, waiters, expires: Instant::now() + within };
        self.questions.open.insert(question, open);
        Ok(())
    }

    fn approval(&mut self, question: u64, inquiry: &Inquiry, asked: Timestamp, expires: Timestamp) -> Approval {
        let policies = self.prepared.spend.as_slice();
        let budgets = match policies.is_empty() {
            true => Vec::new(),
            false => {
                let moment = Moment { at: asked, turn: self.turn };
                self.holds().and_then(|holds| holds.budgets(policies, moment)).unwrap_or_default()
            }
        };
        let cost = inquiry.doubt.and_then(|doubt| budgets.get(doubt.policy())).or(budgets.first());
        let covers = (!inquiry.covers.is_empty()).then(|| inquiry.covers.join("\n"));
        Approval {
            session: self.prepared.session.clone(),
            question,
            user: self.prepared.user.clone(),
            asked,
            expires,
            what: inquiry.what.clone(),
            why: inquiry.why.clone(),
            rule: covers.or_else(|| inquiry.rule.clone()),
            preview: inquiry.preview.clone(),
            digest: inquiry.digest.clone(),
            cost: cost.map_or(NanoUsd::ZERO, |budget| budget.spent),
            longest: longest(inquiry),
        }
    }

    /// Takes a person's answer, which is one to all that wait for it, and where it is about requests of a kind, to all questions
    /// about such.
    ///
    /// # Errors
    /// Why it is none: another was first, or nobody waits for it any more.
    pub(in crate::session) fn answer(
        &mut self,
        question: u64,
        reply: &Reply,
        by: &str,
        journal: &mut Journal,
    ) -> Result<(), String> {
        let Some(open) = self.questions.open.get(&question) else { return Err(self.gone(question)) };
        let inquiry = open.inquiry.clone();
        if reply.wants() > longest(&inquiry) {
            return Err(no_longer(&inquiry));
        }
        if *reply == Reply::Always {
            self.consent(question, &inquiry, by, journal).map_err(|error| error.to_string())?;
        }
        self.conclude(question, reply, by, journal).map_err(|error| error.to_string())?;
        if matches!(reply, Reply::Session | Reply::Always) {
            let open = self.questions.open.iter();
            let alike: Vec<u64> =
                open.filter(|(_, open)| is_alike(&open.inquiry, &inquiry)).map(|(question, _)| *question).collect();
            for question in alike {
                // What cannot be recorded has no effect: it goes on waiting.
                let _ = self.conclude(question, reply, by, journal);
            }
        }
        Ok(())
    }

    fn gone(&self, question: u64) -> String {
        let closed = self.questions.closed.iter().find(|(closed, _)| *closed == question);
        closed.map_or_else(
            || "nobody waits for its answer any more".to_owned(),
            |(_, how)| format!("it was answered already: {how}"),
        )
    }

    /// Records and keeps a consent.
    fn consent(&self, question: u64, inquiry: &Inquiry, by: &str, journal: &mut Journal) -> Result<(), StoreError> {
        let session = self.prepared.session.clone();
        let (id, now) = (format!("{session}-{question}"), clock::now());
        let Inquiry { covers, asked_by, .. } = inquiry.clone();
        let (consent, by) = (id.clone(), by.to_owned());
        let given = Event::ConsentGiven {
            consent,
            question,
            covers: covers.clone(),
            asked_by: asked_by.clone(),
            by: by.clone(),
        };
        journal.record(now, &given)?;
        journal.sync()?;
        let consent = StandingConsent {
            id,
            user: self.prepared.user.clone(),
            profile: self.prepared.request.profile.name.clone(),
            workspace: self.prepared.plan.directory.display().to_string(),
            covers,
            asked_by,
            by,
            session,
            at: now,
        };
        give_consent(self.home, consent)
    }

    /// Closes a question with a person's answer, and tells all that wait for it.
    fn conclude(&mut self, question: u64, reply: &Reply, by: &str, journal: &mut Journal) -> Result<(), StoreError> {
        let reason = match reply {
            Reply::Deny(reason) => reason.clone(),
            _ => None,
        };
        self.close(question, reply.word(), Some(by), reason.clone(), journal)?;
        let Some(Open { waiters, inquiry, .. }) = self.questions.open.remove(&question) else { return Ok(()) };
        let answer = match reply {
            Reply::Deny(_) => {
                let said = reason.map_or_else(String::new, |reason| format!(": {reason}"));
                let why = format!("{by} said no{said} ({})", inquiry.why);
                let until = Instant::now() + NO_LASTS;
                remember(&mut self.questions.refused, (inquiry.digest.clone(), until, why.clone()));
                inquiry.doubt.map(|doubt| self.kept.insert(doubt, (until, why.clone())));
                Answer::Denied(why)
            }
            _ => {
                let lasting = *reply == Reply::Session;
                if lasting {
                    self.questions.granted.keep(&inquiry, by);
                }
                match inquiry.doubt {
                    Some(Doubt::HardLimit(policy)) if lasting => self.raise(policy, by, journal),
                    Some(doubt) if lasting => drop(self.waived.insert(doubt)),
                    Some(doubt) => {
                        for (_, request) in &waiters {
                            self.waived_once.entry(*request).or_default().insert(doubt);
                        }
                    }
                    None => {}
                }
                Answer::Consented { by: by.to_owned(), lasting }
            }
        };
        waiters.iter().for_each(|(number, _)| self.say(*number, answer.clone()));
        Ok(())
    }

    /// Whether it waits at the limit of a window that is over.
    fn has_turned_over(&self, inquiry: &Inquiry) -> bool {
        let Some(index) = pause::paused_by(inquiry.doubt) else { return false };
        let window = self.prepared.spend.get(index).map(|policy| self.moment().window_of(policy));
        window.is_some_and(|window| self.pauses.has_turned_over(index, window))
    }

    /// Raises a hard limit for this session, and has the record say so.
    fn raise(&mut self, index: usize, by: &str, journal: &mut Journal) {
        let Some(policy) = self.prepared.spend.get(index) else { return };
        let limit = self.pauses.raise(index, policy, self.moment().window_of(policy));
        // A journal that fails once fails for good, and nothing is let go after that.
        let raised = Event::BudgetRaised { policy: policy.name.clone(), by: by.to_owned(), limit };
        let _ = journal.record(clock::now(), &raised);
    }

    /// Records what became of a question, on the disk before it has an effect.
    fn close(
        &mut self,
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
        let how = by.map_or_else(|| answer.to_owned(), |by| format!("{answer}, by {by}"));
        remember(&mut self.questions.closed, (question, how));
        if let Some(list) = &self.questions.list {
            // The list is for reading: who finds the question there still is told that it is closed.
            let _ = list.answer(&self.prepared.session, question, answer, by.unwrap_or_default(), now);
        }
        Ok(())
    }

    /// Whoever asked by this number does not wait any more; where nobody else does, the question is over.
    pub(in crate::session) fn withdraw(&mut self, number: u64, journal: &mut Journal) {
        if self.withdraw_call(number) {
            return;
        }
        let mut over = None;
        for (question, open) in &mut self.questions.open {
            let before = open.waiters.len();
            open.waiters.retain(|(waits, _)| *waits != number);
            if before > 0 && open.waiters.is_empty() {
                over = Some(*question);
            }
        }
        if let Some(question) = over {
            self.questions.open.remove(&question);
            let _ = self.close(question, "cancelled", None, None, journal);
        }
    }

    /// When the next question is denied for want of an answer.
    pub(in crate::session) fn due(&self) -> Option<Instant> {
        self.questions.open.values().map(|open| open.expires).min()
    }

    /// Denies what nobody answered in time.
    pub(in crate::session) fn expire(&mut self, journal: &mut Journal) {
        let now = Instant::now();
        let open = self.questions.open.iter();
        let late: Vec<u64> = open.filter(|(_, open)| open.expires <= now).map(|(question, _)| *question).collect();
        for question in late {
            let Some(Open { waiters, inquiry, .. }) = self.questions.open.remove(&question) else { continue };
            let (word, answer) = match self.has_turned_over(&inquiry) {
                true => ("turned_over", Answer::Consented { by: String::new(), lasting: false }),
                false => ("expired", Answer::Denied(format!("nobody answered in time ({})", inquiry.why))),
            };
            let _ = self.close(question, word, None, None, journal);
            waiters.iter().for_each(|(number, _)| self.say(*number, answer.clone()));
        }
    }

    /// The first question that waits, but for those that were left for later.
    pub(in crate::session) fn foremost(&self, later: &BTreeSet<u64>) -> Option<Asked> {
        let open = &self.questions.open;
        let (_, first) = open.iter().find(|(question, _)| !later.contains(question))?;
        let Prepared { request, plan, .. } = self.prepared;
        Some(Asked {
            approval: first.approval.clone(),
            waiters: first.waiters.len(),
            questions: open.len(),
            place: format!("{} in {}", request.profile.name, plan.directory.display()),
        })
    }

    /// Whether a question waits.
    pub(in crate::session) fn is_asking(&self) -> bool {
        !self.questions.open.is_empty()
    }
}

/// For how long a yes to it can count.
fn longest(inquiry: &Inquiry) -> Longest {
    let Inquiry { doubt, covers, asked_by, .. } = inquiry;
    match (doubt, covers.is_empty()) {
        (Some(_), _) => Longest::Session,
        (None, true) => Longest::Once,
        (None, false) if asked_by.is_empty() => Longest::Session,
        (None, false) => Longest::Always,
    }
}

/// Why a yes to it cannot count as long as that.
fn no_longer(inquiry: &Inquiry) -> String {
    let Inquiry { doubt, covers, .. } = inquiry;
    let why = match (doubt, covers.is_empty()) {
        (Some(_), _) => {
            "what may be spent in later sessions is said in a policy: raise its limit there; for this session answer \
             with --session"
        }
        (None, true) => "no rule covers such requests alone, so it can be answered only once",
        (None, false) => {
            "it is to be asked about at each use, as `approve: use` says: write `approve: host` or `session` there; \
             for this session answer with --session"
        }
    };
    why.to_owned()
}

fn failed(error: StoreError) -> String {
    format!("a person must say, and nobody can be asked: {}", printable(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::discreet;

    #[test]
    fn what_others_may_see_names_the_host_and_nothing_of_what_is_sent() {
        assert_eq!(discreet("POST https://api.example.com/secret?key=1"), "POST api.example.com");
        assert_eq!(discreet("CONNECT tcp://db.example.com:5432"), "CONNECT db.example.com:5432");
        assert_eq!(discreet("ssh git@github.com by the key SHA256:abc"), "ssh github.com");
    }
}
