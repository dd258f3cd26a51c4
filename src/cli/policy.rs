//! `omni policy`: whether a file is sound, and what a profile says of a request, a host or a file.

mod explain;
mod file;
mod live;
mod request;

use super::profile;
use crate::policy::{Effect, Profile, is_policy_file, parse_policy_file};
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
    /// Say what becomes of a request, a host or a file, and by which rule.
    ///
    /// Files are judged by the sandbox that would be built here.
    #[command(
        after_help = "Examples:\n  omni policy explain --profile claude-code POST https://api.anthropic.com/v1/messages\n  \
        omni policy explain --profile codex api.openai.com\n  \
        omni policy explain --profile claude-code file ~/.claude/settings.json --write"
    )]
    Explain(explain::Args),
    /// Allow requests in a session that runs, from its next one on. A denial still outweighs.
    #[command(after_help = "Example:\n  omni policy allow last 'GET docs.example.com/**'")]
    Allow(live::Args),
    /// Have a person asked about requests in a session that runs.
    #[command(after_help = "Example:\n  omni policy ask last 'POST api.example.com/**'")]
    Ask(live::Args),
    /// Refuse requests in a session that runs.
    #[command(after_help = "Example:\n  omni policy deny last '* *.example.com:*'")]
    Deny(live::Args),
    /// Limit what is allowed in a session that runs.
    #[command(after_help = "Example:\n  omni policy limit last '* *:* rate=60/min upload=10MiB'")]
    Limit(live::Args),
}

/// Runs `omni policy`.
///
/// # Errors
/// For a file that cannot be read or is not sound, and for a question that makes no sense.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = match args.verb {
        Verb::Check { file } => check(&file)?,
        Verb::Explain(args) => explain::run(&args)?,
        Verb::Allow(args) => live::run(&args, Effect::Allow)?,
        Verb::Ask(args) => live::run(&args, Effect::Ask)?,
        Verb::Deny(args) => live::run(&args, Effect::Deny)?,
        Verb::Limit(args) => live::run(&args, Effect::Limit)?,
    };
    super::listing::emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path) -> anyhow::Result<String> {
    let text = profile::read(file)?;
    let label = file.display().to_string();
    if is_policy_file(&text) {
        let file = parse_policy_file(&label, &text)?;
        let demand = file.minimum_isolation.map_or_else(String::new, |tier| format!(", at least the tier `{tier}`"));
        return Ok(format!("{label}: sound, {}{demand}\n", counted(file.rules.len(), "rule")));
    }
    let profile = Profile::parse(&label, &text)?;
    let (rules, secrets) = (counted(profile.egress.len(), "rule"), counted(profile.secrets.len(), "secret"));
    Ok(format!("{label}: sound, profile `{}` with {rules} and {secrets}\n", profile.name))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
