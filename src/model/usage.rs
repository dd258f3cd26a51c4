//! What a model call used, in units that every vendor's numbers are translated to.

use serde::{Deserialize, Serialize};

/// Tokens of one model call, each counted exactly once.
///
/// The parts are disjoint: `input` holds no cached tokens, and `reasoning` is the one exception, a share *of* `output`
/// that is kept for information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Prompt tokens that were neither read from nor written to a cache.
    pub input: u64,
    /// Prompt tokens read from a cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache for the vendor's short time (5 minutes at Anthropic, 30 at OpenAI).
    pub cache_write: u64,
    /// Prompt tokens written to a cache for the vendor's long time (1 hour at Anthropic, 12 at OpenAI).
    pub cache_write_long: u64,
    /// Generated tokens, reasoning included.
    pub output: u64,
    /// The part of `output` that was reasoning, where the vendor says so.
    pub reasoning: u64,
    /// Web searches the vendor ran for the call.
    pub web_searches: u64,
}

impl Usage {
    /// The sum of two usages.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_write_long: self.cache_write_long.saturating_add(other.cache_write_long),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            web_searches: self.web_searches.saturating_add(other.web_searches),
        }
    }

    /// All prompt tokens, cached or not: what tiers of long prompts are compared with.
    #[must_use]
    pub fn prompt(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
            .saturating_add(self.cache_write_long)
    }
}

/// How far a cost can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pricing {
    /// The vendor's final numbers, priced from the table.
    Exact,
    /// The stream ended before the vendor's final numbers: what was seen so far, a lower bound.
    Incomplete,
    /// The table does not know the model: charged at the dearest known prices.
    UnknownModel,
    /// A successful model call whose numbers could not be read: nothing is known, and that is said.
    Unreadable,
}
