//! The session's policy as it stands, and what its rules have let through by now.

use super::amend::PolicySource;
use super::standing::Standing;
use crate::model::{Host, NanoUsd, Port, RequestLine};
use crate::policy::{
    Act, Allowance, Effect, Grant, History, Level, Particulars, Policy, PolicyErrors, Question, Refusal, RequestFacts,
    RuleSource, SessionFacts,
};
use crate::policy::{Tally, TooMany, Verdict, WrittenRule};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::watch;

/// Most answers that hold for the rest of the session.
const CONSENTS_MAX: usize = 1_000;
/// Most hosts that are remembered; those beyond stay new.
const HOSTS_MAX: usize = 10_000;
/// What rules are called that were added while the session ran.
const ADDED: &str = "added while it runs";

/// Judges requests, by rules that can be added to.
pub(super) struct Ruling {
    policy: RwLock<Policy>,
    tally: Mutex<Tally>,
    /// What a person said yes to for the rest of the session: the rules that asked, and what it was about.
    consents: Mutex<Vec<(BTreeSet<String>, Policy)>>,
    /// The rules that were added while the session runs.
    added: Mutex<Vec<WrittenRule>>,
    /// What the session did by now.
    done: Mutex<BTreeSet<Act>>,
    /// What else it did, for conditions to ask about.
    history: Mutex<History>,
    /// What of it does not change.
    session: SessionFacts,
    started: Instant,
    /// Tells those that stay open that a rule came.
    changed: watch::Sender<()>,
}

impl Ruling {
    /// Begins with this policy, nothing let through yet.
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy: RwLock::new(policy),
            tally: Mutex::default(),
            consents: Mutex::default(),
            added: Mutex::default(),
            done: Mutex::default(),
            history: Mutex::default(),
            session: SessionFacts::default(),
            started: Instant::now(),
            changed: watch::Sender::default(),
        }
    }

    /// The same, for a session of which this is known.
    pub(super) fn of(self, session: SessionFacts) -> Self {
        Self { session, ..self }
    }

    /// What of the session does not change.
    pub(super) fn session(&self) -> &SessionFacts {
        &self.session
    }

    /// What the session did by now, and spent, where a condition could ask about it.
    pub(super) fn history(&self, (spent, calls): (NanoUsd, u64)) -> Option<History> {
        let asks = self.policy.read().unwrap_or_else(PoisonError::into_inner).has_clauses();
        let seconds = self.started.elapsed().as_secs();
        asks.then(|| History { spent, calls, seconds, ..self.past().clone() })
    }

    fn past(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hash of the policy as it is now.
    pub(super) fn hash(&self) -> String {
        self.policy().hash()
    }

    /// The policy as it is now.
    fn policy(&self) -> Policy {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Judges one request.
    pub(super) fn decide_with(&self, facts: RequestFacts, by: &Particulars<'_>) -> Verdict {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).decide_with(facts, by)
    }

    /// Judges the request that exchanges a secret's key for a token.
    pub(super) fn decide_exchange(&self, line: RequestLine, secret: &str) -> Result<Grant, Box<Refusal>> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).decide_exchange(line, secret)
    }

    /// Whether connections to a place go by `tcp` rules from their first byte on.
    pub(super) fn carries_unread(&self, host: &Host, port: Port) -> bool {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).carries_unread(host, port)
    }

    /// Whether TLS to a place goes by `passthrough` rules, unopened.
    pub(super) fn refuses_place(&self, host: &Host, port: Port) -> bool {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).refuses_place(host, port)
    }

    /// As [`Policy::passes_tls`], by the rules of now.
    pub(super) fn passes_tls(&self, host: &Host, port: Port) -> bool {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).passes_tls(host, port)
    }

    /// Counts a request that was granted.
    pub(super) fn admit(&self, grant: &Grant) -> Result<Allowance, TooMany> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).admit(grant, self.started.elapsed())
    }

    /// What the session did by now.
    pub(super) fn done(&self) -> Vec<Act> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Remembers what a request does that is let through, where it goes, how long its body says it is, and what secrets go with
    /// it.
    pub(super) fn remember(&self, act: Option<Act>, line: &RequestLine, length: Option<u64>, secrets: Vec<String>) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).extend(act);
        let mut past = self.past();
        past.requests += 1;
        past.uploaded = past.uploaded.saturating_add(length.unwrap_or_default());
        past.acts.extend(act.map(|act| act.to_string()));
        past.secrets.extend(secrets);
        let is_known = matches!(&line.host, Host::Name(name) if past.hosts.contains(name.as_str()));
        if !is_known && past.hosts.len() < HOSTS_MAX {
            past.hosts.insert(line.host.to_string());
        }
    }

    /// Lets what a person said yes to stay so, for requests like this one.
    pub(super) fn consent(&self, question: &Question) {
        let rules: Vec<_> = question.covers.iter().map(|rule| WrittenRule::alone(Effect::Allow, rule)).collect();
        let source = RuleSource { level: Level::Session, label: ADDED, rules: &rules };
        if let Ok(policy) = Policy::compile(&[source]) {
            let mut consents = self.consents.lock().unwrap_or_else(PoisonError::into_inner);
            if consents.len() < CONSENTS_MAX {
                consents.push((question.asked_by.clone(), policy));
            }
        }
    }

    /// The permission, where a person said yes for the rest of the session.
    pub(super) fn consented(&self, question: Box<Question>, by: &Particulars<'_>) -> Result<Grant, Box<Question>> {
        let consents = self.consents.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |(asked_by, policy): &&(BTreeSet<String>, Policy)| {
            let facts = RequestFacts { line: question.line.clone(), disagreement: None };
            question.asked_by.is_subset(asked_by) && matches!(policy.decide_with(facts, by), Verdict::Allow(_))
        };
        match consents.iter().find(covers) {
            Some((asked_by, _)) => question.consented(asked_by),
            None => Err(question),
        }
    }

    /// The policy with one more rule of the session's level, which does not count yet, and that rule's canonical form.
    pub(super) fn with(&self, rule: &WrittenRule) -> Result<(Policy, String), PolicyErrors> {
        let source = RuleSource { level: Level::Session, label: ADDED, rules: std::slice::from_ref(rule) };
        let alone = Policy::compile(&[source])?;
        let canonical = alone.rules().map(ToString::to_string).collect();
        Ok((self.policy().adding(&source)?, canonical))
    }

    /// Remembers a rule that was added.
    pub(super) fn add(&self, rule: WrittenRule) {
        self.added.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// A policy of these files in place of the one that counts, with the rules that were added; it does not count yet.
    pub(super) fn made_of(&self, files: &[PolicySource]) -> Result<Policy, PolicyErrors> {
        let added = self.added.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut sources: Vec<RuleSource<'_>> = files.iter().map(PolicySource::rules).collect();
        sources.push(RuleSource { level: Level::Session, label: ADDED, rules: &added });
        let mut policy = Policy::compile(&sources)?.in_place_of(&self.policy());
        for PolicySource { level, label, clauses, .. } in files {
            policy = policy.with_clauses(*level, label, clauses)?;
        }
        Ok(policy)
    }

    /// Lets a policy count from the next request on, on every connection.
    pub(super) fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
        self.changed.send_replace(());
    }

    /// Waits until the policy would not let through any more what is open.
    pub(super) async fn until_refused(&self, standing: &Standing) {
        let mut changes = self.changed.subscribe();
        // A rule may have come since it was judged.
        while standing.passes(&self.policy(), &self.session, self.history(Default::default()).as_ref()) {
            // The sender is this very value.
            let _ = changes.changed().await;
        }
    }
}
