//! How strongly a session is isolated, as one word.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a session is isolated by as a whole, the weakest first: a tier holds what those before it hold, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Landlock and a filter on system calls; everything else is the machine's. What that leaves open, docs/tiers.md says.
    Landlock,
    /// Namespaces for everything, Landlock and a filter on system calls behind them. What sessions had before there were
    /// tiers, and what is demanded where nothing is written.
    #[default]
    Full,
}

impl Tier {
    /// Every tier, the weakest first.
    pub const ALL: [Self; 2] = [Self::Landlock, Self::Full];

    /// The name, as it is written in profiles and records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Landlock => "landlock",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
