//! What a rule asks of a request beyond method, host and path: `header:NAME=GLOB`, `query:NAME=GLOB`, `act=NAME`, `after=NAME` and
//! `push=REFERENCE` behind its target.
//!
//! What is allowed must meet a condition in every reading there is; for what is refused, asked about or limited, one
//! reading suffices, and what cannot be read counts as met.

use super::act::Act;
use super::cel::{History, SessionFacts};
use super::error::hint_of;
use super::git_push::{Change, RefUpdate};
use super::path_glob::PathGlob;
use super::query;
use http::HeaderMap;
use std::collections::BTreeSet;
use std::fmt;

/// Most conditions of one rule.
const CONDITIONS_MAX: usize = 32;

/// What `after` calls that a file was read that looks like a secret.
pub(super) const SECRET_FILE: &str = "secret-file";

/// What a request says beyond its line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Particulars<'a> {
    /// Its query, as it is written.
    pub query: Option<&'a str>,
    /// Its headers.
    pub headers: Option<&'a HeaderMap>,
    /// What it does, where its shape tells.
    pub act: Option<Act>,
    /// The references that it changes, where it is a push.
    pub updates: &'a [RefUpdate],
    /// Bytes of its body, where it says how many.
    pub upload: Option<u64>,
    /// What of the session does not change.
    pub session: Option<&'a SessionFacts>,
    /// What the session did before.
    pub history: Option<&'a History>,
}

/// The conditions of one rule; all of them must be met.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Conditions(BTreeSet<Condition>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    /// A header by its name in small letters, and its value.
    Header(String, PathGlob),
    /// A parameter of the query, and its value.
    Query(String, PathGlob),
    /// What the request does: one of these.
    Act { written: String, acts: BTreeSet<Act> },
    /// What the session did before: one of these.
    After { written: String, acts: BTreeSet<Act>, secret_file: bool },
    /// The references of a push, by their full names, and what becomes of them; no change written is any.
    Push { changes: BTreeSet<Change>, names: BTreeSet<PathGlob> },
}

/// Why a word is no condition.
pub(super) struct ConditionError {
    pub(super) message: String,
    pub(super) hint: String,
}

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T, ConditionError> {
    Err(ConditionError { message: message.into(), hint: hint.into() })
}

impl Conditions {
    /// Adds a condition, given what stands before and behind the first `=`; false if the key is of none.
    pub(super) fn add(&mut self, key: &str, value: &str) -> Result<bool, ConditionError> {
        let (kind, argument) = key.split_once(':').map_or((key, None), |(kind, argument)| (kind, Some(argument)));
        let condition = match (kind, argument) {
            ("header", Some(name)) => header(name, value)?,
            ("query", Some(name)) if !name.is_empty() => Condition::Query(name.to_owned(), glob(value)?),
            ("header" | "query", _) => {
                return wrong(format!("`{kind}` names none"), format!("write `{kind}:NAME=VALUE`"));
            }
            ("act", None) => Condition::Act { acts: acts(value)?, written: value.to_owned() },
            ("after", None) => after(value)?,
            ("push", changes) => push(changes, value)?,
            _ => return Ok(false),
        };
        self.0.insert(condition);
        if self.0.len() > CONDITIONS_MAX {
            return wrong(format!("a rule has at most {CONDITIONS_MAX} conditions"), "write several rules");
        }
        Ok(true)
    }

    /// Whether what is met depends on which secret files were read.
    pub(super) fn ask_about_secret_files(&self) -> bool {
        self.0.iter().any(|condition| matches!(condition, Condition::After { secret_file: true, .. }))
    }

    /// What of a request they ask about that no record holds, in a person's words.
    pub(super) fn unrecorded(&self) -> BTreeSet<String> {
        let told = |condition: &Condition| match condition {
            Condition::Header(name, _) => Some(format!("the header {name}")),
            Condition::Query(name, _) => Some(format!("the parameter {name}")),
            _ => None,
        };
        self.0.iter().filter_map(told).collect()
    }

    /// Whether all are met, by one of the references where it is a push.
    pub(super) fn are_met(&self, by: &Particulars<'_>, update: Option<&RefUpdate>, strictly: bool) -> bool {
        self.0.iter().all(|condition| condition.is_met(by, update, strictly))
    }

    /// Whether those are that a record tells of: not on headers, and not on queries.
    pub(super) fn recorded_are_met(&self, by: &Particulars<'_>, update: Option<&RefUpdate>, strictly: bool) -> bool {
        let is_recorded = |condition: &&Condition| !matches!(condition, Condition::Header(..) | Condition::Query(..));
        self.0.iter().filter(is_recorded).all(|condition| condition.is_met(by, update, strictly))
    }
}

