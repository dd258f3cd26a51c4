//! What is wrong with a text of the ledger.

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not a signed note.
    #[error("this is no signed note: {0}")]
    Note(&'static str),
    /// Not a checkpoint.
    #[error("this is no checkpoint: {0}")]
    Checkpoint(&'static str),
    /// Not a receipt.
    #[error("this is no receipt: {0}")]
    Receipt(&'static str),
    /// A receipt that proves nothing.
    #[error("the receipt proves nothing: {0}")]
    Unproven(&'static str),
    /// Not a key.
    #[error("`{key}` is no key: {why}")]
    Key {
        /// The text, made printable.
        key: String,
        /// Why.
        why: &'static str,
    },
    /// A name that cannot stand in a note.
    #[error("`{0}` cannot be a name in a note: it must have neither spaces nor `+`")]
    KeyName(String),
    /// Not a policy of witnesses.
    #[error("line {line} of the policy of witnesses: {why}")]
    Policy {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Not a request to a witness.
    #[error("this is no request to a witness: {0}")]
    Request(&'static str),
}
