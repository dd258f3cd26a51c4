//! `omni policy`: whether a file is sound, and what a profile says of a request.

use super::profile;
use crate::model::{Host, Port, RequestLine, Scheme};
use crate::policy::{Level, Policy, Profile, RequestFacts, RuleSource, Verdict, is_policy_file, parse_policy_file};
use anyhow::{Context, bail};
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `omni policy`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  omni policy explain --profile codex GET https://api.openai.com/v1/models")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check a profile or a policy file, and say everything that is wrong with it.
    #[command(after_help = "Example:\n  omni policy check mine.yaml")]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Say what becomes of a request, and by which rule.
    #[command(
        after_help = "Example:\n  omni policy explain --profile claude-code POST https://api.anthropic.com/v1/messages"
    )]
    Explain {
        /// The profile: the name of one that comes with omni, or a file.
        #[arg(long, default_value = "default", value_name = "NAME|FILE")]
        profile: String,
        /// The request's method, such as GET.
        method: String,
        /// The request's URL; what follows a `?` plays no part.
        url: String,
    },
}

/// Runs `omni policy`.
///
/// # Errors
/// For a file that cannot be read or is not sound, and for a URL that is none.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = match args.verb {
        Verb::Check { file } => check(&file)?,
        Verb::Explain { profile, method, url } => explain(&profile::load(&profile)?, request_line(&method, &url)?)?,
    };
    super::listing::emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path) -> anyhow::Result<String> {
    let text = profile::read(file)?;
    let label = file.display().to_string();
    if is_policy_file(&text) {
        let rules = parse_policy_file(&label, &text)?;
        return Ok(format!("{label}: sound, {}\n", counted(rules.len(), "rule")));
    }
    let profile = Profile::parse(&label, &text)?;
    let (rules, secrets) = (counted(profile.egress.len(), "rule"), counted(profile.secrets.len(), "secret"));
    Ok(format!("{label}: sound, profile `{}` with {rules} and {secrets}\n", profile.name))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The verdict, the rule that made it, and the other rules that are about the request.
fn explain(profile: &Profile, line: RequestLine) -> anyhow::Result<String> {
    let source = RuleSource { level: Level::Profile, label: &profile.name, rules: &profile.egress };
    let policy = Policy::compile(&[source])?;
    let shown = |rule: &crate::policy::Rule| format!("{rule}   ({}, {})", rule.level(), rule.label());
    let rules: Vec<String> = policy.matching(&line).map(shown).collect();
    let mut lines = match policy.decide(RequestFacts { line, disagreement: None }) {
        Verdict::Allow(_) => vec!["allow".to_owned()],
        Verdict::Ask(_) => vec!["ask".to_owned()],
        Verdict::Deny(refusal) if refusal.rule.is_some() => vec!["deny".to_owned()],
        Verdict::Deny(refusal) => {
            let add = refusal.rule_to_add.map(|rule| format!("to allow it, add   allow: {rule}"));
            ["deny".to_owned(), format!("because {}", refusal.reason)].into_iter().chain(add).collect()
        }
    };
    let mut rules = rules.into_iter();
    lines.extend(rules.next().map(|rule| format!("by {rule}")));
    lines.extend(rules.map(|rule| format!("outweighed: {rule}")));
    Ok(lines.join("\n") + "\n")
}

/// Reads a method and a URL as the line of a request.
fn request_line(method: &str, url: &str) -> anyhow::Result<RequestLine> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => (Scheme::Https, rest),
        Some(("http", rest)) => (Scheme::Http, rest),
        Some((scheme, _)) if !scheme.contains('/') => {
            bail!("`{scheme}` is not a scheme of requests: write http or https")
        }
        _ => (Scheme::Https, url),
    };
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[after_brackets..].rfind(':') {
        Some(colon) => authority.split_at(after_brackets + colon),
        None => (authority, ""),
    };
    let host = Host::parse(host).with_context(|| format!("`{url}` is not a URL"))?;
    let port = match port.strip_prefix(':') {
        None => scheme.default_port(),
        Some(port) => Port(port.parse().with_context(|| format!("`{port}` is not a port"))?),
    };
    let path = if path.is_empty() { "/" } else { path };
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        bail!("`{path}` is not how a path is judged: leave `.` and `..` out");
    }
    Ok(RequestLine { method: method.to_ascii_uppercase(), scheme, host, port, path: path.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn explained(profile: &str, method: &str, url: &str) -> String {
        let profile = profile::load(profile).expect("a profile");
        explain(&profile, request_line(method, url).expect("a request")).expect("rules")
    }

    #[test]
    fn names_the_rule_that_decides() {
        assert_eq!(
            explained("claude-code", "post", "https://api.anthropic.com/v1/messages?beta=true"),
            "allow\nby allow POST api.anthropic.com/v1/messages   (profile, claude-code)\n"
        );
    }

    #[test]
    fn names_the_rule_that_is_missing() {
        assert_eq!(
            explained("default", "GET", "http://example.com:8080"),
            "deny\nbecause no rule allows GET http://example.com:8080/\n\
             to allow it, add   allow: GET http://example.com:8080/\n"
        );
    }

    #[test]
    fn refuses_what_is_no_url() {
        for url in ["ftp://a.com", "https://", "https://a.com:x/", "https://a.com/../b", "https://u@a.com/"] {
            assert!(request_line("GET", url).is_err(), "{url}");
        }
        assert_eq!(request_line("GET", "https://[::1]:8443/x").expect("a request").port, Port(8443));
    }
}
