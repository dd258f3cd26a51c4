//! The flags of `exec` about money and about who is asked.

use crate::model::NanoUsd;
use crate::policy::SpendPolicy;
use crate::session::SessionRequest;

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
    /// Let questions wait for `omni approve`, also without a terminal. Otherwise they are denied there at once.
    #[arg(long)]
    await_approvals: bool,
}

fn amount(text: &str) -> Result<NanoUsd, String> {
    match text.parse() {
        Ok(NanoUsd(1..)) => text.parse().map_err(|error: crate::model::MoneyError| error.to_string()),
        Ok(_) => Err("write an amount above zero".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

impl MoneyFlags {
    /// Puts them into what is asked for.
    pub(super) fn apply(self, request: SessionRequest) -> SessionRequest {
        let Self { budget, team, project, await_approvals } = self;
        SessionRequest { budget: budget.map(SpendPolicy::budget), team, project, await_approvals, ..request }
    }
}
