//! From what a session was refused to the least that would have sufficed: a rule for each request, no wider than it.
//!
//! What is learned from is what a harness did, and that may be what somebody made it do. So nothing is granted here: a
//! person reads the proposal, and what is dangerous about a rule stands beside it.

use super::compile::{Policy, url_line};
use super::profile::Profile;
use super::rule::{Effect, Rule};
use super::verdict::{Refusal, RequestFacts, Verdict};
use crate::model::{RequestLine, Scheme};
use std::collections::{BTreeMap, BTreeSet};

/// From how many paths in one directory on, read with the same method, one rule stands for all of that directory.
const PATHS_TO_COLLAPSE: usize = 5;
/// Most rules that are proposed; beyond, a person should write some.
const RULES_MAX: usize = 64;
/// Most refusals that are told of without a rule.
const OTHERS_MAX: usize = 32;
/// Methods that read. Only these are collapsed.
const READING: [&str; 2] = ["GET", "HEAD"];

/// Something that a session was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A request, and why.
    Request {
        /// What was asked for.
        line: RequestLine,
        /// Why it was refused.
        reason: String,
    },
    /// Anything else that no rule of a profile's could allow, as a person reads it.
    Other(String),
}

/// A rule that would have allowed something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// The rule's text.
    pub rule: String,
    /// What is dangerous about it.
    pub warnings: Vec<String>,
}

/// What there is to learn from a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lesson {
    /// The rules that would have allowed what was refused for want of one, sorted.
    pub rules: Vec<Proposed>,
    /// What was refused and gets no rule, with the reason.
    pub others: Vec<String>,
}

impl Lesson {
    /// Draws the lesson from a session's refusals. `policy` is the one that refused.
    #[must_use]
    pub fn draw(profile: &Profile, policy: &Policy, refused: &[Refused]) -> Self {
        let mut wanted = Wanted::default();
        let mut others: BTreeMap<String, usize> = BTreeMap::new();
        for refused in refused {
            let untold = match refused {
                Refused::Other(what) => Some(what.clone()),
                Refused::Request { line, reason } => match learnable(policy, line, reason) {
                    true => {
                        wanted.note(line);
                        None
                    }
                    false => Some(format!("{}: {reason}", url_line(line))),
                },
            };
            if let Some(what) = untold {
                *others.entry(what).or_default() += 1;
            }
        }
        let mut rules = wanted.rules(profile);
        let mut others: Vec<String> = others.into_iter().map(counted).collect();
        let more = rules.split_off(rules.len().min(RULES_MAX));
        others.truncate(OTHERS_MAX);
        others.extend((!more.is_empty()).then(|| format!("{} further rules, which are too many to read", more.len())));
        Self { rules, others }
    }

    /// Whether nothing was refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.others.is_empty()
    }
}

fn counted((what, times): (String, usize)) -> String {
    if times == 1 { what } else { format!("{what} ({times} times)") }
}

/// Whether a request was refused for nothing but the want of a rule, and one for it alone can be written. In a path that
/// holds a `*` the rule would take it for any segment.
fn learnable(policy: &Policy, line: &RequestLine, reason: &str) -> bool {
    match policy.decide(RequestFacts { line: line.clone(), disagreement: None }) {
        Verdict::Deny(Refusal { rule: None, reason: same, rule_to_add: Some(add), .. }) => {
            same == reason && !line.path.contains('*') && add == exact(&line.method, line)
        }
        _ => false,
    }
}

/// The rule for this very path.
fn exact(methods: &str, line: &RequestLine) -> String {
    format!("{methods} {}{}", place(line), line.path)
}

/// Scheme, host and port as a rule writes them.
fn place(line: &RequestLine) -> String {
    let scheme = match line.scheme {
        Scheme::Https => "",
        Scheme::Http => "http://",
        Scheme::Tcp => "tcp://",
        Scheme::Tls => "tls://",
    };
    let port = if line.port == line.scheme.default_port() { String::new() } else { format!(":{}", line.port) };
    format!("{scheme}{}{port}", line.host)
}

/// What rules are wanted for: for each place and path, the methods.
#[derive(Default)]
struct Wanted(BTreeMap<String, BTreeMap<String, Paths>>);

/// The methods of one path, and one request for it.
struct Paths {
    methods: BTreeSet<String>,
    line: RequestLine,
}

impl Wanted {
    fn note(&mut self, line: &RequestLine) {
        let paths = self.0.entry(place(line)).or_default();
        let entry = paths.entry(line.path.clone());
        let entry = entry.or_insert_with(|| Paths { methods: BTreeSet::new(), line: line.clone() });
        entry.methods.insert(line.method.clone());
    }

