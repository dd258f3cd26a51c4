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

/// Rules of one origin.
#[derive(Debug, Clone, Copy)]
pub struct RuleSource<'a> {
    /// Who they come from.
    pub level: Level,
    /// The file's name, or where else they come from, such as `--allow`.
    pub label: &'a str,
    /// The rules.
    pub rules: &'a [WrittenRule],
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
    /// Compiles rules of any number of origins.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, each with its place and a hint.
    pub fn compile(sources: &[RuleSource<'_>]) -> Result<Self, PolicyErrors> {
        let mut rules = Vec::new();
        let mut errors = Vec::new();
        for source in sources {
            match parsed(source) {
                Ok(more) => rules.extend(more),
                Err(PolicyErrors(more)) => errors.extend(more),
            }
        }
        if errors.is_empty() { Ok(Self::of(rules)) } else { Err(PolicyErrors(errors)) }
    }

    /// The same policy with further rules. What it refused by a rule it still refuses: the strictest rule wins, whenever it
    /// came.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its place and a hint.
    pub fn adding(&self, source: &RuleSource<'_>) -> Result<Self, PolicyErrors> {
        let (besides, clauses) = (self.besides.clone(), self.clauses.clone());
        Ok(Self { besides, clauses, ..Self::of(self.rules.iter().cloned().chain(parsed(source)?).collect()) })
    }

    /// The same policy with further conditions on what it lets through.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its place and a hint.
    pub fn with_clauses(self, level: Level, label: &str, written: &[WrittenClause]) -> Result<Self, PolicyErrors> {
        let (mut clauses, mut complaints) = (self.clauses.to_vec(), Vec::new());
        for clause in written {
            match Clause::compile(level, label, clause) {
                Ok(clause) => clauses.push(clause),
                Err(complaint) => complaints.push(complaint),
            }
        }
        refuse_any(label, complaints)?;
        clauses.sort_by_key(|clause| (std::cmp::Reverse(clause.effect()), clause.to_string()));
        Ok(Self { clauses: clauses.into(), hash: Arc::default(), ..self })
    }

    /// The same rules and conditions, beside what else another policy holds the session to.
    #[must_use]
    pub fn in_place_of(self, other: &Self) -> Self {
        Self { besides: other.besides.clone(), hash: Arc::default(), ..self }
    }

    /// Whether what the session did by now can change a verdict.
    #[must_use]
    pub fn has_clauses(&self) -> bool {
        !self.clauses.is_empty()
    }

    /// The same rules, with a hash that covers further policies, such as those about money.
    #[must_use]
    pub fn covering(self, besides: impl IntoIterator<Item = String>) -> Self {
        Self { besides: besides.into_iter().collect(), hash: Arc::default(), ..self }
    }

    fn of(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.rank().cmp(&b.rank()));
        rules.dedup_by(|later, earlier| later.means(earlier));
        let mut index = Index::default();
        for (number, rule) in rules.iter().enumerate() {
            index.add(number, rule.matcher());
        }
        let has_opaque = rules.iter().any(|rule| rule.matcher().scheme().is_opaque());
        let (besides, clauses, hash) = (Arc::new([]), Arc::new([]), Arc::default());
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
        let rules = self.index.candidates(&line).into_iter().filter_map(|number| self.rules.get(number));
        rules.filter(|rule| rule.matcher().concerns_place(host, port)).collect()
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
        let candidates = self.index.candidates(&line);
        let found = self.of_updates(&candidates, &line, by);
        match found {
            Err(update) => {
                let what = update.map_or_else(String::new, |update| format!(" to {update}"));
                let reason = format!("no rule allows {}{what}", url_line(&line));
                let rule_to_add = rule_to_add(&line, update);
                Verdict::Deny(Refusal { line, rule: None, also: Vec::new(), reason, rule_to_add })
            }
            Ok((rule, update)) => match rule.effect() {
                Effect::Allow | Effect::Limit => {
                    let quota = self.quota(&candidates, &line, by);
                    let also = self.also(&candidates, &line, by, rule);
                    Verdict::Allow(Grant::new(line, named(rule), quota, also))
                }
                Effect::Ask => {
                    let (quota, asked_by) = (self.quota(&candidates, &line, by), self.asking(&candidates, &line, by));
                    let covers = narrowest(&line, by.updates);
                    let also = self.also(&candidates, &line, by, rule);
                    Verdict::Ask(Question::new(line, named(rule), asked_by, covers, self.hash(), quota, also))
                }
                Effect::Deny => {
                    let it = update.map_or_else(|| "it".to_owned(), ToString::to_string);
                    let reason = format!("the rule `{rule}` of the {} ({}) refuses {it}", rule.level(), rule.place());
                    let also = self.also(&candidates, &line, by, rule);
                    Verdict::Deny(Refusal { line, rule: Some(named(rule)), also, reason, rule_to_add: None })
                }
            },
        }
    }

    /// The strictest of the rules that decide about each reference, with that reference; or the first reference about which
    /// none does.
    fn of_updates<'p, 'u>(
        &'p self,
        candidates: &[usize],
        line: &RequestLine,
        by: &Particulars<'u>,
    ) -> Result<(&'p Rule, Option<&'u RefUpdate>), Option<&'u RefUpdate>> {
        let decides = |update| self.among(candidates, line, by, update).find(|rule| rule.effect() != Effect::Limit);
        let mut strictest: Option<(&Rule, Option<&RefUpdate>)> = None;
        let mut missing = None;
        for update in each(by.updates) {
            let Some(rule) = decides(update) else {
                missing.get_or_insert(update);
                continue;
            };
            if strictest.is_none_or(|(other, _)| rule.effect() > other.effect()) {
                strictest = Some((rule, update));
            }
        }
        match (strictest, missing) {
            // A refusal that a rule makes is told rather than one for want of a rule.
            (Some((rule, update)), missing) if rule.effect() == Effect::Deny || missing.is_none() => Ok((rule, update)),
            (_, missing) => Err(missing.flatten()),
        }
    }

    /// The rules that are about a request besides the one that decides.
    fn also(&self, candidates: &[usize], line: &RequestLine, by: &Particulars<'_>, decides: &Rule) -> Vec<String> {
        let rules = candidates.iter().filter_map(|number| self.rules.get(*number));
        let others = rules.filter(|rule| !std::ptr::eq(*rule, decides));
        let about = others.filter(|rule| each(by.updates).any(|update| rule.matches(line, by, update)));
        let told = |rule: &Rule| format!("{} {} ({} {})", rule.effect(), rule.text(), rule.level(), rule.place());
        about.take(ALSO_MAX).map(told).collect()
    }

    /// Every rule that asks about a request.
    fn asking(&self, candidates: &[usize], line: &RequestLine, by: &Particulars<'_>) -> BTreeSet<String> {
        let rules = each(by.updates).flat_map(|update| self.among(candidates, line, by, update));
        rules.filter(|rule| rule.effect() == Effect::Ask).map(ToString::to_string).collect()
    }

    /// What rules cap of a request that may go, each once.
    fn quota(&self, candidates: &[usize], line: &RequestLine, by: &Particulars<'_>) -> Vec<(Arc<str>, Quota)> {
        let rules = each(by.updates).flat_map(|update| self.among(candidates, line, by, update));
        let capping = rules.filter(|rule| !rule.quota().is_none());
        let mut quota: Vec<_> = capping.map(|rule| (rule.canonical().clone(), rule.quota().clone())).collect();
        quota.sort();
        quota.dedup();
        quota
    }

    fn among<'p>(
        &'p self,
        candidates: &[usize],
        line: &RequestLine,
        by: &Particulars<'_>,
        update: Option<&RefUpdate>,
    ) -> impl Iterator<Item = &'p Rule> {
        let rules = candidates.iter().filter_map(|number| self.rules.get(*number));
        rules.filter(move |rule| rule.matches(line, by, update))
    }

    /// The rules that match a request, the one that decides first unless it is a limit.
    pub fn matching(&self, line: &RequestLine, by: &Particulars<'_>) -> Vec<&Rule> {
        let candidates = self.index.candidates(line);
        let rules = candidates.iter().filter_map(|number| self.rules.get(*number));
        rules.filter(|rule| each(by.updates).any(|update| rule.matches(line, by, update))).collect()
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

fn parsed(source: &RuleSource<'_>) -> Result<Vec<Rule>, PolicyErrors> {
    let mut rules = Vec::new();
    let mut complaints: Vec<Complaint> = Vec::new();
    for written in source.rules {
        match Rule::parse(source.level, source.label, written) {
            Ok(rule) => rules.push(rule),
            Err(complaint) => complaints.push(complaint),
        }
    }
    refuse_any(source.label, complaints)?;
    Ok(rules)
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
fn each(updates: &[RefUpdate]) -> impl Iterator<Item = Option<&RefUpdate>> {
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
