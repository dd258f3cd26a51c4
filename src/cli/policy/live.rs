//! `omni policy allow|ask|deny|limit`: a rule for a session that runs.

use crate::cli::listing::Viewer;
use crate::cli::server::Route;
use crate::policy::{Effect, Level, Policy, RuleSource, WrittenRule};
use crate::session;

/// Which session, and which rule.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) route: Route,
    /// A session: any unique beginning of its id, or `last`
    #[arg(value_name = "ID")]
    session: String,
    /// The rule, as in a profile but for its effect
    #[arg(value_name = "RULE")]
    rule: String,
}

/// Gives a running session a rule.
///
/// # Errors
/// When the rule is not sound, or there is no such session or it does not run.
pub(super) fn run(args: &Args, effect: Effect, viewer: &Viewer) -> anyhow::Result<String> {
    // What is wrong with it is told even where no session runs; the session checks again.
    let rules = [WrittenRule::alone(effect, &args.rule)];
    let policy =
        Policy::compile(&[RuleSource { level: Level::Session, label: "the rule", rules: &rules, clauses: &[] }])?;
    let session = viewer.open()?.find(&args.session)?;
    session::amend(viewer.home(), &session, (effect, &args.rule), viewer.user())?;
    let rule: String = policy.rules().map(ToString::to_string).collect();
    Ok(format!("session {session} has the rule `{rule}` from its next request on\n"))
}
