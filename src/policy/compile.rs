//! Rules become a policy, and a policy judges requests.

use super::clause::{Clause, WrittenClause};
use super::condition::Particulars;
use super::error::{Complaint, PolicyErrors, refuse_any};
use super::git_push::RefUpdate;
use super::index::Index;
use super::matcher::{Matcher, is_method};
use super::overriding::{Overriding, overriding};
use super::quota::Quota;
use super::rule::{Effect, Level, Rule, WrittenRule};
use super::verdict::{Grant, NamedRule, Question, Refusal, RequestFacts, Verdict};
use crate::model::{Host, Port, RequestLine, Scheme};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// Most rules that are named beside the one that decides.
const ALSO_MAX: usize = 16;
/// What the hashed text of a policy begins with, so that it is taken for nothing else.
const HASH_DOMAIN: &str = "omni policy 1\n";

/// What one origin says of requests.
#[derive(Debug, Clone, Copy)]
pub struct RuleSource<'a> {
    /// Who they come from.
    pub level: Level,
    /// The file's name, or where else they come from, such as `--allow`.
    pub label: &'a str,
    /// The rules.
    pub rules: &'a [WrittenRule],
    /// The conditions on what rules let through.
    pub clauses: &'a [WrittenClause],
}

/// The rules that are about one request, the strictest first.
struct About<'p, 'u> {
    rules: Vec<&'p Rule>,
    /// For each reference that the request changes, or once for none, the rule that decides.
    deciding: Vec<(Option<&'u RefUpdate>, Option<&'p Rule>)>,
}

impl<'p, 'u> About<'p, 'u> {
    /// The strictest of the rules that decide about each reference, with that reference; or the first reference about which
    /// none does.
    fn decides(&self) -> Result<(&'p Rule, Option<&'u RefUpdate>), Option<&'u RefUpdate>> {
        let mut strictest: Option<(&Rule, Option<&RefUpdate>)> = None;
        for (update, rule) in &self.deciding {
            if let Some(rule) = rule
                && strictest.is_none_or(|(other, _)| rule.effect() > other.effect())
            {
                strictest = Some((rule, *update));
            }
        }
        let missing = self.deciding.iter().find(|(_, rule)| rule.is_none()).map(|(update, _)| *update);
        match (strictest, missing) {
            // A refusal that a rule makes is told rather than one for want of a rule.
            (Some((rule, update)), missing) if rule.effect() == Effect::Deny || missing.is_none() => Ok((rule, update)),
            (_, missing) => Err(missing.flatten()),
        }
    }

    /// Those besides the one that decides, for a person.
    fn also(&self, decides: &Rule) -> Vec<String> {
        let others = self.rules.iter().filter(|rule| !std::ptr::eq(**rule, decides));
        let told = |rule: &&Rule| format!("{} {} ({} {})", rule.effect(), rule.text(), rule.level(), rule.place());
        others.take(ALSO_MAX).map(told).collect()
    }

    /// Those that ask.
    fn asking(&self) -> BTreeSet<String> {
        self.rules.iter().filter(|rule| rule.effect() == Effect::Ask).map(ToString::to_string).collect()
    }

    /// What they cap, each once.
    fn quota(&self) -> Vec<(Arc<str>, Quota)> {
        let capping = self.rules.iter().filter(|rule| !rule.quota().is_none());
        let mut quota: Vec<_> = capping.map(|rule| (rule.canonical().clone(), rule.quota().clone())).collect();
        quota.sort();
        quota.dedup();
        quota
    }
}

/// A compiled set of rules: canonical, immutable, cheap to clone. The order of what it was made from changes nothing.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Sorted, the strictest first, with no two of the same meaning.
    rules: Arc<[Rule]>,
    index: Arc<Index>,
    /// Whether any rule lets connections through unread.
    has_opaque: bool,
    /// What else the session is held to, as its hash covers it.
    besides: Arc<[String]>,
    /// Conditions on what rules let through, the strictest first.
    clauses: Arc<[Clause]>,
    /// Its hash, once somebody wanted it.
    hash: Arc<OnceLock<String>>,
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules && self.besides == other.besides && self.clauses == other.clauses
    }
}

impl Eq for Policy {}

