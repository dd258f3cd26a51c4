//! Answers that are told later than they were asked for: those that OpenAI makes in the background, and those of batches. What
//! they used comes by when somebody fetches them, perhaps several times, so that each has a name by which it is known again.
//!
//! Formats: https://platform.openai.com/docs/guides/background and https://docs.x.ai/docs/guides/deferred-chat-completions (an
//! answer as ever), https://platform.openai.com/docs/guides/batch (a line of JSON each, with the answer as `response.body`),
//! https://docs.claude.com/en/docs/build-with-claude/batch-processing (the same, `result.message`), and
//! https://ai.google.dev/gemini-api/docs/batch-api (`response`, in lines or in a list).

use super::document::{Document, Slot};
use super::endpoint::{Endpoint, vendor_of};
use super::scan::{EACH, Path, Progress, Scanner};
use super::{Certainty, Dialect, Meter, Reading, Tally, Terms, Tier, UNKNOWN_MODEL, Vendor};
use crate::model::{Host, ModelFormat, ModelHost, RequestLine};
use memchr::memchr;

/// Where what was asked for earlier is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    vendor: Vendor,
    form: Form,
    /// What an answer without a name is known by, with its place.
    path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One answer.
    Answer(Dialect),
    /// A file, which may be one of answers: a line each.
    Lines(Batch),
    /// A list within a document.
    List,
}

/// Whose batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batch {
    Anthropic,
    OpenAi,
    Google,
}

/// An answer, as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What tells it from all others of its vendor.
    pub name: String,
    /// Whether it was made in the background, or by a batch; none where nobody says so.
    pub apart: Option<bool>,
    /// The wire format of the answer.
    pub dialect: Dialect,
    /// What it used.
    pub reading: Reading,
}

impl Later {
    /// What a request to a vendor fetches, where it may be answers.
    #[must_use]
    pub fn of(line: &RequestLine) -> Option<Self> {
        let Host::Name(host) = &line.host else { return None };
        let path = line.path.trim_end_matches('/');
        let vendor = vendor_of(host.as_str())?;
        let form = match vendor {
            Vendor::Anthropic => anthropic(line, path, "/v1"),
            Vendor::OpenAi | Vendor::Mistral => openai(line, path, &["/v1"]),
            Vendor::Groq => openai(line, path, &["/openai/v1"]),
            Vendor::Xai => openai(line, path, &["/v1"]).or_else(|| deferred(line, path)),
            Vendor::Google => google(line, path),
            Vendor::Azure => openai(line, path, &["/openai/v1", "/openai"]),
            _ => None,
        };
        Some(Self { vendor, form: form?, path: path.to_owned() })
    }

    /// The same of a host that a user named.
    pub(super) fn at(named: &ModelHost, line: &RequestLine) -> Option<Self> {
        let path = line.path.trim_end_matches('/');
        let form = match named.format {
            ModelFormat::OpenAi => openai(line, path, &[&named.base]),
            ModelFormat::Anthropic => anthropic(line, path, &named.base),
        };
        let vendor = if named.free { Vendor::Local } else { Vendor::Own };
        Some(Self { vendor, form: form?, path: path.to_owned() })
    }

    /// Who bills, and the format in which answers are told, as far as that is known before they come.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        let dialect = match self.form {
            Form::Answer(dialect) => dialect,
            Form::Lines(Batch::Anthropic) => Dialect::AnthropicMessages,
            Form::Lines(Batch::OpenAi) => Dialect::OpenAiResponses,
            Form::Lines(Batch::Google) | Form::List => Dialect::GoogleGenerate,
        };
        Endpoint { dialect, vendor: self.vendor, model: None }
    }
}

/// What stands for one segment between these.
fn between<'a>(path: &'a str, before: &str, after: &str) -> Option<&'a str> {
    path.strip_prefix(before)?.strip_suffix(after).filter(|id| !id.is_empty() && !id.contains('/'))
}

fn anthropic(line: &RequestLine, path: &str, base: &str) -> Option<Form> {
    let results = between(path.strip_prefix(base)?, "/messages/batches/", "/results");
    results.filter(|_| line.method == "GET").map(|_| Form::Lines(Batch::Anthropic))
}

fn openai(line: &RequestLine, path: &str, bases: &[&str]) -> Option<Form> {
    let below = |base: &&str| path.strip_prefix(base);
    let answer = Form::Answer(Dialect::OpenAiResponses);
    bases.iter().filter_map(below).find_map(|path| match line.method.as_str() {
        "GET" => (between(path, "/responses/", "").map(|_| answer))
            .or_else(|| between(path, "/files/", "/content").map(|_| Form::Lines(Batch::OpenAi))),
        // What was made until then is told.
        "POST" => between(path, "/responses/", "/cancel").map(|_| answer),
        _ => None,
    })
}

