//! `omni policy explain`: what becomes of a request, of everything for one host, or of a file, and by which rule or step.

use super::request::{self, request_line};
use crate::cli::listing::{json_line, printable};
use crate::cli::profile;
use crate::model::{Host, RequestLine};
use crate::policy::{Effect, Level, Policy, PolicyFile, Profile, Rule, RuleSource, parse_policy_file};
use crate::proxy::not_public;
use crate::session;
use anyhow::{Context, bail};
use serde::Serialize;
use std::path::PathBuf;

/// What is asked about.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The profile: one of your own, one that comes with omni, or a file.
    #[arg(long, default_value = "default", value_name = "NAME|FILE")]
    profile: String,
    /// A policy file, as for `omni exec`; repeatable.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// The workspace that files are judged with, and whose own policy counts. Default: here.
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Whether a file may be changed, rather than read.
    #[arg(long)]
    write: bool,
    /// A header of the request, as `NAME: VALUE`; repeatable.
    #[arg(long, value_name = "HEADER")]
    pub(super) header: Vec<String>,
    /// A reference that the request changes as a push with git: `main`, or `delete:refs/tags/v1`; repeatable.
    #[arg(long = "ref", value_name = "[create|update|delete:]NAME")]
    pub(super) references: Vec<String>,
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
    Request(RequestLine, Option<String>),
    Host(Host),
    File(String),
}

impl Subject {
    fn of(words: &[String]) -> anyhow::Result<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(match words.as_slice() {
            ["file", path] => Self::File((*path).to_owned()),
            ["host", host] => Self::Host(a_host(host)?),
            [method, url] => {
                let (line, query) = request_line(method, url)?;
                Self::Request(line, query)
            }
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
    let policy = || compiled(&profile, args);
    let (text, json) = match Subject::of(&args.subject)? {
        Subject::Request(line, query) => {
            anyhow::ensure!(!args.write, "`--write` is about files: write `file PATH --write`");
            told(&request::explain(&policy()?, line, query.as_deref(), args)?)?
        }
        Subject::Host(host) => told(&of_host(&profile, &policy()?, &host))?,
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
pub(super) struct Named {
    rule: String,
    level: &'static str,
    label: String,
}

impl Named {
    pub(super) fn of(rule: &Rule) -> Self {
        Self { rule: rule.to_string(), level: rule.level().as_str(), label: rule.place() }
    }

    pub(super) fn line(&self) -> String {
        format!("{}   ({}, {})", self.rule, self.level, self.label)
    }
}

/// The rules as `omni exec` would have them.
fn compiled(profile: &Profile, args: &Args) -> anyhow::Result<Policy> {
    let mut files: Vec<(Level, String, PolicyFile)> = Vec::new();
    for path in &args.policy {
        let label = path.display().to_string();
        let file = parse_policy_file(&label, &profile::read(path)?)?;
        files.push((Level::Organisation, label, file));
    }
    let workspace = args.workspace.clone().unwrap_or_else(|| PathBuf::from("."));
    let own = session::project_policy(&workspace)?;
    files.extend(own.map(|(label, file)| (Level::Project, label, file)));
    let mut sources: Vec<RuleSource<'_>> =
        files.iter().map(|(level, label, file)| file.source(*level, label)).collect();
    sources.push(RuleSource { level: Level::Profile, label: &profile.name, rules: &profile.egress, clauses: &[] });
    Ok(Policy::compile(&sources)?)
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

fn of_host(profile: &Profile, policy: &Policy, host: &Host) -> OfHost {
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
    let bound = |secret: &&crate::policy::SecretSpec| secret.goes_to(host);
    OfHost {
        host: host.to_string(),
        verdict,
        rules: about.into_iter().map(Named::of).collect(),
        secrets: profile.secrets.iter().filter(bound).map(|secret| secret.name.clone()).collect(),
        notes: notes.collect(),
    }
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
        let (header, references) = (Vec::new(), Vec::new());
        run(&Args { profile, workspace, write: false, header, references, policy: Vec::new(), json: false, subject })
            .expect("an answer")
    }

    #[test]
    fn names_the_rule_that_decides() {
        assert_eq!(
            explained("claude-code", &["post", "https://api.anthropic.com/v1/messages?beta=true"]),
            "allow\nby allow POST api.anthropic.com/v1/messages   (profile, claude-code:40)\n"
        );
    }

    #[test]
    fn conditions_are_judged_by_what_is_said_of_the_request() {
        let text = "name: t\negress:\n  - allow: POST git.com/it.git/** push=feature/* rate=5/min\n  - allow: GET a.com/** \
                    header:accept=text/* query:q=*\n  - limit: '* *:* upload=10'\n  - deny: '* *:* push:delete=**'\n";
        let place = tempfile::tempdir().expect("a place");
        let file = place.path().join("t.yaml");
        std::fs::write(&file, text).expect("written");
        let ask = |words: &[&str], header: &[&str], references: &[&str]| {
            let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            let (profile, header, references) = (file.display().to_string(), own(header), own(references));
            let subject = own(words);
            run(&Args {
                profile,
                workspace: None,
                write: false,
                header,
                references,
                policy: Vec::new(),
                json: false,
                subject,
            })
        };
        let push = ["POST", "https://git.com/it.git/git-receive-pack"];
        let limits = "limited by limit * *:*/** upload=10   (profile, t:5)\n";
        assert_eq!(
            ask(&push, &[], &["feature/a"]).expect("an answer"),
            format!(
                "allow\nby allow POST git.com/it.git/** push=refs/heads/feature/* rate=5/min   (profile, t:3)\n{limits}it is a git-push\n"
            )
        );
        assert!(ask(&push, &[], &["main"]).expect("an answer").starts_with("deny\nbecause no rule allows POST"));
        let told = ask(&push, &[], &["feature/a", "delete:refs/heads/b"]).expect("an answer");
        assert!(told.starts_with("deny\nby deny * *:*/** push:delete=**   (profile, t:6)\n"), "{told}");
        let get = ["GET", "https://a.com/?q=1"];
        assert!(ask(&get, &["Accept: text/html"], &[]).expect("an answer").starts_with("allow\n"));
        assert!(ask(&get, &[], &[]).expect("an answer").starts_with("deny\n"));
        assert!(ask(&get, &["no colon"], &[]).is_err() && ask(&push, &[], &["moved:main"]).is_err());
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
