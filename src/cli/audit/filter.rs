//! Which events of the log are printed, where not all are: those of requests that are meant, and of what was refused before
//! there was a request.

use crate::cli::listing::Viewer;
use crate::cli::spend::parse_since;
use crate::model::{SessionId, Timestamp};
use crate::store::{Decided, Search, Store};

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Verdict {
    /// What was let through.
    Allowed,
    /// What was refused, and connections that were.
    Denied,
}

/// What is meant.
#[derive(clap::Args)]
pub(super) struct Wanted {
    /// Only requests to this host, or to those of a pattern such as `*.example.com`
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Only requests of which this was decided
    #[arg(long)]
    verdict: Option<Verdict>,
    /// Only requests that carried this secret
    #[arg(long, value_name = "NAME")]
    secret: Option<String>,
    /// Only this user's sessions
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only model calls that cost at least so many US dollars
    #[arg(long, value_name = "USD")]
    cost: Option<String>,
    /// Only events in whose host, path, rule or reason all of these words stand
    #[arg(long, value_name = "WORDS")]
    text: Option<String>,
    /// Only events from then on: a time (RFC 3339), a date (UTC), or how long ago, such as 30m, 24h, 7d
    #[arg(long, value_name = "T")]
    since: Option<String>,
    /// Only events before then
    #[arg(long, value_name = "T")]
    until: Option<String>,
}

impl Wanted {
    /// The store with the sessions that are meant.
    pub(super) fn of_user(&self, viewer: &Viewer) -> anyhow::Result<Box<dyn Store>> {
        let mut store = viewer.open()?;
        match &self.user {
            None => Ok(store),
            Some(user) if viewer.sees_all() || viewer.user() == Some(user) => {
                store.see_as(Some(user.clone()));
                Ok(store)
            }
            Some(_) => anyhow::bail!("only root can read the records of others on a shared machine"),
        }
    }
}

impl Wanted {
    /// Whether one user's sessions alone are wanted.
    pub(super) fn is_of_one_user(&self) -> bool {
        self.user.is_some()
    }

    /// What the log is searched for.
    pub(super) fn search(&self, session: Option<SessionId>) -> anyhow::Result<Search> {
        let now = Timestamp(jiff::Timestamp::now().as_microsecond());
        let time = |text: &Option<String>| text.as_deref().map(|text| parse_since(text, now)).transpose();
        let cost = self.cost.as_deref().map(|text| text.trim_start_matches('$').parse()).transpose()?;
        let text = self.text.clone();
        anyhow::ensure!(
            text.as_deref().is_none_or(|text| text.chars().any(char::is_alphanumeric)),
            "--text has no word to look for"
        );
        Ok(Search {
            session,
            host: self.host.clone(),
            decided: self.verdict.map(Verdict::decided),
            secret: self.secret.clone(),
            cost,
            text,
            since: time(&self.since)?,
            until: time(&self.until)?,
        })
    }
}

impl Verdict {
    fn decided(self) -> Decided {
        match self {
            Self::Allowed => Decided::Allowed,
            Self::Denied => Decided::Denied,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::NanoUsd;

    fn wanted() -> Wanted {
        Wanted { host: None, verdict: None, secret: None, user: None, cost: None, text: None, since: None, until: None }
    }

    #[test]
    fn what_is_written_becomes_a_search_or_an_error() {
        let written = Wanted {
            cost: Some("$1.5".to_owned()),
            since: Some("1971-01-01".to_owned()),
            verdict: Some(Verdict::Denied),
            ..wanted()
        };
        let search = Search {
            cost: Some(NanoUsd(1_500_000_000)),
            since: Some(Timestamp(365 * 86_400 * 1_000_000)),
            decided: Some(Decided::Denied),
            ..Search::default()
        };
        assert_eq!(written.search(None).unwrap(), search);
        assert!(Wanted { until: Some("soon".to_owned()), ..wanted() }.search(None).is_err());
        assert!(Wanted { text: Some(" ./".to_owned()), ..wanted() }.search(None).is_err());
    }
}
