//! Metering: the vendors' wire formats become [`Usage`], and a price table makes it money.
//!
//! Pure, and of constant memory: bytes are scanned as they pass, in pieces of any size, and only the few values that
//! matter are kept. What cannot be read is said to be unreadable, never guessed. It deliberately does not know how
//! bytes travel, who pays, or what a budget is.

mod admission;
mod amazon;
mod anthropic;
mod bound;
mod converse;
mod dialect;
mod document;
mod endpoint;
mod gemini;
mod later;
mod model_hosts;
mod openai;
mod own_prices;
mod price;
mod prices;
mod progress;
mod rates;
mod reading;
mod request;
mod rewrite;
mod scan;
mod skim;
mod sse;
mod table;
mod turn_track;
mod turns;
mod unmetered;
mod vendor;

#[cfg(test)]
mod price_tests;
#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vendor_tests;

pub use admission::{Admission, Budget, Wish, admit};
pub use bound::Bound;
pub use dialect::Dialect;
pub use endpoint::Endpoint;
pub use later::{Later, LaterMeter, Told};
pub use model_hosts::ModelHosts;
pub use own_prices::{OwnPricesError, own_prices};
pub use prices::Prices;
pub use progress::Progress;
pub use rates::{Card, Multipliers, Rates, Ratio};
pub use reading::{Certainty, Reading, Share, Terms, Tier};
pub use request::Asked;
pub use rewrite::{clamp, with_model};
pub use table::{PriceError, PriceTable, Source, undated};
pub use turn_track::{Answered, Part, Said, TurnTrack, said};
pub use turns::Turns;
pub use unmetered::{IN_BACKGROUND, Unmetered, unmetered};
pub use vendor::Vendor;

use crate::model::Usage;
use document::{Body, Document, Found};
use request::Request;

/// The model's name where neither the answer nor the request gives one.
pub const UNKNOWN_MODEL: &str = "unknown";

/// Reads one model call as its bytes pass. Its memory is bounded whatever passes.
pub struct Meter {
    dialect: Dialect,
    request: Request,
    answer: Answer,
    tally: Tally,
    damaged: bool,
    /// Whether the answer asks for tools to be run.
    asks_for_tools: bool,
    vendor: Vendor,
    /// The model as the request's path names it.
    named: Option<String>,
}

/// The answer, as far as its head told.
enum Answer {
    /// No head yet.
    Awaited,
    /// A status that no vendor bills.
    Refused,
    /// A success that cannot be read, such as a compressed one.
    Opaque,
    /// A success that is being read.
    Read(Box<Body>),
}

enum Tally {
    Anthropic(anthropic::Tally),
    OpenAi(openai::Tally),
    Gemini(gemini::Tally),
    Converse(converse::Tally),
}