    fn rules(self, profile: &Profile) -> Vec<Proposed> {
        let mut rules = Vec::new();
        for (place, mut paths) in self.0 {
            for (directory, methods) in crowded(&paths) {
                let among = |path: &str, found: &Paths| directory_of(path) == directory && found.methods == methods;
                let (inside, outside): (BTreeMap<_, _>, _) =
                    paths.into_iter().partition(|(path, found)| among(path, found));
                paths = outside;
                let Some(first) = inside.values().next() else { continue };
                let rule = format!("{} {place}{directory}*", joined(&methods));
                let mut warnings = warnings(profile, &methods, &first.line);
                let (rest, count) = (format!("{place}{directory}"), inside.len());
                warnings
                    .insert(0, format!("it stands for {count} paths, and allows every other one right below {rest}"));
                rules.push(Proposed { rule, warnings });
            }
            rules.extend(paths.into_values().map(|found| Proposed {
                rule: exact(&joined(&found.methods), &found.line),
                warnings: warnings(profile, &found.methods, &found.line),
            }));
        }
        rules
    }
}

fn joined(methods: &BTreeSet<String>) -> String {
    methods.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

/// The path up to its last slash.
fn directory_of(path: &str) -> &str {
    path.rfind('/').map_or("/", |at| &path[..=at])
}

/// The directories, never a host's root, in which so many paths were read that one rule is better than many.
fn crowded(paths: &BTreeMap<String, Paths>) -> Vec<(String, BTreeSet<String>)> {
    let mut counts: BTreeMap<(String, BTreeSet<String>), usize> = BTreeMap::new();
    for (path, found) in paths {
        let reads = found.methods.iter().all(|method| READING.contains(&method.as_str()));
        let directory = directory_of(path);
        // The directory itself is no path in it.
        if reads && directory != "/" && directory != path {
            *counts.entry((directory.to_owned(), found.methods.clone())).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count >= PATHS_TO_COLLAPSE).map(|(key, _)| key).collect()
}

/// What a person should think of before a rule for this is allowed.
fn warnings(profile: &Profile, methods: &BTreeSet<String>, line: &RequestLine) -> Vec<String> {
    let mut warnings = Vec::new();
    let host = &line.host;
    let is_known = |written: &super::rule::WrittenRule| {
        let rule = Rule::parse(super::rule::Level::Profile, &profile.name, written);
        written.effect == Effect::Allow && rule.is_ok_and(|rule| rule.concerns(host))
    };
    let known = profile.egress.iter().any(is_known);
    let writes = methods.iter().any(|method| !READING.contains(&method.as_str()) && method != "OPTIONS");
    match (writes, known) {
        (true, true) => warnings.push(format!("{} sends data out to {host}", joined(methods))),
        (true, false) => {
            warnings.push(format!("{} sends data out to {host}, a host that no rule allowed before", joined(methods)))
        }
        (false, false) => warnings.push(format!("{host} is a host that no rule allowed before")),
        (false, true) => {}
    }
    if line.scheme == Scheme::Http {
        warnings.push("it is not encrypted: whoever is on the way reads and changes it".to_owned());
    }
    let goes = |secret: &&super::SecretSpec| secret.sites.iter().any(|site| site.takes(line));
    let secrets = profile.secrets.iter().filter(goes);
    warnings.extend(secrets.map(|secret| format!("it can be sent with the secret `{}`", secret.name)));
    warnings
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::{Level, RuleSource};
    use super::*;
    use crate::model::Host;

    const PROFILE: &str = "
name: trial
egress:
  - allow: GET known.example/a
  - deny: '* known.example/secret/**'
  - ask: '* asked.example'
secrets:
  - { name: key, from: env:KEY, host: known.example, bearer: true }
";

    fn line(method: &str, url: &str) -> RequestLine {
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let (host, path) = rest.split_at(rest.find('/').expect("a path"));
        let scheme = if scheme == "http" { Scheme::Http } else { Scheme::Https };
        let host = Host::parse(host).expect("a host");
        RequestLine { method: method.into(), scheme, host, port: scheme.default_port(), path: path.into() }
    }

    fn drawn(requests: &[(&str, &str)]) -> Lesson {
        let profile = Profile::parse("trial", PROFILE).expect("a profile");
        let source = RuleSource { level: Level::Profile, label: "trial", rules: &profile.egress, clauses: &[] };
        let policy = Policy::compile(&[source]).expect("rules");
        let refused = requests.iter().filter_map(|(method, url)| {
            let line = line(method, url);
            match policy.decide(RequestFacts { line: line.clone(), disagreement: None }) {
                Verdict::Allow(_) => None,
                Verdict::Ask(_) => Some(Refused::Request { line, reason: "nobody can be asked".into() }),
                Verdict::Deny(refusal) => Some(Refused::Request { line, reason: refusal.reason }),
            }
        });
        let refused: Vec<Refused> = refused.collect();
        let lesson = Lesson::draw(&profile, &policy, &refused);
        // Every rule is one that a profile may have, and allows nothing on another host.
        for proposed in &lesson.rules {
            let written = super::super::WrittenRule::alone(Effect::Allow, &proposed.rule);
            Rule::parse(Level::Profile, "learned", &written).expect("a rule");
        }
        lesson
    }

    fn rules(lesson: &Lesson) -> Vec<&str> {
        lesson.rules.iter().map(|proposed| proposed.rule.as_str()).collect()
    }

    #[test]
    fn a_request_gets_a_rule_for_its_very_path() {
        let lesson = drawn(&[
            ("GET", "https://new.example/a/b"),
            ("HEAD", "https://new.example/a/b"),
            ("POST", "https://new.example/a"),
            ("GET", "https://new.example/a/b"),
            ("GET", "http://new.example/a"),
            ("GET", "https://known.example/a"),
        ]);
        assert_eq!(rules(&lesson), ["GET http://new.example/a", "POST new.example/a", "GET,HEAD new.example/a/b"]);
        assert_eq!(lesson.others, Vec::<String>::new());
    }

    #[test]
    fn what_is_dangerous_stands_beside_the_rule() {
        let lesson = drawn(&[
            ("POST", "https://new.example/a"),
            ("GET", "http://known.example/b"),
            ("PUT", "https://known.example/b"),
        ]);
        let told: Vec<_> = lesson.rules.iter().map(|proposed| (proposed.rule.as_str(), &proposed.warnings)).collect();
        let expected = [
            ("GET http://known.example/b", vec!["it is not encrypted: whoever is on the way reads and changes it"]),
            (
                "PUT known.example/b",
                vec!["PUT sends data out to known.example", "it can be sent with the secret `key`"],
            ),
            ("POST new.example/a", vec!["POST sends data out to new.example, a host that no rule allowed before"]),
        ];
        let expected = expected.map(|(rule, warnings)| (rule, warnings.into_iter().map(str::to_owned).collect()));
        assert_eq!(told, expected.iter().map(|(rule, warnings)| (*rule, warnings)).collect::<Vec<_>>());
    }

    #[test]
    fn many_reads_in_one_directory_become_one_rule_and_never_a_whole_host() {
        let many: Vec<String> = (0..6).map(|n| format!("https://new.example/pkg/{n}")).collect();
        let at_root: Vec<String> = (0..6).map(|n| format!("https://new.example/{n}")).collect();
        let reads: Vec<(&str, &str)> = many.iter().chain(&at_root).map(|url| ("GET", url.as_str())).collect();
        let lesson = drawn(&reads);
        assert_eq!(lesson.rules.len(), 7);
        assert_eq!(lesson.rules[0].rule, "GET new.example/pkg/*");
        assert_eq!(
            lesson.rules[0].warnings[0],
            "it stands for 6 paths, and allows every other one right below new.example/pkg/"
        );
        let writes: Vec<(&str, &str)> = many.iter().map(|url| ("POST", url.as_str())).collect();
        assert_eq!(drawn(&writes).rules.len(), 6);
    }

    #[test]
    fn what_a_rule_refuses_or_no_rule_can_express_is_told_and_not_proposed() {
        let lesson = drawn(&[
            ("GET", "https://known.example/secret/x"),
            ("GET", "https://asked.example/"),
            ("GET", "https://93.184.215.14/"),
            ("GET", "https://new.example/**"),
            ("GET", "https://new.example/a*b"),
            ("FROB", "https://new.example/"),
        ]);
        assert_eq!(rules(&lesson), Vec::<&str>::new());
        assert_eq!(lesson.others.len(), 6);
        assert!(lesson.others.iter().any(|told| told.contains("the rule `deny * known.example/secret/**`")));
    }

    #[test]
    fn a_request_that_was_refused_for_another_reason_is_not_learned() {
        let profile = Profile::parse("trial", PROFILE).expect("a profile");
        let policy = Policy::compile(&[]).expect("rules");
        let reason = "a and b are not the same host".to_owned();
        let refused = [
            Refused::Request { line: line("GET", "https://new.example/"), reason },
            Refused::Other("a connection to db.example: neither TLS nor HTTP".to_owned()),
            Refused::Other("a connection to db.example: neither TLS nor HTTP".to_owned()),
        ];
        let lesson = Lesson::draw(&profile, &policy, &refused);
        assert_eq!(lesson.rules, []);
        assert_eq!(
            lesson.others,
            [
                "GET https://new.example/: a and b are not the same host",
                "a connection to db.example: neither TLS nor HTTP (2 times)",
            ]
        );
    }

    #[test]
    fn a_flood_of_refusals_is_cut() {
        let many: Vec<String> = (0..200).map(|n| format!("https://h{n}.example/")).collect();
        let lesson = drawn(&many.iter().map(|url| ("GET", url.as_str())).collect::<Vec<_>>());
        assert_eq!(lesson.rules.len(), RULES_MAX);
        assert_eq!(lesson.others, ["136 further rules, which are too many to read"]);
    }
}
