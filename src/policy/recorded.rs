//! Requests judged again by what a record holds of them, which is neither headers nor queries.

use super::compile::{Policy, each};
use super::condition::Particulars;
use super::rule::{Effect, Rule};
use super::verdict::{RequestFacts, Verdict};
use std::collections::BTreeSet;

impl Policy {
    /// Judges a request of which headers and query are not known. `by` names neither.
    ///
    /// # Errors
    /// What the verdict hangs on and no record holds, for a person.
    pub fn decide_recorded(&self, facts: RequestFacts, by: &Particulars<'_>) -> Result<Verdict, BTreeSet<String>> {
        let line = facts.line.clone();
        let of_record = |clause: &super::clause::Clause| clause.unrecorded(&line, by).is_empty();
        let verdict = match self.clauses().iter().all(of_record) {
            true => self.decide_with(facts, by),
            false => self.with_clauses_that(of_record).decide_with(facts, by),
        };
        let settled = match &verdict {
            Verdict::Allow(_) => Some(Effect::Allow),
            Verdict::Ask(_) => Some(Effect::Ask),
            Verdict::Deny(refusal) if refusal.rule.is_some() => return Ok(verdict),
            Verdict::Deny(_) => None,
        };
        // What would outweigh the verdict, or make one where there is none; a denial changes nothing then.
        let changes = |effect: Effect| match settled {
            Some(settled) => effect > settled,
            None => matches!(effect, Effect::Allow | Effect::Ask),
        };
        let could = |rule: &&Rule| {
            rule.effect() != Effect::Limit
                && changes(rule.effect())
                && each(by.updates).any(|update| rule.could_match(&line, by, update))
        };
        let mut unknown: BTreeSet<String> = self.candidates(&line).filter(could).flat_map(Rule::unrecorded).collect();
        if settled.is_some() {
            let clauses = self.clauses().iter().filter(|clause| changes(clause.effect()));
            unknown.extend(clauses.flat_map(|clause| clause.unrecorded(&line, by)));
        }
        if unknown.is_empty() { Ok(verdict) } else { Err(unknown) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Host, Port, RequestLine, Scheme};
    use crate::policy::{Level, parse_policy_file};

    type Judged = Result<Verdict, BTreeSet<String>>;

    fn judged(file: &str, path: &str) -> Judged {
        let file = parse_policy_file("test.yaml", file).unwrap();
        let host = Host::parse("a.example").unwrap();
        let (method, scheme, port) = ("GET".to_owned(), Scheme::Https, Port(443));
        let line = RequestLine { method, scheme, host, port, path: path.to_owned() };
        let facts = RequestFacts { line, disagreement: None };
        Policy::compile(&[file.source(Level::Session, "test")]).unwrap().decide_recorded(facts, &Particulars::default())
    }

    fn unknown(words: &[&str]) -> Judged {
        Err(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_verdict_that_hangs_on_a_header_or_parameter_is_unknown() {
        let file = "
policies:
  - type: egress
    rules:
      - allow: GET a.example/open
      - allow: GET a.example/team header:x-team=core
      - deny: GET a.example/open query:debug=1
      - deny: GET a.example/shut
      - ask: GET a.example/shut header:x-team=core
";
        assert_eq!(judged(file, "/open"), unknown(&["the parameter debug"]));
        assert_eq!(judged(file, "/team"), unknown(&["the header x-team"]));
        assert!(matches!(judged(file, "/shut"), Ok(Verdict::Deny(_))), "a denial outweighs what asks");
        assert!(matches!(judged(file, "/other"), Ok(Verdict::Deny(_))));
    }

    #[test]
    fn a_condition_that_reads_headers_makes_unknown_what_it_is_about() {
        let file = "
policies:
  - type: egress
    rules: [{ allow: GET a.example/** }]
  - type: condition
    effect: ask
    rule: GET a.example/some/**
    condition: has(request.headers.accept)
";
        assert_eq!(judged(file, "/some/x"), unknown(&["headers"]));
        assert!(matches!(judged(file, "/x"), Ok(Verdict::Allow(_))));
    }
}
