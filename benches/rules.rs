//! What a decision costs with ten rules and with ten thousand: `cargo bench --bench rules`.
//!
//! The rules are about hosts of their own, about one host with a path for each, and denials of names below others, since
//! each is found in another part of the index. A scan of all rules, asked of each in turn, is printed beside it.

use anyhow::Context;
use omni::model::{Host, Port, RequestLine, Scheme};
use omni::policy::{Effect, Level, Particulars, Policy, RequestFacts, RuleSource, WrittenRule};
use std::hint::black_box;
use std::time::{Duration, Instant};

const COUNTS: [usize; 4] = [10, 100, 1_000, 10_000];
/// How long each is measured.
const SPAN: Duration = Duration::from_millis(200);
const ROUND: u32 = 100;

/// A way to write many rules: its name, the rule of a number, and the host and path of a request that the last is about.
type Shape = (&'static str, fn(usize) -> (Effect, String), fn(usize) -> (String, String));

const SHAPES: [Shape; 3] = [
    (
        "a host each",
        |number| (Effect::Allow, format!("GET,POST host-{number}.example.com/v1/**")),
        |last| (format!("host-{last}.example.com"), "/v1/models".to_owned()),
    ),
    (
        "a path each",
        |number| (Effect::Allow, format!("GET example.com/org/repository-{number}/**")),
        |last| ("example.com".to_owned(), format!("/org/repository-{last}/a")),
    ),
    (
        "denials below",
        |number| (Effect::Deny, format!("* *.ads-{number}.example.net:*/**")),
        |last| (format!("a.b.ads-{last}.example.net"), "/".to_owned()),
    ),
];

fn main() -> anyhow::Result<()> {
    println!("{:<14} {:>6} {:>12} {:>12} {:>12}", "rules", "count", "decide", "scan", "compile");
    for (name, rule, asked) in SHAPES {
        for count in COUNTS {
            let rules: Vec<WrittenRule> =
                (0..count).map(rule).map(|(effect, text)| WrittenRule::alone(effect, &text)).collect();
            let source = RuleSource { level: Level::Profile, label: "bench", rules: &rules, clauses: &[] };
            let started = Instant::now();
            let policy = Policy::compile(&[source])?;
            let compiled = started.elapsed();
            let (host, path) = asked(count - 1);
            let host = Host::parse(&host).context("a host")?;
            let line = RequestLine { method: "GET".to_owned(), scheme: Scheme::Https, host, port: Port(443), path };
            let decided = per_call(|| {
                let facts = RequestFacts { line: black_box(&line).clone(), disagreement: None };
                drop(black_box(policy.decide(facts)));
            });
            let by = Particulars::default();
            let scanned = per_call(|| {
                black_box(policy.rules().filter(|rule| rule.matches(&line, &by, None)).count());
            });
            println!("{name:<14} {count:>6} {decided:>12.2?} {scanned:>12.2?} {compiled:>12.2?}");
        }
    }
    Ok(())
}

/// The mean time of a call.
fn per_call(mut act: impl FnMut()) -> Duration {
    let (mut rounds, started) = (0, Instant::now());
    while started.elapsed() < SPAN {
        for _ in 0..ROUND {
            act();
        }
        rounds += 1;
    }
    started.elapsed() / (rounds * ROUND)
}
