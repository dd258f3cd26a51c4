//! Rules that are added while the session runs: checked here whoever checked them before, recorded, and only then let count.

use super::Shared;
use crate::model::Event;
use crate::policy::{Effect, Level, RuleSource, WrittenClause, WrittenRule};
use serde::{Deserialize, Serialize};

/// Longest explanation of what is wrong with a rule, which may repeat it.
const WHY_CHARACTERS_MAX: usize = 2_000;
/// Most rules that one session can be given.
const ADDED_MAX: usize = 1_000;

/// A rule to add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amendment {
    /// Its sender's number for it, which the answer bears.
    pub number: u32,
    /// Who adds it.
    pub user: String,
    /// The rule's effect, as a word.
    pub effect: String,
    /// The rule's text.
    pub rule: String,
}

/// What one file, or one other place, says of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// Whose it is.
    pub level: Level,
    /// What it is called.
    pub label: String,
    /// Its rules.
    pub rules: Vec<WrittenRule>,
    /// Its conditions.
    pub clauses: Vec<WrittenClause>,
}

impl PolicySource {
    /// The same, to be compiled.
    pub(super) fn said(&self) -> RuleSource<'_> {
        RuleSource { level: self.level, label: &self.label, rules: &self.rules, clauses: &self.clauses }
    }
}

/// Files in place of those that count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Its sender's number for it, which the answer bears.
    pub number: u32,
    /// Who changes them.
    pub user: String,
    /// Which one changed.
    pub file: String,
    /// All of them.
    pub sources: Vec<PolicySource>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amended {
    /// The number.
    pub number: u32,
    /// Why it does not count; nothing where it does.
    pub refused: Option<String>,
}

/// Takes a rule; `added` counts those that count.
pub(super) async fn take(shared: &Shared, amendment: Amendment, added: &mut usize) -> Amended {
    let number = amendment.number;
    let refused = match *added < ADDED_MAX {
        true => add(shared, amendment).await.err().map(|why| why.chars().take(WHY_CHARACTERS_MAX).collect()),
        false => Some(format!("{ADDED_MAX} rules were added to this session, as many as it takes")),
    };
    *added += usize::from(refused.is_none());
    Amended { number, refused }
}

async fn add(shared: &Shared, amendment: Amendment) -> Result<(), String> {
    let Amendment { user, effect, rule, .. } = amendment;
    let effect = Effect::named(&effect).ok_or_else(|| format!("`{effect}` is no effect of a rule"))?;
    let written = WrittenRule::alone(effect, &rule);
    let (policy, rule) = shared.policy.with(&written).map_err(|errors| errors.to_string())?;
    let added = Event::RuleAdded { user, rule, policy_hash: policy.hash() };
    shared.books.clerk.record(added).await.map_err(|error| error.to_string())?;
    shared.policy.add(written);
    shared.policy.replace(policy);
    Ok(())
}

/// Takes files in place of those that count: checked, recorded, and only then counting.
pub(super) async fn replace(shared: &Shared, replacement: Replacement) -> Amended {
    let Replacement { number, user, file, sources } = replacement;
    let refused = match shared.policy.made_of(&sources) {
        Err(errors) => Some(errors.to_string()),
        Ok(policy) => {
            let changed = Event::PolicyChanged { user, file, policy_hash: policy.hash() };
            let recorded = shared.books.clerk.record(changed).await;
            recorded.map(|()| shared.policy.replace(policy)).err().map(|error| error.to_string())
        }
    };
    Amended { number, refused: refused.map(|why| why.chars().take(WHY_CHARACTERS_MAX).collect()) }
}
