//! The session's policy as it stands, and what its rules have let through by now.

use super::amend::PolicySource;
use super::consent::Yes;
use super::secret_reads::SecretFiles;
use super::settle::Tab;
use super::standing::{AsOf, Standing};
use crate::model::{Host, Port, RequestLine};
use crate::policy::{
    Act, Allowance, Effect, Grant, History, Level, Particulars, Policy, PolicyErrors, Question, Refusal, RequestFacts,
    RuleSource, SessionFacts,
};
use crate::policy::{Tally, TooMany, Verdict, WrittenRule};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;
use tokio::sync::watch;

/// Most answers that hold for the rest of the session.
const CONSENTS_MAX: usize = 1_000;
/// Most hosts that are remembered; those beyond stay new.
const HOSTS_MAX: usize = 10_000;
/// Most secret files that are told to have been read; more change nothing.
const SECRET_FILES_MAX: usize = 1_000;
/// What counts as read where it cannot be known what was.
const UNWATCHED: &str = "(not every file that looks like a secret could be watched)";
/// Why what was let through is cut: a file was read, and where the policy is not the one any more that let it through, that
/// may be why as well.
const READ_MEANWHILE: &str = "a secret file was read since it began, after which it would not be let through";
const READ_OR_RULED: &str =
    "a secret file was read and the policy changed since it began, after which it would not be let through";
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
    past: Mutex<Past>,
    /// What of it does not change.
    session: SessionFacts,
    /// What it spent.
    tab: Arc<Tab>,
    started: Instant,
    /// What says which secret files were read.
    files: OnceLock<SecretFiles>,
    /// Tells those that stay open that a rule came, and how many times one did.
    changed: watch::Sender<u64>,
}

/// What a session did by now.
struct Past {
    history: History,
    /// Secret files that were read, and that the record does not say yet.
    untold: Vec<String>,
}

impl Ruling {
    /// Begins with this policy, nothing let through yet.
    pub(super) fn new(policy: Policy) -> Self {
        // Until somebody watches, nobody knows.
        let secret_files = BTreeSet::from([UNWATCHED.to_owned()]);
        let past = Past {
            history: History { secret_files: Arc::new(secret_files), ..History::default() },
            untold: Vec::new(),
        };
        Self {
            policy: RwLock::new(policy),
            tally: Mutex::default(),
            consents: Mutex::default(),
            added: Mutex::default(),
            past: Mutex::new(past),
            session: SessionFacts::default(),
            tab: Arc::default(),
            started: Instant::now(),
            files: OnceLock::new(),
            changed: watch::Sender::default(),
        }
    }

    /// The same, for a session of which this is known, and whose model calls are entered there.
    pub(super) fn of(self, session: SessionFacts, tab: Arc<Tab>) -> Self {
        Self { session, tab, ..self }
    }

    /// Knows from now on which secret files are read. Before the harness begins.
    pub(super) fn watch(&self, files: SecretFiles) {
        let mut past = self.past();
        match (files.complete, files.wanted) {
            (true, _) => past.history.secret_files = Arc::default(),
            (false, true) => past.untold.push(UNWATCHED.to_owned()),
            (false, false) => {}
        }
        // There is one watch.
        let _ = self.files.set(files);
    }

    /// Whether something says which secret files are read.
    pub(super) fn watches_files(&self) -> bool {
        self.files.get().is_some()
    }

    /// Takes in which secret files were read by now; how many are known to have been.
    pub(super) fn attend(&self) -> u64 {
        let Some(files) = self.files.get() else { return 0 };
        let mut past = self.past();
        let Past { history, untold } = &mut *past;
        for path in files.opened() {
            if history.secret_files.len() < SECRET_FILES_MAX && !history.secret_files.contains(&path) {
                Arc::make_mut(&mut history.secret_files).insert(path.clone());
                untold.push(path);
            }
        }
        history.secret_files.len() as u64
    }