impl Condition {
    fn is_met(&self, by: &Particulars<'_>, update: Option<&RefUpdate>, strictly: bool) -> bool {
        match self {
            Self::Header(name, glob) => {
                let values = by.headers.map(|headers| headers.get_all(name).iter());
                every_or_any(values.into_iter().flatten().map(|value| glob.matches_bytes(value.as_bytes())), strictly)
            }
            Self::Query(name, glob) => match query::pairs(by.query.unwrap_or_default()) {
                None => !strictly,
                Some(pairs) => {
                    let named = pairs.iter().filter(|(found, _)| found == name.as_bytes());
                    every_or_any(named.map(|(_, value)| glob.matches_bytes(value)), strictly)
                }
            },
            Self::Act { acts, .. } => by.act.is_some_and(|act| acts.contains(&act)),
            Self::After { acts, secret_file, .. } => by.history.is_some_and(|history| {
                !history.acts.is_disjoint(acts) || (*secret_file && !history.secret_files.is_empty())
            }),
            Self::Push { changes, names } => match update {
                _ if !matches!(by.act, Some(Act::GitPush | Act::LfsUpload)) => false,
                // Asking what the references are belongs to pushing, and changes none. Large files may be of any.
                None => strictly && by.act == Some(Act::GitPush),
                Some(update) => {
                    (changes.is_empty() || changes.iter().any(|named| named.covers(update.change)))
                        && names.iter().any(|glob| {
                            glob.matches(&update.name) || (!strictly && matches_in_any_case(glob, &update.name))
                        })
                }
            },
        }
    }
}

/// Whether a reference is one of these to a server whose file system takes capitals and small letters for the same.
fn matches_in_any_case(glob: &PathGlob, name: &str) -> bool {
    PathGlob::of_name(&glob.as_str().to_lowercase()).is_ok_and(|glob| glob.matches(&name.to_lowercase()))
}

/// At least one, and where it counts none that is not.
fn every_or_any(mut matches: impl Iterator<Item = bool>, strictly: bool) -> bool {
    if strictly {
        let Some(first) = matches.next() else { return false };
        return first && matches.all(|matches| matches);
    }
    matches.any(|matches| matches)
}

fn header(name: &str, value: &str) -> Result<Condition, ConditionError> {
    let Ok(known) = http::HeaderName::try_from(name) else {
        return wrong(format!("`{name}` is not the name of a header"), "write it like `header:accept=text/*`");
    };
    Ok(Condition::Header(known.as_str().to_owned(), glob(value)?))
}

fn glob(value: &str) -> Result<PathGlob, ConditionError> {
    PathGlob::of_value(value).map_err(|error| ConditionError { message: error.message, hint: error.hint.to_owned() })
}

fn acts(value: &str) -> Result<BTreeSet<Act>, ConditionError> {
    let mut acts = BTreeSet::new();
    for word in value.split(',') {
        match Act::named(word) {
            Ok(named) => acts.extend(named),
            Err(hint) => return wrong(format!("`{word}` is not something that requests do"), hint),
        }
    }
    Ok(acts)
}

fn after(value: &str) -> Result<Condition, ConditionError> {
    let (files, named): (Vec<&str>, Vec<&str>) = value.split(',').partition(|word| *word == SECRET_FILE);
    let acts = if named.is_empty() { BTreeSet::new() } else { acts(&named.join(","))? };
    Ok(Condition::After { acts, secret_file: !files.is_empty(), written: value.to_owned() })
}

fn push(changes: Option<&str>, value: &str) -> Result<Condition, ConditionError> {
    let mut kinds = BTreeSet::new();
    for word in changes.into_iter().flat_map(|changes| changes.split(',')) {
        let Some(change) = Change::named(word) else {
            let hint = hint_of(word, &Change::ALL.map(|(name, _)| name));
            return wrong(format!("`{word}` is nothing that becomes of a reference"), hint);
        };
        kinds.insert(change);
    }
    let mut names = BTreeSet::new();
    for name in value.split(',') {
        if name.is_empty() || name.starts_with('/') {
            return wrong("`push` names no reference", "write it like `push=feature/*` or `push=refs/tags/*`");
        }
        let full = name.starts_with("refs/") || name == "**";
        let full = if full { name.to_owned() } else { format!("refs/heads/{name}") };
        names.insert(
            PathGlob::of_name(&full)
                .map_err(|error| ConditionError { message: error.message, hint: error.hint.to_owned() })?,
        );
    }
    Ok(Condition::Push { changes: kinds, names })
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|condition| write!(f, " {condition}"))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name, glob) => write!(f, "header:{name}={}", glob.as_str()),
            Self::Query(name, glob) => write!(f, "query:{name}={}", glob.as_str()),
            Self::Act { written, .. } => write!(f, "act={written}"),
            Self::After { written, .. } => write!(f, "after={written}"),
            Self::Push { changes, names } => {
                f.write_str("push")?;
                let changes: Vec<&str> = changes.iter().map(|change| change.as_str()).collect();
                if !changes.is_empty() {
                    write!(f, ":{}", changes.join(","))?;
                }
                let names: Vec<&str> = names.iter().map(PathGlob::as_str).collect();
                write!(f, "={}", names.join(","))
            }
        }
    }
}