fn deferred(line: &RequestLine, path: &str) -> Option<Form> {
    let answer = between(path, "/v1/chat/deferred-completion/", "").filter(|_| line.method == "GET");
    answer.map(|_| Form::Answer(Dialect::OpenAiChat))
}

fn google(line: &RequestLine, path: &str) -> Option<Form> {
    let (_, rest) = path.strip_prefix("/download").unwrap_or(path).strip_prefix('/')?.split_once('/')?;
    match line.method.as_str() {
        "GET" if between(rest, "batches/", "").is_some() => Some(Form::List),
        "GET" if between(rest, "files/", ":download").is_some() => Some(Form::Lines(Batch::Google)),
        _ => None,
    }
}

const ANTHROPIC: &[(Path, Slot)] = &[
    (&["result", "message", "type"], Slot::Kind),
    (&["result", "message", "id"], Slot::Id),
    (&["result", "message", "model"], Slot::Model),
    (&["result", "message", "usage"], Slot::Usage),
];
const OPENAI: &[(Path, Slot)] = &[
    (&["response", "body", "object"], Slot::Kind),
    (&["response", "body", "id"], Slot::Id),
    (&["response", "body", "model"], Slot::Model),
    (&["response", "body", "usage"], Slot::Usage),
    (&["response", "body", "status"], Slot::Status),
    (&["response", "body", "error"], Slot::Error),
    (&["response", "body", "output", EACH, "type"], Slot::OutputItem),
];
const GOOGLE: &[(Path, Slot)] = &[
    (&["response", "responseId"], Slot::Id),
    (&["response", "modelVersion"], Slot::Model),
    (&["response", "usageMetadata"], Slot::Usage),
    (&["response", "candidates", EACH, "finishReason"], Slot::StopReason),
    (&["response", "candidates", EACH, "groundingMetadata"], Slot::Unpriced),
    (&["response", "promptFeedback", "blockReason"], Slot::StopReason),
];
/// An answer in Google's list.
const LISTED: Path = &["response", "inlinedResponses", "inlinedResponses", EACH];
const GOOGLE_LIST: &[(Path, Slot)] = &[
    (&["response", "inlinedResponses", "inlinedResponses", EACH, "response", "responseId"], Slot::Id),
    (&["response", "inlinedResponses", "inlinedResponses", EACH, "response", "modelVersion"], Slot::Model),
    (&["response", "inlinedResponses", "inlinedResponses", EACH, "response", "usageMetadata"], Slot::Usage),
    (
        &["response", "inlinedResponses", "inlinedResponses", EACH, "response", "candidates", EACH, "finishReason"],
        Slot::StopReason,
    ),
    (
        &[
            "response",
            "inlinedResponses",
            "inlinedResponses",
            EACH,
            "response",
            "candidates",
            EACH,
            "groundingMetadata",
        ],
        Slot::Unpriced,
    ),
    (
        &["response", "inlinedResponses", "inlinedResponses", EACH, "response", "promptFeedback", "blockReason"],
        Slot::StopReason,
    ),
];

/// Reads what is fetched as it passes. Its memory is bounded whatever passes.
pub struct LaterMeter {
    later: Later,
    reads: Reads,
    /// Whether it was answered.
    answered: bool,
    /// Whether something passed that could not be read.
    damaged: bool,
}

enum Reads {
    Answer(Box<Meter>),
    Batch(Box<Answers>),
}

/// The answers of a batch, one after the other.
struct Answers {
    batch: Batch,
    lines: bool,
    scanner: Scanner<Slot>,
    document: Document,
    /// How many there were.
    count: u64,
}

impl LaterMeter {
    /// For one request.
    #[must_use]
    pub fn new(later: Later) -> Self {
        let batch = |batch, lines, scanner| {
            let (document, count) = (Document::default(), 0);
            Reads::Batch(Box::new(Answers { batch, lines, scanner, document, count }))
        };
        let reads = match later.form {
            Form::Answer(dialect) => {
                Reads::Answer(Box::new(Meter::new(Endpoint { dialect, vendor: later.vendor, model: None })))
            }
            Form::Lines(of) => batch(of, true, Scanner::new(of.wanted())),
            Form::List => batch(Batch::Google, false, Scanner::new(GOOGLE_LIST).telling_ends_of(LISTED, Slot::Listed)),
        };
        Self { later, reads, answered: false, damaged: false }
    }

    /// Takes the response's status and its `content-type`.
    pub fn response_head(&mut self, status: u16, content_type: &str) {
        // Whoever asks too early is told so by other statuses than these.
        self.answered = matches!(status, 200 | 206);
        if let Reads::Answer(meter) = &mut self.reads
            && self.answered
        {
            meter.response_head(status, content_type, None);
        }
    }

