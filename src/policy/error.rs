//! What is wrong with a file that a person wrote: every complaint at once, each with its place and a hint.

use std::fmt;

/// One slip of the keyboard in a word is forgiven, and one more for every so many of its characters.
const CHARACTERS_PER_SLIP: usize = 4;

/// One complaint about a profile, a policy file or a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyError {
    /// The file's name, or where else the text came from, such as `--allow`.
    pub label: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.label, self.line, self.column, self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

/// Everything that is wrong with one or more files; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct PolicyErrors(pub Vec<PolicyError>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

/// A place in a text and what is wrong there, before it is known which file the text belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Complaint {
    pub(super) fn labelled(self, label: &str) -> PolicyError {
        let Self { line, column, message, hint } = self;
        PolicyError { label: label.to_owned(), line, column, message, hint }
    }
}

/// Turns complaints into the error of one file, in the order of the text; nothing wrong is no error.
pub(super) fn refuse_any(label: &str, complaints: Vec<Complaint>) -> Result<(), PolicyErrors> {
    refuse_all(complaints.into_iter().map(|complaint| complaint.labelled(label)).collect())
}

/// The same of errors of one file, wherever they were found.
pub(super) fn refuse_all(mut errors: Vec<PolicyError>) -> Result<(), PolicyErrors> {
    errors.sort_by_key(|error| (error.line, error.column));
    errors.dedup();
    if errors.is_empty() { Ok(()) } else { Err(PolicyErrors(errors)) }
}

/// The known word that a mistyped one was most likely meant as, if any is near enough; a beginning is as near as
/// one slip.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = written.to_lowercase();
    let length = lower.chars().count();
    let slips_max = (1 + length / CHARACTERS_PER_SLIP).min(length.saturating_sub(1));
    let slips = |word: &str| match word.strip_prefix(lower.as_str()) {
        Some(_) if length > 1 => 1,
        _ => strsim::osa_distance(&lower, &word.to_lowercase()),
    };
    let scored = known.into_iter().map(|word| (slips(word), word));
    scored.filter(|(slips, _)| *slips <= slips_max).min_by_key(|(slips, _)| *slips).map(|(_, word)| word)
}

/// The hint that names the nearest known word, or else all of them.
pub(super) fn hint_of(written: &str, known: &[&str]) -> String {
    match nearest(written, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