    /// The secret files that were read and that the record does not say yet: the caller has it say so.
    pub(super) fn untold_reads(&self) -> Vec<String> {
        if self.watches_files() { std::mem::take(&mut self.past().untold) } else { Vec::new() }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, with what was spent by now, and how long the session takes already.
    fn past_of_now(&self) -> MutexGuard<'_, Past> {
        let mut past = self.past();
        let history = &mut past.history;
        (history.spent, history.calls) = self.tab.sum();
        history.seconds = self.started.elapsed().as_secs();
        past
    }

    /// The hash of the policy as it is now.
    pub(super) fn hash(&self) -> String {
        self.policy().hash()
    }

    /// The policy as it is now.
    fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges one request, by what the session is, did and spent as well; and as of when.
    pub(super) fn decide(&self, facts: RequestFacts, by: &Particulars<'_>) -> (Verdict, AsOf) {
        let reads = self.attend();
        // Before the policy is looked at: one that comes between the two is taken for a later one.
        let changes = *self.changed.borrow();
        let policy = self.policy();
        let past = self.past_of_now();
        let history = &past.history;
        let verdict =
            policy.decide_with(facts, &Particulars { session: Some(&self.session), history: Some(history), ..*by });
        let before = self.watches_files().then(|| history.clone());
        (verdict, AsOf { reads, changes, before })
    }

    /// The permission for what a rule asks about: a person said yes to it, or to what is like it for the rest of the session.
    ///
    /// # Errors
    /// The question, which is still open.
    pub(super) fn permit(
        &self,
        question: Box<Question>,
        yes: Option<&Yes>,
        by: &Particulars<'_>,
    ) -> Result<Grant, Box<Question>> {
        match yes {
            // It counts as long as the policy is the one that asked.
            Some(yes) if yes.policy == question.policy => question.consented(&yes.asked_by),
            _ => self.consented(question, by),
        }
    }

    /// Judges the request that exchanges a secret's key for a token.
    pub(super) fn decide_exchange(&self, line: RequestLine, secret: &str) -> Result<Grant, Box<Refusal>> {
        self.policy().decide_exchange(line, secret)
    }

    /// Whether connections to a place go by `tcp` rules from their first byte on.
    pub(super) fn carries_unread(&self, host: &Host, port: Port) -> bool {
        self.policy().carries_unread(host, port)
    }

    /// Whether TLS to a place goes by `passthrough` rules, unopened.
    pub(super) fn refuses_place(&self, host: &Host, port: Port) -> bool {
        self.policy().refuses_place(host, port)
    }

    /// As [`Policy::passes_tls`], by the rules of now.
    pub(super) fn passes_tls(&self, host: &Host, port: Port) -> bool {
        self.policy().passes_tls(host, port)
    }