impl Meter {
    /// A meter for one call.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        let Endpoint { dialect, vendor, model } = endpoint;
        let tally = Tally::new(dialect, vendor);
        let (request, answer) = (Request::new(), Answer::Awaited);
        let (damaged, asks_for_tools) = (false, false);
        Self { dialect, request, answer, tally, damaged, asks_for_tools, vendor, named: model }
    }

    /// One of the same kind, of which nothing passed yet.
    #[must_use]
    pub fn idle(&self) -> Self {
        Self::new(Endpoint { dialect: self.dialect, vendor: self.vendor, model: None })
    }

    /// The dialect it reads.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Takes the next bytes of the request's body, without any transfer coding.
    pub fn request(&mut self, chunk: &[u8]) {
        self.request.feed(chunk);
    }

    /// What the request has asked for so far.
    #[must_use]
    pub fn asked(&self) -> &Asked {
        self.request.asked()
    }

    /// Takes the response's status and the values of its `content-type` (empty if absent) and `content-encoding`.
    /// Informational responses (1xx) are not for the meter.
    pub fn response_head(&mut self, status: u16, content_type: &str, content_encoding: Option<&str>) {
        let coded = content_encoding.is_some_and(|coding| !matches!(coding.trim(), "" | "identity"));
        self.answer = match status {
            200..=299 if coded => Answer::Opaque,
            200..=299 => Answer::Read(Box::new(Body::new(self.dialect, content_type))),
            _ => Answer::Refused,
        };
    }

    /// Takes the next bytes of the response's body, split anywhere.
    pub fn response(&mut self, chunk: &[u8]) {
        let Self { answer, tally, damaged, asks_for_tools, .. } = self;
        if let Answer::Read(body) = answer {
            body.feed(chunk, &mut |found| {
                *asks_for_tools |= found.asks_for_tools();
                take(tally, damaged, found);
            });
        }
    }

    /// Whether what was read of the answer asks for tools to be run, so that another call follows it up.
    #[must_use]
    pub fn asks_for_tools(&self) -> bool {
        match &self.answer {
            // The end of a body may be the end of its only document, and is still to come.
            Answer::Read(body) => self.asks_for_tools || body.asks_for_tools(),
            _ => self.asks_for_tools,
        }
    }

    /// What the vendor calls the answer, where it says so: OpenAI's Responses.
    #[must_use]
    pub fn response_id(&self) -> Option<&str> {
        match (&self.tally, &self.answer) {
            (Tally::OpenAi(tally), Answer::Read(body)) => body.id().or_else(|| tally.id()),
            _ => None,
        }
    }

    /// Whether the answer said by itself that it is over, or that it failed.
    #[must_use]
    fn is_over(&self) -> bool {
        matches!(&self.tally, Tally::OpenAi(tally) if tally.is_over())
    }

    /// The rest of a successful answer cannot be read.
    pub fn lose_sight(&mut self) {
        if matches!(self.answer, Answer::Read(_)) {
            self.answer = Answer::Opaque;
        }
    }

    /// The reading. `complete` says whether the response's body came to its end. None when nothing was billed: no
    /// answer, or an error.
    #[must_use]
    pub fn finish(mut self, complete: bool) -> Option<Reading> {
        self.end(complete)
    }

    /// The same of an answer that was asked for earlier: what the vendor calls it, and whether it was made in the background,
    /// where it says so. None where it is not made yet, or did not come whole.
    fn told(mut self, complete: bool) -> Option<(Option<String>, Option<bool>, Reading)> {
        let reading = self.end(complete)?;
        let Tally::OpenAi(tally) = &self.tally else { return None };
        let whole = complete && (tally.is_over() || self.damaged) || reading.usage != Usage::default();
        (whole && !tally.is_promised()).then(|| (tally.id().map(str::to_owned), tally.background(), reading))
    }

    fn end(&mut self, complete: bool) -> Option<Reading> {
        let Self { answer, tally, damaged, request, named, vendor, .. } = self;
        match answer {
            Answer::Awaited | Answer::Refused => return None,
            Answer::Opaque => *damaged = true,
            Answer::Read(body) => {
                body.end(complete, &mut |found| take(tally, damaged, found));
                if complete {
                    tally.end_of_body();
                }
            }
        }
        if tally.is_error() {
            return None;
        }
        let asked = request.asked();
        // Bedrock prices a model by its own name for it, which the model itself does not know.
        let own = named.take_if(|_| *vendor == Vendor::Bedrock);
        let answered = || tally.model().map(str::to_owned);
        let model = own.or_else(answered).or_else(|| named.take()).or_else(|| asked.model.clone());
        let model = model.unwrap_or_else(|| UNKNOWN_MODEL.to_owned());
        match tally.reading(asked.service_tier.as_deref()) {
            _ if *damaged => Some(Reading::of_nothing(Certainty::Unreadable, model)),
            Some(reading) if reading.certainty == Certainty::Unreadable => {
                Some(Reading::of_nothing(Certainty::Unreadable, model))
            }
            Some(reading) => Some(Reading { model, ..reading }),
            None if complete => Some(Reading::of_nothing(Certainty::Unreadable, model)),
            None => Some(Reading::of_nothing(Certainty::Partial, model)),
        }
    }
}

impl Tally {
    fn new(dialect: Dialect, vendor: Vendor) -> Self {
        match dialect {
            Dialect::AnthropicMessages => Self::Anthropic(anthropic::Tally::default()),
            Dialect::OpenAiResponses | Dialect::OpenAiChat => Self::OpenAi(openai::Tally::new(dialect, vendor)),
            Dialect::GoogleGenerate => Self::Gemini(gemini::Tally::default()),
            Dialect::BedrockConverse => Self::Converse(converse::Tally::default()),
        }
    }

    /// The body came to its end, which is all that says that a chat is over.
    fn end_of_body(&mut self) {
        if let Self::OpenAi(tally) = self {
            tally.end_of_body();
        }
    }

    fn absorb(&mut self, document: Document) -> Result<(), ()> {
        match self {
            Self::Anthropic(tally) => tally.absorb(document),
            Self::OpenAi(tally) => tally.absorb(document),
            Self::Gemini(tally) => tally.absorb(document),
            Self::Converse(tally) => tally.absorb(document),
        }
    }

    fn is_error(&self) -> bool {
        match self {
            Self::Anthropic(tally) => tally.is_error(),
            Self::OpenAi(tally) => tally.is_error(),
            Self::Gemini(tally) => tally.is_error(),
            Self::Converse(tally) => tally.is_error(),
        }
    }

    fn model(&self) -> Option<&str> {
        match self {
            Self::Anthropic(tally) => tally.model(),
            Self::OpenAi(tally) => tally.model(),
            Self::Gemini(tally) => tally.model(),
            Self::Converse(_) => None,
        }
    }

    fn reading(&self, asked_tier: Option<&str>) -> Option<Reading> {
        match self {
            Self::Anthropic(tally) => tally.reading(),
            Self::OpenAi(tally) => tally.reading(asked_tier),
            Self::Gemini(tally) => tally.reading(),
            Self::Converse(tally) => tally.reading(),
        }
    }
}

fn take(tally: &mut Tally, damaged: &mut bool, found: Found) {
    match found {
        Found::Document(document) => {
            *damaged |= document.damaged;
            *damaged |= tally.absorb(document).is_err();
        }
        Found::Done => tally.end_of_body(),
        Found::Damage => *damaged = true,
        Found::Failure => match tally {
            Tally::Converse(tally) => tally.fail(),
            _ => *damaged = true,
        },
    }
}
