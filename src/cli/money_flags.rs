//! The flags of `exec` about money and about who is asked.

use crate::model::NanoUsd;
use crate::policy::{SpendPolicy, parse_duration};
use crate::session::{Asking, SessionRequest};
use std::io::IsTerminal;
use std::time::Duration;

/// What may be spent, whose it is, and who answers.
#[derive(clap::Args)]
pub(super) struct MoneyFlags {
    /// What the session's model calls may cost at most, such as '$5.00'.
    #[arg(long, value_name = "AMOUNT", value_parser = amount)]
    budget: Option<NanoUsd>,
    /// The team whose budgets it counts in.
    #[arg(long, value_name = "T")]
    team: Option<String>,
    /// The project whose budgets it counts in.
    #[arg(long, value_name = "P")]
    project: Option<String>,
    /// A mark on its costs, for `omni spend --by tag`, such as ticket=W-17; repeatable.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Leave the terminal's title alone, which otherwise shows what the session spends, and what was refused last.
    #[arg(long)]
    no_title: bool,
    /// Let questions wait for `omni approve`, also without a terminal. Otherwise they are denied there at once.
    #[arg(long)]
    await_approvals: bool,
    /// How long a question waits for an answer before it is denied, such as 30s; ten minutes unless told otherwise.
    #[arg(long, value_name = "DUR", value_parser = within)]
    answer_within: Option<Duration>,
    /// Tell questions in one line with a bell, rather than draw them over the terminal.
    #[arg(long)]
    ask_in_a_line: bool,
    /// Do not tell the desktop of questions.
    #[arg(long)]
    no_notification: bool,
}

fn within(text: &str) -> Result<Duration, String> {
    match parse_duration(text).map_err(|error| error.to_string())? {
        within if within.is_zero() || within > Asking::WITHIN_MAX => Err("write a time up to 24h".to_owned()),
        within => Ok(within),
    }
}

fn amount(text: &str) -> Result<NanoUsd, String> {
    match text.parse() {
        Ok(NanoUsd(1..)) => text.parse().map_err(|error: crate::model::MoneyError| error.to_string()),
        Ok(_) => Err("write an amount above zero".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Longest key or value of a tag, in characters: what bills take.
const TAG_CHARACTERS_MAX: usize = 128;

fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as ticket=W-17")?;
    let fits = |part: &str| part.chars().count() <= TAG_CHARACTERS_MAX && !part.chars().any(char::is_control);
    match !key.is_empty() && fits(key) && fits(value) {
        true => Ok((key.to_owned(), value.to_owned())),
        false => Err(format!("a tag's key and value are at most {TAG_CHARACTERS_MAX} printable characters each")),
    }
}

/// Whether there is a terminal that has a title. The kernel's own console would print it.
fn takes_titles() -> bool {
    let kind = std::env::var("TERM").unwrap_or_default();
    std::io::stdout().is_terminal() && !matches!(kind.as_str(), "" | "dumb" | "linux")
}

impl MoneyFlags {
    /// Puts them into what is asked for.
    pub(super) fn apply(self, request: SessionRequest) -> SessionRequest {
        let Self {
            budget,
            team,
            project,
            tags,
            no_title,
            await_approvals,
            answer_within,
            ask_in_a_line,
            no_notification,
        } = self;
        let asking = Asking {
            within: answer_within.unwrap_or(Asking::default().within),
            line: ask_in_a_line || request.profile.terminal.ask_in_a_line,
            silent: no_notification || request.profile.terminal.no_notification,
        };
        let (budget, tags) = (budget.map(SpendPolicy::budget), tags.into_iter().collect());
        let cost_title = !no_title && takes_titles();
        SessionRequest { budget, team, project, tags, cost_title, await_approvals, asking, ..request }
    }
}
