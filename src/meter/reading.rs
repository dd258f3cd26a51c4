//! What one model call was read to have used, and on what terms.

use crate::model::{NanoUsd, Usage};

/// How far a reading can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// The vendor's own final numbers.
    Final,
    /// A lower bound: the answer ended before the final numbers, or holds something that no price is known for.
    Partial,
    /// The answer was a success, but its numbers could not be read; the usage is zero and says nothing.
    Unreadable,
}

/// The class of service that the vendor billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The list price.
    #[default]
    Standard,
    /// Faster, dearer; what OpenAI's `fast` is reported as.
    Priority,
    /// Slower, cheaper.
    Flex,
    /// Answered within a day, cheaper.
    Batch,
    /// OpenAI's fastest.
    Ultrafast,
}

impl Tier {
    /// The name in records; nothing for the usual one.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "",
            Self::Priority => "priority",
            Self::Flex => "flex",
            Self::Batch => "batch",
            Self::Ultrafast => "ultrafast",
        }
    }
}

/// What changes the price of a whole call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The class of service.
    pub tier: Tier,
    /// Whether the answer came in Anthropic's fast mode.
    pub fast: bool,
    /// Whether inference was bound to the United States.
    pub us_only: bool,
}

/// A part of a call's usage that a model other than the call's own made, such as an advisor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// The model that made it.
    pub model: String,
    /// How much, which is included in the reading's usage.
    pub usage: Usage,
}

/// What one model call used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reading {
    /// The model as the answer names it, else as the request did, else `unknown`.
    pub model: String,
    /// Everything the call used, the shares of other models included.
    pub usage: Usage,
    /// How far the usage can be trusted.
    pub certainty: Certainty,
    /// What changes the price of the whole call.
    pub terms: Terms,
    /// The parts of `usage` that are priced as other models.
    pub shares: Vec<Share>,
    /// What the vendor says that the call cost, where it does.
    pub charged: Option<NanoUsd>,
}

impl Reading {
    /// Of a successful call whose numbers cannot be read.
    #[must_use]
    pub fn unreadable(model: String) -> Self {
        Self::of_nothing(Certainty::Unreadable, model)
    }

    /// Of a call of which no numbers are known.
    pub(super) fn of_nothing(certainty: Certainty, model: String) -> Self {
        let (usage, terms) = (Usage::default(), Terms::default());
        Self { model, usage, certainty, terms, shares: Vec::new(), charged: None }
    }
}
