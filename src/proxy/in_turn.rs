//! A model call's part of a turn, where a policy counts by turns.

use super::record::now;
use super::settle::Books;
use crate::meter::{Answered, Dialect, Part, said};
use crate::model::RequestNumber;
use std::sync::{Arc, PoisonError};

/// A call that is under way in a turn. Dropped, it is over.
pub(super) struct InTurn {
    books: Arc<Books>,
    part: Part,
    answered: Answered,
}

impl InTurn {
    /// A call begins; none where no policy counts by turns.
    pub(super) fn begin(books: &Arc<Books>, request: RequestNumber, dialect: Dialect, body: &[u8]) -> Option<Self> {
        let turns = books.turns.as_ref()?;
        let said = said(dialect, body);
        let part = turns.lock().unwrap_or_else(PoisonError::into_inner).begin(request, said, now());
        Some(Self { books: books.clone(), part, answered: Answered::Not })
    }

    /// The first call of the turn.
    pub(super) fn first(&self) -> RequestNumber {
        self.part.first
    }

    /// It ended so.
    pub(super) fn end(mut self, answered: Answered) {
        self.answered = answered;
    }
}

impl Drop for InTurn {
    fn drop(&mut self) {
        if let Some(turns) = &self.books.turns {
            turns.lock().unwrap_or_else(PoisonError::into_inner).end(&self.part, self.answered, now());
        }
    }
}
