//! What is fetched of answers that were asked for earlier, read as it passes: each is counted once in a session.

use super::readable::Readable;
use super::settle::Books;
use crate::meter::{Certainty, Endpoint, Later, LaterMeter, Reading, Told, UNKNOWN_MODEL};
use crate::model::RequestNumber;
use std::sync::Arc;

/// What a request fetches.
pub(super) struct Fetched {
    books: Arc<Books>,
    number: RequestNumber,
    endpoint: Endpoint,
    path: String,
    meter: LaterMeter,
    copy: Option<Readable>,
}

impl Fetched {
    /// What a request with this path fetches.
    pub(super) fn new(books: Arc<Books>, number: RequestNumber, later: Later, path: &str) -> Self {
        let (endpoint, path) = (later.endpoint(), path.to_owned());
        Self { books, number, endpoint, path, meter: LaterMeter::new(later), copy: None }
    }

    /// The upstream answered.
    pub(super) fn answered(&mut self, status: u16, kind: &str, encoding: Option<&str>) {
        self.copy = Readable::of(encoding);
        self.meter.response_head(status, kind);
        if self.copy.is_none() {
            self.meter.lose_sight();
        }
    }

    /// Takes the next bytes of the answer.
    pub(super) fn chunk(&mut self, bytes: &[u8]) {
        let Self { books, number, endpoint, meter, copy, .. } = self;
        let Some(copy) = copy else { return };
        let read =
            copy.next(bytes, &mut |plain| meter.response(plain, &mut |told| count(books, *number, endpoint, told)));
        if read.is_err() {
            meter.lose_sight();
        }
    }

    /// The answer is over; `whole` says whether all of it came.
    pub(super) fn end(self, whole: bool) {
        let Self { books, number, endpoint, path, meter, .. } = self;
        if meter.finish(whole, &mut |told| count(&books, number, &endpoint, told)) {
            let (name, reading) = (format!("{path} in part"), Reading::unreadable(UNKNOWN_MODEL.to_owned()));
            count(&books, number, &endpoint, Told { name, apart: Some(true), dialect: endpoint.dialect, reading });
        }
    }
}

/// Has an answer in the record, unless it was counted before.
fn count(books: &Books, number: RequestNumber, endpoint: &Endpoint, told: Told) {
    let Told { mut name, apart, dialect, reading } = told;
    if reading.certainty == Certainty::Unreadable {
        // Should it be readable the next time, it counts.
        name.push_str(" unread");
    }
    if books.answers.count(endpoint.vendor, &name, apart != Some(false)) {
        books.metered(number, dialect.as_str(), endpoint.vendor, reading);
    }
}
