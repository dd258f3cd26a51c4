//! Conditions in CEL (the Common Expression Language, cel-spec), the part of it that a condition on requests needs: booleans,
//! whole and decimal numbers, texts, lists, `headers` as a map; every operator; `in`, `has`, `size`, `startsWith`, `endsWith`,
//! `contains`, and the macros `exists` and `all`.
//!
//! Every expression is checked when it is read: names, types and numbers of arguments. What can still go wrong when it is
//! evaluated (a division by zero, an index or key that is not there, a number too large) is an error, which `&&` and `||`
//! take back where the other side decides alone, as the language says. Both reading and evaluating are bounded.

mod eval;
mod facts;
mod lex;
mod parse;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests;

use facts::Fact;
pub(super) use facts::Facts;
pub use facts::{History, SessionFacts};

/// Longest expression, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CelError {
    /// Characters before it.
    pub offset: usize,
    pub message: String,
    pub hint: String,
}

impl CelError {
    fn at(offset: usize, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { offset, message: message.into(), hint: hint.into() }
    }
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault(pub String);

/// An expression that is true or false of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cel(parse::Expr);

impl Cel {
    /// Reads and checks an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, CelError> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("the condition is longer than {TEXT_BYTES_MAX} bytes");
            return Err(CelError::at(0, message, "write several"));
        }
        parse::condition(&lex::tokens(text)?).map(Self)
    }

    /// Whether it asks which secret files were read.
    pub(super) fn asks_about_secret_files(&self) -> bool {
        self.0.asks(&|fact| fact == Fact::SecretFiles)
    }

    /// What of a request it asks about that no record holds, in a person's words.
    pub(super) fn unrecorded(&self) -> Option<&'static str> {
        [(Fact::Headers, "headers"), (Fact::Query, "the query")]
            .into_iter()
            .find(|(fact, _)| self.0.asks(&|asked| asked == *fact))
            .map(|(_, words)| words)
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub(super) fn holds(&self, facts: &Facts<'_>) -> Result<bool, Fault> {
        eval::holds(&self.0, facts)
    }
}
