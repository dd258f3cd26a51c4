//! `omni policy`: whether a file is sound, and what a profile says of a request, a host or a file.

mod explain;
mod file;
mod live;
mod request;
mod retrial;
mod update;

use super::listing::Viewer;
use super::profile;
use super::server::{self, Route};
use crate::policy::{Effect, Profile, is_policy_file, parse_policy_file};
use anyhow::Context;
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
    /// Test a policy file by its own examples, and by what it would have said of requests that sessions made.
    ///
    /// The status is 0 where nothing would be judged otherwise, and 3 where something would.
    #[command(after_help = "Example:\n  omni policy test organisation.yaml --session last")]
    Test(retrial::Args),
    /// Have a session that runs held to a policy file as it is now, from its next request on.
    #[command(after_help = "Example:\n  omni policy update last organisation.yaml")]
    Update(update::Args),
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
/// For a file that cannot be read or is not sound, for a question that makes no sense, and when a session does not take a
/// rule.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = match args.verb {
        Verb::Check { file } => check(&file)?,
        Verb::Explain(args) => explain::run(&args)?,
        Verb::Test(args) => return retrial::run(&args, &Viewer::own()?),
        Verb::Update(args) => update::run(&args, &Viewer::own()?)?,
        _ => return server::by_route(args.route(), |viewer| args.amend(viewer)),
    };
    super::listing::emit(&text)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn live(&self) -> Option<(Effect, &live::Args)> {
        match &self.verb {
            Verb::Allow(args) => Some((Effect::Allow, args)),
            Verb::Ask(args) => Some((Effect::Ask, args)),
            Verb::Deny(args) => Some((Effect::Deny, args)),
            Verb::Limit(args) => Some((Effect::Limit, args)),
            Verb::Check { .. } | Verb::Explain(_) | Verb::Test(_) | Verb::Update(_) => None,
        }
    }

    fn route(&self) -> Route {
        self.live().map(|(_, args)| args.route).unwrap_or_default()
    }

    /// Gives a session that this viewer may see a rule.
    ///
    /// # Errors
    /// When the session does not take it, and for verbs that are about no session.
    pub(super) fn amend(&self, viewer: &Viewer) -> anyhow::Result<ExitCode> {
        let (effect, args) = self.live().context("this verb is about no session")?;
        super::listing::emit(&live::run(args, effect, viewer)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn check(file: &Path) -> anyhow::Result<String> {
    let text = profile::read(file)?;
    let label = file.display().to_string();
    if is_policy_file(&text) {
        let file = parse_policy_file(&label, &text)?;
        let demand = file.minimum_isolation.map_or_else(String::new, |tier| format!(", at least the tier `{tier}`"));
        let (rules, conditions) = (counted(file.rules.len(), "rule"), counted(file.clauses.len(), "condition"));
        let conditions = if file.clauses.is_empty() { String::new() } else { format!(", {conditions}") };
        let examples = match file.examples {
            0 => String::new(),
            1 => ", and 1 example that holds".to_owned(),
            count => format!(", and {count} examples that hold"),
        };
        return Ok(format!("{label}: sound, {rules}{conditions}{demand}{examples}\n"));
    }
    let profile = Profile::parse(&label, &text)?;
    let (rules, secrets) = (counted(profile.egress.len(), "rule"), counted(profile.secrets.len(), "secret"));
    Ok(format!("{label}: sound, profile `{}` with {rules} and {secrets}\n", profile.name))
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
