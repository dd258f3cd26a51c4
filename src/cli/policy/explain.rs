//! `omni policy explain`: what becomes of a request, of everything for one host, or of a file, and by which rule or step.

use super::request::request_line;
use crate::cli::listing::{json_line, printable};
use crate::cli::profile;
use crate::model::{Host, RequestLine};
use crate::policy::{Effect, Level, Particulars, Policy, Profile, RequestFacts, Rule, RuleSource, Verdict};
use crate::proxy::not_public;
use anyhow::{Context, bail};
use serde::Serialize;
use std::path::PathBuf;

/// What is asked about.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The profile: one of your own, one that comes with omni, or a file.
    #[arg(long, default_value = "default", value_name = "NAME|FILE")]
    profile: String,
    /// The workspace that files are judged with. Default: here.
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Whether a file may be changed, rather than read.
    #[arg(long)]
    write: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// METHOD URL for a request, HOST for all requests to one host, or `file` PATH.
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD|HOST|file", "URL|PATH"])]
    subject: Vec<String>,
}

/// What is asked about, told apart.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    Request(RequestLine),
    Host(Host),
    File(String),
}

impl Subject {
    fn of(words: &[String]) -> anyhow::Result<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(match words.as_slice() {
            ["file", path] => Self::File((*path).to_owned()),
            ["host", host] => Self::Host(a_host(host)?),
            [method, url] => Self::Request(request_line(method, url)?),
            [path] if path.starts_with(['/', '~', '.']) => Self::File((*path).to_owned()),
            [url] if url.contains('/') => bail!("`{url}` is asked for by some method: write `GET {url}`"),
            [host] => Self::Host(a_host(host)?),
            _ => bail!("ask about METHOD URL, HOST, or `file` PATH"),
        })
    }
}

fn a_host(text: &str) -> anyhow::Result<Host> {
    Host::parse(text).with_context(|| format!("`{text}` is no host; a file is asked about by `file {text}`"))
}

/// Explains.
///
/// # Errors
/// For a profile that cannot be used, and for a question that makes no sense.
pub(super) fn run(args: &Args) -> anyhow::Result<String> {
    let profile = profile::load(&args.profile)?;
    let (text, json) = match Subject::of(&args.subject)? {
        Subject::Request(line) => {
            anyhow::ensure!(!args.write, "`--write` is about files: write `file PATH --write`");
            told(&request(&profile, line)?)?
        }
        Subject::Host(host) => told(&of_host(&profile, &host)?)?,
        Subject::File(path) => {
            let asked = super::file::Asked { path: &path, write: args.write, workspace: args.workspace.as_deref() };
            told(&super::file::explain(profile, &asked)?)?
        }
    };
    Ok(if args.json { json } else { text })
}

/// An answer that is read by people and by programs.
pub(super) trait Answer: Serialize {
    /// The lines for a person.
    fn lines(&self) -> Vec<String>;
}

fn told(answer: &impl Answer) -> anyhow::Result<(String, String)> {
    let lines: Vec<String> = answer.lines().iter().map(|line| printable(line).into_owned()).collect();
    Ok((lines.join("\n") + "\n", json_line(answer)?))
}

/// A rule as it is told of.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Named {
    rule: String,
    level: &'static str,
    label: String,
}

impl Named {
    fn of(rule: &Rule) -> Self {
        Self { rule: rule.to_string(), level: rule.level().as_str(), label: rule.place() }
    }

    fn line(&self) -> String {
        format!("{}   ({}, {})", self.rule, self.level, self.label)
    }
}

fn compiled(profile: &Profile) -> anyhow::Result<Policy> {
    let source = RuleSource { level: Level::Profile, label: &profile.name, rules: &profile.egress };
    Ok(Policy::compile(&[source])?)
}

/// What becomes of one request.
#[derive(Serialize)]
struct OfRequest {
    verdict: &'static str,
    because: Option<String>,
    by: Option<Named>,
    outweighed: Vec<Named>,
    rule_to_add: Option<String>,
}

/// The verdict, the rule that made it, and the other rules that are about the request.
fn request(profile: &Profile, line: RequestLine) -> anyhow::Result<OfRequest> {
    let policy = compiled(profile)?;
    let by = Particulars::default();
    let mut rules = policy.matching(&line, &by).into_iter().map(Named::of).collect::<Vec<_>>().into_iter();
    let (by, outweighed) = (rules.next(), rules.collect());
    let (verdict, because, rule_to_add) = match policy.decide(RequestFacts { line, disagreement: None }) {
        Verdict::Allow(_) => ("allow", None, None),
        Verdict::Ask(_) => ("ask", None, None),
        Verdict::Deny(refusal) if refusal.rule.is_some() => ("deny", None, None),
        Verdict::Deny(refusal) => ("deny", Some(refusal.reason), refusal.rule_to_add),
    };
    Ok(OfRequest { verdict, because, by, outweighed, rule_to_add })
}