    /// Counts a request that was granted.
    pub(super) fn admit(&self, grant: &Grant) -> Result<Allowance, TooMany> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).admit(grant, self.started.elapsed())
    }

    /// Remembers what a request does that is let through, where it goes, how long its body says it is, and what secrets go with
    /// it.
    pub(super) fn remember(&self, act: Option<Act>, line: &RequestLine, length: Option<u64>, secrets: &[String]) {
        let mut past = self.past();
        let history = &mut past.history;
        history.requests += 1;
        history.uploaded = history.uploaded.saturating_add(length.unwrap_or_default());
        history.acts.extend(act);
        history.secrets.extend(secrets.iter().cloned());
        let is_known = matches!(&line.host, Host::Name(name) if history.hosts.contains(name.as_str()));
        if !is_known && history.hosts.len() < HOSTS_MAX {
            Arc::make_mut(&mut history.hosts).insert(line.host.to_string());
        }
    }

    /// Lets what a person said yes to stay so, for requests like this one.
    pub(super) fn consent(&self, question: &Question) {
        let rules: Vec<_> = question.covers.iter().map(|rule| WrittenRule::alone(Effect::Allow, rule)).collect();
        let source = RuleSource { level: Level::Session, label: ADDED, rules: &rules, clauses: &[] };
        if let Ok(policy) = Policy::compile(&[source]) {
            let mut consents = self.consents.lock().unwrap_or_else(PoisonError::into_inner);
            if consents.len() < CONSENTS_MAX {
                consents.push((question.asked_by.clone(), policy));
            }
        }
    }

    fn consented(&self, question: Box<Question>, by: &Particulars<'_>) -> Result<Grant, Box<Question>> {
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
        let source =
            RuleSource { level: Level::Session, label: ADDED, rules: std::slice::from_ref(rule), clauses: &[] };
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
        let mut sources: Vec<RuleSource<'_>> = files.iter().map(PolicySource::said).collect();
        sources.push(RuleSource { level: Level::Session, label: ADDED, rules: &added, clauses: &[] });
        Ok(Policy::compile(&sources)?.in_place_of(&self.policy()))
    }

    /// Lets a policy count from the next request on, on every connection.
    pub(super) fn replace(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Waits until the policy would not let through any more what is open.
    pub(super) async fn until_refused(&self, standing: &Standing) {
        let mut changes = self.changed.subscribe();
        // A rule may have come since it was judged. What else happened since, its own doing too, is no reason to cut it.
        let mut came = *changes.borrow_and_update() != standing.as_of.changes;
        while !came || self.passes(standing, &self.history()) {
            // The sender is this very value.
            came = changes.changed().await.is_ok();
        }
    }

    /// Whether more of what is open may leave, now that secret files may have been read since it was judged. Nothing else that
    /// happened since counts, its own doing neither: it is judged by what was before it, and by the files.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn goes_on(&self, standing: &Standing) -> Result<(), &'static str> {
        let reads = self.attend();
        if standing.knew_of(reads) {
            return Ok(());
        }
        let history = match &standing.as_of.before {
            Some(before) => History { secret_files: self.past().history.secret_files.clone(), ..before.clone() },
            None => self.past_of_now().history.clone(),
        };
        if !self.passes(standing, &history) {
            let is_same = *self.changed.borrow() == standing.as_of.changes;
            return Err(if is_same { READ_MEANWHILE } else { READ_OR_RULED });
        }
        standing.judged(reads);
        Ok(())
    }

    /// What the session did, as of now.
    fn history(&self) -> History {
        self.attend();
        self.past_of_now().history.clone()
    }

    /// Whether what is open would be let through by the policy of now, after this.
    fn passes(&self, standing: &Standing, history: &History) -> bool {
        let policy = self.policy();
        if standing.is_to_be_read(&policy) {
            return false;
        }
        let (session, history) = (Some(&self.session), Some(history));
        let by = Particulars { session, history, ..standing.particulars() };
        match policy.decide_with(RequestFacts { line: standing.line.clone(), disagreement: None }, &by) {
            Verdict::Allow(_) => true,
            Verdict::Ask(question) => {
                question.asked_by.is_subset(&standing.asked_by) || self.consented(Box::new(question), &by).is_ok()
            }
            Verdict::Deny(_) => false,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::secret_reads::Watched;
    use super::*;
    use crate::model::{NanoUsd, Scheme};
    use crate::policy::parse_policy_file;

    const FILE: &str = "
policies:
  - { type: egress, rules: [{ allow: 'tcp://db.example:5432' }] }
  - { type: condition, effect: deny, condition: spend.session > 1.0 || session.user == 'eve' }
  - { type: condition, effect: deny, condition: '\"key\" in history.secrets' }
";

    fn ruling(user: &str) -> (Ruling, Arc<Tab>, RequestLine) {
        let file = parse_policy_file("test", FILE).unwrap();
        let policy = Policy::compile(&[file.source(Level::Organisation, "test")]).unwrap();
        let (tab, facts) =
            (Arc::new(Tab::default()), SessionFacts { user: user.to_owned(), ..SessionFacts::default() });
        let (host, port) = (Host::parse("db.example").unwrap(), Port(5432));
        let line = RequestLine { method: "CONNECT".to_owned(), scheme: Scheme::Tcp, host, port, path: "/".to_owned() };
        (Ruling::new(policy).of(facts, tab.clone()), tab, line)
    }

    fn judged(ruling: &Ruling, line: &RequestLine) -> Verdict {
        ruling.decide(RequestFacts { line: line.clone(), disagreement: None }, &Particulars::default()).0
    }

    #[test]
    fn a_connection_that_is_not_read_is_judged_by_session_and_spend_and_again_while_it_is_open() {
        let (ruling, tab, line) = ruling("ann");
        let standing = open(&ruling, &line);
        assert!(ruling.passes(&standing, &ruling.history()));
        tab.enter(NanoUsd(2_000_000_000));
        assert!(matches!(judged(&ruling, &line), Verdict::Deny(_)) && !ruling.passes(&standing, &ruling.history()));
        let (ruling, _, line) = self::ruling("eve");
        assert!(matches!(judged(&ruling, &line), Verdict::Deny(_)));
    }

    /// What is open once it was let through, as it was judged.
    fn open(ruling: &Ruling, line: &RequestLine) -> Standing {
        let by = Particulars::default();
        let facts = RequestFacts { line: line.clone(), disagreement: None };
        let (Verdict::Allow(grant), as_of) = ruling.decide(facts, &by) else { panic!("allowed") };
        Standing::new(&grant, as_of, &by)
    }

    /// Has a ruling hear of each reading of a file that looks like a secret, and gives out that file.
    fn watch(ruling: &Ruling, place: &std::path::Path) -> std::path::PathBuf {
        use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
        let file = place.join(".env");
        std::fs::write(&file, "x").unwrap();
        let notices = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let watch = inotify::add_watch(&notices, &file, WatchFlags::OPEN).unwrap();
        let watched = [(watch, Watched::File(".env".to_owned()))].into();
        ruling.watch(SecretFiles { notices, watched, complete: true, wanted: true });
        file
    }

    #[test]
    fn a_secret_that_was_read_cuts_what_is_open_where_a_rule_minds_and_what_else_happened_does_not() {
        let place = tempfile::tempdir().unwrap();
        let (ruling, tab, line) = ruling("ann");
        let file = watch(&ruling, place.path());
        let standing = open(&ruling, &line);
        // Its own doing and what came after it would have what begins now denied.
        ruling.remember(None, &line, None, &["key".to_owned()]);
        tab.enter(NanoUsd(2_000_000_000));
        std::fs::read(&file).unwrap();
        assert!(matches!(judged(&ruling, &line), Verdict::Deny(_)));
        assert_eq!(ruling.goes_on(&standing), Ok(()));
        // Where a rule is about what was read, it is cut.
        let text = "{ type: condition, effect: deny, condition: 'size(history.secret_files) > 0' }";
        let file_of = |text: &str| parse_policy_file("test", &format!("{FILE}  - {text}\n")).unwrap();
        let policy = Policy::compile(&[file_of(text).source(Level::Organisation, "test")]).unwrap();
        let minding = Ruling::new(policy);
        let file = watch(&minding, place.path());
        let standing = open(&minding, &line);
        assert_eq!(minding.goes_on(&standing), Ok(()));
        std::fs::read(&file).unwrap();
        assert_eq!(minding.goes_on(&standing), Err(READ_MEANWHILE));
    }

    #[tokio::test]
    async fn what_is_open_is_judged_again_when_the_policy_changes_and_not_for_what_it_did_itself() {
        let (ruling, _, line) = ruling("ann");
        let standing = open(&ruling, &line);
        ruling.remember(None, &line, None, &["key".to_owned()]);
        let mut refused = Box::pin(ruling.until_refused(&standing));
        assert!(std::future::Future::poll(refused.as_mut(), &mut noop()).is_pending(), "nothing changed");
        let rule = WrittenRule::alone(Effect::Deny, "tcp://db.example:5432");
        let (policy, _) = ruling.with(&rule).unwrap();
        ruling.replace(policy);
        refused.await;
        // One that came between the judging and the waiting counts, too.
        ruling.until_refused(&standing).await;
    }

    fn noop() -> std::task::Context<'static> {
        std::task::Context::from_waker(std::task::Waker::noop())
    }

    #[test]
    fn what_went_along_is_history_from_then_on() {
        let (ruling, _, line) = ruling("ann");
        ruling.remember(None, &line, Some(3), &["key".to_owned()]);
        assert!(matches!(judged(&ruling, &line), Verdict::Deny(_)));
    }
}