impl Policy {
    /// Compiles what any number of origins say.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, each with its place and a hint.
    pub fn compile(sources: &[RuleSource<'_>]) -> Result<Self, PolicyErrors> {
        Self::of(Vec::new(), Vec::new()).extended(sources)
    }

    /// The same policy with what further origins say.
    fn extended(&self, sources: &[RuleSource<'_>]) -> Result<Self, PolicyErrors> {
        let (mut rules, mut clauses) = (self.rules.to_vec(), self.clauses.to_vec());
        let mut errors = Vec::new();
        for source in sources {
            match parsed(source) {
                Ok((more, further)) => {
                    rules.extend(more);
                    clauses.extend(further);
                }
                Err(PolicyErrors(more)) => errors.extend(more),
            }
        }
        let besides = self.besides.clone();
        if errors.is_empty() { Ok(Self { besides, ..Self::of(rules, clauses) }) } else { Err(PolicyErrors(errors)) }
    }

    /// The same policy with further rules and conditions. What it refused by a rule it still refuses: the strictest wins,
    /// whenever it came.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its place and a hint.
    pub fn adding(&self, source: &RuleSource<'_>) -> Result<Self, PolicyErrors> {
        self.extended(std::slice::from_ref(source))
    }

    /// The same rules and conditions, beside what else another policy holds the session to.
    #[must_use]
    pub fn in_place_of(self, other: &Self) -> Self {
        Self { besides: other.besides.clone(), hash: Arc::default(), ..self }
    }

    /// The same rules, with a hash that covers further policies, such as those about money.
    #[must_use]
    pub fn covering(self, besides: impl IntoIterator<Item = String>) -> Self {
        Self { besides: besides.into_iter().collect(), hash: Arc::default(), ..self }
    }

    fn of(mut rules: Vec<Rule>, mut clauses: Vec<Clause>) -> Self {
        clauses.sort_by_key(|clause| (std::cmp::Reverse(clause.effect()), clause.to_string()));
        rules.sort_by(|a, b| a.rank().cmp(&b.rank()));
        rules.dedup_by(|later, earlier| later.means(earlier));
        let mut index = Index::default();
        for (number, rule) in rules.iter().enumerate() {
            index.add(number, rule.matcher());
        }
        let has_opaque = rules.iter().any(|rule| rule.matcher().scheme().is_opaque());
        let (besides, clauses, hash) = (Arc::new([]), clauses.into(), Arc::default());
        Self { rules: rules.into(), index: Arc::new(index), has_opaque, besides, clauses, hash }
    }

    /// Whether connections to a place go by `tcp` rules from their first byte on. Where a rule about HTTP or TLS concerns
    /// the place too, or where these have their own port, the first bytes are looked at, so that no `tcp` rule takes from
    /// another what that is about.
    #[must_use]
    pub fn carries_unread(&self, host: &Host, port: Port) -> bool {
        self.has_opaque
            && ![Port(80), Port(443)].contains(&port)
            && self.at(host, port).iter().any(|rule| rule.matcher().scheme() == Scheme::Tcp)
            && self.at(host, port).iter().all(|rule| rule.matcher().scheme() == Scheme::Tcp || rule.limits_unread())
            && !self.clauses.iter().any(|clause| clause.concerns_place(host, port))
    }

    /// Whether nothing that comes to a place could be allowed, as far as its host and port tell. On the ports of HTTP and
    /// HTTPS that is left to the request, whose refusal says more.
    #[must_use]
    pub fn refuses_place(&self, host: &Host, port: Port) -> bool {
        let opens = |rule: &&Rule| matches!(rule.effect(), Effect::Allow | Effect::Ask);
        ![Port(80), Port(443)].contains(&port) && !self.at(host, port).iter().any(opens)
    }

    /// Whether TLS to a place goes by `passthrough` rules, unopened. Where a rule asks about, refuses or limits requests to
    /// the place, TLS is opened, since that rule could not be kept otherwise.
    #[must_use]
    pub fn passes_tls(&self, host: &Host, port: Port) -> bool {
        let about_requests = |rule: &&Rule| {
            rule.effect() != Effect::Allow && rule.matcher().scheme() == Scheme::Https && !rule.limits_unread()
        };
        self.has_opaque
            && self.at(host, port).iter().any(|rule| rule.matcher().scheme() == Scheme::Tls)
            && !self.at(host, port).iter().any(about_requests)
            && !self.clauses.iter().any(|clause| clause.concerns_place(host, port))
    }

    /// The rules about some request to a place.
    fn at(&self, host: &Host, port: Port) -> Vec<&Rule> {
        // A path that can be read in several ways leaves out no rule for its path.
        let (method, path) = ("CONNECT".to_owned(), "//".to_owned());
        let line = RequestLine { method, scheme: Scheme::Tcp, host: host.clone(), port, path };
        self.candidates(&line).filter(|rule| rule.matcher().concerns_place(host, port)).collect()
    }

    /// Judges a request of which nothing is known but its line.
    pub fn decide(&self, facts: RequestFacts) -> Verdict {
        self.decide_with(facts, &Particulars::default())
    }

    /// Judges one request: the strictest rule that matches decides, and what no rule matches is refused. A push is judged
    /// for each reference that it changes, and the strictest of these verdicts is its verdict.
    pub fn decide_with(&self, facts: RequestFacts, by: &Particulars<'_>) -> Verdict {
        let RequestFacts { line, disagreement } = facts;
        if let Some(names) = disagreement {
            let reason = format!("{} and {} are not the same host", names.first, names.second);
            return Verdict::Deny(Refusal { line, rule: None, also: Vec::new(), reason, rule_to_add: None });
        }
        match overriding(&line.method, by.headers) {
            Overriding::None => self.decide_by_line(line, by),
            Overriding::Unclear => {
                let reason = "the headers that name another method for it contradict each other".to_owned();
                Verdict::Deny(Refusal { line, rule: None, also: Vec::new(), reason, rule_to_add: None })
            }
            Overriding::By(method) => self.decide_as_both(line, method, by),
        }
    }

    /// Judges a request that a server may take for one of another method: both have to be allowed.
    fn decide_as_both(&self, line: RequestLine, method: String, by: &Particulars<'_>) -> Verdict {
        let other = RequestLine { method, ..line.clone() };
        let method = other.method.clone();
        match self.decide_by_line(other, by) {
            Verdict::Allow(_) => self.decide_by_line(line, by),
            Verdict::Ask(Question { rule, also, .. }) => {
                let reason = format!("a header asks for it to be taken for {method}, about which `{}` asks", rule.text);
                Verdict::Deny(Refusal { line, rule: Some(rule), also, reason, rule_to_add: None })
            }
            Verdict::Deny(Refusal { rule, also, reason, rule_to_add, .. }) => {
                let reason = format!("a header asks for it to be taken for {method}, and {reason}");
                Verdict::Deny(Refusal { line, rule, also, reason, rule_to_add })
            }
        }
    }

    fn decide_by_line(&self, line: RequestLine, by: &Particulars<'_>) -> Verdict {
        let verdict = self.decide_by_rules(line, by);
        match self.clauses.is_empty() {
            true => verdict,
            false => self.clauses.iter().fold(verdict, |verdict, clause| self.tightened(verdict, clause, by)),
        }
    }

    /// What becomes of a verdict by a condition on what it lets through.
    fn tightened(&self, verdict: Verdict, clause: &Clause, by: &Particulars<'_>) -> Verdict {
        let line = match &verdict {
            Verdict::Allow(grant) => grant.line(),
            Verdict::Ask(question) => &question.line,
            Verdict::Deny(_) => return verdict,
        };
        let held = clause.holds(line, by);
        if matches!(held, Ok(false)) {
            return verdict;
        }
        let (line, rule) = (line.clone(), clause.named().clone());
        match (held, verdict) {
            (Err(why), verdict) => {
                let NamedRule { text, from } = &rule;
                let reason = format!("whether the condition `{text}` of the {from} holds cannot be said: {why}");
                Verdict::Deny(Refusal { line, also: outweighed(verdict), rule: Some(rule), reason, rule_to_add: None })
            }
            (Ok(true), Verdict::Ask(mut question)) if clause.effect() == Effect::Ask => {
                question.asked_by.insert(clause.to_string());
                question.also.push(format!("ask {} ({})", rule.text, rule.from));
                Verdict::Ask(question)
            }
            (Ok(true), Verdict::Allow(grant)) if clause.effect() == Effect::Ask => {
                let (asked_by, covers) = (BTreeSet::from([clause.to_string()]), narrowest(&line, by.updates));
                let quota = grant.quota().to_vec();
                let also = outweighed(Verdict::Allow(grant));
                Verdict::Ask(Question::new(line, rule, asked_by, covers, self.hash(), quota, also))
            }
            (Ok(_), verdict) => {
                let NamedRule { text, from } = &rule;
                let reason = format!("the condition `{text}` of the {from} refuses it");
                Verdict::Deny(Refusal { line, also: outweighed(verdict), rule: Some(rule), reason, rule_to_add: None })
            }
        }
    }

    fn decide_by_rules(&self, line: RequestLine, by: &Particulars<'_>) -> Verdict {
        let about = self.about(&line, by);
        let (rule, update) = match about.decides() {
            Ok(found) => found,
            Err(update) => {
                let what = update.map_or_else(String::new, |update| format!(" to {update}"));
                let reason = format!("no rule allows {}{what}", url_line(&line));
                let rule_to_add = rule_to_add(&line, update);
                return Verdict::Deny(Refusal { line, rule: None, also: Vec::new(), reason, rule_to_add });
            }
        };
        let also = about.also(rule);
        match rule.effect() {
            Effect::Allow | Effect::Limit => Verdict::Allow(Grant::new(line, named(rule), about.quota(), also)),
            Effect::Ask => {
                let (quota, asked_by, covers) = (about.quota(), about.asking(), narrowest(&line, by.updates));
                Verdict::Ask(Question::new(line, named(rule), asked_by, covers, self.hash(), quota, also))
            }
            Effect::Deny => {
                let it = update.map_or_else(|| "it".to_owned(), ToString::to_string);
                let reason = format!("the rule `{rule}` of the {} ({}) refuses {it}", rule.level(), rule.place());
                Verdict::Deny(Refusal { line, rule: Some(named(rule)), also, reason, rule_to_add: None })
            }
        }
    }

    /// The rules that could be about a request, as far as its host and path tell.
    pub(super) fn candidates(&self, line: &RequestLine) -> impl Iterator<Item = &Rule> {
        self.index.candidates(line).into_iter().filter_map(|number| self.rules.get(number))
    }

    /// The rules that are about a request, each matched once.
    fn about<'p, 'u>(&'p self, line: &RequestLine, by: &Particulars<'u>) -> About<'p, 'u> {
        let mut deciding: Vec<_> = each(by.updates).map(|update| (update, None)).collect();
        let mut rules = Vec::new();
        for rule in self.candidates(line) {
            let mut matches = false;
            for (update, decides) in &mut deciding {
                if rule.matches(line, by, *update) {
                    matches = true;
                    if rule.effect() != Effect::Limit {
                        decides.get_or_insert(rule);
                    }
                }
            }
            if matches {
                rules.push(rule);
            }
        }
        About { rules, deciding }
    }

    /// The rules that match a request, the one that decides first unless it is a limit.
    #[must_use]
    pub fn matching(&self, line: &RequestLine, by: &Particulars<'_>) -> Vec<&Rule> {
        self.about(line, by).rules
    }

    /// Its conditions, the strictest first.
    pub(super) fn clauses(&self) -> &[Clause] {
        &self.clauses
    }

    /// The same policy with those of its conditions for which this holds.
    pub(super) fn with_clauses_that(&self, keep: impl Fn(&Clause) -> bool) -> Self {
        let clauses = self.clauses.iter().filter(|clause| keep(clause)).cloned().collect();
        Self { clauses, hash: Arc::default(), ..self.clone() }
    }

    /// Whether a verdict depends on which files were read that look like secrets.
    #[must_use]
    pub fn asks_about_secret_files(&self) -> bool {
        self.rules.iter().any(|rule| rule.matcher().asks_about_secret_files())
            || self.clauses.iter().any(Clause::asks_about_secret_files)
    }

    /// The rules that match some request to a host, the strictest first.
    pub fn concerning<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.concerns(host))
    }

