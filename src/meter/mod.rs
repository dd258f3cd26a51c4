//! Metering: the vendors' wire formats become [`Usage`](crate::model::Usage), and a price table makes it money.
//!
//! Pure, and of constant memory: bytes are scanned as they pass, in pieces of any size, and only the few values that
//! matter are kept. What cannot be read is said to be unreadable, never guessed. It deliberately does not know how
//! bytes travel, who pays, or what a budget is.

mod dialect;
mod price;
mod reading;

pub use dialect::Dialect;
pub use price::{LongPrompt, Multipliers, PriceError, PriceTable, Prices, Rates, Ratio};
pub use reading::{Certainty, Reading, Share, Terms, Tier};

/// Reads one model call as its bytes pass.
pub struct Meter {
    dialect: Dialect,
}

impl Meter {
    /// A meter for one call.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect }
    }

    /// Takes the next bytes of the request's body, decoded of any transfer coding.
    pub fn request(&mut self, _chunk: &[u8]) {}

    /// Takes the response's status and the values of its `content-type` (empty if absent) and `content-encoding`.
    pub fn response_head(&mut self, _status: u16, _content_type: &str, _content_encoding: Option<&str>) {}

    /// Takes the next bytes of the response's body, split anywhere.
    pub fn response(&mut self, _chunk: &[u8]) {}

    /// The reading. `complete` says whether the response's body came to its end. None when nothing was billed: an
    /// error, or an answer that is not a model's.
    #[must_use]
    pub fn finish(self, _complete: bool) -> Option<Reading> {
        let _ = self.dialect;
        None
    }
}