    /// Takes the next bytes of the response's body, split anywhere, and hands over the answers that they complete.
    pub fn response(&mut self, bytes: &[u8], on: &mut impl FnMut(Told)) {
        let Self { later, reads, answered: true, damaged } = self else { return };
        match reads {
            Reads::Answer(meter) => meter.response(bytes),
            Reads::Batch(answers) => *damaged |= answers.feed(bytes, later, on).is_err(),
        }
    }

    /// The rest cannot be read.
    pub fn lose_sight(&mut self) {
        self.damaged = true;
    }

    /// The body is over; `complete` says whether it came to its end. Hands over what that completes, and says whether there was
    /// something in it that could not be read.
    pub fn finish(self, complete: bool, on: &mut impl FnMut(Told)) -> bool {
        let Self { later, reads, answered, damaged } = self;
        if !answered {
            return false;
        }
        match reads {
            Reads::Answer(_) if damaged => true,
            Reads::Answer(meter) => {
                let dialect = meter.dialect();
                if let Some((name, apart, reading)) = meter.told(complete) {
                    on(Told { name: name.unwrap_or(later.path), apart, dialect, reading });
                }
                false
            }
            Reads::Batch(mut answers) => {
                let cut = !complete || answers.end(&later, on).is_err();
                // A file may be of anything, unless one line of it was an answer.
                let is_answers = answers.count > 0 || answers.batch == Batch::Anthropic;
                is_answers && (cut || damaged)
            }
        }
    }
}

impl Batch {
    fn wanted(self) -> &'static [(Path, Slot)] {
        match self {
            Self::Anthropic => ANTHROPIC,
            Self::OpenAi => OPENAI,
            Self::Google => GOOGLE,
        }
    }

    /// The format of an answer; none where it is no answer of a model.
    fn dialect(self, document: &Document) -> Option<Dialect> {
        let kind = document.kind.as_deref();
        match self {
            Self::Anthropic => (kind == Some("message")).then_some(Dialect::AnthropicMessages),
            Self::OpenAi if kind == Some("chat.completion") => Some(Dialect::OpenAiChat),
            Self::OpenAi => (kind.is_some() && document.usage.is_some()).then_some(Dialect::OpenAiResponses),
            Self::Google => document.usage.is_some().then_some(Dialect::GoogleGenerate),
        }
    }
}

impl Answers {
    fn feed(&mut self, mut bytes: &[u8], later: &Later, on: &mut impl FnMut(Told)) -> Result<(), ()> {
        if !self.lines {
            self.scan(bytes, later, on);
            return Ok(());
        }
        let mut whole = Ok(());
        while let Some(end) = memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            self.scan(line, later, on);
            whole = whole.and(self.end(later, on));
            bytes = rest.get(1..).unwrap_or_default();
        }
        self.scan(bytes, later, on);
        whole
    }

    fn scan(&mut self, bytes: &[u8], later: &Later, on: &mut impl FnMut(Told)) {
        let Self { batch, scanner, document, count, .. } = self;
        scanner.feed(bytes, &mut |slot, raw| match slot {
            Slot::Listed => answer(*batch, std::mem::take(document), count, later, on),
            slot => document.take(slot, raw),
        });
    }

    /// A line ended, or all of it.
    fn end(&mut self, later: &Later, on: &mut impl FnMut(Told)) -> Result<(), ()> {
        let progress = self.scanner.progress();
        self.scanner.reset();
        let document = std::mem::take(&mut self.document);
        match progress {
            Progress::Empty => Ok(()),
            Progress::Complete => {
                if self.lines {
                    answer(self.batch, document, &mut self.count, later, on);
                }
                Ok(())
            }
            Progress::Open | Progress::Broken => Err(()),
        }
    }
}

/// Hands over an answer, where that is what a document is.
fn answer(batch: Batch, mut document: Document, count: &mut u64, later: &Later, on: &mut impl FnMut(Told)) {
    let Some(dialect) = batch.dialect(&document) else { return };
    let name = document.id.take().unwrap_or_else(|| format!("{} {count}", later.path));
    *count += 1;
    let mut tally = Tally::new(dialect, later.vendor);
    let damaged = document.damaged;
    if dialect != Dialect::AnthropicMessages {
        document.kind = None;
    }
    let absorbed = tally.absorb(document);
    tally.end_of_body();
    if tally.is_error() {
        return;
    }
    let model = tally.model().unwrap_or(UNKNOWN_MODEL).to_owned();
    let reading = tally
        .reading(None)
        .filter(|reading| !damaged && absorbed.is_ok() && reading.certainty != Certainty::Unreadable);
    let reading = match reading {
        Some(reading) => {
            let terms = Terms { tier: Tier::Batch, ..reading.terms };
            Reading { model, terms, ..reading }
        }
        None => Reading::unreadable(model),
    };
    on(Told { name, apart: Some(true), dialect, reading });
}

#[cfg(test)]
#[path = "later_tests.rs"]
mod tests;