    /// All rules, the strictest first.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The SHA-256, in hexadecimal, of the canonical rules and of what the policy covers beside them. Two policies of the
    /// same have the same hash, however, wherever and in whatever order these were written.
    #[must_use]
    pub fn hash(&self) -> String {
        let reckon = || {
            let mut lines: Vec<String> = self.rules.iter().map(ToString::to_string).collect();
            lines.extend(self.besides.iter().cloned());
            lines.extend(self.clauses.iter().map(ToString::to_string));
            lines.sort_unstable();
            let digest = Sha256::digest(format!("{HASH_DOMAIN}{}\n", lines.join("\n")));
            digest.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        self.hash.get_or_init(reckon).clone()
    }
}

fn parsed(source: &RuleSource<'_>) -> Result<(Vec<Rule>, Vec<Clause>), PolicyErrors> {
    let RuleSource { level, label, rules, clauses } = source;
    let mut complaints: Vec<Complaint> = Vec::new();
    let rules = rules.iter().map(|written| Rule::parse(*level, label, written));
    let rules: Vec<_> = rules.filter_map(|rule| rule.map_err(|complaint| complaints.push(complaint)).ok()).collect();
    let clauses = clauses.iter().map(|written| Clause::compile(*level, label, written));
    let clauses: Vec<_> =
        clauses.filter_map(|clause| clause.map_err(|complaint| complaints.push(complaint)).ok()).collect();
    refuse_any(label, complaints)?;
    Ok((rules, clauses))
}

/// What took part in a verdict that a condition outweighs.
fn outweighed(verdict: Verdict) -> Vec<String> {
    let (word, rule, also) = match verdict {
        Verdict::Allow(grant) => {
            let rule = NamedRule { text: grant.rule().to_owned(), from: grant.rule_from().to_owned() };
            ("allow", rule, grant.also().to_vec())
        }
        Verdict::Ask(question) => ("ask", question.rule, question.also),
        Verdict::Deny(refusal) => return refusal.also,
    };
    std::iter::once(format!("{word} {} ({})", rule.text, rule.from)).chain(also).collect()
}

fn named(rule: &Rule) -> NamedRule {
    NamedRule { text: rule.text().to_owned(), from: format!("{} {}", rule.level(), rule.place()) }
}

/// Each reference, or once none.
pub(super) fn each(updates: &[RefUpdate]) -> impl Iterator<Item = Option<&RefUpdate>> {
    let none = updates.is_empty().then_some(None);
    none.into_iter().chain(updates.iter().map(Some))
}

/// A request as a person reads it.
pub(super) fn url_line(line: &RequestLine) -> String {
    let path = if line.scheme.is_opaque() { "" } else { &line.path };
    format!("{} {}://{}{path}", line.method, line.scheme, authority(line))
}

/// Host and port, the port only where it is not the scheme's own.
fn authority(line: &RequestLine) -> String {
    if line.port == line.scheme.default_port() { line.host.to_string() } else { format!("{}:{}", line.host, line.port) }
}

/// Most rules that a consent is made of; a request that takes more can be said yes to only once.
const COVERS_MAX: usize = 32;

/// The narrowest rules that are about a request and, where it is a push, about what becomes of each of its references.
fn narrowest(line: &RequestLine, updates: &[RefUpdate]) -> Vec<String> {
    // A name with a comma would be read as two.
    let odd = |update: &&RefUpdate| update.name.contains([',', '%', '*']);
    if updates.len() > COVERS_MAX || updates.iter().any(|update| odd(&update)) {
        return Vec::new();
    }
    let text = |update: Option<&RefUpdate>| {
        let push =
            update.map_or_else(String::new, |update| format!(" push:{}={}", update.change.as_str(), update.name));
        rule_to_add(line, None).map(|rule| format!("{rule}{push}"))
    };
    each(updates).map(text).collect::<Option<BTreeSet<_>>>().unwrap_or_default().into_iter().collect()
}

/// The narrowest rule text that would allow a request to a name. Addresses get none: what is reached by address should
/// be named, or opened by a person who knows what it is.
fn rule_to_add(line: &RequestLine, update: Option<&RefUpdate>) -> Option<String> {
    if !matches!(line.host, Host::Name(_)) {
        return None;
    }
    if line.scheme.is_opaque() {
        return Some(format!("{}://{}", line.scheme, authority(line)));
    }
    let scheme = if line.scheme == Scheme::Http { "http://" } else { "" };
    let method = if is_method(&line.method) { line.method.as_str() } else { "*" };
    let allows = |text: &String| {
        let matcher = Matcher::parse(&WrittenRule::alone(Effect::Allow, text));
        matcher.is_ok_and(|(matcher, _)| matcher.matches(line) && matcher.matches_decoded(line))
    };
    let push = update.map_or_else(String::new, |update| format!(" push={}", update.name));
    let rule = |path: &str| format!("{method} {scheme}{}{path}{push}", authority(line));
    [rule(&line.path), rule("/**")].into_iter().find(allows)
}