impl Answer for OfRequest {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.verdict.to_owned()];
        lines.extend(self.because.iter().map(|reason| format!("because {reason}")));
        lines.extend(self.rule_to_add.iter().map(|rule| format!("to allow it, add   allow: {rule}")));
        lines.extend(self.by.iter().map(|rule| format!("by {}", rule.line())));
        lines.extend(self.outweighed.iter().map(|rule| format!("outweighed: {}", rule.line())));
        lines
    }
}

/// What becomes of requests to one host.
#[derive(Serialize)]
struct OfHost {
    host: String,
    /// `some` requests may go there, or `none`.
    verdict: &'static str,
    rules: Vec<Named>,
    /// The names of the secrets that requests there may carry.
    secrets: Vec<String>,
    notes: Vec<String>,
}

fn of_host(profile: &Profile, host: &Host) -> anyhow::Result<OfHost> {
    let policy = compiled(profile)?;
    let about: Vec<&Rule> = policy.concerning(host).collect();
    let verdict = if about.iter().any(|rule| rule.effect() == Effect::Allow) { "some" } else { "none" };
    let mut notes = vec!["its name resolves whatever the rules say, to an address that means something inside alone"];
    if let Host::Address(address) = host {
        notes = not_public(*address).into_iter().collect();
    }
    let notes = notes.into_iter().map(|note| match host {
        Host::Name(_) => note.to_owned(),
        Host::Address(_) => format!("it is {note}, which is refused whatever the rules say"),
    });
    let bound = |secret: &&crate::policy::SecretSpec| matches!(host, Host::Name(name) if *name == secret.host);
    Ok(OfHost {
        host: host.to_string(),
        verdict,
        rules: about.into_iter().map(Named::of).collect(),
        secrets: profile.secrets.iter().filter(bound).map(|secret| secret.name.clone()).collect(),
        notes: notes.collect(),
    })
}

impl Answer for OfHost {
    fn lines(&self) -> Vec<String> {
        let first = match (self.verdict, self.rules.is_empty()) {
            ("some", _) => format!("some requests to {} may go, by these rules; a denial outweighs:", self.host),
            (_, true) => format!("no request to {} may go: no rule is about it", self.host),
            _ => format!("no request to {} may go:", self.host),
        };
        let rules = self.rules.iter().map(|rule| format!("  {}", rule.line()));
        let secrets = self.secrets.iter().map(|name| format!("with the secret {name}"));
        let notes = self.notes.iter().map(|note| format!("note: {note}"));
        std::iter::once(first).chain(rules).chain(secrets).chain(notes).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn explained(profile: &str, words: &[&str]) -> String {
        let subject = words.iter().map(|word| (*word).to_owned()).collect();
        let (profile, workspace) = (profile.to_owned(), None);
        run(&Args { profile, workspace, write: false, json: false, subject }).expect("an answer")
    }

    #[test]
    fn names_the_rule_that_decides() {
        assert_eq!(
            explained("claude-code", &["post", "https://api.anthropic.com/v1/messages?beta=true"]),
            "allow\nby allow POST api.anthropic.com/v1/messages   (profile, claude-code:40)\n"
        );
    }

    #[test]
    fn names_the_rule_that_is_missing() {
        assert_eq!(
            explained("default", &["GET", "http://example.com:8080"]),
            "deny\nbecause no rule allows GET http://example.com:8080/\n\
             to allow it, add   allow: GET http://example.com:8080/\n"
        );
    }

    #[test]
    fn tells_every_rule_about_a_host() {
        assert_eq!(
            explained("openai-agents", &["api.openai.com"]),
            "some requests to api.openai.com may go, by these rules; a denial outweighs:\n\
             \x20 allow POST api.openai.com/v1/chat/completions   (profile, openai-agents:21)\n\
             \x20 allow POST api.openai.com/v1/responses   (profile, openai-agents:20)\n\
             with the secret openai\n\
             note: its name resolves whatever the rules say, to an address that means something inside alone\n"
        );
        assert_eq!(
            explained("default", &["10.0.0.1"]),
            "no request to 10.0.0.1 may go: no rule is about it\n\
             note: it is a private network, which is refused whatever the rules say\n"
        );
        assert!(explained("offline", &["host", "example.com"]).starts_with("no request to example.com may go:\n"));
    }

    #[test]
    fn what_is_asked_about_is_told_by_its_form() {
        let of = |words: &[&str]| Subject::of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["~/.ssh"]).expect("a file"), Subject::File("~/.ssh".to_owned()));
        assert_eq!(of(&["file", "x"]).expect("a file"), Subject::File("x".to_owned()));
        assert!(matches!(of(&["a.com"]), Ok(Subject::Host(_))));
        let told = of(&["https://a.com/"]).expect_err("no method").to_string();
        assert_eq!(told, "`https://a.com/` is asked for by some method: write `GET https://a.com/`");
        assert!(of(&["a b"]).is_err());
    }
}
